//! Checkpoints (C2SP tlog-checkpoint) as signed notes (C2SP signed-note) with one Ed25519 signature.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tacit_types::{
    Address, ClusterId, Digest,
    signature::{NoteKey, verify_ed25519},
};

use crate::ReceiptError;

/// Longest signed note that is read, in bytes.
const MAX_NOTE: usize = 1024;
/// Signature type of Ed25519 in a note's key.
const ED25519_TYPE: u8 = 1;

/// Size and root of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, see [`log_origin`]; also the name of its key.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// The name of a worker's log: `tacit/<cluster id>/<worker>`.
pub fn log_origin(cluster: ClusterId, worker: Address) -> String {
    format!("tacit/{cluster}/{worker}")
}

/// The key in the text form that note verifiers take: `name+hash+key`.
pub fn verifier_key(origin: &str, public_key: &[u8; 32]) -> String {
    let key = [&[ED25519_TYPE], public_key.as_slice()].concat();
    format!("{origin}+{}+{}", hex::encode(key_hash(origin, public_key)), STANDARD.encode(key))
}

fn key_hash(origin: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(origin.as_bytes());
    hash.update([b'\n', ED25519_TYPE]);
    hash.update(public_key);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

impl Checkpoint {
    /// The text that is signed; it ends with a line break.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    pub fn sign(&self, key: &NoteKey) -> String {
        let body = self.body();
        let signature = [&key_hash(&self.origin, &key.public_key())[..], &key.sign(body.as_bytes())].concat();
        format!("{body}\n\u{2014} {} {}\n", self.origin, STANDARD.encode(signature))
    }

    /// Reads a signed note of the log `origin`, and checks its one signature by `public_key`. Other spellings of the same
    /// note, further signatures and extension lines are refused.
    ///
    /// # Errors
    /// [`ReceiptError::Note`], [`ReceiptError::Origin`] or [`ReceiptError::NoteSignature`].
    pub fn verify(note: &str, origin: &str, public_key: &[u8; 32]) -> Result<Self, ReceiptError> {
        if note.len() > MAX_NOTE {
            return Err(ReceiptError::Note("too long"));
        }
        let (body, signature) = note.split_once("\n\n").ok_or(ReceiptError::Note("no signature"))?;
        let mut lines = body.split('\n');
        let mut line = |what| lines.next().ok_or(ReceiptError::Note(what));
        let (found, size, root) = (line("origin")?, line("size")?, line("root")?);
        if lines.next().is_some() {
            return Err(ReceiptError::Note("extension line"));
        }
        if found != origin {
            return Err(ReceiptError::Origin);
        }
        let size: u64 = size.parse().map_err(|_| ReceiptError::Note("size"))?;
        let root = STANDARD.decode(root).map_err(|_| ReceiptError::Note("root"))?;
        let root = Digest::try_from(root.as_slice()).map_err(|_| ReceiptError::Note("root"))?;
        let checkpoint = Self { origin: origin.to_owned(), size, root };
        if checkpoint.body().strip_suffix('\n') != Some(body) {
            return Err(ReceiptError::Note("not in canonical form"));
        }
        let line = signature
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or(ReceiptError::Note("signature line"))?;
        let (name, encoded) = line.split_once(' ').ok_or(ReceiptError::Note("signature line"))?;
        let bytes = STANDARD.decode(encoded).map_err(|_| ReceiptError::Note("signature"))?;
        let (hash, signature) = bytes.split_first_chunk::<4>().ok_or(ReceiptError::Note("signature"))?;
        let signature: &[u8; 64] = signature.try_into().map_err(|_| ReceiptError::Note("signature"))?;
        if name != origin || *hash != key_hash(origin, public_key) {
            return Err(ReceiptError::NoteSignature);
        }
        verify_ed25519(public_key, checkpoint.body().as_bytes(), signature).map_err(|_| ReceiptError::NoteSignature)?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_altered_byte_of_a_note_is_refused() {
        let key = NoteKey::from_bytes(&[5; 32]);
        let checkpoint = Checkpoint { origin: "tacit/0xaa/0xbb".into(), size: 20_852_163, root: Digest::from([9; 32]) };
        let note = checkpoint.sign(&key);
        assert_eq!(Checkpoint::verify(&note, "tacit/0xaa/0xbb", &key.public_key()).unwrap(), checkpoint);
        let mut refused = 0;
        for position in 0..note.len() {
            for byte in 0..=255u8 {
                let mut bytes = note.clone().into_bytes();
                if bytes[position] == byte {
                    continue;
                }
                bytes[position] = byte;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert!(Checkpoint::verify(&text, "tacit/0xaa/0xbb", &key.public_key()).is_err(), "{position} {byte}");
                refused += 1;
            }
        }
        assert!(refused > 10_000);
    }

    #[test]
    fn other_keys_and_further_lines_are_refused() {
        let key = NoteKey::from_bytes(&[5; 32]);
        let checkpoint = Checkpoint { origin: "o".into(), size: 1, root: Digest::ZERO };
        let note = checkpoint.sign(&key);
        let other = NoteKey::from_bytes(&[6; 32]);
        assert!(matches!(Checkpoint::verify(&note, "o", &other.public_key()), Err(ReceiptError::NoteSignature)));
        assert!(matches!(Checkpoint::verify(&note, "p", &key.public_key()), Err(ReceiptError::Origin)));
        let twice = format!("{note}{}", note.lines().last().unwrap());
        assert!(Checkpoint::verify(&twice, "o", &key.public_key()).is_err());
    }
}
