//! A node to ask, and how tests ask it.

use std::{path::Path, sync::Arc};

use reqwest::{Client, Response};
use serde_json::{Value, json};
use tacit_receipt::{LogProof, aci::AciReceipt, log_origin};
use tacit_simulator::{Flaws, Hardware, Machine as Chip, Root, RunningSimulator, Setup, Simulator};
use tacit_types::ClusterId;
use tacit_worker::{AiConfig, AiNode, KeyConfig, Machine, ModelConfig, NodeConfig, Price};

use super::echo::Echo;
use crate::network::now;

/// Keys of the callers.
pub const MINE: &str = "sk-mine";
pub const OTHER: &str = "sk-other";
pub const SLOW: &str = "sk-two-a-minute";
pub const POOR: &str = "sk-ten-tokens";

pub struct Node {
    pub node: AiNode,
    pub client: Client,
    pub echo: Arc<Echo>,
    _machine: RunningSimulator,
}

fn key(text: &str) -> KeyConfig {
    KeyConfig::new(text, text)
}

impl Node {
    /// A node in `folder`; started there again, it is on the same machine.
    pub async fn start(folder: &Path) -> Self {
        let root = Root::open_or_create(&folder.join("root"), "test", now()).unwrap();
        Self::start_on(folder, root, Hardware::Tdx).await
    }

    /// A node on this hardware.
    pub async fn start_on(folder: &Path, root: Root, hardware: Hardware) -> Self {
        let setup = Setup { hardware, flaws: Flaws::default(), name: "node".into(), guest_files: Vec::new() };
        let chip = Chip::open_as(&folder.join("chip"), root, &setup, now()).unwrap();
        let socket = folder.join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let machine = Simulator::start(chip, &socket).unwrap();
        let echo = Arc::new(Echo::new());
        let models = vec![ModelConfig {
            name: "echo".into(),
            engine: Default::default(),
            price: Some(Price { currency: "USD".into(), prompt: 1_000_000, completion: 2_000_000 }),
        }];
        let keys = vec![
            key(MINE),
            key(OTHER),
            KeyConfig { requests_per_minute: Some(2), ..key(SLOW) },
            KeyConfig { tokens: Some(10), ..key(POOR) },
        ];
        let config = NodeConfig {
            folder: folder.join("node"),
            machine: Machine::GuestAgent { socket },
            ai: AiConfig {
                hosts: vec!["127.0.0.1".into()],
                requests: 8,
                ..AiConfig::new("127.0.0.1:0".parse().unwrap(), folder.join("models"), models, keys)
            },
        };
        let node = AiNode::start(config, vec![Arc::clone(&echo) as _]).await.unwrap();
        let certificate = reqwest::Certificate::from_der(node.certificate().unwrap()).unwrap();
        let client = Client::builder().tls_certs_only([certificate]).build().unwrap();
        Self { node, client, echo, _machine: machine }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.node.address())
    }

    pub async fn get(&self, path: &str, key: Option<&str>) -> Response {
        let mut request = self.client.get(self.url(path));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        request.send().await.unwrap()
    }

    pub async fn post(&self, path: &str, key: &str, body: impl Into<reqwest::Body>) -> Response {
        self.client.post(self.url(path)).bearer_auth(key).body(body).send().await.unwrap()
    }

    pub async fn chat(&self, key: &str, text: &str, more: Value) -> Response {
        self.post("/v1/chat/completions", key, chat(text, more)).await
    }

    /// The receipt of an exchange, which is checked as anybody would: signature, log, hashes of these bytes.
    pub async fn proven(&self, id: &str, request: &[u8], response: &[u8]) -> AciReceipt {
        let receipt = self.get(&format!("/v1/aci/receipts/{id}"), Some(MINE)).await;
        assert_eq!(receipt.status(), 200);
        let receipt = AciReceipt::parse(&receipt.bytes().await.unwrap()).unwrap();
        receipt.check_signature(self.node.keyset()).unwrap();
        receipt.check_keyset(self.node.keyset().digest().unwrap()).unwrap();
        assert_eq!(receipt.received(), tacit_receipt::aci::PrefixedDigest::of(request));
        assert_eq!(receipt.returned(), tacit_receipt::aci::PrefixedDigest::of(response));
        let proof = self.get(&format!("/v1/aci/receipts/{id}/log"), Some(MINE)).await;
        let proof: LogProof = proof.json().await.unwrap();
        let origin = log_origin(ClusterId::ZERO, self.node.account());
        proof.verify(receipt.digest(), &origin, &self.node.keyset().note_key().unwrap()).unwrap();
        receipt
    }
}

pub fn chat(text: &str, more: Value) -> String {
    let mut body = json!({ "model": "echo", "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

pub fn receipt_id(response: &Response) -> String {
    response.headers()["x-receipt-id"].to_str().unwrap().to_owned()
}

/// Error type and code of a response.
pub async fn error(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["error"]["type"].as_str().unwrap().to_owned(), body["error"]["code"].clone())
}
