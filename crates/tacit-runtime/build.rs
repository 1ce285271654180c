//! Finds the JavaScript image that `make guests` made and checks it against the digest recorded beside it.

use std::fmt::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=TACIT_GUESTS_DIR");
    let folder = match std::env::var_os("TACIT_GUESTS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir().ok_or("neither TACIT_GUESTS_DIR nor a home folder is known")?.join(".cache/tacit/guests"),
    };
    let (image, digests) = (folder.join("tacit-js.wasm"), folder.join("digests.json"));
    println!("cargo:rerun-if-changed={}", image.display());
    println!("cargo:rerun-if-changed={}", digests.display());
    let missing = |path: &PathBuf| format!("{} is missing: build the guests first with `make guests`", path.display());
    let bytes = std::fs::read(&image).map_err(|_| missing(&image))?;
    let recorded = std::fs::read_to_string(&digests).map_err(|_| missing(&digests))?;
    let mut digest = String::new();
    for byte in Sha256::digest(&bytes) {
        write!(digest, "{byte:02x}").map_err(|error| error.to_string())?;
    }
    if !recorded.contains(&format!("\"tacit-js.wasm\": \"sha256:{digest}\"")) {
        return Err(format!("{} does not have the digest recorded in {}: build it again with `make guests`", image.display(), digests.display()));
    }
    println!("cargo:rustc-env=TACIT_JS_IMAGE={}", image.display());
    println!("cargo:rustc-env=TACIT_JS_DIGEST={digest}");
    Ok(())
}
