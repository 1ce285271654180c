//! Where the parts of a function's version are: the `uri` that its owner writes into the registry.

use tacit_types::Digest;

/// SHA-256 addresses of a version's parts: `tacit-blobs:module=0x…,manifest=0x…[,map=0x…]`.
///
/// The registry's code hash and manifest hash decide what the parts must be; this only says where to fetch them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUri {
    /// The module.
    pub module: Digest,
    /// The canonical manifest.
    pub manifest: Digest,
    /// The module's source map.
    pub map: Option<Digest>,
}

/// Why a text is not a [`BlobUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form tacit-blobs:module=0x…,manifest=0x…[,map=0x…]")]
pub struct BlobUriError;

const SCHEME: &str = "tacit-blobs:";

impl std::fmt::Display for BlobUri {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{SCHEME}module={},manifest={}", self.module, self.manifest)?;
        match self.map {
            Some(map) => write!(formatter, ",map={map}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for BlobUri {
    type Err = BlobUriError;

    fn from_str(text: &str) -> Result<Self, BlobUriError> {
        let mut parts = text.strip_prefix(SCHEME).ok_or(BlobUriError)?.split(',');
        let mut next = |name: &str| -> Result<Option<Digest>, BlobUriError> {
            let Some(part) = parts.next() else { return Ok(None) };
            let digest = part.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(BlobUriError)?;
            digest.parse().map(Some).map_err(|_| BlobUriError)
        };
        let module = next("module")?.ok_or(BlobUriError)?;
        let manifest = next("manifest")?.ok_or(BlobUriError)?;
        let map = next("map")?;
        if parts.next().is_some() {
            return Err(BlobUriError);
        }
        Ok(Self { module, manifest, map })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_reads_back_and_nothing_else_is_read() {
        let both = BlobUri { module: [1; 32].into(), manifest: [2; 32].into(), map: None };
        assert_eq!(both.to_string().parse(), Ok(both));
        let three = BlobUri { map: Some([3; 32].into()), ..both };
        assert_eq!(three.to_string().parse(), Ok(three));
        let check = |text: &str| assert_eq!(text.parse::<BlobUri>(), Err(BlobUriError), "{text}");
        check("");
        check("ipfs://x");
        check("tacit-blobs:");
        check(&format!("tacit-blobs:module={}", both.module));
        check(&format!("{three},more=1"));
        check(&both.to_string().replace("manifest", "map"));
    }
}
