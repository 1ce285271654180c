//! Benchmarks leave nothing behind.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    ai::fetched,
    tool::{Tool, eventually},
};

#[test]
fn an_unknown_benchmark_is_refused_with_the_names_of_those_there_are() {
    let run = Tool::new().run(&["bench", "everything"]).exits(2);
    assert_eq!(run.out, "");
    for name in ["runtime", "attest", "call", "density", "gatekeepers", "chain", "inference"] {
        assert!(run.err.contains(name), "{name}: {}", run.err);
    }
}

/// The model that is measured.
const MODEL: &str = "smollm2-135m-instruct-q4_1.gguf";

/// Processes whose command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let command_lines = command_lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    command_lines.filter(|line| line.contains(folder)).collect()
}

#[test]
fn an_interrupted_benchmark_leaves_no_process_and_no_file() {
    // The cluster is founded: everything runs by now or is about to.
    interrupt("gatekeepers", "cluster ");
}

#[test]
fn a_model_that_is_measured_ends_with_its_benchmark() {
    if fetched(MODEL).is_some() {
        // The simulated machine runs, and the model's process is about to.
        interrupt("inference", "loading ");
    }
}

#[test]
fn without_its_model_the_benchmark_says_how_to_fetch_it() {
    let tool = Tool::new();
    let run = tool.run_with(&["bench", "inference"], |command| {
        command.env("XDG_CACHE_HOME", tool.path());
    });
    let run = run.exits(1);
    assert!(run.out.is_empty() && run.err.contains(MODEL) && run.err.contains("cargo xtask models"), "{}", run.err);
}

/// Interrupts a benchmark once a line on standard error begins so, and looks for what it left.
fn interrupt(benchmark: &str, mark: &str) {
    let tool = Tool::new();
    let temporary = tool.path().join("t");
    std::fs::create_dir(&temporary).unwrap();
    let mut child = tool.start(&["bench", benchmark, "--json"], |command| {
        command.env("TMPDIR", &temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with(mark)), "{benchmark} does not start");
    eventually("a process", || (!processes_of(&temporary).is_empty()).then_some(()));
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = child.wait().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // Processes that were killed may still be on their way out.
    let until = Instant::now() + Duration::from_secs(60);
    while !processes_of(&temporary).is_empty() {
        assert!(Instant::now() < until, "{:?}", processes_of(&temporary));
        std::thread::sleep(Duration::from_millis(50));
    }
}
