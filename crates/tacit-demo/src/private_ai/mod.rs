//! Step 7: private AI. A message that a model inside the workers judges, asked by another project's client and by a function whose
//! word moves money; and what is refused.

mod refund;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tacit_api::DeployReport;
use tacit_client::CallRequest;
use tacit_receipt::{Bundle, Effect};
use tacit_types::{Digest, eip712::Outcome, formats::sha256};

use self::refund::Desk;
use crate::{
    inputs::Inputs,
    network::{Network, copy, terminate},
    screen::{cut, milliseconds, short},
    tool::Tool,
};

/// The model, small on purpose: it fits a test machine.
pub const MODEL: &str = "smollm2-135m-instruct";
/// What buyers write when they complain of nothing.
const HARMLESS: &str = "Where can I park near your shop?";
/// Price of an order, in the chain's smallest unit.
const PRICE: u128 = 50_000_000_000_000_000;
/// How long the demo waits for the chain, and for a node that must not start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the model to the demo's own store; says whether it could be had.
pub fn add_model(tool: &Tool, inputs: &Inputs) -> Result<bool> {
    let weights = inputs.cache.join("tacit/models/smollm2-135m-instruct-q4_1.gguf");
    if !weights.is_file() {
        return Ok(false);
    }
    let weights = weights.display().to_string();
    tool.run(&["model", "add", &weights, "--name", MODEL, "--licence", "Apache-2.0"])?;
    Ok(true)
}

/// Asks the model, lets a function ask it, and tries what must be refused.
pub async fn run(network: &Network, inputs: &Inputs) -> Result<()> {
    let tool = &network.tool;
    if !is_offered(tool) {
        println!("7 PRIVATE AI   left out: the model could not be had; `make models` says why");
        return Ok(());
    }
    let digest = offered(tool)?;
    println!(
        "7 PRIVATE AI   SmolLM2-135M, small on purpose, in both workers; asked through gateway-1, which passes sealed bytes on"
    );
    println!("  a buyer writes: {}", cut(&inputs.complaint));
    each_worker(network)?;
    through_the_proxy(network, inputs)?;
    by_a_function(network, inputs, digest).await?;
    swapped(network, inputs)?;
    forged(network, inputs)
}

/// Whether the network's workers have the model.
pub fn is_offered(tool: &Tool) -> bool {
    tool.network().join("models/node.json").exists()
}

/// Digest of the model in the store.
fn offered(tool: &Tool) -> Result<Digest> {
    let models: Vec<Value> = tool.json(&["model", "list"])?;
    let model = models.iter().find(|model| model["name"] == MODEL).context("the store has no such model")?;
    Ok(sha256(&tacit_types::jcs::to_bytes(model)?))
}

/// Every worker is verified and answers, through the gateway.
fn each_worker(network: &Network) -> Result<()> {
    let folder = network.tool.network().join("models");
    let file = |name: &str| folder.join(name).display().to_string();
    let mut hardware = Vec::new();
    for worker in network.status()?.workers {
        let account = worker.address.context("a worker has no account")?;
        let node = format!("{}/ai/{account}", network.gateway(0)?);
        let ask = ["chat", "Name a fruit.", "--max-tokens", "8", "--node", &node];
        let judged = ["--policy", &file("policy.json"), "--api-key", &file("api.key")];
        let answer: Value = network.tool.json(&[&ask[..], &judged].concat())?;
        hardware.push(answer["hardware"].as_str().context("tacit chat names no hardware")?.to_owned());
    }
    println!("  verified before the first byte: {}", hardware.join(" · "));
    ensure!(hardware.len() == 2, "expected two workers, found {}", hardware.len());
    Ok(())
}

/// The official client of the OpenAI interface, unchanged, through `tacit proxy`.
fn through_the_proxy(network: &Network, inputs: &Inputs) -> Result<()> {
    let proxy = Proxy::start(&network.tool)?;
    let started = Instant::now();
    let found = proxy.classify(inputs, &inputs.complaint)?;
    let took = started.elapsed();
    let other = proxy.classify(inputs, HARMLESS)?;
    println!(
        "  official client through tacit proxy: {found:?} after {}, and {other:?} of {HARMLESS:?}",
        milliseconds(took)
    );
    ensure!(found == "complaint", "expected the label \"complaint\", found {found:?}");
    ensure!(other == "other", "expected the label \"other\", found {other:?}");
    Ok(())
}

