//! One exchange: check, resolve, check, connect, send, receive; again for each redirect.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use url::{Host, Url};

use super::{Egress, EgressError, address};
use crate::host::{FetchRequest, FetchResponse, Redirect};

/// Header fields that belong to the connection, which the author's code does not see.
const HOP: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) async fn run(egress: &Egress, request: FetchRequest) -> Result<FetchResponse, EgressError> {
    let timeout = egress.limits.timeout;
    let mut host = request.url.chars().take(256).collect::<String>();
    match tokio::time::timeout(timeout, follow(egress, request, &mut host)).await {
        Ok(result) => result,
        Err(_) => Err(EgressError::Timeout { host, seconds: timeout.as_secs() }),
    }
}

async fn follow(egress: &Egress, request: FetchRequest, current: &mut String) -> Result<FetchResponse, EgressError> {
    let limits = &egress.limits;
    let mut url = Url::parse(&request.url).map_err(|_| EgressError::Url(request.url.chars().take(256).collect()))?;
    let mut method =
        Method::from_bytes(request.method.as_bytes()).map_err(|_| EgressError::Request("the method is not a token"))?;
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(EgressError::Request("CONNECT and TRACE are not allowed"));
    }
    let mut headers = fields(&request.headers, limits)?;
    let mut body = request.body.unwrap_or_default();
    if body.len() > limits.request {
        return Err(EgressError::TooLarge { what: "the request's body", limit: limits.request });
    }
    let mut redirects = 0;
    loop {
        let target = Target::check(egress, &url)?;
        target.host.clone_into(current);
        let (status, answered, answer, server_key) = send(egress, &target, &url, &method, &headers, &body).await?;
        let location = if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            answered.get(LOCATION).cloned()
        } else {
            None
        };
        let (Some(location), true) = (location, request.redirect != Redirect::Manual) else {
            let headers = answered
                .iter()
                .filter(|(name, _)| !HOP.contains(&name.as_str()))
                .map(|(name, value)| (name.as_str().to_owned(), latin1(value)))
                .collect();
            return Ok(FetchResponse {
                status: status.as_u16(),
                headers,
                body: answer,
                url: url.into(),
                redirected: redirects > 0,
                server_key,
            });
        };
        if request.redirect == Redirect::Error {
            return Err(EgressError::Redirect("the request said that there must be none"));
        }
        redirects += 1;
        if redirects > limits.redirects {
            return Err(EgressError::Redirect("there are too many"));
        }
        let next = location
            .to_str()
            .ok()
            .and_then(|location| url.join(location).ok())
            .ok_or(EgressError::Redirect("it leads nowhere"))?;
        // Fetch standard, HTTP-redirect fetch: what a POST becomes, and what another origin must not see.
        let to_get = (status == StatusCode::SEE_OTHER && method != Method::HEAD)
            || (matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) && method == Method::POST);
        if to_get {
            method = Method::GET;
            body = Bytes::new();
            headers.remove(CONTENT_TYPE);
        }
        if next.origin() != url.origin() {
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
        }
        url = next;
    }
}

/// A host that the manifest allows.
struct Target {
    host: String,
    literal: Option<std::net::IpAddr>,
}

