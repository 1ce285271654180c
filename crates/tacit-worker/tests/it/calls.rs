//! One worker and everything that a call can be.

use serde_json::json;
use tacit_api::{CallKind, ProblemKind, calls::SECRETS_SET, headers};
use tacit_client::{CallRequest, ClientError};
use tacit_receipt::{Bundle, Checkpoint, log_origin};
use tacit_types::{
    FunctionId,
    eip712::{Kind, Outcome},
    signature::SigningKey,
};

use crate::network::{Network, ask_once, call, json, now, problem, raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_lives() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let worker_account = worker.account();
    let function = network.deploy("counter", "").await;
    let anyone = network.client();
    let owner = network.owner_client();

    // Commands and queries, each with a receipt that the client verified.
    let first = call(&anyone, function, "add", json!({ "amount": 2 })).await;
    assert_eq!(first.response(), br#"{"total":2}"#);
    assert_eq!((first.receipt().kind, first.outcome(), first.receipt().sequence), (Kind::Command, Outcome::Ok, 1));
    assert_ne!(first.receipt().head_before, first.receipt().head_after);
    let query = call(&anyone, function, "total", json!(null)).await;
    assert_eq!((query.response(), query.receipt().kind), (br#"{"total":2}"#.as_slice(), Kind::Query));
    assert_eq!(query.receipt().head_after, first.receipt().head_after);
    let stale = CallRequest { kind: Some(CallKind::Stale), ..CallRequest::new(function, "total", "null") };
    assert_eq!(anyone.call(&stale).await.unwrap().receipt().kind, Kind::StaleQuery);

    // The same key and caller get the stored outcome; the code does not run twice.
    let request = CallRequest::new(function, "add", r#"{"amount":5}"#);
    let (once, twice) = (anyone.call(&request).await.unwrap(), anyone.call(&request).await.unwrap());
    assert_eq!((once.response(), twice.response()), (br#"{"total":7}"#.as_slice(), br#"{"total":7}"#.as_slice()));
    assert_eq!(once.receipt().call_id, twice.receipt().call_id);
    assert_eq!((once.receipt().response, once.receipt().request), (twice.receipt().response, twice.receipt().request));
    assert_eq!(json(&anyone, function, "total", json!(null)).await, json!({ "total": 7 }));
    let other_body = CallRequest { body: r#"{"amount":6}"#.into(), ..request.clone() };
    assert_eq!(problem(anyone.call(&other_body).await.err().expect("refused")).kind, ProblemKind::InvalidRequest);
    let by_owner = owner.call(&request).await.unwrap();
    assert_eq!(by_owner.response(), br#"{"total":12}"#);

    // Failed calls have receipts too, and change nothing.
    let thrown = call(&anyone, function, "fail", json!(null)).await;
    let failure: serde_json::Value = serde_json::from_slice(thrown.response()).unwrap();
    assert_eq!(
        (thrown.outcome(), &failure["name"], &failure["message"]),
        (Outcome::Thrown, &json!("TypeError"), &json!("as asked"))
    );
    assert_eq!(call(&anyone, function, "spin", json!(null)).await.outcome(), Outcome::Limit);
    assert_eq!(call(&anyone, function, "writes", json!(null)).await.outcome(), Outcome::Thrown);
    assert_eq!(json(&anyone, function, "total", json!(null)).await, json!({ "total": 12 }));

    // Secrets: set by the owner alone, read by the code alone.
    let set = CallRequest::new(function, SECRETS_SET, r#"{"API_KEY":"hunter2"}"#);
    let refused = anyone.call(&set).await.unwrap();
    assert_eq!(refused.outcome(), Outcome::Denied);
    assert_eq!(json(&anyone, function, "secret", json!(null)).await, json!({ "key": null }));
    assert_eq!(owner.call(&set).await.unwrap().outcome(), Outcome::Ok);
    assert_eq!(json(&anyone, function, "secret", json!(null)).await, json!({ "key": "hunter2" }));

    // Who calls is known by signature only.
    assert_eq!(json(&anyone, function, "who", json!(null)).await, json!({ "caller": null }));
    let address = owner.caller().unwrap().to_string();
    assert_eq!(json(&owner, function, "who", json!(null)).await, json!({ "caller": address }));

    // Anybody may fetch the receipt; it opens nothing. The log stands in C2SP form.
    // A connection on which a request was refused unread is not used again.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let base = format!("http://{}", worker.address());
    let public = http.get(format!("{base}/v1/receipts/{}", first.receipt().call_id)).send().await.unwrap();
    let public = Bundle::parse(&public.bytes().await.unwrap()).unwrap();
    assert!(public.openings.is_empty() && public.receipt == *first.receipt());
    let note =
        http.get(format!("{base}/log/{}/checkpoint", worker.account())).send().await.unwrap().text().await.unwrap();
    let origin = log_origin(network.deployment.cluster_id, worker.account());
    let key = public.certificate.keyset.note_key().unwrap();
    let checkpoint = Checkpoint::verify(&note, &origin, &key).unwrap();
    assert!(checkpoint.size >= 10);
    let tile =
        http.get(format!("{base}/log/{}/tile/0/000.p/{}", worker.account(), checkpoint.size)).send().await.unwrap();
    assert_eq!(tile.bytes().await.unwrap().len() as u64, checkpoint.size * 32);
    let metrics = http.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("tacit_worker_calls_total"), "{metrics}");
    assert!(http.get(format!("{base}/readyz")).send().await.unwrap().status().is_success());
    worker.stop().await;

    // Receipts and logs of an earlier keyset are still there.
    let again = network.worker(0).await;
    let base = format!("http://{}", again.address());
    let kept = http.get(format!("{base}/v1/receipts/{}", first.receipt().call_id)).send().await.unwrap();
    assert_eq!(Bundle::parse(&kept.bytes().await.unwrap()).unwrap(), public);
    let note =
        http.get(format!("{base}/log/{}/checkpoint", worker_account)).send().await.unwrap().text().await.unwrap();
    assert_eq!(Checkpoint::verify(&note, &origin, &key).unwrap().size, checkpoint.size);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_by_name() {
    let network = Network::start().await;
    let worker = network.steady_worker(0).await;
    let function = network.deploy("strict", "").await;
    let closed = network.deploy("closed", "[access]\ncallers = \"owner\"").await;
    let open = network.deploy("open", "[access]\nplaintext = true").await;
    let anyone = network.client();
    let base = format!("http://{}", worker.address());
    // A connection on which a request was refused unread is not used again.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();

    // The access rule.
    assert_eq!(call(&anyone, closed, "add", json!({ "amount": 1 })).await.outcome(), Outcome::Denied);
    assert_eq!(call(&anyone, closed, "total", json!(null)).await.outcome(), Outcome::Denied);
    assert_eq!(
        call(&network.owner_client(), closed, "add", json!({ "amount": 1 })).await.response(),
        br#"{"total":1}"#
    );

    // Methods and functions that do not exist.
    let refused = async |request: CallRequest| problem(anyone.call(&request).await.err().expect("refused")).kind;
    assert_eq!(refused(CallRequest::new(function, "nothing", "null")).await, ProblemKind::UnknownMethod);
    assert_eq!(call(&anyone, function, "add", json!({ "amount": 1 })).await.outcome(), Outcome::Ok);
    let candidate = anyone.fetch_workers(function).await.unwrap()[0].clone();
    let entry = tacit_client::Entry::worker(&base);
    let patience = std::time::Duration::from_secs(60);
    // Asked once: a client goes on asking, and what it hears last before its deadline depends on the machine.
    let ahead = CallRequest { min_sequence: Some(1_000), ..CallRequest::new(function, "total", "null") };
    assert_eq!(ask_once(&anyone, &candidate, &ahead).await.err().unwrap().kind, ProblemKind::StateBehind);

    // A sealed request opens once.
    let request = CallRequest::new(function, "add", r#"{"amount":1}"#);
    let prepared = anyone.prepare(&request, candidate.clone(), now().plus(60)).unwrap();
    let sealed = anyone.send(function, &prepared, &entry, patience).await.unwrap();
    assert!(prepared.open(&sealed).is_ok());
    let sealed = anyone.send(function, &prepared, &entry, patience).await.unwrap();
    let again = prepared.open(&sealed).err().unwrap();
    assert_eq!(problem(again).kind, ProblemKind::Replayed);

    // Deadlines.
    for deadline in [now().minus(5), now().plus(2_000)] {
        let prepared = anyone.prepare(&request, candidate.clone(), deadline).unwrap();
        let sealed = anyone.send(function, &prepared, &entry, patience).await.unwrap();
        assert_eq!(problem(prepared.open(&sealed).err().unwrap()).kind, ProblemKind::DeadlineExpired);
    }

    // A signature over another call, and a seal with one bit changed.
    let stranger = network.client().with_caller(SigningKey::from_bytes(&[9; 32]).unwrap());
    assert_eq!(call(&stranger, function, "add", json!({ "amount": 1 })).await.outcome(), Outcome::Ok);
    let prepared = anyone.prepare(&request, candidate.clone(), now().plus(30)).unwrap();
    let mut altered = prepared.sealed().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let post = async |function: FunctionId, media: &str, body: Vec<u8>| {
        let url = format!("{base}/f/{function}");
        http.post(url).header("content-type", media).body(body).send().await.unwrap()
    };
    let response = post(function, headers::SEALED_REQUEST, altered).await;
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("unreadable-seal"));
    assert_eq!(post(function, "text/plain", Vec::new()).await.status(), 415);
    // Too large: by its own word, before a byte of it is read.
    let declared = format!(
        "POST /f/{function} HTTP/1.1\r\nhost: a\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        headers::SEALED_REQUEST,
        18 << 20
    );
    let answer = raw(worker.address(), declared.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("urn:tacit:problem:too-large"), "{answer}");
    // And without a word: the worker may close the connection before all is sent; what it never does is take the body.
    let chunks = futures::stream::iter((0..18).map(|_| Ok::<_, std::io::Error>(vec![0u8; 1 << 20])));
    let streamed = http
        .post(format!("{base}/f/{function}"))
        .header("content-type", headers::SEALED_REQUEST)
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await;
    if let Ok(answer) = streamed {
        assert_eq!(answer.status(), 413);
    }
    let elsewhere = prepared.sealed().to_vec();
    let response = post(closed, headers::SEALED_REQUEST, elsewhere).await;
    let inside = prepared.open(&response.bytes().await.unwrap()).err().unwrap();
    assert!(matches!(inside, ClientError::Sealed(problem) if problem.kind == ProblemKind::InvalidRequest));
    let unknown = FunctionId::from([0xee; 32]);
    let request = CallRequest::new(unknown, "add", "null");
    let prepared = anyone.prepare(&request, candidate, now().plus(30)).unwrap();
    let sealed = anyone.send(unknown, &prepared, &entry, patience).await.unwrap();
    assert_eq!(problem(prepared.open(&sealed).err().unwrap()).kind, ProblemKind::UnknownFunction);

    // Without a seal: only where the manifest says so, and a false signature counts as none does not.
    let plain = async |function: FunctionId, more: &[(&str, String)]| {
        let mut request = http.post(format!("{base}/f/{function}/add")).body(r#"{"amount":3}"#);
        for (name, value) in more {
            request = request.header(*name, value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(plain(open, &[]).await, (200, r#"{"total":3}"#.to_owned()));
    assert_eq!(plain(function, &[]).await.0, 403);
    let certificate = anyone.fetch_workers(open).await.unwrap()[0].worker.id();
    let key = SigningKey::from_bytes(&[8; 32]).unwrap();
    let fields = [
        (headers::CALLER, key.address().to_string()),
        (headers::SIGNATURE, key.sign([1; 32].into()).to_string()),
        (headers::WORKER, certificate.to_string()),
        (headers::NONCE, format!("0x{}", "07".repeat(32))),
        (headers::DEADLINE, now().plus(30).0.to_string()),
    ];
    let (status, body) = plain(open, &fields).await;
    assert!(status == 401 && body.contains("bad-signature"), "{status} {body}");
    assert_eq!(plain(open, &fields[..2]).await.0, 400);
    assert_eq!(plain(open, &[("tacit-kind", "sideways".into())]).await.0, 400);
    assert_eq!(json(&anyone, open, "total", json!(null)).await, json!({ "total": 3 }));

    // What is not there.
    for (path, status) in
        [("/nowhere", 404), ("/v1/receipts/0x00", 400), ("/log/0x00/checkpoint", 400), ("/f/0x12", 405)]
    {
        assert_eq!(http.get(format!("{base}{path}")).send().await.unwrap().status(), status, "{path}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_work_meets_its_limit_and_hurts_nobody() {
    let network = Network::start().await;
    let worker = network.steady_worker(0).await;
    let function = network.deploy("hostile", "").await;
    let anyone = network.client();
    // Each is an outcome with a receipt, and the next call is served.
    for (method, name) in [("spin", "fuel"), ("hoard", "memory"), ("recurse", "stack")] {
        let answer = call(&anyone, function, method, json!(null)).await;
        let failure: serde_json::Value = serde_json::from_slice(answer.response()).unwrap();
        assert_eq!((answer.outcome(), &failure["name"]), (Outcome::Limit, &json!(name)), "{method}");
        assert_eq!(json(&anyone, function, "length", json!([1])).await, 3, "after {method}");
    }
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = (1 << 20) / (open.len() + close.len());
        let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let answer = anyone.call(&CallRequest::new(function, "length", nested)).await.unwrap();
        let failure: serde_json::Value = serde_json::from_slice(answer.response()).unwrap();
        assert_ne!(answer.outcome(), Outcome::Ok);
        assert!(["stack", "invalid-input"].contains(&failure["name"].as_str().unwrap()), "{failure}");
        assert_eq!(json(&anyone, function, "length", json!([1])).await, 3);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_are_serial_where_they_must_be() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = network.deploy("busy", "").await;
    let client = std::sync::Arc::new(network.client());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let client = client.clone();
        tasks.spawn(async move {
            if number % 3 == 0 {
                let answer = call(&client, function, "total", json!(null)).await;
                (answer.receipt().sequence, 0)
            } else {
                let answer = call(&client, function, "add", json!({ "amount": 1 })).await;
                let value: serde_json::Value = serde_json::from_slice(answer.response()).unwrap();
                (answer.receipt().sequence, value["total"].as_u64().unwrap())
            }
        });
    }
    let mut totals = Vec::new();
    let mut highest = 0;
    while let Some(result) = tasks.join_next().await {
        let (sequence, total) = result.unwrap();
        highest = highest.max(sequence);
        if total > 0 {
            totals.push(total);
        }
    }
    totals.sort_unstable();
    assert_eq!(totals, (1..=40).collect::<Vec<u64>>());
    // Several calls share a commit.
    assert!(highest < 40, "{highest} commits for 40 commands");
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 40 }));
    worker.stop().await;
}
