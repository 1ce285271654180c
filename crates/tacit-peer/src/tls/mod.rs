//! Attested TLS 1.3: both ends show a certificate whose key is bound to a keyset, and the keyset to evidence.

mod certificate;
mod trust;

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, client::Resumption, pki_types::PrivatePkcs8KeyDer, version::TLS13};
use tacit_types::UnixTime;

pub use certificate::{Identity, NewKey, STATEMENT_OID};
pub use trust::{Peer, Peers, Refused, Trust};

use crate::PeerError;
use trust::PeerVerifier;

/// The server's end: TLS 1.3 alone, a certificate of the client required, no tickets that would stand for one later.
///
/// # Errors
/// [`PeerError::Tls`] or [`PeerError::Certificate`].
pub fn server_config(identity: &Identity, trust: Trust) -> Result<ServerConfig, PeerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(PeerVerifier::new(trust, &provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(PeerError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), private_key(identity))
        .map_err(PeerError::Tls)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// The client's end: TLS 1.3 alone, its certificate always shown, no resumption.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(identity: &Identity, trust: Trust) -> Result<ClientConfig, PeerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(PeerVerifier::new(trust, &provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(PeerError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain(), private_key(identity))
        .map_err(PeerError::Tls)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn private_key(identity: &Identity) -> rustls::pki_types::PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.private_key().to_vec()).into()
}

fn time_of(now: rustls::pki_types::UnixTime) -> UnixTime {
    UnixTime(now.as_secs())
}
