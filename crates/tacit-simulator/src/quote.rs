//! Quotes of simulated trust domains and enclaves: DCAP version 4 with a TDX 1.0 report and version 3, byte for byte in Intel's
//! layout.

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::{Flaws, Registers};

/// Processor family of every simulated chip: `SIM` and zeros.
pub(crate) const FMSPC: [u8; 6] = *b"SIM\0\0\0";
/// Security versions of every simulated chip whose firmware is current.
pub(crate) const CPU_SVN: [u8; 16] = [2, 2, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const PCE_SVN: u8 = 11;
pub(crate) const PCE_ID: [u8; 2] = [0, 0];
/// The simulated TDX module: version 1, so that TCB info judges it by its identity `TDX_01`.
pub(crate) const MODULE_ISVSVN: u8 = 5;
pub(crate) const MODULE_MRSIGNER: [u8; 48] = *b"SIMULATED TDX module signer - not Intel's module";
/// Who signs every simulated enclave that is not a quoting enclave.
pub(crate) const ENCLAVE_MRSIGNER: [u8; 32] = *b"SIMULATED enclave signer of none";
pub(crate) const ENCLAVE_ISVPRODID: u16 = 1;
pub(crate) const ENCLAVE_ISVSVN: u16 = 1;

/// Intel's number for its quoting enclave; verifiers refuse any other.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const TEE_TYPE_SGX: u32 = 0;
const TEE_TYPE_TDX: u32 = 0x81;
/// SEPT_VE_DISABLE, bit 28, and nothing else: no debugging, no migration.
const TD_ATTRIBUTES: u64 = 1 << 28;
const TD_DEBUG: u64 = 1;
/// State components of a usual Linux guest.
const XFAM: u64 = 0x0006_1ae7;
/// INIT and MODE64BIT.
const ENCLAVE_ATTRIBUTES: u64 = 0x05;
const ENCLAVE_DEBUG: u64 = 0x02;
/// INIT and PROVISIONKEY.
const QE_ATTRIBUTES: u64 = 0x11;
/// State components of a usual enclave: x87, SSE, AVX and AVX-512.
const XFRM: u64 = 0xe7;

/// The two kinds of Intel machine: each has its own quoting enclave and its own documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntelKind {
    Sgx,
    Tdx,
}

/// How a vendor's documents know a quoting enclave.
pub(crate) struct QuotingIdentity {
    pub(crate) name: &'static str,
    pub(crate) signer: [u8; 32],
    pub(crate) product: u16,
    pub(crate) version: u16,
}

impl IntelKind {
    pub(crate) fn quoting_enclave(self) -> QuotingIdentity {
        match self {
            Self::Tdx => {
                QuotingIdentity { name: "TD_QE", signer: *b"SIMULATED QE signer - not Intel!", product: 2, version: 4 }
            }
            Self::Sgx => {
                QuotingIdentity { name: "QE", signer: *b"SIMULATED SGX QE signer no Intel", product: 1, version: 8 }
            }
        }
    }
}

/// The security versions of a chip.
pub(crate) fn cpu_svn(old_firmware: bool) -> [u8; 16] {
    let mut svn = CPU_SVN;
    svn[0] -= u8::from(old_firmware);
    svn
}

/// What signs the quotes of one machine.
pub(crate) struct QuotingEnclave {
    kind: IntelKind,
    flaws: Flaws,
    attestation_key: SigningKey,
    authentication_data: [u8; 32],
    report: Vec<u8>,
    report_signature: Signature,
    pck_chain: String,
}

impl QuotingEnclave {
    /// Starts a quoting enclave: a new attestation key, certified by the chip's key.
    pub(crate) fn start(kind: IntelKind, flaws: Flaws, pck_key: &SigningKey, pck_chain: String) -> Self {
        let attestation_key = crate::files::random_key();
        let authentication_data = *crate::files::random_secret();
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(
            &Sha256::new().chain_update(raw_public_key(&attestation_key)).chain_update(authentication_data).finalize(),
        );
        let identity = kind.quoting_enclave();
        let report = enclave_report(
            &Enclave {
                cpu_svn: cpu_svn(flaws.old_firmware),
                attributes: QE_ATTRIBUTES,
                xfrm: 0,
                measurement: Sha256::new()
                    .chain_update(b"SIMULATED quoting enclave ")
                    .chain_update(identity.name)
                    .finalize()
                    .into(),
                signer: identity.signer,
                product: identity.product,
                version: identity.version,
                misc_select: 0,
                config_id: [0; 64],
            },
            &report_data,
        );
        let report_signature = pck_key.sign(&report);
        Self { kind, flaws, attestation_key, authentication_data, report, report_signature, pck_chain }
    }

    pub(crate) fn kind(&self) -> IntelKind {
        self.kind
    }

    /// How every trust domain of this machine is set up.
    pub(crate) fn domain(&self) -> TrustDomain {
        let debug = if self.flaws.debug { TD_DEBUG } else { 0 };
        TrustDomain { attributes: TD_ATTRIBUTES | debug, ..TrustDomain::default() }
    }

