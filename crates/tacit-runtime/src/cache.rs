//! Compiled code on disk, which is only ever run when its MAC is right.
//!
//! Machine code read from a disk that the host controls is as good as the host's own code. So a file is
//! `HMAC-SHA256(key, name ‖ code) ‖ code`, it is read whole before it is checked, and never mapped.

use std::hash::{Hash as _, Hasher};
use std::io;
use std::path::PathBuf;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use zeroize::Zeroizing;

/// A folder of compiled code and the key of its MACs, which must not leave the TEE.
pub struct CompiledCache {
    folder: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

impl CompiledCache {
    /// Keeps compiled code in `folder`, which is made if need be.
    pub fn new(folder: PathBuf, key: [u8; 32]) -> Self {
        Self { folder, key: Zeroizing::new(key) }
    }

    /// The component compiled: from the folder if it is there and true, else anew, and then kept.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Component> {
        let name = name(engine, wasm);
        let path = self.folder.join(format!("{}.cwasm", hex::encode(name)));
        if let Ok(bytes) = std::fs::read(&path) {
            match self.open(&name, &bytes) {
                Some(code) => {
                    // SAFETY: the MAC shows that this code was made by `Engine::precompile_component` of a holder of
                    // the key, for the same wasm, wasmtime, configuration and CPU; it lies in our memory already.
                    #[allow(unsafe_code)]
                    let component = unsafe { Component::deserialize(engine, code) };
                    match component {
                        Ok(component) => return Ok(component),
                        Err(error) => {
                            tracing::warn!(path = %path.display(), %error, "compiled code is not usable and is made anew")
                        }
                    }
                }
                None => tracing::warn!(path = %path.display(), "compiled code without a true MAC is ignored"),
            }
        }
        let component = Component::new(engine, wasm)?;
        if let Err(error) =
            component.serialize().map_err(io::Error::other).and_then(|code| self.keep(&name, &path, &code))
        {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be kept");
        }
        Ok(component)
    }

    fn mac(&self, name: &[u8; 32], code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"tacit/compiled/1");
        mac.update(name);
        mac.update(code);
        mac
    }

    fn open<'a>(&self, name: &[u8; 32], bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, code) = bytes.split_at_checked(32)?;
        self.mac(name, code).verify_slice(tag).is_ok().then_some(code)
    }

    fn keep(&self, name: &[u8; 32], path: &std::path::Path, code: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let mut bytes = self.mac(name, code).finalize().into_bytes().to_vec();
        bytes.extend_from_slice(code);
        std::fs::write(&partial, bytes)?;
        std::fs::rename(&partial, path)
    }
}

/// SHA-256 over the wasm and everything that decides how it compiles: wasmtime's version, configuration, CPU features.
fn name(engine: &Engine, wasm: &[u8]) -> [u8; 32] {
    struct Sink(Sha256);
    impl Hasher for Sink {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update((bytes.len() as u64).to_be_bytes());
            self.0.update(bytes);
        }
    }
    let mut sink = Sink(Sha256::new());
    sink.write(wasm);
    engine.precompile_compatibility_hash().hash(&mut sink);
    sink.0.finalize().into()
}
