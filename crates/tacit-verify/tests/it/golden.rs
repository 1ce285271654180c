//! The golden files: what makes them, and what the verifier says about them.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use tacit_attest::{Policy, Preset, Seen};
use tacit_receipt::{Bundle, BundleEvidence};
use tacit_simulator::{Machine, Root};
use tacit_types::deployment::{
    Deployment, DeploymentChain, DeploymentGatekeeper, Finality, Genesis, GenesisGatekeeper, NamedFinality,
    genesis_report_data,
};
use tacit_types::formats::sha256;
use tacit_types::keyset::report_data;
use tacit_types::*;
use tacit_verify::{Anchor, CertifiedWorker, Inspection, Judge, Report, TimeProof, Verdict, Verifier, cluster_of};

use crate::network::{CALL, GENESIS, LATER, NOT_AFTER, NOT_BEFORE, Sample, gatekeepers, worker};
use crate::{check_vector, vector, vector_path};

const DEPLOYMENT: &str = "golden.deployment.json";
const WORKER: &str = "golden.worker.json";
const RECEIPT: &str = "golden.receipt.json";

/// The golden deployment.
pub fn anchor() -> Anchor {
    Anchor::parse(&vector(DEPLOYMENT)).unwrap()
}

/// The golden worker as a gateway would present it.
pub fn certified_worker() -> CertifiedWorker {
    serde_json::from_slice(&vector(WORKER)).unwrap()
}

/// The golden call, to be changed and signed anew.
pub fn sample() -> Sample {
    let certificate = certified_worker().certificate.certificate;
    Sample::new(anchor(), certificate.chip, certificate.measurement)
}

/// A verifier of the golden cluster under a preset.
pub fn verifier(preset: Preset) -> Verifier {
    Verifier::new(anchor(), Judge::Preset(preset))
}

fn canonical<T: serde::Serialize>(value: &T) -> Vec<u8> {
    jcs::to_bytes(value).unwrap()
}

/// SHA-384 of the executable that the golden machines run.
pub const EXECUTABLE: [u8; 48] = [0x99; 48];

