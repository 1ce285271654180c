//! Digests that Rust, TypeScript, Python and Solidity must agree on.

use serde_json::{Value, json};
use tacit_receipt::{Effect, Log, TileStore, effects_root, leaf_hash};
use tacit_types::chain::{
    Heartbeat, Publication, RequestArguments, Revocation, RevocationSubject, receipt_batch_digest, set_update_digest,
};
use tacit_types::eip712::{CallAuthorization, Certificate, EndpointClaim, Kind, Outcome, Platform, Receipt};
use tacit_types::formats::{
    Tag, call_id, code_hash, commit, function_id, next_head, publish_call_id, publish_request, sha256, trigger_call_id,
};
use tacit_types::manifest::Manifest;
use tacit_types::quorum::GatekeeperSet;
use tacit_types::register::{Ack, AckBatch, Confirmation, Lease, LeaseRole, Position, confirmation_leaf};
use tacit_types::*;

use crate::check_vector;

fn cluster() -> ClusterId {
    ClusterId::from([0xc1; 32])
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap();
    bytes.push(b'\n');
    bytes
}

/// One struct: its members as `type name`, a message, and the digest that the code gives.
fn entry(name: &str, members: &str, message: Value, digest: impl std::fmt::Display) -> Value {
    let members: Vec<Value> = members
        .split(", ")
        .map(|member| {
            let (kind, name) = member.split_once(' ').unwrap();
            json!({ "name": name, "type": kind })
        })
        .collect();
    json!({ "primaryType": name, "members": members, "message": message, "digest": digest.to_string() })
}

fn receipt() -> Receipt {
    Receipt {
        function_id: FunctionId::from([1; 32]),
        code_hash: CodeHash::from([2; 32]),
        certificate: CertificateId::from([3; 32]),
        call_id: CallId::from([4; 32]),
        kind: Kind::Query,
        outcome: Outcome::Limit,
        method: Digest::from([5; 32]),
        caller: Digest::from([6; 32]),
        request: Digest::from([7; 32]),
        response: Digest::from([8; 32]),
        sequence: 9,
        head_before: Head::from([10; 32]),
        head_after: Head::from([11; 32]),
        fence: 12,
        effects: Digest::from([13; 32]),
        usage: Digest::from([14; 32]),
        fuel: 15,
        time: UnixTime(1_790_000_016),
        epoch: 17,
    }
}

fn certificate() -> Certificate {
    Certificate {
        worker: Address::from([1; 20]),
        keyset: KeysetDigest::from([2; 32]),
        platform: Platform::Tdx,
        measurement: Measurement::from([4; 32]),
        chip: ChipId::from([5; 32]),
        confidence: 3,
        root: RootId::from([7; 32]),
        policy: PolicyHash::from([8; 32]),
        simulated: true,
        operator: Address::from([9; 20]),
        collateral_time: UnixTime(1_790_000_010),
        not_before: UnixTime(1_790_000_011),
        not_after: UnixTime(1_790_000_012),
        epoch: 13,
    }
}

/// The JSON form of a struct, its closed enums replaced by the numbers that are signed.
fn message(value: impl serde::Serialize, numbers: &[(&str, u64)]) -> Value {
    let mut value = serde_json::to_value(value).unwrap();
    for (name, number) in numbers {
        value[*name] = json!(number);
    }
    value
}

