#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod aci;
mod bundle;
mod effect;
mod error;
pub mod fuzz;
mod log;
mod note;
mod tile;
mod tree;

pub use bundle::{
    Bundle, BundleEvidence, Code, LogProof, MAX_BUNDLE, Opening, Openings, QuorumConfirmation, SignedCertificate,
    SignedConfirmation, VERSION, query_nonce,
};
pub use effect::{Effect, effects_root};
pub use error::ReceiptError;
pub use log::{Log, Publication};
pub use note::{Checkpoint, log_origin, verifier_key};
pub use tile::{TILE_WIDTH, Tile, TileId, TileKind, TileStore};
pub use tree::{empty_root, leaf_hash, root_of, verify_consistency, verify_inclusion};
