//! The signed JSON documents of the simulated Intel: TCB info and identity of the quoting enclave.

use tacit_types::UnixTime;

use crate::bulletin::Bulletin;
use crate::quote::{CPU_SVN, IntelKind, MODULE_ISVSVN, MODULE_MRSIGNER, PCE_SVN};

/// The date of every TCB level.
const TCB_DATE: &str = "2026-01-01T00:00:00Z";

/// TCB info, version 3 (Intel PCS API, version 4).
pub(crate) fn tcb_info(kind: IntelKind, bulletin: &Bulletin, now: UnixTime) -> String {
    let (issued, expires) = bulletin.dates(now);
    let levels: Vec<serde_json::Value> = bulletin
        .tcb_levels
        .iter()
        .map(|level| {
            let mut needed = CPU_SVN;
            needed[0] = level.needed_svn;
            let mut tcb = serde_json::json!({ "sgxtcbcomponents": components(&needed), "pcesvn": PCE_SVN });
            if kind == IntelKind::Tdx {
                tcb["tdxtcbcomponents"] = components(&[0; 16]);
            }
            serde_json::json!({
                "tcb": tcb,
                "tcbDate": TCB_DATE,
                "tcbStatus": level.status,
                "advisoryIDs": level.advisories,
            })
        })
        .collect();
    let mut info = serde_json::json!({
        "id": match kind {
            IntelKind::Tdx => "TDX",
            IntelKind::Sgx => "SGX",
        },
        "version": 3,
        "issueDate": issued.to_string(),
        "nextUpdate": expires.to_string(),
        "fmspc": hex::encode_upper(bulletin.fmspc),
        "pceId": hex::encode_upper(bulletin.pce_id),
        "tcbType": 0,
        "tcbEvaluationDataNumber": bulletin.evaluation_number,
        "tcbLevels": levels,
    });
    if kind == IntelKind::Tdx {
        let module = serde_json::json!({
            "mrsigner": hex::encode_upper(MODULE_MRSIGNER),
            "attributes": "0000000000000000",
            "attributesMask": "FFFFFFFFFFFFFFFF",
        });
        let mut identity = module.clone();
        identity["id"] = "TDX_01".into();
        identity["tcbLevels"] =
            serde_json::json!([{ "tcb": { "isvsvn": MODULE_ISVSVN }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" }]);
        info["tdxModule"] = module;
        info["tdxModuleIdentities"] = serde_json::json!([identity]);
    }
    info.to_string()
}

fn components(svns: &[u8; 16]) -> serde_json::Value {
    svns.iter().map(|svn| serde_json::json!({ "svn": svn })).collect()
}

/// Identity of the quoting enclave, version 2.
pub(crate) fn qe_identity(kind: IntelKind, bulletin: &Bulletin, now: UnixTime) -> String {
    let (issued, expires) = bulletin.dates(now);
    let identity = kind.quoting_enclave();
    serde_json::json!({
        "id": bulletin.quoting_enclave.as_deref().unwrap_or(identity.name),
        "version": 2,
        "issueDate": issued.to_string(),
        "nextUpdate": expires.to_string(),
        "tcbEvaluationDataNumber": bulletin.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(bulletin.quoting_enclave_signer.unwrap_or(identity.signer)),
        "isvprodid": identity.product,
        "tcbLevels": [{ "tcb": { "isvsvn": identity.version }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" }],
    })
    .to_string()
}
