//! A worker on a copy of another worker's disk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tacit_api::ProblemKind;
use tacit_types::FunctionId;

use super::{Attack, PATIENCE, add, ask, read, refusal, total};
use crate::{
    inputs::Inputs,
    network::{Network, copy, terminate},
    stranger::{ADMITTED, Stranger},
};

/// Copies folder, operator's key and store of the worker that holds the function while it runs, and starts the copy on the
/// same machine. The copy is an honest worker with keys of its own, so it is admitted; what it must not do is answer for the
/// function, neither beside the worker nor, having missed commands, after it.
pub async fn run_copy(network: &Network, inputs: &Inputs, function: FunctionId) -> Result<Attack> {
    let client = network.client()?;
    let before = client.call(&add(function, 1)).await?;
    let workers = client.workers(function).await?;
    let holder = workers.iter().find(|worker| worker.worker.id() == before.receipt().certificate);
    let (name, pid) = network.worker_at(&holder.context("the holder of the function is not known")?.endpoint)?;

    let folder = network.new_folder("copied-disk")?;
    copy(&network.tool.network().join(&name), &folder.join("worker"))?;
    copy(&network.tool.network().join("store"), &folder.join("store"))?;
    let mut config = network.worker_config(&name)?;
    for (key, place) in [("folder", "worker/data"), ("operator_key", "worker/operator.key"), ("store", "store")] {
        config.insert(key.into(), folder.join(place).display().to_string().into());
    }
    let mut stranger = Stranger::start(&network.binary("tacit"), config, &folder)?;
    stranger.says(&[ADMITTED])?;
    let candidate = stranger.candidate(network.client()?, function).await?;

    let mut accepted = 0;
    for request in [add(function, 100), read(function)] {
        match ask(&client, &request, &candidate).await {
            Ok(_) => accepted += 1,
            Err(error) => ensure!(
                refusal(&error).is_some_and(|problem| problem.kind == ProblemKind::NotHolder),
                "expected that the copy does not hold the function while {name} does, found: {error}"
            ),
        }
    }

    let mut expected = total(&before)?;
    for _ in 0..inputs.commands_after_copy {
        expected += 1;
        let found = total(&client.call(&add(function, 1)).await?)?;
        ensure!(found == expected, "expected the total {expected} from {name}, found {found}");
    }
    // The worker ends in order and gives its lease back: nobody holds the function now.
    terminate(pid)?;
    let until = Instant::now() + PATIENCE;
    let message = loop {
        match ask(&client, &read(function), &candidate).await {
            Ok(_) => {
                accepted += 1;
                break String::from("answered");
            }
            Err(error) => match refusal(&error) {
                Some(problem) if problem.kind == ProblemKind::StateRolledBack => break problem.detail.clone(),
                Some(problem) if problem.kind == ProblemKind::NotHolder && Instant::now() < until => {}
                _ => bail!("expected that the copy finds its state rolled back, found: {error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    stranger.stop()?;
    network.wait_for_workers()?;
    let found = total(&client.call(&read(function)).await?)?;
    ensure!(found == expected, "expected the total {expected} after the attack, found {found}");
    println!("  a worker on a copy of {name}'s disk, on its chip: silent; without {name}:");
    let what = match accepted {
        0 => format!("  \"{message}\""),
        _ => format!("  the copy of {name}'s disk answered"),
    };
    Ok(Attack { what, accepted })
}
