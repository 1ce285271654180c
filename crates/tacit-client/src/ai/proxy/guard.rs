//! Who may ask the proxy.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Refusal;

/// Refuses callers without the key, and web pages.
pub(super) struct Guard {
    address: SocketAddr,
    /// SHA-256 of the key.
    key: Option<[u8; 32]>,
}

impl Guard {
    pub(super) fn new(address: SocketAddr, key: Option<Zeroizing<String>>) -> Self {
        Self { address, key: key.map(|key| Sha256::digest(key.trim()).into()) }
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let forbidden = |message: &str| Refusal::new(StatusCode::FORBIDDEN, "forbidden", message);
        // A name that an attacker's name server points here would make a web page's requests look like ours.
        if !text(header::HOST).is_some_and(|host| self.is_own(host)) {
            return Err(forbidden("the request is for another host"));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let host = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            let host = host.and_then(|uri| uri.authority().map(ToString::to_string));
            if !host.is_some_and(|host| self.is_local(&host)) {
                return Err(forbidden("web pages of other origins may not ask here"));
            }
        }
        let Some(key) = &self.key else { return Ok(()) };
        let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given.trim()).into();
        if bool::from(given.ct_eq(key)) {
            Ok(())
        } else {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", "the proxy's own key is needed"))
        }
    }

    /// Whether a `Host` names this proxy. One that listens elsewhere than on loopback has names that it does not know; there the key
    /// guards.
    fn is_own(&self, host: &str) -> bool {
        !self.address.ip().is_loopback() || self.is_local(host)
    }

    fn is_local(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let loopback = name.parse::<IpAddr>().map_or(name.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback());
        loopback && port == Some(self.address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, fields: &[(&'static str, &str)]) -> Option<u16> {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        guard.check(&HeaderMap::from_iter(fields)).err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn web_pages_and_other_hosts_are_refused_on_loopback() {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), None);
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"] {
            assert_eq!(check(&guard, &[("host", host)]), None, "{host}");
        }
        for host in ["", "example.com:8080", "127.0.0.1", "127.0.0.1:80", "localhost.example.com:8080", "10.0.0.1:8080"]
        {
            assert_eq!(check(&guard, &[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(check(&guard, &[]), Some(403));
        let with = |origin| check(&guard, &[("host", "127.0.0.1:8080"), ("origin", origin)]);
        assert_eq!(with("http://127.0.0.1:8080"), None);
        for origin in ["https://example.com", "null", "http://127.0.0.1:9", ""] {
            assert_eq!(with(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn a_key_is_demanded_where_there_is_one() {
        let guard = Guard::new("0.0.0.0:8080".parse().unwrap(), Some(Zeroizing::new("local\n".into())));
        let with = |authorization| check(&guard, &[("host", "box.lan:8080"), ("authorization", authorization)]);
        assert_eq!(with("Bearer local"), None);
        for wrong in ["", "Bearer", "Bearer other", "Basic local", "local"] {
            assert_eq!(with(wrong), Some(401), "{wrong}");
        }
    }
}
