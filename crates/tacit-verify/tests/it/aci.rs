//! Transcripts and services of confidential inference: what holds, and everything changed refused.

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use serde_json::{Value, json};
use tacit_attest::{AttestError, Policy, Preset, Seen};
use tacit_receipt::SignedCertificate;
use tacit_receipt::aci::{
    AttestationReport, CertificateStatement, Event, PrefixedDigest, ReceiptDraft, Serving, Session, SourceProvenance,
    UpstreamOutcome, UpstreamVerified,
};
use tacit_receipt::log_origin;
use tacit_simulator::{EndorsementKey, Generation, Hardware, Machine, Root};
use tacit_types::quorum::IndexedSignature;
use tacit_types::signature::NoteKey;
use tacit_types::{Digest, UnixTime, jcs};
use tacit_verify::aci::{Exchange, ServiceInput, Transcript, VerifiedService, verify_service};
use tacit_verify::{Anchor, Inspection, Judge, Report, StepName, TimeProof, Verdict, VerifyError, verify_json};

use crate::aci_service::{NONCE, REQUEST, RESPONSE, SERVED, Service, channel, inference};
use crate::golden::make_network;
use crate::network::{NOT_BEFORE, Sample, gatekeepers};
use crate::{vector, vector_path};

const TRANSCRIPT: &str = "golden.transcript.json";
const POLICY: &str = "golden.transcript.policy.json";

fn inspect(file: &[u8], judge: Judge, anchor: Option<Anchor>, now: UnixTime) -> Report {
    let inspection =
        Inspection { file, collateral: vec![], anchor, judge, nonce: None, at: None, seen: Seen::default(), now };
    inspection.inspect().report
}

fn judged(service: &Service, transcript: &Transcript) -> Report {
    let bytes = jcs::to_bytes(transcript).unwrap();
    inspect(&bytes, Judge::Policy(Box::new(service.policy.clone())), None, SERVED)
}

fn service() -> (tempfile::TempDir, Service) {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::new(directory.path(), Hardware::Tdx);
    (directory, service)
}

fn failed(report: &Report) -> (StepName, &VerifyError) {
    let step = report.failed().unwrap_or_else(|| panic!("{report}"));
    (step.step, step.error.as_ref().unwrap())
}

fn steps(report: &Report) -> String {
    let names: Vec<_> = report.steps.iter().map(|step| step.step.name()).collect();
    names.join(" ")
}

/// The golden transcript, the policy that it is judged by, and the time.
fn golden() -> (Vec<u8>, Judge) {
    let policy = Policy::from_json(&vector(POLICY)).unwrap();
    (vector(TRANSCRIPT), Judge::Policy(Box::new(policy)))
}

/// Signatures of simulated chips are random, so the files are made only where they are not there.
#[test]
fn the_golden_transcript_is_verified_in_every_step() {
    if std::env::var_os("TACIT_BLESS").is_some() && !vector_path(TRANSCRIPT).exists() {
        let (_directory, service) = service();
        std::fs::write(vector_path(TRANSCRIPT), service.transcript().encode().unwrap()).unwrap();
        std::fs::write(vector_path(POLICY), service.policy.canonical().unwrap()).unwrap();
    }
    let (file, judge) = golden();
    let report = inspect(&file, judge.clone(), None, SERVED);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert_eq!(report.time, Some(TimeProof::Live));
    assert_eq!(report.root.as_deref(), Some("SIMULATED ai-sim"));
    let expected =
        "transcript id-1 id-2 id-3 id-4 id-5 id-6 receipt-1 receipt-2 receipt-3 receipt-4 upstream-1 inference log";
    assert_eq!(steps(&report), expected);
    let subject = serde_json::to_value(report.subject.as_ref().unwrap()).unwrap();
    let said = |name: &str| subject[name].clone();
    assert_eq!(said("kind"), "AI transcript");
    assert_eq!(said("modelDigest"), inference().model_digest.to_string());
    assert_eq!((said("promptTokens"), said("completionTokens")), (json!(12), json!(3)));
    assert_eq!((said("price"), said("rewritten")), (json!("1900 USD-nano"), json!(false)));
    // The same words through the surface of the WebAssembly build.
    let policy: Value = serde_json::from_slice(&vector(POLICY)).unwrap();
    let question = json!({ "file": STANDARD.encode(&file), "policy": policy, "now": SERVED });
    assert_eq!(verify_json(question.to_string().as_bytes()), serde_json::to_vec(&report).unwrap());
    // A day later the collateral may be old; what was judged as of then still says so.
    let inspection = Inspection {
        file: &file,
        collateral: vec![],
        anchor: None,
        judge,
        nonce: None,
        at: Some(SERVED),
        seen: Seen::default(),
        now: SERVED.plus(400 * 86_400),
    };
    let later = inspection.inspect().report;
    assert_eq!((later.verdict, later.time), (Verdict::Verified, Some(TimeProof::Unproven)));
    assert_eq!(inspect(&file, Judge::Preset(Preset::Standard), None, SERVED).verdict, Verdict::Refused);
}

