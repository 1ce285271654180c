//! What this gatekeeper has seen of the vendors' numbers, in a sealed file: nobody's collateral may be older.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tacit_attest::Seen;

use crate::{
    error::GatekeeperError,
    seal::{Sealer, read_sealed, write_sealed},
};

/// The newest numbers, durable.
#[derive(Clone)]
pub(crate) struct SeenNumbers(Arc<Inner>);

struct Inner {
    path: PathBuf,
    sealer: Sealer,
    present: Mutex<Seen>,
}

impl SeenNumbers {
    /// Reads the file; without one nothing has been seen.
    pub(crate) fn open(path: PathBuf, sealer: Sealer) -> Result<Self, GatekeeperError> {
        let present = match read_sealed(&path, &sealer)? {
            None => Seen::default(),
            Some(plain) => serde_json::from_slice(&plain)
                .map_err(|error| GatekeeperError::Stored { path: path.clone(), reason: error.to_string() })?,
        };
        Ok(Self(Arc::new(Inner { path, sealer, present: Mutex::new(present) })))
    }

    /// What has been seen so far.
    pub(crate) fn present(&self) -> Seen {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds what was seen now; durable on return. Writes a file, so it is not for an async thread.
    pub(crate) fn note(&self, seen: &Seen) -> Result<(), GatekeeperError> {
        let Inner { path, sealer, present } = &*self.0;
        let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = present.merge(seen);
        if merged == *present {
            return Ok(());
        }
        let json = serde_json::to_vec(&merged)
            .map_err(|error| GatekeeperError::Stored { path: path.clone(), reason: error.to_string() })?;
        write_sealed(path, sealer, &json)?;
        *present = merged;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_all_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.sealed");
        let sealer = Sealer::new(&[7; 32], "seen");
        let seen = |json: &str| serde_json::from_str::<Seen>(json).unwrap();
        let numbers = SeenNumbers::open(path.clone(), sealer.clone()).unwrap();
        assert_eq!(numbers.present(), Seen::default());
        numbers.note(&seen(r#"{"a":7,"b":1}"#)).unwrap();
        numbers.note(&seen(r#"{"a":3,"c":2}"#)).unwrap();
        let again = SeenNumbers::open(path.clone(), sealer).unwrap();
        assert_eq!(again.present(), seen(r#"{"a":7,"b":1,"c":2}"#));
        // Another machine's file, or an altered one, is not taken for nothing seen.
        let other = SeenNumbers::open(path, Sealer::new(&[8; 32], "seen"));
        assert!(matches!(other, Err(GatekeeperError::Sealed { .. })));
    }
}
