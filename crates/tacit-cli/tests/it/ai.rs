//! Commands that ask models.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::tool::{Tool, eventually};

#[test]
fn without_a_node_commands_say_how_to_get_one() {
    let tool = Tool::new();
    for arguments in [&["chat", "hello"][..], &["proxy"]] {
        let run = tool.run(arguments);
        assert_eq!(run.status, 1, "{}", run.err);
        assert!(run.out.is_empty());
        assert!(
            run.err.contains("error: no node runs in") && run.err.contains("hint: start one with `tacit serve`"),
            "{}",
            run.err
        );
    }
    for arguments in [
        &["chat", "hello", "--node", "http://127.0.0.1:1"][..],
        &["chat", "hello", "--node", "https://127.0.0.1:1"],
        &["chat", "--json"],
        &["chat", "hello", "--temperature", "3"],
        &["chat", "hello", "--model-digest", "sha256:00"],
        &["proxy", "--keep", "nothing"],
        &["audit", "export", "--from", "2026-11-01T00:00:00Z", "--to", "yesterday"],
        &["audit", "export", "--from", "2", "--to", "1"],
    ] {
        let run = tool.run(arguments);
        assert_eq!(run.status, 2, "{arguments:?}: {}", run.err);
    }
}

#[test]
fn an_unreachable_node_is_no_verdict() {
    let tool = Tool::new();
    let key = tool.path().join("key");
    std::fs::write(&key, "sk-1").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = tool.run(&["chat", "hello", "--node", "https://127.0.0.1:1", "--api-key", key.to_str().unwrap()]);
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(run.err.contains("could not reach 127.0.0.1"), "{}", run.err);
}

#[test]
fn an_audit_of_nothing_has_no_exceptions() {
    let tool = Tool::new();
    let run = tool.run(&["audit", "export", "--from", "0", "--to", "2000000000", "--out", "report.json"]);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert!(
        run.out.contains("policy standard") && run.out.contains("0 exceptions; this report is not signed"),
        "{}",
        run.out
    );
    let written = std::fs::read(tool.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!((&report["format"], &report["signed"]), (&"tacit/ai-audit/1".into(), &false.into()));
    let day = tool.path().join("store/2026-01-01");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("1767225600-00000000-rcpt_x.transcript.json"), "{}").unwrap();
    let run = tool.run(&["audit", "export", "--from", "0", "--to", "2000000000", "--store", "store", "--json"]);
    assert_eq!(run.status, 3, "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["exceptions"].as_array().unwrap().len(), 1);
}

/// A process that is ended when the guard is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        for _ in 0..200 {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The small model that `cargo xtask models` fetches; `None` where it is not there, which is a failure in CI alone.
fn weights() -> Option<String> {
    fetched("smollm2-135m-instruct-q4_1.gguf")
}

/// A file that `cargo xtask models` fetches; `None` as for [`weights`].
pub fn fetched(file: &str) -> Option<String> {
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let path = cache.join("tacit/models").join(file);
    if path.is_file() {
        return Some(path.display().to_string());
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing; run cargo xtask models", path.display());
    println!("not tested: {} is not there; cargo xtask models fetches it", path.display());
    None
}

fn get(address: &str, path: &str) -> Value {
    let mut connection = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// A proxy, and where it listens.
fn proxy(tool: &Tool) -> (Running, String) {
    let mut proxy = Running(tool.start(&["proxy", "--listen", "127.0.0.1:0"], |command| {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
    }));
    let mut line = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/v1")).unwrap().to_owned();
    (proxy, address)
}

#[test]
fn the_official_clients_work_unchanged_through_the_proxy() {
    let (Some(weights), Some(encoder)) = (weights(), fetched("all-minilm-l6-v2/model.safetensors")) else { return };
    let tool = Tool::new();
    for (file, name) in [(weights, "smollm2"), (encoder, "minilm")] {
        let added = tool.run(&["model", "add", &file, "--name", name, "--licence", "Apache-2.0"]);
        assert_eq!(added.status, 0, "{}", added.err);
    }
    let serving = Running(tool.start(&["serve"], |command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }));
    let node = tool.path().join("data/tacit/serve/node.json");
    eventually("the node", || node.is_file().then_some(()));
    let (proxy, address) = proxy(&tool);
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let clients = project.join("examples/openai-clients");
    for (program, script, checks) in [("python3", "check.py", 22), ("node", "check.mjs", 9)] {
        let run = std::process::Command::new(program)
            .arg(clients.join(script))
            .args(["smollm2", "minilm"])
            .current_dir(project.join("sdk/ts"))
            .env("OPENAI_BASE_URL", format!("http://{address}/v1"))
            .env("OPENAI_API_KEY", "sk-any: the proxy has the node's key")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{script}: {out}{err}");
        assert!(out.lines().count() >= checks && out.lines().all(|line| line.ends_with(": holds")), "{script}: {out}");
    }
    drop((proxy, serving));
}

#[test]
fn a_small_model_answers_and_what_it_says_is_proven() {
    let Some(weights) = weights() else { return };
    let tool = Tool::new();
    let added = tool.run(&["model", "add", &weights, "--name", "smollm2", "--licence", "Apache-2.0"]);
    assert_eq!(added.status, 0, "{}", added.err);
    let serving = Running(tool.start(&["serve"], |command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }));
    let folder = tool.path().join("data/tacit/serve");
    eventually("the node", || folder.join("node.json").is_file().then_some(()));

    let ask = ["chat", "Say hello.", "--max-tokens", "12", "--temperature", "0", "--seed", "1"];
    let run = tool.run(&[&ask[..], &["--json", "--save", "t.json"]].concat());
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.err.contains("SIMULATED node https://127.0.0.1:"), "{}", run.err);
    assert!(run.err.contains("proof: SIMULATED · model smollm2 sha256:"), "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert!(!report["answer"].as_str().unwrap().is_empty());
    assert!(report["completionTokens"].as_u64().unwrap() <= 12);
    let again = tool.run(&ask);
    assert_eq!(again.out.trim_end(), report["answer"].as_str().unwrap().trim_end(), "the same seed, another answer");

    // Whoever has the transcript and the policy judges it without the node.
    let policy = folder.join("policy.json");
    let verify = |policy: &str| tool.run(&["verify", "t.json", "--policy", policy]);
    assert_eq!(verify(policy.to_str().unwrap()).status, 0);
    assert_eq!(verify("standard").status, 3);

    // A root that the policy does not name, other code, another model.
    let refused = |more: &[&str]| {
        let run = tool.run(&[&ask[..], more].concat());
        assert!(run.out.is_empty(), "{}", run.out);
        run.status
    };
    assert_eq!(refused(&["--policy", "standard"]), 4);
    let mut other: Value = serde_json::from_slice(&std::fs::read(&policy).unwrap()).unwrap();
    other["measurements"]["worker"] = serde_json::json!([format!("0x{}", "07".repeat(32))]);
    std::fs::write(tool.path().join("other.json"), other.to_string()).unwrap();
    assert_eq!(refused(&["--policy", "other.json"]), 3);
    assert_eq!(refused(&["--model-digest", &format!("sha256:{}", "00".repeat(32))]), 3);

    let typed = tool.run_with_input(&["chat", "--max-tokens", "4"], b"hello\n\nand now?\n/quit\nnot this\n");
    assert_eq!((typed.status, typed.err.matches("proof: ").count()), (0, 2), "{}", typed.err);

    let (proxy, address) = proxy(&tool);
    assert_eq!(get(&address, "/tacit/status")["verified"]["verdict"], "simulated");
    assert_eq!(get(&address, "/v1/models")["data"][0]["id"], "smollm2");
    drop(proxy);

    let audit = ["audit", "export", "--from", "0", "--to", "4000000000"];
    let run = tool.run(&[&audit[..], &["--json"]].concat());
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&report["models"][0]["requests"], &report["logs"][0]["others"]), (&4.into(), &0.into()), "{report}");
    drop(serving);
    // The node is gone: transcripts hold, and its log cannot be asked for.
    assert_eq!(tool.run(&audit).status, 5);
}