/// A function asks the same model, and what it publishes makes a contract pay.
async fn by_a_function(network: &Network, inputs: &Inputs, model: Digest) -> Result<()> {
    let example = inputs.project.join("examples/refund-desk").display().to_string();
    let deployed: DeployReport = network.tool.json(&["deploy", &example])?;
    let desk = Desk::deploy(network, inputs, deployed.function, deployed.code_hash).await?;
    let client = network.client()?;
    let [order, other] = [B256::repeat_byte(0x42), B256::repeat_byte(0x43)];
    desk.pay(order, PRICE).await?;
    desk.pay(other, PRICE).await?;
    let complain = |order: B256, message: &str| {
        let body = json!({ "order": order.to_string(), "message": message, "desk": desk.contract.to_string() });
        CallRequest::new(deployed.function, "complain", body.to_string())
    };
    let answer = client.call(&complain(order, &inputs.complaint)).await?;
    let said = String::from_utf8_lossy(answer.response()).into_owned();
    ensure!(answer.outcome() == Outcome::Ok, "the function failed: {said}");
    let said: Value = serde_json::from_str(&said)?;
    let refunded = desk.refunded(order, PATIENCE).await?;
    println!(
        "  function refund-desk asks the same model: {} · contract {} paid {} ETH back to {} by block {}",
        said["label"],
        short(&desk.contract),
        refunded.price as f64 / 1e18,
        short(&refunded.buyer),
        refunded.block,
    );

    let bundle = Bundle::parse(answer.bundle())?;
    let receipt = tacit_types::jcs::to_bytes(&said["receipt"])?;
    let cited = bundle.effects.iter().find_map(|effect| match effect {
        Effect::Inference { receipt, model } => Some((*receipt, *model)),
        _ => None,
    });
    let (cited, by) = cited.context("expected that the call's receipt cites an inference, found none")?;
    println!("  its receipt cites the model {} and the answer's own receipt {}", short(&by), short(&cited));
    ensure!(by == model, "expected that the receipt cites the model {model}, found {by}");
    ensure!(cited == sha256(&receipt), "expected that the receipt cites the answer's, found {cited}");

    let answer = client.call(&complain(other, HARMLESS)).await?;
    ensure!(answer.outcome() == Outcome::Ok, "the function failed on the harmless message");
    let refunded = desk.is_refunded(other).await?;
    ensure!(!refunded, "expected no refund for {HARMLESS:?}, found one");
    Ok(())
}

