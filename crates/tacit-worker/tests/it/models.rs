//! Models within a network: asked by functions, and by people through a gateway that sees sealed bytes alone.

use std::sync::Arc;

use serde_json::{Value, json};
use tacit_attest::{Policy, Preset};
use tacit_client::{
    Answer,
    ai::{AiClient, AiError, AiRequest, AiSettings},
};
use tacit_receipt::{
    Bundle, Effect,
    aci::{AciReceipt, InferenceOutcome},
};
use tacit_types::{Digest, FunctionId, eip712::Outcome, formats::sha256, jcs, manifest::Manifest};
use tacit_verify::{Anchor, Judge, Verdict, Verifier};
use tacit_worker::{AiConfig, KeyConfig, Worker, WorkerConfig};
use zeroize::Zeroizing;

use crate::{
    ai::echo::Echo,
    network::{Network, call, now},
};

const KEY: &str = "sk-somebody";
const MODULE: &str = r#"
import { model, state } from "tacit";
const message = (content) => [{ role: "user", content }];
export async function ask({ name, text, more }) {
  await state.set("asked", text);
  try {
    const answer = await model.chat({ model: name ?? "echo", messages: message(text), ...more });
    return { said: answer.choices[0].message.content, usage: answer.usage, receipt: answer.receipt };
  } catch (error) { return { name: error.name, code: error.code, message: error.message }; }
}
export async function several(texts) {
  const answers = await Promise.all(texts.map((text) => model.complete({ model: "echo", prompt: text })));
  const { data } = await model.embed({ model: "echo", input: texts, encoding_format: "float" });
  return { said: answers.map((answer) => answer.choices[0].text), vectors: data.length };
}
export async function run(numbers) {
  try {
    const { x } = await model.run("echo", { x: { data: new Float32Array(numbers) } });
    return [...x.data];
  } catch (error) { return error.message; }
}
"#;

async fn deploy(network: &Network, name: &str, more: &str) -> FunctionId {
    let manifest = format!(
        r#"
        [function]
        name = "{name}"
        entry = "index.js"
        [[method]]
        name = "run"
        kind = "query"
        deterministic = true
        [trust]
        policy = "dev"
        {more}
        "#
    );
    network.deploy_package(Manifest::from_toml(&manifest).unwrap(), MODULE).await
}

fn config(network: &Network) -> WorkerConfig {
    let (listen, store) = ("127.0.0.1:0".parse().unwrap(), network.folder.path().join("models"));
    let keys = vec![KeyConfig::new("somebody", KEY)];
    let ai = AiConfig { hosts: vec!["127.0.0.1".into()], ..AiConfig::new(listen, store, Vec::new(), keys) };
    WorkerConfig { ai: Some(ai), ..network.config(0) }
}

async fn worker(network: &Network) -> Worker {
    let worker = Worker::start_with(config(network), vec![Arc::new(Echo::new())]).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), worker.certified()).await.expect("admitted");
    worker
}

async fn ask(network: &Network, function: FunctionId, text: &str, more: Value) -> Answer {
    let mut input = json!({ "text": text });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(&network.client(), function, "ask", input).await
}

fn said_in(answer: &Answer) -> Value {
    serde_json::from_slice(answer.response()).unwrap()
}