#[test]
fn eip712_digests() {
    let (receipt, certificate) = (receipt(), certificate());
    let (one, two) = (Digest::from([1; 32]), Digest::from([2; 32]));
    let call = CallAuthorization {
        function_id: FunctionId::from([1; 32]),
        method: two,
        body: Digest::from([3; 32]),
        certificate: CertificateId::from([4; 32]),
        nonce: Digest::from([5; 32]),
        deadline: UnixTime(1_790_000_006),
    };
    let endpoint = EndpointClaim {
        worker: Address::from([1; 20]),
        keyset: KeysetDigest::from([2; 32]),
        endpoint: "http://127.0.0.1:4000".into(),
        not_before: UnixTime(1_790_000_004),
    };
    let lease = Lease {
        function_id: FunctionId::from([1; 32]),
        certificate: CertificateId::from([2; 32]),
        role: LeaseRole::Reader,
        fence: 4,
        code_hash: CodeHash::from([5; 32]),
        manifest_hash: ManifestHash::from([6; 32]),
        key_epoch: 7,
        block_number: 8,
        until: UnixTime(1_790_000_009),
    };
    let ack = Ack {
        epoch: 1,
        function_id: FunctionId::from([2; 32]),
        fence: 3,
        sequence: 4,
        head: Head::from([5; 32]),
        receipts_root: Digest::from([6; 32]),
        time: UnixTime(1_790_000_007),
    };
    let batch = AckBatch { epoch: 1, root: two, time: UnixTime(1_790_000_003) };
    let confirmation =
        Confirmation { epoch: 1, root: two, nonce: Digest::from([3; 32]), time: UnixTime(1_790_000_004) };
    let heartbeat = Heartbeat {
        certificate: CertificateId::from([1; 32]),
        size: 2,
        root: Digest::from([3; 32]),
        time: UnixTime(4),
    };
    let revocation = Revocation {
        subject: RevocationSubject::Chip,
        value: two,
        functions: vec![FunctionId::from([3; 32]), FunctionId::from([4; 32])],
        epoch: 5,
    };
    let members: Vec<Address> = (1..=4).map(|byte| Address::from([byte; 20])).collect();
    let set = GatekeeperSet { epoch: 2, threshold: 2, members: members.clone() };
    let batched = [one, two, Digest::from([3; 32])];
    let batched_root = merkle::root(&batched.map(merkle::leaf));
    let c = cluster();
    let structs = vec![
        entry(
            "Receipt",
            "bytes32 functionId, bytes32 codeHash, bytes32 certificate, bytes32 callId, uint8 kind, uint8 outcome, \
             bytes32 method, bytes32 caller, bytes32 request, bytes32 response, uint64 sequence, bytes32 headBefore, \
             bytes32 headAfter, uint64 fence, bytes32 effects, bytes32 usage, uint64 fuel, uint64 time, uint64 epoch",
            message(&receipt, &[("kind", receipt.kind.code().into()), ("outcome", receipt.outcome.code().into())]),
            receipt.digest(c),
        ),
        entry(
            "Certificate",
            "address worker, bytes32 keyset, uint8 platform, bytes32 measurement, bytes32 chip, uint8 confidence, \
             bytes32 root, bytes32 policy, bool simulated, address operator, uint64 collateralTime, uint64 notBefore, \
             uint64 notAfter, uint64 epoch",
            message(&certificate, &[("platform", certificate.platform.code().into())]),
            certificate.id(c),
        ),
        entry(
            "Call",
            "bytes32 functionId, bytes32 method, bytes32 body, bytes32 certificate, bytes32 nonce, uint64 deadline",
            json!({
                "functionId": call.function_id, "method": call.method, "body": call.body,
                "certificate": call.certificate, "nonce": call.nonce, "deadline": call.deadline,
            }),
            call.digest(c),
        ),
        entry(
            "Endpoint",
            "address worker, bytes32 keyset, string endpoint, uint64 notBefore",
            json!({
                "worker": endpoint.worker, "keyset": endpoint.keyset, "endpoint": endpoint.endpoint,
                "notBefore": endpoint.not_before,
            }),
            endpoint.digest(c),
        ),
        entry(
            "Lease",
            "bytes32 functionId, bytes32 certificate, uint8 role, uint64 fence, bytes32 codeHash, bytes32 manifestHash, \
             uint64 keyEpoch, uint64 blockNumber, uint64 until",
            message(&lease, &[("role", lease.role.code().into())]),
            lease.digest(c),
        ),
        entry(
            "Ack",
            "uint64 epoch, bytes32 functionId, uint64 fence, uint64 sequence, bytes32 head, bytes32 receiptsRoot, \
             uint64 time",
            message(&ack, &[]),
            ack.digest(c),
        ),
        entry("AckBatch", "uint64 epoch, bytes32 root, uint64 time", message(&batch, &[]), batch.digest(c)),
        entry(
            "Confirmation",
            "uint64 epoch, bytes32 root, bytes32 nonce, uint64 time",
            message(&confirmation, &[]),
            confirmation.digest(c),
        ),
        entry(
            "ReceiptBatch",
            "bytes32 certificate, bytes32 root, uint64 size",
            json!({ "certificate": CertificateId::from([3; 32]), "root": batched_root, "size": 3 }),
            receipt_batch_digest(CertificateId::from([3; 32]), &batched, c),
        ),
        entry(
            "Heartbeat",
            "bytes32 certificate, uint64 size, bytes32 root, uint64 time",
            json!({
                "certificate": heartbeat.certificate, "size": heartbeat.size, "root": heartbeat.root,
                "time": heartbeat.time,
            }),
            heartbeat.digest(c),
        ),
        entry(
            "Revocation",
            "uint8 subject, bytes32 value, bytes32[] functions, uint64 epoch",
            json!({
                "subject": revocation.subject.code(), "value": revocation.value, "functions": revocation.functions,
                "epoch": revocation.epoch,
            }),
            revocation.digest(c),
        ),
        entry(
            "SetUpdate",
            "uint64 epoch, address[] members, uint32 threshold, uint64 validUntil",
            json!({ "epoch": set.epoch, "members": members, "threshold": set.threshold, "validUntil": 1_790_000_000 }),
            set_update_digest(&set, UnixTime(1_790_000_000), c),
        ),
    ];
    let document = json!({ "domain": { "name": "Tacit", "version": "1", "salt": c }, "structs": structs });
    check_vector("eip712.json", &pretty(&document));
}

