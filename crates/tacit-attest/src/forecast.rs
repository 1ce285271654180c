//! TCB forecast: where a machine stands under Intel's documents, what raises it, and which machines a new document drops.
//!
//! Intel publishes each raise twice: early, for who wants to know, and as the standard half a year or so later. Comparing the
//! two tells an operator what to update before the network refuses a machine. A forecast is for planning: **it checks no
//! signature and is no verdict**; [`crate::verify`] gives those.

use std::cmp::Reverse;
use std::fmt;

use dcap_qvl::TcbStatus as IntelStatus;
use dcap_qvl::tcb_info::TcbStatusWithAdvisory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use tacit_types::UnixTime;

use crate::evidence::bounded;
use crate::{AttestError, Evidence, IntelCollateral, MAX_COLLATERAL_PART, Platform, Policy, TcbStatus, der, intel};

/// The security version numbers of a machine, from its quote or as its operator recorded them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineProfile {
    /// The machine's name, for people.
    pub name: String,
    /// `sgx` or `tdx`: Intel rates them in different documents.
    pub platform: Platform,
    /// The platform family, in hex.
    #[serde(with = "hex_array")]
    pub fmspc: [u8; 6],
    /// Version numbers of microcode and firmware, in hex.
    #[serde(with = "hex_array")]
    pub cpu_svn: [u8; 16],
    /// Version number of the provisioning certification enclave.
    pub pce_svn: u16,
    /// TDX: version numbers of module and loader as they are now, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_hex_array")]
    pub tee_tcb_svn: Option<[u8; 16]>,
    /// Version number of the quoting enclave, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qe_isv_svn: Option<u16>,
}

impl MachineProfile {
    /// Reads a quote. Its signature is not checked.
    ///
    /// # Errors
    /// [`AttestError`] if it is no quote, or no PCK certificate comes with it.
    pub fn of_quote(
        name: impl Into<String>,
        evidence: &Evidence,
        collateral: Option<&IntelCollateral>,
    ) -> Result<Self, AttestError> {
        use dcap_qvl::quote::{AuthData, Report};
        let quote = intel::parse_quote(evidence.platform(), evidence.document())?;
        let empty = crate::IntelParts::default().into();
        let chain = intel::pck_chain(&quote, collateral.unwrap_or(&empty))?;
        let tee_tcb_svn = match &quote.report {
            Report::SgxEnclave(_) => None,
            Report::TD10(td) => Some(td.tee_tcb_svn),
            // The numbers at launch stay; these are the ones of the module that runs now.
            Report::TD15(td) => Some(td.tee_tcb_svn2),
            Report::TD15Ex(td) => Some(td.base.tee_tcb_svn2),
        };
        let qe_report = match &quote.auth_data {
            AuthData::V3(data) => &data.qe_report,
            AuthData::V4(data) => &data.qe_report_data.qe_report,
        };
        let qe_isv_svn = Some(u16::from_le_bytes([qe_report[258], qe_report[259]]));
        let leaf = chain.first().ok_or(AttestError::Truncated { what: "PCK certificate chain" })?;
        Self::of_certificate(name, evidence.platform(), leaf).map(|profile| Self { tee_tcb_svn, qe_isv_svn, ..profile })
    }

    /// Reads a PCK certificate (DER or PEM), which holds the numbers of microcode and firmware.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] if it is none.
    pub fn of_certificate(
        name: impl Into<String>,
        platform: Platform,
        certificate: &[u8],
    ) -> Result<Self, AttestError> {
        const WHAT: &str = "PCK certificate";
        bounded(WHAT, certificate.len(), MAX_COLLATERAL_PART)?;
        let certificate = der::certificate_bytes(WHAT, certificate)?;
        der::certificate(WHAT, &certificate)?;
        let found = dcap_qvl::intel::parse_pck_extension(&certificate)
            .map_err(|error| AttestError::Malformed { what: WHAT, detail: format!("{error:#}") })?;
        Ok(Self {
            name: name.into(),
            platform,
            fmspc: found.fmspc,
            cpu_svn: found.cpu_svn,
            pce_svn: found.pce_svn,
            tee_tcb_svn: None,
            qe_isv_svn: None,
        })
    }
}

