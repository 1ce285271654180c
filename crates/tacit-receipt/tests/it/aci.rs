//! The published constants of `aci/1`, and everything that is not what they say refused.

use serde_json::{Value, json};
use tacit_receipt::aci::{
    AciError, AciReceipt, AttestationReport, BareDigest, ChannelBinding, Event, InferenceEvent, InferenceOutcome,
    KnownBinding, PrefixedDigest, ReceiptDraft, ReportEvidence, ServiceCapabilities, Serving, Session,
    SourceProvenance, TokenUsage, UpstreamOutcome, UpstreamVerified, legacy, parse_nonce, sampling_hash,
};
use tacit_types::eip712::Platform;
use tacit_types::keyset::{ACI_KEY_ID, ED25519, Keyset, PublicKey, TlsKey, report_data, report_data_statement};
use tacit_types::signature::{NoteKey, SigningKey};
use tacit_types::{Digest, UnixTime};

const DIGEST: &str = "53a5cd44b30dcc51999754c719f2628a041f174ecbf9662a6f8e898a10cd9371";
const NONCE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SESSION: &str = "95ad1cb4dd25445808c2e9d116caf420b05703730b506395e8fc1ca6faeae28f";
const REQUEST: &[u8] = br#"{"messages":[{"content":"hi","role":"user"}],"model":"demo-model"}"#;
const RESPONSE: &[u8] = br#"{"choices":[],"id":"chatcmpl-123"}"#;

fn key() -> NoteKey {
    NoteKey::from_bytes(&[2; 32])
}

fn keyset() -> Keyset {
    let entry = |key_id: &str, algo: &str, public_key: &str| PublicKey {
        key_id: key_id.into(),
        algo: algo.into(),
        public_key: public_key.into(),
    };
    let e2ee = "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22";
    Keyset {
        subject: Some("dstack-app://example-app".into()),
        not_after: UnixTime(1_800_000_000),
        receipt_signing_keys: vec![entry("receipt-1", ED25519, &hex::encode(key().public_key()))],
        e2ee_public_keys: vec![entry("e2ee-1", "x25519-aes-256-gcm-hkdf-sha256", e2ee)],
        tls_public_keys: vec![TlsKey { spki_sha256: "c0".repeat(32), domain: Some("api.example.com".into()) }],
    }
}

fn session() -> Value {
    json!({
        "api_version": "aci/1",
        "upstream_name": "demo-upstream",
        "endpoint": "https://upstream.example.com",
        "verifier_id": "example/1",
        "established_at": 1_750_000_000,
        "expires_at": 1_750_003_600,
        "channel_binding": [{
            "type": "tls_spki_sha256",
            "origin": "https://upstream.example.com",
            "spki_sha256": "d1".repeat(32),
        }],
        "claims": {
            "tee_attested": { "status": "asserted", "source": "hardware_proven", "reason": "example quote verified" },
            "gpu_attested": { "status": "unknown" },
            "tcb_up_to_date": { "status": "unknown" },
            "os_known_good": { "status": "unknown" },
            "serving_software_known_good": { "status": "unknown" },
            "model_weights_provenance": { "status": "unknown" },
            "extra": { "tcb_status": "UpToDate", "gpu_arch": "HOPPER" },
        },
        "evidence": {
            "digest": "sha256:80d70e44d0ae1e829fd5f37c3ee4a60dfbea8d3aa18407ea3f34cf7ec91da34d",
            "data": "data:text/plain;base64,ZXhhbXBsZS1ldmlkZW5jZQ==",
        },
    })
}

fn draft() -> ReceiptDraft {
    ReceiptDraft {
        receipt_id: "rcpt-0001".into(),
        chat_id: Some("chatcmpl-123".into()),
        model: Some("demo-model".into()),
        keyset: keyset().digest().unwrap(),
        endpoint: "/v1/chat/completions".into(),
        method: "POST".into(),
        served_at: UnixTime(1_750_000_000),
        events: vec![
            Event::received(REQUEST),
            Event::forwarded(REQUEST),
            Event::UpstreamVerified(UpstreamVerified {
                required: true,
                model_id: "demo-model".into(),
                outcome: UpstreamOutcome::Verified { session_id: SESSION.parse().unwrap() },
            }),
            Event::returned(RESPONSE),
        ],
    }
}

