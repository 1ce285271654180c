//! Confidential AI from the user's side: a node is verified before the first byte, requests are sealed to it as a whole, and an
//! answer counts when its receipt holds.
//!
//! [`AiClient`] is the way in; [`AiAnswer`] is an answer on its way, [`Proof`] what is known at its end. [`TranscriptStore`] keeps
//! what an exchange can be judged by later, [`audit`] judges a period, and [`proxy`] gives programs that know nothing of this a
//! local endpoint.

mod answer;
pub mod audit;
mod client;
mod error;
mod log;
mod node;
pub mod proxy;
mod request;
mod sealing;
mod store;
mod tls;
mod transport;

pub use answer::{AiAnswer, Proof};
pub use client::{AiClient, AiSettings};
pub use error::AiError;
pub use node::VerifiedNode;
pub use request::{AiRequest, MAX_REQUEST, Method};
pub use store::{Keep, StoredFile, StoredKind, TranscriptStore};
pub use transport::is_node_url;
