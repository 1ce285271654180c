//! The fields of an SEV-SNP report (AMD 56860, table 23) and how they hang together.

use p384::ecdsa::signature::Verifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use x509_cert::Certificate;

use crate::{AttestError, HardwareClass};

/// Bytes of a report.
pub(crate) const REPORT: usize = 1184;
/// Bytes of a report that are signed.
pub(crate) const SIGNED: usize = 0x2a0;
const WHAT: &str = "SEV-SNP report";

/// Which key signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SigningKey {
    /// The chip's own (VCEK): its certificate names the chip.
    Chip,
    /// One that AMD gave to a cloud provider (VLEK): its certificate names the provider and no chip.
    Provider,
}

/// Security version numbers, in one layout for all generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcb {
    /// The first microcontroller firmware; zero before Turin.
    pub(crate) fmc: u8,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

impl Tcb {
    /// Reads the eight bytes: Turin put the FMC first and moved the rest.
    pub(crate) fn read(bytes: [u8; 8], class: HardwareClass) -> Self {
        if class == HardwareClass::EpycTurin {
            Self { fmc: bytes[0], bootloader: bytes[1], tee: bytes[2], snp: bytes[3], microcode: bytes[7] }
        } else {
            Self { fmc: 0, bootloader: bytes[0], tee: bytes[1], snp: bytes[6], microcode: bytes[7] }
        }
    }

    /// The numbers by name.
    pub(crate) fn components(self) -> [(&'static str, u8); 5] {
        [
            ("fmc", self.fmc),
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ]
    }

    /// The first component in which this is below `least`.
    pub(crate) fn short_of(self, least: Self) -> Option<&'static str> {
        let pairs = self.components().into_iter().zip(least.components());
        pairs.into_iter().find(|((_, have), (_, needs))| have < needs).map(|((name, _), _)| name)
    }
}

/// The fields of a report that are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) version: u32,
    pub(crate) guest_svn: u32,
    pub(crate) guest_policy: u64,
    pub(crate) family_id: [u8; 16],
    pub(crate) image_id: [u8; 16],
    pub(crate) vmpl: u32,
    pub(crate) current_tcb: [u8; 8],
    pub(crate) platform_info: u64,
    pub(crate) signing_key: SigningKey,
    pub(crate) author_key_enabled: bool,
    pub(crate) report_data: [u8; 64],
    pub(crate) measurement: [u8; 48],
    pub(crate) host_data: [u8; 32],
    pub(crate) id_key_digest: [u8; 48],
    pub(crate) author_key_digest: [u8; 48],
    pub(crate) reported_tcb: [u8; 8],
    pub(crate) cpuid: (u8, u8),
    pub(crate) chip_id: [u8; 64],
    pub(crate) committed_tcb: [u8; 8],
    pub(crate) current_version: [u8; 3],
    pub(crate) committed_version: [u8; 3],
    pub(crate) launch_tcb: [u8; 8],
}

