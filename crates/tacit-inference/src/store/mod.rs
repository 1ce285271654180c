//! The models of this machine: files by their digests, and manifests by their names.
//!
//! `files/<sha256>` holds what was fetched, `<name>.json` a manifest in its one spelling. Nothing that lies there is trusted: a
//! manifest is parsed again, and a file is hashed again into sealed memory, each time a model is opened.

mod checked;
mod convert;
mod kind;
mod source;

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tacit_types::{Digest, formats::sha256};
use url::Url;

use self::kind::Kind;
pub use self::{
    checked::CheckedFile,
    source::{Source, SourceError},
};
use crate::{
    gguf::{self, Gguf, GgufError},
    manifest::{FileRole, Lineage, MAX_MANIFEST, ModelFile, ModelManifest, ModelManifestError, is_model_name},
    onnx::{self, OnnxError},
};

/// Greatest file that is added.
pub const MAX_FILE: u64 = 256 << 30;
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a model was not added or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system failed.
    #[error("could not {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A file has other bytes than its digest says.
    #[error("the file has SHA-256 {found}, and {expected} was asked for")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// A file has another size than its manifest says.
    #[error("the file has {at_least} bytes or more, and not {expected}")]
    Size {
        /// What the manifest says.
        expected: u64,
        /// How many were read.
        at_least: u64,
    },
    /// A file is larger than any model.
    #[error("the file is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A fetched file needs a digest to be checked against.
    #[error("a file from a server is added only with its SHA-256")]
    NoDigest,
    /// The name cannot name a model.
    #[error("{0:?} is no name of a model: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first")]
    Name(String),
    /// The name is taken.
    #[error("a model {name:?} exists already, with digest {digest}")]
    Taken {
        /// The name.
        name: String,
        /// Digest of what has it.
        digest: Digest,
    },
    /// There is no such model.
    #[error("there is no model {0:?}")]
    Unknown(String),
    /// The file is no model that can be run.
    #[error("the file cannot be run")]
    Gguf(#[from] GgufError),
    /// The file is no ONNX model that can be run.
    #[error("the file cannot be run as an ONNX model")]
    Onnx(#[from] OnnxError),
    /// The file is no model that can be converted.
    #[error("the file cannot be converted: {0}")]
    Convert(String),
    /// A manifest is not one.
    #[error("the manifest of a model is not usable")]
    Manifest(#[from] ModelManifestError),
    /// The server did not give the file.
    #[error("the server did not give the file: {0}")]
    Fetch(String),
}

impl StoreError {
    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// A model to add.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Where its file is.
    pub source: Source,
    /// SHA-256 that the file must have; needed for what comes from a server.
    pub sha256: Option<Digest>,
    /// Name under which clients ask for it; else made from the file's.
    pub name: Option<String>,
    /// SPDX expression of its licence; else what the file says.
    pub licence: Option<String>,
}

/// A model with all its files, each checked and sealed.
#[derive(Debug)]
pub struct OpenModel {
    /// What it is.
    pub manifest: ModelManifest,
    /// Digest of that.
    pub digest: Digest,
    /// Its files, in the order of the manifest.
    pub files: Vec<CheckedFile>,
}

/// The models of this machine.
#[derive(Debug, Clone)]
pub struct ModelStore {
    folder: PathBuf,
}

impl ModelStore {
    /// The models in that folder, which is made when the first is added.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Adds a model: fetches it, checks its digest in full, then looks at what it is.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is kept then.
    pub async fn add(&self, model: NewModel) -> Result<ModelManifest, StoreError> {
        if let Some(name) = &model.name {
            self.check_name(name)?;
        }
        if model.sha256.is_none() && matches!(model.source, Source::Url(_)) {
            return Err(StoreError::NoDigest);
        }
        let files = self.folder.join("files");
        std::fs::create_dir_all(&files).map_err(|error| StoreError::file("make", &files, error))?;
        let part = tempfile::Builder::new().prefix("part-").tempfile_in(&files);
        let mut part = part.map_err(|error| StoreError::file("make a file in", &files, error))?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::file("write", &path, error)
        };
        let (mut found, mut size) = match &model.source {
            Source::Path(path) => {
                let file = File::open(path).map_err(|error| StoreError::file("read", path, error))?;
                let read = checked::hash_into(file.take(MAX_FILE + 1), part.as_file_mut());
                read.map_err(|error| StoreError::file("read", path, error))?
            }
            Source::Url(url) => fetch(url, part.as_file_mut()).await?,
        };
        if size > MAX_FILE {
            return Err(StoreError::TooLarge);
        }
        if let Some(expected) = model.sha256
            && found != expected
        {
            return Err(StoreError::Digest { expected, found });
        }
        // Only now does a parser see it.
        let mut converted_from = None;
        if let Source::Path(path) = &model.source
            && path.extension().is_some_and(|extension| extension == "safetensors")
        {
            let mut made = tempfile::Builder::new().prefix("part-").tempfile_in(&files).map_err(failed(&files))?;
            convert::sentence_transformer(part.path(), path, made.as_file_mut())?;
            converted_from = Some(found);
            let bytes = File::open(made.path()).map_err(failed(made.path()))?;
            let mut nowhere = File::options().write(true).open("/dev/null").map_err(failed(Path::new("/dev/null")))?;
            (found, size) = checked::hash_into(bytes, &mut nowhere).map_err(failed(made.path()))?;
            part = made;
        }
        let header = Kind::read(part.path(), size)?;
        let name = match &model.name {
            Some(name) => name.clone(),
            None => {
                let name = name_of(header.own_name(), &model.source);
                self.check_name(&name)?;
                name
            }
        };
        let manifest = header.describe(name, &model, found, size, converted_from);
        let bytes = manifest.to_bytes()?;
        part.as_file().sync_all().map_err(failed(part.path()))?;
        let place = self.file(found);
        part.persist(&place).map_err(|error| StoreError::file("write", &place, error.error))?;
        self.write_manifest(&manifest.name, &bytes)?;
        Ok(manifest)
    }

    /// Adds a LoRA adapter to a model: a model of its own, with the same weights and one adapter more.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is kept then.
    pub fn add_adapter(
        &self,
        base: &str,
        name: &str,
        adapter: &Path,
        expected: Option<Digest>,
        receipt: Option<Digest>,
    ) -> Result<ModelManifest, StoreError> {
        self.check_name(name)?;
        let mut manifest = self.manifest(base)?;
        let files = self.folder.join("files");
        let failed = |error| StoreError::file("read", adapter, error);
        let mut part = tempfile::Builder::new().prefix("part-").tempfile_in(&files).map_err(failed)?;
        let source = File::open(adapter).map_err(failed)?;
        let (sha256, size) = checked::hash_into(source.take(MAX_FILE + 1), part.as_file_mut()).map_err(failed)?;
        if size > MAX_FILE {
            return Err(StoreError::TooLarge);
        }
        if let Some(expected) = expected
            && expected != sha256
        {
            return Err(StoreError::Digest { expected, found: sha256 });
        }
        let header = read_header(part.path(), size)?;
        header.check_adapter()?;
        let weights = manifest.files_of(FileRole::Weights).next().map(|file| (file.sha256, file.size));
        let Some((weights, length)) = weights else { return Err(StoreError::Unknown(base.to_owned())) };
        let model = read_header(&self.file(weights), length)?;
        if model.architecture() != header.architecture() {
            return Err(GgufError::Role("an adapter for another architecture").into());
        }
        manifest.files.push(ModelFile { role: FileRole::Adapter, sha256, size });
        manifest.lineage.push(Lineage { adapter: sha256, base: weights, receipt });
        name.clone_into(&mut manifest.name);
        let bytes = manifest.to_bytes()?;
        let place = self.file(sha256);
        part.as_file().sync_all().map_err(failed)?;
        part.persist(&place).map_err(|error| StoreError::file("write", &place, error.error))?;
        self.write_manifest(name, &bytes)?;
        Ok(manifest)
    }

    /// Adds a model that a server beside this process runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_upstream(&self, manifest: &ModelManifest) -> Result<(), StoreError> {
        self.check_name(&manifest.name)?;
        let bytes = manifest.to_bytes()?;
        std::fs::create_dir_all(&self.folder).map_err(|error| StoreError::file("make", &self.folder, error))?;
        self.write_manifest(&manifest.name, &bytes)
    }

    /// All models, by name. A manifest that is not usable is an error, not left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list(&self) -> Result<Vec<ModelManifest>, StoreError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::file("read", &self.folder, error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
            .collect();
        names.sort();
        names.iter().map(|name| self.manifest(name)).collect()
    }

    /// The manifest of that name.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none, [`StoreError::Manifest`] if it is not usable.
    pub fn manifest(&self, name: &str) -> Result<ModelManifest, StoreError> {
        if !is_model_name(name) {
            return Err(StoreError::Name(name.to_owned()));
        }
        let path = self.folder.join(format!("{name}.json"));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Unknown(name.to_owned()));
            }
            Err(error) => return Err(StoreError::file("read", &path, error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_MANIFEST as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| StoreError::file("read", &path, error))?;
        let manifest = ModelManifest::parse(&bytes)?;
        if manifest.name != name {
            return Err(StoreError::Manifest(ModelManifestError::Member {
                member: "name",
                reason: "is that of the manifest's file",
            }));
        }
        Ok(manifest)
    }

    /// Opens the model of that name: every file is hashed into sealed memory, and its header checked.
    ///
    /// # Errors
    /// [`StoreError`], if any file is not the one that the manifest names.
    pub fn open(&self, name: &str) -> Result<OpenModel, StoreError> {
        let manifest = self.manifest(name)?;
        let digest = sha256(&manifest.to_bytes()?);
        let mut files = Vec::new();
        // With an upstream the files are what that server has; they need not be here.
        let here = if manifest.upstream.is_some() { &[][..] } else { &manifest.files };
        for file in here {
            let checked = CheckedFile::read(&self.file(file.sha256), file.sha256, file.size)?;
            match file.role {
                FileRole::Weights => header_of(&checked)?.check_model()?,
                FileRole::Onnx => drop(onnx::read(BufReader::new(checked.open()?), checked.size())?),
                FileRole::Adapter => header_of(&checked)?.check_adapter()?,
                FileRole::Tokenizer | FileRole::Template => {}
            }
            files.push(checked);
        }
        Ok(OpenModel { manifest, digest, files })
    }

    fn check_name(&self, name: &str) -> Result<(), StoreError> {
        match self.manifest(name) {
            Ok(taken) => Err(StoreError::Taken { name: name.to_owned(), digest: taken.digest()? }),
            Err(StoreError::Unknown(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join("files").join(&digest.to_string()[2..])
    }

    /// Writes a manifest whole; a name that was taken meanwhile stays as it is.
    fn write_manifest(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let place = self.folder.join(format!("{name}.json"));
        let failed = |error| StoreError::file("write", &place, error);
        let mut part = tempfile::Builder::new().prefix("part-").tempfile_in(&self.folder).map_err(failed)?;
        part.write_all(bytes).map_err(failed)?;
        part.as_file().sync_all().map_err(failed)?;
        match part.persist_noclobber(&place) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::Taken { name: name.to_owned(), digest: self.manifest(name)?.digest()? })
            }
            Err(error) => Err(failed(error.error)),
        }
    }
}

