//! `tacit tcb`: where machines stand under Intel's documents, and which a new document drops. For planning: nothing here is a verdict.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde_json::Value;
use tacit_attest::{
    Collateral, Evidence, IntelCollateral, MAX_JSON,
    forecast::{Forecast, MachineProfile, QeIdentity, Rehearsal, Shortfall, TcbInfo, forecast, rehearse},
    quote_header,
};
use tacit_peer::{CollateralCache, Endpoints, Update};
use tacit_types::UnixTime;
use tacit_verify::read_evidence;

use super::{CommandResult, judge, now, verify::parse_time};
use crate::{
    arguments::{TcbArguments, TcbCollateralArguments, TcbCommand, TcbRehearseArguments},
    error::{CommandError, Exit},
    output,
};

/// Longest that one answer of a collateral service may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A document of Intel's with the identity that came with it.
type Document = (TcbInfo, Option<QeIdentity>);

pub async fn run(command: &TcbCommand) -> CommandResult {
    match command {
        TcbCommand::Status(arguments) => {
            check_machines(arguments)?;
            status(arguments).await
        }
        TcbCommand::Rehearse(arguments) => {
            check_machines(&arguments.tcb)?;
            rehearsal(arguments).await
        }
        TcbCommand::Collateral(arguments) => collateral(arguments).await,
    }
}

fn check_machines(arguments: &TcbArguments) -> Result<(), CommandError> {
    if arguments.machines.is_empty() {
        return Err(CommandError::usage("no machine is named", "--machine FILE: a recorded profile, or a quote"));
    }
    Ok(())
}

/// `tacit tcb collateral`: the one place that fetches what `tacit verify` judges by.
async fn collateral(arguments: &TcbCollateralArguments) -> CommandResult {
    let bytes = read(&arguments.evidence)?;
    let evidence = read_evidence(&bytes).map_err(|error| CommandError::new(Exit::Refused, error))?;
    let mut endpoints = Endpoints::default();
    for (given, endpoint) in [(&arguments.pccs, &mut endpoints.pccs), (&arguments.kds, &mut endpoints.kds)] {
        if let Some(address) = given {
            *endpoint = parse_address(address)?;
        }
    }
    let cache = CollateralCache::new(endpoints, PATIENCE).map_err(anyhow::Error::from)?;
    let fetched = cache.obtain(&evidence, now()).await;
    let fetched =
        fetched.map_err(|error| CommandError::hinted(error, "--pccs URL and --kds URL ask other services"))?;
    output::bytes(&[fetched.to_json(), b"\n".to_vec()].concat())?;
    Ok(Exit::Ok)
}

fn parse_address<T: std::str::FromStr>(address: &str) -> Result<T, CommandError> {
    let wrong = |_| CommandError::usage(format!("{address:?} is no address"), "for example https://pccs.example.com");
    address.parse().map_err(wrong)
}

/// Where a machine stands under each document that is about it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    profile: MachineProfile,
    forecasts: Vec<Forecast>,
}

