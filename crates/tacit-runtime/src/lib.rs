//! tacit-runtime
