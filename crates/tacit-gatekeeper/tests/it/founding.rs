//! Founding a cluster: what it yields, and what gatekeepers do not agree to.

use tacit_api::{
    ProblemKind,
    gatekeeper::{
        Candidate, GENESIS_CANDIDATE, GENESIS_DEAL, GENESIS_RECEIVE, GENESIS_START, GenesisDeal, GenesisReceive,
        GenesisReceived, GenesisStart, GenesisStarted, GenesisStep, Version1,
    },
};
use tacit_attest::{Collateral, Evidence, verify_bound};
use tacit_gatekeeper::{Clock, Gatekeeper, GatekeeperClient, GatekeeperError, ceremony};
use tacit_types::{
    deployment::{Deployment, DeploymentChain, Genesis, GenesisGatekeeper, VERSION, genesis_report_data},
    signature::SigningKey,
};

use crate::network::{FINALIZED, Machines, Network, THRESHOLD, now};

#[tokio::test]
async fn a_founded_cluster_is_one_that_anybody_can_check() {
    let network = Network::start().await;
    let founded = &network.founded;
    for gatekeeper in &founded.gatekeepers {
        let evidence = Evidence::from_json(gatekeeper.evidence.to_string().as_bytes()).unwrap();
        let collateral = Collateral::from_json(gatekeeper.collateral.to_string().as_bytes()).unwrap();
        let keyset = gatekeeper.keyset.digest().unwrap();
        let expected = genesis_report_data(founded.cluster, gatekeeper.transcript, keyset);
        verify_bound(&evidence, &collateral, &network.machines.policy, now(), &expected).unwrap();
    }
    let deployment = Deployment {
        version: VERSION,
        genesis: founded.genesis.clone(),
        cluster_id: founded.cluster,
        chain: DeploymentChain { rpc: founded.genesis.rpcs[0].clone(), finality: FINALIZED },
        gatekeepers: founded.gatekeepers.clone(),
        policy: founded.policy.clone(),
        gateways: Vec::new(),
    };
    Deployment::from_json(&serde_json::to_vec(&deployment).unwrap()).unwrap();

    // The coordinator may ask again and gets the same; another cluster it does not get.
    let urls: Vec<_> = network.clients.iter().map(|client| client.url().to_owned()).collect();
    let deployer = SigningKey::from_bytes(&[0x11; 32]).unwrap();
    let mut template = network.machines.template(&founded.genesis.rpcs[0], &deployer);
    template.time = founded.genesis.time;
    assert_eq!(ceremony::run(&urls, template.clone()).await.unwrap().cluster, founded.cluster);
    template.threshold = 1;
    let refused = ceremony::run(&urls, template).await;
    assert!(
        matches!(refused, Err(GatekeeperError::Refused { problem, .. }) if problem.kind == ProblemKind::GenesisRefused)
    );
}

struct Candidates {
    machines: Machines,
    gatekeepers: Vec<Gatekeeper>,
    clients: Vec<GatekeeperClient>,
    start: GenesisStart,
}

