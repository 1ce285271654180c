//! Certificate authorities of our own, P-384, for evidence that no vendor signed.

use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::DecodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SerialNumber,
};
use tacit_types::UnixTime;
use time::OffsetDateTime;

/// How a certificate is to be made; the defaults are good.
#[derive(Clone)]
pub struct Wish {
    pub name: String,
    /// `None` for a leaf.
    pub authority: Option<BasicConstraints>,
    pub usages: Vec<KeyUsagePurpose>,
    pub from: UnixTime,
    pub to: UnixTime,
    pub extensions: Vec<CustomExtension>,
    pub serial: u64,
}

impl Wish {
    pub fn authority(name: &str, from: UnixTime, to: UnixTime) -> Self {
        Self {
            name: name.to_owned(),
            authority: Some(BasicConstraints::Unconstrained),
            usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            from,
            to,
            extensions: vec![],
            serial: 7,
        }
    }

    pub fn leaf(name: &str, from: UnixTime, to: UnixTime) -> Self {
        let usages = vec![KeyUsagePurpose::DigitalSignature];
        Self { authority: None, usages, ..Self::authority(name, from, to) }
    }

    fn params(&self) -> CertificateParams {
        let date = |time: UnixTime| OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        (params.not_before, params.not_after) = (date(self.from), date(self.to));
        params.is_ca = self.authority.map_or(IsCa::ExplicitNoCa, IsCa::Ca);
        params.key_usages = self.usages.clone();
        params.custom_extensions = self.extensions.clone();
        params.serial_number = Some(SerialNumber::from(self.serial));
        params
    }
}

/// A certificate with its key.
pub struct Issued {
    pub der: Vec<u8>,
    params: CertificateParams,
    key: String,
}

impl Issued {
    pub fn root(wish: &Wish) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let params = wish.params();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), params, key: key.serialize_pem() }
    }

    /// A certificate under this one, for a new key.
    pub fn issue(&self, wish: &Wish) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        self.issue_for(wish, &key.serialize_pem())
    }

    /// A certificate under this one, for a key that exists.
    pub fn issue_for(&self, wish: &Wish, key: &str) -> Self {
        let params = wish.params();
        let issuer = Issuer::from_params(&self.params, KeyPair::from_pem(&self.key).unwrap());
        let certificate = params.signed_by(&KeyPair::from_pem(key).unwrap(), &issuer).unwrap();
        Self { der: certificate.der().to_vec(), params, key: key.to_owned() }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Signs with the certificate's key: r ‖ s.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        sign(&SigningKey::from_pkcs8_pem(&self.key).unwrap(), message)
    }
}

pub fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign(message);
    signature.to_bytes().to_vec()
}
