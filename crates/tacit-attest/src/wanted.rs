//! Which collateral a piece of evidence needs: read from bytes that nobody has verified yet, so it only says what to ask for.

use std::fmt;

use dcap_qvl::config::PckCa;
use dcap_qvl::intel::{quote_ca, quote_fmspc};
use serde::Deserialize;
use tacit_types::UnixTime;
use tacit_types::eip712::Platform;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::demands::PckAuthority;
use crate::revocation::der_of_list;
use crate::{AttestError, Collateral, Evidence, HardwareClass, der, intel};

/// Bytes of an AMD report, and where it keeps what is read here (AMD 56860, table 23).
const REPORT: usize = 1184;
const KEY_INFO: usize = 0x48;
const REPORTED_TCB: usize = 0x180;
const PROCESSOR: usize = 0x188;
const CHIP_ID: usize = 0x1a0;

/// What to ask a vendor for. Verification decides afterwards whether it was the right thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// TCB info, identity of the quoting enclave and revocation lists of Intel.
    Intel {
        /// SGX or TDX.
        platform: Platform,
        /// The platform family, as the PCK certificate names it.
        fmspc: [u8; 6],
        /// The authority of the PCK certificate.
        authority: PckAuthority,
    },
    /// The certificates between AMD's root and the key of one chip.
    Amd {
        /// The generation, by the processor number in the report.
        class: HardwareClass,
        /// The chip's number: 64 bytes, 8 from Turin on.
        hardware_id: Vec<u8>,
        /// The reported security version numbers.
        tcb: ReportedTcb,
        /// Whether a cloud's key (VLEK) signed, which AMD hands to that cloud alone.
        vlek: bool,
    },
    /// Nothing: the document carries all certificates.
    Nothing,
}

/// Security version numbers as an AMD report gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportedTcb {
    /// Boot loader.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
    /// First mutable code, from Turin on.
    pub fmc: Option<u8>,
}

impl Wanted {
    /// Reads what to ask for.
    ///
    /// # Errors
    /// [`AttestError`] for evidence that cannot be read, or whose chip the host masked.
    pub fn by(evidence: &Evidence) -> Result<Self, AttestError> {
        match evidence.platform() {
            platform @ (Platform::Sgx | Platform::Tdx) => intel(platform, evidence.document()),
            Platform::SevSnp => amd(evidence.document()),
            Platform::Nitro => Ok(Self::Nothing),
        }
    }
}

impl fmt::Display for Wanted {
    /// What it is and for whom, as a person would look for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel { platform, fmspc, authority } => write!(
                f,
                "Intel's collateral for {} machines of platform family (FMSPC) {}: TCB info, identity of the quoting \
                 enclave, revocation lists of the root and of the {} authority",
                platform.name(),
                hex::encode(fmspc),
                authority.name()
            ),
            Self::Amd { class, hardware_id, tcb, vlek } => {
                let ReportedTcb { bootloader, tee, snp, microcode, fmc } = tcb;
                let (authority, key) = if *vlek { ("ASVK", "VLEK of its provider") } else { ("ASK", "VCEK of chip ") };
                let chip = if *vlek { String::new() } else { hex::encode(hardware_id) };
                let fmc = fmc.map_or(String::new(), |fmc| format!("fmc {fmc} "));
                write!(
                    f,
                    "AMD's certificates for {class} ({authority}, {key}{chip} at {fmc}bootloader {bootloader} tee {tee} \
                     snp {snp} microcode {microcode}) and AMD's revocation list"
                )
            }
            Self::Nothing => f.write_str("nothing: the document carries its certificates"),
        }
    }
}

impl Collateral {
    /// When the vendor replaces the first part of it, as Intel's documents and every revocation list say themselves; nothing where
    /// no part says it. Read from bytes that nobody has verified: it only says when to ask again.
    pub fn replaced(&self) -> Option<UnixTime> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Dated<'a> {
            next_update: &'a str,
        }
        let document = |text: &str| {
            let dated: Dated<'_> = serde_json::from_str(text).ok()?;
            der::parse_time("next update", dated.next_update).ok()
        };
        let list = |bytes: &[u8]| {
            let der = der_of_list("CRL", bytes).ok()?;
            let next = CertificateList::from_der(&der).ok()?.tbs_cert_list.next_update?;
            Some(UnixTime(next.to_unix_duration().as_secs()))
        };
        let dates = match self {
            Self::Intel(intel) => vec![
                document(&intel.tcb_info),
                document(&intel.qe_identity),
                list(&intel.root_ca_crl),
                list(&intel.pck_crl),
            ],
            Self::Amd(amd) => vec![amd.crl.as_deref().and_then(list)],
            Self::Nitro(_) => vec![],
        };
        dates.into_iter().flatten().min()
    }
}

