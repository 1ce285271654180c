//! Finds the guests that `make guests` made and checks them against the digests recorded beside them.

use std::fmt::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=TACIT_GUESTS_DIR");
    let folder = match std::env::var_os("TACIT_GUESTS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir()
            .ok_or("neither TACIT_GUESTS_DIR nor a home folder is known")?
            .join(".cache/tacit/guests"),
    };
    let digests = folder.join("digests.json");
    println!("cargo:rerun-if-changed={}", digests.display());
    let recorded = std::fs::read_to_string(&digests).map_err(|_| missing(&digests))?;
    for (name, variable) in
        [("tacit-js.wasm", "TACIT_JS"), ("hello-rust.wasm", "TACIT_HELLO"), ("probe.wasm", "TACIT_PROBE")]
    {
        let path = folder.join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let bytes = std::fs::read(&path).map_err(|_| missing(&path))?;
        let mut digest = String::new();
        for byte in Sha256::digest(&bytes) {
            write!(digest, "{byte:02x}").map_err(|error| error.to_string())?;
        }
        if !recorded.contains(&format!("\"{name}\": \"sha256:{digest}\"")) {
            return Err(format!(
                "{} does not have the digest recorded in {}: build it again with `make guests`",
                path.display(),
                digests.display()
            ));
        }
        println!("cargo:rustc-env={variable}_PATH={}", path.display());
        println!("cargo:rustc-env={variable}_DIGEST={digest}");
    }
    Ok(())
}

fn missing(path: &std::path::Path) -> String {
    format!("{} is missing: build the guests first with `make guests`", path.display())
}
