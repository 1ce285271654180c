//! tacit-api