/// Intel's TCB info, read for planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcbInfo {
    platform: Platform,
    fmspc: [u8; 6],
    issued: String,
    evaluation_number: u32,
    /// Newest first, as Intel's library orders them.
    levels: Vec<Level>,
    modules: Vec<Module>,
}

/// Intel's identity of a quoting enclave, read for planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QeIdentity {
    levels: Vec<IsvLevel>,
}

impl TcbInfo {
    /// Reads the document, bare or as the service answers with it.
    ///
    /// # Errors
    /// [`AttestError::Oversized`], [`AttestError::Malformed`], or [`AttestError::Unsupported`] for versions other than 3.
    pub fn parse(text: &str) -> Result<Self, AttestError> {
        const WHAT: &str = "TCB info";
        let twin: InfoTwin = read(WHAT, text, "tcbInfo")?;
        if twin.version != 3 {
            return Err(AttestError::Unsupported { what: "TCB info version", found: twin.version });
        }
        let malformed = |detail: &str| AttestError::Malformed { what: WHAT, detail: detail.to_owned() };
        let platform = match twin.id.as_str() {
            "SGX" => Platform::Sgx,
            "TDX" => Platform::Tdx,
            _ => return Err(malformed("neither for SGX nor for TDX")),
        };
        let mut fmspc = [0; 6];
        hex::decode_to_slice(&twin.fmspc, &mut fmspc).map_err(|error| malformed(&error.to_string()))?;
        der::parse_time(WHAT, &twin.issue_date)?;
        if twin.tcb_levels.is_empty() {
            return Err(malformed("no level"));
        }
        let tdx_components = if platform == Platform::Tdx { 16 } else { 0 };
        for level in &twin.tcb_levels {
            der::parse_time(WHAT, &level.tcb_date)?;
            if level.tcb.sgx.len() != 16 || level.tcb.tdx.len() != tdx_components {
                return Err(malformed("a level without 16 components"));
            }
        }
        let mut levels = twin.tcb_levels;
        levels.sort_by_key(|level| {
            let numbers =
                |components: &[Component]| components.iter().map(|component| component.svn).collect::<Vec<_>>();
            Reverse((numbers(&level.tcb.sgx), level.tcb.pce_svn, numbers(&level.tcb.tdx)))
        });
        Ok(Self {
            platform,
            fmspc,
            issued: twin.issue_date,
            evaluation_number: twin.tcb_evaluation_data_number,
            levels,
            modules: twin.tdx_module_identities,
        })
    }

    /// The platform family that it is about.
    pub fn fmspc(&self) -> [u8; 6] {
        self.fmspc
    }

    /// The number that Intel raises with each change: the early document of a raise has the greater one.
    pub fn evaluation_number(&self) -> u32 {
        self.evaluation_number
    }
}

impl QeIdentity {
    /// Reads the document, bare or as the service answers with it.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] or [`AttestError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, AttestError> {
        let twin: QeTwin = read("QE identity", text, "enclaveIdentity")?;
        Ok(Self { levels: twin.tcb_levels })
    }
}

/// Where a machine stands under one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It meets a level of this status.
    Status(TcbStatus),
    /// It meets a level whose keys Intel revoked.
    Revoked,
    /// It meets no level.
    BelowEveryLevel,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Revoked => f.write_str("Revoked"),
            Self::BelowEveryLevel => f.write_str("BelowEveryLevel"),
        }
    }
}

impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What raises a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// Microcode, from the BIOS or loaded by the operating system: `category` says which.
    Microcode,
    /// The BIOS otherwise.
    Bios,
    /// The TDX module.
    TdxModule,
    /// An authenticated code module: the TDX loader or SINIT.
    CodeModule,
    /// The provisioning certification enclave, which comes with Intel's platform software.
    ProvisioningEnclave,
    /// The quoting enclave, which comes with Intel's platform software.
    QuotingEnclave,
    /// The document does not say.
    Unstated,
}

