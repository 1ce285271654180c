//! The worker's line to the gatekeepers: the same question to all, answers as they come.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tacit_api::{Problem, gatekeeper::MAX_ANSWER};
use tacit_types::{ClusterId, quorum::GatekeeperSet};
use tokio::sync::{Semaphore, mpsc};

/// Longest that a gatekeeper's answer is waited for.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Questions to one gatekeeper at the same time; one that does not keep up is left out until it does.
const IN_FLIGHT: usize = 64;

/// Why a gatekeeper gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it took too long")]
    TimedOut,
    #[error("it has too many questions waiting")]
    Busy,
    #[error("{0}")]
    Problem(Box<Problem>),
    #[error("its answer cannot be read")]
    Unreadable,
}

/// All gatekeepers of the cluster.
#[derive(Clone)]
pub(crate) struct Gatekeepers {
    pub cluster: ClusterId,
    pub set: Arc<GatekeeperSet>,
    client: reqwest::Client,
    urls: Arc<Vec<String>>,
    in_flight: Arc<Vec<Arc<Semaphore>>>,
}

impl Gatekeepers {
    pub fn new(cluster: ClusterId, set: GatekeeperSet, urls: Vec<String>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(1))
            .pool_max_idle_per_host(IN_FLIGHT)
            .tcp_nodelay(true)
            .build()?;
        let in_flight = urls.iter().map(|_| Arc::new(Semaphore::new(IN_FLIGHT))).collect();
        Ok(Self { cluster, set: Arc::new(set), client, urls: Arc::new(urls), in_flight: Arc::new(in_flight) })
    }

    /// Indices of the gatekeepers.
    pub fn indices(&self) -> std::ops::Range<u32> {
        0..self.set.size()
    }

    /// Asks one gatekeeper.
    pub async fn ask<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        index: u32,
        path: &str,
        question: &Q,
    ) -> Result<A, NoAnswer> {
        let body = serde_json::to_vec(question).map_err(|_| NoAnswer::Unreadable)?;
        self.ask_bytes(index, path, body.into()).await
    }

    /// Asks every gatekeeper the same; answers arrive as they come, and the last one closes the channel. Those that come
    /// after the receiver was dropped have still been asked.
    pub fn ask_all<Q: Serialize + ?Sized, A: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        question: &Q,
    ) -> mpsc::Receiver<(u32, Result<A, NoAnswer>)> {
        let (sender, receiver) = mpsc::channel(self.urls.len().max(1));
        let body = serde_json::to_vec(question).map(Bytes::from);
        for index in self.indices() {
            let (this, sender, body) = (self.clone(), sender.clone(), body.as_ref().ok().cloned());
            tokio::spawn(async move {
                let answer = match body {
                    Some(body) => this.ask_bytes(index, path, body).await,
                    None => Err(NoAnswer::Unreadable),
                };
                let _ = sender.send((index, answer)).await;
            });
        }
        receiver
    }

    async fn ask_bytes<A: DeserializeOwned>(&self, index: u32, path: &str, body: Bytes) -> Result<A, NoAnswer> {
        let url = self.urls.get(index as usize).ok_or(NoAnswer::Unreachable)?;
        let permit = self.in_flight.get(index as usize).and_then(|places| Arc::clone(places).try_acquire_owned().ok());
        let _permit = permit.ok_or(NoAnswer::Busy)?;
        let exchange = async {
            let request = self.client.post(format!("{}{path}", url.trim_end_matches('/')));
            let request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
            let response = request.send().await.map_err(|_| NoAnswer::Unreachable)?;
            let ok = response.status().is_success();
            let bytes = read(response, MAX_ANSWER).await?;
            if ok {
                serde_json::from_slice(&bytes).map_err(|_| NoAnswer::Unreadable)
            } else {
                let problem = Problem::from_json(&bytes).map_err(|_| NoAnswer::Unreadable)?;
                Err(NoAnswer::Problem(Box::new(problem)))
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| NoAnswer::TimedOut)?
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(response: reqwest::Response, limit: usize) -> Result<Bytes, NoAnswer> {
    let mut bytes = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| NoAnswer::Unreachable)?;
        if bytes.len() + chunk.len() > limit {
            return Err(NoAnswer::Unreadable);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
