//! tacit-gateway
