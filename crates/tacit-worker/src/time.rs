//! The process's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tacit_types::UnixTime;

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn now() -> UnixTime {
    UnixTime(since_epoch().as_secs())
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}
