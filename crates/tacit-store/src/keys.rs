use std::collections::BTreeMap;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use tacit_types::FunctionId;
use zeroize::Zeroizing;

use crate::error::StoreError;

/// The `state` keys of one function by key epoch: leaves of its root keys. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct StateKeys {
    epochs: BTreeMap<u64, Zeroizing<[u8; 32]>>,
}

impl StateKeys {
    /// The key of one key epoch.
    pub fn new(key_epoch: u64, key: [u8; 32]) -> Self {
        Self { epochs: BTreeMap::from([(key_epoch, Zeroizing::new(key))]) }
    }

    /// Adds the key of another key epoch, so that commits sealed in it can be opened.
    #[must_use]
    pub fn with(mut self, key_epoch: u64, key: [u8; 32]) -> Self {
        self.epochs.insert(key_epoch, Zeroizing::new(key));
        self
    }

    /// The cipher of one fence: HKDF-SHA256 over the epoch's key, bound to function, key epoch and fence.
    pub(crate) fn cipher(
        &self,
        function: FunctionId,
        key_epoch: u64,
        fence: u64,
    ) -> Result<XChaCha20Poly1305, StoreError> {
        let key = self.epochs.get(&key_epoch).ok_or(StoreError::NoKey(key_epoch))?;
        let mut sealing = Zeroizing::new([0; 32]);
        let (epoch, fence) = (key_epoch.to_be_bytes(), fence.to_be_bytes());
        Hkdf::<Sha256>::new(None, key.as_slice())
            .expand_multi_info(&[b"tacit/state/seal/1", function.as_bytes(), &epoch, &fence], sealing.as_mut_slice())
            .expect("32 bytes are a valid HKDF output length");
        Ok(XChaCha20Poly1305::new(sealing.as_slice().into()))
    }
}
