//! tacit-envelope
