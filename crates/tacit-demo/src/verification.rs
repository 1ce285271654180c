//! Step 5: verify a receipt where nothing can be asked, with our verifier and with other people's tools.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{inputs::Inputs, network::Network, screen::short};

/// Verifies the bundle in a network namespace without a network, then by eth-account, viem and cast.
pub fn run(network: &Network, inputs: &Inputs) -> Result<()> {
    let data = inputs.left()?;
    let folder = network.new_folder("receipt")?;
    let file = folder.join("r.json");
    std::fs::write(&file, &data.bundle)?;
    println!("5 VERIFY   tacit verify r.json, in a network namespace with no network");

    let (judged, status) = verify(network, &file, &inputs.deployment, None)?;
    let (_, lenient) = verify(network, &file, &inputs.deployment, Some("dev"))?;
    let steps: Vec<&Value> = judged["steps"].as_array().into_iter().flatten().collect();
    let names = |ok: bool| -> Vec<&str> {
        steps.iter().filter(|step| (step["ok"] == true) == ok).filter_map(|step| step["step"].as_str()).collect()
    };
    for (begins, line) in ["hold: ", "      "].iter().zip(names(true).chunks(8)) {
        println!("  {begins}{}", line.join(" · "));
    }
    println!("  could talk to: {}", judged["couldTalkTo"].as_str().unwrap_or("unknown"));
    println!(
        "  hardware root {} -> {} (exit {status}; {lenient} with --policy dev)",
        short(&judged["root"].as_str().unwrap_or("unknown")),
        judged["verdict"].as_str().unwrap_or("unknown").to_uppercase(),
    );
    ensure!(
        judged["verdict"] == "simulated",
        "expected the verdict \"simulated\", found {}; what does not hold: {}",
        judged["verdict"],
        names(false).join(", ")
    );
    ensure!(status == 4, "expected exit status 4, found {status}");
    ensure!(lenient == 0, "expected exit status 0 under --policy dev, found {lenient}");
    ensure!(
        judged["couldTalkTo"] == "nobody",
        "expected that the function could talk to nobody, found {}",
        judged["couldTalkTo"]
    );

    let handed_out = folder.join("handed-out.json");
    std::fs::write(&handed_out, &data.handed_out)?;
    println!("  without our code: {}", others(inputs, &handed_out)?);
    Ok(())
}

fn verify(network: &Network, file: &Path, deployment: &Path, policy: Option<&str>) -> Result<(Value, i32)> {
    let mut command = Command::new("unshare");
    command.args(without_network()?).arg("--").arg(network.tool.binary());
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

/// What gives `unshare` a namespace without a network: as an ordinary user through a user namespace, else, as in a chroot, where
/// the kernel allows none, as root.
fn without_network() -> Result<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["--map-root-user", "--net"], &["--net"]];
    for way in WAYS {
        let tried = Command::new("unshare").args(way).args(["--", "true"]).output();
        if tried.context("could not start unshare (package util-linux)")?.status.success() {
            return Ok(way);
        }
    }
    bail!("this machine gives no network namespace: user namespaces are off, and this is not root")
}

/// eth-account, viem and cast, which share no code with this repository.
fn others(inputs: &Inputs, file: &Path) -> Result<String> {
    let (deployment, project) = (inputs.deployment.as_path(), &inputs.project);
    let scripts = project.join("examples/check-receipt");
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
        .current_dir(project.join("sdk/ts"))
        .output();
    let viem = succeeded("node check.mjs", viem?)?;

    let bundle: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let worker = bundle["certificate"]["certificate"]["worker"]
        .as_str()
        .or_else(|| bundle["certificate"]["worker"].as_str())
        .context("the bundle names no worker")?;
    let signature = bundle["signature"].as_str().context("the bundle has no signature")?;
    let cast = Command::new(project.join("contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast"))
        .args(["wallet", "verify", "--address", worker, "--data", "--from-file"])
        .arg(&typed)
        .arg(signature)
        .output();
    let cast = succeeded("cast wallet verify", cast?)?;
    Ok(format!(
        "eth-account {} checks hold · viem {} checks hold · cast: {}",
        python.lines().count(),
        viem.lines().count(),
        cast.split('.').next().unwrap_or_default().trim()
    ))
}

fn succeeded(what: &str, output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{what}: expected exit status 0, found {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}
