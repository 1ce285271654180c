//! tacit-worker
