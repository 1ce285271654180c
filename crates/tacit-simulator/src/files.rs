//! Small files that only their owner may read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rand::Rng as _;
use zeroize::Zeroizing;

use crate::SimulatorError;

/// Most bytes of any file read here.
const MAX_FILE: u64 = 64 * 1024;

pub(crate) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> SimulatorError + '_ {
    move |source| SimulatorError::File { path: path.to_owned(), source }
}

/// Makes a folder with mode 0700, and those above it.
pub(crate) fn make_directory(path: &Path) -> Result<(), SimulatorError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))
}

/// Writes a whole file with mode 0600, durably: it exists afterwards with all its content or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), SimulatorError> {
    let part = path.with_extension("part");
    let attempt = || -> std::io::Result<()> {
        let _ = fs::remove_file(&part);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        if let Some(directory) = path.parent() {
            fs::File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    attempt().map_err(failed(path))
}

/// Reads a small file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SimulatorError> {
    let size = fs::metadata(path).map_err(failed(path))?.len();
    if size > MAX_FILE {
        return Err(SimulatorError::Content { path: path.to_owned(), expected: "a small file" });
    }
    fs::read(path).map(Zeroizing::new).map_err(failed(path))
}

/// 32 random bytes, wiped when dropped.
pub(crate) fn random_secret() -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(secret.as_mut_slice());
    secret
}

/// A new P-256 key.
pub(crate) fn random_key() -> SigningKey {
    loop {
        // All but one in 2^32 of 256-bit numbers are private keys of P-256.
        if let Ok(key) = SigningKey::from_slice(random_secret().as_slice()) {
            return key;
        }
    }
}

/// A new P-384 key, as AMD's chips sign reports with.
pub(crate) fn random_report_key() -> p384::ecdsa::SigningKey {
    let mut secret = Zeroizing::new([0; 48]);
    loop {
        rand::rng().fill_bytes(secret.as_mut_slice());
        // All but one in 2^190 of 384-bit numbers are private keys of P-384.
        if let Ok(key) = p384::ecdsa::SigningKey::from_slice(secret.as_slice()) {
            return key;
        }
    }
}

/// A P-384 key as PKCS#8 PEM.
pub(crate) fn report_key_to_pem(key: &p384::ecdsa::SigningKey) -> Zeroizing<String> {
    key.to_pkcs8_pem(LineEnding::LF).expect("every P-384 key has a PKCS#8 form")
}

/// Reads a P-384 key that [`report_key_to_pem`] wrote.
pub(crate) fn read_report_key(path: &Path) -> Result<p384::ecdsa::SigningKey, SimulatorError> {
    read_private(path, |pem| p384::ecdsa::SigningKey::from_pkcs8_pem(pem).ok())
}

/// A P-256 key as PKCS#8 PEM.
pub(crate) fn key_to_pem(key: &SigningKey) -> Zeroizing<String> {
    key.to_pkcs8_pem(LineEnding::LF).expect("every P-256 key has a PKCS#8 form")
}

/// Reads a P-256 key that [`key_to_pem`] wrote.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey, SimulatorError> {
    read_private(path, |pem| SigningKey::from_pkcs8_pem(pem).ok())
}

fn read_private<K>(path: &Path, parse: impl FnOnce(&str) -> Option<K>) -> Result<K, SimulatorError> {
    let bytes = read(path)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(parse)
        .ok_or_else(|| SimulatorError::Content { path: path.to_owned(), expected: "a private key" })
}
