//! The same sealed bytes a second time.

use anyhow::{Context, Result};
use tacit_client::{CallRequest, Entry};

use super::PATIENCE;
use crate::{clock::now, inputs::Inputs, network::Network};

/// Sends a sealed call twice and counts the answers to the second.
pub async fn send_twice(network: &Network, inputs: &Inputs) -> Result<usize> {
    let data = inputs.left()?;
    let client = network.client()?;
    let request = CallRequest::new(data.function, "score", data.rows[0].request.clone());
    let gateway = Entry::gateway(&network.gateway(0)?);
    let mut last = None;
    // The first in order need not be the one that holds the function.
    for candidate in client.workers(data.function).await?.iter() {
        let prepared = client.prepare(&request, candidate.clone(), now()?.plus(60))?;
        let answer = client.send(data.function, &prepared, &gateway, PATIENCE).await;
        match answer.and_then(|sealed| prepared.open(&sealed).map(drop)) {
            Ok(()) => {
                let second = client.send(data.function, &prepared, &gateway, PATIENCE).await;
                return Ok(usize::from(second.is_ok_and(|sealed| prepared.open(&sealed).is_ok())));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no worker serves the function")?).context("expected an answer the first time")
}
