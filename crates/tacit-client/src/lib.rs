//! tacit-client