/// A version number below what a level needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortfall {
    /// Which number: `sgx 0` to `sgx 15`, `tdx 0` to `tdx 15`, `pce`, `tdx-module`, `qe`.
    pub component: String,
    /// The machine's number.
    pub have: u16,
    /// The number that is needed.
    pub needs: u16,
    /// By how much it is short.
    pub short_by: u16,
    /// What raises it.
    pub raised_by: Update,
    /// Who delivers that, in Intel's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What it is, in Intel's words.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Where a machine stands under one document, and what is between it and the newest level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// The machine.
    pub machine: String,
    /// The document's number.
    pub evaluation_number: u32,
    /// When the document was issued.
    pub issued: String,
    /// Where the machine stands.
    pub standing: Standing,
    /// Date of the level that it meets; of the module's level, if that is older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_date: Option<String>,
    /// Advisories that apply to it.
    pub advisories: Vec<String>,
    /// Date of the newest level.
    pub newest_level_date: String,
    /// Best status that the newest level gives.
    pub newest_level_status: Standing,
    /// What is short of the newest level; empty if nothing is.
    pub shortfalls: Vec<Shortfall>,
    /// Advisories that no longer apply on the newest level.
    pub closes: Vec<String>,
}

/// Where a machine stands under a document.
///
/// # Errors
/// [`AttestError::FmspcMismatch`] or [`AttestError::WrongTcbInfo`] if the document is about other machines.
pub fn forecast(
    profile: &MachineProfile,
    tcb_info: &TcbInfo,
    qe_identity: Option<&QeIdentity>,
) -> Result<Forecast, AttestError> {
    if profile.platform != tcb_info.platform {
        let name = |platform| if platform == Platform::Sgx { "SGX" } else { "TDX" };
        return Err(AttestError::WrongTcbInfo {
            expected: name(profile.platform),
            found: name(tcb_info.platform).into(),
        });
    }
    if profile.fmspc != tcb_info.fmspc {
        return Err(AttestError::FmspcMismatch);
    }
    let module = tcb_info.module_of(profile);
    let (standing, level_date, advisories) = tcb_info.standing(profile, module, qe_identity);
    let newest = &tcb_info.levels[0];
    let newest_module = module.and_then(|module| module.tcb_levels.first());
    let newest_qe = qe_identity.and_then(|identity| identity.levels.first());

    let mut shortfalls = newest.shortfalls(profile, module.is_some());
    let isv = |component: &str, have: Option<u16>, level: Option<&IsvLevel>, raised_by| {
        let (have, needs) = (have?, level?.tcb.isvsvn);
        (have < needs).then(|| Shortfall::new(component.to_owned(), have, needs, raised_by, None))
    };
    let module_svn = profile.tee_tcb_svn.map(|svn| u16::from(svn[0]));
    shortfalls.extend(isv("tdx-module", module_svn, newest_module, Update::TdxModule));
    shortfalls.extend(isv("qe", profile.qe_isv_svn, newest_qe, Update::QuotingEnclave));

    let remaining: Vec<&String> = newest
        .advisory_ids
        .iter()
        .chain(newest_module.into_iter().flat_map(|level| &level.advisory_ids))
        .chain(newest_qe.into_iter().flat_map(|level| &level.advisory_ids))
        .collect();
    let closes = advisories.iter().filter(|id| !remaining.contains(id)).cloned().collect();
    Ok(Forecast {
        machine: profile.name.clone(),
        evaluation_number: tcb_info.evaluation_number,
        issued: tcb_info.issued.clone(),
        standing,
        level_date,
        advisories,
        newest_level_date: newest.tcb_date.clone(),
        newest_level_status: rated(newest.tcb_status),
        shortfalls,
        closes,
    })
}

/// What a set of documents would do to a fleet under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// Machines that the policy still accepts.
    pub stays: Vec<Forecast>,
    /// Machines that fall out, with the reason.
    pub falls: Vec<Fallen>,
    /// Machines that no document is about.
    pub unjudged: Vec<String>,
}

