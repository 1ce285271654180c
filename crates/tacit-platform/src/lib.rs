//! tacit-platform
