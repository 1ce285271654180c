//! `tacit secrets set`: sealed to a verified worker like every call, kept under the function's own key.

use std::{collections::BTreeMap, io::Read as _};

use anyhow::{Context as _, anyhow};
use tacit_api::calls;
use tacit_client::CallRequest;
use tacit_types::eip712::Outcome;
use zeroize::Zeroizing;

use super::{CommandResult, Environment, client_error, resolve_function};
use crate::{
    arguments::{SecretArguments, SecretsCommand},
    error::{CommandError, Exit},
    output,
};

/// Most bytes of a secret.
const MOST: u64 = 64 << 10;

pub async fn run(command: &SecretsCommand, environment: &Environment) -> CommandResult {
    let SecretsCommand::Set(arguments) = command;
    let client = environment.client(None)?;
    let function = resolve_function(&client, &arguments.function)?;
    let (name, value) = parse(arguments)?;
    let manifest = {
        let record = client.function(function).await.map_err(client_error)?;
        client.manifest(&record).await.map_err(client_error)?
    };
    if !manifest.secrets.names.contains(name) {
        return Err(CommandError::hinted(
            anyhow!("the manifest of {} does not name the secret {name:?}", arguments.function),
            format!("add it to tacit.toml and deploy again:\n[secrets]\nnames = [\"{name}\"]"),
        ));
    }
    let body = Zeroizing::new(serde_json::to_vec(&BTreeMap::from([(name, value.as_str())]))?);
    let answer =
        client.call(&CallRequest::new(function, calls::SECRETS_SET, body.to_vec())).await.map_err(client_error)?;
    if answer.outcome() != Outcome::Ok {
        return Err(CommandError::new(
            Exit::Failed,
            anyhow!("the worker did not take the secret: {:?}", answer.outcome()),
        ));
    }
    output::note(format!("set at sequence {}", answer.receipt().sequence));
    output::line(name)?;
    Ok(Exit::Ok)
}

fn parse(arguments: &SecretArguments) -> Result<(&str, Zeroizing<String>), CommandError> {
    let (name, value) = match arguments.secret.split_once('=') {
        Some((name, "-")) => (name, None),
        Some((name, value)) => (name, Some(Zeroizing::new(value.to_owned()))),
        None => (arguments.secret.as_str(), None),
    };
    if !calls::is_method_name(name) {
        return Err(CommandError::usage(
            format!("{name:?} is not a secret's name"),
            "a letter or underscore, then letters, digits and underscores",
        ));
    }
    let value = match value {
        Some(value) => value,
        None => read_value(std::io::stdin().lock())?,
    };
    Ok((name, value))
}

/// Reads a value without the line break that a shell puts behind it.
fn read_value(from: impl std::io::Read) -> Result<Zeroizing<String>, CommandError> {
    let mut text = Zeroizing::new(String::new());
    from.take(MOST + 1).read_to_string(&mut text).context("could not read the secret from standard input")?;
    if text.len() as u64 > MOST {
        return Err(CommandError::usage(
            "the secret is larger than 64 KiB",
            "give the function a key, and the data in its state",
        ));
    }
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if trimmed.is_empty() {
        return Err(CommandError::usage("the secret is empty", "NAME=VALUE, or the value on standard input"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_argument_or_standard_input() {
        let check = |text: &[u8], expected: &str| assert_eq!(read_value(text).unwrap().as_str(), expected);
        check(b"abc\n", "abc");
        check(b"a b\r\n", "a b");
        check(b"a\nb", "a\nb");
        assert_eq!(read_value(&b"\n"[..]).unwrap_err().exit, Exit::Usage);
        assert_eq!(read_value(&vec![b'a'; MOST as usize + 1][..]).unwrap_err().exit, Exit::Usage);
        let given = SecretArguments { function: "f".into(), secret: "KEY=a=b".into() };
        let (name, value) = parse(&given).unwrap();
        assert_eq!((name, value.as_str()), ("KEY", "a=b"));
        let bad = SecretArguments { function: "f".into(), secret: "9=b".into() };
        assert_eq!(parse(&bad).unwrap_err().exit, Exit::Usage);
    }
}