/// A machine that falls out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallen {
    /// Why.
    pub reason: String,
    /// Where it stands, and what would raise it.
    pub forecast: Forecast,
}

/// Tells which machines fall out under new documents at a time. Only statuses and advisories of the policy are asked: what
/// else it demands, documents do not change.
pub fn rehearse(
    profiles: &[MachineProfile],
    documents: &[(TcbInfo, Option<QeIdentity>)],
    policy: &Policy,
    at: UnixTime,
) -> Rehearsal {
    let mut rehearsal = Rehearsal { stays: vec![], falls: vec![], unjudged: vec![] };
    for profile in profiles {
        let found = documents.iter().find_map(|(info, identity)| forecast(profile, info, identity.as_ref()).ok());
        let Some(forecast) = found else {
            rehearsal.unjudged.push(profile.name.clone());
            continue;
        };
        let refused = match forecast.standing {
            Standing::Revoked => Err(AttestError::Revoked { what: "TCB level" }),
            Standing::BelowEveryLevel => Err(AttestError::NoTcbLevel),
            Standing::Status(status) => policy.judge_status(status, &forecast.advisories, at),
        };
        match refused {
            Ok(()) => rehearsal.stays.push(forecast),
            Err(reason) => rehearsal.falls.push(Fallen { reason: reason.to_string(), forecast }),
        }
    }
    rehearsal
}

impl TcbInfo {
    /// The identity of the TDX module that the machine runs; version 0 has none of its own.
    fn module_of(&self, profile: &MachineProfile) -> Option<&Module> {
        let version = profile.tee_tcb_svn?[1];
        let id = format!("TDX_{version:02X}");
        if version == 0 { None } else { self.modules.iter().find(|module| module.id.eq_ignore_ascii_case(&id)) }
    }

    fn standing(
        &self,
        profile: &MachineProfile,
        module: Option<&Module>,
        qe: Option<&QeIdentity>,
    ) -> (Standing, Option<String>, Vec<String>) {
        let below = (Standing::BelowEveryLevel, None, vec![]);
        // A module that the document does not know is below every level of it.
        if module.is_none() && profile.tee_tcb_svn.is_some_and(|svn| svn[1] > 0) {
            return below;
        }
        let met = self.levels.iter().find(|level| level.shortfalls(profile, module.is_some()).is_empty());
        let Some(level) = met else { return below };
        let mut date = level.tcb_date.clone();
        let mut verdict = TcbStatusWithAdvisory::new(level.tcb_status, level.advisory_ids.clone());
        let module_level = module.zip(profile.tee_tcb_svn).map(|(module, svn)| module.level_of(u16::from(svn[0])));
        let qe_level = qe.zip(profile.qe_isv_svn).map(|(qe, svn)| IsvLevel::met(&qe.levels, svn));
        for (component, is_module) in [(module_level, true), (qe_level, false)] {
            let found = match component {
                None => continue,
                Some(None) => return below,
                Some(Some(found)) => found,
            };
            verdict = verdict.merge(&TcbStatusWithAdvisory::new(found.tcb_status, found.advisory_ids.clone()));
            if is_module && found.tcb_date < date {
                date = found.tcb_date.clone();
            }
        }
        let mut advisories = verdict.advisory_ids;
        advisories.sort();
        advisories.dedup();
        (rated(verdict.status), Some(date), advisories)
    }
}

impl Shortfall {
    fn new(component: String, have: u16, needs: u16, raised_by: Update, part: Option<&Component>) -> Self {
        Self {
            component,
            have,
            needs,
            short_by: needs - have,
            raised_by,
            category: part.and_then(|part| part.category.clone()),
            kind: part.and_then(|part| part.kind.clone()),
        }
    }
}