impl Target {
    fn check(egress: &Egress, url: &Url) -> Result<Self, EgressError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        if url.scheme() != "https" {
            return Err(EgressError::Scheme(format!("{}://{host}", url.scheme())));
        }
        let (name, literal) = match url.host() {
            Some(Host::Domain(domain)) => (domain.trim_end_matches('.').to_owned(), None),
            Some(Host::Ipv4(address)) => (host.clone(), Some(address.into())),
            Some(Host::Ipv6(address)) => (host.clone(), Some(address.into())),
            None => return Err(EgressError::Url(url.as_str().chars().take(256).collect())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Credentials(name));
        }
        if let Some(port) = url.port() {
            return Err(EgressError::Port { host: name, port });
        }
        // The address first: no line in a manifest would help, so none is named.
        if let Some(reason) = literal.and_then(address::refusal) {
            return Err(EgressError::Address { address: literal.expect("it was refused"), host: name, reason });
        }
        egress.allow.check(&name)?;
        Ok(Self { host: name, literal })
    }

    /// The addresses of the host; refused as a whole if one of them is.
    async fn addresses(&self, egress: &Egress) -> Result<Vec<std::net::IpAddr>, EgressError> {
        let addresses = match self.literal {
            Some(address) => vec![address],
            None => egress
                .network
                .resolve(&self.host)
                .await
                .map_err(|source| EgressError::Resolve { host: self.host.clone(), source })?,
        };
        for &address in &addresses {
            if let Some(reason) = address::refusal(address) {
                return Err(EgressError::Address { host: self.host.clone(), address, reason });
            }
        }
        if addresses.is_empty() {
            return Err(EgressError::Resolve { host: self.host.clone(), source: std::io::Error::other("no address") });
        }
        Ok(addresses)
    }
}

type Answer = (StatusCode, HeaderMap, Bytes, [u8; 32]);

async fn send(
    egress: &Egress,
    target: &Target,
    url: &Url,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Answer, EgressError> {
    let host = &target.host;
    let mut connection = Err(EgressError::Connect { host: host.clone(), source: std::io::Error::other("no address") });
    for address in target.addresses(egress).await?.into_iter().take(4) {
        connection = egress
            .network
            .connect(host.trim_start_matches('[').trim_end_matches(']'), address)
            .await
            .map_err(|source| EgressError::Connect { host: host.clone(), source });
        if connection.is_ok() {
            break;
        }
    }
    let (stream, server_key) = connection?;
    let broken = |source| EgressError::Http { host: host.clone(), source };
    let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
        .max_headers(egress.limits.header_count)
        .max_buf_size(egress.limits.headers.max(8192))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let _driver = Driver(tokio::spawn(driver));
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut request = http::Request::new(Full::new(body.clone()));
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().map_err(|_| EgressError::Request("the path cannot be sent"))?;
    *request.headers_mut() = headers.clone();
    let fields = request.headers_mut();
    fields.insert(
        HOST,
        HeaderValue::from_str(url.host_str().unwrap_or_default())
            .map_err(|_| EgressError::Request("the host cannot be sent"))?,
    );
    fields.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    fields.entry(USER_AGENT).or_insert(HeaderValue::from_static("tacit"));
    if !body.is_empty() || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        fields.insert(CONTENT_LENGTH, body.len().into());
    }
    let response = sender.send_request(request).await.map_err(broken)?;
    let (parts, incoming) = response.into_parts();
    let limit = egress.limits.response;
    let answer =
        Limited::new(incoming, limit).collect().await.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(source) => broken(*source),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                EgressError::TooLarge { what: "the response's body", limit }
            }
        })?;
    Ok((parts.status, parts.headers, answer.to_bytes(), server_key))
}

/// The task that drives a connection; it ends with the exchange.
struct Driver(tokio::task::JoinHandle<Result<(), hyper::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn fields(list: &[(String, String)], limits: &super::EgressLimits) -> Result<HeaderMap, EgressError> {
    if list.len() > limits.header_count {
        return Err(EgressError::TooLarge { what: "the number of header fields", limit: limits.header_count });
    }
    if list.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > limits.headers {
        return Err(EgressError::TooLarge { what: "the request's header", limit: limits.headers });
    }
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| EgressError::Request("a header field's name is not a token"))?;
        if HOP.contains(&name.as_str()) || name == http::header::ACCEPT_ENCODING {
            continue;
        }
        let bytes: Vec<u8> = value
            .chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect::<Result<_, _>>()
            .map_err(|_| EgressError::Request("a header field's value is not Latin-1"))?;
        headers.append(
            name,
            HeaderValue::from_bytes(&bytes)
                .map_err(|_| EgressError::Request("a header field's value holds a control character"))?,
        );
    }
    Ok(headers)
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|&byte| char::from(byte)).collect()
}