fn own_receipt() -> AciReceipt {
    let mut draft = draft();
    draft.events[2] = Event::Inference(InferenceEvent {
        model_digest: PrefixedDigest::of(b"model"),
        adapters: vec![],
        sampling_hash: sampling_hash([("temperature", "0")]),
        seed: Some(7),
        usage: TokenUsage { prompt_tokens: 9, cached_tokens: 0, completion_tokens: 3 },
        price: None,
        outcome: InferenceOutcome::Ok,
    });
    draft.sign("receipt-1", &key()).unwrap()
}

#[test]
fn keyset_digest_and_report_data_are_the_published_ones() {
    assert_eq!(hex::encode(key().public_key()), "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394");
    let digest = keyset().digest().unwrap();
    assert_eq!(hex::encode(digest), DIGEST);
    let nonce = parse_nonce(NONCE).unwrap();
    assert_eq!(
        report_data_statement(digest, Some(nonce)),
        format!(r#"{{"keyset_digest":"sha256:{DIGEST}","nonce":"{NONCE}","purpose":"aci.report_data.v1"}}"#)
    );
    let with_nonce = "df2174d28130852b413646a3786927b93e94c11d770268b65def8bdba45cb49e";
    assert_eq!(hex::encode(report_data(digest, Some(nonce))), format!("{with_nonce}{}", "00".repeat(32)));
    let without = "0633919ca3f00e97bafaa3304278eb22420cc3ff0d19f87dfca2d3f7508150bc";
    assert_eq!(hex::encode(&report_data(digest, None)[..32]), without);
    for bad in ["", &NONCE[1..], &NONCE.to_uppercase(), &format!("0x{}", &NONCE[2..]), &format!("{NONCE}00")] {
        assert!(matches!(parse_nonce(bad), Err(AciError::Nonce)), "{bad}");
    }
}

#[test]
fn the_session_has_the_published_id() {
    let read = Session::from_value(session()).unwrap();
    assert_eq!(read.id().to_string(), SESSION);
    assert_eq!(read.members().evidence.bytes().unwrap(), b"example-evidence");
    assert!(read.members().claims.tee_attested.is_hardware_proven());
    assert!(matches!(
        &read.members().channel_binding[..],
        [ChannelBinding::Known(KnownBinding::Tls { origin, .. })] if origin == "https://upstream.example.com"
    ));
    // Made from its members it is the same document.
    let made = Session::new(read.members().clone()).unwrap();
    assert_eq!(made.id(), read.id());
    assert_eq!(Session::parse(&serde_json::to_vec_pretty(&session()).unwrap()).unwrap(), read);
    let entry = read.abbreviated();
    assert_eq!((&entry["session_id"], &entry["evidence"]["data"]), (&json!(SESSION), &Value::Null));
}

#[test]
fn a_session_that_is_not_the_cited_one_is_refused() {
    let id: BareDigest = SESSION.parse().unwrap();
    let check = |change: &dyn Fn(&mut Value), served_at: u64| {
        let mut document = session();
        change(&mut document);
        Session::from_value(document).and_then(|session| {
            let id = if served_at == 0 { id } else { session.id() };
            session.check(id, UnixTime(served_at.max(1_750_000_000)))
        })
    };
    assert!(check(&|_| {}, 0).is_ok());
    assert!(check(&|_| {}, 1_750_003_600).is_ok());
    // Another document has another id; one with its own id still needs the time and the evidence.
    assert!(matches!(check(&|s| s["further"] = json!(1), 0), Err(AciError::Session(_))));
    assert!(check(&|s| s["further"] = json!(1), 1_750_000_000).is_ok());
    assert!(matches!(check(&|_| {}, 1_750_003_601), Err(AciError::Session(_))));
    assert!(matches!(check(&|s| s["established_at"] = json!(1_750_000_001), 1_750_000_000), Err(AciError::Session(_))));
    for data in ["data:text/plain;base64,ZXhhbXBsZS1ldmlkZW5jZg==", "data:text/plain,x", "x", "data:;base64,A"] {
        assert!(matches!(check(&|s| s["evidence"]["data"] = json!(data), 1_750_000_000), Err(AciError::Session(_))));
    }
    assert!(matches!(
        check(&|s| s["evidence"] = json!({ "digest": PrefixedDigest::of(b"") }), 1_750_000_000),
        Err(AciError::Session(_))
    ));
    assert!(matches!(check(&|s| s["api_version"] = json!("aci/2"), 0), Err(AciError::Version)));
    assert!(matches!(check(&|s| s["further"] = json!(0.5), 0), Err(AciError::Canonical(_))));
    assert!(matches!(check(&|s| s["expires_at"] = json!("x"), 0), Err(AciError::Shape { .. })));
}

#[test]
fn the_receipt_is_the_published_one_byte_for_byte() {
    assert_eq!(
        PrefixedDigest::of(REQUEST).to_string(),
        "sha256:94d809bf47380d8a2eab0eb6e126d4dda9364b0b4725cdf7ead52dd70b2aa87b"
    );
    assert_eq!(
        PrefixedDigest::of(RESPONSE).to_string(),
        "sha256:dedfffe5b14d031b8e2c01996d021a15293cb7c63b56be7e4be9e89b6f0a5f61"
    );
    let receipt = draft().sign("receipt-1", &key()).unwrap();
    let signed = "1bd328e6880a5a12b3915af95ea32111310e04ab9e21ac3d71ce268e33b965c9";
    assert_eq!(BareDigest::of(&receipt.signed_bytes()).to_string(), signed);
    let signature = "d5b005e093bde3b577faf270b7184b09e169cacb0ecb206b103bd2581f997db03da616175454b063323a23ac1dc68f1ce506c2a6eba8aa0561d5e724f0b80c03";
    assert_eq!(receipt.document()["signature"], signature);
    receipt.check_signature(&keyset()).unwrap();
    receipt.check_keyset(keyset().digest().unwrap()).unwrap();
    // Any encoding of the same document is the same receipt.
    let read = AciReceipt::parse(&serde_json::to_vec_pretty(receipt.document()).unwrap()).unwrap();
    assert_eq!(read, receipt);
    assert_eq!(read.digest(), receipt.digest());
    assert_eq!((read.received(), read.forwarded()), (PrefixedDigest::of(REQUEST), Some(PrefixedDigest::of(REQUEST))));
    assert_eq!(read.returned(), PrefixedDigest::of(RESPONSE));
    assert_eq!(read.upstreams().count(), 1);
    assert_eq!(read.inference(), None);
}

#[test]
fn every_changed_member_breaks_the_signature_and_every_changed_byte_is_noticed() {
    for receipt in [draft().sign("receipt-1", &key()).unwrap(), own_receipt()] {
        let bytes = receipt.to_bytes();
        let mut refused = 0;
        for position in 0..bytes.len() {
            for value in [bytes[position] ^ 1, bytes[position].wrapping_add(1), b'0', b'"'] {
                if value == bytes[position] {
                    continue;
                }
                let mut altered = bytes.clone();
                altered[position] = value;
                let outcome = AciReceipt::parse(&altered).and_then(|read| read.check_signature(&keyset()));
                assert!(outcome.is_err(), "byte {position} = {value}");
                refused += 1;
            }
        }
        assert!(refused > 3 * bytes.len());
    }
}

#[test]
fn receipts_that_break_a_rule_are_refused() {
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut document = own_receipt().document().clone();
        change(&mut document);
        AciReceipt::from_value(document).expect_err("it breaks a rule")
    };
    assert!(matches!(refuse(&|r| r["api_version"] = json!("aci/2")), AciError::Version));
    assert!(matches!(refuse(&|r| r["served_at"] = json!(1.5)), AciError::Canonical(_)));
    assert!(matches!(refuse(&|r| r["further"] = json!([[1e300]])), AciError::Canonical(_)));
    assert!(matches!(refuse(&|r| r["receipt_id"] = json!("")), AciError::Member(_)));
    assert!(matches!(refuse(&|r| r["receipt_id"] = json!("a\nb")), AciError::Member(_)));
    assert!(matches!(refuse(&|r| r["signature"] = json!("00")), AciError::Member(_)));
    assert!(matches!(refuse(&|r| r["event_log"] = json!([])), AciError::Member(_)));
    let moved = |from: usize, to: usize| {
        move |r: &mut Value| {
            let events = r["event_log"].as_array_mut().unwrap();
            let event = events.remove(from);
            events.insert(to, event);
        }
    };
    assert!(matches!(refuse(&moved(0, 1)), AciError::Member(_)));
    for index in 0..4 {
        let twice = move |r: &mut Value| {
            let events = r["event_log"].as_array_mut().unwrap();
            let event = events[index].clone();
            events.push(event);
        };
        assert!(matches!(refuse(&twice), AciError::Member(_)), "event {index} twice");
    }
    let without = |r: &mut Value| drop(r["event_log"].as_array_mut().unwrap().pop());
    assert!(matches!(refuse(&without), AciError::Member(_)));
    assert!(matches!(refuse(&|r| r["event_log"][2]["usage"]["cached_tokens"] = json!(10)), AciError::Member(_)));
    assert!(matches!(refuse(&|r| r["event_log"][2]["usage"]["prompt_tokens"] = json!("9")), AciError::Shape { .. }));
    let many = |r: &mut Value| {
        let events = r["event_log"].as_array_mut().unwrap();
        events.extend((0..256).map(|_| json!({ "type": "example" })));
    };
    assert!(matches!(refuse(&many), AciError::Member(_)));
    let large = vec![b' '; tacit_receipt::aci::MAX_RECEIPT + 1];
    assert!(matches!(AciReceipt::parse(&large), Err(AciError::TooLarge { .. })));
    // Unknown members and events are kept and signed.
    let mut draft = draft();
    draft.events.insert(1, serde_json::from_value(json!({ "type": "example.routed", "to": "a" })).unwrap());
    let receipt = draft.sign("receipt-1", &key()).unwrap();
    assert_eq!(AciReceipt::parse(&receipt.to_bytes()).unwrap().events()[1].name(), "example.routed");
}

