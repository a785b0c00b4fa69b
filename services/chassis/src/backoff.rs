//! Backoff with jitter, for everything that is tried again.

use std::time::Duration;

use rand::RngExt;

/// Growing delays with jitter: each is random between half and all of a limit that grows by the factor 1.6 from `base`
/// to `cap` ("equal jitter" of the AWS architecture blog's "Exponential Backoff And Jitter").
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    limit: Duration,
}

impl Backoff {
    /// Delays that grow from `base` to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Backoff { base, cap, limit: base.min(cap) }
    }

    /// What a waiter uses before it hears from anybody: 100 ms growing to 1 s (design §2).
    pub fn probing() -> Self {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(1))
    }

    /// What a client uses to find a lost peer again: 100 ms growing to 5 s (design §2).
    pub fn reconnecting() -> Self {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.limit.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.limit = self.limit.mul_f64(1.6).min(self.cap);
        delay
    }

    /// Begins again at `base`: something worked.
    pub fn reset(&mut self) {
        self.limit = self.base.min(self.cap);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_within_half_the_base_and_the_cap(base in 1u64..1_000, cap in 1u64..10_000, steps in 1usize..40) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let mut backoff = Backoff::new(base, cap);
            for _ in 0..steps {
                let delay = backoff.next_delay();
                prop_assert!(delay <= cap);
                prop_assert!(delay + Duration::from_nanos(1) >= base.min(cap) / 2);
            }
        }
    }

    #[test]
    fn it_reaches_the_cap_and_begins_again_after_a_reset() {
        let mut backoff = Backoff::probing();
        for _ in 0..20 {
            backoff.next_delay();
        }
        assert!(backoff.next_delay() >= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
