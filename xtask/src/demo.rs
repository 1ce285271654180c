//! `make demo`: builds, with the verifier first, and runs the demo.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{evidence, models, steps};

/// Runs the demo; `arguments` go to it unchanged.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let release = steps::target_dir().join("release");
    let is_built = release.join("tacit-demo").exists();
    let about = if is_built {
        "about 2 minutes, more if sources changed"
    } else {
        "about 15 minutes on 2 cores, most of it building, once"
    };
    println!("tacit demo · {} · {about}", machine());

    let log_path = steps::cache_dir().join("build.log");
    std::fs::create_dir_all(steps::cache_dir())?;
    let log = File::create(&log_path).with_context(|| log_path.display().to_string())?;

    evidence::run(root).context("gathering real evidence")?;
    models::run().context("fetching the small models")?;
    let started = Instant::now();
    let verifier = ["build", "--release", "--locked", "--package", "tacit-platform", "--example", "real_evidence"];
    finish(build(root, &verifier, &log)?, "the verifier", &log_path)?;
    print!("[build 1/2] verifier {:.0} s    ", started.elapsed().as_secs_f64());
    println!("[build 2/2] the rest; log: {}", log_path.display());
    std::io::stdout().flush()?;

    finish(guests(root, &log)?, "the guest images", &log_path)?;
    let rest = build(root, &["build", "--release", "--locked", "--workspace"], &log)?;
    let first_step = steps::run(&mut Command::new(release.join("examples/real_evidence")));
    finish(rest, "the rest", &log_path)?;
    first_step.context("step 1, real evidence")?;

    steps::run(program(root).args(arguments))
}

/// Runs each step of the built demo on spoiled inputs: it must fail, every time in the right step.
pub fn spoiled_inputs(root: &Path) -> Result<()> {
    steps::run(program(root).arg("--mutate-all"))
}

fn program(root: &Path) -> Command {
    let release = steps::target_dir().join("release");
    let mut demo = Command::new(release.join("tacit-demo"));
    demo.arg("--project").arg(root).arg("--binaries").arg(&release);
    demo
}

fn build(root: &Path, arguments: &[&str], log: &File) -> Result<Child> {
    let mut command = steps::command(root, "cargo", arguments);
    command.stdout(Stdio::null()).stderr(log.try_clone()?);
    command.spawn().context("could not start cargo")
}

/// `cargo xtask guests` by this very program; what it prints goes to the log.
fn guests(root: &Path, log: &File) -> Result<Child> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let mut command = Command::new(own);
    command.arg("guests").current_dir(root).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.spawn().context("could not build the guest images")
}

fn finish(mut build: Child, what: &str, log: &Path) -> Result<()> {
    if !build.wait()?.success() {
        bail!("building {what} failed; see {}", log.display());
    }
    Ok(())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or_else(|| "unknown".to_owned(), |kibibytes| format!("{:.0} GiB", kibibytes as f64 / 1_048_576.0));
    format!("{cores} cores, {memory}")
}