#[test]
fn receipts_under_another_key_or_keyset_are_refused() {
    let receipt = own_receipt();
    let mut other = keyset();
    other.not_after = UnixTime(1);
    assert!(matches!(receipt.check_keyset(other.digest().unwrap()), Err(AciError::OtherKeyset)));
    other.receipt_signing_keys[0].public_key = hex::encode(NoteKey::from_bytes(&[9; 32]).public_key());
    assert!(matches!(receipt.check_signature(&other), Err(AciError::Signature)));
    other.receipt_signing_keys[0].algo = "secp256k1-eip712".into();
    assert!(matches!(receipt.check_signature(&other), Err(AciError::Keyset(_))));
    other.receipt_signing_keys[0].key_id = ACI_KEY_ID.into();
    assert!(matches!(receipt.check_signature(&other), Err(AciError::Keyset(_))));
}

fn report(nonce: Option<Digest>) -> AttestationReport {
    let compose = r#"{"source_provenance":{"image_digest":"sha256:00"}}"#;
    AttestationReport::new(
        keyset(),
        nonce,
        Platform::Tdx,
        ReportEvidence { quote: Some("00".into()), app_compose: Some(compose.into()), ..ReportEvidence::default() },
        SourceProvenance::of_compose(compose),
        ServiceCapabilities { supported_e2ee_versions: vec!["2".into()], serving: Serving::Direct },
    )
    .unwrap()
}

