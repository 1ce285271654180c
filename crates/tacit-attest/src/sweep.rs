//! Changing signed bytes one at a time: every change must be refused.

use std::ops::Range;

use tacit_types::UnixTime;

use crate::evidence::{Collateral, IntelCollateral};
use crate::{AttestError, Evidence, Platform, Policy, amd_report, der, intel, verify};

/// How far a sweep goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The quote or report itself: what the hardware signed, and the signatures.
    Document,
    /// Besides, every certificate, revocation list, TCB info and identity that the verdict rests on.
    Everything,
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Bytes that were changed, one at a time.
    pub tried: usize,
    /// Changes that were refused.
    pub refused: usize,
    /// Changes that were accepted: part and offset. Empty, or a check is missing.
    pub accepted: Vec<(&'static str, usize)>,
}

impl Sweep {
    /// Adds another sweep's counts.
    pub fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.refused += other.refused;
        self.accepted.extend(other.accepted);
    }
}

/// Flips the lowest bit of every signed byte, one at a time, and verifies each result under the same policy at the same time.
///
/// # Errors
/// What [`verify`] says about the unchanged evidence: a sweep of evidence that is refused anyway would prove nothing.
pub fn sweep(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    now: UnixTime,
    scope: Scope,
) -> Result<Sweep, AttestError> {
    let parts = parts(evidence, collateral, scope)?;
    // Rewriting a part with its own bytes must change nothing, or the refusals below would be about the rewriting.
    verify(evidence, collateral, policy, now)?;
    let mut result = Sweep::default();
    for part in &parts {
        let original = part.bytes(evidence, collateral)?;
        let (same_evidence, same_collateral) = part.replaced(evidence, collateral, original.clone())?;
        verify(&same_evidence, &same_collateral, policy, now)?;
        for offset in 0..original.len() {
            let mut changed = original.clone();
            changed[offset] ^= 1;
            result.tried += 1;
            let refused = match part.replaced(evidence, collateral, changed) {
                Ok((evidence, collateral)) => verify(&evidence, &collateral, policy, now).is_err(),
                Err(_) => true,
            };
            if refused {
                result.refused += 1;
            } else {
                result.accepted.push((part.name, offset));
            }
        }
    }
    Ok(result)
}

/// Flips the lowest bit of every byte of `bytes`, one at a time; `refused` says whether the result was refused.
///
/// For evidence that [`sweep`] does not know: reports of GPUs, reference manifests.
pub fn flip_each(name: &'static str, bytes: &[u8], mut refused: impl FnMut(Vec<u8>) -> bool) -> Sweep {
    let mut result = Sweep::default();
    for offset in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[offset] ^= 1;
        result.tried += 1;
        if refused(changed) {
            result.refused += 1;
        } else {
            result.accepted.push((name, offset));
        }
    }
    result
}

/// A run of bytes that some signature covers, or that is one.
struct Part {
    name: &'static str,
    place: Place,
}

/// Where a part lies.
#[derive(Clone)]
enum Place {
    Document(Range<usize>),
    Certificate(Chain, usize),
    RootCrl,
    PckCrl,
    TcbInfo,
    TcbInfoSignature,
    QeIdentity,
    QeIdentitySignature,
    Ask,
    Vcek,
    AmdCrl,
}

/// A chain of certificates in PEM.
#[derive(Clone, Copy)]
enum Chain {
    Pck,
    PckCrl,
    TcbInfo,
    QeIdentity,
}