fn inferences(answer: &Answer) -> Vec<(Digest, Digest)> {
    let effects = Bundle::parse(answer.bundle()).unwrap().effects;
    let inference = |effect| match effect {
        Effect::Inference { receipt, model } => Some((receipt, model)),
        _ => None,
    };
    effects.into_iter().filter_map(inference).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_asks_a_model_and_its_receipt_cites_the_answers() {
    let network = Network::start().await;
    let worker = worker(&network).await;
    let function = deploy(&network, "asker", "[models]\nallow = [\"echo\", \"elsewhere\"]\n").await;

    let answer = ask(&network, function, "one two three", json!({})).await;
    assert_eq!(answer.outcome(), Outcome::Ok);
    let said = said_in(&answer);
    assert_eq!(said["said"], "one two three");
    assert_eq!(said["usage"]["completion_tokens"], 3);
    let receipt = AciReceipt::parse(&jcs::to_bytes(&said["receipt"]).unwrap()).unwrap();
    assert_eq!(receipt.inference().unwrap().outcome, InferenceOutcome::Ok);
    let echo = Digest::from([0xec; 32]);
    assert_eq!(inferences(&answer), [(sha256(&jcs::to_bytes(&said["receipt"]).unwrap()), echo)]);
    // Whoever has the bundle has the keys that signed the model's own receipt.
    let identity: Value =
        reqwest::get(format!("http://{}/v1/identity", worker.address())).await.unwrap().json().await.unwrap();
    receipt.check_signature(&serde_json::from_value(identity["keyset"].clone()).unwrap()).unwrap();
    let anchor = Anchor::new(network.deployment.clone()).unwrap();
    let report = Verifier::new(anchor, Judge::Preset(Preset::Dev)).verify_bundle(answer.bundle(), now());
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    let mut other = Bundle::parse(answer.bundle()).unwrap();
    other.effects = vec![Effect::Inference { receipt: sha256(b"another"), model: echo }];
    let anchor = Anchor::new(network.deployment.clone()).unwrap();
    let report = Verifier::new(anchor, Judge::Preset(Preset::Dev)).verify_bundle(&other.encode().unwrap(), now());
    assert_eq!(report.verdict, Verdict::Refused);

    let answer = call(&network.client(), function, "several", json!(["a b", "c"])).await;
    assert_eq!(said_in(&answer), json!({ "said": ["a b", "c"], "vectors": 2 }));
    assert_eq!(inferences(&answer).len(), 3);

    // A deterministic query runs tensors.
    let answer = call(&network.client(), function, "run", json!([1.5, -2])).await;
    assert_eq!(said_in(&answer), json!([1.5, -2]));
    assert_eq!(inferences(&answer)[0].1, echo);
    let refused = call(&network.client(), function, "run", json!([])).await;
    assert_eq!(said_in(&refused), json!("invalid: x: is empty"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_function_may_not_ask_is_refused_by_name() {
    let network = Network::start().await;
    let worker = worker(&network).await;
    let function = deploy(&network, "asker", "[models]\nallow = [\"echo\", \"elsewhere\"]\n").await;
    let refused = async |text: &str, more: Value| {
        let answer = ask(&network, function, text, more).await;
        let said = said_in(&answer);
        (said["name"].clone(), said["code"].clone(), inferences(&answer).len())
    };
    let word = |text: &str| Value::from(text);
    // Not allowed, not there, too long, in pieces, without meaning. What a model began to work on is cited.
    let (denied, model) = (word("TacitError"), word("ModelError"));
    assert_eq!(refused("hi", json!({ "name": "other" })).await, (denied.clone(), word("denied"), 0));
    assert_eq!(refused("hi", json!({ "name": "elsewhere" })).await, (model.clone(), word("model_not_found"), 0));
    let long = "word ".repeat(80);
    assert_eq!(refused(&long, json!({})).await, (model.clone(), word("context_length_exceeded"), 1));
    assert_eq!(refused("hi", json!({ "more": { "stream": true } })).await.0, model);
    assert_eq!(refused("hi", json!({ "more": { "temperature": 9 } })).await.0, model);
    assert_eq!(refused("one break two", json!({})).await.2, 1);

    let nothing = deploy(&network, "nothing", "").await;
    let said = said_in(&ask(&network, nothing, "hi", json!({})).await);
    assert!(said["message"].as_str().unwrap().contains("add it to allow under [models]"), "{said}");
    worker.stop().await;

    // A worker without models says so.
    let plain = network.worker(1).await;
    let said = said_in(&ask(&network, function, "hi", json!({})).await);
    assert_eq!(said["message"], "denied: this worker runs no models");
    plain.stop().await;
}

fn ai_client(network: &Network, url: &str) -> AiClient {
    let policy = Policy::from_json(&jcs::to_bytes(&network.deployment.policy).unwrap()).unwrap();
    let settings =
        AiSettings::new(url.parse().unwrap(), Judge::Policy(Box::new(policy)), Zeroizing::new(KEY.to_owned()));
    AiClient::new(settings).unwrap()
}

fn chat(text: &str) -> AiRequest {
    let body = json!({ "model": "echo", "messages": [{ "role": "user", "content": text }], "stream": true });
    AiRequest::post("/v1/chat/completions", body.to_string().into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_passes_sealed_requests_on_and_sees_nothing() {
    let network = Network::start().await;
    let worker = worker(&network).await;
    let plain = network.worker(1).await;
    let http = reqwest::Client::new();
    let list = format!("{}/ai", network.gateway());
    crate::network::eventually("the gateway knows the worker", async || {
        let known: Value = http.get(&list).send().await.ok()?.json().await.ok()?;
        (known["workers"] == json!([worker.account().to_string()])).then_some(())
    })
    .await;

    for url in [list.clone(), format!("{list}/{}", worker.account())] {
        let client = ai_client(&network, &url);
        let mut answer = client.send(chat("slow marker-of-mine three")).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = String::from_utf8(answer.rest().await.unwrap()).unwrap();
        assert!(body.contains("marker-of-mine") && body.contains("[DONE]"), "{body}");
        let proof = answer.finish().await.unwrap();
        let proof = proof.expect("an answer of a model has a proof");
        assert_eq!(proof.receipt.inference().unwrap().usage.completion_tokens, 3);
    }

    // Nothing goes through in the clear, to nobody else, and under no other account.
    let post = |path: String, kind: &str| http.post(path).header("content-type", kind).body("{}").send();
    let own = format!("{list}/{}/v1/sealed", worker.account());
    assert_eq!(post(own.clone(), "application/json").await.unwrap().status(), 415);
    assert_eq!(post(own, "message/ohttp-chunked-req").await.unwrap().status(), 400);
    let clear = format!("{list}/{}/v1/chat/completions", worker.account());
    assert_eq!(post(clear, "application/json").await.unwrap().status(), 404);
    for other in [plain.account().to_string(), format!("0x{}", "11".repeat(20))] {
        let path = format!("{list}/{other}/v1/aci/attestation");
        assert_eq!(http.get(path).send().await.unwrap().status(), 404, "{other}");
    }
    let nonce = format!("{list}/{}/v1/aci/attestation?nonce=/../x", worker.account());
    assert_eq!(http.get(nonce).send().await.unwrap().status(), 400);
    let error = ai_client(&network, &format!("{list}/{}", plain.account())).verify().await.err().unwrap();
    assert!(matches!(error, AiError::Status { status: 404 }), "{error}");
    worker.stop().await;
    plain.stop().await;
}
