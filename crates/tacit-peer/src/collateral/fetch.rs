//! One answer of one service: bounded in size and time, in the shape that the vendor documents.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use tacit_attest::{AmdCollateral, Collateral, HardwareClass, IntelCollateral, IntelParts, PckAuthority, ReportedTcb};
use tacit_types::eip712::Platform;
use url::Url;

use super::Endpoints;
use crate::PeerError;

/// Most bytes of one answer.
pub(super) const LIMIT: usize = 1 << 20;
const CONNECT: Duration = Duration::from_secs(5);

const PCCS: &str = "Intel's collateral service";
const KDS: &str = "AMD's key distribution service";
const RIM: &str = "NVIDIA's manifest service";
const OCSP: &str = "NVIDIA's certificate status service";

/// Which edition of Intel's TCB documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Update {
    /// The one that verifiers go by.
    Standard,
    /// The one that will become it: what is short today under this one falls out then.
    Early,
}

impl Update {
    const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Early => "early",
        }
    }
}

/// Asks the vendors' services.
pub(super) struct Fetcher {
    endpoints: Endpoints,
    client: reqwest::Client,
}

/// An answer's body, and the header asked for.
struct Answer {
    body: Vec<u8>,
    chain: Option<String>,
}

impl Fetcher {
    pub(super) fn new(endpoints: Endpoints, patience: Duration) -> Result<Self, PeerError> {
        // A provider that the program chose before stays; only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(patience)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(PeerError::Client)?;
        Ok(Self { endpoints, client })
    }

    /// What SGX and TDX quotes of one platform family are checked with.
    pub(super) async fn intel(
        &self,
        platform: Platform,
        fmspc: [u8; 6],
        authority: PckAuthority,
        update: Update,
    ) -> Result<Collateral, PeerError> {
        let tee = if platform == Platform::Sgx { "sgx" } else { "tdx" };
        let (fmspc, update) = (hex::encode_upper(fmspc), update.name());
        let ask = |path: String, headers: &'static [&'static str]| async move {
            let url = join(&self.endpoints.pccs, PCCS, &path)?;
            self.get(PCCS, url, headers).await
        };
        let crl = ask(
            format!("sgx/certification/v4/pckcrl?ca={}&encoding=der", authority.name()),
            &["SGX-PCK-CRL-Issuer-Chain"],
        )
        .await?;
        let tcb = ask(
            format!("{tee}/certification/v4/tcb?fmspc={fmspc}&update={update}"),
            &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"],
        )
        .await?;
        let identity =
            ask(format!("{tee}/certification/v4/qe/identity?update={update}"), &["SGX-Enclave-Identity-Issuer-Chain"])
                .await?;
        let root_crl = self.get(PCCS, self.endpoints.intel_root_crl.clone(), &[]).await?.body;
        let (tcb_info, tcb_info_signature) = signed_document(&tcb.body, "tcbInfo")?;
        let (qe_identity, qe_identity_signature) = signed_document(&identity.body, "enclaveIdentity")?;
        let parts = IntelParts {
            pck_crl_issuer_chain: issuer_chain(crl.chain)?,
            root_ca_crl: der_or_hex(root_crl)?,
            pck_crl: der_or_hex(crl.body)?,
            tcb_info_issuer_chain: issuer_chain(tcb.chain)?,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain: issuer_chain(identity.chain)?,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        };
        Ok(Collateral::Intel(Box::new(IntelCollateral::from(parts))))
    }

    /// The certificates of one AMD chip at one TCB, and the revocation list of its generation.
    pub(super) async fn amd(
        &self,
        class: HardwareClass,
        hardware_id: &[u8],
        tcb: ReportedTcb,
    ) -> Result<Collateral, PeerError> {
        let product = match class {
            HardwareClass::EpycMilan => "Milan",
            HardwareClass::EpycGenoa => "Genoa",
            HardwareClass::EpycTurin => "Turin",
            _ => return Err(PeerError::NotPublished("collateral of this kind of hardware")),
        };
        let fmc = tcb.fmc.map_or_else(String::new, |fmc| format!("fmcSPL={fmc:02}&"));
        let path = format!(
            "vcek/v1/{product}/{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            hex::encode(hardware_id),
            tcb.bootloader,
            tcb.tee,
            tcb.snp,
            tcb.microcode
        );
        let vcek = self.get(KDS, join(&self.endpoints.kds, KDS, &path)?, &[]).await?.body;
        let chain = self.get(KDS, join(&self.endpoints.kds, KDS, &format!("vcek/v1/{product}/cert_chain"))?, &[]);
        let chain = chain.await?.body;
        let ask = first_certificate(&chain)?;
        let crl = self.get(KDS, join(&self.endpoints.kds, KDS, &format!("vcek/v1/{product}/crl"))?, &[]).await?.body;
        Ok(Collateral::Amd(Box::new(AmdCollateral::new(ask, vcek).with_crl(crl))))
    }

    /// A reference manifest by its name.
    pub(super) async fn rim(&self, id: &str) -> Result<Vec<u8>, PeerError> {
        #[derive(Deserialize)]
        struct Manifest {
            id: String,
            rim: String,
        }
        let answer = self.get(RIM, join(&self.endpoints.rim, RIM, &format!("v1/rim/{id}"))?, &[]).await?;
        let manifest: Manifest = serde_json::from_slice(&answer.body).map_err(|_| wrong(RIM, "no manifest in JSON"))?;
        if manifest.id != id {
            return Err(wrong(RIM, "another manifest than asked for"));
        }
        BASE64_STANDARD.decode(manifest.rim).map_err(|_| wrong(RIM, "a manifest that is not base64"))
    }

    /// The responder's answer to a certificate status request (both DER).
    pub(super) async fn certificate_status(&self, request: Vec<u8>) -> Result<Vec<u8>, PeerError> {
        let request = self
            .client
            .post(self.endpoints.ocsp.clone())
            .header("content-type", "application/ocsp-request")
            .body(request);
        Ok(self.answer(OCSP, request, &[]).await?.body)
    }

    async fn get(&self, service: &'static str, url: Url, headers: &[&str]) -> Result<Answer, PeerError> {
        self.answer(service, self.client.get(url), headers).await
    }

    async fn answer(
        &self,
        service: &'static str,
        request: reqwest::RequestBuilder,
        headers: &[&str],
    ) -> Result<Answer, PeerError> {
        let failed = |source: reqwest::Error| PeerError::Unreachable { service, source: source.without_url() };
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(PeerError::Status { service, status: response.status().as_u16() });
        }
        let header = |name: &&str| response.headers().get(*name).and_then(|value| value.to_str().ok());
        let chain = headers.iter().find_map(header).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LIMIT {
                return Err(PeerError::Oversized { service, limit: LIMIT });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { body, chain })
    }
}