/// Whether bytes that differ from the golden file in one place are refused.
fn refused(judge: &Judge, altered: &[u8], what: &str) {
    let report = inspect(altered, judge.clone(), None, SERVED);
    assert_eq!(report.verdict, Verdict::Refused, "{what}: {report}");
}

/// What a byte becomes so that hex stays hex, digits stay digits and letters stay letters: the later steps must refuse.
fn plausible(byte: u8) -> u8 {
    match byte {
        b'0'..=b'8' | b'a'..=b'e' => byte + 1,
        b'9' => b'0',
        b'f' => b'a',
        other => other ^ 1,
    }
}

#[test]
fn every_altered_byte_of_a_transcript_is_refused() {
    let (file, judge) = golden();
    let (mut tried, mut accepted) = (0, Vec::new());
    let mut try_one = |altered: &[u8], what: String| {
        tried += 1;
        if inspect(altered, judge.clone(), None, SERVED).verdict != Verdict::Refused {
            accepted.push(what);
        }
    };
    // A changed byte of evidence or collateral costs a whole verification, so of those each fifth, or all in a long run.
    let long = std::env::var_os("TACIT_TEST_LONG").is_some();
    let at = |name: &str| file.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let evidence = at("\"quote\":")..at("\"workload_keyset\":");
    for position in (0..file.len()).filter(|at| long || !evidence.contains(at) || at % 5 == 0) {
        let mut altered = file.clone();
        altered[position] = plausible(file[position]);
        try_one(&altered, format!("byte {position}"));
    }
    // Another case is another spelling.
    for (position, byte) in
        file.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()).step_by(if long { 1 } else { 7 })
    {
        let mut altered = file.clone();
        altered[position] = byte ^ 0x20;
        try_one(&altered, format!("case of byte {position}"));
    }
    for end in (0..file.len()).step_by(997) {
        try_one(&file[..end], format!("first {end} bytes"));
    }
    println!("{} of {tried} altered transcripts of {} bytes refused", tried - accepted.len(), file.len());
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

/// Calls `visit` with each scalar of a document changed.
fn each_scalar(document: &Value, visit: &mut dyn FnMut(&str, Value)) {
    fn walk(path: &str, root: &Value, at: &Value, visit: &mut dyn FnMut(&str, Value)) {
        let changed = match at {
            Value::Object(members) => {
                return members.iter().for_each(|(name, member)| walk(&format!("{path}/{name}"), root, member, visit));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                return items.for_each(|(index, item)| walk(&format!("{path}/{index}"), root, item, visit));
            }
            Value::Number(number) => Value::from(number.as_u64().unwrap() + 1),
            Value::Bool(flag) => Value::from(!flag),
            Value::Null => Value::from("0"),
            Value::String(text) => {
                let last = text.chars().last();
                let mut changed: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
                changed.push(if last == Some('0') { '1' } else { '0' });
                Value::from(changed)
            }
        };
        let mut altered = root.clone();
        *altered.pointer_mut(path).unwrap() = changed;
        visit(path, altered);
    }
    walk("", document, document, visit);
}

