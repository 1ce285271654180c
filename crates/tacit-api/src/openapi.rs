//! The OpenAPI 3.1 document of gateways and workers, made from [`Operation`] and the types beside it.

use serde_json::{Map, Value, json};

use crate::{
    headers,
    problem::ProblemKind,
    routes::{Node, Operation},
};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in Operation::ALL {
        let path = operation.path().replace("{*path}", "{path}");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[operation.method().as_str().to_ascii_lowercase()] = describe(*operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tacit gateway and worker",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Call confidential functions and check what answered.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

/// The document's bytes as they are committed and served.
pub fn document_json() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("texts always have a JSON form");
    text.push('\n');
    text
}

struct Text {
    summary: &'static str,
    body: Option<(&'static str, Value)>,
    answer: (&'static str, Value),
    problems: &'static [ProblemKind],
}

fn describe(operation: Operation) -> Value {
    let Text { summary, body, answer: (media_type, schema), problems } = text(operation);
    let nodes: Vec<&str> = operation
        .nodes()
        .iter()
        .map(|node| match node {
            Node::Gateway => "gateway",
            Node::Worker => "worker",
        })
        .collect();
    let success = if operation == Operation::PutBlob { "204" } else { "200" };
    let mut responses = Map::new();
    let content = if success == "204" { json!({}) } else { json!({"content": {media_type: {"schema": schema}}}) };
    let mut ok = json!({"description": "The answer."});
    merge(&mut ok, content);
    responses.insert(success.into(), ok);
    let mut statuses: Vec<u16> = problems.iter().map(|kind| kind.status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let kinds: Vec<String> =
            problems.iter().filter(|kind| kind.status() == status).map(|kind| format!("`{}`", kind.name())).collect();
        responses.insert(
            status.to_string(),
            json!({
                "description": kinds.join(", "),
                "content": {headers::PROBLEM_MEDIA_TYPE: {"schema": reference("Problem")}},
            }),
        );
    }
    let mut described = json!({
        "operationId": operation.name(),
        "summary": summary,
        "tags": nodes,
        "responses": responses,
    });
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some((media_type, schema)) = body {
        described["requestBody"] = json!({"required": true, "content": {media_type: {"schema": schema}}});
    }
    described
}

fn text(operation: Operation) -> Text {
    use ProblemKind::*;
    let json = "application/json";
    let bytes = || json!({"type": "string", "contentMediaType": "application/octet-stream"});
    let plain = || json!({"type": "string"});
    let get = |summary, answer, problems| Text { summary, body: None, answer, problems };
    match operation {
        Operation::Deployment => get(
            "The deployment file of the cluster that this gateway serves. Compare its cluster id with one from elsewhere.",
            (json, json!({"type": "object"})),
            &[],
        ),
        Operation::Function => get(
            "A function's entry in the registry on the home chain.",
            (json, reference("FunctionRecord")),
            &[InvalidRequest, UnknownFunction, ChainUnavailable],
        ),
        Operation::PutBlob => Text {
            summary: "Stores bytes under their SHA-256.",
            body: Some(("application/octet-stream", bytes())),
            answer: (json, Value::Null),
            problems: &[InvalidRequest, TooLarge, DigestMismatch, RateLimited, StorageUnavailable, QuotaExceeded],
        },
        Operation::GetBlob => get(
            "Bytes by their SHA-256, from this gateway or one beside it.",
            ("application/octet-stream", bytes()),
            &[InvalidRequest, UnknownBlob, StorageUnavailable],
        ),
        Operation::Workers => get(
            "The live certified workers for a function, in the order in which to try them. Verify before sealing.",
            (json, reference("FunctionAnswer")),
            &[InvalidRequest, UnknownFunction, NoWorker, ChainUnavailable],
        ),
        Operation::Identity => {
            get("The worker's certificate, keyset and evidence.", (json, reference("WorkerIdentity")), &[NotCertified])
        }
        Operation::SealedCall => Text {
            summary: "A call sealed to a worker's key: binary HTTP in Oblivious HTTP. An unsealed answer is only a hint; the outcome is unknown until a sealed answer or a receipt is there.",
            body: Some((headers::SEALED_REQUEST, bytes())),
            answer: (headers::SEALED_RESPONSE, bytes()),
            problems: &[
                InvalidRequest,
                UnreadableSeal,
                UnknownFunction,
                DeadlineExpired,
                NotHolder,
                Replayed,
                WrongKey,
                TooLarge,
                UnsupportedMediaType,
                RateLimited,
                Overloaded,
                Internal,
                BadUpstream,
                NoWorker,
                WorkerUnreachable,
                NotCertified,
                ChainUnavailable,
                QuorumUnavailable,
                StorageUnavailable,
                StateRolledBack,
                Timeout,
            ],
        },
        Operation::PlainCall => Text {
            summary: "A call without a seal, where the manifest allows it. The gateway and everybody on the way can read it.",
            body: Some((json, json!({}))),
            answer: (json, json!({})),
            problems: &[
                InvalidRequest,
                InvalidHeader,
                BadSignature,
                Denied,
                SealedOnly,
                UnknownFunction,
                UnknownMethod,
                DeadlineExpired,
                NotHolder,
                Replayed,
                TooLarge,
                RateLimited,
                Overloaded,
                Internal,
                BadUpstream,
                NoWorker,
                WorkerUnreachable,
                NotCertified,
                ChainUnavailable,
                QuorumUnavailable,
                StorageUnavailable,
                StateRolledBack,
                Timeout,
            ],
        },
        Operation::Receipt => get(
            "The receipt bundle of a call, without what only its caller may know.",
            (json, json!({"type": "object"})),
            &[InvalidRequest, UnknownReceipt, BadUpstream],
        ),
        Operation::LogCheckpoint => get(
            "The newest signed checkpoint of a worker's transparency log (C2SP).",
            ("text/plain; charset=utf-8", plain()),
            &[InvalidRequest, UnknownWorker, BadUpstream],
        ),
        Operation::LogTile => get(
            "A tile of a worker's transparency log (C2SP).",
            ("application/octet-stream", bytes()),
            &[InvalidRequest, UnknownWorker, NotFound, BadUpstream],
        ),
        Operation::AiWorkers => get(
            "The live certified workers that run models. Which models, each says inside the seal.",
            (json, reference("AiWorkers")),
            &[],
        ),
        Operation::AiAttestation => get(
            "A worker's attestation report (ACI). Verify it before sealing anything to its key.",
            (json, json!({"type": "object"})),
            &[InvalidRequest, UnknownWorker, BadUpstream, WorkerUnreachable, Timeout],
        ),
        Operation::AiSealed => Text {
            summary: "A request to a worker's models, sealed to its key as chunked Oblivious HTTP; inside is one request of the OpenAI interface. Errors of that interface are inside the seal too, and what cannot be opened is answered in its form.",
            body: Some((headers::SEALED_CHUNKED_REQUEST, bytes())),
            answer: (headers::SEALED_CHUNKED_RESPONSE, bytes()),
            problems: &[
                InvalidRequest,
                UnknownWorker,
                TooLarge,
                UnsupportedMediaType,
                RateLimited,
                Overloaded,
                BadUpstream,
                WorkerUnreachable,
                Timeout,
            ],
        },
        Operation::Health => get("Whether the process lives.", ("text/plain", plain()), &[]),
        Operation::Ready => get(
            "Whether the node serves.",
            ("text/plain", plain()),
            &[NoWorker, NotCertified, ChainUnavailable, QuorumUnavailable],
        ),
        Operation::Metrics => get("Counters in Prometheus' text format.", ("text/plain; version=0.0.4", plain()), &[]),
        Operation::OpenApi => get("This document.", (json, json!({"type": "object"})), &[]),
        Operation::Index => get("What this node is.", ("text/plain", plain()), &[]),
    }
}

fn parameters(operation: Operation) -> Vec<Value> {
    let path = |name: &str, schema: Value, text: &str| json!({"name": name, "in": "path", "required": true, "schema": schema, "description": text});
    let mut parameters: Vec<Value> = operation
        .path()
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| match name {
            "id" => path("id", hex_schema(32), "The function's id."),
            "digest" => path("digest", hex_schema(32), "SHA-256 of the bytes."),
            "call" => path("call", hex_schema(32), "The call's id."),
            "worker" => path("worker", hex_schema(20), "Address of the worker's receipt key."),
            "method" => {
                path("method", json!({"type": "string", "maxLength": crate::limits::MAX_METHOD}), "The method's name.")
            }
            _ => path("path", json!({"type": "string"}), "The tile, such as `0/x001/234` or `0/000.p/17`."),
        })
        .collect();
    if operation == Operation::AiAttestation {
        parameters.push(json!({
            "name": "nonce", "in": "query", "required": false, "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "description": "What the evidence commits to; without it the report proves no freshness.",
        }));
    }
    if matches!(operation, Operation::SealedCall | Operation::PlainCall) && operation.nodes().contains(&Node::Gateway) {
        for place in ["header", "query"] {
            parameters.push(json!({
                "name": headers::WORKER, "in": place, "required": false, "schema": hex_schema(20),
                "description": "The worker that the request is sealed to; the first in rendezvous order without it.",
            }));
        }
    }
    parameters
}

fn hex_schema(bytes: usize) -> Value {
    json!({"type": "string", "pattern": format!("^0x[0-9a-f]{{{}}}$", bytes * 2)})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn merge(target: &mut Value, source: Value) {
    if let (Value::Object(target), Value::Object(source)) = (target, source) {
        target.extend(source);
    }
}

fn object(members: &[(&str, Value)], optional: &[&str]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).filter(|name| !optional.contains(name)).collect();
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

fn schemas() -> Value {
    let (b20, b32) = (hex_schema(20), hex_schema(32));
    let integer = json!({"type": "integer", "minimum": 0});
    let text = json!({"type": "string"});
    let time = json!({"type": "integer", "minimum": 0, "description": "Unix seconds."});
    let free = json!({"type": "object"});
    let list = |items: Value| json!({"type": "array", "items": items});
    let key = object(&[("key_id", text.clone()), ("algo", text.clone()), ("public_key", text.clone())], &[]);
    let names: Vec<Value> = ProblemKind::ALL.iter().map(|kind| kind.type_uri().into()).collect();
    json!({
        "Certificate": object(&[
            ("worker", b20.clone()), ("keyset", b32.clone()),
            ("platform", json!({"type": "string", "enum": ["sgx", "tdx", "sev-snp", "nitro"]})),
            ("measurement", b32.clone()), ("chip", b32.clone()),
            ("confidence", json!({"type": "integer", "minimum": 1, "maximum": 5})),
            ("root", b32.clone()), ("policy", b32.clone()), ("simulated", json!({"type": "boolean"})), ("operator", b20.clone()),
            ("collateralTime", time.clone()), ("notBefore", time.clone()), ("notAfter", time.clone()), ("epoch", integer.clone()),
        ], &[]),
        "IndexedSignature": object(&[("index", integer.clone()), ("signature", hex_schema(65))], &[]),
        "Keyset": object(&[
            ("subject", json!({"type": ["string", "null"]})), ("not_after", time.clone()),
            ("receipt_signing_keys", list(key.clone())), ("e2ee_public_keys", list(key)),
            ("tls_public_keys", list(object(&[("spki_sha256", text.clone()), ("domain", text.clone())], &["domain"]))),
        ], &[]),
        "WorkerIdentity": object(&[
            ("version", integer.clone()), ("certificate", reference("Certificate")),
            ("signatures", list(reference("IndexedSignature"))), ("keyset", reference("Keyset")),
            ("nonce", json!({"oneOf": [b32.clone(), {"type": "null"}]})),
            ("evidence", free.clone()), ("collateral", free.clone()), ("endpoint", text.clone()),
        ], &[]),
        "FunctionRecord": object(&[
            ("id", b32.clone()), ("owner", b20.clone()), ("name", text.clone()), ("versions", integer.clone()),
            ("codeHash", b32.clone()), ("manifestHash", b32.clone()), ("uri", text.clone()), ("activation", time.clone()),
            ("keyEpoch", integer.clone()), ("frozen", json!({"type": "boolean"})), ("upgradeDelay", integer.clone()),
            ("secretsDigest", b32.clone()), ("secretsVersion", integer.clone()),
        ], &[]),
        "FunctionAnswer": object(&[
            ("version", integer.clone()), ("function", reference("FunctionRecord")), ("workers", list(reference("WorkerIdentity"))),
        ], &[]),
        "AiWorkers": object(&[("version", integer.clone()), ("workers", list(b20.clone()))], &[]),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "enum": names}, "title": text.clone(), "status": integer.clone(), "detail": text.clone(),
                "hint": text.clone(), "retryAfter": integer.clone(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AiWorkers, FunctionAnswer, FunctionRecord, WorkerIdentity};
    use crate::problem::Problem;
    use tacit_types::eip712::{Certificate, Platform};
    use tacit_types::keyset::{Keyset, PublicKey, TlsKey};
    use tacit_types::quorum::IndexedSignature;
    use tacit_types::signature::SigningKey;
    use tacit_types::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_committed_document_is_this_one() {
        if std::env::var_os("TACIT_WRITE_OPENAPI").is_some() {
            std::fs::write(COMMITTED, document_json()).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap();
        assert!(
            committed == document_json(),
            "docs/openapi.json is not in step: run the tests with TACIT_WRITE_OPENAPI=1"
        );
    }

    #[test]
    fn every_operation_is_described() {
        let document = document();
        for operation in Operation::ALL {
            let path = operation.path().replace("{*path}", "{path}");
            let described = &document["paths"][path][operation.method().as_str().to_ascii_lowercase()];
            assert_eq!(described["operationId"], operation.name());
            for parameter in operation.path().split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let name = parameter.trim_start_matches('*');
                let parameters = described["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{operation:?} {name}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    members.values().for_each(|member| walk(member, document));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }

    /// The members of a schema are exactly those that the type writes.
    fn check(schema: &str, written: Value) {
        let document = document();
        let described = document["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
        let mut expected: Vec<_> = described.keys().collect();
        let mut found: Vec<_> = written.as_object().unwrap().keys().collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{schema}");
    }

    #[test]
    fn schemas_have_the_members_of_the_types() {
        let key = SigningKey::from_bytes(&[1; 32]).unwrap();
        let signature = IndexedSignature { index: 0, signature: key.sign(Digest::ZERO) };
        let certificate = Certificate {
            worker: key.address(),
            keyset: KeysetDigest::ZERO,
            platform: Platform::Tdx,
            measurement: Measurement::ZERO,
            chip: ChipId::ZERO,
            confidence: 1,
            root: RootId::ZERO,
            policy: PolicyHash::ZERO,
            simulated: true,
            operator: Address::ZERO,
            collateral_time: UnixTime(0),
            not_before: UnixTime(0),
            not_after: UnixTime(0),
            epoch: 1,
        };
        let public = PublicKey { key_id: "a".into(), algo: "b".into(), public_key: "00".into() };
        let keyset = Keyset {
            subject: None,
            not_after: UnixTime(0),
            receipt_signing_keys: vec![public.clone()],
            e2ee_public_keys: vec![public],
            tls_public_keys: vec![TlsKey { spki_sha256: "00".into(), domain: Some("a".into()) }],
        };
        let function = FunctionRecord {
            id: FunctionId::ZERO,
            owner: Address::ZERO,
            name: "a".into(),
            versions: 1,
            code_hash: CodeHash::ZERO,
            manifest_hash: ManifestHash::ZERO,
            uri: String::new(),
            activation: UnixTime(0),
            key_epoch: 0,
            frozen: false,
            upgrade_delay: 0,
            secrets_digest: Digest::ZERO,
            secrets_version: 0,
        };
        let identity = WorkerIdentity {
            version: 1,
            certificate: certificate.clone(),
            signatures: vec![signature.clone()],
            keyset: keyset.clone(),
            nonce: None,
            evidence: Value::Null,
            collateral: Value::Null,
            endpoint: String::new(),
        };
        let json = |value: &dyn erased::Json| value.json();
        check("Certificate", json(&certificate));
        check("IndexedSignature", json(&signature));
        check("Keyset", json(&keyset));
        check("FunctionRecord", json(&function));
        check("AiWorkers", json(&AiWorkers { version: 1, workers: vec![identity.certificate.worker] }));
        check("WorkerIdentity", json(&identity));
        check("FunctionAnswer", json(&FunctionAnswer { version: 1, function, workers: vec![identity] }));
        let problem = Problem::new(ProblemKind::NotFound, "").with_hint("").with_retry_after(1);
        check("Problem", json(&problem));
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> serde_json::Value;
        }

        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> serde_json::Value {
                serde_json::to_value(self).unwrap()
            }
        }
    }
}
