#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod collateral;
mod error;
mod tls;

pub use collateral::{CollateralCache, CollateralSource, Endpoints, Update};
pub use error::PeerError;
pub use tls::{Identity, NewKey, Peer, Peers, Refused, STATEMENT_OID, Trust, client_config, server_config};
