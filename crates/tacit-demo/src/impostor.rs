//! Step 2, second half: a worker whose binary differs in one byte asks for admission, and every gatekeeper refuses it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tacit_types::eip712::Platform;

use crate::{
    inputs::Inputs,
    network::Network,
    screen::{cut, short},
    stranger::{ADMITTED, Owned, Stranger},
};

/// A text that the compiler leaves in every binary and that no code reads.
const UNREAD: &[u8] = b"rustc version ";
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the altered worker on a simulated machine of its own and shows what the gatekeepers said.
pub fn run(network: &Network, inputs: &Inputs) -> Result<()> {
    let folder = network.new_folder("worker-x")?;
    std::fs::create_dir_all(folder.join("chip"))?;
    let binary = folder.join("tacit");
    alter(&network.binary("tacit"), &binary, inputs.impostor_bits)?;
    let measurement = network.measure(&binary, Platform::Tdx)?;

    let socket = folder.join("chip.sock");
    let mut chip = Command::new(network.binary("tacit-simulator"));
    chip.args(["--name", "worker-x", "--dir"]).arg(folder.join("chip")).arg("--root");
    chip.arg(network.tool.network().join("simulated-vendor")).arg("--socket").arg(&socket);
    let _chip = Owned::start(chip.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let until = Instant::now() + PATIENCE;
    while !socket.exists() {
        ensure!(Instant::now() < until, "the simulated chip of worker-x has no socket");
        std::thread::sleep(Duration::from_millis(10));
    }

    let mut config = network.worker_config("worker-1")?;
    let text = |path: &Path| toml::Value::from(path.display().to_string());
    config.insert("folder".into(), text(&folder.join("data")));
    let machine = config.get_mut("machine").and_then(toml::Value::as_table_mut).context("worker-1 has no machine")?;
    machine.insert("socket".into(), text(&socket));
    let mut worker = Stranger::start(&binary, config, &folder)?;
    let words = worker.says(&["gatekeeper 0: ", ADMITTED])?;

    let gatekeepers = network.deployment()?.genesis.gatekeepers.len();
    let refusals = (0..gatekeepers).filter(|index| words.contains(&format!("gatekeeper {index}: "))).count();
    let reason = words.split("gatekeeper 0: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or(&words);
    println!(
        "  worker-x  measured {} = the same binary, 1 byte changed           REFUSED by {refusals} of {gatekeepers}",
        short(&measurement)
    );
    println!("            {}", cut(&abbreviated(reason.trim())));
    ensure!(
        refusals == gatekeepers,
        "expected that {gatekeepers} of {gatekeepers} gatekeepers refuse worker-x, found {refusals}: {words}"
    );
    ensure!(words.contains("measurement"), "expected a refusal for the measurement, found: {words}");
    Ok(())
}

/// The words with every long identifier shortened.
fn abbreviated(words: &str) -> String {
    let short_one = |word: &str| if word.starts_with("0x") { short(&word) } else { word.to_owned() };
    words.split(' ').map(short_one).collect::<Vec<_>>().join(" ")
}

/// Copies a binary and changes these bits of one byte that no code reads.
pub fn alter(from: &Path, to: &Path, bits: u8) -> Result<()> {
    let mut bytes = std::fs::read(from)?;
    let place = bytes.windows(UNREAD.len()).position(|window| window == UNREAD);
    let place = place.context("the binary does not name its compiler")? + UNREAD.len();
    bytes[place] ^= bits;
    std::fs::write(to, bytes)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    Ok(())
}
