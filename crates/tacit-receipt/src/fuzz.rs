//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use tacit_types::keyset::{ED25519, Keyset, PublicKey};
use tacit_types::signature::NoteKey;
use tacit_types::{Digest, KeysetDigest, UnixTime};

use crate::aci::{
    AciReceipt, AttestationReport, BareDigest, Event, InferenceEvent, InferenceOutcome, PrefixedDigest, Price,
    ReceiptDraft, ServingConstraints, Session, TokenUsage, UpstreamOutcome, UpstreamVerified, sampling_hash,
};
use crate::tile::{decode_entries, decode_hashes, encode_entries, encode_hashes};
use crate::{Bundle, Checkpoint, TileId, TileKind};

/// A parser, as a fuzzer calls it.
pub type Body = fn(&[u8]);

/// Each parser by name.
pub const BODIES: [(&str, Body); 8] = [
    ("bundle", bundle),
    ("checkpoint", checkpoint),
    ("tile_path", tile_path),
    ("tile", tile),
    ("aci_receipt_json", aci_receipt_json),
    ("aci_report_json", aci_report_json),
    ("aci_session_json", aci_session_json),
    ("aci_request_json", aci_request_json),
];

const ORIGIN: &str = "tacit/0xaa/0xbb";

/// Messages that these functions accept, for a fuzzer to begin with: by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let digests = [Digest::from([1; 32]), Digest::from([2; 32])];
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 20_852_163, root: digests[0] };
    vec![
        ("checkpoint", checkpoint.sign(&NoteKey::from_bytes(&[5; 32])).into_bytes()),
        ("tile_path", b"tile/0/x001/234.p/17".to_vec()),
        ("tile_path", b"tile/entries/000".to_vec()),
        ("tile", [vec![1], encode_hashes(&digests)].concat()),
        ("tile", [vec![1], encode_entries(&digests)].concat()),
        ("aci_receipt_json", aci_receipt().to_bytes()),
        ("aci_report_json", ACI_REPORT.to_vec()),
        ("aci_session_json", ACI_SESSION.to_vec()),
        ("aci_request_json", ACI_REQUEST.to_vec()),
    ]
}

const ACI_SESSION: &[u8] = br#"{"api_version":"aci/1","channel_binding":[{"origin":"https://a","spki_sha256":"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1","type":"tls_spki_sha256"},{"type":"x"}],"claims":{"extra":{"a":"b"},"tee_attested":{"reason":"r","source":"hardware_proven","status":"asserted"}},"endpoint":null,"established_at":1,"evidence":{"data":"data:text/plain;base64,ZXhhbXBsZS1ldmlkZW5jZQ==","digest":"sha256:80d70e44d0ae1e829fd5f37c3ee4a60dfbea8d3aa18407ea3f34cf7ec91da34d"},"expires_at":2,"upstream_name":"u","verifier_id":"v"}"#;

const ACI_REPORT: &[u8] = br#"{"api_version":"aci/1","attestation":{"evidence":{"app_compose":"{}","event_log":"[]","quote":"00","tacit":{"kind":"tdx"},"vm_config":"{}"},"report_data":"0633919ca3f00e97bafaa3304278eb22420cc3ff0d19f87dfca2d3f7508150bc","source_provenance":{"image_digest":"sha256:00","image_provenance":null,"repo_commit":null,"repo_url":null},"tee_type":"tdx","workload_keyset":{"e2ee_public_keys":[{"algo":"x25519-aes-256-gcm-hkdf-sha256","key_id":"e2ee-1","public_key":"5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22"}],"not_after":1800000000,"receipt_signing_keys":[{"algo":"ed25519","key_id":"receipt-1","public_key":"8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"}],"subject":"dstack-app://example-app","tls_public_keys":[{"domain":"api.example.com","spki_sha256":"c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"}]}},"service_capabilities":{"serving":"direct","supported_e2ee_versions":["2"]},"workload_keyset_digest":"sha256:53a5cd44b30dcc51999754c719f2628a041f174ecbf9662a6f8e898a10cd9371"}"#;

const ACI_REQUEST: &[u8] = br#"{"model":"m","provider":{"aci_session_ids":["d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"],"aci_verified":true,"order":["a"]}}"#;

