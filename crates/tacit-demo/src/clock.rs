//! The clock of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tacit_types::UnixTime;

/// Now.
pub fn now() -> Result<UnixTime> {
    Ok(UnixTime(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()))
}