/// Makes deployment and worker with fresh simulated chips. Their evidence is random; all else follows from seeds.
pub fn make_network(directory: &Path) -> (Deployment, CertifiedWorker) {
    let root = Root::create(&directory.join("root"), "golden-sim", GENESIS).unwrap();
    let machine = |name: &str, at| {
        let root = Root::open(&directory.join("root")).unwrap();
        Machine::open(&directory.join(name), root, name, &[], at).unwrap()
    };
    let value = |json: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&json).unwrap();
    let worker_machine = machine("worker", NOT_BEFORE);
    let measurement = worker_machine.measurement(EXECUTABLE);
    let policy = Policy::preset(Preset::Dev)
        .with_name("golden")
        .with_root(root.policy_entry("SIMULATED golden-sim").unwrap())
        .with_image("tacit", &[measurement]);
    let gatekeepers = gatekeepers();
    let contracts =
        ["FunctionRegistry", "GatekeeperSet", "PolicyRegistry", "ReceiptVerifier", "RequestHub", "WorkerRegistry"];
    let genesis = Genesis {
        version: 1,
        network: "golden-sim".into(),
        chain_id: 31337,
        contracts: contracts
            .iter()
            .zip(1..)
            .map(|(name, byte)| (name.to_string(), Address::from([byte; 20])))
            .collect(),
        code_hashes: contracts.iter().map(|name| (name.to_string(), sha256(name.as_bytes()))).collect(),
        rpcs: vec!["http://127.0.0.1:8545".into()],
        policy: policy.hash().unwrap(),
        roots: vec![root.id()],
        simulated: true,
        threshold: 2,
        gatekeepers: gatekeepers
            .iter()
            .map(|gatekeeper| GenesisGatekeeper {
                address: gatekeeper.chain.address(),
                keyset: gatekeeper.keyset.digest().unwrap(),
            })
            .collect(),
        time: GENESIS,
    };
    let cluster = genesis.cluster_id().unwrap();
    let transcript = sha256(b"golden transcript");
    let members = gatekeepers.into_iter().enumerate().map(|(index, gatekeeper)| {
        let machine = machine(&format!("gatekeeper-{index}"), GENESIS);
        let statement = genesis_report_data(cluster, transcript, gatekeeper.keyset.digest().unwrap());
        DeploymentGatekeeper {
            transcript,
            evidence: value(machine.quote(EXECUTABLE, &statement).unwrap().to_json()),
            collateral: value(machine.collateral(GENESIS).unwrap().to_json()),
            url: format!("http://127.0.0.1:{}", 4000 + index),
            keyset: gatekeeper.keyset,
        }
    });
    let deployment = Deployment {
        version: 1,
        cluster_id: cluster,
        chain: DeploymentChain {
            rpc: "http://127.0.0.1:8545".into(),
            finality: Finality::Named(NamedFinality::Finalized),
        },
        gatekeepers: members.collect(),
        policy: serde_json::to_value(&policy).unwrap(),
        gateways: vec!["http://127.0.0.1:5000".into()],
        genesis,
    };
    let nonce = sha256(b"golden nonce");
    let statement = report_data(worker().keyset.digest().unwrap(), Some(nonce));
    let evidence = worker_machine.quote(EXECUTABLE, &statement).unwrap();
    let collateral = worker_machine.collateral(NOT_BEFORE).unwrap();
    let found = tacit_attest::verify(&evidence, &collateral, &policy, NOT_BEFORE).unwrap();
    let anchor = Anchor::new(deployment.clone()).unwrap();
    let mut sample = Sample::new(anchor, found.chip(), found.measurement());
    sample.certificate.collateral_time = found.collateral_time();
    let worker = CertifiedWorker {
        certificate: sample.bundle().certificate,
        evidence: Some(BundleEvidence {
            evidence: value(evidence.to_json()),
            collateral: value(collateral.to_json()),
            nonce: Some(nonce),
        }),
    };
    (deployment, worker)
}

/// Signatures of simulated chips are random, so the two files that hold them are made only where they are not there;
/// everything else is compared with what the code makes.
#[test]
fn golden_files_are_what_the_code_makes() {
    if std::env::var_os("TACIT_BLESS").is_some() && !vector_path(DEPLOYMENT).exists() {
        let directory = tempfile::tempdir().unwrap();
        let (deployment, worker) = make_network(directory.path());
        std::fs::write(vector_path(DEPLOYMENT), canonical(&deployment)).unwrap();
        std::fs::write(vector_path(WORKER), canonical(&worker)).unwrap();
    }
    let worker = certified_worker();
    let bundle = sample().bundle();
    assert_eq!(worker.certificate, bundle.certificate);
    check_vector(RECEIPT, &bundle.encode().unwrap());
}

/// A fresh network, whatever is committed: the golden files are not one lucky case.
#[test]
fn a_fresh_network_verifies_too() {
    let directory = tempfile::tempdir().unwrap();
    let (deployment, worker) = make_network(directory.path());
    let anchor = Anchor::new(deployment).unwrap();
    let certificate = worker.certificate.certificate.clone();
    let mut sample = Sample::new(anchor.clone(), certificate.chip, certificate.measurement);
    sample.certificate = certificate;
    let verifier = Verifier::new(anchor, Judge::Preset(Preset::Dev));
    let mut bundle = sample.bundle();
    bundle.evidence = worker.evidence;
    let report = verifier.verify_bundle(&bundle.encode().unwrap(), LATER);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
}

fn judged(preset: Preset, now: UnixTime) -> Report {
    verifier(preset).verify_bundle(&vector(RECEIPT), now)
}

