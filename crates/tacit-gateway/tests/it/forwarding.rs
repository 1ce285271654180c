//! Calls on their way to a worker and back.

use tacit_api::{FunctionAnswer, Problem, ProblemKind};
use tacit_types::{Address, FunctionId};

use crate::cluster::{Answers, Cluster, Running, Worker, install_provider, problem, sees_workers};

struct Scene {
    cluster: Cluster,
    gateway: Running,
    function: FunctionId,
    /// In rendezvous order.
    workers: Vec<Worker>,
    http: reqwest::Client,
}

impl Scene {
    async fn start() -> Self {
        install_provider();
        let cluster = Cluster::start().await;
        let mut config = cluster.config("gateway-1");
        // Probes far apart: what a test sees comes from calls.
        let gateway = {
            let function = cluster.register("oracle").await;
            let workers = vec![Worker::start(0x41, &cluster).await, Worker::start(0x42, &cluster).await];
            config.probe_milliseconds = 60_000;
            let gateway = Running::start(&config).await;
            sees_workers(&gateway, function, 2).await;
            (gateway, function, workers)
        };
        let (gateway, function, mut workers) = gateway;
        let answer: FunctionAnswer =
            reqwest::get(format!("{}/f/{function}", gateway.url)).await.unwrap().json().await.unwrap();
        let order: Vec<Address> = answer.workers.iter().map(|worker| worker.certificate.worker).collect();
        workers.sort_by_key(|worker| order.iter().position(|address| *address == worker.address()));
        Self { cluster, gateway, function, workers, http: reqwest::Client::new() }
    }

    fn sealed(&self, body: &'static str) -> reqwest::RequestBuilder {
        let url = format!("{}/f/{}", self.gateway.url, self.function);
        self.http.post(url).header("content-type", "message/ohttp-req").body(body)
    }

    fn plain(&self) -> reqwest::RequestBuilder {
        let url = format!("{}/f/{}/price", self.gateway.url, self.function);
        self.http.post(url).header("content-type", "application/json").body("{}")
    }

