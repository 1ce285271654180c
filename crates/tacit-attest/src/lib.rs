//! tacit-attest