fn intel(platform: Platform, document: &[u8]) -> Result<Wanted, AttestError> {
    let quote = intel::parse_quote(platform, document)?;
    let malformed = |detail: String| AttestError::Malformed { what: "PCK certificate", detail };
    let authority = match quote_ca(&quote).map_err(|error| malformed(format!("{error:#}")))? {
        PckCa::Processor => PckAuthority::Processor,
        PckCa::Platform => PckAuthority::Platform,
    };
    let fmspc = quote_fmspc(&quote).map_err(|error| malformed(format!("{error:#}")))?;
    Ok(Wanted::Intel { platform, fmspc, authority })
}

fn amd(report: &[u8]) -> Result<Wanted, AttestError> {
    const WHAT: &str = "SEV-SNP report";
    if report.len() < REPORT {
        return Err(AttestError::Truncated { what: WHAT });
    }
    if report.len() > REPORT {
        return Err(AttestError::TrailingBytes { what: WHAT });
    }
    let class = match (report[0], report[PROCESSOR], report[PROCESSOR + 1]) {
        // Version 2 does not say which processor it is: the generation cannot be told from the bytes alone.
        (version @ 0..=2, ..) => {
            return Err(AttestError::Unsupported { what: "report version", found: version.into() });
        }
        (_, 0x19, 0x00..=0x0f) => HardwareClass::EpycMilan,
        (_, 0x19, 0x10..=0x1f | 0xa0..=0xaf) => HardwareClass::EpycGenoa,
        (_, 0x1a, 0x00..=0x11) => HardwareClass::EpycTurin,
        (_, family, model) => {
            let found = u32::from(family) << 8 | u32::from(model);
            return Err(AttestError::Unsupported { what: "processor", found });
        }
    };
    let chip = &report[CHIP_ID..CHIP_ID + 64];
    let vlek = (report[KEY_INFO] >> 2) & 7 == 1;
    if !vlek && chip.iter().all(|byte| *byte == 0) {
        return Err(AttestError::MaskedChip);
    }
    let tcb = &report[REPORTED_TCB..REPORTED_TCB + 8];
    // Turin put the FMC first and moved the rest; its chips have numbers of 8 bytes.
    let (hardware_id, tcb) = if class == HardwareClass::EpycTurin {
        let tcb = ReportedTcb { fmc: Some(tcb[0]), bootloader: tcb[1], tee: tcb[2], snp: tcb[3], microcode: tcb[7] };
        (chip[..8].to_vec(), tcb)
    } else {
        let tcb = ReportedTcb { fmc: None, bootloader: tcb[0], tee: tcb[1], snp: tcb[6], microcode: tcb[7] };
        (chip.to_vec(), tcb)
    };
    Ok(Wanted::Amd { class, hardware_id, tcb, vlek })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(version: u8, family: u8, model: u8) -> Vec<u8> {
        let mut report = vec![0; REPORT];
        (report[0], report[PROCESSOR], report[PROCESSOR + 1]) = (version, family, model);
        report[REPORTED_TCB..REPORTED_TCB + 8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        report[CHIP_ID..CHIP_ID + 64].fill(9);
        report
    }

    fn wanted(report: Vec<u8>) -> Result<Wanted, AttestError> {
        Wanted::by(&Evidence::sev_snp(report)?)
    }

    #[test]
    fn each_generation_is_told_by_its_processor() {
        let check = |family, model, class, id: usize, tcb| {
            let expected = Wanted::Amd { class, hardware_id: vec![9; id], tcb, vlek: false };
            assert_eq!(wanted(report(3, family, model)).unwrap(), expected);
        };
        let old = ReportedTcb { bootloader: 1, tee: 2, snp: 7, microcode: 8, fmc: None };
        check(0x19, 0x01, HardwareClass::EpycMilan, 64, old);
        check(0x19, 0x11, HardwareClass::EpycGenoa, 64, old);
        check(0x19, 0xa0, HardwareClass::EpycGenoa, 64, old);
        let new = ReportedTcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 8 };
        check(0x1a, 0x02, HardwareClass::EpycTurin, 8, new);
    }

    #[test]
    fn what_names_no_chip_is_refused() {
        let check = |report: Vec<u8>, expected: AttestError| assert_eq!(wanted(report).unwrap_err(), expected);
        check(report(2, 0x19, 1), AttestError::Unsupported { what: "report version", found: 2 });
        check(report(3, 0x17, 1), AttestError::Unsupported { what: "processor", found: 0x1701 });
        check(vec![3; REPORT - 1], AttestError::Truncated { what: "SEV-SNP report" });
        check(vec![3; REPORT + 1], AttestError::TrailingBytes { what: "SEV-SNP report" });
        let mut masked = report(3, 0x19, 0x11);
        masked[CHIP_ID..CHIP_ID + 64].fill(0);
        check(masked.clone(), AttestError::MaskedChip);
        masked[KEY_INFO] = 1 << 2;
        assert!(matches!(wanted(masked), Ok(Wanted::Amd { vlek: true, .. })));
        assert!(Wanted::by(&Evidence::tdx(vec![0; 700], None).unwrap()).is_err());
    }
}
