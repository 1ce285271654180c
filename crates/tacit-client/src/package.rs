//! A function as it is deployed: the manifest, one module, and its source map.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tacit_api::{BlobUri, limits::MAX_BLOB};
use tacit_types::{
    CodeHash, Digest,
    eip712::keccak,
    formats,
    manifest::{self, Manifest, ManifestError, ModuleKind},
};

use crate::bundle::bundle;

/// Why a function cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// A file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is refused.
    #[error("tacit.toml is refused")]
    Manifest(#[source] ManifestError),
    /// A source is refused; file, line and column are in the text.
    #[error("{0}")]
    Source(String),
    /// An import leads nowhere.
    #[error("{file}: there is no file for {specifier:?}")]
    NotFound {
        /// The importing file.
        file: String,
        /// What it imports.
        specifier: String,
    },
    /// An import leads out of the project.
    #[error("{file}: {specifier:?} is outside the project")]
    Outside {
        /// The importing file.
        file: String,
        /// What it imports.
        specifier: String,
    },
    /// An import is of a package.
    #[error("{file}: {specifier:?} is a package; only files of the project and \"tacit\" are bundled")]
    Npm {
        /// The importing file.
        file: String,
        /// What it imports.
        specifier: String,
    },
    /// An import names what the file does not export.
    #[error("{file}: {specifier:?} does not export {name:?}")]
    NoExport {
        /// The importing file.
        file: String,
        /// What it imports from.
        specifier: String,
        /// What it imports.
        name: String,
    },
    /// Files import each other.
    #[error("{0} imports itself, perhaps through other files")]
    Cycle(String),
    /// An import at run time.
    #[error("{0}: `import()` is not possible in a function")]
    Dynamic(String),
    /// The module is larger than a module may be.
    #[error("the module has {0} bytes, at most {MAX_BLOB} are allowed")]
    TooLarge(usize),
    /// A wasm function's module is not WebAssembly.
    #[error("{0} is not a WebAssembly component")]
    NotWasm(String),
}

impl PackageError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } if path.ends_with("tacit.toml") => {
                Some("run this in a function's folder, or make one with `tacit new NAME`".into())
            }
            Self::Npm { .. } => Some(
                "bundle it yourself first, for example: npx esbuild src/index.ts --bundle --format=esm --external:tacit --outfile=dist/index.js, and set entry = \"dist/index.js\"".into(),
            ),
            Self::Cycle(_) => Some("move what both files need into a third one".into()),
            Self::NotWasm(_) => Some("build it with: cargo build --release --target wasm32-wasip2, and point `entry` to the .wasm file".into()),
            _ => None,
        }
    }
}

/// A function that is ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    manifest: Manifest,
    canonical: Bytes,
    module: Bytes,
    map: Option<Bytes>,
}

impl Package {
    /// Reads `tacit.toml` in `folder` and builds what it names.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn build(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join("tacit.toml");
        let text = read_bounded(&path, manifest::MAX_BYTES as u64)?;
        let text = String::from_utf8(text).map_err(|_| PackageError::Source("tacit.toml is not UTF-8".into()))?;
        let manifest = Manifest::from_toml(&text).map_err(PackageError::Manifest)?;
        match manifest.function.kind {
            ModuleKind::Js => {
                let bundled = bundle(folder, &manifest.function.entry)?;
                let map = (!bundled.source_map.is_empty()).then(|| bundled.source_map.into_bytes().into());
                Self::new(manifest, bundled.code.into_bytes().into(), map)
            }
            ModuleKind::Wasm => {
                let module = read_bounded(&folder.join(&manifest.function.entry), MAX_BLOB as u64)?;
                if !module.starts_with(b"\0asm") {
                    return Err(PackageError::NotWasm(manifest.function.entry));
                }
                Self::new(manifest, module.into(), None)
            }
        }
    }

    /// A package of parts that are there already.
    ///
    /// # Errors
    /// [`PackageError::TooLarge`], or [`PackageError::Manifest`] for a manifest without a canonical form.
    pub fn new(manifest: Manifest, module: Bytes, map: Option<Bytes>) -> Result<Self, PackageError> {
        if module.len() > MAX_BLOB {
            return Err(PackageError::TooLarge(module.len()));
        }
        let map = map.filter(|map| map.len() <= MAX_BLOB);
        let canonical = manifest.to_canonical().map_err(PackageError::Manifest)?.into();
        Ok(Self { manifest, canonical, module, map })
    }

    /// The manifest, every default filled in.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The module.
    pub fn module(&self) -> &Bytes {
        &self.module
    }

    /// The source map.
    pub fn map(&self) -> Option<&Bytes> {
        self.map.as_ref()
    }

    /// Keccak-256 of the module, as the registry takes it.
    pub fn module_hash(&self) -> Digest {
        keccak(&self.module)
    }

    /// Keccak-256 of the canonical manifest, as the registry takes it.
    pub fn manifest_hash(&self) -> tacit_types::ManifestHash {
        keccak(&self.canonical).into_bytes().into()
    }

    /// The code hash that receipts will name.
    pub fn code_hash(&self) -> CodeHash {
        formats::code_hash_of(self.module_hash(), self.manifest_hash())
    }

    /// What goes to the gateways.
    pub fn blobs(&self) -> Vec<(Digest, Bytes)> {
        [Some(&self.module), Some(&self.canonical), self.map.as_ref()]
            .into_iter()
            .flatten()
            .map(|bytes| (sha256(bytes), bytes.clone()))
            .collect()
    }

    /// The addresses that go to the registry.
    pub fn uri(&self) -> BlobUri {
        BlobUri {
            module: sha256(&self.module),
            manifest: sha256(&self.canonical),
            map: self.map.as_deref().map(sha256),
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, PackageError> {
    let read = |source| PackageError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > limit {
        return Err(PackageError::Source(format!("{} has {size} bytes, at most {limit} are taken", path.display())));
    }
    std::fs::read(path).map_err(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(manifest: &str, source: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("tacit.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("src/index.ts"), source).unwrap();
        folder
    }

    #[test]
    fn the_same_sources_give_the_same_code_hash() {
        let one = folder("[function]\nname = \"a\"\n", "export function f(): number { return 1 }");
        let two = folder("# a comment\n[function]\nname = 'a'\n", "export function f(): number { return 1 }");
        let (one, two) = (Package::build(one.path()).unwrap(), Package::build(two.path()).unwrap());
        assert_eq!(one.code_hash(), two.code_hash());
        assert_eq!(one.blobs().len(), 3);
        assert_eq!(one.uri().module, one.blobs()[0].0);
    }

    #[test]
    fn manifests_and_modules_are_checked() {
        let check = |manifest: &str, text: &str| {
            let folder = folder(manifest, "export const a = 1;");
            let error = Package::build(folder.path()).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(format!("{error} {cause}").contains(text), "{error} {cause}");
        };
        check("[function]\nname = \"a\"\nbogus = 1\n", "bogus");
        check("[function]\nname = \"A\"\n", "function.name");
        check("[function]\nname = \"a\"\nentry = \"src/none.ts\"\n", "src/none.ts");
        check("[function]\nname = \"a\"\nkind = \"wasm\"\nentry = \"src/index.ts\"\n", "not a WebAssembly component");
    }

    #[test]
    fn a_folder_without_a_manifest_gets_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Package::build(folder.path()).unwrap_err().hint().unwrap().contains("tacit new"));
    }
}