#[test]
fn every_changed_member_of_a_transcript_is_refused() {
    let (file, judge) = golden();
    let document: Value = serde_json::from_slice(&file).unwrap();
    let (mut tried, mut of_receipt, mut of_usage) = (0, 0, 0);
    each_scalar(&document, &mut |path, altered| {
        refused(&judge, &jcs::to_bytes(&altered).unwrap(), path);
        tried += 1;
        of_receipt += usize::from(path.starts_with("/receipt/"));
        of_usage += usize::from(path.contains("/usage/") || path.contains("/price/") || path.contains("/model_digest"));
    });
    println!(
        "{tried} changed members refused, {of_receipt} of the receipt, {of_usage} of model digest, usage and price"
    );
    assert!(of_receipt > 20 && of_usage == 6, "{of_receipt} {of_usage}");
}

#[test]
fn members_left_out_are_noticed() {
    let (file, judge) = golden();
    let document: Value = serde_json::from_slice(&file).unwrap();
    for name in document.as_object().unwrap().keys() {
        let mut altered = document.clone();
        altered.as_object_mut().unwrap().remove(name);
        let report = inspect(&jcs::to_bytes(&altered).unwrap(), judge.clone(), None, SERVED);
        let expected = match name.as_str() {
            "log" => Verdict::Incomplete,
            // Who saw no connection, or kept no body, says nothing about it, and the report says that nothing was said.
            "channel" | "request_b64" | "response_b64" => Verdict::Verified,
            _ => Verdict::Refused,
        };
        assert_eq!(report.verdict, expected, "{name}: {report}");
        let unchecked = match name.as_str() {
            "channel" => "id-6",
            "request_b64" => "receipt-3",
            "response_b64" => "receipt-4",
            _ => continue,
        };
        assert!(report.to_string().contains(&format!("not checked      {unchecked}")), "{report}");
    }
    // What nothing binds does not stand in a transcript.
    for (path, value) in [("vm_config", json!("{}")), ("quote_report_data", json!("00")), ("further", json!(1))] {
        let mut altered = document.clone();
        altered["report"]["attestation"]["evidence"][path] = value;
        refused(&judge, &jcs::to_bytes(&altered).unwrap(), path);
    }
    let mut altered = document.clone();
    altered["report"]["service_capabilities"]["supported_e2ee_versions"] = json!(["2"]);
    refused(&judge, &jcs::to_bytes(&altered).unwrap(), "versions");
    let pretty = serde_json::to_vec_pretty(&document).unwrap();
    refused(&judge, &pretty, "another spelling");
}

