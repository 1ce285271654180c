//! Runs the binary.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Tries until there is something, at most for a minute.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The binary in a folder of its own, without anything of the machine's environment that it reads.
pub struct Tool {
    pub folder: tempfile::TempDir,
    network: Option<PathBuf>,
}

/// What a run ended with.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Tool {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), network: None }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tacit"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("TACIT_DIR")
            .env_remove("TACIT_KEY")
            .env_remove("RUST_LOG")
            .env("XDG_DATA_HOME", self.path().join("data"))
            .stdin(Stdio::null());
        // The search for anvil looks beside the folder it runs in, which is a temporary one here.
        let fetched = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
        );
        if std::env::var_os("TACIT_ANVIL").is_none() && Path::new(fetched).is_file() {
            command.env("TACIT_ANVIL", fetched);
        }
        if let Some(network) = &self.network {
            command.env("TACIT_DIR", network);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Self::finish(self.command(arguments))
    }

    pub fn run_with(&self, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.command(arguments);
        change(&mut command);
        Self::finish(command)
    }

    /// Starts a run without waiting for it.
    pub fn start(&self, arguments: &[&str], change: impl FnOnce(&mut Command)) -> std::process::Child {
        let mut command = self.command(arguments);
        change(&mut command);
        command.spawn().unwrap()
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        use std::io::Write as _;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Run::of(&child.wait_with_output().unwrap())
    }

    fn finish(mut command: Command) -> Run {
        Run::of(&command.output().unwrap())
    }

    /// Starts a network that is stopped when the guard is dropped.
    pub fn start_network(&mut self) -> Network {
        self.start_network_with(&[])
    }

    /// The same with further arguments of `tacit up`.
    pub fn start_network_with(&mut self, arguments: &[&str]) -> Network {
        let folder = self.path().join("network");
        self.network = Some(folder.clone());
        let run = self.run(&[&["up", "--detach"], arguments].concat());
        assert_eq!(run.status, 0, "{}", run.err);
        Network { folder }
    }
}

impl Run {
    fn of(output: &std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks the exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The answer as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// A network that runs.
pub struct Network {
    pub folder: PathBuf,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_tacit")).arg("down").env("TACIT_DIR", &self.folder).output();
    }
}