async fn candidates() -> Candidates {
    let machines = Machines::start(3);
    let (mut gatekeepers, mut clients, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..3 {
        let gatekeeper =
            Gatekeeper::start(machines.config(index), machines.driver(index), Clock::system()).await.unwrap();
        let client = GatekeeperClient::new(gatekeeper.url()).unwrap();
        candidates.push(client.get::<Candidate>(GENESIS_CANDIDATE).await.unwrap());
        gatekeepers.push(gatekeeper);
        clients.push(client);
    }
    let template = machines.template("http://127.0.0.1:9", &SigningKey::from_bytes(&[1; 32]).unwrap());
    let genesis = Genesis {
        version: VERSION,
        network: template.network,
        chain_id: template.chain_id,
        contracts: template.contracts,
        code_hashes: template.code_hashes,
        rpcs: template.rpcs,
        policy: template.policy.hash().unwrap(),
        roots: template.roots,
        simulated: true,
        threshold: THRESHOLD,
        gatekeepers: candidates
            .iter()
            .map(|candidate| GenesisGatekeeper {
                address: candidate.keyset.receipt_address().unwrap(),
                keyset: candidate.keyset.digest().unwrap(),
            })
            .collect(),
        time: now(),
    };
    let policy = serde_json::from_slice(&machines.policy.canonical().unwrap()).unwrap();
    let start = GenesisStart { version: Version1, genesis, policy, candidates };
    Candidates { machines, gatekeepers, clients, start }
}

/// What the first gatekeeper says to a proposal.
async fn refusal(client: &GatekeeperClient, start: &GenesisStart) -> String {
    match client.post::<GenesisStarted>(GENESIS_START, start).await {
        Err(GatekeeperError::Refused { problem, .. }) if problem.kind == ProblemKind::GenesisRefused => problem.detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn proposals_that_gatekeepers_do_not_agree_to() {
    let world = candidates().await;
    let client = &world.clients[0];
    let check = async |change: &dyn Fn(&mut GenesisStart), expected: &str| {
        let mut start = world.start.clone();
        change(&mut start);
        let detail = refusal(client, &start).await;
        assert!(detail.contains(expected), "{detail} does not say {expected}");
    };
    check(&|start| start.policy["max_collateral_age"] = 1.into(), "the policy is not the one").await;
    check(&|start| start.genesis.time = now().minus(3_600), "too far from this clock").await;
    check(&|start| drop(start.candidates.pop()), "not the candidates").await;
    check(&|start| start.candidates.swap(1, 2), "gatekeeper 1: its keyset is not the one").await;
    check(&|start| start.candidates[1].evidence = start.candidates[2].evidence.clone(), "gatekeeper 1").await;
    check(&|start| start.genesis.gatekeepers[1].address = [9; 20].into(), "gatekeeper 1: its chain key").await;
    check(&|start| start.genesis.roots.clear(), "is not in the genesis document").await;
    check(&|start| start.genesis.threshold = 4, "not a possible gatekeeper set").await;
    check(&|start| (start.genesis.simulated, start.genesis.network) = (false, "test".into()), "simulated roots").await;
    check(
        &|start| {
            start.genesis.gatekeepers.remove(0);
            start.candidates.remove(0);
        },
        "this gatekeeper's keyset is not in",
    )
    .await;
    let other = |change: &dyn Fn(&mut tacit_attest::Policy), start: &mut GenesisStart| {
        let mut policy = world.machines.policy.clone();
        change(&mut policy);
        start.genesis.policy = policy.hash().unwrap();
        start.policy = serde_json::from_slice(&policy.canonical().unwrap()).unwrap();
    };
    check(
        &|start| other(&|policy| policy.measurements = tacit_attest::Measurements::Any, start),
        "lists no measurements",
    )
    .await;
    let without = &|start: &mut GenesisStart| {
        other(
            &|policy| {
                let tacit_attest::Measurements::Listed(images) = &mut policy.measurements else { panic!() };
                images.remove("gatekeeper");
            },
            start,
        );
    };
    check(without, "not one of the image \"gatekeeper\"").await;
    // Three machines of one vendor, each on a chip of its own.
    check(
        &|start| other(&|policy| policy.diversity.per_vendor = Some(2), start),
        "3 machines of vendor Intel, at most 2 may be",
    )
    .await;
    check(&|start| other(&|policy| policy.diversity.per_root = Some(1), start), "3 machines of root").await;
    check(&|start| other(&|policy| policy.diversity.per_operator = Some(3), start), "gatekeepers name none").await;
    // The limits hold for three on three chips: what is found wrong comes later.
    check(
        &|start| {
            other(&|policy| (policy.diversity.per_vendor, policy.diversity.per_chip) = (Some(3), Some(1)), start);
            start.genesis.gatekeepers.remove(0);
            start.candidates.remove(0);
        },
        "this gatekeeper's keyset is not in",
    )
    .await;
    for gatekeeper in world.gatekeepers {
        gatekeeper.stop().await;
    }
}

#[tokio::test]
async fn a_coordinator_that_alters_deals_founds_nothing() {
    let world = candidates().await;
    let mut deals = Vec::new();
    let cluster = world.start.genesis.cluster_id().unwrap();
    for client in &world.clients {
        let started: GenesisStarted = client.post(GENESIS_START, &world.start).await.unwrap();
        assert_eq!(started.cluster, cluster);
        let answer: GenesisDeal = client.post(GENESIS_DEAL, &GenesisStep { version: Version1, cluster }).await.unwrap();
        deals.push(answer.deal);
    }
    let receive = |deals| GenesisReceive { version: Version1, cluster, deals };
    let check = async |change: &dyn Fn(&mut Vec<tacit_threshold::dealing::Deal>)| {
        let mut changed = deals.clone();
        change(&mut changed);
        let answer = world.clients[1].post::<GenesisReceived>(GENESIS_RECEIVE, &receive(changed)).await;
        assert!(
            matches!(answer, Err(GatekeeperError::Refused { problem, .. }) if problem.kind == ProblemKind::GenesisRefused)
        );
    };
    check(&|deals| drop(deals.pop())).await;
    check(&|deals| deals.swap(0, 1)).await;
    check(&|deals| deals[0].sub_keys[0].commitment = [1; 32].into()).await;
    check(&|deals| {
        let mut sealed = deals[0].sub_keys[0].sealed[0].sealed.to_vec();
        *sealed.last_mut().unwrap() ^= 1;
        deals[0].sub_keys[0].sealed[0].sealed = sealed.into();
    })
    .await;
    let mut transcripts = Vec::new();
    for client in &world.clients {
        let received: GenesisReceived = client.post(GENESIS_RECEIVE, &receive(deals.clone())).await.unwrap();
        transcripts.push(received.transcript);
    }
    transcripts.dedup();
    assert_eq!(transcripts.len(), 1);
    for gatekeeper in world.gatekeepers {
        gatekeeper.stop().await;
    }
}
