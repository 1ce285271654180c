//! Why GPU evidence was refused.

use super::{DriverVersion, GpuArchitecture, VbiosVersion};

/// Why GPU evidence was refused, where the reason is one of GPUs alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The policy has no section on GPUs.
    #[error("the policy says nothing about GPUs, so it accepts none")]
    NotInPolicy,
    /// The policy demands GPUs and there is no evidence of any.
    #[error("the policy demands GPUs, the machine showed none")]
    Missing,
    /// Another number of GPUs than the policy demands.
    #[error("{found} GPUs, the policy demands {expected}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// One GPU answered twice.
    #[error("GPU {gpu} stands twice in the evidence")]
    Duplicate {
        /// Which one.
        gpu: String,
    },
    /// The GPUs are of several architectures.
    #[error("GPUs of several architectures")]
    MixedArchitectures,
    /// The policy does not accept this architecture.
    #[error("the policy does not accept architecture {found}")]
    ArchitectureDenied {
        /// The architecture found.
        found: GpuArchitecture,
    },
    /// The evidence says another architecture than the certificates.
    #[error("evidence says {said}, the certificates are of {found}")]
    ArchitectureMismatch {
        /// What the evidence says.
        said: GpuArchitecture,
        /// What the certificates are of.
        found: String,
    },
    /// The report names other firmware than the certificate of its key.
    #[error("the report and the certificate of its key name different firmware")]
    FirmwareIdMismatch,
    /// The policy denies this GPU.
    #[error("GPU {gpu} is denied")]
    Denied {
        /// Which one.
        gpu: String,
    },
    /// The driver is older than the policy accepts.
    #[error("driver {found} is older than {minimum}")]
    DriverTooOld {
        /// The version found.
        found: DriverVersion,
        /// The least accepted.
        minimum: DriverVersion,
    },
    /// The VBIOS is older than the policy accepts.
    #[error("VBIOS {found} is older than {minimum}")]
    VbiosTooOld {
        /// The version found.
        found: VbiosVersion,
        /// The least accepted.
        minimum: VbiosVersion,
    },
    /// No reference manifest is for this version of driver or VBIOS.
    #[error("no reference manifest for {what} {version} of {chip}")]
    NoManifest {
        /// Driver or VBIOS.
        what: &'static str,
        /// The version that the report states.
        version: String,
        /// The chip.
        chip: String,
    },
    /// Driver and VBIOS manifest both state what one slot must hold.
    #[error("driver and VBIOS manifests both claim measurement slot {slot}")]
    SlotConflict {
        /// The slot.
        slot: u16,
    },
    /// The GPU measured something else than the reference manifests state.
    #[error("measurement slots {slots:?} differ from the {what} manifest")]
    SlotsDiffer {
        /// Driver or VBIOS.
        what: &'static str,
        /// Slots that differ, counted from 0 as in the manifest.
        slots: Vec<u16>,
    },
    /// Nothing that the policy accepts vouches for the GPUs' firmware.
    #[error("nothing that the policy accepts vouches for the firmware of the GPUs")]
    NotVouchedFor,
    /// A token is signed under a key that the policy does not pin.
    #[error("the token is signed under key `{kid}`, which the policy does not pin")]
    UnknownKey {
        /// The key's id, shortened.
        kid: String,
    },
    /// A token claims something else than it must.
    #[error("claim `{name}` of {token}: {detail}")]
    Claim {
        /// Which token.
        token: String,
        /// Which claim.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
}
