//! tacit-gatekeeper
