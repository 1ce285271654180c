//! Intel SGX and TDX: DCAP quotes, by `dcap-qvl` and what it leaves out.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::policy::{QuoteClaims, QuotePolicy};
use dcap_qvl::quote::{Quote, Report, TDReport10};
use dcap_qvl::verify::QuoteVerifier;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tacit_types::eip712::Platform;
use tacit_types::{ChipId, Measurement, UnixTime};

use crate::demands::PckAuthority;
use crate::evidence::IntelCollateral;
use crate::revocation::der_of_list;
use crate::root::{Vendor, root_id, wrong_root};
use crate::seen::Counter;
use crate::verified::{Claims, Details, PckDetails, PckFlag, PlatformDetails, SgxDetails, TdxDetails};
use crate::{AttestError, Evidence, HardwareClass, Policy, TcbStatus, boot_log, der, event_log};

/// Bytes of a quote's header.
pub(crate) const HEADER: usize = 48;
/// The state components that every TD has (x87, SSE), and those that TDX allows at all (Intel TDX Module ABI, XFAM).
const XFAM_FIXED_1: u64 = 0x3;
const XFAM_FIXED_0: u64 = 0x0006_dbe7;

pub(crate) fn verify(
    evidence: &Evidence,
    collateral: &IntelCollateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<Claims, AttestError> {
    collateral.check_sizes()?;
    let quote = parse_quote(evidence.platform(), evidence.document())?;
    let collateral = &with_lists_in_der(collateral)?;
    check_kinds(evidence.platform(), collateral)?;

    // The chain must end in a root that the policy names; which one decides the trust anchor below.
    let chain = pck_chain(&quote, collateral)?;
    let root_certificate = chain.last().ok_or_else(|| wrong_root("(none)"))?;
    let found = root_id(root_certificate);
    let root = policy.trusted_roots(Vendor::Intel).find(|root| root.id == found).ok_or_else(|| wrong_root(found))?;
    check_issuer_chains(collateral, &chain)?;

    let claims = QuoteVerifier::new(root.certificate.clone())
        .verify_with_policy(evidence.document(), dcap_collateral(collateral), now.0, &QuotePolicy::claims_only(now.0))
        .map_err(|error| name_refusal(&format!("{error:#}")))?;

    if claims.latest_issue_date > now.0 {
        return Err(AttestError::NotYetValid { what: "collateral" });
    }
    let dated = DatedCollateral::parse(collateral)?;
    check_left_out(&claims, &dated)?;
    let pck_authority = pck_authority(&chain)?;
    let details = details(evidence, &claims, pck_authority, counters(&claims, evidence.platform(), &chain))?;
    let (measurement, registers, report_data) = measured(&claims.report);
    let pck = &claims.platform.pck;
    if pck.ppid.iter().all(|byte| *byte == 0) {
        return Err(AttestError::MaskedChip);
    }
    let mut advisories = claims.tcb.advisory_ids.clone();
    advisories.sort();
    advisories.dedup();
    Ok(Claims {
        platform: evidence.platform(),
        class: if evidence.platform() == Platform::Sgx { HardwareClass::IntelSgx } else { HardwareClass::IntelTdx },
        root: root.id,
        root_name: root.name,
        simulated: root.simulated,
        measurement,
        registers,
        chip: chip(&pck.ppid),
        report_data,
        status: status(claims.tcb.status)?,
        advisories,
        collateral_time: dated.issued,
        collateral_expires: UnixTime(claims.earliest_expiration_date),
        evaluation_number: Some(claims.tcb.eval_data_number),
        crl_numbers: Some((claims.platform.root_ca_crl_num, claims.platform.pck_crl_num)),
        tcb: format!("fmspc {} cpusvn {} pcesvn {}", hex::encode(pck.fmspc), hex::encode(pck.cpu_svn), pck.pce_svn),
        details,
    })
}

/// The same collateral with its revocation lists in DER, in whichever form they came.
fn with_lists_in_der(collateral: &IntelCollateral) -> Result<IntelCollateral, AttestError> {
    let mut collateral = collateral.clone();
    collateral.root_ca_crl = der_of_list("root CRL", &collateral.root_ca_crl)?;
    collateral.pck_crl = der_of_list("PCK CRL", &collateral.pck_crl)?;
    Ok(collateral)
}

/// Which of Intel's two authorities issued the PCK certificate, by its name.
fn pck_authority(chain: &[Vec<u8>]) -> Result<Option<PckAuthority>, AttestError> {
    let Some(leaf) = chain.first() else { return Ok(None) };
    let issuer = der::certificate("PCK certificate", leaf)?.tbs_certificate.issuer.to_string();
    Ok(if issuer.contains("Processor") {
        Some(PckAuthority::Processor)
    } else if issuer.contains("Platform") {
        Some(PckAuthority::Platform)
    } else {
        None
    })
}

/// The numbers that Intel only raises. Both lists count by their authority, TCB documents by kind of TEE and platform family.
fn counters(claims: &QuoteClaims, platform: Platform, chain: &[Vec<u8>]) -> Vec<Counter> {
    let mut counters = vec![Counter {
        what: "TCB evaluation data",
        key: format!(
            "tcb {} {}",
            if platform == Platform::Sgx { "sgx" } else { "tdx" },
            hex::encode(claims.platform.pck.fmspc)
        ),
        value: claims.tcb.eval_data_number,
    }];
    let lists = [
        ("root CRL", chain.last(), claims.platform.root_ca_crl_num),
        ("PCK CRL", chain.get(1), claims.platform.pck_crl_num),
    ];
    for (what, authority, value) in lists {
        if let Some(authority) = authority {
            counters.push(Counter { what, key: format!("crl {}", root_id(authority)), value });
        }
    }
    counters
}

fn details(
    evidence: &Evidence,
    claims: &QuoteClaims,
    authority: Option<PckAuthority>,
    counters: Vec<Counter>,
) -> Result<Details, AttestError> {
    let flag = |flag| match flag {
        dcap_qvl::policy::PckCertFlag::True => PckFlag::Yes,
        dcap_qvl::policy::PckCertFlag::False => PckFlag::No,
        dcap_qvl::policy::PckCertFlag::Undefined => PckFlag::Silent,
    };
    let found = &claims.platform.pck;
    let pck = PckDetails {
        authority,
        dynamic_platform: flag(found.dynamic_platform),
        cached_keys: flag(found.cached_keys),
        smt: flag(found.smt_enabled),
    };
    let mut details = Details { counters, ..Details::default() };
    if let Report::SgxEnclave(enclave) = &claims.report {
        let mut config_id = [0; 64];
        // Intel SDM volume 3D, table 38-21: CONFIGID stands 32 bytes behind MRSIGNER.
        config_id.copy_from_slice(&enclave.reserved3[32..96]);
        let mut flags = [0; 8];
        flags.copy_from_slice(&enclave.attributes[..8]);
        details.platform = PlatformDetails::Sgx(Box::new(SgxDetails {
            flags: u64::from_le_bytes(flags),
            misc_select: enclave.misc_select,
            config_id,
            signer: enclave.mr_signer,
            product: enclave.isv_prod_id,
            isv_svn: enclave.isv_svn,
            pck,
        }));
    }
    if let Some(td) = claims.report.as_td10() {
        if let Some(log) = evidence.event_log() {
            details.events = Some(event_log::check(log, [&td.rt_mr0, &td.rt_mr1, &td.rt_mr2, &td.rt_mr3])?);
        }
        if let Some(log) = evidence.boot_log() {
            details.boot_events = boot_log::check(log, [&td.rt_mr0, &td.rt_mr1, &td.rt_mr2])?;
        }
        details.platform = PlatformDetails::Tdx(Box::new(TdxDetails {
            attributes: u64::from_le_bytes(td.td_attributes),
            xfam: u64::from_le_bytes(td.xfam),
            mr_seam: td.mr_seam,
            mr_config_id: td.mr_config_id,
            mr_owner: td.mr_owner,
            mr_owner_config: td.mr_owner_config,
            has_boot_log: evidence.boot_log().is_some(),
            pck,
        }));
    }
    Ok(details)
}

/// Reads a quote: no byte too few, none too many, of the kind that the envelope says.
pub(crate) fn parse_quote(said: Platform, bytes: &[u8]) -> Result<Quote, AttestError> {
    let header = bytes.get(..HEADER).ok_or(AttestError::Truncated { what: "quote header" })?;
    let version = u16::from_le_bytes([header[0], header[1]]);
    let tee_type = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let found = match tee_type {
        0 => Platform::Sgx,
        0x81 => Platform::Tdx,
        other => return Err(AttestError::Unsupported { what: "TEE type", found: other }),
    };
    if found != said {
        return Err(AttestError::KindMismatch { said: said.name(), found: found.name() });
    }
    if !matches!((found, version), (Platform::Sgx, 3) | (Platform::Tdx, 4 | 5)) {
        return Err(AttestError::Unsupported { what: "quote version", found: version.into() });
    }
    let quote = Quote::parse(bytes).map_err(|error| {
        let detail = format!("{error:#}");
        if detail.contains("Not enough data") {
            AttestError::Truncated { what: "quote" }
        } else {
            AttestError::Malformed { what: "quote", detail }
        }
    })?;
    // Version 5 may carry an SGX body under a TDX header.
    if quote.report.is_sgx() != (found == Platform::Sgx) {
        return Err(AttestError::KindMismatch { said: said.name(), found: "another report body" });
    }
    check_canonical(&quote, bytes)?;
    Ok(quote)
}

/// Nothing may follow the quote, nor hide inside its length-prefixed parts.
fn check_canonical(quote: &Quote, bytes: &[u8]) -> Result<(), AttestError> {
    use dcap_qvl::quote::AuthData;
    let trailing = AttestError::TrailingBytes { what: "quote" };
    // Signature and key of the quote (128), the quoting enclave's report and its signature (448).
    let (outer, inner) = match &quote.auth_data {
        AuthData::V3(data) => (None, (&data.qe_auth_data, &data.certification_data)),
        AuthData::V4(data) => {
            let certification = &data.certification_data;
            if certification.cert_type != 6 {
                return Err(AttestError::Unsupported {
                    what: "certification data type",
                    found: certification.cert_type.into(),
                });
            }
            (
                Some(certification.body.data.len()),
                (&data.qe_report_data.qe_auth_data, &data.qe_report_data.certification_data),
            )
        }
    };
    let inner_size = 384 + 64 + 2 + inner.0.data.len() + 2 + 4 + inner.1.body.data.len();
    let auth_size = match outer {
        None => 128 + inner_size,
        Some(size) if size == inner_size => 128 + 2 + 4 + inner_size,
        Some(_) => return Err(trailing),
    };
    let signed = quote.signed_length();
    let declared = bytes.get(signed..signed + 4).ok_or(AttestError::Truncated { what: "quote" })?;
    let declared = u32::from_le_bytes([declared[0], declared[1], declared[2], declared[3]]) as usize;
    let padding = bytes.get(signed + 4 + auth_size..).ok_or(AttestError::Truncated { what: "quote" })?;
    // Intel's quoting library hands out a buffer of fixed size: zeros may follow, nothing else.
    if declared != auth_size || padding.iter().any(|byte| *byte != 0) {
        return Err(trailing);
    }
    Ok(())
}

/// The PCK chain (DER), leaf first, root last.
pub(crate) fn pck_chain(quote: &Quote, collateral: &IntelCollateral) -> Result<Vec<Vec<u8>>, AttestError> {
    const WHAT: &str = "PCK certificate chain";
    let chain = match &collateral.pck_certificate_chain {
        Some(pem) => der::certificates_in_pem(WHAT, pem.as_bytes())?,
        None if quote.inner_cert_type() == 5 => {
            let pem = quote.inner_cert_data();
            // Quoting libraries end the text with a NUL.
            der::certificates_in_pem(WHAT, pem.strip_suffix(&[0]).unwrap_or(pem))?
        }
        None => {
            return Err(AttestError::Unsupported {
                what: "certification data type",
                found: quote.inner_cert_type().into(),
            });
        }
    };
    Ok(chain)
}

/// The chains beside the quote must lead to the same root, and the PCK revocation list must be by the quote's own authority.
fn check_issuer_chains(collateral: &IntelCollateral, pck_chain: &[Vec<u8>]) -> Result<(), AttestError> {
    let chains = [
        ("PCK CRL", &collateral.pck_crl_issuer_chain),
        ("TCB info", &collateral.tcb_info_issuer_chain),
        ("QE identity", &collateral.qe_identity_issuer_chain),
    ];
    for (what, pem) in chains {
        let chain = der::certificates_in_pem(what, pem.as_bytes())?;
        if chain.last() != pck_chain.last() {
            return Err(wrong_root(chain.last().map_or_else(String::new, |root| root_id(root).to_string())));
        }
        if what == "PCK CRL" && Some(chain.as_slice()) != pck_chain.get(1..) {
            return Err(AttestError::BadChain {
                what,
                detail: "not by the authority that issued the PCK certificate".into(),
            });
        }
    }
    Ok(())
}

/// The dates and names inside the signed JSON documents.
struct DatedCollateral {
    issued: UnixTime,
    pce_id: String,
}

impl DatedCollateral {
    fn parse(collateral: &IntelCollateral) -> Result<Self, AttestError> {
        let tcb_info: TcbInfoTwin = json("TCB info", &collateral.tcb_info)?;
        let qe_identity: QeIdentityTwin = json("QE identity", &collateral.qe_identity)?;
        let issued = der::parse_time("TCB info", &tcb_info.issue_date)?
            .min(der::parse_time("QE identity", &qe_identity.issue_date)?);
        Ok(Self { issued, pce_id: tcb_info.pce_id })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoTwin {
    id: String,
    issue_date: String,
    pce_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentityTwin {
    id: String,
    issue_date: String,
}

fn json<'a, T: Deserialize<'a>>(what: &'static str, text: &'a str) -> Result<T, AttestError> {
    serde_json::from_str(text).map_err(|error| AttestError::Malformed { what, detail: error.to_string() })
}

/// An SGX quote needs the SGX documents, a TDX quote the TDX ones.
fn check_kinds(platform: Platform, collateral: &IntelCollateral) -> Result<(), AttestError> {
    let (tcb, qe) = if platform == Platform::Sgx { ("SGX", "QE") } else { ("TDX", "TD_QE") };
    let tcb_info: TcbInfoTwin = json("TCB info", &collateral.tcb_info)?;
    if tcb_info.id != tcb {
        return Err(AttestError::WrongTcbInfo { expected: tcb, found: short(tcb_info.id) });
    }
    let qe_identity: QeIdentityTwin = json("QE identity", &collateral.qe_identity)?;
    if qe_identity.id != qe {
        return Err(AttestError::WrongQuotingEnclave { expected: qe, found: short(qe_identity.id) });
    }
    Ok(())
}

fn short(text: String) -> String {
    text.chars().take(32).collect()
}

/// What `dcap-qvl` does not look at.
fn check_left_out(claims: &QuoteClaims, dated: &DatedCollateral) -> Result<(), AttestError> {
    if !hex::encode(&claims.platform.pck.pce_id).eq_ignore_ascii_case(&dated.pce_id) {
        return Err(AttestError::FmspcMismatch);
    }
    if let Some(td) = claims.report.as_td10() {
        let xfam = u64::from_le_bytes(td.xfam);
        if xfam & XFAM_FIXED_1 != XFAM_FIXED_1 || xfam & !XFAM_FIXED_0 != 0 {
            return Err(AttestError::Attribute(format!("XFAM {xfam:#x}")));
        }
        // The module's own attributes are judged against the collateral; its debug bit is refused whatever that says.
        if td.seam_attributes[0] & 1 != 0 {
            return Err(AttestError::Debug);
        }
    }
    Ok(())
}

type Measured = (Measurement, Vec<(&'static str, Vec<u8>)>, [u8; 64]);

fn measured(report: &Report) -> Measured {
    match report {
        Report::SgxEnclave(enclave) => {
            let product = enclave.isv_prod_id.to_le_bytes();
            let version = enclave.isv_svn.to_le_bytes();
            let registers = vec![
                ("MRENCLAVE", enclave.mr_enclave.to_vec()),
                ("MRSIGNER", enclave.mr_signer.to_vec()),
                ("ISVPRODID", product.to_vec()),
                ("ISVSVN", version.to_vec()),
            ];
            let digest = Sha256::new()
                .chain_update(enclave.mr_enclave)
                .chain_update(enclave.mr_signer)
                .chain_update(product)
                .chain_update(version)
                .finalize();
            (Measurement::from(<[u8; 32]>::from(digest)), registers, enclave.report_data)
        }
        Report::TD10(td) => measured_td(td),
        Report::TD15(td) => measured_td(&td.base),
        Report::TD15Ex(td) => measured_td(&td.base.base),
    }
}

fn measured_td(td: &TDReport10) -> Measured {
    let registers = vec![
        ("MRTD", td.mr_td.to_vec()),
        ("RTMR0", td.rt_mr0.to_vec()),
        ("RTMR1", td.rt_mr1.to_vec()),
        ("RTMR2", td.rt_mr2.to_vec()),
        ("RTMR3", td.rt_mr3.to_vec()),
        ("MRCONFIGID", td.mr_config_id.to_vec()),
        ("MROWNER", td.mr_owner.to_vec()),
        ("MROWNERCONFIG", td.mr_owner_config.to_vec()),
        ("MRSEAM", td.mr_seam.to_vec()),
        ("MRSIGNERSEAM", td.mr_signer_seam.to_vec()),
    ];
    (measurement_of_td(&td.mr_td, [&td.rt_mr0, &td.rt_mr1, &td.rt_mr2]), registers, td.report_data)
}

/// The measurement of a trust domain: SHA-256(MRTD ‖ RTMR0 ‖ RTMR1 ‖ RTMR2).
pub fn measurement_of_td(mrtd: &[u8; 48], rtmr: [&[u8; 48]; 3]) -> Measurement {
    let mut hash = Sha256::new().chain_update(mrtd);
    rtmr.into_iter().for_each(|register| hash.update(register));
    Measurement::from(<[u8; 32]>::from(hash.finalize()))
}

fn chip(ppid: &[u8]) -> ChipId {
    ChipId::from(<[u8; 32]>::from(Sha256::new().chain_update(b"intel\0").chain_update(ppid).finalize()))
}

pub(crate) fn status(status: dcap_qvl::TcbStatus) -> Result<TcbStatus, AttestError> {
    use dcap_qvl::TcbStatus as Theirs;
    Ok(match status {
        Theirs::UpToDate => TcbStatus::UpToDate,
        Theirs::SWHardeningNeeded => TcbStatus::SWHardeningNeeded,
        Theirs::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        Theirs::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSWHardeningNeeded,
        Theirs::OutOfDate => TcbStatus::OutOfDate,
        Theirs::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
        Theirs::TDRelaunchAdvised => TcbStatus::TDRelaunchAdvised,
        Theirs::TDRelaunchAdvisedConfigurationNeeded => TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        Theirs::Revoked => return Err(AttestError::Revoked { what: "TCB level" }),
    })
}

pub(crate) fn dcap_collateral(collateral: &IntelCollateral) -> QuoteCollateralV3 {
    QuoteCollateralV3 {
        pck_crl_issuer_chain: collateral.pck_crl_issuer_chain.clone(),
        root_ca_crl: collateral.root_ca_crl.clone(),
        pck_crl: collateral.pck_crl.clone(),
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
        tcb_info: collateral.tcb_info.clone(),
        tcb_info_signature: collateral.tcb_info_signature.clone(),
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
        qe_identity: collateral.qe_identity.clone(),
        qe_identity_signature: collateral.qe_identity_signature.clone(),
        pck_certificate_chain: collateral.pck_certificate_chain.clone(),
    }
}

/// Gives the library's refusals names. Every one is a refusal whatever its name; the refusal table in the tests holds the
/// texts of the pinned version to these names.
fn name_refusal(text: &str) -> AttestError {
    let has = |part: &str| text.contains(part);
    let what = if has("QE Identity") || has("qe_identity") || has("QeIdentity") {
        "QE identity"
    } else if has("TCB Info") || has("TCBInfo") || has("tcb_info") || has("TcbInfo") {
        "TCB info"
    } else if has("root CA CRL") {
        "root CRL"
    } else if has("PCK CRL") {
        "PCK CRL"
    } else {
        "certificate chain"
    };
    if has("Debug mode is enabled") {
        AttestError::Debug
    } else if has("issue date is in the future") {
        AttestError::NotYetValid { what }
    } else if has("CertNotValidYet") {
        AttestError::NotYetValid { what: "certificate" }
    } else if has("TCBInfo expired") || has("QE Identity expired") {
        AttestError::Expired { what }
    } else if has("CrlExpired") {
        AttestError::Expired { what: "CRL" }
    } else if has("CertExpired") {
        AttestError::Expired { what: "certificate" }
    } else if has("CertRevoked") {
        AttestError::Revoked { what: "certificate" }
    } else if has("TCB status is invalid: Revoked") {
        AttestError::Revoked { what: "TCB level" }
    } else if has("Signature is invalid for tcb_info") || has("Signature is invalid for qe_identity") {
        AttestError::BadSignature { what }
    } else if has("Signature is invalid for qe_report") {
        AttestError::BadSignature { what: "quoting enclave report" }
    } else if has("QE report hash mismatch") {
        AttestError::BadSignature { what: "attestation key" }
    } else if has("ISV enclave report signature is invalid") {
        AttestError::BadSignature { what: "quote" }
    } else if has("InvalidCrlSignatureForPublicKey") || (has("CRL") && has("InvalidSignatureForPublicKey")) {
        AttestError::BadSignature { what: "CRL" }
    } else if has("InvalidSignatureForPublicKey")
        || has("UnknownIssuer")
        || has("Failed to verify certificate chain")
        || has("must be issued directly by the root")
    {
        AttestError::BadChain { what, detail: text.to_owned() }
    } else if has("Fmspc mismatch") {
        AttestError::FmspcMismatch
    } else if has("No matching TCB level found") {
        AttestError::NoTcbLevel
    } else if has("Unknown QE vendor ID")
        || has("QE MRSIGNER")
        || has("QE ISVPRODID")
        || has("QE MISCSELECT")
        || has("QE ATTRIBUTES")
        || has("QE ISVSVN")
    {
        AttestError::QuotingEnclave(text.to_owned())
    } else if has("TDX module") {
        AttestError::TdxModule(text.to_owned())
    } else if has("TD profiling")
        || has("Reserved bits in TD")
        || has("TD migration")
        || has("SERVTD_EXT")
        || has("SEPT_VE_DISABLE")
        || has("MR service TD")
    {
        AttestError::Attribute(text.to_owned())
    } else if has("Failed to parse") || has("Failed to decode") || has("Invalid key length") || has("BadDer") {
        AttestError::Malformed { what, detail: text.to_owned() }
    } else {
        AttestError::Refused(text.to_owned())
    }
}

/// The header of a quote, for those who route evidence before it is verified.
pub fn quote_header(bytes: &[u8]) -> Result<(u16, u32), AttestError> {
    let header = bytes.get(..HEADER).ok_or(AttestError::Truncated { what: "quote header" })?;
    Ok((u16::from_le_bytes([header[0], header[1]]), u32::from_le_bytes([header[4], header[5], header[6], header[7]])))
}