#[test]
fn the_golden_receipt_has_these_verdicts() {
    let check = |preset, now, verdict: Verdict, time| {
        let report = judged(preset, now);
        assert_eq!(report.verdict, verdict, "{report}");
        assert_eq!(report.time, Some(time));
        assert_eq!(report.root.as_deref(), Some("SIMULATED golden-sim"));
        assert_eq!(report.could_talk_to.as_deref(), Some("api.example.com"));
        assert!(report.steps.iter().all(|step| step.ok));
    };
    check(Preset::Dev, LATER, Verdict::Verified, TimeProof::Countersigned);
    check(Preset::Dev, CALL, Verdict::Verified, TimeProof::Live);
    check(Preset::Dev, NOT_AFTER, Verdict::Verified, TimeProof::Live);
    check(Preset::Dev, NOT_AFTER.plus(1), Verdict::Verified, TimeProof::Countersigned);
    check(Preset::Standard, LATER, Verdict::Simulated, TimeProof::Countersigned);
    check(Preset::High, CALL, Verdict::Simulated, TimeProof::Live);
    let codes = [Verdict::Verified, Verdict::Refused, Verdict::Simulated, Verdict::Incomplete].map(Verdict::exit_code);
    assert_eq!(codes, [0, 3, 4, 5]);
}

#[test]
fn only_a_verified_receipt_becomes_one() {
    let receipt = verifier(Preset::Dev).verify_receipt(&vector(RECEIPT), LATER).unwrap();
    assert_eq!(receipt.digest(), Bundle::parse(&vector(RECEIPT)).unwrap().digest());
    assert_eq!(receipt.time(), TimeProof::Countersigned);
    let report = verifier(Preset::Standard).verify_receipt(&vector(RECEIPT), LATER).unwrap_err();
    assert_eq!(report.verdict, Verdict::Simulated);
    assert_eq!(report.verdict_line(), "SIMULATED");
}

#[test]
fn the_json_form_has_exactly_these_members() {
    let report = serde_json::to_value(judged(Preset::Standard, LATER)).unwrap();
    let members = |value: &serde_json::Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(members(&report), ["couldTalkTo", "root", "steps", "time", "verdict"]);
    assert_eq!(report["verdict"], "simulated");
    assert_eq!(report["time"], "countersigned");
    assert_eq!(members(&report["steps"][0]), ["doesNotProve", "error", "ok", "proves", "step"]);
    let names: Vec<_> = report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected =
        "parse anchor gatekeepers certificate policy receipt code commitments effects acknowledgement log time";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn the_human_form_ends_in_the_verdict() {
    assert!(judged(Preset::Standard, LATER).to_string().ends_with("\nSIMULATED\n"));
    let refused = verifier(Preset::Dev).verify_bundle(b"{}", LATER).to_string();
    assert!(refused.lines().last().unwrap().starts_with("REFUSED: parse: not a receipt bundle"), "{refused}");
}

#[test]
fn a_bundle_names_its_cluster_and_nothing_to_trust() {
    let bytes = vector(RECEIPT);
    assert_eq!(cluster_of(&bytes), Some(anchor().cluster()));
    assert_eq!(cluster_of(b"{}"), None);
    let report = tacit_verify::refuse_without_anchor(&bytes);
    assert_eq!(report.verdict, Verdict::Refused);
    assert!(report.verdict_line().starts_with("REFUSED: anchor: no deployment is known for cluster 0x"));
    assert!(report.verdict_line().contains("--deployment FILE"));
}

#[test]
fn json_in_json_out() {
    let ask = |question: serde_json::Value| -> serde_json::Value {
        serde_json::from_slice(&tacit_verify::verify_json(question.to_string().as_bytes())).unwrap()
    };
    let file = STANDARD.encode(vector(RECEIPT));
    let deployment: serde_json::Value = serde_json::from_slice(&vector(DEPLOYMENT)).unwrap();
    let json = serde_json::json!({ "file": file, "deployment": deployment, "policy": "dev", "now": LATER });
    let report = ask(json);
    assert_eq!((&report["verdict"], &report["subject"]["kind"]), (&"verified".into(), &"receipt bundle".into()));
    let json = serde_json::json!({ "file": file, "deployment": deployment, "now": LATER });
    assert_eq!(ask(json)["verdict"], "simulated");
    assert_eq!(ask(serde_json::json!({ "file": file, "now": LATER }))["verdict"], "refused");
    let policy = deployment["policy"].clone();
    let json = serde_json::json!({ "file": file, "deployment": deployment, "policy": policy, "now": LATER });
    assert_eq!(ask(json)["verdict"], "verified");
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"now":1,"file":"e30"}"#,
        r#"{"now":1,"file":"e30=","policy":"lax"}"#,
        r#"{"now":1,"file":""}"#,
    ] {
        let report: serde_json::Value = serde_json::from_slice(&tacit_verify::verify_json(bad.as_bytes())).unwrap();
        assert_eq!(report["verdict"], "refused", "{bad}");
    }
}

