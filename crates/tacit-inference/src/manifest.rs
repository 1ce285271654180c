//! What a model is: the digests of its files and what they are for, so that one digest names all of it.

use serde::{Deserialize, Serialize};
pub use tacit_types::manifest::is_model_name;
use tacit_types::{
    Digest,
    formats::sha256,
    jcs::{self, JcsError},
};

/// Version of the document, in its first member.
pub const MODEL_VERSION: &str = "tacit/model/1";
/// Most bytes of a manifest.
pub const MAX_MANIFEST: usize = 64 * 1024;
/// Most files of a model.
const MAX_FILES: usize = 32;
/// Longest source and longest licence.
const MAX_WORDS: usize = 1024;

/// Why bytes are no model manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelManifestError {
    /// They are not the canonical JSON of one.
    #[error("not a model manifest in canonical JSON")]
    Form(#[from] JcsError),
    /// The version is not the one that is read here.
    #[error("version {0:?} is not {MODEL_VERSION:?}")]
    Version(String),
    /// A member is out of bounds or contradicts another.
    #[error("{member}: {reason}")]
    Member {
        /// Which.
        member: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What a file of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The model itself, in GGUF, with its tokenizer and chat template.
    Weights,
    /// The model itself, in ONNX: it runs tensors.
    Onnx,
    /// A LoRA adapter, in GGUF. Adapters are applied in the order in which they stand.
    Adapter,
    /// A tokenizer outside the weights, of an upstream's model.
    Tokenizer,
    /// A chat template instead of that of the weights.
    Template,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What it is for.
    pub role: FileRole,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// SHA-256 of the adapter.
    pub adapter: Digest,
    /// SHA-256 of the weights that it was trained on.
    pub base: Digest,
    /// Digest of the receipt of its training, if it was trained under one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receipt: Option<Digest>,
}

/// A server that runs the model instead of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSource {
    /// `http://127.0.0.1:PORT/v1`, or `unix:/path/to/socket`.
    pub endpoint: String,
    /// The name under which the server knows it.
    pub model: String,
}

/// A model. Its digest stands in every receipt of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// [`MODEL_VERSION`].
    pub version: String,
    /// Name under which clients ask for it: `[a-z0-9][a-z0-9._-]{0,62}`.
    pub name: String,
    /// SPDX expression, or `LicenseRef-Unknown`.
    pub licence: String,
    /// Where it was fetched: a URL, or a file's name.
    pub source: String,
    /// Its files. With an upstream: those that the server must have been started with.
    pub files: Vec<ModelFile>,
    /// SHA-256 of the chat template in use, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub template: Option<Digest>,
    /// SHA-256 of what the weights were converted from, if they were not fetched as they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub converted_from: Option<Digest>,
    /// Where adapters come from, one for each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lineage: Vec<Lineage>,
    /// Tokens that it was trained on at a time; 1 of a model that runs tensors.
    pub context: u32,
    /// Length of its embeddings, if it makes those and no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub embedding: Option<u32>,
    /// The server that runs it, if it does not run in this process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upstream: Option<UpstreamSource>,
}

