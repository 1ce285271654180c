#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod abi;
pub mod anvil;
pub mod contracts;
pub mod error;
pub mod functions;
pub mod ledger;
mod nonces;
pub mod policy;
pub mod proof;
pub mod requests;
pub mod workers;
pub mod writer;

pub use anvil::{Anvil, AnvilConfig, AnvilSearch};
pub use contracts::{Addresses, ClusterParameters, code_hashes, deploy_all, predict_addresses};
pub use error::{LedgerError, Refusal};
pub use functions::{FunctionRecord, NewVersion, StateReset};
pub use ledger::{At, BlockRef, Ledger};
pub use policy::LedgerPolicy;
pub use requests::{Acceptance, ContractRequest, Cursor, Question, RequestStatus};
pub use workers::Standing;
pub use writer::{Confirmation, Outcome, Writer};