#[test]
fn each_step_refuses_what_it_is_there_for() {
    let (_directory, service) = service();
    let good = service.transcript();
    assert_eq!(judged(&service, &good).verdict, Verdict::Verified, "{}", judged(&service, &good));
    let check = |change: &dyn Fn(&mut Transcript), step: StepName| {
        let mut changed = good.clone();
        change(&mut changed);
        let report = judged(&service, &changed);
        assert_eq!(report.verdict, Verdict::Refused, "{}: {report}", step.name());
        assert_eq!(failed(&report).0, step, "{report}");
    };
    // Signs another receipt, with its own place in the log.
    let signed = |change: &dyn Fn(&mut ReceiptDraft)| {
        let mut draft = service.draft();
        change(&mut draft);
        let receipt = service.sign(draft);
        let log = service.log(&receipt);
        move |transcript: &mut Transcript| {
            transcript.receipt = receipt.document().clone();
            transcript.log = Some(log.clone());
        }
    };
    check(&|t| t.nonce = Digest::from([1; 32]).into(), StepName::AciHardware);
    check(&|t| t.report.workload_keyset_digest = PrefixedDigest::of(b""), StepName::AciBinding);
    check(&|t| t.report.attestation.report_data = Digest::from([1; 32]).into(), StepName::AciBinding);
    check(&|t| t.report.attestation.workload_keyset.not_after.0 += 1, StepName::AciHardware);
    check(&|t| t.report.attestation.evidence.app_compose = Some("{}".into()), StepName::AciProvenance);
    check(
        &|t| t.report.attestation.source_provenance.as_mut().unwrap().image_digest = Some("sha256:00".into()),
        StepName::AciProvenance,
    );
    check(&|t| t.channel.as_mut().unwrap().host = "other.example.com".into(), StepName::AciChannel);
    check(&|t| t.channel.as_mut().unwrap().spki_sha256 = Digest::from([1; 32]).into(), StepName::AciChannel);
    check(&|t| t.receipt["model"] = json!("another"), StepName::AciSignature);
    check(&|t| t.receipt["event_log"][2]["usage"]["completion_tokens"] = json!(2), StepName::AciSignature);
    check(&|t| t.receipt["event_log"][2]["price"]["amount"] = json!("1"), StepName::AciSignature);
    check(&|t| t.receipt["key_id"] = json!("log"), StepName::AciSignature);
    check(&|t| t.receipt["served_at"] = json!("x"), StepName::Transcript);
    let other_keyset = Digest::from([1; 32]).into_bytes().into();
    check(&signed(&|d| d.keyset = other_keyset), StepName::AciReceiptKeyset);
    check(&signed(&|d| d.served_at = SERVED.plus(301)), StepName::AciReceiptKeyset);
    check(&|t| t.request.as_mut().unwrap().push(b' '), StepName::AciRequest);
    check(&|t| t.response.as_mut().unwrap().push(b'\n'), StepName::AciResponse);
    check(&|t| t.report.service_capabilities.serving = Serving::Aggregator, StepName::AciUpstream);
    let upstream =
        |required, outcome| Event::UpstreamVerified(UpstreamVerified { required, model_id: "m".into(), outcome });
    let failed_upstream = upstream(true, UpstreamOutcome::Failed { reason: "r".into(), upstream_name: None });
    check(&signed(&|d| d.events.insert(2, failed_upstream.clone())), StepName::AciUpstream);
    let other_usage = |draft: &mut ReceiptDraft| {
        let mut event = inference();
        event.usage.completion_tokens = 4;
        draft.events[2] = Event::Inference(event);
    };
    check(&signed(&other_usage), StepName::Inference);
    check(&|t| t.log.as_mut().unwrap().proof.index = 6, StepName::Log);
    check(&|t| t.log.as_mut().unwrap().origin = "tacit/other".into(), StepName::Log);
    let elsewhere = service.log(&service.sign(ReceiptDraft { receipt_id: "another".into(), ..service.draft() }));
    check(&|t| t.log = Some(elsewhere.clone()), StepName::Log);
    // A key that has another role signs no receipt.
    let by_log_key = service.draft().sign("log", &service.note).unwrap();
    by_log_key.check_signature(&service.keyset).unwrap();
    check(&|t| t.receipt = by_log_key.document().clone(), StepName::AciSignature);
    let forged = service.draft().sign("aci", &NoteKey::from_bytes(&[9; 32])).unwrap();
    check(&|t| t.receipt = forged.document().clone(), StepName::AciSignature);

    // Over is over: at the last second, and long after.
    let bytes = good.encode().unwrap();
    let judge = || Judge::Policy(Box::new(service.policy.clone()));
    let late = inspect(&bytes, judge(), None, service.keyset.not_after);
    assert!(late.steps.iter().any(|step| step.step == StepName::AciExpiry && !step.ok), "{late}");
}

#[test]
fn what_runs_must_be_known_by_list_or_by_measured_description() {
    let (_directory, service) = service();
    let root = service.machine.root().policy_entry("SIMULATED ai-sim").unwrap();
    let open = Policy::preset(Preset::Dev).with_root(root);
    let judge_by = |policy: &Policy, transcript: &Transcript| {
        inspect(&jcs::to_bytes(transcript).unwrap(), Judge::Policy(Box::new(policy.clone())), None, SERVED)
    };
    let good = service.transcript();
    // Without a list the measured description is enough, but says nothing about custody.
    let report = judge_by(&open, &good);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert!(!steps(&report).contains("id-5"));
    // Without both it is not known what runs.
    let mut bare = good.clone();
    bare.report.attestation.evidence.app_compose = None;
    bare.report.attestation.source_provenance = None;
    let report = judge_by(&open, &bare);
    assert_eq!((report.verdict, failed(&report).0), (Verdict::Incomplete, StepName::AciProvenance), "{report}");
    assert_eq!(judged(&service, &bare).verdict, Verdict::Verified, "the list is enough");
    // A description without a source is one that says too little.
    let mut unsourced = good.clone();
    unsourced.report.attestation.source_provenance = None;
    assert_eq!(judge_by(&open, &unsourced).verdict, Verdict::Incomplete);
    // Another image than the listed one.
    let listed = open.clone().with_image("other", &[Digest::from([9; 32]).into_bytes().into()]);
    let report = judge_by(&listed, &good);
    assert!(matches!(failed(&report), (StepName::AciHardware, VerifyError::Evidence(_))), "{report}");
    // Neither root nor preset: nothing.
    let report = judge_by(&Policy::preset(Preset::Dev), &good);
    assert!(
        matches!(failed(&report), (StepName::AciHardware, VerifyError::Evidence(AttestError::WrongRoot { .. }))),
        "{report}"
    );
}

