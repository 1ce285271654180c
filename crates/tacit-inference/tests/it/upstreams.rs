//! A server beside this process, played by a small one here that speaks the wire format.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tacit_inference::{
    Backend as _, EmbeddingRequest, Event, FinishReason, InferenceError, ModelManifest, OutputFormat, Prompt, Sampling,
    Tool, ToolChoice, Upstream,
    manifest::{MODEL_VERSION, UpstreamSource},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};

use crate::models::{chat, completion, greedy, whole};

fn manifest(endpoint: &str, embedding: Option<u32>) -> ModelManifest {
    ModelManifest {
        version: MODEL_VERSION.to_owned(),
        name: "served".to_owned(),
        licence: "MIT".to_owned(),
        source: "tests".to_owned(),
        files: Vec::new(),
        template: None,
        converted_from: None,
        lineage: Vec::new(),
        context: 4096,
        embedding,
        upstream: Some(UpstreamSource { endpoint: endpoint.to_owned(), model: "its-name".to_owned() }),
    }
}

/// Reads one request and answers it with these bytes. Gives the path and the body.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &[u8]) -> (String, Value) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "no whole request");
        bytes.extend_from_slice(&piece[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
    let length: usize =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().trim().parse().unwrap();
    while bytes.len() < head + 4 + length {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..count]);
    }
    // The other side may have gone away: that is part of some tests.
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
    (text.split(' ').nth(1).unwrap().to_owned(), serde_json::from_slice(&bytes[head + 4..]).unwrap())
}

/// A server that answers every request alike, and what it was asked.
async fn server(response: String) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let request = answer(stream, response.as_bytes()).await;
            seen.lock().unwrap().push(request);
        }
    });
    (endpoint, asked)
}

fn stream(events: &[Value]) -> String {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}data: [DONE]\n\n")
}

fn usage() -> Value {
    json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": { "cached_tokens": 4 } } })
}

fn text(index: u32, content: &str, reason: Option<&str>) -> Value {
    json!({ "choices": [{ "index": index, "delta": { "content": content }, "finish_reason": reason }] })
}

#[tokio::test]
async fn a_stream_is_told_as_events() {
    let events = [
        json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] }),
        text(1, "Sal", None),
        json!({ "choices": [{ "index": 0, "delta": { "content": "Hé" }, "logprobs": { "content": [{ "token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": [] }] } }] }),
        text(1, "ut", Some("length")),
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "id": "call_1", "function": { "name": "add", "arguments": "{\"a\":" } }] } }] }),
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": "1}" } }] }, "finish_reason": "tool_calls" }] }),
        usage(),
    ];
    let (endpoint, asked) = server(stream(&events)).await;
    let model = Upstream::new(&manifest(&endpoint, None), 1).unwrap();
    assert!(model.identity().counted_by_upstream && model.identity().generates);
    let mut request = chat("Hello", Sampling { choices: 2, seed: Some(5), stop: vec!["x".to_owned()], ..greedy(7) });
    request.tools = vec![Tool { name: "add".to_owned(), description: None, parameters: json!({"type": "object"}) }];
    request.tool_choice = ToolChoice::Named("add".to_owned());
    request.format = OutputFormat::JsonSchema(json!({"type": "object"}));
    let mut generation = model.chat(request).await.unwrap();
    let (mut texts, mut arguments, mut reasons, mut done) =
        ([String::new(), String::new()], String::new(), vec![], None);
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { choice, text, .. } => texts[choice as usize].push_str(&text),
            Event::ToolCall { delta, .. } => arguments.push_str(&delta.arguments),
            Event::Finished { choice, reason } => reasons.push((choice, reason)),
            Event::Done(usage) => done = Some(usage),
            Event::Used(_) => panic!("such servers count at the end"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(texts, ["Hé", "Salut"]);
    assert_eq!(arguments, "{\"a\":1}");
    assert_eq!(reasons, [(1, FinishReason::Length), (0, FinishReason::ToolCalls)]);
    let done = done.unwrap();
    assert_eq!((done.prompt_tokens, done.cached_tokens, done.completion_tokens, done.seed), (9, 4, 3, 5));

    let asked = asked.lock().unwrap();
    let (path, body) = &asked[0];
    assert_eq!(path, "/v1/chat/completions");
    for (name, value) in [
        ("model", json!("its-name")),
        ("n", json!(2)),
        ("seed", json!(5)),
        ("max_tokens", json!(7)),
        ("stop", json!(["x"])),
        ("stream", json!(true)),
        ("messages", json!([{ "role": "user", "content": "Hello" }])),
        ("tool_choice", json!({ "type": "function", "function": { "name": "add" } })),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    assert_eq!(body["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
}

#[tokio::test]
async fn a_socket_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let piece = json!({ "choices": [{ "index": 0, "text": " world", "finish_reason": "stop" }] });
    let response = stream(&[piece, usage()]);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(answer(stream, response.as_bytes()).await.0, "/v1/completions");
    });
    let model = Upstream::new(&manifest(&format!("unix:{}", path.display()), None), 1).unwrap();
    let answer = whole(model.complete(completion("Hello", greedy(2))).await.unwrap(), 1).await;
    assert_eq!((answer.texts[0].as_str(), answer.usage.prompt_tokens), (" world", 9));
}