impl ModelManifest {
    /// Reads a manifest from its one spelling.
    ///
    /// # Errors
    /// [`ModelManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelManifestError> {
        let manifest: Self = jcs::from_bytes(bytes, MAX_MANIFEST)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The one spelling.
    ///
    /// # Errors
    /// [`ModelManifestError`] if a member is out of bounds.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelManifestError> {
        self.check()?;
        Ok(jcs::to_bytes(self)?)
    }

    /// The digest that stands for the model: SHA-256 of its one spelling.
    ///
    /// # Errors
    /// As [`ModelManifest::to_bytes`].
    pub fn digest(&self) -> Result<Digest, ModelManifestError> {
        Ok(sha256(&self.to_bytes()?))
    }

    /// The files of a role, in their order.
    pub fn files_of(&self, role: FileRole) -> impl Iterator<Item = &ModelFile> {
        self.files.iter().filter(move |file| file.role == role)
    }

    fn check(&self) -> Result<(), ModelManifestError> {
        if self.version != MODEL_VERSION {
            return Err(ModelManifestError::Version(self.version.clone()));
        }
        let member = |holds: bool, member, reason| {
            if holds { Ok(()) } else { Err(ModelManifestError::Member { member, reason }) }
        };
        let is_line = |text: &str| (1..=MAX_WORDS).contains(&text.len()) && !text.chars().any(char::is_control);
        member(
            is_model_name(&self.name),
            "name",
            "is 1 to 63 of a-z, 0-9, '.', '_' and '-', not '.', '_' or '-' first",
        )?;
        member(is_line(&self.licence), "licence", "is one line of at most 1024 bytes")?;
        member(is_line(&self.source), "source", "is one line of at most 1024 bytes")?;
        member(self.files.len() <= MAX_FILES, "files", "are at most 32")?;
        member(self.files.iter().all(|file| file.size > 0), "files", "are not empty")?;
        let digests: std::collections::BTreeSet<Digest> = self.files.iter().map(|file| file.sha256).collect();
        member(digests.len() == self.files.len(), "files", "are all different")?;
        let weights: Vec<Digest> = self.files_of(FileRole::Weights).map(|file| file.sha256).collect();
        let is_upstream = self.upstream.is_some();
        let runs_tensors = self.files_of(FileRole::Onnx).next().is_some();
        member(!runs_tensors || self.files.len() == 1, "files", "are one alone, of an ONNX model")?;
        let has_model = weights.len() == 1 || runs_tensors || (is_upstream && weights.is_empty());
        member(has_model, "files", "have one file of weights")?;
        member(self.files_of(FileRole::Template).count() <= 1, "files", "have at most one template")?;
        let adapters: Vec<Digest> = self.files_of(FileRole::Adapter).map(|file| file.sha256).collect();
        let lineage: Vec<Digest> = self.lineage.iter().map(|line| line.adapter).collect();
        member(adapters == lineage, "lineage", "names each adapter, in the order of the files")?;
        let bases = self.lineage.iter().all(|line| weights.contains(&line.base));
        member(bases || is_upstream, "lineage", "has the weights as base of each adapter")?;
        member(self.context > 0, "context", "is at least 1")?;
        member(self.embedding != Some(0), "embedding", "is at least 1")?;
        if let Some(upstream) = &self.upstream {
            member(is_line(&upstream.endpoint) && is_line(&upstream.model), "upstream", "has an endpoint and a model")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> ModelManifest {
        ModelManifest {
            version: MODEL_VERSION.to_owned(),
            name: "smollm2".to_owned(),
            licence: "Apache-2.0".to_owned(),
            source: "smollm2.gguf".to_owned(),
            files: vec![
                ModelFile { role: FileRole::Weights, sha256: Digest::from([1; 32]), size: 10 },
                ModelFile { role: FileRole::Adapter, sha256: Digest::from([2; 32]), size: 5 },
            ],
            template: Some(Digest::from([3; 32])),
            converted_from: None,
            lineage: vec![Lineage { adapter: Digest::from([2; 32]), base: Digest::from([1; 32]), receipt: None }],
            context: 8192,
            embedding: None,
            upstream: None,
        }
    }

    #[test]
    fn a_manifest_has_one_spelling_and_one_digest() {
        let manifest = sample();
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(ModelManifest::parse(&bytes).unwrap(), manifest);
        // Pinned: a change of the form is a change of the version.
        assert_eq!(
            manifest.digest().unwrap().to_string(),
            "0x4bcfd6ef002408e17e31de14402629206b6aa08d406ec8faddf850f8ac19721f"
        );
        let spaced = String::from_utf8(bytes.clone()).unwrap().replacen(':', ": ", 1);
        assert!(matches!(
            ModelManifest::parse(spaced.as_bytes()),
            Err(ModelManifestError::Form(JcsError::NotCanonical))
        ));
        let more = String::from_utf8(bytes).unwrap().replacen("\"context\"", "\"consent\":1,\"context\"", 1);
        assert!(ModelManifest::parse(more.as_bytes()).is_err());
    }

    #[test]
    fn every_rule_refuses() {
        let check = |member: &str, change: &dyn Fn(&mut ModelManifest)| {
            let mut changed = sample();
            change(&mut changed);
            match changed.to_bytes() {
                Err(ModelManifestError::Member { member: named, .. }) => assert_eq!(named, member),
                Err(ModelManifestError::Version(_)) => assert_eq!(member, "version"),
                other => panic!("{member}: {other:?}"),
            }
        };
        check("version", &|m| m.version = "tacit/model/2".to_owned());
        for name in ["", "A", "-a", ".a", "a/b", "a b", &"a".repeat(64)] {
            check("name", &|m| m.name = name.to_owned());
        }
        check("licence", &|m| m.licence = String::new());
        check("licence", &|m| m.licence = "a\nb".to_owned());
        check("source", &|m| m.source = "x".repeat(1025));
        check("files", &|m| m.files[0].size = 0);
        check("files", &|m| m.files[1].sha256 = m.files[0].sha256);
        check("files", &|m| m.files[0].role = FileRole::Template);
        check("files", &|m| m.files[1].role = FileRole::Weights);
        check("files", &|m| m.files = vec![m.files[0].clone(); 33]);
        check("files", &|m| m.files[0].role = FileRole::Onnx);
        check("files", &|m| m.files[1].role = FileRole::Onnx);
        check("lineage", &|m| m.lineage.clear());
        check("lineage", &|m| m.lineage[0].base = Digest::ZERO);
        check("context", &|m| m.context = 0);
        check("embedding", &|m| m.embedding = Some(0));
        check("upstream", &|m| {
            m.upstream = Some(UpstreamSource { endpoint: String::new(), model: "m".to_owned() });
        });
    }
}
