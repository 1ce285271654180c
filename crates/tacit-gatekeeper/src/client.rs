//! A small client of one gatekeeper: typed messages in, typed answers out, everything bounded.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tacit_api::{Problem, gatekeeper as wire};

use crate::error::GatekeeperError;

/// Asks one gatekeeper.
#[derive(Debug, Clone)]
pub struct GatekeeperClient {
    url: String,
    http: reqwest::Client,
}

impl GatekeeperClient {
    /// A client of the gatekeeper at `url`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`GatekeeperError::Unreachable`] when no HTTP client can be made.
    pub fn new(url: impl Into<String>) -> Result<Self, GatekeeperError> {
        let url: String = url.into();
        let url = url.trim_end_matches('/').to_owned();
        // Somebody else in this process may have installed it already.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| GatekeeperError::Unreachable { url: url.clone(), reason: error.to_string() })?;
        Ok(Self { url, http })
    }

    /// Where the gatekeeper is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET` of one of the paths in [`tacit_api::gatekeeper`].
    ///
    /// # Errors
    /// When the gatekeeper cannot be reached, refuses, or gives no proper answer.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, GatekeeperError> {
        self.answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// `POST` to one of the paths in [`tacit_api::gatekeeper`].
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<A: DeserializeOwned>(&self, path: &str, message: &impl Serialize) -> Result<A, GatekeeperError> {
        self.answer(self.http.post(format!("{}{path}", self.url)).json(message)).await
    }

    async fn answer<A: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<A, GatekeeperError> {
        let unreachable = |error: reqwest::Error| GatekeeperError::Unreachable {
            url: self.url.clone(),
            reason: error.without_url().to_string(),
        };
        let answer = |what: String| GatekeeperError::Answer { url: self.url.clone(), what };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > wire::MAX_ANSWER {
                return Err(answer(format!("more than {} bytes", wire::MAX_ANSWER)));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| answer(format!("other JSON: {error}")));
        }
        match Problem::from_json(&bytes) {
            Ok(problem) => Err(GatekeeperError::Refused { url: self.url.clone(), problem: Box::new(problem) }),
            Err(_) => Err(answer(format!("status {status} and no problem document"))),
        }
    }
}