impl Report {
    /// Reads a report of version 2 to 5: whole, with every reserved byte zero.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() < REPORT {
            return Err(AttestError::Truncated { what: WHAT });
        }
        if bytes.len() > REPORT {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(&bytes[at..at + N]);
            out
        }
        let word = |at: usize| u32::from_le_bytes(array(bytes, at));
        let version = word(0);
        if !(2..=5).contains(&version) {
            return Err(AttestError::Unsupported { what: "report version", found: version });
        }
        // Reserved: after the key info, before the chip id, after the version numbers, after the signed part, and inside the
        // signature beyond its 48-byte numbers.
        let cpuid_end = if version >= 3 { 0x18b } else { 0x188 };
        let after_launch = if version >= 5 { 0x208 } else { 0x1f8 };
        let reserved = [
            0x4c..0x50,
            cpuid_end..0x1a0,
            0x1eb..0x1ec,
            0x1ef..0x1f0,
            after_launch..SIGNED,
            SIGNED + 48..SIGNED + 72,
            SIGNED + 72 + 48..REPORT,
        ];
        if reserved.into_iter().any(|range| bytes[range].iter().any(|byte| *byte != 0)) {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        let algorithm = word(0x34);
        if algorithm != 1 {
            return Err(AttestError::Unsupported { what: "signature algorithm", found: algorithm });
        }
        // Bit 0: an author key signed the ID key. Bit 1: the host masked the signing key. Bits 4:2 name the key: 0 is the
        // VCEK, 1 the VLEK, 7 none.
        let key_info = word(0x48);
        let chip_id: [u8; 64] = array(bytes, 0x1a0);
        let signing_key = match key_info >> 2 {
            0 => SigningKey::Chip,
            1 => SigningKey::Provider,
            other => return Err(AttestError::Unsupported { what: "signing key", found: other }),
        };
        if key_info & 0b10 != 0 || (signing_key == SigningKey::Chip && chip_id == [0; 64]) {
            return Err(AttestError::MaskedChip);
        }
        Ok(Self {
            version,
            guest_svn: word(0x04),
            guest_policy: u64::from_le_bytes(array(bytes, 0x08)),
            family_id: array(bytes, 0x10),
            image_id: array(bytes, 0x20),
            vmpl: word(0x30),
            current_tcb: array(bytes, 0x38),
            platform_info: u64::from_le_bytes(array(bytes, 0x40)),
            signing_key,
            author_key_enabled: key_info & 1 != 0,
            report_data: array(bytes, 0x50),
            measurement: array(bytes, 0x90),
            host_data: array(bytes, 0xc0),
            id_key_digest: array(bytes, 0xe0),
            author_key_digest: array(bytes, 0x110),
            reported_tcb: array(bytes, 0x180),
            cpuid: (bytes[0x188], bytes[0x189]),
            chip_id,
            committed_tcb: array(bytes, 0x1e0),
            current_version: [bytes[0x1ea], bytes[0x1e9], bytes[0x1e8]],
            committed_version: [bytes[0x1ee], bytes[0x1ed], bytes[0x1ec]],
            launch_tcb: array(bytes, 0x1f0),
        })
    }

    /// Checks the signature, over the bytes as they came.
    pub(crate) fn check_signature(
        &self,
        document: &[u8],
        certificate: &Certificate,
        what: &'static str,
    ) -> Result<(), AttestError> {
        let bad = AttestError::BadSignature { what: WHAT };
        let number = |at: usize| -> [u8; 48] {
            let mut big_endian = [0; 48];
            big_endian.copy_from_slice(&document[at..at + 48]);
            big_endian.reverse();
            big_endian
        };
        let signature = Signature::from_scalars(number(SIGNED), number(SIGNED + 72)).map_err(|_| bad.clone())?;
        let key = certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
        let key = VerifyingKey::from_sec1_bytes(key)
            .map_err(|error| AttestError::Malformed { what, detail: error.to_string() })?;
        key.verify(&document[..SIGNED], &signature).map_err(|_| bad)
    }

    /// The generation that the processor number of the report names; version 2 names none.
    pub(crate) fn class_of_processor(&self) -> Result<Option<HardwareClass>, AttestError> {
        Ok(Some(match (self.version, self.cpuid) {
            (2, _) => return Ok(None),
            (_, (0x19, 0x00..=0x0f)) => HardwareClass::EpycMilan,
            (_, (0x19, 0x10..=0x1f | 0xa0..=0xaf)) => HardwareClass::EpycGenoa,
            (_, (0x1a, 0x00..=0x11)) => HardwareClass::EpycTurin,
            _ => return Err(AttestError::ChipMismatch),
        }))
    }

    /// The firmware keeps reported ≤ committed ≤ current, in every component and in its own version.
    pub(crate) fn check_order(&self, class: HardwareClass) -> Result<(), AttestError> {
        let [reported, committed, current] =
            [self.reported_tcb, self.committed_tcb, self.current_tcb].map(|bytes| Tcb::read(bytes, class));
        if let Some(component) = committed.short_of(reported) {
            return Err(AttestError::TcbOrder { lower: "committed", higher: "reported", component });
        }
        if let Some(component) = current.short_of(committed) {
            return Err(AttestError::TcbOrder { lower: "current", higher: "committed", component });
        }
        if self.current_version < self.committed_version {
            return Err(AttestError::TcbOrder { lower: "current", higher: "committed", component: "firmware version" });
        }
        Ok(())
    }

    /// What no policy can allow: a guest that its host may read or move, and a policy word that is none.
    pub(crate) fn check_guest(&self) -> Result<(), AttestError> {
        if self.guest_policy & (1 << 19) != 0 {
            return Err(AttestError::Debug);
        }
        if self.guest_policy & (1 << 18) != 0 {
            return Err(AttestError::Attribute("a migration agent may move the guest".into()));
        }
        if self.guest_policy & (1 << 17) == 0 || self.guest_policy >> 26 != 0 {
            return Err(AttestError::Attribute(format!("guest policy {:#x}", self.guest_policy)));
        }
        if self.vmpl > 3 {
            return Err(AttestError::Vmpl { found: self.vmpl });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with the fields that a good one has; not signed.
    fn report() -> Vec<u8> {
        let mut bytes = vec![0; REPORT];
        bytes[0] = 3;
        bytes[0x08 + 2] = 0b11; // SMT and the bit that must be one
        bytes[0x34] = 1;
        (bytes[0x188], bytes[0x189]) = (0x19, 0x11);
        bytes[0x1a0..0x1e0].fill(7);
        bytes
    }

    #[test]
    fn a_guest_set_up_badly_is_refused_by_name() {
        let check = |change: fn(&mut Vec<u8>), expected: Result<(), AttestError>| {
            let mut bytes = report();
            change(&mut bytes);
            assert_eq!(Report::parse(&bytes).and_then(|report| report.check_guest()), expected);
        };
        check(|_| (), Ok(()));
        check(|bytes| bytes[0x0a] |= 1 << 3, Err(AttestError::Debug));
        check(
            |bytes| bytes[0x0a] |= 1 << 2,
            Err(AttestError::Attribute("a migration agent may move the guest".into())),
        );
        check(|bytes| bytes[0x0a] = 1, Err(AttestError::Attribute("guest policy 0x10000".into())));
        check(|bytes| bytes[0x0f] = 1, Err(AttestError::Attribute("guest policy 0x100000000030000".into())));
        check(|bytes| bytes[0x30] = 4, Err(AttestError::Vmpl { found: 4 }));
        check(|bytes| bytes[0x33] = 1, Err(AttestError::Vmpl { found: 1 << 24 }));
    }

    #[test]
    fn reserved_bytes_depend_on_the_version() {
        let check = |version: u8, at: usize, accepted: bool| {
            let mut bytes = report();
            bytes[0] = version;
            if version == 2 {
                bytes[0x188..0x18b].fill(0);
            }
            bytes[at] = 1;
            assert_eq!(Report::parse(&bytes).is_ok(), accepted, "version {version} at {at:#x}");
        };
        check(2, 0x18a, false);
        check(3, 0x18a, true);
        check(3, 0x18b, false);
        check(3, 0x1f8, false);
        check(5, 0x1f8, true);
        check(5, 0x208, false);
        check(3, 0x29f, false);
        check(3, REPORT - 1, false);
        check(3, SIGNED + 47, true);
    }

    #[test]
    fn a_provider_key_needs_no_chip_id_and_a_chip_key_does() {
        let mut bytes = report();
        bytes[0x1a0..0x1e0].fill(0);
        assert_eq!(Report::parse(&bytes).err(), Some(AttestError::MaskedChip));
        bytes[0x48] = 1 << 2;
        assert_eq!(Report::parse(&bytes).map(|report| report.signing_key), Ok(SigningKey::Provider));
        bytes[0x48] = 1 << 2 | 0b10;
        assert_eq!(Report::parse(&bytes).err(), Some(AttestError::MaskedChip));
        bytes[0x48] = 7 << 2;
        assert_eq!(Report::parse(&bytes).err(), Some(AttestError::Unsupported { what: "signing key", found: 7 }));
    }

    #[test]
    fn numbers_out_of_order_are_refused_by_name() {
        let check = |change: fn(&mut Vec<u8>), class, expected: Result<(), AttestError>| {
            let mut bytes = report();
            for at in [0x38, 0x180, 0x1e0, 0x1f0] {
                bytes[at..at + 8].copy_from_slice(&[5; 8]);
            }
            change(&mut bytes);
            assert_eq!(Report::parse(&bytes).and_then(|report| report.check_order(class)), expected);
        };
        let (genoa, turin) = (HardwareClass::EpycGenoa, HardwareClass::EpycTurin);
        let order = |lower, higher, component| Err(AttestError::TcbOrder { lower, higher, component });
        check(|_| (), genoa, Ok(()));
        check(|bytes| bytes[0x180] = 4, genoa, Ok(()));
        check(|bytes| bytes[0x180] = 6, genoa, order("committed", "reported", "bootloader"));
        check(|bytes| bytes[0x181] = 6, genoa, order("committed", "reported", "tee"));
        check(|bytes| bytes[0x186] = 6, genoa, order("committed", "reported", "snp"));
        check(|bytes| bytes[0x187] = 6, genoa, order("committed", "reported", "microcode"));
        check(|bytes| bytes[0x3f] = 4, genoa, order("current", "committed", "microcode"));
        // Turin's layout: the same bytes are other components, and three bytes are none.
        check(|bytes| bytes[0x180] = 6, turin, order("committed", "reported", "fmc"));
        check(|bytes| bytes[0x181] = 6, turin, order("committed", "reported", "bootloader"));
        check(|bytes| bytes[0x183] = 6, turin, order("committed", "reported", "snp"));
        check(|bytes| bytes[0x186] = 6, turin, Ok(()));
        check(|bytes| bytes[0x1ee] = 1, genoa, order("current", "committed", "firmware version"));
    }
}
