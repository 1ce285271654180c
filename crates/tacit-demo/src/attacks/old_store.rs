//! Yesterday's store put back under the workers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tacit_client::{Client, ClientError};
use tacit_types::FunctionId;

use super::{Attack, PATIENCE, add, ask, read, refusal};
use crate::{
    inputs::Inputs,
    network::{Network, Pause, copy, kill},
};

/// Puts back a copy of the store from before some commands, with every worker killed, and calls again.
pub async fn restore(network: &Network, inputs: &Inputs, function: FunctionId) -> Result<Attack> {
    let client = network.client()?;
    let mut newest = client.call(&add(function, 1)).await?.receipt().sequence;
    let store = network.tool.network().join("store");
    let (yesterday, today) = (network.new_folder("store-of-yesterday")?, network.new_folder("store-of-today")?);
    copy(&store, &yesterday)?;
    for _ in 0..inputs.commands_since_yesterday {
        newest = client.call(&add(function, 1)).await?.receipt().sequence;
    }
    let workers: Vec<u32> = network.status()?.workers.iter().filter_map(|worker| worker.pid).collect();
    let paused: Vec<Pause> = workers.iter().map(|pid| Pause::process(*pid)).collect::<Result<_>>()?;
    std::fs::rename(&store, &today)?;
    copy(&yesterday, &store)?;
    workers.iter().try_for_each(|pid| kill(*pid))?;
    drop(paused);

    let said = ask_until_refused(&client, function).await?;
    // The true store again, so that the network goes on.
    std::fs::remove_dir_all(&store)?;
    std::fs::rename(&today, &store)?;
    let attack = match said {
        None => Attack { what: "yesterday's store restored".into(), accepted: 1 },
        Some(message) => {
            ensure!(
                message.contains("rolled back") && message.contains(&newest.to_string()),
                "expected a message with both sequences, the newest being {newest}, found: {message}"
            );
            Attack { what: format!("yesterday's store restored: \"{message}\""), accepted: 0 }
        }
    };
    let found = client.call(&read(function)).await?.receipt().sequence;
    ensure!(found == newest, "expected that the true store serves again from sequence {newest}, found {found}");
    network.wait_for_workers()?;
    Ok(attack)
}

/// Calls every worker, straight, until one answers (`None`) or says that the state was rolled back (its words).
async fn ask_until_refused(client: &Client, function: FunctionId) -> Result<Option<String>> {
    let until = Instant::now() + PATIENCE;
    let mut last = String::from("no worker was reached");
    while Instant::now() < until {
        let candidates = client.fetch_workers(function).await.map(|workers| workers.to_vec()).unwrap_or_default();
        for candidate in candidates {
            match ask(client, &read(function), &candidate).await {
                Ok(_) => return Ok(None),
                Err(error) => last = words(&error),
            }
            if last.contains("rolled back") {
                return Ok(Some(last));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(Some(last))
}

fn words(error: &ClientError) -> String {
    refusal(error).map_or_else(|| error.to_string(), |problem| problem.detail.clone())
}
