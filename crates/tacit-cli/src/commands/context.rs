//! `tacit context`.

use super::{CommandResult, Environment};
use crate::{
    arguments::ContextCommand,
    context::{is_name, read_deployment},
    error::{CommandError, Exit},
    output,
};

pub fn run(command: &ContextCommand, environment: &Environment) -> CommandResult {
    match command {
        ContextCommand::Add(arguments) => {
            if !is_name(&arguments.name) {
                return Err(CommandError::usage(
                    format!("{:?} is not a network's name", arguments.name),
                    "1 to 63 of the characters a-z, 0-9 and -",
                ));
            }
            let deployment = read_deployment(&arguments.deployment)?;
            let folder = environment.contexts.named(&arguments.name);
            if folder.deployment_path().exists() {
                return Err(CommandError::hinted(
                    anyhow::anyhow!("there is a network {:?} already in {}", arguments.name, folder.path().display()),
                    "choose another name",
                ));
            }
            folder.write_deployment(&deployment)?;
            output::note(format!("network {} · cluster {}", deployment.genesis.network, deployment.cluster_id));
            output::note(
                "this deployment file is what everything is judged by: compare the cluster id with one from another source",
            );
            output::line(&arguments.name)?;
        }
        ContextCommand::Use(arguments) => {
            environment.contexts.use_named(&arguments.name).map_err(|error| {
                CommandError::hinted(
                    error,
                    "add it with `tacit context add NAME --deployment FILE`, or start one with `tacit up`",
                )
            })?;
            output::line(&arguments.name)?;
        }
    }
    Ok(Exit::Ok)
}