    /// How every enclave of this machine is set up.
    pub(crate) fn enclave(&self, measurement: [u8; 32]) -> Enclave {
        Enclave {
            cpu_svn: cpu_svn(self.flaws.old_firmware),
            attributes: ENCLAVE_ATTRIBUTES | if self.flaws.debug { ENCLAVE_DEBUG } else { 0 },
            xfrm: XFRM,
            measurement,
            signer: ENCLAVE_MRSIGNER,
            product: ENCLAVE_ISVPRODID,
            version: ENCLAVE_ISVSVN,
            misc_select: 0,
            config_id: [0; 64],
        }
    }

    /// A quote about a trust domain.
    pub(crate) fn quote_domain(&self, domain: &TrustDomain, registers: &Registers, report_data: &[u8; 64]) -> Vec<u8> {
        let mut quote = header(4, TEE_TYPE_TDX);
        quote.extend_from_slice(&td_report(domain, registers, report_data));
        let signature: Signature = self.attestation_key.sign(&quote);
        let certification = self.certification();
        let mut auth_data = self.signed_by_attestation_key(&signature);
        auth_data.extend_from_slice(&6u16.to_le_bytes());
        put_sized32(&mut auth_data, &certification);
        put_sized32(&mut quote, &auth_data);
        quote
    }

    /// A quote about an enclave.
    pub(crate) fn quote_enclave(&self, enclave: &Enclave, report_data: &[u8; 64]) -> Vec<u8> {
        let mut quote = header(3, TEE_TYPE_SGX);
        quote.extend_from_slice(&enclave_report(enclave, report_data));
        let signature: Signature = self.attestation_key.sign(&quote);
        let mut auth_data = self.signed_by_attestation_key(&signature);
        auth_data.extend_from_slice(&self.certification());
        put_sized32(&mut quote, &auth_data);
        quote
    }

    fn signed_by_attestation_key(&self, signature: &Signature) -> Vec<u8> {
        [signature.to_bytes().as_slice(), &raw_public_key(&self.attestation_key)].concat()
    }

    /// The quoting enclave's report, its signature and the chain of the key that made it.
    fn certification(&self) -> Vec<u8> {
        let mut certification = self.report.clone();
        certification.extend_from_slice(&self.report_signature.to_bytes());
        put_sized16(&mut certification, &self.authentication_data);
        certification.extend_from_slice(&5u16.to_le_bytes());
        put_sized32(&mut certification, self.pck_chain.as_bytes());
        certification
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

/// Version, ECDSA P-256, kind of TEE.
fn header(version: u16, tee_type: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(48);
    header.extend_from_slice(&version.to_le_bytes());
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&tee_type.to_le_bytes());
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

/// How an enclave was set up, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enclave {
    pub(crate) cpu_svn: [u8; 16],
    pub(crate) misc_select: u32,
    pub(crate) attributes: u64,
    pub(crate) xfrm: u64,
    pub(crate) measurement: [u8; 32],
    pub(crate) signer: [u8; 32],
    pub(crate) product: u16,
    pub(crate) version: u16,
    pub(crate) config_id: [u8; 64],
}

/// Enclave report of 384 bytes (Intel SDM volume 3D, REPORT).
fn enclave_report(enclave: &Enclave, report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = Vec::with_capacity(384);
    report.extend_from_slice(&enclave.cpu_svn);
    report.extend_from_slice(&enclave.misc_select.to_le_bytes());
    report.extend_from_slice(&[0; 28]);
    report.extend_from_slice(&enclave.attributes.to_le_bytes());
    report.extend_from_slice(&enclave.xfrm.to_le_bytes());
    report.extend_from_slice(&enclave.measurement);
    report.extend_from_slice(&[0; 32]);
    report.extend_from_slice(&enclave.signer);
    report.extend_from_slice(&[0; 32]);
    report.extend_from_slice(&enclave.config_id);
    report.extend_from_slice(&enclave.product.to_le_bytes());
    report.extend_from_slice(&enclave.version.to_le_bytes());
    report.extend_from_slice(&[0; 60]);
    report.extend_from_slice(report_data);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_the_length_that_intel_gives_it() {
        assert_eq!(header(4, TEE_TYPE_TDX).len(), 48);
        let enclave = Enclave {
            cpu_svn: CPU_SVN,
            attributes: ENCLAVE_ATTRIBUTES,
            xfrm: XFRM,
            measurement: [1; 32],
            signer: ENCLAVE_MRSIGNER,
            product: 1,
            version: 1,
            misc_select: 0,
            config_id: [0; 64],
        };
        assert_eq!(enclave_report(&enclave, &[0; 64]).len(), 384);
        let registers = Registers { mrtd: [1; 48], rtmr: [[2; 48]; 4] };
        assert_eq!(td_report(&TrustDomain::default(), &registers, &[3; 64]).len(), 584);
    }
}