fn parts(evidence: &Evidence, collateral: &Collateral, scope: Scope) -> Result<Vec<Part>, AttestError> {
    let mut parts: Vec<Part> = document_ranges(evidence)?
        .into_iter()
        .map(|(name, range)| Part { name, place: Place::Document(range) })
        .collect();
    if scope == Scope::Document {
        return Ok(parts);
    }
    match collateral {
        Collateral::Nitro(_) => {}
        Collateral::Amd(amd) => {
            parts.push(Part { name: "VCEK certificate", place: Place::Vcek });
            parts.push(Part { name: "ASK certificate", place: Place::Ask });
            if amd.crl.is_some() {
                parts.push(Part { name: "AMD CRL", place: Place::AmdCrl });
            }
        }
        Collateral::Intel(collateral) => {
            parts.extend([
                Part { name: "root CRL", place: Place::RootCrl },
                Part { name: "PCK CRL", place: Place::PckCrl },
                Part { name: "TCB info", place: Place::TcbInfo },
                Part { name: "TCB info signature", place: Place::TcbInfoSignature },
                Part { name: "QE identity", place: Place::QeIdentity },
                Part { name: "QE identity signature", place: Place::QeIdentitySignature },
            ]);
            for (name, chain) in [
                ("PCK chain", Chain::Pck),
                ("PCK CRL chain", Chain::PckCrl),
                ("TCB info chain", Chain::TcbInfo),
                ("QE identity chain", Chain::QeIdentity),
            ] {
                let length = chain.certificates(evidence, collateral)?.len();
                parts.extend((0..length).map(|index| Part { name, place: Place::Certificate(chain, index) }));
            }
        }
    }
    Ok(parts)
}

/// The signed ranges of a quote or report, and its signatures.
fn document_ranges(evidence: &Evidence) -> Result<Vec<(&'static str, Range<usize>)>, AttestError> {
    if evidence.platform() == Platform::SevSnp {
        return Ok(vec![
            ("report", 0..amd_report::SIGNED),
            ("report signature", amd_report::SIGNED..amd_report::REPORT),
        ]);
    }
    if evidence.platform() == Platform::Nitro {
        // One COSE structure, certificates included: no byte of it is free.
        return Ok(vec![("Nitro document", 0..evidence.document().len())]);
    }
    let quote = intel::parse_quote(evidence.platform(), evidence.document())?;
    let signed = quote.signed_length();
    let signature = signed + 4;
    let key = signature + 64;
    // Versions 4 and 5 wrap what follows into one more type and length.
    let qe_report = key + 64 + if evidence.platform() == Platform::Tdx { 6 } else { 0 };
    let qe_signature = qe_report + 384;
    let qe_data = qe_signature + 64 + 2;
    let qe_data_length = match quote.auth_data {
        dcap_qvl::quote::AuthData::V3(data) => data.qe_auth_data.data.len(),
        dcap_qvl::quote::AuthData::V4(data) => data.qe_report_data.qe_auth_data.data.len(),
    };
    Ok(vec![
        ("header and report", 0..signed),
        ("quote signature", signature..key),
        ("attestation key", key..key + 64),
        ("QE report", qe_report..qe_signature),
        ("QE report signature", qe_signature..qe_signature + 64),
        ("QE authentication data", qe_data..qe_data + qe_data_length),
    ])
}

impl Chain {
    fn certificates(self, evidence: &Evidence, collateral: &IntelCollateral) -> Result<Vec<Vec<u8>>, AttestError> {
        let pem = match self {
            Self::Pck => {
                let quote = intel::parse_quote(evidence.platform(), evidence.document())?;
                return intel::pck_chain(&quote, collateral);
            }
            Self::PckCrl => &collateral.pck_crl_issuer_chain,
            Self::TcbInfo => &collateral.tcb_info_issuer_chain,
            Self::QeIdentity => &collateral.qe_identity_issuer_chain,
        };
        der::certificates_in_pem("certificate chain", pem.as_bytes())
    }

    fn replace(self, collateral: &mut IntelCollateral, certificates: &[Vec<u8>]) {
        let pem = der::certificates_to_pem(certificates);
        match self {
            // A chain in the collateral takes the place of the quote's own.
            Self::Pck => collateral.pck_certificate_chain = Some(pem),
            Self::PckCrl => collateral.pck_crl_issuer_chain = pem,
            Self::TcbInfo => collateral.tcb_info_issuer_chain = pem,
            Self::QeIdentity => collateral.qe_identity_issuer_chain = pem,
        }
    }
}

