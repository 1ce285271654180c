//! What the command line asks for.

use std::path::Path;

use anyhow::Result;
use tacit_simulator::{Bulletin, EndorsementKey, Generation, Machine, Root, Setup, Simulator, measure_executable_on};
use tacit_types::UnixTime;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Command, Platform, Publish, Serve};

/// Runs a command that ends by itself.
pub fn run(command: Command, now: UnixTime) -> Result<()> {
    match command {
        Command::InitRoot { dir, name, platforms } => init_root(&dir, &name, &platforms, now),
        Command::Measure { executable, guest_files, platform } => {
            let hardware = platform.hardware(Generation::default(), EndorsementKey::default());
            println!("{}", measure_executable_on(hardware, &executable, &guest_files)?);
            Ok(())
        }
        Command::Publish(said) => publish(said),
    }
}

/// Makes a root, or the AMD part that an existing one lacks.
fn init_root(dir: &Path, name: &str, platforms: &[Platform], now: UnixTime) -> Result<()> {
    let amd = platforms.contains(&Platform::Snp);
    let lacks_amd = amd && dir.join(Root::CERTIFICATE).exists() && !dir.join(Root::AMD_CERTIFICATE).exists();
    let root = if lacks_amd { Root::open(dir)? } else { Root::create(dir, name, now)? };
    let mut made = serde_json::json!({ "root": root.id(), "certificate": dir.join(Root::CERTIFICATE) });
    if amd {
        let root = root.with_amd(now)?;
        made["amdRoot"] = serde_json::to_value(root.amd()?.id())?;
        made["amdCertificate"] = serde_json::to_value(dir.join(Root::AMD_CERTIFICATE))?;
    }
    println!("{made}");
    Ok(())
}

fn publish(said: Publish) -> Result<()> {
    let bulletin = Bulletin {
        issued: said.issued.map(UnixTime),
        lifetime: said.lifetime,
        evaluation_number: said.evaluation_number,
        crl_number: said.crl_number,
        revoked_chips: said.revoked_chips,
        revoked_authorities: said.revoked_authorities,
        ..Bulletin::default().with_status(&said.status, &said.advisories)
    };
    Root::open(&said.root)?.publish(&bulletin)?;
    Ok(())
}

/// Serves until it is told to stop.
pub async fn serve(serve: Serve, now: UnixTime) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let setup = Setup {
        hardware: serve.platform.hardware(serve.generation, serve.endorsement_key),
        flaws: serve.flaws(),
        name: serve.name,
        guest_files: serve.guest_files,
    };
    let machine = Machine::open_as(&serve.dir, Root::open(&serve.root)?, &setup, now)?;
    let running = Simulator::start(machine, &serve.socket)?;
    println!(
        "{}",
        serde_json::json!({ "ready": true, "chip": running.machine().chip(), "root": running.machine().root_id()? })
    );
    tokio::select! {
        _ = terminate.recv() => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    running.stop().await;
    Ok(())
}
