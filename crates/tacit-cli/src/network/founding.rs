//! Founds a network: keys, simulated vendor, key ceremony, contracts, deployment file.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tacit_attest::{ExtraRoot, Policy, Preset, Vendor};
use tacit_gatekeeper::ceremony::{self, Template};
use tacit_ledger::{Addresses, Anvil, ClusterParameters, Ledger, code_hashes, deploy_all, predict_addresses};
use tacit_types::{
    Measurement, UnixTime,
    deployment::{self, Deployment, DeploymentChain, Finality, Genesis, NamedFinality},
    signature::SigningKey,
};

use super::{
    chain,
    layout::{Layout, Plan},
    up::UpArguments,
};
use crate::context::{NetworkFolder, is_name, read_key, write_key};

/// How long the chain believes the first gatekeepers: a year, since a local set is not renewed.
const SET_LIFE: u64 = 365 * 86_400;

/// The id by which everybody knows a local chain that makes no blocks while nothing happens.
const DEVELOPMENT_CHAIN: u64 = 31_337;
const FINALITY: Finality = Finality::Named(NamedFinality::Finalized);

/// Plans a new network: ports, folders, keys, its own copy of the binaries, the simulated vendor.
pub fn plan(arguments: &UpArguments, layout: &Layout, folder: &NetworkFolder) -> Result<Plan> {
    let name =
        arguments.folder.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name)).unwrap_or("local");
    ensure!(arguments.workers >= 1, "a network needs a worker");
    ensure!(
        (1..=5).contains(&arguments.gatekeepers) && (1..=arguments.gatekeepers).contains(&arguments.threshold),
        "a local network has 1 to 5 gatekeepers and a threshold of at most as many"
    );
    let plan = Plan::new(name, DEVELOPMENT_CHAIN, arguments.gatekeepers, arguments.threshold, arguments.workers)?
        .with_models(&arguments.models, &arguments.models_folder)?;
    layout.create(&plan)?;
    copy_binaries(layout)?;

    folder.write_caller_key(&SigningKey::generate(&mut rand::rng()))?;
    write_key(&layout.folder().join("governor.key"), &SigningKey::generate(&mut rand::rng()))?;
    for worker in plan.worker_names() {
        write_key(&layout.operator_key(&worker), &SigningKey::generate(&mut rand::rng()))?;
    }
    let mut vendor = Command::new(layout.binary("tacit-simulator"));
    vendor.args(["init-root", "--name", &plan.network, "--platform", "tdx", "--dir"]).arg(layout.root());
    // The second worker is of another vendor; one worker alone needs no second vendor, whose keys take a second to make.
    if plan.workers > 1 {
        vendor.args(["--platform", "snp"]);
    }
    let made = vendor.output().context("could not start tacit-simulator")?;
    ensure!(made.status.success(), "tacit-simulator init-root: {}", String::from_utf8_lossy(&made.stderr).trim());
    layout.write_plan(&plan)?;
    Ok(plan)
}

/// A network runs the binaries that it was founded with: its policy names their measurement.
fn copy_binaries(layout: &Layout) -> Result<()> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let beside = own.parent().context("this program lies in no folder")?;
    for name in ["tacit", "tacit-simulator"] {
        let from = if name == "tacit" { own.clone() } else { beside.join(name) };
        std::fs::copy(&from, layout.binary(name)).with_context(|| format!("could not copy {}", from.display()))?;
    }
    Ok(())
}

