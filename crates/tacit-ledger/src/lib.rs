//! tacit-ledger
