//! A receipt of the code that counted yesterday, shown as one of the code that counts now.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tacit_api::DeployReport;
use tacit_client::{Client, ClientError, Entry, OpenedAnswer};

use super::{Counter, PATIENCE, add};
use crate::{clock::now, network::Network};

/// Keeps an answer of the first version, upgrades, and shows the answer to somebody who asks for the second.
pub async fn show_receipt(network: &Network, counter: &Counter) -> Result<usize> {
    let client = network.client()?;
    let mut request = add(counter.function, 1);
    let old = unverified_answer(&client, &request).await?;
    let source = counter.project.join("src/index.ts");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, format!("{text}\n// second version\n"))?;
    let second: DeployReport = network.tool.json(&["deploy", &counter.project.display().to_string()])?;
    ensure!(
        second.code_hash != counter.deployed.code_hash,
        "expected another code hash, found that of the first version"
    );
    request.code = Some(second.code_hash);
    let accepted = match client.verify_answer(&request, old) {
        Ok(_) => 1,
        Err(ClientError::OtherCall(_)) => 0,
        Err(error) => return Err(error).context("expected a refusal for the version"),
    };

    // And from now on every worker runs the new one.
    let until = Instant::now() + PATIENCE;
    loop {
        match client.call(&add(counter.function, 1)).await?.receipt().code_hash {
            code if code == second.code_hash => return Ok(accepted),
            code if Instant::now() > until => bail!("expected that version {} runs, found {code}", second.code_hash),
            _ => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// An answer of whoever holds the function, opened and not verified.
async fn unverified_answer(client: &Client, request: &tacit_client::CallRequest) -> Result<OpenedAnswer> {
    let mut last = None;
    for candidate in client.workers(request.function).await?.iter() {
        let prepared = client.prepare(request, candidate.clone(), now()?.plus(60))?;
        let route = Entry::worker(&candidate.endpoint);
        let sealed = client.send(request.function, &prepared, &route, PATIENCE).await;
        match sealed.and_then(|sealed| prepared.open(&sealed)) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no worker serves the function")?).context("expected an answer of the first version")
}
