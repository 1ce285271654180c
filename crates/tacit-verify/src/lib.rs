//! tacit-verify
