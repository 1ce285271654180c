//! `tacit verify`: reads files and prints; every judgement is tacit-verify's.

use std::{io::Read as _, path::Path};

use anyhow::Context as _;
use tacit_attest::Seen;
use tacit_types::{Digest, UnixTime, deployment::Deployment};
use tacit_verify::{Anchor, Inspected, Inspection, MAX_FILE, Verdict, cluster_of};

use super::{CommandResult, Environment, judge, now};
use crate::{
    arguments::VerifyArguments,
    context::read_deployment,
    error::{CommandError, Exit},
    output,
};

/// Longest that a URL's answer may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub async fn run(arguments: &VerifyArguments, environment: &Environment) -> CommandResult {
    let judge = judge(&arguments.policy)?;
    let now = now();
    let at = arguments.at.as_deref().map(parse_time).transpose()?;
    let nonce = arguments.nonce.as_deref().map(parse_nonce).transpose()?;
    let file = read(&arguments.file).await?;
    let mut collateral = Vec::new();
    for path in &arguments.collateral {
        collateral.push(read(path).await?);
    }
    let inspection = Inspection {
        file: &file,
        collateral: collateral.iter().map(Vec::as_slice).collect(),
        anchor: anchor(&file, arguments.deployment.as_deref(), environment)?,
        judge,
        nonce,
        at,
        seen: Seen::default(),
        now,
    };
    let Inspected { report, collateral_expires, .. } = inspection.inspect();
    if let Some(expired) = collateral_expires.filter(|expires| *expires < now) {
        output::note(format!("judged as of {}; its collateral has expired since, on {expired}", at.unwrap_or(now)));
    }
    if arguments.json {
        output::json(&report)?;
    } else {
        output::bytes(report.to_string().as_bytes())?;
    }
    Ok(exit_of(report.verdict))
}

/// What is trusted: the deployment that was named, else the one of the network on this machine that the file belongs to.
fn anchor(bytes: &[u8], given: Option<&Path>, environment: &Environment) -> Result<Option<Anchor>, CommandError> {
    let deployment: Option<Deployment> = match given {
        Some(path) => Some(read_deployment(path).map_err(|error| CommandError {
            exit: Exit::Refused,
            error,
            hint: Some("--deployment names the deployment.json of the cluster, from a source that you trust".into()),
        })?),
        None => cluster_of(bytes).and_then(|cluster| environment.contexts.with_cluster(cluster)),
    };
    let anchor = deployment.map(Anchor::new).transpose();
    anchor.map_err(|error| CommandError::new(Exit::Refused, error))
}

fn parse_nonce(text: &str) -> Result<Digest, CommandError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let bytes = hex::decode(digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Digest::from).ok_or_else(|| CommandError::usage(format!("{text:?} is no nonce"), "64 hexadecimal digits"))
}

/// The bytes of a file or of an http(s) URL, at most as many as are judged.
async fn read(file: &str) -> Result<Vec<u8>, CommandError> {
    if file.starts_with("http://") || file.starts_with("https://") {
        let fetch = async {
            let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
            let mut response = client.get(file).send().await?.error_for_status()?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > MAX_FILE {
                    break;
                }
            }
            Ok::<_, reqwest::Error>(bytes)
        };
        return Ok(fetch.await.with_context(|| format!("could not fetch {file}"))?);
    }
    let open = || format!("could not read {file}");
    let unreadable = |error: anyhow::Error| CommandError::new(Exit::Refused, error);
    let opened = std::fs::File::open(file).with_context(open).map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).with_context(open).map_err(unreadable)?;
    Ok(bytes)
}

const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Verified => Exit::Ok,
        Verdict::Simulated => Exit::Simulated,
        Verdict::Refused => Exit::Refused,
        Verdict::Incomplete => Exit::Incomplete,
    }
}

/// Unix seconds, or a date and time in UTC as this program writes them.
pub fn parse_time(text: &str) -> Result<UnixTime, CommandError> {
    if let Ok(seconds) = text.parse() {
        return Ok(UnixTime(seconds));
    }
    let date = || {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let number = |text: &str, digits: usize| {
            (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        let mut parts = date.split('-');
        let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let mut clock = time.split(':');
        let (hour, minute, second) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
        let seconds = days_from_civil(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
        // A date that does not exist is written back as another one.
        let found = UnixTime(seconds);
        (found.to_string() == text).then_some(found)
    };
    date().ok_or_else(|| {
        CommandError::usage(format!("{text:?} is not a time"), "unix seconds, or for example 2026-01-31T12:00:00Z")
    })
}

/// Days since 1970 of a date (after Hinnant), from that year on.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_dates() {
        let check = |text: &str, expected| assert_eq!(parse_time(text).unwrap(), UnixTime(expected), "{text}");
        check("951782400", 951_782_400);
        check("2000-02-29T00:00:00Z", 951_782_400);
        check("2026-11-22T11:04:59Z", 1_795_345_499);
        check("1970-01-01T00:00:00Z", 0);
        for bad in [
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_time(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