fn wrong(service: &'static str, what: impl Into<String>) -> PeerError {
    PeerError::Answer { service, what: what.into() }
}

/// An address below a base, which may have a path of its own.
fn join(base: &Url, service: &'static str, path: &str) -> Result<Url, PeerError> {
    let base = base.as_str().trim_end_matches('/');
    Url::parse(&format!("{base}/{path}")).map_err(|_| wrong(service, "an address that cannot be"))
}

/// Takes the signed document out of its envelope in exactly the bytes that are signed: parsing it and writing it again would
/// put its members in another order.
fn signed_document(body: &[u8], member: &'static str) -> Result<(String, Vec<u8>), PeerError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, alias = "enclaveIdentity", alias = "tcbInfo")]
        document: &'a RawValue,
        signature: &'a str,
    }
    let malformed = || wrong(PCCS, format!("no {member} with its signature"));
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|_| malformed())?;
    let signature = hex::decode(envelope.signature).map_err(|_| malformed())?;
    Ok((envelope.document.get().to_owned(), signature))
}

/// Certificates in PEM, as a header carries them: percent-encoded.
fn issuer_chain(header: Option<String>) -> Result<String, PeerError> {
    let encoded = header.ok_or_else(|| wrong(PCCS, "no issuer chain"))?;
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let pair = [bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default()];
                *hex::decode(pair)
                    .ok()
                    .and_then(|bytes| bytes.first().copied())
                    .as_ref()
                    .ok_or_else(|| wrong(PCCS, "an issuer chain that is not percent-encoded"))?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| wrong(PCCS, "an issuer chain that is not text"))
}

/// A revocation list in DER: Intel's service sends DER, a PCCS sends hex, some send PEM.
fn der_or_hex(body: Vec<u8>) -> Result<Vec<u8>, PeerError> {
    if body.first() == Some(&0x30) && body.get(1).is_some_and(|length| *length >= 0x80) {
        return Ok(body);
    }
    let text = std::str::from_utf8(&body).map_err(|_| wrong(PCCS, "a revocation list in an unknown form"))?.trim();
    if let Some(rest) = text.strip_prefix("-----BEGIN X509 CRL-----") {
        let digits: String = rest.split("-----END").next().unwrap_or_default().split_ascii_whitespace().collect();
        return BASE64_STANDARD.decode(digits).map_err(|_| wrong(PCCS, "a revocation list that is not base64"));
    }
    hex::decode(text.trim_matches('"')).map_err(|_| wrong(PCCS, "a revocation list in an unknown form"))
}

/// The first certificate of a PEM text, in DER.
fn first_certificate(pem: &[u8]) -> Result<Vec<u8>, PeerError> {
    let text = std::str::from_utf8(pem).map_err(|_| wrong(KDS, "a chain that is not text"))?;
    let body = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"))
        .ok_or_else(|| wrong(KDS, "no certificate"))?
        .0;
    let digits: String = body.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(digits).map_err(|_| wrong(KDS, "a certificate that is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_documents_keep_every_byte() {
        let body = br#"{"tcbInfo":{"b":1, "a" :[2 ]},"signature":"0aff"}"#;
        let (document, signature) = signed_document(body, "tcbInfo").unwrap();
        assert_eq!((document.as_str(), signature.as_slice()), (r#"{"b":1, "a" :[2 ]}"#, [0x0a, 0xff].as_slice()));
        assert!(signed_document(br#"{"tcbInfo":{}}"#, "tcbInfo").is_err());
        assert!(signed_document(br#"{"tcbInfo":{},"signature":"xyz"}"#, "tcbInfo").is_err());
    }

    #[test]
    fn revocation_lists_come_in_three_forms() {
        let der = [&[0x30, 0x82, 0, 1][..], &[7]].concat();
        let check = |body: &[u8], expected: Option<&[u8]>| {
            assert_eq!(der_or_hex(body.to_vec()).ok().as_deref(), expected);
        };
        check(&der, Some(&der));
        check(hex::encode(&der).as_bytes(), Some(&der));
        let pem = format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", BASE64_STANDARD.encode(&der));
        check(pem.as_bytes(), Some(&der));
        check(b"<html>", None);
        check(&[0xff, 0xfe], None);
    }

    #[test]
    fn issuer_chains_are_percent_encoded() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(issuer_chain(Some(text.to_owned())).ok().as_deref(), expected);
        };
        check("-----BEGIN%20A-----%0AMI%2B%2F", Some("-----BEGIN A-----\nMI+/"));
        check("%2", None);
        check("%zz", None);
        check("%ff", None);
        assert!(issuer_chain(None).is_err());
    }
}
