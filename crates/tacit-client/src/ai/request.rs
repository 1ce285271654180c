//! What is asked of a node.

use bytes::Bytes;
use serde::Deserialize;

use super::AiError;

/// Most bytes of a request's body.
pub const MAX_REQUEST: usize = tacit_api::openai::MAX_REQUEST;
/// Most bytes of a path with its query.
const MAX_PATH: usize = 1_024;
/// Routes whose answers always have a receipt.
const INFERENCE: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];
/// Header fields that may go along. A request is sealed as a whole; sealing single fields besides would only change the bytes
/// that the receipt names.
const FIELDS: [&str; 2] = ["content-type", "accept"];

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

impl Method {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A request to a node, as it goes into the seal.
#[derive(Clone)]
pub struct AiRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl AiRequest {
    /// A request with a JSON body.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { method: Method::Post, path: path.into(), headers, body: body.into() }
    }

    /// A request without a body.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// The same request with one more header field, or with another value of one; fields other than `content-type` and `accept`
    /// do not go along.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if FIELDS.contains(&name) {
            self.headers.retain(|(own, _)| own != name);
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Whether every answer to it has a receipt.
    pub fn is_inference(&self) -> bool {
        self.method == Method::Post && INFERENCE.contains(&self.path.as_str())
    }

    /// The model that the body names, if it is JSON and names one.
    pub(super) fn model(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Asked {
            model: Option<String>,
        }
        serde_json::from_slice::<Asked>(&self.body).ok()?.model
    }

    pub(super) fn check(&self) -> Result<(), AiError> {
        if self.body.len() > MAX_REQUEST {
            return Err(AiError::Request("the request is larger than a node takes"));
        }
        let plain = self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !self.path.starts_with("/v1/") || !plain || self.path.len() > MAX_PATH || self.path.contains("/../") {
            return Err(AiError::Request("the path is not one of the AI interface"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_interface_are_sent() {
        for path in ["/v1/models", "/v1/chat/completions", "/v1/aci/attestation?nonce=00"] {
            assert!(AiRequest::get(path).check().is_ok(), "{path}");
        }
        let long = format!("/v1/{}", "a".repeat(MAX_PATH));
        for path in ["/log/x", "/v1", "/v1/ x", "/v1/\n", "/v1/../healthz", "/v1/a#b", "", long.as_str()] {
            assert!(AiRequest::get(path).check().is_err(), "{path:?}");
        }
        assert!(AiRequest::post("/v1/chat/completions", vec![0; MAX_REQUEST + 1]).check().is_err());
    }

    #[test]
    fn fields_that_could_change_what_is_asked_stay_behind() {
        let request =
            AiRequest::post("/v1/completions", "{}").header("authorization", "Bearer x").header("accept", "a");
        let request = request.header("x-e2ee-version", "2").header("accept", "text/event-stream");
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "accept"]);
        assert_eq!(request.headers[1].1, "text/event-stream");
    }

    #[test]
    fn the_model_is_read_from_the_body() {
        let model = |body: &'static str| AiRequest::post("/v1/completions", body).model();
        assert_eq!(model(r#"{"model":"a","prompt":"x"}"#).as_deref(), Some("a"));
        for body in ["{}", "[]", "{", r#"{"model":1}"#] {
            assert_eq!(model(body), None, "{body}");
        }
        assert!(AiRequest::post("/v1/responses", "").is_inference());
        assert!(!AiRequest::get("/v1/responses").is_inference());
    }
}
