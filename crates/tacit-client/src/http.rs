//! HTTP within bounds: no redirects, no proxy, every answer cut at its limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tacit_api::{Problem, headers, limits};

use crate::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client of gateways and workers.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

/// What came back: a status and a media type, and the bytes.
pub(crate) struct Reply {
    pub(crate) success: bool,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

impl Http {
    pub(crate) fn new() -> Result<Self, ClientError> {
        // A provider that the program chose before stays; only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(256)
            .tcp_nodelay(true)
            .build()
            .map_err(ClientError::Http)?;
        Ok(Self { client })
    }

    pub(crate) async fn get(&self, url: &str, limit: usize, timeout: Duration) -> Result<Bytes, ClientError> {
        let reply = self.send(self.client.get(url).timeout(timeout), url, limit).await?;
        accept(reply, url)
    }

    pub(crate) async fn put(&self, url: &str, body: Bytes, timeout: Duration) -> Result<Bytes, ClientError> {
        let request =
            self.client.put(url).header("content-type", "application/octet-stream").body(body).timeout(timeout);
        let reply = self.send(request, url, limits::MAX_PROBLEM).await?;
        accept(reply, url)
    }

    pub(crate) async fn post_sealed(
        &self,
        url: &str,
        worker: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let request = self
            .client
            .post(url)
            .header("content-type", headers::SEALED_REQUEST)
            .header(headers::WORKER, worker)
            .body(body)
            .timeout(timeout);
        self.send(request, url, limits::MAX_RESPONSE).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: &str, limit: usize) -> Result<Reply, ClientError> {
        let failed =
            |source: reqwest::Error| ClientError::Unreachable { url: url.to_owned(), source: source.without_url() };
        let response = request.send().await.map_err(failed)?;
        let success = response.status().is_success();
        let media_type =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let limit = if success { limit } else { limits::MAX_PROBLEM };
        let mut bytes = BytesMut::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            if bytes.len() + chunk.len() > limit {
                return Err(ClientError::BadAnswer { url: url.to_owned(), reason: format!("more than {limit} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Reply { success, media_type, bytes: bytes.freeze() })
    }
}

fn accept(reply: Reply, url: &str) -> Result<Bytes, ClientError> {
    if reply.success {
        return Ok(reply.bytes);
    }
    Err(match refused(&reply, url) {
        ClientError::Unsealed { url, problem } => ClientError::Lookup { url, problem },
        other => other,
    })
}

/// What a node's refusal says, if it says anything that is known here.
pub(crate) fn refused(reply: &Reply, url: &str) -> ClientError {
    match Problem::from_json(&reply.bytes) {
        Ok(problem) => ClientError::Unsealed { url: url.to_owned(), problem },
        Err(_) => ClientError::BadAnswer { url: url.to_owned(), reason: "a refusal without a reason".into() },
    }
}