impl OpenModel {
    /// The file of the weights, if they are here.
    pub fn weights(&self) -> Option<&CheckedFile> {
        self.of(FileRole::Weights).next()
    }

    /// The file of an ONNX model, if it is one.
    pub fn onnx(&self) -> Option<&CheckedFile> {
        self.of(FileRole::Onnx).next()
    }

    /// The adapters, in their order.
    pub fn adapters(&self) -> impl Iterator<Item = &CheckedFile> {
        self.of(FileRole::Adapter)
    }

    fn of(&self, role: FileRole) -> impl Iterator<Item = &CheckedFile> {
        self.manifest.files.iter().zip(&self.files).filter(move |(file, _)| file.role == role).map(|(_, file)| file)
    }
}

/// The header of a checked file.
///
/// # Errors
/// [`StoreError::Gguf`] if it is not sound.
pub fn header_of(file: &CheckedFile) -> Result<Gguf, StoreError> {
    Ok(gguf::read(BufReader::new(file.open()?), file.size())?)
}

fn read_header(path: &Path, size: u64) -> Result<Gguf, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::file("read", path, error))?;
    Ok(gguf::read(BufReader::new(file), size)?)
}

/// A name from the file's own name, else from what the model calls itself.
fn name_of(own: Option<&str>, source: &Source) -> String {
    let shown = source.shown();
    let file = shown.rsplit('/').next().unwrap_or_default();
    let endings = [".gguf", ".safetensors", ".onnx"];
    let stem = endings.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    let wanted = if stem.is_empty() || stem == "model" { own.unwrap_or(stem) } else { stem };
    let plain: String = wanted
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "._".contains(letter) { letter } else { '-' })
        .take(63)
        .collect();
    plain.trim_matches(['-', '.', '_']).to_owned()
}

/// Fetches a file and hashes it on the way.
async fn fetch(url: &Url, to: &mut File) -> Result<(Digest, u64), StoreError> {
    use sha2::Digest as _;
    let failed = |error: reqwest::Error| StoreError::Fetch(error.without_url().to_string());
    let client = reqwest::Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE).build().map_err(failed)?;
    let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(StoreError::Fetch(format!("it answered {}", answer.status().as_u16())));
    }
    if answer.content_length().is_some_and(|length| length > MAX_FILE) {
        return Err(StoreError::TooLarge);
    }
    let (mut hash, mut size) = (sha2::Sha256::new(), 0_u64);
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        size += piece.len() as u64;
        if size > MAX_FILE {
            return Err(StoreError::TooLarge);
        }
        hash.update(&piece);
        to.write_all(&piece).map_err(|error| StoreError::Fetch(format!("it could not be kept: {}", error.kind())))?;
    }
    Ok((Digest::from(<[u8; 32]>::from(hash.finalize())), size))
}
