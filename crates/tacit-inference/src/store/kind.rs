//! What a file is, by its content, and what it says about itself.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use tacit_types::{Digest, formats::sha256};

use super::{NewModel, StoreError};
use crate::{
    gguf::{self, Gguf},
    manifest::{FileRole, MODEL_VERSION, ModelFile, ModelManifest},
    onnx::{self, Header},
};

/// What stands for a licence that the file does not name.
const UNKNOWN_LICENCE: &str = "LicenseRef-Unknown";

/// A model's file, by its header.
pub(super) enum Kind {
    Gguf(Gguf),
    Onnx(Header),
}

impl Kind {
    /// Reads the header of a file of `size` bytes. A file that is neither is no GGUF file.
    pub(super) fn read(path: &Path, size: u64) -> Result<Self, StoreError> {
        let failed = |error| StoreError::file("read", path, error);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        if file.fill_buf().map_err(failed)?.first().is_some_and(|byte| onnx::may_begin(*byte)) {
            return Ok(Self::Onnx(onnx::read(file, size)?));
        }
        let header = gguf::read(file, size)?;
        header.check_model()?;
        Ok(Self::Gguf(header))
    }

    /// What the model calls itself.
    pub(super) fn own_name(&self) -> Option<&str> {
        match self {
            Self::Gguf(header) => header.text("general.name"),
            Self::Onnx(_) => None,
        }
    }

    /// The manifest of the model.
    pub(super) fn describe(
        &self,
        name: String,
        model: &NewModel,
        sha256: Digest,
        size: u64,
        converted_from: Option<Digest>,
    ) -> ModelManifest {
        let (role, licence) = match self {
            Self::Gguf(header) => (FileRole::Weights, header.text("general.license")),
            Self::Onnx(header) => (FileRole::Onnx, header.licence.as_deref()),
        };
        let licence = model.licence.clone().or_else(|| licence.map(spdx));
        let mut manifest = ModelManifest {
            version: MODEL_VERSION.to_owned(),
            name,
            licence: licence.unwrap_or_else(|| UNKNOWN_LICENCE.to_owned()),
            source: model.source.shown(),
            files: vec![ModelFile { role, sha256, size }],
            template: None,
            converted_from,
            lineage: Vec::new(),
            context: 1,
            embedding: None,
            upstream: None,
        };
        if let Self::Gguf(header) = self {
            describe_text(&mut manifest, header);
        }
        manifest
    }
}

/// What only the header of a model of text says.
fn describe_text(manifest: &mut ModelManifest, header: &Gguf) {
    let number = |key: &str| header.number(&header.of_architecture(key)).and_then(|number| u32::try_from(number).ok());
    manifest.template = header.text("tokenizer.chat_template").map(|template| sha256(template.as_bytes()));
    manifest.context = number("context_length").unwrap_or(1);
    manifest.embedding = header.is_embedding().then(|| number("embedding_length")).flatten();
}

/// Licences in model files are often written in small letters.
fn spdx(written: &str) -> String {
    const KNOWN: [&str; 6] = ["Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"];
    KNOWN
        .iter()
        .find(|known| known.eq_ignore_ascii_case(written))
        .map_or_else(|| written.to_owned(), ToString::to_string)
}
