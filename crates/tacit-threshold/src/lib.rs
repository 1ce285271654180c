//! tacit-threshold