#[tokio::test]
async fn what_is_cut_or_garbled_fails_by_name() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let long = format!("{head}data: {}", "x".repeat(2 << 20));
    let cases = [
        (stream(&[text(0, "a", None)]), "ended before every choice"),
        (stream(&[text(0, "a", Some("stop"))]), "did not say how many"),
        (stream(&[text(0, "a", Some("stop")), text(0, "b", None), usage()]), "after the end of a choice"),
        (stream(&[text(3, "a", None)]), "was not asked for"),
        (format!("{head}data: {{\"choices\": 5}}\n\n"), "no part of an answer"),
        (format!("{head}data: {}\n\n", text(0, "a", None)), "ended early"),
        (format!("{head}garbage"), "ended early"),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ndata: {}\n\n", text(0, "a", None)), "broke"),
        (long, "too long"),
    ];
    for (response, reason) in cases {
        let (endpoint, _) = server(response).await;
        let model = Upstream::new(&manifest(&endpoint, None), 1).unwrap();
        let mut generation = model.chat(chat("secret", greedy(2))).await.unwrap();
        let mut last = None;
        while let Some(event) = generation.next().await {
            last = Some(event);
        }
        match last {
            Some(Event::Failed(InferenceError::Engine(found))) => {
                assert!(found.contains(reason) && !found.contains("secret"), "{found} is not {reason}");
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
    for (response, status) in [
        ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", 503),
        ("HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 0),
    ] {
        let (endpoint, _) = server(response.to_owned()).await;
        let model = Upstream::new(&manifest(&endpoint, None), 1).unwrap();
        assert_eq!(model.chat(chat("a", greedy(2))).await.unwrap_err(), InferenceError::Upstream { status });
    }
    let nobody = Upstream::new(&manifest("unix:/nowhere/model.sock", None), 1).unwrap();
    assert_eq!(nobody.chat(chat("a", greedy(2))).await.unwrap_err(), InferenceError::Upstream { status: 0 });
}

#[tokio::test]
async fn places_elsewhere_and_forms_that_servers_lack_are_refused() {
    for endpoint in ["http://10.0.0.1/v1", "http://localhost/v1", "https://127.0.0.1/v1"] {
        assert!(matches!(Upstream::new(&manifest(endpoint, None), 1), Err(InferenceError::Engine(_))), "{endpoint}");
    }
    let model = Upstream::new(&manifest("unix:/nowhere/model.sock", None), 1).unwrap();
    let mut request = chat("a", greedy(1));
    request.format = OutputFormat::Grammar("root ::= \"a\"".to_owned());
    assert!(matches!(model.chat(request).await, Err(InferenceError::Parameter { .. })));
    assert!(matches!(
        model.chat(chat("a", Sampling { temperature: 9.0, ..greedy(1) })).await,
        Err(InferenceError::Parameter { .. })
    ));
    let inputs = EmbeddingRequest { inputs: vec![Prompt::Text("a".to_owned())], dimensions: None };
    assert!(matches!(model.embed(inputs).await, Err(InferenceError::Unsupported { .. })));
}

#[tokio::test]
async fn vectors_are_made_unit_length_and_counted() {
    let body = |data: Value| json!({ "data": data, "usage": { "prompt_tokens": 4, "total_tokens": 4 } }).to_string();
    let ask = |body: String| async move {
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let (endpoint, _) = server(response).await;
        let model = Upstream::new(&manifest(&endpoint, Some(2)), 1).unwrap();
        let inputs = ["a", "b"].map(|text| Prompt::Text(text.to_owned())).to_vec();
        model.embed(EmbeddingRequest { inputs, dimensions: None }).await
    };
    let one = json!({ "index": 1, "embedding": [3.0, 4.0] });
    let zero = json!({ "index": 0, "embedding": [0.0, 2.0] });
    let found = ask(body(json!([one, zero]))).await.unwrap();
    assert_eq!((found.vectors, found.prompt_tokens), (vec![vec![0.0, 1.0], vec![0.6, 0.8]], 4));
    for data in [
        json!([one]),
        json!([one, one]),
        json!([one, { "index": 2, "embedding": [1.0, 0.0] }]),
        json!([one, { "index": 0, "embedding": [1.0] }]),
        json!([one, { "index": 0, "embedding": [0.0, 0.0] }]),
        json!("x"),
    ] {
        assert!(matches!(ask(body(data)).await, Err(InferenceError::Engine(_))));
    }
}