#[test]
fn a_network_offers_models_through_its_gateways() {
    let Some(weights) = weights() else { return };
    let mut tool = Tool::new();
    let added = tool.run(&["model", "add", &weights, "--name", "smollm2", "--licence", "Apache-2.0"]);
    assert_eq!(added.status, 0, "{}", added.err);
    let small = ["--workers", "1", "--gatekeepers", "1", "--threshold", "1", "--model", "smollm2"];
    let _network = tool.start_network_with(&small);
    let folder = tool.path().join("network/models");
    // No node of `tacit serve` runs, so that of the network is meant.
    let ask = |more: &[&str]| tool.run(&[&["chat", "Say hello.", "--max-tokens", "4", "--json"], more].concat());
    let run = ask(&[]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.err.contains("SIMULATED node http://127.0.0.1:") && run.err.contains("/ai:"), "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&report["verdict"], &report["model"]), (&"simulated".into(), &"smollm2".into()), "{report}");
    assert_eq!(ask(&["--policy", "standard"]).status, 4);

    // The worker ends TLS for whoever reaches it directly, and its receipts are found in the same log.
    let plan: Value =
        serde_json::from_slice(&std::fs::read(tool.path().join("network/network.json")).unwrap()).unwrap();
    let direct = format!("https://127.0.0.1:{}", plan["ports"]["worker-1-models"]);
    let (policy, key) = (folder.join("policy.json"), folder.join("api.key"));
    let to = ["--node", &direct, "--policy", policy.to_str().unwrap(), "--api-key", key.to_str().unwrap()];
    let run = ask(&to);
    assert_eq!(run.status, 0, "{}", run.err);
    let again: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(again["logIndex"].as_u64(), report["logIndex"].as_u64().map(|index| index + 1), "{report} {again}");
}