#[test]
fn every_platform_serves() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::new(directory.path(), Hardware::Sgx);
    let transcript = service.transcript();
    assert_eq!(transcript.report.attestation.tee_type, "sgx");
    assert_eq!(transcript.report.attestation.source_provenance, None);
    assert_eq!(judged(&service, &transcript).verdict, Verdict::Verified, "{}", judged(&service, &transcript));
    // Kind and TEE type say the same, and both are what the document is.
    let mut other = transcript.clone();
    other.report.attestation.tee_type = "tdx".into();
    assert_eq!(failed(&judged(&service, &other)).0, StepName::AciHardware);
    other.report.attestation.evidence.tacit.as_mut().unwrap().kind = tacit_attest::Platform::Tdx;
    assert_eq!(failed(&judged(&service, &other)).0, StepName::AciHardware);
}

fn session() -> Session {
    let document = json!({
        "api_version": "aci/1",
        "upstream_name": "u",
        "endpoint": "https://upstream.example.com",
        "verifier_id": "v/1",
        "established_at": SERVED.0 - 60,
        "expires_at": SERVED.0 + 60,
        "channel_binding": [],
        "claims": { "tee_attested": { "status": "asserted", "source": "hardware_proven", "reason": "r" } },
        "evidence": { "digest": PrefixedDigest::of(b"e"), "data": "data:text/plain;base64,ZQ==" },
    });
    Session::from_value(document).unwrap()
}

#[test]
fn an_aggregator_cites_a_session_that_holds() {
    let (_directory, service) = service();
    let mut good = service.transcript();
    good.report.service_capabilities.serving = Serving::Aggregator;
    let session = session();
    let sign = |required: bool, session_id| {
        let mut draft = service.draft();
        let outcome = UpstreamOutcome::Verified { session_id };
        let event = UpstreamVerified { required, model_id: "m".into(), outcome };
        draft.events.insert(2, Event::UpstreamVerified(event));
        service.sign(draft)
    };
    let with = |required, session_id, session: Option<&Session>| {
        let receipt = sign(required, session_id);
        let mut transcript = good.clone();
        transcript.log = Some(service.log(&receipt));
        transcript.receipt = receipt.document().clone();
        transcript.session = session.map(|session| session.document().clone());
        judged(&service, &transcript)
    };
    let report = with(true, session.id(), Some(&session));
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert!(steps(&report).contains("upstream-1 upstream-2"));
    assert_eq!(with(true, session.id(), None).verdict, Verdict::Incomplete);
    let check = |report: Report, step| assert_eq!(failed(&report).0, step, "{report}");
    check(with(false, session.id(), Some(&session)), StepName::AciUpstream);
    check(with(true, Digest::from([1; 32]).into(), Some(&session)), StepName::AciSession);
    let mut old = session.document().clone();
    old["expires_at"] = json!(SERVED.0 - 1);
    let old = Session::from_value(old).unwrap();
    check(with(true, old.id(), Some(&old)), StepName::AciSession);
    let mut other = session.document().clone();
    other["evidence"]["data"] = json!("data:text/plain;base64,Zg==");
    let other = Session::from_value(other).unwrap();
    check(with(true, other.id(), Some(&other)), StepName::AciSession);
    // Pinned sessions, as a client that verifies at once has them.
    let receipt = sign(true, session.id());
    let verified = verified(&service, &good.report);
    let exchange = |pinned: [tacit_receipt::aci::BareDigest; 1]| {
        let log = service.log(&receipt);
        let exchange = Exchange {
            receipt: &receipt,
            request: Some(REQUEST),
            response: Some(RESPONSE),
            session: Some(&session),
            pinned: &pinned,
            log: Some(&log),
        };
        verified.report_exchange(&exchange, SERVED)
    };
    assert_eq!(exchange([session.id()]).verdict, Verdict::Verified);
    check(exchange([Digest::from([1; 32]).into()]), StepName::AciSession);
}

