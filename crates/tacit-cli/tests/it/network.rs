//! The main job on a real local network.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    meddler::{Meddler, Meddling},
    tool::{Run, Tool, eventually},
};

const FAILING: &str = "import { state } from \"tacit\";
import { check } from './check';

export async function set({ value }: { value: number }) {
  await state.set('value', value);
  check(value);
  return { value };
}

export async function get() {
  return { value: await state.get('value') ?? null };
}

export async function forever() {
  while (true) {}
}
";
const CHECK: &str = "export function check(value: number): void {
  if (value < 0) {

    throw new RangeError(`negative: ${value}`);
  }
}
";
const MANIFEST: &str = "[function]
name = \"strict\"
[[method]]
name = \"get\"
kind = \"query\"
[limits]
fuel = \"50M\"
timeout = \"60s\"
[secrets]
names = [\"API_KEY\"]
[trust]
policy = \"dev\"
";

fn write_strict(folder: &Path) {
    std::fs::create_dir_all(folder.join("strict/src")).unwrap();
    std::fs::write(folder.join("strict/tacit.toml"), MANIFEST).unwrap();
    std::fs::write(folder.join("strict/src/index.ts"), FAILING).unwrap();
    std::fs::write(folder.join("strict/src/check.ts"), CHECK).unwrap();
}

fn gateways(tool: &Tool) -> Vec<String> {
    let status = tool.run(&["status", "--json"]).exits(0).json();
    status["gateways"].as_array().unwrap().iter().map(|gateway| gateway["url"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn deploy_call_verify_and_every_way_to_be_refused() {
    let mut tool = Tool::new();
    let network = tool.start_network();

    let status = tool.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["gatekeepers"].as_array().unwrap().len(), 4);
    // Status and doctor wait two seconds for each node, which a busy machine may need for longer.
    eventually("all workers are seen to be ready", || {
        let status = tool.run(&["status", "--json"]).exits(0).json();
        let ready = |worker: &Value| worker["state"] == "ready" && worker["measurement"].is_string();
        status["workers"].as_array().unwrap().iter().all(ready).then_some(())
    });
    eventually("the doctor finds nothing wrong with the network", || {
        let run = tool.run(&["doctor"]);
        // How much memory the machine has left is not the network's doing.
        let problem = |line: &str| line.starts_with("PROBLEM") && !line.contains("memory");
        let good = !run.out.is_empty() && !run.out.lines().any(problem);
        good.then_some(())
    });

    tool.run(&["new", "hello"]).exits(0);
    let deployed = tool.run(&["deploy", "hello", "--json"]).exits(0);
    assert!(deployed.err.contains("could talk to: nobody"), "{}", deployed.err);
    let first = deployed.json();
    assert_eq!((&first["name"], &first["version"]), (&json!("hello"), &json!(1)));
    assert_eq!(
        tool.run(&["deploy", "hello", "--json"]).exits(0).json()["version"],
        1,
        "the same code is no new version"
    );

    let answered =
        tool.run(&["call", "hello", "greet", "{\"name\":\"Ada\"}", "--receipt", "r.json", "--json"]).exits(0).json();
    assert_eq!(answered["outcome"], "ok");
    assert_eq!(answered["response"]["greeting"], "Hello, Ada!");
    let again = tool.run_with_input(&["call", "hello", "greet", "-"], b"{\"name\":\"Bob\"}").exits(0);
    assert_eq!(serde_json::from_str::<Value>(&again.out).unwrap()["count"], 2);
    assert!(again.err.contains("SIMULATED"), "{}", again.err);
    let id = first["function"].as_str().unwrap();
    assert_eq!(tool.run(&["call", id, "count"]).exits(0).out, "{\"count\":2}\n");

    verdicts(&tool, &network.folder);
    idempotency(&tool);
    liars(&tool);
    policies(&tool);
    failures(&tool);
    owner(&tool);

    drop(network);
    let stopped = tool.run(&["call", "hello", "count", "--deadline", "2"]).exits(1);
    assert!(stopped.err.contains("hint:"), "{}", stopped.err);
}

fn verdicts(tool: &Tool, network: &Path) {
    tool.run(&["verify", "r.json", "--policy", "dev"]).exits(0);
    let strict = tool.run(&["verify", "r.json", "--json"]).exits(4).json();
    assert_eq!(strict["verdict"], "simulated");
    assert_eq!(strict["couldTalkTo"], "nobody");
    assert!(strict["steps"].as_array().unwrap().iter().all(|step| step["ok"] == true), "{strict}");
    let deployment = network.join("deployment.json");
    tool.run(&["verify", "r.json", "--deployment", deployment.to_str().unwrap(), "--policy", "dev"]).exits(0);
    let foreign = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/golden.deployment.json");
    tool.run(&["verify", "r.json", "--deployment", foreign, "--policy", "dev"]).exits(3);
    let text = std::fs::read_to_string(tool.path().join("r.json")).unwrap();
    assert!(text.contains("\"outcome\":\"ok\""));
    std::fs::write(tool.path().join("forged.json"), text.replace("\"outcome\":\"ok\"", "\"outcome\":\"thrown\""))
        .unwrap();
    let forged = tool.run(&["verify", "forged.json", "--policy", "dev"]).exits(3);
    assert!(forged.out.lines().last().unwrap().starts_with("REFUSED: receipt: "), "{}", forged.out);
}

fn idempotency(tool: &Tool) {
    let call = || {
        tool.run(&["call", "hello", "greet", "{\"name\":\"Eve\"}", "--idempotency-key", "once", "--json"])
            .exits(0)
            .json()
    };
    let (first, second) = (call(), call());
    assert_eq!(first["callId"], second["callId"]);
    assert_eq!(first["response"], second["response"]);
    assert_eq!(tool.run(&["call", "hello", "count"]).exits(0).out, "{\"count\":3}\n");
    let other = tool.run(&["call", "hello", "greet", "{\"name\":\"Eva\"}", "--idempotency-key", "once"]).exits(1);
    assert!(other.err.contains("idempotency key"), "{}", other.err);
}

fn liars(tool: &Tool) {
    let gateways = gateways(tool);
    let call = |through: &[&str], deadline: &str| -> Run {
        let mut arguments = vec!["call", "hello", "count", "--deadline", deadline];
        for url in through {
            arguments.extend(["--gateway", url]);
        }
        tool.run(&arguments)
    };
    // A refused call ends at its deadline with what was heard last; on a busy machine that may be nothing yet.
    let refused = |url: &str, status: i32, why: &str| {
        eventually(why, || {
            let run = call(&[url], "3");
            assert_ne!(run.status, 0, "a liar's word is never taken: {}", run.out);
            (run.status == status && run.err.contains(why)).then_some(())
        });
    };
    for meddling in [Meddling::Flips, Meddling::Cuts] {
        let meddler = Meddler::start(&gateways[0], meddling);
        refused(&meddler.url, 3, "altered or cut off");
        assert!(meddler.count() >= 1);
        let met = meddler.count();
        // With an honest gateway beside it the call is answered.
        call(&[&meddler.url, &gateways[1]], "60").exits(0);
        assert!(meddler.count() > met);
    }
    let meddler = Meddler::start(&gateways[0], Meddling::Refuses);
    refused(&meddler.url, 1, "the outcome of the call is unknown");
    call(&[&meddler.url, &gateways[1]], "60").exits(0);
    // Straight to a worker, without any gateway.
    let status = tool.run(&["status", "--json"]).exits(0).json();
    let workers: Vec<&str> =
        status["workers"].as_array().unwrap().iter().map(|worker| worker["url"].as_str().unwrap()).collect();
    tool.run(&["call", "hello", "count", "--worker", workers[0], "--worker", workers[1]]).exits(0);
}

fn policies(tool: &Tool) {
    let strict = tool.run(&["call", "hello", "count", "--policy", "standard"]).exits(4);
    assert!(strict.err.contains("--policy dev"), "{}", strict.err);
    assert_eq!(strict.out, "");
    let hash = format!("0x{}", "ab".repeat(32));
    let pinned = tool.run(&["call", "hello", "count", "--code", &hash]).exits(3);
    assert!(pinned.err.contains("another version"), "{}", pinned.err);
}

fn failures(tool: &Tool) {
    write_strict(tool.path());
    tool.run(&["deploy", "strict"]).exits(0);
    tool.run(&["call", "strict", "set", "{\"value\":5}"]).exits(0);
    let thrown = tool.run(&["call", "strict", "set", "{\"value\":-1}"]).exits(1);
    assert!(thrown.err.contains("RangeError: negative: -1"), "{}", thrown.err);
    assert!(thrown.err.contains("src/check.ts:4"), "{}", thrown.err);
    assert!(thrown.err.contains("src/index.ts:6"), "{}", thrown.err);
    // What a failed command wrote is gone.
    assert_eq!(tool.run(&["call", "strict", "get"]).exits(0).out, "{\"value\":5}\n");
    let limit = tool.run(&["call", "strict", "forever", "--json"]).exits(1).json();
    assert_eq!((&limit["outcome"], &limit["response"]["name"]), (&json!("limit"), &json!("fuel")));
    let query = tool.run(&["call", "strict", "set", "{\"value\":7}", "--query"]).exits(1);
    assert!(query.err.contains("state-read-only"), "{}", query.err);
    let method = tool.run(&["call", "strict", "nothing"]).exits(1);
    assert!(method.err.contains("no method"), "{}", method.err);
    let unknown = tool.run(&["call", "nobody", "f"]).exits(1);
    assert!(unknown.err.contains("There is no such function") && unknown.err.contains("hint:"), "{}", unknown.err);
    tool.run(&["call", "strict", "set", "{value:1}"]).exits(2);
}

fn owner(tool: &Tool) {
    let listed = tool.run(&["function", "list", "--json"]).exits(0).json();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|function| function["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hello", "strict"]);
    let shown = tool.run(&["function", "show", "strict", "--json"]).exits(0).json();
    assert_eq!(shown["couldTalkTo"], "nobody");

    let unnamed = tool.run(&["secrets", "set", "strict", "OTHER=x"]).exits(1);
    assert!(unnamed.err.contains("names = [\"OTHER\"]"), "{}", unnamed.err);
    let set = tool.run_with_input(&["secrets", "set", "strict", "API_KEY"], b"hunter2\n").exits(0);
    assert!(!set.out.contains("hunter2") && !set.err.contains("hunter2"));

    let wrong = tool.run(&["function", "upgrade", "hello", "strict"]).exits(1);
    assert!(wrong.err.contains("strict"), "{}", wrong.err);
    std::fs::write(tool.path().join("strict/src/check.ts"), CHECK.replace("value < 0", "value < -9")).unwrap();
    assert_eq!(tool.run(&["function", "upgrade", "strict", "strict", "--json"]).exits(0).json()["version"], 2);
    tool.run(&["call", "strict", "set", "{\"value\":-1}"]).exits(0);
    tool.run(&["function", "freeze", "strict"]).exits(0);
    std::fs::write(tool.path().join("strict/src/check.ts"), CHECK).unwrap();
    let frozen = tool.run(&["deploy", "strict"]).exits(1);
    assert!(frozen.err.contains("IsFrozen"), "{}", frozen.err);
    // Nobody else can deploy over it or set its secrets.
    let stranger = format!("0x{}", "77".repeat(32));
    let foreign = tool.run_with(&["call", "hello", "count"], |command| {
        command.env("TACIT_KEY", &stranger);
    });
    assert_eq!(foreign.status, 1, "a name is the caller's own: {}", foreign.err);
}
