//! `tacit deploy`.

use std::{path::Path, time::Instant};

use tacit_api::DeployReport;
use tacit_client::{Client, DeployStep, Deployed, Package};

use super::{CommandResult, Environment, client_error};
use crate::{
    arguments::DeployArguments,
    error::{CommandError, Exit},
    output,
};

pub async fn run(arguments: &DeployArguments, environment: &Environment) -> CommandResult {
    let package = build(&arguments.path)?;
    let client = environment.client(arguments.policy.as_deref())?;
    publish(&client, &package, arguments.json).await?;
    Ok(Exit::Ok)
}

/// Builds the function in a folder.
pub fn build(path: &Path) -> Result<Package, CommandError> {
    Package::build(path).map_err(|error| client_error(error.into()))
}

/// Publishes a function and prints what it is and what it could talk to.
pub async fn publish(client: &Client, package: &Package, json: bool) -> Result<Deployed, CommandError> {
    let began = Instant::now();
    let say = |step: DeployStep| match step {
        DeployStep::Uploaded { gateways, of } => output::note(format!("uploaded to {gateways} of {of} gateways")),
        DeployStep::Registered { block } => {
            output::note(format!("registered on the home chain, final at block {block}"))
        }
        DeployStep::Callable => output::note(format!("callable after {:.1} s", began.elapsed().as_secs_f64())),
        _ => {}
    };
    let deployed = client.deploy(package, say).await.map_err(client_error)?;
    let manifest = package.manifest();
    output::note(format!("could talk to: {}", manifest.could_talk_to()));
    let report = DeployReport {
        function: deployed.function,
        name: manifest.function.name.clone(),
        version: deployed.version,
        code_hash: deployed.code_hash,
        url: deployed.url.clone(),
    };
    if json {
        output::json(&report)?;
    } else {
        let unchanged = if deployed.unchanged { " (unchanged)" } else { "" };
        output::line(
            output::table(&[
                vec!["function".into(), report.function.to_string()],
                vec!["name".into(), report.name],
                vec!["version".into(), format!("{}{unchanged}", report.version)],
                vec!["code".into(), report.code_hash.to_string()],
                vec!["url".into(), report.url],
            ])
            .trim_end(),
        )?;
    }
    Ok(deployed)
}