fn verified(service: &Service, report: &AttestationReport) -> VerifiedService {
    let judge = Judge::Policy(Box::new(service.policy.clone()));
    let (channel, nonce) = (channel(), Some(NONCE.into()));
    let input = ServiceInput { report, nonce, collateral: None, channel: Some(&channel), anchor: None, judge: &judge };
    verify_service(&input, SERVED).unwrap_or_else(|report| panic!("{report}")).0
}

#[test]
fn a_service_is_verified_before_anything_is_sent() {
    let (_directory, service) = service();
    let report = service.report(Some(NONCE.into()));
    let found = verified(&service, &report);
    assert_eq!((found.keyset(), found.serving()), (&service.keyset, Serving::Direct));
    let judge = Judge::Policy(Box::new(service.policy.clone()));
    let check = |report: &AttestationReport, nonce: Option<[u8; 32]>, verdict, step| {
        let nonce = nonce.map(Digest::from);
        let input = ServiceInput { report, nonce, collateral: None, channel: None, anchor: None, judge: &judge };
        let refused = *verify_service(&input, SERVED).map(drop).unwrap_err();
        assert_eq!((refused.verdict, failed(&refused).0), (verdict, step), "{refused}");
    };
    // An old answer, and one without a nonce, which is bound and not fresh.
    check(&report, Some([1; 32]), Verdict::Refused, StepName::AciHardware);
    check(&service.report(None), None, Verdict::Incomplete, StepName::AciBinding);
    // Collateral may come from elsewhere.
    let mut without = report.clone();
    without.attestation.evidence.tacit.as_mut().unwrap().collateral = None;
    check(&without, Some(NONCE), Verdict::Incomplete, StepName::AciHardware);
    let collateral = service.machine.collateral(SERVED).unwrap();
    let input = ServiceInput {
        report: &without,
        nonce: Some(NONCE.into()),
        collateral: Some(&collateral),
        channel: None,
        anchor: None,
        judge: &judge,
    };
    assert!(verify_service(&input, SERVED).is_ok());
    // One key in two roles.
    let mut shared = service.report(Some(NONCE.into()));
    let keys = &mut shared.attestation.workload_keyset.receipt_signing_keys;
    keys[0].public_key = keys[2].public_key.clone();
    check(&shared, Some(NONCE), Verdict::Refused, StepName::AciHardware);
    // The report alone is a file too, with collateral inside.
    let file = serde_json::to_vec(&report).unwrap();
    let inspection = Inspection {
        file: &file,
        collateral: vec![],
        anchor: None,
        judge: judge.clone(),
        nonce: Some(NONCE.into()),
        at: None,
        seen: Seen::default(),
        now: SERVED,
    };
    let report = inspection.inspect().report;
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert_eq!(report.subject.unwrap().kind, "keyset report");
}

