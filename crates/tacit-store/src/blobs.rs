use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};
use tacit_types::{Digest, formats::sha256};

use crate::error::{StoreError, is_disk_full};

/// Content-addressed public blobs: modules and manifests, named by SHA-256.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    limit: usize,
}

impl Blobs {
    /// Blobs of at most `limit` bytes in `store`.
    pub fn new(store: Arc<dyn ObjectStore>, limit: usize) -> Self {
        Self { store, limit }
    }

    /// Most bytes of a blob.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Stores a blob and says its digest.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::DiskFull`], [`StoreError::Backend`].
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        self.check(bytes.len() as u64)?;
        let digest = sha256(&bytes);
        match self.store.put_opts(&path(digest), bytes.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(digest),
            Err(error) if is_disk_full(&error) => Err(StoreError::DiskFull(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches a blob and checks it against its digest; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Blob`] for other bytes than the digest says, [`StoreError::TooLarge`], [`StoreError::Backend`].
    pub async fn fetch(&self, digest: Digest) -> Result<Option<Bytes>, StoreError> {
        let object = match self.store.get(&path(digest)).await {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.check(object.meta.size)?;
        let bytes = object.bytes().await?;
        if sha256(&bytes) == digest { Ok(Some(bytes)) } else { Err(StoreError::Blob(digest)) }
    }

    fn check(&self, size: u64) -> Result<(), StoreError> {
        let found = usize::try_from(size).unwrap_or(usize::MAX);
        if found > self.limit { Err(StoreError::TooLarge { what: "a blob", limit: self.limit, found }) } else { Ok(()) }
    }
}

fn path(digest: Digest) -> Path {
    Path::from(format!("blobs/{digest}"))
}