#[test]
fn a_report_binds_keyset_and_nonce() {
    let nonce = Some(parse_nonce(NONCE).unwrap());
    let made = report(nonce);
    assert_eq!(hex::encode(made.check_binding(nonce).unwrap()), DIGEST);
    let value = serde_json::to_value(&made).unwrap();
    assert_eq!(value["attestation"]["tee_type"], "tdx");
    assert_eq!(value["service_capabilities"], json!({ "supported_e2ee_versions": ["2"], "serving": "direct" }));
    assert_eq!(value["attestation"]["source_provenance"]["repo_url"], Value::Null);
    assert_eq!(AttestationReport::parse(&serde_json::to_vec(&value).unwrap()).unwrap(), made);
    assert!(matches!(made.check_binding(None), Err(AciError::Member(_))));
    assert!(report(None).check_binding(None).is_ok());
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        AttestationReport::from_value(value).and_then(|report| report.check_binding(nonce)).expect_err("changed")
    };
    assert!(matches!(refuse(&|r| r["api_version"] = json!("aci/2")), AciError::Version));
    let keys = |r: &mut Value| r["attestation"]["workload_keyset"]["not_after"] = json!(1_800_000_001);
    assert!(matches!(refuse(&keys), AciError::Member(_)));
    let further = |r: &mut Value| r["attestation"]["workload_keyset"]["further"] = json!(1);
    assert!(matches!(refuse(&further), AciError::Shape { .. }));
    let shared = |r: &mut Value| {
        let key = r["attestation"]["workload_keyset"]["receipt_signing_keys"][0]["public_key"].clone();
        r["attestation"]["workload_keyset"]["e2ee_public_keys"][0]["public_key"] = key;
    };
    assert!(matches!(refuse(&shared), AciError::Keyset(_)));
    assert!(matches!(refuse(&|r| r["attestation"]["report_data"] = json!("ab".repeat(32))), AciError::Member(_)));
    // A word for serving that is not known demands the more.
    let mut other = value.clone();
    other["service_capabilities"]["serving"] = json!("both");
    assert_eq!(AttestationReport::from_value(other).unwrap().service_capabilities.serving, Serving::Aggregator);
}

