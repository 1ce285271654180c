//! Whole models: what they answer, and what they refuse.

#![allow(clippy::unwrap_used)]

mod chats;
mod embeddings;
mod models;
mod oblivious;
mod onnx;
mod processes;
mod protobuf;
mod upstreams;
