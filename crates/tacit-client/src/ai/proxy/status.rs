//! What the proxy says about itself. No content, no keys.

use serde_json::{Value, json};

use crate::ai::{AiClient, Proof};

/// Node, verdict and the last receipts.
pub(super) async fn of(client: &AiClient) -> Value {
    let node = client.verified().await;
    let verified = node.as_ref().map(|node| {
        json!({
            "verdict": if node.is_simulated() { "simulated" } else { "verified" },
            "hardware": node.hardware(),
            "root": node.verification().root,
            "measurement": node.service().evidence().measurement().to_string(),
            "keysetDigest": node.service().digest().to_string(),
            "verifiedAt": node.verified_at().to_string(),
            "notAfter": node.service().keyset().not_after.to_string(),
        })
    });
    json!({
        "version": 1,
        "node": client.node_url().as_str(),
        "policy": client.policy_name(),
        "verified": verified,
        "store": client.store().map(|store| store.folder().display().to_string()),
        "receipts": client.recent().iter().rev().map(|proof| receipt(proof)).collect::<Vec<Value>>(),
    })
}

fn receipt(proof: &Proof) -> Value {
    let inference = proof.receipt.inference();
    json!({
        "id": proof.receipt.id(),
        "verdict": proof.verdict(),
        "at": proof.at.to_string(),
        "endpoint": proof.receipt.endpoint(),
        "model": proof.receipt.model(),
        "modelDigest": inference.map(|inference| inference.model_digest.to_string()),
        "promptTokens": inference.map(|inference| inference.usage.prompt_tokens),
        "completionTokens": inference.map(|inference| inference.usage.completion_tokens),
        "outcome": inference.map(|inference| inference.outcome),
        "logIndex": proof.log_index,
    })
}
