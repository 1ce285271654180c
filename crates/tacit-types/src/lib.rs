//! tacit-types
