//! Gathers real attestation evidence from packages and vectors into the cache, where tests and demo read it.
//!
//! None of it is ever committed. Intel's samples ship inside the crate `dcap-qvl`, an AMD Milan sample inside the crate `sev`;
//! further AMD samples and an AWS Nitro document come from `TACIT_EVIDENCE_DIR` (default `../shared/vectors/evidence`, beside the
//! checkout). Those of NVIDIA GPUs are in `gpu_evidence.rs`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::gpu_evidence;

/// Where a sample's files lie.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// Inside the source of a crate of this workspace's lock file.
    Crate(&'static str),
    /// Below `TACIT_EVIDENCE_DIR`.
    Vectors,
}

/// One sample: its files, what it is, and the time at which it is judged.
struct Sample {
    name: &'static str,
    kind: &'static str,
    title: &'static str,
    origin: Origin,
    document: &'static str,
    collateral: Files,
    /// Within the life of its collateral and certificates.
    at: &'static str,
    licence: &'static str,
}

enum Files {
    Intel(&'static str),
    Amd { ask: &'static str, vcek: &'static str },
    Nitro,
}

const SAMPLES: [Sample; 9] = [
    Sample {
        name: "intel-tdx-v4",
        kind: "tdx",
        title: "Intel TDX v4",
        origin: Origin::Crate("dcap-qvl"),
        document: "sample/tdx_quote",
        collateral: Files::Intel("sample/tdx_quote_collateral.json"),
        at: "2025-06-19T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "intel-tdx-v5",
        kind: "tdx",
        title: "Intel TDX v5",
        origin: Origin::Crate("dcap-qvl"),
        document: "sample/tdx_quote_td15ex",
        collateral: Files::Intel("sample/tdx_quote_td15ex_collateral.json"),
        at: "2026-10-08T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "intel-tdx-v5-old",
        kind: "tdx",
        title: "Intel TDX v5, old firmware",
        origin: Origin::Crate("dcap-qvl"),
        document: "sample/tdx_quote_outdated",
        collateral: Files::Intel("sample/tdx_quote_outdated_collateral.json"),
        at: "2026-02-18T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "intel-sgx-v3",
        kind: "sgx",
        title: "Intel SGX v3",
        origin: Origin::Crate("dcap-qvl"),
        document: "sample/sgx_quote",
        collateral: Files::Intel("sample/sgx_quote_collateral.json"),
        at: "2025-06-19T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "amd-milan-v2",
        kind: "sev-snp",
        title: "AMD SNP Milan, report version 2",
        origin: Origin::Crate("sev"),
        document: "tests/certs_data/report_milan.hex",
        collateral: Files::Amd { ask: "src/certs/snp/builtin/milan/ask.pem", vcek: "tests/certs_data/vcek_milan.der" },
        at: "2023-06-01T12:00:00Z",
        licence: "Apache-2.0",
    },
    Sample {
        name: "amd-milan",
        kind: "sev-snp",
        title: "AMD SNP Milan",
        origin: Origin::Vectors,
        document: "snp/milan_attestation_report.bin",
        collateral: Files::Amd { ask: "snp/milan_ask.pem", vcek: "snp/milan_vcek.pem" },
        at: "2026-02-06T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "amd-genoa",
        kind: "sev-snp",
        title: "AMD SNP Genoa",
        origin: Origin::Vectors,
        document: "snp/genoa_attestation_report.bin",
        collateral: Files::Amd { ask: "snp/genoa_ask.pem", vcek: "snp/genoa_vcek.pem" },
        at: "2026-02-06T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "amd-turin",
        kind: "sev-snp",
        title: "AMD SNP Turin",
        origin: Origin::Vectors,
        document: "snp/turin_attestation_report.bin",
        collateral: Files::Amd { ask: "snp/turin_ask.pem", vcek: "snp/turin_vcek.pem" },
        at: "2026-02-06T12:00:00Z",
        licence: "MIT",
    },
    Sample {
        name: "aws-nitro",
        kind: "nitro",
        title: "AWS Nitro enclave",
        origin: Origin::Vectors,
        document: "nitro/nitro_attestation.bin",
        collateral: Files::Nitro,
        // The leaf lives three hours, a document is accepted for five minutes.
        at: "2025-12-25T13:16:00Z",
        licence: "Apache-2.0",
    },
];

/// Gathers every sample and writes `index.json` beside them.
pub fn run(root: &Path) -> Result<()> {
    let target = directory()?;
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let metadata = metadata(root)?;
    let vectors =
        env::var_os("TACIT_EVIDENCE_DIR").map_or_else(|| root.join("../shared/vectors/evidence"), PathBuf::from);

    let (mut entries, mut absent) = (Vec::new(), Vec::new());
    for sample in &SAMPLES {
        let (source, origin) = match sample.origin {
            Origin::Crate(name) => package(&metadata, name)?,
            Origin::Vectors => (vectors.clone(), "vectors".to_owned()),
        };
        if sample.origin == Origin::Vectors && !vectors.is_dir() && env::var_os("CI").is_none() {
            eprintln!("evidence: {} is left out: no folder {}", sample.name, vectors.display());
            absent.push(sample.name);
            continue;
        }
        entries.push(gather(sample, &source, &origin, &target)?);
    }
    let gpus = gpu_evidence::gather(&vectors, &target, env::var_os("CI").is_some())?;
    absent.extend(&gpus.absent);
    let index = serde_json::to_vec_pretty(&json!({
        "version": 1, "samples": entries, "gpus": gpus.gpus, "manifests": gpus.manifests, "absent": absent,
    }))?;
    write(&target.join("index.json"), &index)?;
    let (gpus, manifests) = (gpus.gpus.len(), gpus.manifests.len());
    eprintln!("evidence: {} samples, {gpus} of GPUs and {manifests} manifests in {}", entries.len(), target.display());
    Ok(())
}

/// `${XDG_CACHE_HOME:-~/.cache}/tacit/evidence`.
fn directory() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(cache.join("tacit/evidence"))
}

