//! `tacit worker check`: which evidence this machine could make.

use std::path::Path;

use serde::Serialize;

use super::CommandResult;
use crate::{error::Exit, output};

/// Kind of TEE, and the files by which a guest of it is known.
const DEVICES: &[(&str, &[&str])] = &[
    ("Intel TDX guest", &["dev/tdx_guest", "dev/tdx-guest"]),
    ("AMD SEV-SNP guest", &["dev/sev-guest"]),
    ("Intel SGX", &["dev/sgx_enclave", "dev/sgx/enclave"]),
    ("AWS Nitro enclave", &["dev/nsm"]),
    ("report interface of the kernel", &["sys/kernel/config/tsm/report"]),
    ("dstack guest agent", &["var/run/dstack.sock", "run/dstack.sock"]),
    ("NVIDIA GPU", &["dev/nvidia0"]),
];

#[derive(Serialize)]
struct Found {
    kind: &'static str,
    path: Option<String>,
    looked_at: Vec<String>,
}

fn look(root: &Path) -> Vec<Found> {
    DEVICES
        .iter()
        .map(|(kind, paths)| {
            let found = paths.iter().find(|path| root.join(path).exists());
            let absolute = |path: &&str| format!("/{path}");
            Found { kind, path: found.map(absolute), looked_at: paths.iter().map(absolute).collect() }
        })
        .collect()
}

pub fn check(json: bool, root: &Path) -> CommandResult {
    let found = look(root);
    if json {
        output::json(&found)?;
    } else {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|one| {
                vec![
                    one.kind.to_owned(),
                    one.path.clone().unwrap_or_else(|| format!("no ({})", one.looked_at.join(", "))),
                ]
            })
            .collect();
        output::bytes(output::table(&rows).as_bytes())?;
    }
    if found.iter().take(4).all(|one| one.path.is_none()) {
        output::note("no TEE on this machine: a worker here needs a simulated chip, under a simulated root");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        assert!(look(root.path()).iter().all(|found| found.path.is_none()));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/sev-guest"), "").unwrap();
        let found: Vec<_> =
            look(root.path()).into_iter().filter(|found| found.path.is_some()).map(|found| found.kind).collect();
        assert_eq!(found, ["AMD SEV-SNP guest"]);
    }
}
