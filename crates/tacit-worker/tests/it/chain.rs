//! Requests of contracts.

use serde_json::json;
use tacit_ledger::{At, RequestStatus, requests::Question};
use tacit_types::eip712::Kind;

use crate::network::{Network, eventually, json, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contract_asks_and_is_answered_once() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let trigger = "[[trigger]]\nchain = \"local\"\nconsumer = \"any\"\nmethod = \"answer\"\n";
    let function = network.deploy("oracle", trigger).await;
    let silent = network.deploy("silent", "").await;
    let client = network.client();
    let certificate = &client.fetch_workers(function).await.unwrap()[0];
    let root = certificate.worker.certificate().root;
    let consumer = network.owner.deploy_stored_answers(&[root]).await.unwrap();
    let ask = async |function, method: &str, input: &[u8]| {
        let deadline = now().plus(120);
        let question = Question { method, input, callback_gas: 200_000, fee: 0, deadline };
        network.owner.ask_through(consumer, function, &question).await.unwrap().0
    };
    let id = ask(function, "answer", br#"{"x":21}"#).await;
    let unanswered = [ask(function, "add", br#"{"amount":1}"#).await, ask(silent, "answer", br#"{"x":1}"#).await];
    let failing = ask(function, "answer", b"not json").await;
    let ledger = network.owner.ledger();
    let response = eventually("the answer is on the chain", async || {
        let response = ledger.response(id, At::Final).await.unwrap();
        (!response.is_empty()).then_some(response)
    })
    .await;
    assert_eq!(response, br#"{"doubled":42}"#);
    assert_eq!(ledger.stored_answer(consumer, id, At::Final).await.unwrap(), response);
    assert_eq!(ledger.request_status(id, At::Final).await.unwrap(), RequestStatus::Done);
    let receipt = reqwest::get(format!("http://{}/v1/receipts/{id}", worker.address())).await.unwrap();
    let bundle = tacit_receipt::Bundle::parse(&receipt.bytes().await.unwrap()).unwrap();
    assert_eq!((bundle.receipt.kind, bundle.receipt.call_id), (Kind::ChainRequest, id));
    assert_eq!(json(&client, function, "answered", json!(null)).await, json!(1));
    // No trigger for the method or in the function, and a failed call: these stay open.
    for id in unanswered.into_iter().chain([failing]) {
        assert_eq!(ledger.request_status(id, At::Final).await.unwrap(), RequestStatus::Open);
    }
    worker.stop().await;
}
