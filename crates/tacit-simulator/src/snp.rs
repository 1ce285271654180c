//! Reports of a simulated AMD secure processor, byte for byte in AMD's layout (56860, table 23).

use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha512};

use crate::machine::Chip;
use crate::{EndorsementKey, Flaws, Generation};

/// Bytes of a report, and of the part of it that is signed.
const REPORT: usize = 1184;
const SIGNED: usize = 0x2a0;
/// The bit of a guest's policy that must be one, and permission to run on two threads of a core.
const GUEST_POLICY: u64 = 1 << 17 | 1 << 16;
const DEBUG: u64 = 1 << 19;

/// Version numbers of an AMD machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firmware {
    /// Turin only.
    pub(crate) fmc: u8,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

impl Firmware {
    /// The firmware that every simulated machine of this generation has committed to.
    fn committed(generation: Generation) -> Self {
        match generation {
            Generation::Genoa => Self { fmc: 0, bootloader: 9, tee: 0, snp: 23, microcode: 72 },
            Generation::Turin => Self { fmc: 1, bootloader: 1, tee: 1, snp: 4, microcode: 80 },
        }
    }

    /// The firmware that a machine reports.
    pub(crate) fn reported(generation: Generation, flaws: Flaws) -> Self {
        let committed = Self::committed(generation);
        Self { microcode: committed.microcode - u8::from(flaws.old_firmware), ..committed }
    }

    /// TCB_VERSION: Turin put the FMC first and moved the rest.
    fn encode(self, generation: Generation) -> [u8; 8] {
        match generation {
            Generation::Genoa => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            Generation::Turin => [self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
        }
    }
}

/// The product name in certificates: generation and stepping.
pub(crate) fn product(generation: Generation) -> &'static str {
    match generation {
        Generation::Genoa => "Genoa-B1",
        Generation::Turin => "Turin-B0",
    }
}

/// The chip's number as certificates write it: 64 bytes, on Turin 8.
pub(crate) fn chip_id(chip: &Chip, generation: Generation) -> Vec<u8> {
    let number = Sha512::new().chain_update(chip.ppid).chain_update(chip.platform_instance).finalize();
    match generation {
        Generation::Genoa => number.to_vec(),
        Generation::Turin => number[..8].to_vec(),
    }
}

/// What signs the reports of one AMD machine.
pub(crate) struct SecureProcessor {
    generation: Generation,
    kind: EndorsementKey,
    flaws: Flaws,
    chip_id: Vec<u8>,
    key: SigningKey,
    /// The certificate of the key (DER).
    pub(crate) certificate: Vec<u8>,
}

/// What a report says about a guest, so that tests can say something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) policy: u64,
    pub(crate) vmpl: u32,
    pub(crate) key_info: u32,
    pub(crate) processor: [u8; 3],
    pub(crate) chip_id: [u8; 64],
    pub(crate) reported_tcb: [u8; 8],
}

impl SecureProcessor {
    pub(crate) fn new(
        generation: Generation,
        kind: EndorsementKey,
        flaws: Flaws,
        chip: &Chip,
        key: SigningKey,
        certificate: Vec<u8>,
    ) -> Self {
        Self { generation, kind, flaws, chip_id: chip_id(chip, generation), key, certificate }
    }

    pub(crate) fn kind(&self) -> EndorsementKey {
        self.kind
    }

    pub(crate) fn chip_id(&self) -> &[u8] {
        &self.chip_id
    }

    /// A report about a guest with this launch measurement.
    pub(crate) fn report(&self, launch: &[u8; 48], report_data: &[u8; 64]) -> Vec<u8> {
        self.report_of(&self.guest(), launch, report_data)
    }

    /// How every guest of this machine is set up.
    pub(crate) fn guest(&self) -> Guest {
        let mut chip_id = [0; 64];
        chip_id[..self.chip_id.len()].copy_from_slice(&self.chip_id);
        Guest {
            policy: GUEST_POLICY | if self.flaws.debug { DEBUG } else { 0 },
            vmpl: 0,
            // Bits 4:2 name the key: 0 is the VCEK, 1 the VLEK.
            key_info: match self.kind {
                EndorsementKey::Vcek => 0,
                EndorsementKey::Vlek => 1 << 2,
            },
            processor: match self.generation {
                Generation::Genoa => [0x19, 0x11, 1],
                Generation::Turin => [0x1a, 0x02, 1],
            },
            chip_id,
            reported_tcb: Firmware::reported(self.generation, self.flaws).encode(self.generation),
        }
    }

    /// A report about a guest that was set up in some way.
    pub(crate) fn report_of(&self, guest: &Guest, launch: &[u8; 48], report_data: &[u8; 64]) -> Vec<u8> {
        let mut report = vec![0; REPORT];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        let version: u32 = match self.generation {
            Generation::Genoa => 3,
            Generation::Turin => 5,
        };
        let committed = Firmware::committed(self.generation).encode(self.generation);
        put(0x00, &version.to_le_bytes());
        put(0x08, &guest.policy.to_le_bytes());
        put(0x30, &guest.vmpl.to_le_bytes());
        put(0x34, &1u32.to_le_bytes()); // ECDSA P-384 with SHA-384
        put(0x38, &committed); // what runs; the host may let a report claim less
        put(0x40, &1u64.to_le_bytes()); // SMT is on
        put(0x48, &guest.key_info.to_le_bytes());
        put(0x50, report_data);
        put(0x90, launch);
        put(0x140, &Sha512::new().chain_update(b"report id").chain_update(launch).finalize()[..32]);
        put(0x160, &[0xff; 32]); // no migration agent
        put(0x180, &guest.reported_tcb);
        put(0x188, &guest.processor);
        put(0x1a0, &guest.chip_id);
        put(0x1e0, &committed);
        put(0x1e8, &[29, 55, 1]); // build, minor and major number of the current firmware
        put(0x1ec, &[29, 55, 1]); // and of the committed one
        put(0x1f0, &committed);
        let signature: Signature = self.key.sign(&report[..SIGNED]);
        for (at, number) in [(SIGNED, signature.r().to_bytes()), (SIGNED + 72, signature.s().to_bytes())] {
            // Little-endian in a field of 72 bytes.
            report[at..at + 48].iter_mut().zip(number.iter().rev()).for_each(|(out, byte)| *out = *byte);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_where_the_generation_puts_them() {
        let committed = Firmware::committed(Generation::Genoa);
        assert_eq!(committed.encode(Generation::Genoa), [9, 0, 0, 0, 0, 0, 23, 72]);
        assert_eq!(Firmware::committed(Generation::Turin).encode(Generation::Turin), [1, 1, 1, 4, 0, 0, 0, 80]);
        let old = Flaws { old_firmware: true, ..Flaws::default() };
        assert_eq!(Firmware::reported(Generation::Genoa, old).microcode, 71);
        let chip = Chip::random(crate::Hardware::Tdx, false);
        assert_eq!(chip_id(&chip, Generation::Genoa).len(), 64);
        assert_eq!(chip_id(&chip, Generation::Turin), chip_id(&chip, Generation::Genoa)[..8]);
    }
}