    async fn end(self) {
        self.gateway.stop().await;
        self.cluster.anvil.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_the_worker_that_it_names_else_to_the_first() {
    let scene = Scene::start().await;
    let answer =
        scene.sealed("abc").header("cookie", "secret").header("traceparent", "00-1-2-01").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "message/ohttp-res");
    assert_eq!(answer.headers()["tacit-call-id"], "0x00");
    assert_eq!(answer.headers().get("set-cookie"), None);
    assert_eq!(answer.bytes().await.unwrap(), "cba");
    {
        let seen = scene.workers[0].seen.lock().unwrap();
        let (headers, body) = &seen[0];
        assert_eq!(body, "abc");
        assert_eq!(headers["traceparent"], "00-1-2-01");
        assert_eq!(headers.get("cookie"), None);
    }
    let second = scene.workers[1].address().to_string();
    scene.sealed("x").header("tacit-worker", &second).send().await.unwrap().error_for_status().unwrap();
    let url = format!("{}/f/{}?tacit-worker={second}", scene.gateway.url, scene.function);
    let by_query = scene.http.post(url).header("content-type", "message/ohttp-req").body("x").send().await.unwrap();
    by_query.error_for_status().unwrap();
    assert_eq!((scene.workers[0].calls(), scene.workers[1].calls()), (1, 2));
    let nobody = scene.sealed("x").header("tacit-worker", format!("0x{}", "ee".repeat(20))).send().await.unwrap();
    assert_eq!(problem(nobody).await.kind, ProblemKind::UnknownWorker);
    let bad = scene.sealed("x").header("tacit-worker", "0xZZ").send().await.unwrap();
    assert_eq!(problem(bad).await.kind, ProblemKind::InvalidHeader);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_no_connection_is_passed_over_unless_it_was_named() {
    let scene = Scene::start().await;
    let first = scene.workers[0].address().to_string();
    scene.workers[0].kill().await;
    let named = scene.sealed("abc").header("tacit-worker", &first).send().await.unwrap();
    let unreachable = problem(named).await;
    assert_eq!(unreachable.kind, ProblemKind::WorkerUnreachable);
    assert!(unreachable.hint.is_some());
    let again = scene.sealed("abc").header("tacit-worker", &first).send().await.unwrap();
    assert_eq!(problem(again).await.kind, ProblemKind::WorkerUnreachable);
    assert_eq!(scene.sealed("abc").send().await.unwrap().bytes().await.unwrap(), "cba");
    assert_eq!(scene.workers[1].calls(), 1);
    sees_workers(&scene.gateway, scene.function, 1).await;
    scene.workers[1].kill().await;
    let nobody = problem(scene.sealed("abc").send().await.unwrap()).await;
    assert_eq!(nobody.kind, ProblemKind::WorkerUnreachable);
    assert_eq!(problem(scene.sealed("abc").send().await.unwrap()).await.kind, ProblemKind::NoWorker);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_problem_reaches_the_caller_as_it_is() {
    let scene = Scene::start().await;
    for kind in [ProblemKind::WrongKey, ProblemKind::NotHolder, ProblemKind::Overloaded, ProblemKind::DeadlineExpired] {
        scene.workers[0].answer(Answers::Problem(Problem::new(kind, "said by the worker")));
        let answer = scene.sealed("abc").send().await.unwrap();
        assert_eq!(answer.headers().contains_key("retry-after"), kind == ProblemKind::Overloaded);
        let found = problem(answer).await;
        assert_eq!((found.kind, found.detail.as_str()), (kind, "said by the worker"));
    }
    // A sealed call is for one worker: it is never sent to another one after a worker got it.
    assert_eq!(scene.workers[1].calls(), 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_seal_finds_the_holder() {
    let scene = Scene::start().await;
    scene.workers[0].answer(Answers::Problem(Problem::new(ProblemKind::NotHolder, "")));
    assert!(scene.plain().send().await.unwrap().status().is_success());
    assert_eq!((scene.workers[0].calls(), scene.workers[1].calls()), (1, 1));
    scene.workers[0].answer(Answers::Problem(Problem::new(ProblemKind::Replayed, "")));
    assert_eq!(problem(scene.plain().send().await.unwrap()).await.kind, ProblemKind::Replayed);
    assert_eq!(scene.workers[1].calls(), 1);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_breaks_off() {
    let scene = Scene::start().await;
    scene.workers[0].answer(Answers::Endless);
    let answer = scene.sealed("abc").send().await.unwrap();
    assert!(answer.bytes().await.is_err());
    assert!(scene.http.get(format!("{}/healthz", scene.gateway.url)).send().await.unwrap().status().is_success());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_logs_are_read_through_the_gateway() {
    let scene = Scene::start().await;
    let get = |path: String| scene.http.get(format!("{}{path}", scene.gateway.url)).send();
    let call = format!("0x{}", "01".repeat(32));
    assert_eq!(get(format!("/v1/receipts/{call}")).await.unwrap().text().await.unwrap(), "{\"receipt\":true}");
    let worker = scene.workers[0].address();
    assert_eq!(get(format!("/log/{worker}/checkpoint")).await.unwrap().text().await.unwrap(), "a checkpoint\n");
    assert_eq!(get(format!("/log/{worker}/tile/0/000.p/1")).await.unwrap().bytes().await.unwrap().len(), 32);
    let wrong = get(format!("/log/{worker}/tile/0/../../v1/identity")).await.unwrap();
    assert!(wrong.status().is_client_error());
    let bad = get(format!("/log/{worker}/tile/0/0x00")).await.unwrap();
    assert_eq!(problem(bad).await.kind, ProblemKind::InvalidRequest);
    let nobody = get(format!("/log/0x{}/checkpoint", "ee".repeat(20))).await.unwrap();
    assert_eq!(problem(nobody).await.kind, ProblemKind::UnknownWorker);
    scene.end().await;
}
