//! Where a model's file is fetched.

use std::{path::PathBuf, str::FromStr};

use url::Url;

/// Where a model's file is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    Path(PathBuf),
    /// A file on a server.
    Url(Url),
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is not `hf:OWNER/NAME@REVISION:FILE`.
    #[error("a model of the hub is written hf:OWNER/NAME@REVISION:FILE")]
    Hub,
    /// It is not an address of a server, or holds a password.
    #[error("this is no http(s) address, or it holds a password")]
    Url,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(hub) = text.strip_prefix("hf:") {
            return hub_url(hub, "https://huggingface.co").map(Self::Url);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).map_err(|_| SourceError::Url)?;
            let is_plain = url.username().is_empty() && url.password().is_none() && url.host().is_some();
            return if is_plain { Ok(Self::Url(url)) } else { Err(SourceError::Url) };
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

impl Source {
    /// How the manifest names it: a path by its last part alone, an address without its query, which may hold a secret.
    pub fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Url(url) => {
                let mut url = url.clone();
                url.set_query(None);
                url.set_fragment(None);
                url.to_string()
            }
        }
    }
}

/// The address of `OWNER/NAME@REVISION:FILE` on a hub.
fn hub_url(text: &str, base: &str) -> Result<Url, SourceError> {
    let (repository, rest) = text.split_once('@').ok_or(SourceError::Hub)?;
    let (revision, file) = rest.split_once(':').ok_or(SourceError::Hub)?;
    let (owner, name) = repository.split_once('/').ok_or(SourceError::Hub)?;
    let is_word = |text: &str| {
        !text.is_empty()
            && !matches!(text, "." | "..")
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if ![owner, name, revision].into_iter().all(is_word) || !file.split('/').all(is_word) {
        return Err(SourceError::Hub);
    }
    Url::parse(&format!("{base}/{owner}/{name}/resolve/{revision}/{file}")).map_err(|_| SourceError::Hub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let url = |text: &str| Source::Url(Url::parse(text).unwrap());
        let check = |text: &str, expected: Result<Source, SourceError>| {
            assert_eq!(text.parse::<Source>(), expected, "{text}");
        };
        check("dir/model.gguf", Ok(Source::Path("dir/model.gguf".into())));
        check("https://example.org/m.gguf?x=1", Ok(url("https://example.org/m.gguf?x=1")));
        check(
            "hf:HuggingFaceTB/SmolLM2@0a1b2c:gguf/m.gguf",
            Ok(url("https://huggingface.co/HuggingFaceTB/SmolLM2/resolve/0a1b2c/gguf/m.gguf")),
        );
        for text in [
            "hf:a/b",
            "hf:a/b@c",
            "hf:a@c:d",
            "hf:a/b@c:../d",
            "hf:a/b@..:d",
            "hf:a/b@c:",
            "hf:a/b@c:d e",
            "hf:a/b@c/d:e",
        ] {
            check(text, Err(SourceError::Hub));
        }
        check("https://user:secret@example.org/m", Err(SourceError::Url));
        check("http://", Err(SourceError::Url));
    }

    #[test]
    fn a_manifest_names_no_path_and_no_query() {
        let shown = |text: &str| text.parse::<Source>().unwrap().shown();
        assert_eq!(shown("/home/anne/model.gguf"), "model.gguf");
        assert_eq!(shown("https://example.org/m.gguf?token=secret#x"), "https://example.org/m.gguf");
    }
}
