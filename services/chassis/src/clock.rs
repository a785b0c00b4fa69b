//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use lifecycle::Moment;

/// The time now.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
