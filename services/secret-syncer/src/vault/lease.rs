//! How long a token lives, and when something has to be done about it.

use std::time::Duration;

use tokio::time::Instant;

/// For how long a token is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    since: Instant,
    /// For ever when absent.
    lasts: Option<Duration>,
    /// How long it lasted at first.
    full: Option<Duration>,
    renewable: bool,
}

/// What is to be done about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// It can be lent for longer.
    Renewal,
    /// It can't; it still lives.
    Login,
    /// It is dead.
    Expired,
}

impl Lease {
    /// A lease of so many seconds, 0 for ever, as the API writes it.
    pub(super) fn new(since: Instant, seconds: u64, renewable: bool) -> Lease {
        let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
        Lease { since, lasts, full: lasts, renewable }
    }

    /// Nobody knows.
    pub(super) fn unknown(since: Instant) -> Lease {
        Lease::new(since, 0, false)
    }

    /// What it is after a renewal. One that was not lent for half as long as at first is near the end of what can be lent,
    /// and renewing it would be done ever more often for ever less.
    pub(super) fn renewed(&self, since: Instant, seconds: u64) -> Lease {
        let renewed = Lease::new(since, seconds, self.renewable);
        let short = renewed.lasts.zip(self.full).is_some_and(|(lasts, full)| lasts < full / 2);
        Lease { full: self.full, renewable: self.renewable && !short, ..renewed }
    }

    /// What is to be done now: something from two thirds of its time on, so that a third is left for trying again.
    pub(super) fn due(&self, now: Instant) -> Due {
        let age = now.saturating_duration_since(self.since);
        match self.lasts {
            Some(lasts) if age >= lasts => Due::Expired,
            Some(lasts) if age >= lasts * 2 / 3 && self.renewable => Due::Renewal,
            Some(lasts) if age >= lasts * 2 / 3 => Due::Login,
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn something_is_done_before_a_token_dies(seconds in 1u64..1_000_000, renewable: bool) {
            let start = Instant::now();
            let lease = Lease::new(start, seconds, renewable);
            let at = |part: f64| lease.due(start + Duration::from_secs(seconds).mul_f64(part));
            let wanted = if renewable { Due::Renewal } else { Due::Login };
            prop_assert_eq!([at(0.0), at(0.66), at(0.67), at(0.99)], [Due::Nothing, Due::Nothing, wanted, wanted]);
            prop_assert_eq!([at(1.0), at(2.0)], [Due::Expired, Due::Expired]);
        }

        /// Whatever the server lends, there is an end to renewing.
        #[test]
        fn a_lease_that_only_shrinks_is_not_renewed_for_ever(seconds in 2u64..1_000_000, left in proptest::collection::vec(1u64..1_000_000, 40)) {
            let start = Instant::now();
            let mut lease = Lease::new(start, seconds, true);
            let mut rest = seconds;
            for next in left {
                rest = rest.min(next) * 2 / 3 + 1;
                lease = lease.renewed(start, rest);
            }
            prop_assert!(rest >= seconds / 2 || lease.due(start + Duration::from_secs(rest).mul_f64(0.9)) == Due::Login);
        }
    }

    #[test]
    fn what_is_lent_for_ever_needs_nothing() {
        let start = Instant::now();
        let later = start + Duration::from_hours(24 * 365);
        assert_eq!(Lease::new(start, 0, true).due(later), Due::Nothing);
        assert_eq!(Lease::unknown(start).due(later), Due::Nothing);
        assert_eq!(Lease::new(start, 60, true).renewed(start, 0).due(later), Due::Nothing);
    }
}
