//! A node's own TLS key and the certificate that carries its statement.

use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tacit_types::UnixTime;
use tacit_types::keyset::TlsKey;
use tacit_verify::{MAX_STATEMENT, PeerStatement};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _, asn1::ObjectIdentifier, asn1::OctetStringRef};
use zeroize::Zeroizing;

use crate::PeerError;

/// The extension that carries a statement: an arc of our own below 2.25 (ITU-T X.667), an OCTET STRING with JSON.
pub const STATEMENT_OID: &str = "2.25.201928471.1";
const STATEMENT_ARCS: [u64; 4] = [2, 25, 201_928_471, 1];

/// Seconds by which a certificate is dated back, for peers whose clock is behind.
const BACKDATED: u64 = 300;
/// Most bytes of a peer's certificate that are looked at.
const MAX_CERTIFICATE: usize = MAX_STATEMENT + 4 * 1024;

/// A TLS key that was born here, wiped when dropped, and its certificate once there is evidence for it.
pub struct Identity {
    key: Zeroizing<Vec<u8>>,
    spki_sha256: [u8; 32],
    certificate: CertificateDer<'static>,
}

/// A fresh key that no certificate names yet: its digest goes into the keyset first, evidence over the keyset comes next.
pub struct NewKey {
    pair: KeyPair,
    key: Zeroizing<Vec<u8>>,
    spki_sha256: [u8; 32],
}

impl Identity {
    /// Makes a key.
    ///
    /// # Errors
    /// [`PeerError::Certificate`].
    pub fn generate() -> Result<NewKey, PeerError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PeerError::Certificate)?;
        let spki_sha256 = Sha256::digest(pair.subject_public_key_info()).into();
        Ok(NewKey { key: Zeroizing::new(pair.serialize_der()), pair, spki_sha256 })
    }

    /// SHA-256 of the key's subject public key info.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// The certificate, as every peer sees it.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(super) fn private_key(&self) -> &[u8] {
        &self.key
    }
}

impl NewKey {
    /// The line of the keyset that names this key.
    pub fn tls_key(&self) -> TlsKey {
        TlsKey { spki_sha256: hex::encode(self.spki_sha256), domain: None }
    }

    /// Puts a statement into a certificate for this key, valid until the keyset is over.
    ///
    /// # Errors
    /// [`PeerError::Certificate`], or [`PeerError::Answer`] for a statement that is too large or does not name the key.
    pub fn certify(self, statement: &PeerStatement, now: UnixTime) -> Result<Identity, PeerError> {
        let unfit = |what: &str| PeerError::Answer { service: "this node's own statement", what: what.to_owned() };
        if !statement.keyset.names_tls_key(self.spki_sha256) {
            return Err(unfit("a keyset that does not name the key"));
        }
        let content = serde_json::to_vec(statement).map_err(|_| unfit("no JSON form"))?;
        if content.len() > MAX_STATEMENT {
            return Err(unfit("more bytes than a handshake takes"));
        }
        let octets = OctetStringRef::new(&content).and_then(|octets| octets.to_der());
        let octets = octets.map_err(|_| unfit("no DER form"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tacit node");
        params.not_before = date(now.minus(BACKDATED));
        params.not_after = date(statement.keyset.not_after);
        params.custom_extensions.push(CustomExtension::from_oid_content(&STATEMENT_ARCS, octets));
        let certificate = params.self_signed(&self.pair).map_err(PeerError::Certificate)?;
        Ok(Identity { key: self.key, spki_sha256: self.spki_sha256, certificate: certificate.der().clone() })
    }
}

fn date(time: UnixTime) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).unwrap_or(i64::MAX))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// What a peer's certificate says, read strictly.
pub(super) struct Shown {
    pub(super) spki_sha256: [u8; 32],
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// The statement's bytes, if the certificate carries one.
    pub(super) statement: Option<Vec<u8>>,
}

impl Shown {
    /// Reads a certificate; `None` for anything that is not one of ours in form.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        if der.len() > MAX_CERTIFICATE {
            return None;
        }
        let certificate = Certificate::from_der(der).ok()?;
        let body = &certificate.tbs_certificate;
        let spki = body.subject_public_key_info.to_der().ok()?;
        let oid = ObjectIdentifier::new(STATEMENT_OID).ok()?;
        let mut carried = body.extensions.iter().flatten().filter(|extension| extension.extn_id == oid);
        let statement = carried.next().map(|extension| {
            OctetStringRef::from_der(extension.extn_value.as_bytes()).ok().map(|octets| octets.as_bytes().to_vec())
        });
        // Two statements, or one in another form, are none.
        let statement = match (statement, carried.next()) {
            (None, None) => None,
            (Some(Some(statement)), None) => Some(statement),
            _ => return None,
        };
        let seconds = |time: &x509_cert::time::Time| UnixTime(time.to_unix_duration().as_secs());
        Some(Self {
            spki_sha256: Sha256::digest(spki).into(),
            not_before: seconds(&body.validity.not_before),
            not_after: seconds(&body.validity.not_after),
            statement,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_comes_back_from_its_certificate() {
        let key = Identity::generate().unwrap();
        let keyset = tacit_types::keyset::Keyset {
            subject: None,
            not_after: UnixTime(1_800_000_000),
            receipt_signing_keys: vec![],
            e2ee_public_keys: vec![],
            tls_public_keys: vec![key.tls_key()],
        };
        let statement = PeerStatement { version: 1, keyset, nonce: None, evidence: "evidence".into() };
        let identity = key.certify(&statement, UnixTime(1_700_000_000)).unwrap();
        Certificate::from_der(identity.certificate()).unwrap();
        let shown = Shown::parse(identity.certificate()).unwrap();
        assert_eq!(shown.spki_sha256, identity.spki_sha256());
        assert_eq!((shown.not_before, shown.not_after), (UnixTime(1_699_999_700), UnixTime(1_800_000_000)));
        assert_eq!(PeerStatement::parse(&shown.statement.unwrap()).unwrap(), statement);
    }
}
