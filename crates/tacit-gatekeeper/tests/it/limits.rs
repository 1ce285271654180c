//! Requests that are too large, not JSON, or to nowhere.

use std::time::Duration;

use tacit_api::{Problem, ProblemKind, gatekeeper as wire};
use tacit_gatekeeper::{Clock, Gatekeeper, GatekeeperError};

use crate::network::Machines;

async fn problem(response: reqwest::Response) -> ProblemKind {
    let status = response.status().as_u16();
    let problem = Problem::from_json(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(problem.kind.status(), status);
    problem.kind
}

#[tokio::test]
async fn bad_requests_get_a_problem_and_hurt_nobody() {
    let machines = Machines::start(1);
    let gatekeeper = Gatekeeper::start(machines.config(0), machines.driver(0), Clock::system()).await.unwrap();
    let _client = tacit_gatekeeper::GatekeeperClient::new(gatekeeper.url()).unwrap();
    let http = reqwest::Client::new();
    let post = |path: &str, body: Vec<u8>| http.post(format!("{}{path}", gatekeeper.url())).body(body).send();

    for (path, limit) in [
        (wire::CHALLENGE, wire::MAX_SMALL_BODY),
        (wire::LEASE, wire::MAX_BATCH_BODY),
        (wire::ACKNOWLEDGE, wire::MAX_BATCH_BODY),
        (wire::ADMIT, wire::MAX_ADMIT_BODY),
    ] {
        assert_eq!(problem(post(path, vec![b' '; limit + 1]).await.unwrap()).await, ProblemKind::TooLarge, "{path}");
    }
    let nested = "[".repeat(60_000).into_bytes();
    for body in
        [b"".to_vec(), b"{}".to_vec(), b"\xff\xfe".to_vec(), nested, b"{\"version\":2,\"keyset\":\"0x\"}".to_vec()]
    {
        assert_eq!(problem(post(wire::CHALLENGE, body).await.unwrap()).await, ProblemKind::InvalidRequest);
    }
    assert_eq!(problem(post("/nowhere", vec![]).await.unwrap()).await, ProblemKind::NotFound);
    assert_eq!(problem(post(wire::STATUS, vec![]).await.unwrap()).await, ProblemKind::MethodNotAllowed);
    let keyset = format!("{{\"version\":1,\"keyset\":\"0x{}\"}}", "00".repeat(32));
    assert_eq!(problem(post(wire::CHALLENGE, keyset.into_bytes()).await.unwrap()).await, ProblemKind::NotFounded);

    // A connection that says nothing does not keep others from being served.
    let _silent = tokio::net::TcpStream::connect(gatekeeper.address()).await.unwrap();
    let status =
        http.get(format!("{}{}", gatekeeper.url(), wire::STATUS)).timeout(Duration::from_secs(5)).send().await.unwrap();
    assert!(status.status().is_success());

    // The folder belongs to one process.
    let second = Gatekeeper::start(machines.config(0), machines.driver(0), Clock::system()).await;
    assert!(matches!(second, Err(GatekeeperError::InUse { .. })));
    gatekeeper.stop().await;
}

#[tokio::test]
async fn a_folder_taken_to_another_machine_does_not_open() {
    let machines = Machines::start(2);
    let gatekeeper = Gatekeeper::start(machines.config(0), machines.driver(0), Clock::system()).await.unwrap();
    gatekeeper.stop().await;
    let elsewhere = Gatekeeper::start(machines.config(0), machines.driver(1), Clock::system()).await;
    assert!(matches!(elsewhere, Err(GatekeeperError::Sealed { .. })), "another machine has another sealing key");
}
