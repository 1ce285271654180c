//! E2EE v2 between a client and a service, and everything that is not what was sealed refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tacit_envelope::e2ee::{
    ClientRequest, E2eeError, E2eePublicKey, E2eeSecretKey, Endpoint, MAX_SKEW, OpenedRequest, ReplayWindow,
    RequestHeaders, SealedRequest, ServiceKeys, Suite, open_field, seal_field,
};
use tacit_types::UnixTime;

const NOW: UnixTime = UnixTime(1_790_000_000);
/// What must never be seen in what is sent.
const MARKER: &str = "marker-4d1f";

fn keys() -> ServiceKeys {
    let secret = |suite| E2eeSecretKey::from_bytes(suite, &[3; 32]).unwrap();
    ServiceKeys::new(Suite::ALL.map(secret).to_vec())
}

fn service_key(suite: Suite) -> E2eePublicKey {
    keys().iter().find(|key| key.suite() == suite).unwrap().public()
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn seal(suite: Suite, endpoint: Endpoint, body: &Value, tools: bool) -> (ClientRequest, SealedRequest) {
    ClientRequest::seal(&mut rng(), &service_key(suite), endpoint, body, NOW, tools).unwrap()
}

fn headers(sealed: &SealedRequest) -> BTreeMap<String, String> {
    sealed.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn parse(headers: &BTreeMap<String, String>) -> Result<Option<RequestHeaders>, E2eeError> {
    RequestHeaders::parse(|name| headers.get(name).map(String::as_str))
}

fn open_with(
    headers: &BTreeMap<String, String>,
    endpoint: Endpoint,
    body: &[u8],
    now: UnixTime,
) -> Result<OpenedRequest, E2eeError> {
    parse(headers)?.unwrap().check(&keys(), now)?.open(endpoint, body)
}

fn chat() -> Value {
    json!({
        "temperature": 0.7,
        "model": "demo-model",
        "messages": [
            { "role": "system", "content": format!("{MARKER} system") },
            { "role": "user", "name": "n", "content": [
                { "type": "text", "text": format!("{MARKER} text") },
                { "type": "image_url", "image_url": { "url": format!("data:{MARKER}"), "detail": "low" } },
                { "type": "input_audio", "input_audio": { "data": MARKER, "format": "wav" } },
                { "type": "file", "file": { "file_data": MARKER } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
            ] },
            { "role": "tool", "tool_call_id": "call_1", "content": "" },
            // A text that spells an array stays a text.
            { "role": "user", "content": "[1, 2]" },
        ],
        "stream": false,
        "tools": [{ "type": "function", "function": { "name": "f", "description": "d", "parameters": { "x": 0.5 } } }],
        "a": 1,
    })
}

fn answer() -> Value {
    json!({
        "id": "chatcmpl-1",
        "model": "another-name",
        "choices": [
            { "index": 1, "finish_reason": "stop", "message": {
                "role": "assistant", "content": format!("{MARKER} one"), "reasoning": format!("{MARKER} two"),
                "reasoning_content": format!("{MARKER} three"), "refusal": null,
                "audio": { "id": "a", "data": MARKER, "transcript": MARKER },
            } },
            { "index": 0, "finish_reason": "tool_calls", "message": { "role": "assistant", "content": null, "tool_calls": [
                { "id": "call_2", "type": "function", "function": { "name": "f", "arguments": "{\"a\":2}" } },
            ] } },
        ],
        "usage": { "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 },
    })
}

#[test]
fn a_chat_is_sealed_both_ways_and_keeps_its_order() {
    for suite in Suite::ALL {
        for tools in [false, true] {
            let (client, sealed) = seal(suite, Endpoint::Chat, &chat(), tools);
            let text = String::from_utf8(sealed.body.clone()).unwrap();
            assert!(!text.contains(MARKER) && !text.contains("[1, 2]"));
            assert_eq!(text.contains("\\\"a\\\":1"), !tools, "arguments of earlier tool calls");
            assert_eq!(text.contains("\"description\":\"d\""), !tools, "tools");
            let opened = open_with(&headers(&sealed), Endpoint::Chat, &sealed.body, NOW).unwrap();
            assert_eq!(opened.bytes, sealed.restored);
            let mut expected = chat();
            expected["messages"][4]["content"] = json!([{ "type": "text", "text": "[1, 2]" }]);
            assert_eq!(
                serde_json::to_vec(&expected).unwrap(),
                opened.bytes,
                "member for member in the order that was sent"
            );
            assert_eq!(opened.body, expected);

            let mut response = answer();
            assert_eq!(opened.sealer.seal(&mut rng(), &mut response).unwrap(), 5 + usize::from(tools));
            let text = response.to_string();
            assert!(!text.contains(MARKER), "{text}");
            assert_eq!(text.contains("\\\"a\\\":2"), !tools);
            assert!(text.contains("\"prompt_tokens\":3") && text.contains("another-name"));
            assert_eq!(client.open(&mut response).unwrap(), 5 + usize::from(tools));
            assert_eq!(response.to_string(), answer().to_string());
            let names: Vec<&str> = opened.sealer.headers().iter().map(|(name, _)| *name).collect();
            assert_eq!(names[..3], ["x-e2ee-applied", "x-e2ee-version", "x-e2ee-algo"]);
            assert_eq!(names.len(), 3 + usize::from(tools));
        }
    }
}

#[test]
fn parts_that_a_client_seals_one_by_one_are_opened_one_by_one() {
    // Another client's way of doing it: structured parts, each sealed at its own path.
    let (_, whole) = seal(Suite::X25519, Endpoint::Chat, &chat(), false);
    let headers = headers(&whole);
    let aad = |field: &str| {
        format!(
            r#"{{"algo":"x25519-aes-256-gcm-hkdf-sha256","field":"{field}","model":"demo-model","nonce":"{}","purpose":"aci.e2ee.request.v2","ts":{}}}"#,
            headers["x-e2ee-nonce"], NOW.0
        )
        .into_bytes()
    };
    let to = service_key(Suite::X25519);
    let place = |field: &str, text: &str| seal_field(&mut rng(), &to, &aad(field), text.as_bytes()).unwrap();
    let body = json!({ "model": "demo-model", "messages": [{ "role": "user", "content": [
        { "type": "text", "text": place("messages.0.content.0.text", "t") },
        { "type": "image_url", "image_url": { "url": place("messages.0.content.1.image_url.url", "u") } },
        { "type": "input_audio", "input_audio": { "data": place("messages.0.content.2.input_audio.data", "d") } },
        { "type": "unknown", "text": "stays" },
    ] }] });
    let opened = open_with(&headers, Endpoint::Chat, body.to_string().as_bytes(), NOW).unwrap();
    assert_eq!(
        opened.body["messages"][0]["content"],
        json!([
            { "type": "text", "text": "t" },
            { "type": "image_url", "image_url": { "url": "u" } },
            { "type": "input_audio", "input_audio": { "data": "d" } },
            { "type": "unknown", "text": "stays" },
        ])
    );
    // A part moved to another place does not open.
    let mut moved = body.clone();
    let parts = moved["messages"][0]["content"].as_array_mut().unwrap();
    parts.swap(0, 3);
    let refused = open_with(&headers, Endpoint::Chat, moved.to_string().as_bytes(), NOW);
    assert_eq!(refused.map(drop), Err(E2eeError::DecryptionFailed));
}

#[test]
fn prompts_and_inputs_are_sealed_one_by_one_and_token_ids_stay() {
    for (endpoint, name) in [(Endpoint::Completions, "prompt"), (Endpoint::Embeddings, "input")] {
        for value in [json!(MARKER), json!([MARKER, MARKER]), json!([MARKER, 17])] {
            let body = json!({ "model": "m", name: value });
            let (_, sealed) = seal(Suite::Secp256k1, endpoint, &body, false);
            assert!(!String::from_utf8(sealed.body.clone()).unwrap().contains(MARKER));
            let opened = open_with(&headers(&sealed), endpoint, &sealed.body, NOW).unwrap();
            assert_eq!(opened.body, body);
        }
        // Nothing to seal: neither sent nor accepted as sealed.
        let nothing = json!({ "model": "m", name: [1, 2] });
        let refused = ClientRequest::seal(&mut rng(), &service_key(Suite::X25519), endpoint, &nothing, NOW, false);
        assert_eq!(refused.map(|_| ()).err(), Some(E2eeError::Seal));
        let (_, sealed) = seal(Suite::X25519, endpoint, &json!({ "model": "m", name: "x" }), false);
        let refused = open_with(&headers(&sealed), endpoint, nothing.to_string().as_bytes(), NOW);
        assert_eq!(refused.map(drop), Err(E2eeError::DecryptionFailed));
    }
}

#[test]
fn responses_of_the_other_endpoints_and_chunks_are_sealed() {
    let (client, sealed) = seal(Suite::X25519, Endpoint::Completions, &json!({ "model": "m", "prompt": "x" }), false);
    let sealer = open_with(&headers(&sealed), Endpoint::Completions, &sealed.body, NOW).unwrap().sealer;
    let check = |clear: Value, count: usize| {
        let mut response = clear.clone();
        assert_eq!(sealer.seal(&mut rng(), &mut response).unwrap(), count);
        assert!(!response.to_string().contains(MARKER));
        assert_eq!(client.open(&mut response).unwrap(), count);
        assert_eq!(response, clear);
    };
    check(json!({ "choices": [{ "text": MARKER }, { "index": 7, "text": MARKER }] }), 2);
    check(json!({ "data": [{ "index": 1, "embedding": [0.25, -1.5] }, { "embedding": MARKER }] }), 2);
    let chunk = |delta: Value| json!({ "id": "c", "choices": [{ "index": 0, "delta": delta }] });
    check(chunk(json!({ "content": MARKER, "reasoning": MARKER })), 2);
    check(chunk(json!({ "role": "assistant" })), 0);
    check(json!({ "error": { "message": "m" } }), 0);
    // An empty content says nothing and goes.
    let mut first = chunk(json!({ "role": "assistant", "content": "" }));
    assert_eq!(sealer.seal(&mut rng(), &mut first), Ok(0));
    assert_eq!(first, chunk(json!({ "role": "assistant" })));
    // Another shape than a response's is not sent.
    for mut wrong in [json!([]), json!({ "choices": [{ "text": 1 }] }), chunk(json!({ "content": [1] }))] {
        assert_eq!(sealer.seal(&mut rng(), &mut wrong), Err(E2eeError::Seal), "{wrong}");
    }
}

#[test]
fn what_spells_the_answer_is_withheld_or_sealed() {
    let response = || {
        let probabilities = json!({ "content": [{ "token": MARKER, "logprob": -0.5 }] });
        json!({
            "prompt_logprobs": [MARKER], "prompt_token_ids": [MARKER],
            "choices": [{ "index": 0, "message": { "content": "x" }, "logprobs": probabilities, "token_ids": [MARKER] }],
        })
    };
    for tools in [false, true] {
        let (client, sealed) = seal(Suite::X25519, Endpoint::Chat, &chat(), tools);
        let sealer = open_with(&headers(&sealed), Endpoint::Chat, &sealed.body, NOW).unwrap().sealer;
        let mut sent = response();
        assert_eq!(sealer.seal(&mut rng(), &mut sent).unwrap(), 1 + usize::from(tools));
        assert!(!sent.to_string().contains(MARKER));
        client.open(&mut sent).unwrap();
        let expected = if tools { response()["choices"][0]["logprobs"].clone() } else { Value::Null };
        assert_eq!(sent["choices"][0]["logprobs"], expected);
        assert_eq!(sent.get("prompt_token_ids"), None);
        assert_eq!(sent["choices"][0].get("token_ids"), None);
    }
}

#[test]
fn every_wrong_header_has_its_name() {
    let (_, sealed) = seal(Suite::X25519, Endpoint::Chat, &chat(), false);
    let good = headers(&sealed);
    let check = |change: &dyn Fn(&mut BTreeMap<String, String>), expected: E2eeError| {
        let mut changed = good.clone();
        change(&mut changed);
        let found = open_with(&changed, Endpoint::Chat, &sealed.body, NOW).map(drop);
        assert_eq!(found, Err(expected), "{changed:?}");
    };
    let set = |name: &'static str, value: &str| {
        let value = value.to_owned();
        move |headers: &mut BTreeMap<String, String>| drop(headers.insert(name.to_owned(), value.clone()))
    };
    assert_eq!(parse(&BTreeMap::new()), Ok(None));
    for name in good.keys() {
        check(&|headers| drop(headers.remove(name)), E2eeError::HeaderMissing);
    }
    let only_tools = BTreeMap::from([("x-tacit-e2ee-tools".to_owned(), "true".to_owned())]);
    assert_eq!(parse(&only_tools), Err(E2eeError::HeaderMissing));
    for version in ["1", "3", "", "2.0", " 2"] {
        check(&set("x-e2ee-version", version), E2eeError::InvalidVersion);
    }
    check(&set("x-signing-algo", "ecdsa"), E2eeError::InvalidVersion);
    check(&set("x-tacit-e2ee-tools", "yes"), E2eeError::InvalidVersion);
    for nonce in ["", "00", &"g".repeat(64), &format!("0x{}", "0".repeat(62)), &"0".repeat(66)] {
        check(&set("x-e2ee-nonce", nonce), E2eeError::InvalidNonce);
    }
    for time in ["", "now", "-1", "1.5", "01790000000", "+1790000000", "99999999999999999999"] {
        check(&set("x-e2ee-timestamp", time), E2eeError::InvalidTimestamp);
    }
    for time in [NOW.0 - MAX_SKEW - 1, NOW.0 + MAX_SKEW + 1] {
        check(&set("x-e2ee-timestamp", &time.to_string()), E2eeError::InvalidTimestamp);
    }
    // Within the window it is the field that does not open, since the time is bound into it.
    check(&set("x-e2ee-timestamp", &(NOW.0 - MAX_SKEW).to_string()), E2eeError::DecryptionFailed);
    let stranger = E2eeSecretKey::from_bytes(Suite::X25519, &[9; 32]).unwrap().public().to_hex();
    for key in [stranger.as_str(), "", "zz", &"00".repeat(300)] {
        check(&set("x-model-pub-key", key), E2eeError::ModelKeyMismatch);
    }
    for key in ["", "zz", &"00".repeat(31), &"00".repeat(300)] {
        check(&set("x-client-pub-key", key), E2eeError::InvalidPublicKey);
    }
    // The client's key is bound to nothing but the response; another one only gets an answer that it can read.
    let mut other = good.clone();
    other.insert("x-client-pub-key".into(), stranger);
    assert!(open_with(&other, Endpoint::Chat, &sealed.body, NOW).is_ok());
    assert_eq!(Endpoint::at("/v1/responses"), Err(E2eeError::UnsupportedEndpoint));
    assert_eq!(Endpoint::at("/v1/chat/completions"), Ok(Endpoint::Chat));
}

#[test]
fn errors_have_the_words_and_statuses_of_the_specification() {
    let words = [
        (E2eeError::HeaderMissing, "e2ee_header_missing"),
        (E2eeError::InvalidVersion, "e2ee_invalid_version"),
        (E2eeError::InvalidPublicKey, "e2ee_invalid_public_key"),
        (E2eeError::ModelKeyMismatch, "e2ee_model_key_mismatch"),
        (E2eeError::InvalidNonce, "e2ee_invalid_nonce"),
        (E2eeError::ReplayDetected, "e2ee_replay_detected"),
        (E2eeError::InvalidTimestamp, "e2ee_invalid_timestamp"),
        (E2eeError::InvalidPayloadModel, "e2ee_invalid_payload_model"),
        (E2eeError::DecryptionFailed, "e2ee_decryption_failed"),
        (E2eeError::UnsupportedEndpoint, "e2ee_unsupported_endpoint"),
    ];
    for (error, word) in words {
        assert_eq!((error.kind(), error.status()), (word, 400));
    }
    assert_eq!((E2eeError::WindowFull.status(), E2eeError::Seal.status()), (429, 500));
}

#[test]
fn wrong_bodies_are_refused() {
    let (_, sealed) = seal(Suite::X25519, Endpoint::Chat, &chat(), false);
    let headers = headers(&sealed);
    let check = |change: &dyn Fn(&mut Value), expected: E2eeError| {
        let mut body: Value = serde_json::from_slice(&sealed.body).unwrap();
        change(&mut body);
        let found = open_with(&headers, Endpoint::Chat, body.to_string().as_bytes(), NOW).map(drop);
        assert_eq!(found, Err(expected));
    };
    check(&|body| body["model"] = json!(1), E2eeError::InvalidPayloadModel);
    check(&|body| drop(body.as_object_mut().unwrap().remove("model")), E2eeError::InvalidPayloadModel);
    check(&|body| body["model"] = json!("demo-model "), E2eeError::DecryptionFailed);
    check(&|body| body["messages"] = json!("x"), E2eeError::DecryptionFailed);
    check(&|body| body["messages"] = json!([]), E2eeError::DecryptionFailed);
    check(&|body| body["messages"][0]["content"] = json!("in the clear"), E2eeError::DecryptionFailed);
    check(&|body| body["messages"][0]["content"] = json!("00"), E2eeError::DecryptionFailed);
    check(&|body| body["messages"].as_array_mut().unwrap().swap(0, 1), E2eeError::DecryptionFailed);
    for bytes in [&b""[..], b"[]", b"{", &[0xff]] {
        let found = open_with(&headers, Endpoint::Chat, bytes, NOW).map(drop);
        assert_eq!(found, Err(E2eeError::DecryptionFailed));
    }
}

#[test]
fn every_altered_digit_of_a_field_is_refused() {
    for suite in Suite::ALL {
        let (client, sealed) = seal(suite, Endpoint::Completions, &json!({ "model": "m", "prompt": "secret" }), false);
        let headers = headers(&sealed);
        let body: Value = serde_json::from_slice(&sealed.body).unwrap();
        let field = body["prompt"].as_str().unwrap();
        let sealer = open_with(&headers, Endpoint::Completions, &sealed.body, NOW).unwrap().sealer;
        let mut response = json!({ "id": "r", "choices": [{ "text": "answer" }] });
        sealer.seal(&mut rng(), &mut response).unwrap();
        let mut refused = 0;
        for (position, bit) in (0..field.len()).flat_map(|position| [1, 2, 4, 8].map(|bit| (position, bit))) {
            let altered = |text: &str| {
                let mut digits = text.as_bytes().to_vec();
                let digit = char::from(digits[position]).to_digit(16).unwrap() ^ bit;
                digits[position] = char::from_digit(digit, 16).unwrap() as u8;
                String::from_utf8(digits).unwrap()
            };
            let mut request = body.clone();
            request["prompt"] = altered(field).into();
            let found = open_with(&headers, Endpoint::Completions, request.to_string().as_bytes(), NOW).map(drop);
            assert_eq!(found, Err(E2eeError::DecryptionFailed), "{suite:?} {position} {bit}");
            let mut answer = response.clone();
            answer["choices"][0]["text"] = altered(response["choices"][0]["text"].as_str().unwrap()).into();
            assert_eq!(client.open(&mut answer), Err(E2eeError::DecryptionFailed), "{suite:?} {position} {bit}");
            refused += 2;
        }
        println!("{suite:?}: {refused} altered bits of sealed fields refused");
        assert_eq!(refused, 8 * field.len());
        // The response is bound to its id, its place and its direction.
        let mut answer = response.clone();
        answer["id"] = json!("s");
        assert_eq!(client.open(&mut answer), Err(E2eeError::DecryptionFailed));
        let mut answer = response.clone();
        answer["choices"][0]["index"] = json!(1);
        assert_eq!(client.open(&mut answer), Err(E2eeError::DecryptionFailed));
        let mut answer = json!({ "id": "r", "choices": [{ "text": field }] });
        assert_eq!(client.open(&mut answer), Err(E2eeError::DecryptionFailed));
        let mut clear = json!({ "id": "r", "choices": [{ "text": "answer" }] });
        assert_eq!(client.open(&mut clear), Err(E2eeError::DecryptionFailed), "a field in the clear");
    }
}

#[test]
fn taking_the_tools_header_away_is_noticed() {
    let (_, sealed) = seal(Suite::X25519, Endpoint::Chat, &chat(), true);
    let mut headers = headers(&sealed);
    assert!(open_with(&headers, Endpoint::Chat, &sealed.body, NOW).is_ok());
    headers.remove("x-tacit-e2ee-tools");
    let refused = open_with(&headers, Endpoint::Chat, &sealed.body, NOW).map(drop);
    assert_eq!(refused, Err(E2eeError::DecryptionFailed));
    // With the header nothing may be in the clear.
    headers.insert("x-tacit-e2ee-tools".into(), "true".into());
    let mut body: Value = serde_json::from_slice(&sealed.body).unwrap();
    body["tools"] = json!([]);
    let refused = open_with(&headers, Endpoint::Chat, body.to_string().as_bytes(), NOW).map(drop);
    assert_eq!(refused, Err(E2eeError::DecryptionFailed));
}

#[test]
fn keys_have_several_spellings_and_bad_ones_are_refused() {
    let (_, sealed) = seal(Suite::Secp256k1, Endpoint::Chat, &chat(), false);
    let mut headers = headers(&sealed);
    let key = headers["x-model-pub-key"].clone();
    assert_eq!(key.len(), 130);
    for spelling in [format!("0x{key}"), key[2..].to_owned(), format!("0x{}", &key[2..]), key.to_uppercase()] {
        headers.insert("x-model-pub-key".into(), spelling);
        assert!(open_with(&headers, Endpoint::Chat, &sealed.body, NOW).is_ok());
    }
    let compressed = format!("02{}", &key[2..66]);
    let not_a_point = format!("04{}", "01".repeat(64));
    for bad in [compressed.as_str(), not_a_point.as_str(), "04"] {
        assert_eq!(E2eePublicKey::parse(Suite::Secp256k1, bad), Err(E2eeError::InvalidPublicKey), "{bad}");
    }
    assert!(E2eeSecretKey::from_bytes(Suite::Secp256k1, &[0; 32]).is_err());
    assert!(E2eeSecretKey::from_bytes(Suite::Secp256k1, &[0xff; 32]).is_err());
    // Points of small order give a secret that everybody knows.
    let mut one = [0; 32];
    one[0] = 1;
    let own = E2eeSecretKey::from_bytes(Suite::X25519, &[3; 32]).unwrap();
    for point in [[0; 32], one] {
        let point = E2eePublicKey::X25519(point);
        assert_eq!(seal_field(&mut rng(), &point, b"", b"x"), Err(E2eeError::InvalidPublicKey));
        let forged = hex::encode([point.to_bytes(), vec![0; 28]].concat());
        assert_eq!(open_field(&own, b"", &forged), Err(E2eeError::DecryptionFailed));
    }
    let entry = own.entry("e2ee");
    assert_eq!(E2eePublicKey::of_entry(&entry), Ok(own.public()));
    let other = tacit_types::keyset::PublicKey { algo: "ohttp".into(), ..entry };
    assert_eq!(E2eePublicKey::of_entry(&other), Err(E2eeError::InvalidPublicKey));
}

#[test]
fn a_request_is_served_once_within_its_window() {
    let checked = |seed: u64, now: UnixTime| {
        let body = json!({ "model": "m", "prompt": "x" });
        let mut rng = StdRng::seed_from_u64(seed);
        let key = service_key(Suite::X25519);
        let (_, sealed) = ClientRequest::seal(&mut rng, &key, Endpoint::Completions, &body, now, false).unwrap();
        let mut headers = headers(&sealed);
        let plain = parse(&headers).unwrap().unwrap().check(&keys(), now).unwrap().replay_key();
        let upper = headers["x-e2ee-nonce"].to_uppercase();
        headers.insert("x-e2ee-nonce".into(), upper);
        let spelled = parse(&headers).unwrap().unwrap().check(&keys(), now).unwrap().replay_key();
        assert_eq!(plain, spelled, "both spellings of a nonce are one nonce");
        plain
    };
    let mut window = ReplayWindow::new(3);
    let ahead = checked(1, NOW.plus(MAX_SKEW));
    assert_eq!(window.claim(ahead, NOW), Ok(()));
    assert_eq!(window.claim(ahead, NOW), Err(E2eeError::ReplayDetected));
    // A request that is dated ahead counts until nobody would take it any more.
    assert_eq!(window.claim(ahead, NOW.plus(2 * MAX_SKEW)), Err(E2eeError::ReplayDetected));
    assert_eq!(window.claim(ahead, NOW.plus(2 * MAX_SKEW + 1)), Err(E2eeError::InvalidTimestamp));
    assert!(window.is_empty());
    // A clock that is set back lets nothing in again.
    assert_eq!(window.claim(ahead, NOW), Err(E2eeError::InvalidTimestamp));
    let later = NOW.plus(2 * MAX_SKEW + 1);
    for seed in 2..5 {
        assert_eq!(window.claim(checked(seed, later), later), Ok(()));
    }
    assert_eq!(window.claim(checked(5, later), later), Err(E2eeError::WindowFull));
    assert_eq!(window.claim(checked(2, later), later), Err(E2eeError::ReplayDetected));
    assert_eq!(window.len(), 3);
    let free = later.plus(MAX_SKEW + 1);
    assert_eq!(window.claim(checked(6, free), free), Ok(()));
    assert_eq!(window.len(), 1);
}

proptest! {
    #[test]
    fn hostile_bodies_never_panic(text in ".{0,200}", depth in 0usize..200) {
        let (client, sealed) = seal(Suite::X25519, Endpoint::Chat, &chat(), true);
        let headers = headers(&sealed);
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for body in [text.as_str(), nested.as_str(), &format!(r#"{{"model":"m","messages":{nested},"tools":{nested}}}"#)] {
            for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
                prop_assert!(open_with(&headers, endpoint, body.as_bytes(), NOW).is_err());
            }
            if let Ok(mut value) = serde_json::from_str::<Value>(body) {
                let _ = client.open(&mut value);
            }
        }
        prop_assert!(open_field(&E2eeSecretKey::from_bytes(Suite::Secp256k1, &[3; 32]).unwrap(), b"", &text).is_err());
        prop_assert!(parse(&BTreeMap::from([("x-e2ee-version".to_owned(), text)])).is_err());
    }
}