/// A receipt with one event of each kind.
fn aci_receipt() -> AciReceipt {
    let usage = TokenUsage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2 };
    let inference = InferenceEvent {
        model_digest: PrefixedDigest::of(b"model"),
        adapters: vec![PrefixedDigest::of(b"adapter")],
        sampling_hash: sampling_hash([("temperature", "0")]),
        seed: Some(7),
        usage,
        price: Some(Price { currency: "USD".into(), amount: "12".into() }),
        outcome: InferenceOutcome::Ok,
    };
    let upstream =
        |outcome| Event::UpstreamVerified(UpstreamVerified { required: true, model_id: "m".into(), outcome });
    let failed = UpstreamOutcome::Failed { reason: "r".into(), upstream_name: None };
    let draft = ReceiptDraft {
        receipt_id: "r".into(),
        chat_id: None,
        model: Some("m".into()),
        keyset: KeysetDigest::from([1; 32]),
        endpoint: "/v1/chat/completions".into(),
        method: "POST".into(),
        served_at: UnixTime(1),
        events: vec![
            Event::received(b"a"),
            Event::forwarded(b"b"),
            upstream(UpstreamOutcome::Verified { session_id: BareDigest::of(b"s") }),
            upstream(failed),
            Event::Inference(inference),
            Event::returned(b"c"),
        ],
    };
    draft.sign("aci", &NoteKey::from_bytes(&[5; 32])).expect("it keeps the rules")
}

/// An ACI receipt.
pub fn aci_receipt_json(bytes: &[u8]) {
    if let Ok(receipt) = AciReceipt::parse(bytes) {
        let again = AciReceipt::parse(&receipt.to_bytes()).expect("a receipt reads its own canonical form");
        assert_eq!((again.digest(), again.signed_bytes()), (receipt.digest(), receipt.signed_bytes()));
        let _ = (receipt.received(), receipt.returned(), receipt.forwarded(), receipt.inference());
        if bytes != aci_receipt().to_bytes() && receipt != aci_receipt() {
            let key = NoteKey::from_bytes(&[5; 32]);
            let keyset = Keyset {
                subject: None,
                not_after: UnixTime(2),
                receipt_signing_keys: vec![PublicKey {
                    key_id: receipt.key_id().to_owned(),
                    algo: ED25519.to_owned(),
                    public_key: hex::encode(key.public_key()),
                }],
                e2ee_public_keys: Vec::new(),
                tls_public_keys: Vec::new(),
            };
            assert!(receipt.check_signature(&keyset).is_err(), "nobody signed another receipt");
        }
    }
}

/// An ACI attestation report.
pub fn aci_report_json(bytes: &[u8]) {
    if let Ok(report) = AttestationReport::parse(bytes) {
        let written = serde_json::to_vec(&report).expect("what was read can be written");
        assert_eq!(AttestationReport::parse(&written).expect("a report reads what it writes"), report);
        let _ = report.check_binding(None);
        if let (Some(own), Some(compose)) =
            (&report.attestation.source_provenance, &report.attestation.evidence.app_compose)
        {
            let _ = own.is_backed_by(compose);
        }
    }
}

/// An ACI session.
pub fn aci_session_json(bytes: &[u8]) {
    if let Ok(session) = Session::parse(bytes) {
        let again = Session::parse(&session.to_bytes()).expect("a session reads its own canonical form");
        assert_eq!(again.id(), session.id());
        let _ = (session.abbreviated(), session.check(session.id(), UnixTime(1)));
    }
}

/// A request with serving constraints.
pub fn aci_request_json(bytes: &[u8]) {
    if let Ok(mut body) = serde_json::from_slice(bytes)
        && let Ok(Some(_)) = ServingConstraints::take(&mut body)
    {
        assert!(matches!(ServingConstraints::take(&mut body), Ok(None)), "constraints are consumed");
    }
}

/// A receipt bundle.
pub fn bundle(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(bundle.encode().expect("it was canonical"), bytes, "one bundle has one spelling");
        let _ = bundle.digest();
    }
}

/// A signed checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = NoteKey::from_bytes(&[5; 32]);
    for origin in [ORIGIN, text.lines().next().unwrap_or_default()] {
        if let Ok(checkpoint) = Checkpoint::verify(text, origin, &key.public_key()) {
            assert_eq!(checkpoint.sign(&key), text, "one checkpoint has one note");
        }
    }
}

/// The path of a tile.
pub fn tile_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(id) = TileId::parse(text) {
        assert_eq!(id.path(), text, "one tile has one path");
    }
}

/// The content of a tile: the first byte is its width less one.
pub fn tile(bytes: &[u8]) {
    let Some((width, content)) = bytes.split_first() else { return };
    let of = |kind| TileId { kind, index: 0, width: u64::from(*width) + 1 };
    let hashes: Result<Vec<Digest>, _> = decode_hashes(&of(TileKind::Hashes(0)), content);
    let entries = decode_entries(&of(TileKind::Entries), content);
    assert!(hashes.is_err() || entries.is_err(), "hashes are no entries");
}
