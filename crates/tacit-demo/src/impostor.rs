//! Step 2, second half: a worker whose binary differs in one byte asks for admission, and every gatekeeper refuses it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{network::Network, screen::short};

/// A text that the compiler leaves in every binary and that no code reads.
const UNREAD: &[u8] = b"rustc version ";
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process that ends with this.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the altered worker on a simulated machine of its own and shows what the gatekeepers said.
pub fn run(network: &Network) -> Result<()> {
    let folder = network.folder().join("worker-x");
    std::fs::create_dir_all(folder.join("chip"))?;
    let own = network.tool.network();
    let binary = folder.join("tacit");
    alter(&own.join("bin/tacit"), &binary)?;
    let measurement =
        Command::new(own.join("bin/tacit-simulator")).args(["measure", "--executable"]).arg(&binary).output()?;
    let measurement = String::from_utf8(measurement.stdout)?.trim().to_owned();

    let socket = folder.join("chip.sock");
    let chip = Command::new(own.join("bin/tacit-simulator"))
        .args(["--name", "worker-x", "--dir"])
        .arg(folder.join("chip"))
        .arg("--root")
        .arg(own.join("simulated-vendor"))
        .arg("--socket")
        .arg(&socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _chip = Owned(chip.context("the simulated chip of worker-x did not start")?);
    let until = Instant::now() + PATIENCE;
    while !socket.exists() {
        ensure!(Instant::now() < until, "the simulated chip of worker-x has no socket");
        std::thread::sleep(Duration::from_millis(10));
    }

    let config = configure(&own.join("worker-1/config.toml"), &folder, &socket)?;
    let mut command = Command::new(&binary);
    command.args(["worker", "run", "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut worker = Owned(command.spawn().context("the altered binary did not start")?);
    let words = refusal(&mut worker.0)?;

    let gatekeepers = network.deployment()?.genesis.gatekeepers.len();
    let refusals = (0..gatekeepers).filter(|index| words.contains(&format!("gatekeeper {index}: "))).count();
    let reason = words.split("gatekeeper 0: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or(&words);
    println!("  worker-x  the same binary with 1 byte changed: {}", short(&measurement));
    println!("            REFUSED {refusals}/{gatekeepers}  {}", reason.trim());
    ensure!(refusals == gatekeepers, "expected that all {gatekeepers} gatekeepers refuse worker-x: {words}");
    ensure!(words.contains("measurement"), "expected a refusal for the measurement: {words}");
    Ok(())
}

/// Copies a binary and flips one bit of one byte that no code reads.
fn alter(from: &Path, to: &Path) -> Result<()> {
    let mut bytes = std::fs::read(from)?;
    let place = bytes.windows(UNREAD.len()).position(|window| window == UNREAD);
    let place = place.context("the binary does not name its compiler")? + UNREAD.len();
    bytes[place] ^= 1;
    std::fs::write(to, bytes)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    Ok(())
}

/// The configuration of worker-1 with another machine, folder and port.
fn configure(from: &Path, folder: &Path, socket: &Path) -> Result<std::path::PathBuf> {
    let mut config: toml::Table = std::fs::read_to_string(from)?.parse()?;
    let text = |path: &Path| toml::Value::from(path.display().to_string());
    config.insert("listen".into(), "127.0.0.1:0".into());
    config.remove("endpoint");
    config.insert("folder".into(), text(&folder.join("data")));
    let machine = config.get_mut("machine").and_then(toml::Value::as_table_mut).context("worker-1 has no machine")?;
    machine.insert("socket".into(), text(socket));
    let path = folder.join("config.toml");
    std::fs::write(&path, toml::to_string(&config)?)?;
    Ok(path)
}

/// The line in which the worker says that it was not admitted.
fn refusal(worker: &mut Child) -> Result<String> {
    let output = worker.stderr.take().context("the worker has no output")?;
    let (lines, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut seen = BufReader::new(output).lines().map_while(Result::ok);
        seen.try_for_each(|line| lines.send(line)).ok();
    });
    let until = Instant::now() + PATIENCE;
    let mut all = String::new();
    while let Ok(line) = received.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if line.contains("gatekeeper 0: ") {
            return Ok(line);
        }
        all.push_str(&line);
        all.push('\n');
    }
    bail!("worker-x did not say that it was refused:\n{all}")
}
