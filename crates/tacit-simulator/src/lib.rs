//! tacit-simulator