/// As Intel's library judges: a module with an identity of its own is not judged by the first two components.
impl Level {
    fn shortfalls(&self, profile: &MachineProfile, has_module: bool) -> Vec<Shortfall> {
        let of = |name: &'static str, have: &[u8; 16], needs: &[Component], skip: usize| {
            let pairs = have.iter().zip(needs).enumerate().skip(skip);
            pairs
                .filter(|(_, (have, needs))| **have < needs.svn)
                .map(|(index, (have, needs))| {
                    let component = format!("{name} {index}");
                    Shortfall::new(component, u16::from(*have), u16::from(needs.svn), needs.raised_by(), Some(needs))
                })
                .collect::<Vec<_>>()
        };
        let mut shortfalls = of("sgx", &profile.cpu_svn, &self.tcb.sgx, 0);
        if profile.pce_svn < self.tcb.pce_svn {
            let raised_by = Update::ProvisioningEnclave;
            shortfalls.push(Shortfall::new("pce".into(), profile.pce_svn, self.tcb.pce_svn, raised_by, None));
        }
        if let Some(svn) = &profile.tee_tcb_svn {
            shortfalls.extend(of("tdx", svn, &self.tcb.tdx, if has_module { 2 } else { 0 }));
        }
        shortfalls
    }
}

impl Component {
    fn raised_by(&self) -> Update {
        let kind = self.kind.as_deref().unwrap_or_default();
        if kind.contains("Microcode") {
            Update::Microcode
        } else if kind.contains("TDX Module") {
            Update::TdxModule
        } else if kind.contains("ACM") || kind.contains("SINIT") {
            Update::CodeModule
        } else if self.category.as_deref() == Some("BIOS") {
            Update::Bios
        } else {
            Update::Unstated
        }
    }
}

impl Module {
    fn level_of(&self, svn: u16) -> Option<&IsvLevel> {
        IsvLevel::met(&self.tcb_levels, svn)
    }
}

impl IsvLevel {
    /// The first level that a version number meets; documents list the newest first.
    fn met(levels: &[Self], svn: u16) -> Option<&Self> {
        levels.iter().find(|level| level.tcb.isvsvn <= svn)
    }
}

fn rated(status: IntelStatus) -> Standing {
    intel::status(status).map_or(Standing::Revoked, Standing::Status)
}

/// Reads a document, bare or inside the answer of the service.
fn read<T: DeserializeOwned>(what: &'static str, text: &str, member: &str) -> Result<T, AttestError> {
    bounded(what, text.len(), MAX_COLLATERAL_PART)?;
    let malformed = |error: serde_json::Error| AttestError::Malformed { what, detail: error.to_string() };
    let mut outer: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
    let inner = outer.get_mut(member).map(serde_json::Value::take);
    serde_json::from_value(inner.unwrap_or(outer)).map_err(malformed)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoTwin {
    id: String,
    version: u32,
    issue_date: String,
    fmspc: String,
    tcb_evaluation_data_number: u32,
    tcb_levels: Vec<Level>,
    #[serde(default)]
    tdx_module_identities: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeTwin {
    tcb_levels: Vec<IsvLevel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    tcb: Numbers,
    tcb_date: String,
    tcb_status: IntelStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Numbers {
    #[serde(rename = "sgxtcbcomponents")]
    sgx: Vec<Component>,
    #[serde(rename = "pcesvn")]
    pce_svn: u16,
    #[serde(default, rename = "tdxtcbcomponents")]
    tdx: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Component {
    svn: u8,
    #[serde(default)]
    category: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    id: String,
    tcb_levels: Vec<IsvLevel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IsvLevel {
    tcb: IsvNumber,
    tcb_date: String,
    tcb_status: IntelStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct IsvNumber {
    isvsvn: u16,
}

mod hex_array {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes).map_err(de::Error::custom)?;
        Ok(bytes)
    }
}

mod optional_hex_array {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<[u8; 16]>, serializer: S) -> Result<S::Ok, S::Error> {
        super::hex_array::serialize(&bytes.unwrap_or_default(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 16]>, D::Error> {
        super::hex_array::deserialize(deserializer).map(Some)
    }
}