fn metadata(root: &Path) -> Result<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Offline first: after the first build everything is there. The network is asked only when something is missing.
    for arguments in [&["--offline"][..], &[]] {
        let output = Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(arguments)
            .current_dir(root)
            .output()
            .context("cannot run cargo metadata")?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).context("cargo metadata wrote no JSON");
        }
    }
    bail!("cargo metadata failed: is Cargo.lock up to date?")
}

/// Where the source of a crate lies, and its name with version.
fn package(metadata: &Value, name: &str) -> Result<(PathBuf, String)> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let package =
        packages.iter().find(|package| package["name"] == name).with_context(|| format!("no crate {name}"))?;
    let manifest = package["manifest_path"].as_str().context("a crate without a manifest path")?;
    let folder = Path::new(manifest).parent().context("a manifest without a folder")?;
    Ok((folder.to_owned(), format!("{name} {}", package["version"].as_str().unwrap_or_default())))
}

fn gather(sample: &Sample, source: &Path, origin: &str, target: &Path) -> Result<Value> {
    let mut document = read(&source.join(sample.document))?;
    if sample.document.ends_with(".hex") {
        document = unhex(&document).with_context(|| format!("{} is not hex", sample.document))?;
    }
    if sample.kind == "nitro" {
        document = cose_sign1(&document).with_context(|| format!("no COSE structure in {}", sample.document))?;
    }
    let document_file = format!("{}.bin", sample.name);
    write(&target.join(&document_file), &document)?;

    let copy = |from: &str, suffix: &str| -> Result<String> {
        let extension = Path::new(from).extension().and_then(|extension| extension.to_str()).unwrap_or("bin");
        let file = format!("{}.{suffix}.{extension}", sample.name);
        write(&target.join(&file), &read(&source.join(from))?)?;
        Ok(file)
    };
    let collateral = match sample.collateral {
        Files::Intel(file) => json!({ "kind": "intel", "file": copy(file, "collateral")? }),
        Files::Nitro => json!({ "kind": "nitro" }),
        Files::Amd { ask, vcek } => json!({ "kind": "amd", "ask": copy(ask, "ask")?, "vcek": copy(vcek, "vcek")? }),
    };
    Ok(json!({
        "name": sample.name,
        "kind": sample.kind,
        "title": sample.title,
        "file": document_file,
        "collateral": collateral,
        "at": sample.at,
        "source": format!("{origin}: {}", sample.document),
        "licence": sample.licence,
    }))
}

/// The Nitro document itself: the sample keeps it inside an envelope of the software that fetched it.
fn cose_sign1(bytes: &[u8]) -> Option<Vec<u8>> {
    const HEAD: [u8; 8] = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x59];
    let start = bytes.windows(HEAD.len()).position(|window| window == HEAD)?;
    let length = bytes.get(start + 8..start + 10)?;
    let payload = usize::from(length[0]) << 8 | usize::from(length[1]);
    // Head, length, payload, head of the signature, signature.
    bytes.get(start..start + 8 + 2 + payload + 2 + 96).map(<[u8]>::to_vec)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!bytes.is_empty() && bytes.len() <= 1024 * 1024, "{} has {} bytes", path.display(), bytes.len());
    Ok(bytes)
}

/// Writes whole files only: a second run in parallel sees the old one or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

pub fn unhex(text: &[u8]) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    ensure!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).context("not a hexadecimal digit"))
        .collect()
}