#[test]
fn provenance_counts_only_as_far_as_it_is_measured() {
    let compose =
        r#"{"source_provenance":{"repo_url":"https://example.com/r","repo_commit":"abc","image_digest":"sha256:00"}}"#;
    let own = SourceProvenance::of_compose(compose).unwrap();
    assert!(own.is_declared() && own.is_backed_by(compose));
    let change = |change: &dyn Fn(&mut SourceProvenance)| {
        let mut other = own.clone();
        change(&mut other);
        other
    };
    assert!(!change(&|p| p.repo_commit = Some("abc1".into())).is_backed_by(compose));
    assert!(!change(&|p| p.image_provenance = json!("sigstore")).is_backed_by(compose));
    assert!(!change(&|p| p.repo_commit = Some(String::new())).is_backed_by(compose));
    let only_url = change(&|p| (p.repo_commit, p.image_digest) = (None, None));
    assert!(!only_url.is_declared() && !only_url.is_backed_by(compose));
    // A description in another form is searched for the texts.
    let text = "image: example@sha256:00 # https://example.com/r abc";
    assert!(own.is_backed_by(text) && only_url.is_backed_by(text));
    assert!(!change(&|p| p.repo_commit = Some("abc1".into())).is_backed_by(text));
    assert!(!change(&|p| p.repo_commit = Some(String::new())).is_backed_by(text));
    assert!(!change(&|p| p.image_provenance = json!("sigstore")).is_backed_by(text));
    assert_eq!(SourceProvenance::of_compose("{}"), None);
    assert_eq!(SourceProvenance::of_compose("services: {}"), None);
}

#[test]
fn legacy_report_data_binds_identity_channel_and_nonce() {
    let ecdsa = legacy::LegacyKey::Ecdsa(SigningKey::from_bytes(&[4; 32]).unwrap()).identity();
    let ed25519 = legacy::LegacyKey::Ed25519(NoteKey::from_bytes(&[5; 32])).identity();
    let nonce = legacy::nonce_bytes(NONCE);
    assert_eq!(nonce[..4], [0, 1, 2, 3]);
    assert_eq!(legacy::nonce_bytes("hello").to_vec(), PrefixedDigest::of(b"hello").digest().into_bytes());
    let address = hex::decode(&ecdsa.to_string()[2..]).unwrap();
    assert_eq!(legacy::report_data_v1(&ecdsa, nonce).to_vec(), [&address[..], &[0; 12], &nonce].concat());
    let public = hex::decode(ed25519.to_string()).unwrap();
    assert_eq!(legacy::report_data_v1(&ed25519, nonce).to_vec(), [&public[..], &nonce].concat());
    let bound = BareDigest::of(&[&public[..], &[0xc0; 32]].concat()).digest().into_bytes();
    assert_eq!(legacy::report_data_v2(&ed25519, [0xc0; 32], nonce).to_vec(), [bound, nonce].concat());
}

#[test]
fn legacy_signatures_hold_for_their_text_alone() {
    let (request, response) = (PrefixedDigest::of(REQUEST), PrefixedDigest::of(RESPONSE));
    let text = legacy::signature_text(request, response);
    assert_eq!(
        text,
        "94d809bf47380d8a2eab0eb6e126d4dda9364b0b4725cdf7ead52dd70b2aa87b:dedfffe5b14d031b8e2c01996d021a15293cb7c63b56be7e4be9e89b6f0a5f61"
    );
    for key in [
        legacy::LegacyKey::Ecdsa(SigningKey::from_bytes(&[4; 32]).unwrap()),
        legacy::LegacyKey::Ed25519(NoteKey::from_bytes(&[5; 32])),
    ] {
        let signer = key.identity();
        let signed = key.sign(text.clone());
        signed.verify(&signer, request, response).unwrap();
        let json = serde_json::to_value(&signed).unwrap();
        assert_eq!(serde_json::from_value::<legacy::LegacySignature>(json).unwrap(), signed);
        let refuse = |signed: &legacy::LegacySignature, request, response| {
            assert!(matches!(signed.verify(&signer, request, response), Err(AciError::Legacy(_))));
        };
        refuse(&signed, response, request);
        let mut other = signed.clone();
        let last = other.signature.len() - 3;
        let digit = if &other.signature[last..=last] == "0" { "1" } else { "0" };
        other.signature.replace_range(last..=last, digit);
        refuse(&other, request, response);
        other.signature = "0x00".into();
        refuse(&other, request, response);
        let mut other = signed.clone();
        other.signing_address = "0x00".into();
        refuse(&other, request, response);
    }
}
