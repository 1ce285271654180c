//! tacit-receipt
