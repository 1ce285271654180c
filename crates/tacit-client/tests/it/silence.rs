//! Who is silent, and what a call makes of it.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tacit_api::{Problem, ProblemKind};
use tacit_client::{Answer, CallRequest, Client, ClientError};

use crate::network::{Network, eventually, function};

/// How long a call may take here. A third of it is what a silent try may take, and what nobody should have to wait for.
const PATIENCE: Duration = Duration::from_secs(90);

fn request() -> CallRequest {
    CallRequest { patience: PATIENCE, ..CallRequest::new(function(), "work", "{}") }
}

async fn call(client: &Client) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = client.call(&request()).await.unwrap_or_else(|error| panic!("{error} {error:?}"));
    assert_eq!(answer.response(), br#"{"done":true}"#);
    (answer, began.elapsed())
}

fn ran(network: &Network) -> usize {
    network.worker.ran.load(Ordering::SeqCst)
}

fn asked(network: &Network) -> usize {
    network.worker.asked.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_gateway_stalls_neither_the_look_up_nor_the_call() {
    let network = Network::start().await;
    network.gateways[0].silence(true);
    let client = network.client();
    let began = Instant::now();
    assert_eq!(client.workers(function()).await.unwrap().len(), 1);
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    // It is remembered: the call does not even try it.
    let before = network.gateways[0].requests();
    call(&client).await;
    assert_eq!((ran(&network), network.gateways[0].requests()), (1, before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_begins_with_a_silent_gateway_waits_for_it_once() {
    let network = Network::start().await;
    network.gateways[0].silence(true);
    let (_, took) = call(&network.client()).await;
    assert!(took < PATIENCE / 3, "{took:?}");
    assert_eq!(network.gateways[0].requests(), 1, "only the look-up");
    assert_eq!((asked(&network), ran(&network)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_takes_the_call_and_falls_silent_costs_little() {
    let network = Network::start().await;
    let client = network.client();
    for _ in 0..10 {
        call(&client).await;
    }
    let before = (network.gateways[0].requests(), network.gateways[1].requests());
    assert_eq!(before, (11, 0), "a look-up and ten calls by the first gateway");
    network.gateways[0].silence(true);
    let (_, took) = call(&client).await;
    assert!(took >= Duration::from_millis(500) && took < PATIENCE / 3, "{took:?}");
    assert_eq!((network.gateways[0].requests(), network.gateways[1].requests()), (12, 1));
    // From now on the other one is asked first.
    call(&client).await;
    assert_eq!((network.gateways[0].requests(), network.gateways[1].requests()), (12, 2));
    assert_eq!(ran(&network), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_again_first_answers() {
    let network = Network::start().await;
    let client = network.client();
    client.workers(function()).await.unwrap();
    network.gateways.iter().for_each(|gateway| gateway.silence(true));
    let under_way = tokio::spawn(async move { client.call(&request()).await.map(|answer| answer.outcome()) });
    eventually("both have the call", || network.gateways[0].requests() == 2 && network.gateways[1].requests() == 1)
        .await;
    network.gateways[1].silence(false);
    assert!(under_way.await.unwrap().is_ok());
    assert_eq!((asked(&network), ran(&network)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_takes_its_time_is_neither_disturbed_nor_run_twice() {
    let network = Network::start().await;
    let client = network.client();
    client.workers(function()).await.unwrap();
    *network.worker.takes.lock().unwrap() = Duration::from_secs(10);
    let (_, took) = call(&client).await;
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert_eq!((asked(&network), ran(&network)), (2, 1), "asked for twice, run once");
    // Nobody is suspected for it.
    *network.worker.takes.lock().unwrap() = Duration::ZERO;
    let before = network.gateways[0].requests();
    call(&client).await;
    assert_eq!(network.gateways[0].requests(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_second_seal_does_not_end_a_call_that_runs() {
    for kind in [ProblemKind::DeadlineExpired, ProblemKind::Internal, ProblemKind::NotHolder, ProblemKind::Overloaded] {
        let network = Network::start().await;
        let client = network.client();
        client.workers(function()).await.unwrap();
        *network.worker.takes.lock().unwrap() = Duration::from_secs(4);
        *network.worker.refuses_later.lock().unwrap() = Some(Problem::new(kind, ""));
        call(&client).await;
        assert!(asked(&network) >= 2, "{kind:?}");
        assert_eq!(ran(&network), 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_word_on_the_request_ends_a_call_though_a_gateway_is_silent() {
    let network = Network::start().await;
    let client = network.client();
    client.workers(function()).await.unwrap();
    *network.worker.refuses.lock().unwrap() = Some(Problem::new(ProblemKind::UnknownMethod, "no such method"));
    network.gateways[0].silence(true);
    let began = Instant::now();
    match client.call(&request()).await {
        Err(ClientError::Sealed(problem)) => assert_eq!(problem.kind, ProblemKind::UnknownMethod),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("answered"),
    }
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_at_all_is_said_at_the_deadline() {
    let network = Network::start().await;
    let client = network.client();
    client.workers(function()).await.unwrap();
    network.gateways.iter().for_each(|gateway| gateway.silence(true));
    let began = Instant::now();
    let request = CallRequest { patience: Duration::from_secs(3), ..request() };
    assert!(matches!(client.call(&request).await, Err(ClientError::Deadline(_))));
    assert!(began.elapsed() >= Duration::from_secs(2) && began.elapsed() < Duration::from_secs(60));
    // A cold client, which has to look up first, neither.
    let client = network.client();
    assert!(matches!(client.call(&request).await, Err(ClientError::Deadline(_))));
    assert_eq!(ran(&network), 0);
}
