//! Quotes of a simulated trust domain: DCAP version 4 with a TDX 1.0 report, byte for byte in Intel's layout.

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::Registers;

/// Processor family of every simulated chip: `SIM` and zeros.
pub(crate) const FMSPC: [u8; 6] = *b"SIM\0\0\0";
/// Security versions of every simulated chip.
pub(crate) const CPU_SVN: [u8; 16] = [2, 2, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const PCE_SVN: u8 = 11;
pub(crate) const PCE_ID: [u8; 2] = [0, 0];
/// The simulated TDX module: version 1, so that TCB info judges it by its identity `TDX_01`.
pub(crate) const MODULE_ISVSVN: u8 = 5;
pub(crate) const MODULE_MRSIGNER: [u8; 48] = *b"SIMULATED TDX module signer - not Intel's module";
/// The simulated quoting enclave.
pub(crate) const QE_MRSIGNER: [u8; 32] = *b"SIMULATED QE signer - not Intel!";
pub(crate) const QE_ISVPRODID: u16 = 2;
pub(crate) const QE_ISVSVN: u16 = 4;

/// Intel's number for its quoting enclave; verifiers refuse any other.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const TEE_TYPE_TDX: u32 = 0x81;
/// SEPT_VE_DISABLE, bit 28, and nothing else: no debugging, no migration.
const TD_ATTRIBUTES: u64 = 1 << 28;
/// State components of a usual Linux guest.
const XFAM: u64 = 0x0006_1ae7;

/// What signs the quotes of one machine.
pub(crate) struct QuotingEnclave {
    attestation_key: SigningKey,
    authentication_data: [u8; 32],
    report: Vec<u8>,
    report_signature: Signature,
    pck_chain: String,
}

impl QuotingEnclave {
    /// Starts a quoting enclave: a new attestation key, certified by the chip's key.
    pub(crate) fn start(pck_key: &SigningKey, pck_chain: String) -> Self {
        let attestation_key = crate::files::random_key();
        let authentication_data = *crate::files::random_secret();
        let key_hash =
            Sha256::new().chain_update(raw_public_key(&attestation_key)).chain_update(authentication_data).finalize();
        let report = enclave_report(&key_hash.into());
        let report_signature = pck_key.sign(&report);
        Self { attestation_key, authentication_data, report, report_signature, pck_chain }
    }

    /// A quote over the registers and the report data.
    pub(crate) fn quote(&self, registers: &Registers, report_data: &[u8; 64]) -> Vec<u8> {
        self.quote_of(&TrustDomain::default(), registers, report_data)
    }

    /// A quote about a trust domain that was set up in some way.
    pub(crate) fn quote_of(&self, domain: &TrustDomain, registers: &Registers, report_data: &[u8; 64]) -> Vec<u8> {
        let mut quote = header();
        quote.extend_from_slice(&td_report(domain, registers, report_data));
        let signature: Signature = self.attestation_key.sign(&quote);

        let mut certification = Vec::new();
        certification.extend_from_slice(&self.report);
        certification.extend_from_slice(&self.report_signature.to_bytes());
        put_sized16(&mut certification, &self.authentication_data);
        certification.extend_from_slice(&5u16.to_le_bytes());
        put_sized32(&mut certification, self.pck_chain.as_bytes());

        let mut auth_data = Vec::new();
        auth_data.extend_from_slice(&signature.to_bytes());
        auth_data.extend_from_slice(&raw_public_key(&self.attestation_key));
        auth_data.extend_from_slice(&6u16.to_le_bytes());
        put_sized32(&mut auth_data, &certification);
        put_sized32(&mut quote, &auth_data);
        quote
    }
}

fn raw_public_key(key: &SigningKey) -> [u8; 64] {
    let point = key.verifying_key().to_encoded_point(false);
    let mut raw = [0; 64];
    raw.copy_from_slice(&point.as_bytes()[1..]);
    raw
}

fn put_sized16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_sized32(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Version 4, ECDSA P-256, TDX.
fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(48);
    header.extend_from_slice(&4u16.to_le_bytes());
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&TEE_TYPE_TDX.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&QE_VENDOR);
    header.extend_from_slice(&[0; 20]);
    header
}

/// How a trust domain was set up, and by which module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustDomain {
    pub(crate) tee_tcb_svn: [u8; 16],
    pub(crate) module_signer: [u8; 48],
    pub(crate) module_attributes: u64,
    pub(crate) attributes: u64,
    pub(crate) xfam: u64,
}

impl Default for TrustDomain {
    fn default() -> Self {
        let mut tee_tcb_svn = [0; 16];
        (tee_tcb_svn[0], tee_tcb_svn[1]) = (MODULE_ISVSVN, 1);
        Self {
            tee_tcb_svn,
            module_signer: MODULE_MRSIGNER,
            module_attributes: 0,
            attributes: TD_ATTRIBUTES,
            xfam: XFAM,
        }
    }
}

/// TD report of 584 bytes (Intel TDX DCAP Quoting Library API, appendix 3).
fn td_report(domain: &TrustDomain, registers: &Registers, report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = Vec::with_capacity(584);
    report.extend_from_slice(&domain.tee_tcb_svn);
    report.extend_from_slice(&[0; 48]); // MRSEAM
    report.extend_from_slice(&domain.module_signer);
    report.extend_from_slice(&domain.module_attributes.to_le_bytes());
    report.extend_from_slice(&domain.attributes.to_le_bytes());
    report.extend_from_slice(&domain.xfam.to_le_bytes());
    report.extend_from_slice(&registers.mrtd);
    report.extend_from_slice(&[0; 48 * 3]); // MRCONFIGID, MROWNER, MROWNERCONFIG
    registers.rtmr.iter().for_each(|register| report.extend_from_slice(register));
    report.extend_from_slice(report_data);
    report
}

/// Enclave report of 384 bytes of the simulated quoting enclave.
fn enclave_report(key_hash: &[u8; 32]) -> Vec<u8> {
    let mut report = Vec::with_capacity(384);
    report.extend_from_slice(&CPU_SVN);
    report.extend_from_slice(&[0; 4 + 28]); // MISCSELECT, reserved
    let mut attributes = [0; 16];
    attributes[0] = 0x11; // INIT, PROVISIONKEY
    report.extend_from_slice(&attributes);
    report.extend_from_slice(&Sha256::digest(b"SIMULATED TD quoting enclave")); // MRENCLAVE
    report.extend_from_slice(&[0; 32]);
    report.extend_from_slice(&QE_MRSIGNER);
    report.extend_from_slice(&[0; 96]);
    report.extend_from_slice(&QE_ISVPRODID.to_le_bytes());
    report.extend_from_slice(&QE_ISVSVN.to_le_bytes());
    report.extend_from_slice(&[0; 60]);
    report.extend_from_slice(key_hash);
    report.extend_from_slice(&[0; 32]);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_the_length_that_intel_gives_it() {
        assert_eq!(header().len(), 48);
        assert_eq!(enclave_report(&[0; 32]).len(), 384);
        let registers = Registers { mrtd: [1; 48], rtmr: [[2; 48]; 4] };
        assert_eq!(td_report(&TrustDomain::default(), &registers, &[3; 64]).len(), 584);
    }
}