#[test]
fn identifiers_and_commitments() {
    let (registry, owner) = (Address::from([0x11; 20]), Address::from([0x22; 20]));
    let function = function_id(31337, registry, owner, "my-oracle");
    let manifest =
        Manifest::from_toml("[function]\nname = \"my-oracle\"\n[egress]\nallow = [\"api.example.com\"]\n").unwrap();
    let canonical = String::from_utf8(manifest.to_canonical().unwrap()).unwrap();
    let module = b"export async function price() { return 1; }";
    let salt = Digest::from([0x33; 32]);
    let commitments: Vec<Value> = [(Tag::Method, "price"), (Tag::Caller, ""), (Tag::Request, "{}"), (Tag::Response, "1")]
        .into_iter()
        .map(|(tag, bytes)| {
            json!({ "tag": tag.name(), "salt": salt, "text": bytes, "digest": commit(tag, salt, bytes.as_bytes()) })
        })
        .collect();
    let head = next_head(function, 1, 2, 3, Head::from([0x44; 32]), b"ciphertext");
    let request = RequestArguments {
        chain_id: 31337,
        hub: Address::from([1; 20]),
        consumer: Address::from([2; 20]),
        nonce: 3,
        function_id: function,
        code_hash: CodeHash::ZERO,
        method: "price".into(),
        input: b"{}".to_vec(),
        callback_gas: 100_000,
        fee: 5,
        deadline: UnixTime(1_790_000_000),
    };
    let publication = Publication {
        chain_id: 31337,
        consumer: Address::from([2; 20]),
        topic: "price".into(),
        sequence: 1,
        data: b"42".to_vec(),
    };
    let position = Position { fence: 2, sequence: 3, head };
    let parent = call_id(function, Some(owner), "k-1");
    let document = json!({
        "functionId": { "chainId": 31337, "registry": registry, "owner": owner, "name": "my-oracle", "digest": function },
        "codeHash": {
            "module": String::from_utf8_lossy(module), "manifest": canonical,
            "digest": code_hash(module, manifest.hash().unwrap()),
        },
        "commitments": commitments,
        "callId": [
            { "function": function, "caller": owner, "idempotencyKey": "k-1", "digest": call_id(function, Some(owner), "k-1") },
            { "function": function, "caller": Address::ZERO, "idempotencyKey": "k-1", "digest": call_id(function, None, "k-1") },
        ],
        "triggerId": { "function": function, "index": 7, "event": salt, "digest": trigger_call_id(function, 7, salt) },
        "publishId": {
            "function": function, "callId": parent, "index": 2, "digest": publish_call_id(function, parent, 2),
            "request": format!("0x{}", hex::encode(publish_request(parent, 2))),
        },
        "head": {
            "function": function, "keyEpoch": 1, "fence": 2, "sequence": 3, "head": Head::from([0x44; 32]),
            "ciphertext": "ciphertext", "digest": head,
        },
        "request": {
            "chainId": request.chain_id, "hub": request.hub, "consumer": request.consumer, "nonce": request.nonce,
            "functionId": request.function_id, "codeHash": request.code_hash, "method": request.method,
            "input": "{}", "callbackGas": request.callback_gas, "fee": request.fee as u64,
            "deadline": request.deadline, "digest": request.id(),
        },
        "publication": {
            "chainId": publication.chain_id, "consumer": publication.consumer, "topic": publication.topic,
            "sequence": publication.sequence, "data": "42", "encoded": format!("0x{}", hex::encode(publication.encode())),
            "response": publication.response(),
        },
        "confirmationLeaf": {
            "function": function, "fence": 2, "sequence": 3, "head": head, "digest": confirmation_leaf(function, &position),
        },
    });
    check_vector("formats.json", &pretty(&document));
}