/// One byte of the model's file is another: nobody parses it.
fn swapped(network: &Network, inputs: &Inputs) -> Result<()> {
    let data = network.new_folder("swapped")?;
    copy(&network.tool.data().join("models"), &data.join("tacit/models"))?;
    let file = largest_file(&data.join("tacit/models"))?;
    let mut weights = std::fs::read(&file)?;
    let middle = weights.len() / 2;
    weights[middle] ^= inputs.swapped_bits;
    std::fs::remove_file(&file)?;
    std::fs::write(&file, weights)?;
    let mut command = network.tool.command(&["serve", "--model", MODEL]);
    let mut node = command.env("XDG_DATA_HOME", &data).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = node.try_wait()? {
            break status;
        }
        if data.join("tacit/serve/node.json").exists() || Instant::now() > until {
            terminate(node.id())?;
            node.wait()?;
            anyhow::bail!("expected that the swapped model is refused, found that it is served");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let words = String::from_utf8_lossy(&node.wait_with_output()?.stderr).into_owned();
    let reason = words.lines().find_map(|line| line.split_once("failed: ")).map_or("", |(_, reason)| reason);
    println!("  a node whose GGUF was swapped behind its name (1 bit): does not start  {}", cut(reason));
    ensure!(
        !status.success() && reason.contains("SHA-256"),
        "expected that the swapped model is refused by its digest, found: {words}"
    );
    Ok(())
}

/// A transcript with another answer in it.
fn forged(network: &Network, inputs: &Inputs) -> Result<()> {
    let folder = network.new_folder("forged")?;
    let (honest, response) = transcript_of("complaint", &network.tool.network().join("transcripts"))?;
    let mut forged: Value = serde_json::from_slice(&honest)?;
    forged["response_b64"] = BASE64_STANDARD.encode(response.replace("complaint", inputs.forged_label)).into();
    let judge = |name: &str, bytes: &[u8]| -> Result<(i32, Value)> {
        let file = folder.join(name);
        std::fs::write(&file, bytes)?;
        let policy = network.tool.network().join("models/policy.json").display().to_string();
        let output = network.tool.output(&["verify", &file.display().to_string(), "--policy", &policy, "--json"])?;
        let status = output.status.code().context("tacit verify was ended by a signal")?;
        Ok((status, serde_json::from_slice(&output.stdout)?))
    };
    let (honest, _) = judge("honest.json", &honest)?;
    let (status, report) = judge("forged.json", &tacit_types::jcs::to_bytes(&forged)?)?;
    let steps = report["steps"].as_array().into_iter().flatten();
    let refused: Vec<&str> = steps.filter(|step| step["ok"] != true).filter_map(|step| step["step"].as_str()).collect();
    println!(
        "  its transcript verifies (exit {honest}); with the answer {:?} instead: exit {status} at {}",
        inputs.forged_label,
        refused.join(", ")
    );
    ensure!(honest == 0, "expected that the transcript holds under the network's policy, found exit {honest}");
    ensure!(status == 3, "expected that the forged answer is refused (exit 3), found exit {status}");
    Ok(())
}

/// `tacit proxy`, ended when it is dropped.
struct Proxy {
    process: Child,
    url: String,
}

impl Proxy {
    fn start(tool: &Tool) -> Result<Self> {
        let mut command = tool.command(&["proxy", "--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut url = String::new();
        BufReader::new(process.stdout.take().context("the proxy has no output")?).read_line(&mut url)?;
        let proxy = Self { process, url: url.trim().to_owned() };
        ensure!(proxy.url.starts_with("http://"), "tacit proxy does not say where it listens");
        Ok(proxy)
    }

    /// The label that the official client gets for a message.
    fn classify(&self, inputs: &Inputs, message: &str) -> Result<String> {
        let mut client = Command::new("node")
            .arg(inputs.project.join("examples/refund-desk/classify.mjs"))
            .current_dir(inputs.project.join("sdk/ts"))
            .env("OPENAI_BASE_URL", &self.url)
            .env("OPENAI_API_KEY", "the proxy has the key")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start node")?;
        client.stdin.take().context("node has no input")?.write_all(message.as_bytes())?;
        let Output { status, stdout, stderr } = client.wait_with_output()?;
        ensure!(status.success(), "the official client failed: {}", String::from_utf8_lossy(&stderr).trim());
        let answer: Value = serde_json::from_slice(&stdout)?;
        Ok(answer["label"].as_str().context("the client printed no label")?.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = terminate(self.process.id());
        let _ = self.process.wait();
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn largest_file(folder: &Path) -> Result<PathBuf> {
    let size = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    files(folder)?.into_iter().max_by_key(size).context("the store is empty")
}

/// The transcript of an answer that holds a word, and that answer.
fn transcript_of(word: &str, folder: &Path) -> Result<(Vec<u8>, String)> {
    for path in files(folder)?.into_iter().filter(|path| path.to_string_lossy().ends_with(".transcript.json")) {
        let bytes = std::fs::read(&path)?;
        let transcript: Value = serde_json::from_slice(&bytes)?;
        let response = transcript["response_b64"].as_str().context("the transcript has no response")?;
        let response = String::from_utf8(BASE64_STANDARD.decode(response)?)?;
        if response.contains(word) {
            return Ok((bytes, response));
        }
    }
    anyhow::bail!("expected a transcript of an answer with {word:?}, found none")
}
