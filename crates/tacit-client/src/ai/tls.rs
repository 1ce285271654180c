//! TLS to a node whose certificate no public authority vouches for: its key is seen first, and believed once evidence names it.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring::default_provider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256};

/// Notes the key of the first connection and accepts no other one afterwards. Each handshake proves that the server holds it.
/// Who the key belongs to is not known from this: nothing may be sent before evidence has named the key.
#[derive(Debug)]
pub(super) struct FirstKey {
    seen: OnceLock<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl FirstKey {
    /// SHA-256 of the subject public key info that every connection so far has shown.
    pub(super) fn seen(&self) -> Option<[u8; 32]> {
        self.seen.get().copied()
    }

    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let found: [u8; 32] = Sha256::digest(parsed.subject_public_key_info()).into();
        if *self.seen.get_or_init(|| found) == found {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

/// A configuration for one node, TLS 1.3 alone, and what has seen its key.
///
/// # Errors
/// When the library does not speak TLS 1.3.
pub(super) fn client_config() -> Result<(ClientConfig, Arc<FirstKey>), rustls::Error> {
    let provider: Arc<CryptoProvider> = Arc::new(default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let first = Arc::new(FirstKey { seen: OnceLock::new(), algorithms });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&first) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    // One request for each connection at a time: giving one up closes its connection, which the node notices at once.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, first))
}

impl ServerCertVerifier for FirstKey {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken to nodes".to_owned()))
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
