//! Who may be at the other end.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tacit_attest::Policy;
use tacit_types::{KeysetDigest, UnixTime, keyset::Keyset};
use tacit_verify::{PeerStatement, VerifyError, verify_peer};

use super::{certificate::Shown, time_of};
use crate::CollateralCache;

/// Most peers that are kept.
const MOST: usize = 65_536;

/// Peers that are known by their keyset: certified workers, gatekeepers of the set.
#[derive(Clone, Default)]
pub struct Peers {
    by_key: Arc<RwLock<HashMap<[u8; 32], Peer>>>,
}

/// A known peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The digest of its keyset.
    pub keyset: KeysetDigest,
    /// The last second at which it counts.
    pub until: UnixTime,
}

impl Peers {
    /// Knows the TLS keys of a keyset until a time, or for longer if they are known already. False if there is no more room.
    pub fn admit(&self, keyset: &Keyset, digest: KeysetDigest, until: UnixTime) -> bool {
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        keyset.tls_public_keys.iter().all(|key| {
            let Some(spki) = hex::decode(&key.spki_sha256).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            else {
                return false;
            };
            let room = by_key.len() < MOST || by_key.contains_key(&spki);
            if room {
                by_key.insert(spki, Peer { keyset: digest, until });
            }
            room
        })
    }

    /// Forgets a keyset: a revoked worker's next connection is refused.
    pub fn remove(&self, keyset: KeysetDigest) {
        self.by_key.write().unwrap_or_else(PoisonError::into_inner).retain(|_, peer| peer.keyset != keyset);
    }

    /// Forgets who is over at `now`.
    pub fn prune(&self, now: UnixTime) {
        self.by_key.write().unwrap_or_else(PoisonError::into_inner).retain(|_, peer| now <= peer.until);
    }

    /// The peer with this key, if it counts at `now`.
    pub fn find(&self, spki_sha256: [u8; 32], now: UnixTime) -> Option<Peer> {
        let peer = self.by_key.read().unwrap_or_else(PoisonError::into_inner).get(&spki_sha256).copied();
        peer.filter(|peer| now <= peer.until)
    }
}

/// Whom an end of a connection believes.
#[derive(Clone)]
pub enum Trust {
    /// Known peers alone.
    Known(Peers),
    /// Known peers, and whoever brings evidence that the policy accepts: for those who have no certificate yet. Collateral comes from
    /// the cache as it is; fetching it is done before, never inside a handshake.
    Attested {
        /// Known peers.
        peers: Peers,
        /// What the evidence is judged by.
        policy: Arc<Policy>,
        /// What it is checked with.
        collateral: CollateralCache,
    },
}

/// Why a handshake was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// More than one certificate.
    #[error("the peer shows a chain; one certificate is expected")]
    Chain,
    /// The certificate has no form of ours.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// It is not valid now.
    #[error("the peer's certificate is not valid now")]
    Dates,
    /// Its key is unknown.
    #[error("the peer's key is not that of a certified node")]
    Unknown,
    /// It is unknown and shows no evidence.
    #[error("the peer is unknown and its certificate carries no evidence")]
    NoStatement,
    /// The evidence cannot be checked with what is kept.
    #[error("no collateral is kept for the peer's evidence")]
    NoCollateral,
    /// The evidence does not hold.
    #[error("the peer's evidence: {0}")]
    Evidence(VerifyError),
}

impl Trust {
    /// Judges the certificates that a peer shows, and says who it is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn judge(&self, shown: &[CertificateDer<'_>], now: UnixTime) -> Result<Peer, Refused> {
        let [certificate] = shown else { return Err(Refused::Chain) };
        let shown = Shown::parse(certificate).ok_or(Refused::Unreadable)?;
        if now < shown.not_before || now > shown.not_after {
            return Err(Refused::Dates);
        }
        let peers = match self {
            Self::Known(peers) | Self::Attested { peers, .. } => peers,
        };
        if let Some(peer) = peers.find(shown.spki_sha256, now) {
            return Ok(peer);
        }
        let Self::Attested { policy, collateral, .. } = self else { return Err(Refused::Unknown) };
        let statement =
            PeerStatement::parse(&shown.statement.ok_or(Refused::NoStatement)?).map_err(Refused::Evidence)?;
        let evidence = statement.evidence().map_err(Refused::Evidence)?;
        let collateral = collateral.kept(&evidence, now).ok_or(Refused::NoCollateral)?;
        let verified =
            verify_peer(&statement, shown.spki_sha256, &collateral, policy, now).map_err(Refused::Evidence)?;
        Ok(Peer { keyset: verified.digest(), until: verified.evidence().collateral_expires() })
    }
}

/// [`Trust`] as rustls asks for it.
pub(super) struct PeerVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(super) fn new(trust: Trust, provider: &CryptoProvider) -> Self {
        Self { trust, algorithms: provider.signature_verification_algorithms }
    }

    fn judge(
        &self,
        end: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<(), rustls::Error> {
        let result = if rest.is_empty() {
            self.trust.judge(std::slice::from_ref(end), time_of(now)).map(drop)
        } else {
            Err(Refused::Chain)
        };
        result.map_err(|refused| CertificateError::Other(OtherError(Arc::new(refused))).into())
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PeerVerifier")
    }
}

/// Only TLS 1.3 is spoken: its predecessor's signatures are never asked about.
fn only_tls13() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken between nodes".to_owned())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end, rest, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end, rest, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
