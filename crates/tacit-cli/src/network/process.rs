//! Child processes of a local network: started, watched, restarted, stopped.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, sync::watch, task::JoinHandle};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that lived this long is restarted at once when it ends.
const STEADY: Duration = Duration::from_secs(10);
/// How long a process has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How one process is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// Name in status and log file, such as `worker-1`.
    pub name: String,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Keeps programs running until it is told to stop.
pub struct Supervisor {
    logs: PathBuf,
    pids: Arc<Mutex<BTreeMap<String, u32>>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Supervisor {
    /// A supervisor that writes each program's output to `logs/<name>.log`.
    pub fn new(logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs).with_context(|| format!("could not make the folder {}", logs.display()))?;
        let (stop, _) = watch::channel(false);
        Ok(Self { logs: logs.to_owned(), pids: Arc::default(), stop, tasks: Vec::new() })
    }

    /// Starts a program; from now on it is restarted whenever it ends.
    pub fn start(&mut self, program: Program) -> Result<()> {
        let log = self.logs.join(format!("{}.log", program.name));
        let (pids, mut stop) = (self.pids.clone(), self.stop.subscribe());
        let mut child = spawn(&program, &log)?;
        record(&pids, &program.name, child.id());
        self.tasks.push(tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                tokio::select! {
                    () = stopped(&mut stop) => {
                        terminate(&mut child).await;
                        record(&pids, &program.name, None);
                        return;
                    }
                    status = child.wait() => {
                        record(&pids, &program.name, None);
                        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                        tracing::warn!(process = %program.name, %status, log = %log.display(), "ended; starting it again");
                    }
                }
                pause = if started.elapsed() > STEADY { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                loop {
                    tokio::select! {
                        () = stopped(&mut stop) => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    match spawn(&program, &log) {
                        Ok(started) => {
                            child = started;
                            break;
                        }
                        Err(error) => tracing::error!(process = %program.name, error = format!("{error:#}"), "not started"),
                    }
                }
                record(&pids, &program.name, child.id());
            }
        }));
        Ok(())
    }

    /// The processes that run now, by name.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops every process: SIGTERM, and SIGKILL for those that do not end in time.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has nothing left to stop: its child was killed when it was dropped.
            let _ = task.await;
        }
    }
}

/// Waits until the supervisor is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the supervisor is gone, and then there is nobody to run for.
    drop(stop.wait_for(|stopping| *stopping).await);
}

fn record(pids: &Mutex<BTreeMap<String, u32>>, name: &str, pid: Option<u32>) {
    let mut pids = pids.lock().unwrap_or_else(PoisonError::into_inner);
    match pid {
        Some(pid) => pids.insert(name.to_owned(), pid),
        None => pids.remove(name),
    };
}

fn spawn(program: &Program, log: &Path) -> Result<tokio::process::Child> {
    let output = OpenOptions::new().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
    Command::new(&program.executable)
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("could not start {}", program.executable.display()))
}

async fn terminate(child: &mut tokio::process::Child) {
    if let Some(pid) = child.id() {
        signal(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // Nothing else can be done if the kernel refuses to end our own child.
        let _ = child.kill().await;
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The process may have ended in between, which is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// Whether the process with this id was started for the network in `folder`: its command line names the folder.
pub fn belongs_to(pid: u32, folder: &Path) -> bool {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let folder = folder.as_os_str().as_encoded_bytes();
    !folder.is_empty() && command_line.windows(folder.len()).any(|window| window == folder)
}

/// Ends a process that an earlier supervisor left behind; returns when it is gone.
pub async fn end_leftover(pid: u32) {
    signal(pid, Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Path::new(&format!("/proc/{pid}")).exists() {
        if Instant::now() > deadline {
            signal(pid, Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if Instant::now() > deadline + GRACE {
            return;
        }
    }
}

/// Asks a supervisor to stop its network.
pub fn ask_to_stop(pid: u32) {
    signal(pid, Signal::TERM);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(name: &str) -> Program {
        Program { name: name.into(), executable: "/bin/sleep".into(), arguments: vec!["60".into()] }
    }

    async fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not become true in 10 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_killed_process_is_started_again_and_stop_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::new(folder.path()).unwrap();
        supervisor.start(sleeper("one")).unwrap();
        let first = supervisor.pids()["one"];
        signal(first, Signal::KILL);
        until(|| supervisor.pids().get("one").is_some_and(|pid| *pid != first)).await;
        let second = supervisor.pids()["one"];
        supervisor.stop().await;
        until(|| !Path::new(&format!("/proc/{second}")).exists()).await;
    }

    #[tokio::test]
    async fn a_missing_executable_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::new(folder.path()).unwrap();
        let missing = Program { executable: "/does/not/exist".into(), ..sleeper("x") };
        let error = format!("{:#}", supervisor.start(missing).unwrap_err());
        assert!(error.contains("/does/not/exist"), "{error}");
    }

    #[test]
    fn only_processes_of_the_folder_are_recognised() {
        assert!(!belongs_to(std::process::id(), Path::new("/no/such/network/folder")));
        assert!(!belongs_to(u32::MAX, Path::new("/")));
    }
}
