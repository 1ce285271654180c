//! The one error type of this crate.

use crate::nvidia::GpuError;
use crate::{HardwareClass, TcbStatus};

/// Why evidence was refused; every check of this crate has a variant of its own.
///
/// The text names what failed and what was found, never a secret: evidence is public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// More bytes than this verifier reads.
    #[error("{what} has {size} bytes, at most {limit} are read")]
    Oversized {
        /// What was too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes end before the structure does.
    #[error("{what} is cut short")]
    Truncated {
        /// What ended too early.
        what: &'static str,
    },
    /// Bytes follow the end of the structure, or it is not in its one canonical form.
    #[error("{what} carries bytes that belong to nothing")]
    TrailingBytes {
        /// What had bytes left over.
        what: &'static str,
    },
    /// The bytes are no such structure.
    #[error("{what} cannot be read: {detail}")]
    Malformed {
        /// What could not be read.
        what: &'static str,
        /// What the parser said.
        detail: String,
    },
    /// A version or type number that this verifier does not know.
    #[error("{what} has unknown number {found}")]
    Unsupported {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: u32,
    },
    /// The evidence is of another kind than it says.
    #[error("evidence says {said} but holds {found}")]
    KindMismatch {
        /// The kind of the envelope.
        said: &'static str,
        /// The kind of the content.
        found: &'static str,
    },
    /// The collateral is another vendor's.
    #[error("{evidence} evidence came with collateral for {collateral}")]
    CollateralMismatch {
        /// The kind of evidence.
        evidence: &'static str,
        /// The kind of collateral.
        collateral: &'static str,
    },
    /// The chain ends in a root that the policy does not name.
    #[error("the chain ends in root {root}, which the policy does not name")]
    WrongRoot {
        /// SHA-256 of the root certificate found, in hex, or what stood in its place.
        root: String,
    },
    /// Past its last day at the time of judgement.
    #[error("{what} had expired")]
    Expired {
        /// What had expired.
        what: &'static str,
    },
    /// Before its first day at the time of judgement.
    #[error("{what} was not yet valid")]
    NotYetValid {
        /// What was not valid yet.
        what: &'static str,
    },
    /// On a revocation list, or of a TCB level whose keys the vendor revoked.
    #[error("{what} is revoked")]
    Revoked {
        /// What was revoked.
        what: &'static str,
    },
    /// A signature or a hash that stands for one does not hold.
    #[error("the signature over {what} does not hold")]
    BadSignature {
        /// What was signed.
        what: &'static str,
    },
    /// A certificate chain does not link up.
    #[error("the certificate chain of {what} does not hold: {detail}")]
    BadChain {
        /// Whose chain.
        what: &'static str,
        /// What the check said.
        detail: String,
    },
    /// The machine can be read by its host: debug mode.
    #[error("debug mode is on: the host can read this machine")]
    Debug,
    /// A forbidden or reserved attribute of the trusted machine is set.
    #[error("attribute refused: {0}")]
    Attribute(String),
    /// The quoting enclave of one TEE vouches for another (SGX QE for TD QE or the reverse).
    #[error("the quote needs quoting enclave identity {expected}, collateral holds {found}")]
    WrongQuotingEnclave {
        /// What the quote needs.
        expected: &'static str,
        /// What the collateral holds.
        found: String,
    },
    /// The quoting enclave is not Intel's or not the one that the collateral describes.
    #[error("quoting enclave refused: {0}")]
    QuotingEnclave(String),
    /// TCB info is for the other TEE type.
    #[error("the quote needs TCB info {expected}, collateral holds {found}")]
    WrongTcbInfo {
        /// What the quote needs.
        expected: &'static str,
        /// What the collateral holds.
        found: String,
    },
    /// TCB info is for another processor family.
    #[error("the collateral is for another processor family (FMSPC)")]
    FmspcMismatch,
    /// The platform is below every TCB level that the vendor lists.
    #[error("the platform is below every TCB level of the collateral")]
    NoTcbLevel,
    /// The TDX module is not the one that the collateral describes.
    #[error("TDX module refused: {0}")]
    TdxModule(String),
    /// The report names another chip than the certificate of its key.
    #[error("the report and the certificate of its key name different chips")]
    ChipMismatch,
    /// The report claims another TCB than the certificate of its key.
    #[error("the report and the certificate of its key name different TCB versions ({component})")]
    TcbMismatch {
        /// The component that differs.
        component: &'static str,
    },
    /// The report's versions contradict each other: no firmware writes this.
    #[error("the report's {lower} TCB is below its {higher} one ({component})")]
    TcbOrder {
        /// Which one is lower and must not be.
        lower: &'static str,
        /// Which one is higher.
        higher: &'static str,
        /// The component.
        component: &'static str,
    },
    /// The host masked the chip id, so the report names no chip.
    #[error("the host masked the chip id or the signing key")]
    MaskedChip,
    /// The report was asked for by less privileged software than the measured guest.
    #[error("report of VMPL {found}, which the policy does not accept")]
    Vmpl {
        /// The VMPL found.
        found: u32,
    },
    /// The event log does not lead to a measured register.
    #[error("the event log does not replay to {register}")]
    EventLogMismatch {
        /// The register.
        register: &'static str,
    },
    /// The boot log does not lead to a measured register.
    #[error("the boot log does not replay to {register}")]
    BootLogMismatch {
        /// The register.
        register: &'static str,
    },
    /// A policy names an event, and the event log has none of that name, or there is no log.
    #[error("the policy names event {name}, the event log has none")]
    EventMissing {
        /// The event.
        name: String,
    },
    /// An event that the policy names stands twice in the log: which one counts would be a guess.
    #[error("event {name} stands in the event log more than once")]
    EventRepeated {
        /// The event.
        name: String,
    },
    /// The event has another payload than the policy names.
    #[error("event {name} has payload {found}, which the policy does not name")]
    EventNotAccepted {
        /// The event.
        name: String,
        /// Its payload in hex.
        found: String,
    },
    /// The report data is not the expected one: other keys, or another nonce.
    #[error("the report data does not bind the expected keys and nonce")]
    ReportDataMismatch,
    /// The root is accepted, its hardware class is denied.
    #[error("policy `{policy}` denies {class}")]
    HardwareClassDenied {
        /// The policy's name.
        policy: String,
        /// The class denied.
        class: HardwareClass,
    },
    /// The policy lists the code that may run, and this is none of it.
    #[error("measurement {measurement} is not one that the policy allows")]
    MeasurementNotAllowed {
        /// The measurement found, in hex.
        measurement: String,
    },
    /// The chip is on the deny list, or not on the allow list where there is one.
    #[error("chip {chip} is denied")]
    ChipDenied {
        /// The chip id found, in hex.
        chip: String,
    },
    /// The TCB status is below what the policy accepts at this time.
    #[error("TCB status {status} is below what policy `{policy}` accepts")]
    TcbTooLow {
        /// The policy's name.
        policy: String,
        /// The status found.
        status: TcbStatus,
    },
    /// A security advisory that the policy denies applies to the platform.
    #[error("advisory {id} applies and is denied")]
    AdvisoryDenied {
        /// The advisory.
        id: String,
    },
    /// The policy lists the advisories that may apply, and this is none of them.
    #[error("advisory {id} applies and is not one that the policy accepts")]
    AdvisoryNotAccepted {
        /// The advisory.
        id: String,
    },
    /// The report is signed by the key of a cloud provider that the policy does not accept. Such a key names no chip.
    #[error("the report is signed by the key of provider `{provider}` (VLEK), which the policy does not accept")]
    ProviderNotAccepted {
        /// The provider, as AMD's certificate names it.
        provider: String,
    },
    /// Something that the policy demands did not come with the evidence.
    #[error("the policy demands {what}, which did not come with the evidence")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// The policy demands a property that the platform, its certificate or its guest does not have.
    #[error("the policy demands {what}")]
    Demand {
        /// The property.
        what: &'static str,
    },
    /// A register holds none of the values that the policy names.
    #[error("{register} is {found}, which the policy does not name")]
    PinMismatch {
        /// The register.
        register: &'static str,
        /// Its value in hex.
        found: String,
    },
    /// The enclave's security version is below the least that the policy accepts.
    #[error("ISVSVN {found} is below {minimum}")]
    IsvSvnTooLow {
        /// The version found.
        found: u16,
        /// The least accepted.
        minimum: u16,
    },
    /// Nobody vouches well enough for where the chip is.
    #[error("location grade {found} is below {minimum}")]
    LocationTooLow {
        /// The grade found; 0 if the policy lists none for this chip.
        found: u8,
        /// The least accepted.
        minimum: u8,
    },
    /// The revocation list is older than the policy allows.
    #[error("the revocation list is {age} s old, the policy allows {limit} s")]
    RevocationListTooOld {
        /// Its age in seconds.
        age: u64,
        /// The limit in seconds.
        limit: u64,
    },
    /// One vendor, operator, root or chip would have too large a part of a set of machines.
    #[error("{found} machines of {what} {name}, at most {limit} may be")]
    NotDiverse {
        /// What is limited.
        what: &'static str,
        /// Which one.
        name: String,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: u16,
    },
    /// The collateral is older than the policy allows.
    #[error("collateral is {age} s old, the policy allows {limit} s")]
    CollateralTooOld {
        /// Its age in seconds.
        age: u64,
        /// The limit in seconds.
        limit: u64,
    },
    /// The collateral is older than one already seen.
    #[error("{what} number {found} is older than {minimum}, already seen")]
    Downgrade {
        /// Which number.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The least accepted.
        minimum: u32,
    },
    /// The evidence answers another nonce than the one asked for, or none.
    #[error("the evidence does not answer the nonce that was asked for")]
    NonceMismatch,
    /// A dated document is older than the policy allows.
    #[error("{what} is {age} s old, the policy allows {limit} s")]
    DocumentTooOld {
        /// Which document.
        what: &'static str,
        /// Its age in seconds.
        age: u64,
        /// The limit in seconds.
        limit: u64,
    },
    /// A dated document was signed after the time of judgement.
    #[error("{what} was signed {seconds} s in the future")]
    FromTheFuture {
        /// Which document.
        what: &'static str,
        /// By how many seconds.
        seconds: u64,
    },
    /// GPU evidence, refused for this reason.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The library that checks the signatures refused for a reason without a name of its own here.
    #[error("refused: {0}")]
    Refused(String),
}

/// Why a policy document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML or JSON of this shape.
    #[error("the policy cannot be read: {0}")]
    Malformed(String),
    /// Larger than a policy may be.
    #[error("the policy has {size} bytes, at most {limit} are read")]
    Oversized {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A version that this verifier does not know.
    #[error("unknown policy version {0}")]
    Version(u32),
    /// A field that contradicts itself or another one.
    #[error("`{field}`: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A root certificate that cannot be read or has no place in a policy.
    #[error("root `{name}`: {reason}")]
    Root {
        /// The root's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}
