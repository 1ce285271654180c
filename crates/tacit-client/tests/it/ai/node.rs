//! The worker's own service on a simulated machine.

use std::{path::Path, sync::Arc};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tacit_attest::{Policy, Preset};
use tacit_inference::ModelIdentity;
use tacit_simulator::{Machine as Chip, Root, RunningSimulator, Simulator, measure_executable};
use tacit_types::Digest;
use tacit_verify::Judge;
use tacit_worker::{AiNode, Machine, NodeConfig, Provenance};

use super::{KEY, echo::Echo, now};

pub struct Node {
    pub node: AiNode,
    pub policy: Policy,
    _machine: RunningSimulator,
}

impl Node {
    pub async fn start(folder: &Path) -> Self {
        let root = Root::open_or_create(&folder.join("root"), "node", now()).unwrap();
        let entry = root.policy_entry("SIM node").unwrap();
        let chip = Chip::open(&folder.join("chip"), root, "node", &[], now()).unwrap();
        let socket = folder.join("agent.sock");
        let machine = Simulator::start(chip, &socket).unwrap();
        let measurement = measure_executable(&std::env::current_exe().unwrap(), &[]).unwrap();
        let ai = json!({
            "listen": "127.0.0.1:0",
            "hosts": ["127.0.0.1"],
            "store": folder.join("models"),
            "models": [{ "name": "echo", "price": { "currency": "USD", "prompt": 1_000_000, "completion": 2_000_000 } }],
            "keys": [{ "name": "test", "sha256": Digest::from(<[u8; 32]>::from(Sha256::digest(KEY))) }],
            "provenance": Provenance::default(),
        });
        let config = NodeConfig {
            folder: folder.join("node"),
            machine: Machine::GuestAgent { socket },
            ai: serde_json::from_value(ai).unwrap(),
        };
        let identity = ModelIdentity {
            name: "echo".into(),
            digest: Digest::from([0xec; 32]),
            adapters: Vec::new(),
            context: 4_096,
            generates: true,
            embedding: Some(2),
            tensors: None,
            created: 1_700_000_000,
            licence: "Apache-2.0".into(),
            counted_by_upstream: false,
        };
        let node = AiNode::start(config, vec![Arc::new(Echo(identity)) as _]).await.unwrap();
        let policy = Policy::preset(Preset::Dev).with_name("node").with_root(entry).with_image("node", &[measurement]);
        Self { node, policy, _machine: machine }
    }

    pub fn url(&self) -> reqwest::Url {
        format!("https://{}", self.node.address()).parse().unwrap()
    }

    pub fn judge(&self) -> Judge {
        Judge::Policy(Box::new(self.policy.clone()))
    }
}