/// Runs the ceremony, deploys the contracts and writes the deployment file.
pub async fn found(layout: &Layout, plan: &Plan, folder: &NetworkFolder, chain: &Anvil) -> Result<()> {
    let governor = read_key(&layout.folder().join("governor.key"))?;
    let mut accounts = vec![governor.address(), folder.caller_key()?.address()];
    for worker in plan.worker_names() {
        accounts.push(read_key(&layout.operator_key(&worker))?.address());
    }
    chain::fund(chain, &accounts).await?;

    let measurements = measure(layout)?;
    let policy = policy(layout, plan, &measurements)?;
    let ledger = Ledger::connect(chain.url(), predict_addresses(governor.address(), 0), FINALITY)?;
    let addresses = predict_addresses(governor.address(), ledger.writer(&governor)?.next_nonce().await?);
    let template = Template {
        network: plan.network.clone(),
        chain_id: plan.chain_id,
        contracts: addresses.to_map(),
        code_hashes: code_hashes(),
        rpcs: vec![chain.url().to_owned()],
        roots: policy.extra_roots.iter().map(ExtraRoot::id).collect(),
        policy,
        threshold: plan.threshold,
        time: UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs()),
    };
    let urls: Vec<String> = plan.gatekeeper_names().iter().map(|name| plan.url(name)).collect::<Result<_>>()?;
    let founded = ceremony::run(&urls, template).await.context("the key ceremony")?;
    deploy(chain, addresses, &governor, &founded.genesis, measurements).await.context("the contracts")?;
    folder.write_deployment(&Deployment {
        version: deployment::VERSION,
        cluster_id: founded.cluster,
        chain: DeploymentChain { rpc: chain.url().to_owned(), finality: FINALITY },
        gatekeepers: founded.gatekeepers,
        policy: founded.policy,
        gateways: plan.gateway_names().iter().map(|name| plan.url(name)).collect::<Result<_>>()?,
        genesis: founded.genesis,
    })
}

/// What the simulated machines of this network measure of a process that runs its binary: one number for each platform.
fn measure(layout: &Layout) -> Result<Vec<Measurement>> {
    let platforms: &[&str] = if layout.amd_root_certificate().exists() { &["tdx", "snp"] } else { &["tdx"] };
    let measure = |platform: &&str| -> Result<Measurement> {
        let output = Command::new(layout.binary("tacit-simulator"))
            .args(["measure", "--platform", platform, "--executable"])
            .arg(layout.binary("tacit"))
            .output()?;
        ensure!(output.status.success(), "tacit-simulator measure: {}", String::from_utf8_lossy(&output.stderr).trim());
        String::from_utf8_lossy(&output.stdout).trim().parse().context("tacit-simulator measure printed no measurement")
    };
    platforms.iter().map(measure).collect()
}

fn policy(layout: &Layout, plan: &Plan, measurements: &[Measurement]) -> Result<Policy> {
    let name = format!("SIM-{}", plan.network);
    let vendors = [
        (name.clone(), Vendor::Intel, layout.root_certificate()),
        (format!("{name}-amd"), Vendor::Amd, layout.amd_root_certificate()),
    ];
    let mut policy = Policy::preset(Preset::Dev).with_name(plan.network.clone());
    for (name, vendor, path) in vendors {
        if vendor == Vendor::Amd && !path.exists() {
            continue;
        }
        let certificate = std::fs::read(&path).with_context(|| path.display().to_string())?;
        policy = policy.with_root(ExtraRoot::simulated(name, vendor, certificate)?);
    }
    // One binary runs every role, so both images have its measurements.
    Ok(policy.with_image("gatekeeper", measurements).with_image("worker", measurements))
}

async fn deploy(
    chain: &Anvil,
    addresses: Addresses,
    governor: &SigningKey,
    genesis: &Genesis,
    measurements: Vec<Measurement>,
) -> Result<()> {
    let ledger = Ledger::connect(chain.url(), addresses, FINALITY)?;
    let parameters = ClusterParameters {
        cluster: genesis.cluster_id()?,
        gatekeepers: genesis.gatekeeper_set(),
        valid_until: genesis.time.plus(SET_LIFE),
        governor: governor.address(),
        guardian: governor.address(),
        timelock: 0,
        policy: genesis.policy,
        policy_uri: "deployment.json".into(),
        measurements,
    };
    let deployed = deploy_all(&ledger.writer(governor)?, &parameters).await?;
    ensure!(
        deployed.to_map() == genesis.contracts,
        "the contracts have other addresses than the genesis document says"
    );
    Ok(())
}
