//! The way to one node, every answer within bounds: HTTPS whose key was seen before it was believed, or through a gateway, which
//! sees sealed bytes alone and whose own TLS nothing rests on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::seq::IndexedRandom as _;
use reqwest::{Client, Response, StatusCode, Url, header::CONTENT_TYPE};
use tacit_api::AiWorkers;
use tacit_envelope::{CHUNKED_REQUEST_MEDIA_TYPE, CHUNKED_RESPONSE_MEDIA_TYPE};
use tacit_receipt::aci::{BareDigest, MAX_REPORT};
use tacit_types::{Address, Digest};
use tacit_verify::aci::Channel;

use super::{AiError, client::MAX_DOCUMENT, tls};

const CONNECT: Duration = Duration::from_secs(5);
/// Longest that documents may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Path of a gateway under which it passes requests on to models.
const RELAY: &str = "/ai";

/// Connections to one node that all show one key.
pub(super) struct Transport {
    client: Client,
    base: Url,
    host: String,
    first: Arc<tls::FirstKey>,
    /// Where a gateway passes requests on to the node; none on the direct way.
    relay: Option<String>,
}

/// Whether an address can be a node's: an https URL, or that of a gateway's models.
pub fn is_node_url(node: &Url) -> bool {
    node.has_host() && (node.scheme() == "https" || is_relay(node))
}

/// Whether an address is that of a gateway's models, `http(s)://gateway/ai`, with or without a worker's account behind it.
fn is_relay(node: &Url) -> bool {
    let path = node.path().trim_end_matches('/');
    matches!(node.scheme(), "http" | "https")
        && (path == RELAY || path.strip_prefix("/ai/").is_some_and(|account| account.parse::<Address>().is_ok()))
}

impl Transport {
    /// A way to `node`. A gateway that is not told which worker is meant is asked which there are, and one of them is taken.
    ///
    /// # Errors
    /// As [`Transport::new`], and what keeps a gateway from answering; [`AiError::NoWorker`] if it knows none.
    pub(super) async fn connect(node: &Url) -> Result<Self, AiError> {
        let mut transport = Self::new(node)?;
        if is_relay(node) {
            let path = node.path().trim_end_matches('/');
            transport.relay = Some(match path {
                RELAY => format!("{RELAY}/{}", transport.any_worker().await?),
                path => path.to_owned(),
            });
        }
        Ok(transport)
    }

    async fn any_worker(&self) -> Result<Address, AiError> {
        let answer = self.get(RELAY, MAX_DOCUMENT).await?;
        let unreadable = |_| AiError::BadAnswer("the gateway's list of workers cannot be read");
        let known: AiWorkers = serde_json::from_slice(&answer).map_err(unreadable)?;
        known.workers.choose(&mut rand::rng()).copied().ok_or(AiError::NoWorker)
    }

    /// A way to the documents of `base` that anybody may read; nothing is connected yet.
    ///
    /// # Errors
    /// [`AiError::Url`] for anything but an https URL or a gateway's, [`AiError::Http`].
    pub(super) fn new(base: &Url) -> Result<Self, AiError> {
        let host = base.host_str().filter(|_| is_node_url(base)).ok_or(AiError::Url)?.to_owned();
        let (config, first) = tls::client_config().map_err(AiError::Tls)?;
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(AiError::Http)?;
        Ok(Self { client, base: base.clone(), host, first, relay: None })
    }

    /// The connection to the node itself as it was seen; none before the first one, and none through a gateway.
    pub(super) fn channel(&self) -> Option<Channel> {
        if self.is_relayed() {
            return None;
        }
        let spki = self.first.seen()?;
        Some(Channel { host: self.host.clone(), spki_sha256: BareDigest::from(Digest::from(spki)) })
    }

    /// Whether a gateway is between.
    pub(super) const fn is_relayed(&self) -> bool {
        self.relay.is_some()
    }

    /// The path of one of the node's own routes.
    fn path(&self, route: &str) -> String {
        format!("{}{route}", self.relay.as_deref().unwrap_or_default())
    }

    /// The node's report under a nonce.
    ///
    /// # Errors
    /// As [`Transport::get`].
    pub(super) async fn report(&self, nonce: &Digest) -> Result<Vec<u8>, AiError> {
        let path = self.path(&format!("/v1/aci/attestation?nonce={}", hex::encode(nonce)));
        self.get(&path, MAX_REPORT).await
    }

    /// A document that anybody may read; nothing of the user's goes this way.
    ///
    /// # Errors
    /// [`AiError::Unreachable`], or [`AiError::BadAnswer`] for another status or too many bytes.
    pub(super) async fn get(&self, path: &str, limit: usize) -> Result<Vec<u8>, AiError> {
        let url = self.base.join(path).map_err(|_| AiError::Url)?;
        let fetch = async {
            let mut response = self.client.get(url).send().await.map_err(|error| self.unreachable(error))?;
            if response.status() != StatusCode::OK {
                return Err(AiError::Status { status: response.status().as_u16() });
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
                if bytes.len() + chunk.len() > limit {
                    return Err(AiError::BadAnswer("a document is larger than it may be"));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        tokio::time::timeout(PATIENCE, fetch).await.unwrap_or(Err(AiError::Silent))
    }

    /// Sends sealed bytes, and gives the sealed answer as its first bytes arrive.
    ///
    /// # Errors
    /// [`AiError::Unreachable`], [`AiError::Unsealed`], [`AiError::Silent`] after `patience`.
    pub(super) async fn post(&self, sealed: Bytes, patience: Duration) -> Result<Response, AiError> {
        let url = self.base.join(&self.path("/v1/sealed")).map_err(|_| AiError::Url)?;
        let request = self.client.post(url).header(CONTENT_TYPE, CHUNKED_REQUEST_MEDIA_TYPE).body(sealed).send();
        let response = match tokio::time::timeout(patience, request).await {
            Ok(response) => response.map_err(|error| self.unreachable(error))?,
            Err(_) => return Err(AiError::Silent),
        };
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if response.status() != StatusCode::OK || kind != CHUNKED_RESPONSE_MEDIA_TYPE {
            return Err(AiError::Unsealed { status: response.status().as_u16() });
        }
        Ok(response)
    }

    pub(super) fn unreachable(&self, source: reqwest::Error) -> AiError {
        AiError::Unreachable { host: self.host.clone(), source: source.without_url() }
    }
}
