//! kill -9 and a restart: the same keys, the same cluster, the same register.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use tacit_api::{
    ProblemKind,
    gatekeeper::{
        ACKNOWLEDGE, AcknowledgeAnswer, AcknowledgeOutcome, AcknowledgeRequest, GatekeeperStatus, LeaseItem,
        LeaseItemAnswer, STATUS,
    },
};
use tacit_gatekeeper::{Clock, Config, Gatekeeper, GatekeeperClient, GatekeeperError};
use tacit_threshold::{Batch, Refusal};

use crate::network::{COUNT, Network};

const VARIABLE: &str = "TACIT_TEST_GATEKEEPER";

/// A gatekeeper as a process of its own: this very executable, so it has the measurement that the policy lists.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(config: &Config) -> Self {
        Self::start_under("exec \"$0\" \"$@\"", config)
    }

    /// Started by a shell that does `script` first.
    fn start_under(script: &str, config: &Config) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "restart::child_process", "--nocapture", "--test-threads", "1"])
            .env(VARIABLE, toml::to_string(config).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().split("listening ").nth(1).map(str::to_owned));
        Self { child, url: url.expect("the process says where it listens") }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The body of [`Process`]; without its variable it has nothing to do.
#[test]
fn child_process() {
    let Ok(config) = std::env::var(VARIABLE) else { return };
    let config = Config::from_toml(&config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let driver = config.driver();
        let gatekeeper = Gatekeeper::start(config, driver, Clock::system()).await.unwrap();
        println!("listening {}", gatekeeper.url());
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gatekeeper_goes_on_where_it_was() {
    let mut network = Network::start().await;
    let function = network.register_function("lasting").await;
    let worker = network.admitted(COUNT).await;
    let (held, _) = network.take(&worker, function).await;
    assert!(network.acknowledge(&worker, &held, 0, 0).await.acknowledged().is_some());

    // The third gatekeeper becomes a process of its own, over the same folder.
    network.stop(3).await;
    let config = network.machines.config(3);
    let mut process = Process::start(&config);
    network.clients[3] = GatekeeperClient::new(&process.url).unwrap();
    let before: GatekeeperStatus = network.clients[3].get(STATUS).await.unwrap();
    assert_eq!((before.cluster, before.index), (Some(network.founded.cluster), Some(3)));
    assert_eq!(before.functions, 1);

    for round in 1..=5u8 {
        let batch = Batch::new(network.founded.cluster, vec![network.ack(&held, round.into(), round)]).unwrap();
        let outcome = network.acknowledge_at(3, &worker, &batch, &[]).await;
        assert!(matches!(outcome, AcknowledgeOutcome::Acknowledged(_)), "{outcome:?}");
        process.kill();
        process = Process::start(&config);
        network.clients[3] = GatekeeperClient::new(&process.url).unwrap();
        let status: GatekeeperStatus = network.clients[3].get(STATUS).await.unwrap();
        assert_eq!((status.address, status.keyset), (before.address, before.keyset));

        // What it answered for, it still knows: the same again is signed, anything older or other is not.
        assert!(matches!(network.acknowledge_at(3, &worker, &batch, &[]).await, AcknowledgeOutcome::Acknowledged(_)));
        let older =
            Batch::new(network.founded.cluster, vec![network.ack(&held, u64::from(round) - 1, round - 1)]).unwrap();
        let outcome = network.acknowledge_at(3, &worker, &older, &[]).await;
        let AcknowledgeOutcome::InTheWay(refused) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(refused[0].refusal, Refusal::Stale { .. }));
        let other = Batch::new(network.founded.cluster, vec![network.ack(&held, round.into(), 99)]).unwrap();
        let outcome = network.acknowledge_at(3, &worker, &other, &[]).await;
        let AcknowledgeOutcome::InTheWay(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused[0].refusal, Refusal::Fork);
    }
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() {
    let mut network = Network::start().await;
    let function = network.register_function("large").await;
    let worker = network.admitted(COUNT).await;
    let (held, _) = network.take(&worker, function).await;
    assert!(network.acknowledge(&worker, &held, 0, 0).await.acknowledged().is_some());
    network.stop(3).await;
    let config = network.machines.config(3);
    // No file may grow beyond 64 blocks; the signal that says so is ignored, so writing fails as on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let process = Process::start_under(limited, &config);
    network.clients[3] = GatekeeperClient::new(&process.url).unwrap();
    let request = |network: &Network, sequence: u64| {
        let batch = Batch::new(network.founded.cluster, vec![network.ack(&held, sequence, sequence as u8)]).unwrap();
        let id = worker.certificate().id(network.founded.cluster);
        AcknowledgeRequest::signed(network.founded.cluster, id, &batch, Vec::new(), &worker.receipt_key)
    };
    let mut answered = 0;
    let problem = loop {
        match network.clients[3].post::<AcknowledgeAnswer>(ACKNOWLEDGE, &request(&network, answered + 1)).await {
            Ok(answer) => assert!(matches!(answer.outcome, AcknowledgeOutcome::Acknowledged(_)), "{answer:?}"),
            Err(GatekeeperError::Refused { problem, .. }) => break problem,
            Err(other) => panic!("{other}"),
        }
        answered += 1;
        assert!(answered < 5_000, "the limit does not bite");
    };
    assert_eq!(problem.kind, ProblemKind::StorageUnavailable);
    assert!(answered > 10, "{answered}");
    // It still knows exactly what it answered: the last is signed again, which needs no room, and nothing beyond is known.
    let again: AcknowledgeAnswer = network.clients[3].post(ACKNOWLEDGE, &request(&network, answered)).await.unwrap();
    assert!(matches!(again.outcome, AcknowledgeOutcome::Acknowledged(_)));
    process.kill();

    let process = Process::start(&config);
    network.clients[3] = GatekeeperClient::new(&process.url).unwrap();
    let LeaseItemAnswer::View(view) = network.ask_lease(3, &worker, LeaseItem::Read(function)).await else { panic!() };
    assert_eq!(view.accepted.sequence, answered);
    let next: AcknowledgeAnswer = network.clients[3].post(ACKNOWLEDGE, &request(&network, answered + 1)).await.unwrap();
    assert!(matches!(next.outcome, AcknowledgeOutcome::Acknowledged(_)));
    process.kill();
}

#[tokio::test]
async fn a_founding_survives_a_restart_in_between() {
    use tacit_api::gatekeeper::{Candidate, GENESIS_CANDIDATE};

    let machines = crate::network::Machines::start(1);
    let first = Gatekeeper::start(machines.config(0), machines.driver(0), Clock::system()).await.unwrap();
    let candidate: Candidate = GatekeeperClient::new(first.url()).unwrap().get(GENESIS_CANDIDATE).await.unwrap();
    first.stop().await;
    let second = Gatekeeper::start(machines.config(0), machines.driver(0), Clock::system()).await.unwrap();
    let again: Candidate = GatekeeperClient::new(second.url()).unwrap().get(GENESIS_CANDIDATE).await.unwrap();
    assert_eq!(candidate.keyset, again.keyset);
    second.stop().await;
}
