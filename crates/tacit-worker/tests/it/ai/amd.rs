//! A node on a simulated SEV-SNP machine: its report holds under AMD's root, and its answers are proven as anybody's.

use serde_json::Value;
use tacit_attest::{Policy, Preset};
use tacit_client::ai::{AiClient, AiRequest, AiSettings};
use tacit_simulator::{EndorsementKey, Generation, Hardware, Root, measure_executable_on};
use tacit_verify::Judge;
use zeroize::Zeroizing;

use super::node::{MINE, Node, chat};
use crate::network::now;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_amd_machine_answers_under_its_own_root_alone() {
    let hardware = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vcek };
    let folder = tempfile::tempdir().unwrap();
    let root = Root::create(&folder.path().join("root"), "test", now()).unwrap().with_amd(now()).unwrap();
    let (intel, amd) = (root.policy_entry("intel").unwrap(), root.amd().unwrap().policy_entry("amd").unwrap());
    let node = Node::start_on(folder.path(), root, hardware).await;

    let measurement = measure_executable_on(hardware, &std::env::current_exe().unwrap(), &[]).unwrap();
    let client = |root| {
        let policy = Policy::preset(Preset::Dev).with_name("test").with_root(root).with_image("worker", &[measurement]);
        let judge = Judge::Policy(Box::new(policy));
        AiClient::new(AiSettings::new(node.url("").parse().unwrap(), judge, Zeroizing::new(MINE.to_owned()))).unwrap()
    };
    let ask = || AiRequest::post("/v1/chat/completions", chat("one two", serde_json::json!({})).into_bytes());
    let mut answer = client(amd).send(ask()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.rest().await.unwrap();
    let proof = answer.finish().await.unwrap().expect("an answer of a model has a proof");
    assert_eq!(proof.receipt.inference().unwrap().usage.completion_tokens, 2);
    assert!(client(intel).send(ask()).await.is_err());

    // The interface before ACI calls Intel's quotes by Intel's name, and nobody else's.
    let report = node.get("/v1/attestation/report?signing_algo=ecdsa&nonce=abc&version=2", None).await;
    let report: Value = report.json().await.unwrap();
    assert!(report["intel_quote"].is_null() && report["quote"].is_string(), "{report}");
}