#[test]
fn a_worker_is_judged_under_its_deployment() {
    let inspect = |anchor: Option<Anchor>, now: UnixTime| {
        let worker = vector(WORKER);
        let inspection = Inspection {
            file: &worker,
            collateral: vec![],
            anchor,
            judge: Judge::Preset(Preset::Dev),
            nonce: None,
            at: None,
            seen: Seen::default(),
            now,
        };
        inspection.inspect().report
    };
    let report = inspect(Some(anchor()), NOT_BEFORE);
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    let subject = report.subject.unwrap();
    assert_eq!(subject.kind, "worker certificate");
    assert!(subject.facts.iter().any(|fact| fact.name == "measurement"));
    assert_eq!(inspect(Some(anchor()), LATER).verdict, Verdict::Refused, "its certificate is over");
    assert_eq!(inspect(None, NOT_BEFORE).verdict, Verdict::Refused);
}

#[test]
fn evidence_says_what_it_proves_and_when_its_collateral_expired() {
    let given = certified_worker().evidence.unwrap();
    let (evidence, collateral) = (given.evidence.to_string(), given.collateral.to_string());
    let policy = anchor().policy().clone();
    let inspect = |file: &str, beside: &[&str], judge: Judge| {
        let inspection = Inspection {
            file: file.as_bytes(),
            collateral: beside.iter().map(|text| text.as_bytes()).collect(),
            anchor: None,
            judge,
            nonce: None,
            at: Some(NOT_BEFORE),
            seen: Seen::default(),
            now: LATER,
        };
        inspection.inspect()
    };
    let own = || Judge::Policy(Box::new(policy.clone()));
    let found = inspect(&evidence, &[&collateral], own());
    assert_eq!(found.report.verdict, Verdict::Verified, "{}", found.report);
    assert_eq!(found.report.time, Some(TimeProof::Unproven), "the collateral has expired since");
    assert!(found.collateral_expires.unwrap() < LATER);
    let text = found.report.to_string();
    for line in [
        "Intel TDX quote, version 4",
        "measurement",
        "tcb status       UpToDate",
        "advisories       none",
        "simulated        yes",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // In one file with its collateral, or as the bare quote in hex.
    let together = format!(r#"{{"evidence":{evidence},"collateral":{collateral}}}"#);
    assert_eq!(inspect(&together, &[], own()).report.verdict, Verdict::Verified);
    let document = given.evidence["document"].as_str().unwrap();
    let quote = hex::encode(STANDARD.decode(document).unwrap());
    assert_eq!(inspect(&quote, &[&collateral], own()).report.verdict, Verdict::Verified);
    // Without collateral something is missing; under a policy that does not name the root it is refused.
    let incomplete = inspect(&evidence, &[], own()).report;
    assert_eq!(incomplete.verdict, Verdict::Incomplete);
    assert!(incomplete.verdict_line().contains("--collateral"), "{}", incomplete.verdict_line());
    assert!(incomplete.subject.unwrap().facts.is_empty(), "nothing is said that does not hold");
    assert_eq!(inspect(&evidence, &[&collateral], Judge::Preset(Preset::Dev)).report.verdict, Verdict::Refused);
    assert_eq!(inspect(&evidence, &["{}"], own()).report.verdict, Verdict::Refused);
}