impl Part {
    fn bytes(&self, evidence: &Evidence, collateral: &Collateral) -> Result<Vec<u8>, AttestError> {
        Ok(match (&self.place, collateral) {
            (Place::Document(range), _) => evidence.document()[range.clone()].to_vec(),
            (Place::Ask, Collateral::Amd(amd)) => amd.ask.clone(),
            (Place::Vcek, Collateral::Amd(amd)) => amd.vcek.clone(),
            (Place::AmdCrl, Collateral::Amd(amd)) => amd.crl.clone().unwrap_or_default(),
            (Place::Certificate(chain, index), Collateral::Intel(intel)) => {
                chain.certificates(evidence, intel)?.swap_remove(*index)
            }
            (Place::RootCrl, Collateral::Intel(intel)) => intel.root_ca_crl.clone(),
            (Place::PckCrl, Collateral::Intel(intel)) => intel.pck_crl.clone(),
            (Place::TcbInfo, Collateral::Intel(intel)) => intel.tcb_info.clone().into_bytes(),
            (Place::TcbInfoSignature, Collateral::Intel(intel)) => intel.tcb_info_signature.clone(),
            (Place::QeIdentity, Collateral::Intel(intel)) => intel.qe_identity.clone().into_bytes(),
            (Place::QeIdentitySignature, Collateral::Intel(intel)) => intel.qe_identity_signature.clone(),
            (_, other) => return Err(mismatch(evidence, other)),
        })
    }

    fn replaced(
        &self,
        evidence: &Evidence,
        collateral: &Collateral,
        bytes: Vec<u8>,
    ) -> Result<(Evidence, Collateral), AttestError> {
        let mut collateral = collateral.clone();
        match (&self.place, &mut collateral) {
            (Place::Document(range), _) => {
                let mut document = evidence.document().to_vec();
                document[range.clone()].copy_from_slice(&bytes);
                return Ok((evidence.with_document(document)?, collateral));
            }
            (Place::Ask, Collateral::Amd(amd)) => amd.ask = bytes,
            (Place::Vcek, Collateral::Amd(amd)) => amd.vcek = bytes,
            (Place::AmdCrl, Collateral::Amd(amd)) => amd.crl = Some(bytes),
            (Place::Certificate(chain, index), Collateral::Intel(intel)) => {
                let mut certificates = chain.certificates(evidence, intel)?;
                certificates[*index] = bytes;
                chain.replace(intel, &certificates);
            }
            (Place::RootCrl, Collateral::Intel(intel)) => intel.root_ca_crl = bytes,
            (Place::PckCrl, Collateral::Intel(intel)) => intel.pck_crl = bytes,
            (Place::TcbInfo, Collateral::Intel(intel)) => intel.tcb_info = text(bytes)?,
            (Place::TcbInfoSignature, Collateral::Intel(intel)) => intel.tcb_info_signature = bytes,
            (Place::QeIdentity, Collateral::Intel(intel)) => intel.qe_identity = text(bytes)?,
            (Place::QeIdentitySignature, Collateral::Intel(intel)) => intel.qe_identity_signature = bytes,
            (_, other) => return Err(mismatch(evidence, other)),
        }
        Ok((evidence.clone(), collateral))
    }
}

fn mismatch(evidence: &Evidence, collateral: &Collateral) -> AttestError {
    AttestError::CollateralMismatch { evidence: evidence.platform().name(), collateral: collateral.name() }
}

fn text(bytes: Vec<u8>) -> Result<String, AttestError> {
    String::from_utf8(bytes).map_err(|_| AttestError::Malformed { what: "JSON document", detail: "not UTF-8".into() })
}
