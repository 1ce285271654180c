//! Step 5: verify a receipt where nothing can be asked, with our verifier and with other people's tools.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::network::Network;

/// Verifies the bundle in a network namespace without a network, then by eth-account, viem and cast.
pub fn run(network: &Network, bundle: &[u8]) -> Result<()> {
    let file = network.folder().join("r.json");
    std::fs::write(&file, bundle)?;
    let deployment = network.deployment_path();
    println!("5 VERIFY   tacit verify {}, in a network namespace with no network", file.display());

    let (judged, status) = verify(network, &file, &deployment, None)?;
    let holds = |name: &str| {
        let step = judged["steps"].as_array().into_iter().flatten().find(|step| step["step"] == name);
        step.is_some_and(|step| step["ok"] == true)
    };
    let names: Vec<&str> =
        judged["steps"].as_array().into_iter().flatten().filter_map(|step| step["step"].as_str()).collect();
    println!("  steps that hold: {}", names.iter().filter(|name| holds(name)).copied().collect::<Vec<_>>().join(" · "));
    println!("  could talk to: {}", judged["couldTalkTo"].as_str().unwrap_or("unknown"));
    let (_, lenient) = verify(network, &file, &deployment, Some("dev"))?;
    println!(
        "  hardware root {} -> SIMULATED (exit {status}; {lenient} with --policy dev)",
        judged["root"].as_str().unwrap_or("?")
    );
    ensure!(judged["verdict"] == "simulated", "expected the verdict `simulated`, found {}", judged["verdict"]);
    ensure!(status == 4, "expected exit status 4, found {status}");
    ensure!(lenient == 0, "expected exit status 0 under --policy dev, found {lenient}");
    ensure!(judged["couldTalkTo"] == "nobody", "expected that the function could talk to nobody");

    println!("  without our code: {}", others(network, &file, &deployment)?);
    Ok(())
}

fn verify(network: &Network, file: &Path, deployment: &Path, policy: Option<&str>) -> Result<(Value, i32)> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--"]).arg(network.tool.binary());
    command.arg("verify").arg(file).arg("--deployment").arg(deployment).arg("--json");
    if let Some(policy) = policy {
        command.args(["--policy", policy]);
    }
    let output = command.output().context("could not start unshare (package util-linux)")?;
    let status = output.status.code().context("tacit verify was ended by a signal")?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("tacit verify --json: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    Ok((report, status))
}

/// eth-account, viem and cast, which share no code with this repository.
fn others(network: &Network, file: &Path, deployment: &Path) -> Result<String> {
    let scripts = network.project().join("examples/check-receipt");
    let typed = file.with_extension("typed.json");
    let python = Command::new("python3")
        .arg(scripts.join("check.py"))
        .args([file, deployment])
        .arg("--typed-data")
        .arg(&typed)
        .output();
    let python = succeeded("python3 check.py", python?)?;

    let viem = Command::new("node")
        .arg(scripts.join("check.mjs"))
        .args([file, deployment])
        .current_dir(network.project().join("sdk/ts"))
        .output();
    let viem = succeeded("node check.mjs", viem?)?;

    let bundle: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let worker = bundle["certificate"]["certificate"]["worker"]
        .as_str()
        .or_else(|| bundle["certificate"]["worker"].as_str())
        .context("the bundle names no worker")?;
    let signature = bundle["signature"].as_str().context("the bundle has no signature")?;
    let cast = Command::new(network.project().join("contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast"))
        .args(["wallet", "verify", "--address", worker, "--data", "--from-file"])
        .arg(&typed)
        .arg(signature)
        .output();
    let cast = succeeded("cast wallet verify", cast?)?;
    let last = |text: &str| text.lines().last().unwrap_or_default().trim().to_owned();
    Ok(format!(
        "eth-account {} checks · viem {} checks · cast: {}",
        python.lines().count(),
        viem.lines().count(),
        last(&cast)
    ))
}

fn succeeded(what: &str, output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what}: {}\n{}{}", output.status, text, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
