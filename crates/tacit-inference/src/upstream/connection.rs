//! HTTP to a server on this machine, and to no other.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use url::{Host, Url};

use crate::InferenceError;

/// Longest wait for a connection.
const CONNECTING: Duration = Duration::from_secs(5);
/// Longest silence of the server, also while it works through a long prompt.
pub(super) const SILENCE: Duration = Duration::from_secs(300);

/// A server on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    place: Place,
    /// What comes before `/chat/completions`.
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why a text is no place of an upstream server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is neither `http://ADDRESS:PORT/PREFIX` nor `unix:/PATH`.
    #[error("an upstream server is written http://127.0.0.1:PORT/v1 or unix:/path/to/socket")]
    Form,
    /// It is not on this machine, or is given by a name, which could come to mean another machine.
    #[error("an upstream server is given by a loopback address: what it is asked must not leave this machine")]
    NotLoopback,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let prefix = "/v1".to_owned();
            return if path.is_absolute() {
                Ok(Self { place: Place::Unix(path), prefix })
            } else {
                Err(EndpointError::Form)
            };
        }
        let url = Url::parse(text).map_err(|_| EndpointError::Form)?;
        let is_plain = url.scheme() == "http"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(EndpointError::Form);
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => std::net::IpAddr::from(address),
            _ => return Err(EndpointError::NotLoopback),
        };
        if !address.is_loopback() {
            return Err(EndpointError::NotLoopback);
        }
        let port = url.port_or_known_default().ok_or(EndpointError::Form)?;
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { place: Place::Tcp(SocketAddr::new(address, port)), prefix })
    }
}

impl Endpoint {
    /// Posts JSON and gives the answer's head, its body unread.
    ///
    /// # Errors
    /// [`InferenceError::Upstream`] with status 0 if there is no server, or none that speaks HTTP.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Response<Incoming>, InferenceError> {
        let unreachable = || InferenceError::Upstream { status: 0 };
        let request = Request::post(format!("{}{path}", self.prefix))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| unreachable())?;
        match &self.place {
            Place::Tcp(address) => {
                let stream = timeout(CONNECTING, TcpStream::connect(address)).await;
                let stream = stream.ok().and_then(Result::ok).ok_or_else(unreachable)?;
                let _ = stream.set_nodelay(true);
                exchange(stream, request).await
            }
            Place::Unix(path) => {
                let stream = timeout(CONNECTING, UnixStream::connect(path)).await;
                exchange(stream.ok().and_then(Result::ok).ok_or_else(unreachable)?, request).await
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, InferenceError> {
    let unreachable = |_| InferenceError::Upstream { status: 0 };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    // It ends with the response, or when that is dropped.
    tokio::spawn(connection);
    match timeout(SILENCE, sender.send_request(request)).await {
        Ok(answer) => answer.map_err(unreachable),
        Err(_) => Err(InferenceError::Upstream { status: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_of_this_machine_are_taken() {
        let check = |text: &str, expected: Result<(), EndpointError>| {
            assert_eq!(text.parse::<Endpoint>().map(drop), expected, "{text}");
        };
        for text in ["http://127.0.0.1:8000/v1", "http://127.9.9.9/", "http://[::1]:80/v1/", "unix:/run/model.sock"] {
            check(text, Ok(()));
        }
        for text in [
            "http://10.0.0.1:8000/v1",
            "http://localhost:8000/v1",
            "http://example.org/v1",
            "http://0.0.0.0:1/v1",
            "http://[::ffff:127.0.0.1]/v1",
            "http://169.254.169.254/",
        ] {
            check(text, Err(EndpointError::NotLoopback));
        }
        for text in
            ["", "https://127.0.0.1/v1", "http://user@127.0.0.1/v1", "http://127.0.0.1/v1?x", "unix:socket", "/run/x"]
        {
            check(text, Err(EndpointError::Form));
        }
    }
}