#[test]
fn merkle_trees() {
    let values: Vec<Digest> = (1..=5).map(|byte| Digest::from([byte; 32])).collect();
    let leaves: Vec<Digest> = values.iter().map(|value| merkle::leaf(*value)).collect();
    let trees: Vec<Value> = (0..=5)
        .map(|size| {
            let leaves = &leaves[..size];
            let proofs: Vec<_> = (0..size).map(|index| merkle::proof(leaves, index).unwrap()).collect();
            json!({ "size": size, "root": merkle::root(leaves), "proofs": proofs })
        })
        .collect();
    let effects = [
        Effect::Fetch {
            method: "GET".into(),
            url: sha256(b"https://api.example.com/v1/eur"),
            status: 200,
            response: sha256(b"{\"usd\":1}"),
            server_key: Digest::from([9; 32]),
        },
        Effect::Call { receipt: Digest::from([8; 32]) },
        Effect::Inference { receipt: Digest::from([10; 32]), model: Digest::from([11; 32]) },
        Effect::Publish {
            chain_id: 31337,
            consumer: Address::from([2; 20]),
            topic: "price".into(),
            sequence: 1,
            data: Digest::from([7; 32]),
        },
    ];
    let listed: Vec<Value> = effects.iter().map(|effect| json!({ "effect": effect, "leaf": effect.leaf() })).collect();
    let document = json!({
        "values": values, "leaves": leaves, "trees": trees,
        "effects": listed, "effectsRoot": effects_root(&effects),
    });
    check_vector("merkle.json", &pretty(&document));
}

#[test]
fn transparency_log() {
    let entries: Vec<Digest> = (0..7u8).map(|byte| Digest::from([byte; 32])).collect();
    let (mut log, mut store) = (Log::new(), TileStore::default());
    let (mut roots, mut inclusion, mut consistency) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &entries {
        log.append(*entry);
        let publication = log.publish();
        store.write(&publication.tiles);
        roots.push(publication.root);
        let proof = |index| log.inclusion_proof(index, &mut store.reader()).unwrap();
        inclusion.push((0..log.size()).map(proof).collect::<Vec<_>>());
        let proof = |earlier| log.consistency_proof(earlier, &mut store.reader()).unwrap();
        consistency.push((1..=log.size()).map(proof).collect::<Vec<_>>());
    }
    let key = signature::NoteKey::from_bytes(&[0x55; 32]);
    let origin = tacit_receipt::log_origin(cluster(), Address::from([0x66; 20]));
    let checkpoint = log.publish().checkpoint(origin.clone());
    let document = json!({
        "entries": entries, "leaves": entries.iter().map(|entry| leaf_hash(*entry)).collect::<Vec<_>>(),
        "roots": roots, "inclusion": inclusion, "consistency": consistency,
        "checkpoint": {
            "key": tacit_receipt::verifier_key(&origin, &key.public_key()),
            "note": checkpoint.sign(&key),
        },
    });
    check_vector("log.json", &pretty(&document));
}