/// `tacit tcb status`, and what `tacit worker check` says of recorded machines.
pub async fn status(arguments: &TcbArguments) -> CommandResult {
    let mut standings = Vec::new();
    for path in &arguments.machines {
        let profile = read_machine(path)?;
        let documents = documents(arguments, &profile).await?;
        // What is about other machines says nothing of this one.
        let about = documents.iter().filter_map(|(info, identity)| forecast(&profile, info, identity.as_ref()).ok());
        let mut forecasts: Vec<Forecast> = about.collect();
        forecasts.sort_by_key(|forecast| forecast.evaluation_number);
        forecasts.dedup();
        if forecasts.is_empty() {
            let family = hex::encode(profile.fmspc);
            let error = anyhow!("no document is about {}, whose platform family is {family}", profile.name);
            return Err(CommandError::hinted(
                error,
                "--documents FILE names TCB info of this family, for SGX or TDX as the machine",
            ));
        }
        standings.push(Standing { profile, forecasts });
    }
    if arguments.json {
        output::json(&standings)?;
    } else {
        output::bytes(standings.iter().map(standing_text).collect::<String>().as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn rehearsal(arguments: &TcbRehearseArguments) -> CommandResult {
    let policy = judge(&arguments.policy)?.policy_for(None);
    let at = arguments.at.as_deref().map(parse_time).transpose()?.unwrap_or_else(now);
    let profiles = arguments.tcb.machines.iter().map(|path| read_machine(path)).collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<Document> = Vec::new();
    for profile in &profiles {
        all.extend(documents(&arguments.tcb, profile).await?);
    }
    // Of several documents about one family the newest is rehearsed.
    all.sort_by_key(|(info, _)| std::cmp::Reverse(info.evaluation_number()));
    let rehearsal = rehearse(&profiles, &all, &policy, at);
    if arguments.tcb.json {
        output::json(&rehearsal)?;
    } else {
        output::bytes(rehearsal_text(&rehearsal, &policy.name, at).as_bytes())?;
    }
    Ok(if rehearsal.falls.is_empty() { Exit::Ok } else { Exit::Refused })
}

fn standing_text(standing: &Standing) -> String {
    let profile = &standing.profile;
    let mut text =
        format!("{}  {}, platform family {}\n", profile.name, profile.platform.name(), hex::encode(profile.fmspc));
    standing.forecasts.iter().for_each(|forecast| text += &forecast_text(forecast));
    text + "\n"
}

fn forecast_text(forecast: &Forecast) -> String {
    let date = forecast.level_date.as_ref().map_or(String::new(), |date| format!(", level of {}", day(date)));
    let mut text =
        format!("  number {} of {}: {}{date}\n", forecast.evaluation_number, day(&forecast.issued), forecast.standing);
    text += &shortfalls_text(&forecast.shortfalls);
    if forecast.shortfalls.is_empty() {
        text += "    nothing is short of the newest level\n";
    } else {
        text += &format!(
            "    with all of it: {}, level of {}\n",
            forecast.newest_level_status,
            day(&forecast.newest_level_date)
        );
    }
    for (what, ids) in [("applies", &forecast.advisories), ("closed by the newest level", &forecast.closes)] {
        if !ids.is_empty() {
            text += &format!("    {what}: {}\n", ids.join(" "));
        }
    }
    text
}

fn shortfalls_text(shortfalls: &[Shortfall]) -> String {
    let line = |short: &Shortfall| {
        let by = serde_json::to_value(short.raised_by).ok().and_then(|value| value.as_str().map(str::to_owned));
        let said = [short.category.as_deref(), short.kind.as_deref()];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) };
        format!(
            "    short: {} is {}, needs {}: {} short, raised by {}{said}\n",
            short.component,
            short.have,
            short.needs,
            short.short_by,
            by.unwrap_or_default()
        )
    };
    shortfalls.iter().map(line).collect()
}

fn rehearsal_text(rehearsal: &Rehearsal, policy: &str, at: UnixTime) -> String {
    let Rehearsal { stays, falls, unjudged } = rehearsal;
    let mut text = format!("policy `{policy}` at {at}: {} stay, {} fall out\n", stays.len(), falls.len());
    for fallen in falls {
        let forecast = &fallen.forecast;
        text +=
            &format!("  falls  {}  under number {}: {}\n", forecast.machine, forecast.evaluation_number, fallen.reason);
        text += &shortfalls_text(&forecast.shortfalls);
    }
    for forecast in stays {
        text += &format!(
            "  stays  {}  under number {}: {}\n",
            forecast.machine, forecast.evaluation_number, forecast.standing
        );
    }
    for name in unjudged {
        text += &format!("  ?      {name}  no document is about its platform family\n");
    }
    text
}

/// The day of a date and time.
fn day(date: &str) -> &str {
    date.split('T').next().unwrap_or(date)
}

/// The documents that were named, else those that Intel's service hands out, in the standard and in the early edition.
async fn documents(arguments: &TcbArguments, profile: &MachineProfile) -> Result<Vec<Document>, CommandError> {
    if !arguments.documents.is_empty() {
        return arguments.documents.iter().map(|path| read_document(path)).collect();
    }
    let mut endpoints = Endpoints::default();
    if let Some(address) = &arguments.pccs {
        endpoints.pccs = parse_address(address)?;
    }
    let cache = CollateralCache::new(endpoints, PATIENCE).map_err(anyhow::Error::from)?;
    let mut found = Vec::new();
    for update in [Update::Standard, Update::Early] {
        let fetched = cache.documents(profile.platform, profile.fmspc, update).await;
        let collateral = fetched.map_err(|error| {
            CommandError::hinted(
                error,
                "--documents FILE judges by documents that are at hand, --pccs URL asks another service",
            )
        })?;
        found.push(document_of(&collateral)?);
    }
    Ok(found)
}

fn document_of(collateral: &IntelCollateral) -> Result<Document, CommandError> {
    let info = TcbInfo::parse(&collateral.tcb_info).map_err(anyhow::Error::from)?;
    let identity = QeIdentity::parse(&collateral.qe_identity).map_err(anyhow::Error::from)?;
    Ok((info, Some(identity)))
}

/// Collateral in either form, or a TCB info alone.
fn read_document(path: &Path) -> Result<Document, CommandError> {
    let bytes = read(path)?;
    if let Ok(Collateral::Intel(collateral)) = Collateral::from_json(&bytes) {
        return document_of(&collateral);
    }
    if let Ok(collateral) = IntelCollateral::from_dcap_json(&bytes) {
        return document_of(&collateral);
    }
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    let info = TcbInfo::parse(&text).with_context(|| path.display().to_string())?;
    Ok((info, None))
}

/// A recorded profile, or a quote (also in hex), whose numbers are read and whose signature is not.
fn read_machine(path: &Path) -> Result<MachineProfile, CommandError> {
    let bytes = read(path)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if bytes.trim_ascii_start().starts_with(b"{") {
        let value: Value = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        if value.get("fmspc").is_some() {
            let profile = serde_json::from_value(value).with_context(|| path.display().to_string())?;
            return Ok(profile);
        }
        let evidence = Evidence::from_json(&bytes).with_context(|| path.display().to_string())?;
        return profile_of(name, &evidence);
    }
    let bytes = match std::str::from_utf8(&bytes).ok().and_then(|text| hex::decode(text.trim()).ok()) {
        Some(decoded) => decoded,
        None => bytes,
    };
    let evidence = match quote_header(&bytes) {
        Ok((3, 0)) => Evidence::sgx(bytes),
        Ok((4 | 5, 0x81)) => Evidence::tdx(bytes, None),
        _ => {
            let error = anyhow!("{} is neither a machine's profile nor an Intel quote", path.display());
            return Err(CommandError::hinted(
                error,
                "a profile is JSON with name, platform, fmspc, cpuSvn, pceSvn; AMD and AWS publish no such documents",
            ));
        }
    };
    profile_of(name, &evidence.map_err(anyhow::Error::from)?)
}

fn profile_of(name: String, evidence: &Evidence) -> Result<MachineProfile, CommandError> {
    Ok(MachineProfile::of_quote(name, evidence, None).map_err(anyhow::Error::from)?)
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    use std::io::Read as _;
    let open = || format!("could not read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(open)?;
    file.take(MAX_JSON as u64 + 1).read_to_end(&mut bytes).with_context(open)?;
    Ok(bytes)
}
