//! kill -9 of any process of a local network, and of all of them at once.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::tool::{Network, Tool, eventually};

/// Kills at random after each process was killed once; only in `make test-long`.
const LONG_RUN: usize = 60;

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name in parentheses. A zombie only waits to be reaped.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn status(network: &Network) -> Value {
    // It is replaced by renaming, so it is always whole.
    serde_json::from_slice(&std::fs::read(network.folder.join("status.json")).unwrap()).unwrap()
}

fn supervisor(network: &Network) -> u32 {
    u32::try_from(status(network)["supervisor"].as_u64().unwrap()).unwrap()
}

/// Every process of the network but its supervisor, by a name that stays.
fn processes(network: &Network) -> BTreeMap<String, u32> {
    let status = status(network);
    let pid = |value: &Value| value.as_u64().and_then(|pid| u32::try_from(pid).ok());
    let mut found = BTreeMap::new();
    found.extend(pid(&status["chain"]["pid"]).map(|pid| ("chain".to_owned(), pid)));
    for role in ["gatekeepers", "workers", "gateways"] {
        for node in status[role].as_array().unwrap() {
            found.extend(pid(&node["pid"]).map(|pid| (node["name"].as_str().unwrap().to_owned(), pid)));
        }
    }
    // The chips that run are listed in the order of their machines' names.
    for (index, chip) in status["chips"].as_array().unwrap().iter().enumerate() {
        found.extend(pid(chip).map(|pid| (format!("chip {index}"), pid)));
    }
    found
}

/// A function that counts its calls, and how far it must have come.
struct Counter<'a> {
    tool: &'a Tool,
    calls: u64,
}

impl Counter<'_> {
    /// One more call: it succeeds within a minute, and the state counts on from the last.
    #[track_caller]
    fn counts_on(&mut self, after: &str) {
        self.calls += 1;
        let run = self.tool.run(&["call", "hello", "greet", "{\"name\":\"Ada\"}", "--deadline", "60", "--json"]);
        assert_eq!(run.status, 0, "after {after}: {}", run.err);
        assert_eq!(run.json()["response"]["count"], self.calls, "after {after}");
    }
}

/// Kills the named processes at once, calls, and waits until each runs again and the network is whole.
#[track_caller]
fn kill_and_wait(network: &Network, counter: &mut Counter<'_>, names: &[&String]) {
    let before = processes(network);
    for name in names {
        kill(before[*name]);
    }
    let what = format!("kill -9 of {names:?}");
    counter.counts_on(&what);
    eventually(&format!("all processes run after {what}"), || {
        let now = processes(network);
        let again = names.iter().all(|name| now.get(*name).is_some_and(|pid| *pid != before[*name] && lives(*pid)));
        (again && now.len() == before.len()).then_some(())
    });
    // They answer again before the next is killed: fewer gatekeepers than a quorum answer nothing.
    eventually(&format!("all nodes are ready after {what}"), || {
        let status = counter.tool.run(&["status", "--json"]).exits(0).json();
        let mut nodes = ["gatekeepers", "workers"].into_iter().flat_map(|role| status[role].as_array().unwrap());
        nodes.all(|node| node["state"] == "ready").then_some(())
    });
}

#[test]
fn a_network_survives_kill_9_of_each_process_and_of_all_at_once() {
    let mut tool = Tool::new();
    let network = tool.start_network();
    tool.run(&["new", "hello"]).exits(0);
    tool.run(&["deploy", "hello"]).exits(0);
    let mut counter = Counter { tool: &tool, calls: 0 };
    counter.counts_on("the start");

    let names: Vec<String> = processes(&network).into_keys().collect();
    assert_eq!(names.len(), 15, "{names:?}: a chain, 4 gatekeepers, 2 workers, 2 gateways, 6 chips");
    for name in &names {
        kill_and_wait(&network, &mut counter, &[name]);
    }
    if std::env::var_os("TACIT_TEST_LONG").is_some() {
        long_run(&network, &names, &mut counter);
    }

    // Everything at once, the supervisor first, so that it starts nothing again.
    let (parent, all) = (supervisor(&network), processes(&network));
    kill(parent);
    all.values().for_each(|pid| kill(*pid));
    eventually("everything is gone", || {
        let gone = |pid: &u32| !lives(*pid);
        (gone(&parent) && all.values().all(gone)).then_some(())
    });
    tool.run(&["up", "--detach"]).exits(0);
    counter.counts_on("kill -9 of everything");

    // The supervisor alone: the next one ends what it left behind.
    let left = processes(&network);
    kill(supervisor(&network));
    tool.run(&["up", "--detach"]).exits(0);
    assert!(left.values().all(|pid| !lives(*pid)), "an earlier supervisor's processes still run");
    counter.counts_on("kill -9 of the supervisor");

    // And in good order.
    tool.run(&["down"]).exits(0);
    assert!(!network.folder.join("status.json").exists());
    tool.run(&["up", "--detach"]).exits(0);
    counter.counts_on("down and up");
}

/// Random kills of one or two processes; the seed is the same each time.
fn long_run(network: &Network, names: &[String], counter: &mut Counter<'_>) {
    let mut state = 0x7ac17_u64;
    let mut below = |bound: usize| {
        // A linear congruential generator (Knuth's constants); its upper bits are good enough to choose victims.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..LONG_RUN {
        let (first, second) = (&names[below(names.len())], &names[below(names.len())]);
        // Two gatekeepers at once are more than a quorum can miss; the call waits for them.
        let victims = if first == second { vec![first] } else { vec![first, second] };
        kill_and_wait(network, counter, &victims);
    }
}
