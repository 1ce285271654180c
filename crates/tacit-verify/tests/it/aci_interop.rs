//! Documents of a simulated service as files, for another implementation's verifier to judge: docs/ai-wire.md says how.

use serde_json::json;
use tacit_simulator::Hardware;

use crate::aci_service::{HOST, NONCE, REQUEST, RESPONSE, SERVED, SPKI, Service};

/// Writes into the folder that `TACIT_ACI_DOCUMENTS` names; without it only makes them.
#[test]
fn documents_for_other_verifiers_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::new(directory.path(), Hardware::Tdx);
    let report = service.report(Some(NONCE.into()));
    let receipt = service.sign(service.draft());
    let collateral = report.attestation.evidence.tacit.as_ref().and_then(|own| own.collateral.clone()).unwrap();
    let exchange = json!({
        "nonce": hex::encode(NONCE),
        "now": SERVED,
        "host": HOST,
        "spki_sha256": hex::encode(SPKI),
        "root_hex": hex::encode(service.machine.root().certificate()),
        "collateral": collateral,
    });
    let files: [(&str, Vec<u8>); 6] = [
        ("report.json", serde_json::to_vec_pretty(&report).unwrap()),
        ("receipt.json", receipt.to_bytes()),
        ("request.bin", REQUEST.to_vec()),
        ("response.bin", RESPONSE.to_vec()),
        ("exchange.json", exchange.to_string().into_bytes()),
        ("transcript.json", service.transcript().encode().unwrap()),
    ];
    assert!(files.iter().all(|(_, bytes)| !bytes.is_empty()));
    if let Some(folder) = std::env::var_os("TACIT_ACI_DOCUMENTS") {
        for (name, bytes) in files {
            std::fs::write(std::path::Path::new(&folder).join(name), bytes).unwrap();
        }
    }
}