/// A worker of a cluster: the cluster's certificate stands in the report, and its root is a simulated one.
#[test]
fn a_worker_of_a_cluster_is_judged_under_its_deployment() {
    let directory = tempfile::tempdir().unwrap();
    let (deployment, worker) = make_network(directory.path());
    let anchor = Anchor::new(deployment).unwrap();
    let root = Root::open(&directory.path().join("root")).unwrap();
    let machine = Machine::open(&directory.path().join("worker"), root, "worker", &[], NOT_BEFORE).unwrap();
    let mut service = Service::on(machine, anchor.policy().clone());
    service.keyset.not_after = NOT_BEFORE.plus(365 * 86_400);
    let own = worker.certificate.certificate.clone();
    let mut sample = Sample::new(anchor.clone(), own.chip, own.measurement);
    sample.certificate.collateral_time = own.collateral_time;
    sample.certificate.worker = service.chain.address();
    sample.certificate.keyset = service.keyset.digest().unwrap();
    let id = sample.certificate.id(anchor.cluster());
    let gatekeepers = gatekeepers();
    let signature = |index: u32| IndexedSignature {
        index,
        signature: gatekeepers[index as usize].chain.sign(id.into_bytes().into()),
    };
    let certificate =
        CertificateStatement { certificate: sample.certificate.clone(), signatures: vec![signature(0), signature(2)] };
    let now = sample.certificate.not_before.plus(60);
    let mut transcript = service.transcript();
    let receipt = service.sign(ReceiptDraft { served_at: now, ..service.draft() });
    let mut report = service.report(Some(NONCE.into()));
    report.attestation.evidence.tacit.as_mut().unwrap().certificate = Some(certificate);
    transcript.report = Transcript::normal_report(&report).unwrap();
    transcript.receipt = receipt.document().clone();
    let mut log = service.log(&receipt);
    let unnamed = log.clone();
    let origin = log_origin(anchor.cluster(), service.chain.address());
    // The certified worker's log has the name that follows from the certificate.
    let checkpoint = tacit_receipt::Checkpoint::verify(&log.proof.checkpoint, &log.origin, &service.note.public_key());
    let checkpoint = tacit_receipt::Checkpoint { origin: origin.clone(), ..checkpoint.unwrap() };
    log.proof.checkpoint = checkpoint.sign(&service.note);
    log.origin = origin;
    transcript.log = Some(log);
    let judge_by = |transcript: &Transcript, preset| {
        inspect(&transcript.encode().unwrap(), Judge::Preset(preset), Some(anchor.clone()), now)
    };
    let report = judge_by(&transcript, Preset::Dev);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert!(steps(&report).contains("id-5 id-6 gatekeepers certificate policy time receipt-1"), "{}", steps(&report));
    assert_eq!(judge_by(&transcript, Preset::Standard).verdict, Verdict::Simulated);
    let mut other = transcript.clone();
    other.log = Some(unnamed);
    assert_eq!(failed(&judge_by(&other, Preset::Dev)).0, StepName::Log);
    let mut other = transcript.clone();
    let stated = &mut other.report.attestation.evidence.tacit.as_mut().unwrap().certificate;
    stated.as_mut().unwrap().signatures.pop();
    assert_eq!(failed(&judge_by(&other, Preset::Dev)).0, StepName::Certificate);
    let signed: &SignedCertificate = &worker.certificate;
    stated_of(&mut other, signed);
    assert_eq!(failed(&judge_by(&other, Preset::Dev)).0, StepName::Certificate, "another worker's certificate");
}

fn stated_of(transcript: &mut Transcript, signed: &SignedCertificate) {
    let stated = &mut transcript.report.attestation.evidence.tacit.as_mut().unwrap().certificate;
    *stated =
        Some(CertificateStatement { certificate: signed.certificate.clone(), signatures: signed.signatures.clone() });
}

/// AMD roots take seconds to make, so this is one test of its own.
#[test]
fn an_amd_machine_serves_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root");
    let snp = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vcek };
    let made = SERVED.minus(3_600);
    let root = Root::create(&path, "ai-sim", made).unwrap().with_amd(made).unwrap();
    let setup = tacit_simulator::Setup { hardware: snp, name: "ai".into(), ..Default::default() };
    let machine = Machine::open_as(&directory.path().join("ai"), Root::open(&path).unwrap(), &setup, SERVED).unwrap();
    let entries = root.policy_entries("SIMULATED ai-sim").unwrap();
    let policy = entries.into_iter().fold(Policy::preset(Preset::Dev), Policy::with_root);
    let service = Service::on(machine, policy);
    let transcript = service.transcript();
    assert_eq!(transcript.report.attestation.tee_type, "sev_snp");
    let report = judged(&service, &transcript);
    assert_eq!((report.verdict, failed(&report).0), (Verdict::Incomplete, StepName::AciProvenance), "{report}");
    let listed = service.policy.clone().with_image("tacit", &[service.machine.measurement(crate::golden::EXECUTABLE)]);
    let report = inspect(&transcript.encode().unwrap(), Judge::Policy(Box::new(listed)), None, SERVED);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
}

#[test]
fn a_source_that_the_description_does_not_say_is_none() {
    let (_directory, service) = service();
    let source = SourceProvenance::of_compose(service.machine.app_compose()).unwrap();
    assert!(source.is_declared() && source.is_backed_by(service.machine.app_compose()));
}
