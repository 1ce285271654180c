//! The way to one node: HTTPS whose key was seen before it was believed, every answer within bounds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, Url, header::CONTENT_TYPE};
use tacit_envelope::{CHUNKED_REQUEST_MEDIA_TYPE, CHUNKED_RESPONSE_MEDIA_TYPE};
use tacit_receipt::aci::BareDigest;
use tacit_verify::aci::Channel;

use super::{AiError, tls};

const CONNECT: Duration = Duration::from_secs(5);
/// Longest that documents may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections to one node that all show one key.
pub(super) struct Transport {
    client: Client,
    base: Url,
    host: String,
    first: Arc<tls::FirstKey>,
}

impl Transport {
    /// A way to `base`; nothing is connected yet.
    ///
    /// # Errors
    /// [`AiError::Url`] for anything but an https URL, [`AiError::Http`].
    pub(super) fn new(base: &Url) -> Result<Self, AiError> {
        let host = base.host_str().filter(|_| base.scheme() == "https").ok_or(AiError::Url)?.to_owned();
        let (config, first) = tls::client_config().map_err(AiError::Tls)?;
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(AiError::Http)?;
        Ok(Self { client, base: base.clone(), host, first })
    }

    /// The connection as it was seen; none before the first one.
    pub(super) fn channel(&self) -> Option<Channel> {
        let spki = self.first.seen()?;
        Some(Channel { host: self.host.clone(), spki_sha256: BareDigest::from(tacit_types::Digest::from(spki)) })
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
        let url = self.base.join("/v1/sealed").map_err(|_| AiError::Url)?;
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
