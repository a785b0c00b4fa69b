//! Chaos: services and stand-ins are killed at random, from a seed, so that a run can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use super::cast::Cast;

/// How often somebody is killed, in milliseconds.
const EVERY_MS: std::ops::Range<u64> = 300..1200;
/// How many are killed. Then there is peace: an environment in which somebody is always missing is never all ready.
const KILLS: usize = 25;
/// The longest a stand-in takes to start, in milliseconds.
const DELAY_MS: u64 = 1500;

/// Randomness from a seed.
pub(super) struct Chaos(StdRng);

impl Chaos {
    /// The same seed makes the same choices.
    pub(super) fn new(seed: u64) -> Chaos {
        Chaos(StdRng::seed_from_u64(seed))
    }

    /// How long a stand-in's start takes.
    pub(super) fn delay(&mut self) -> Duration {
        Duration::from_millis(self.0.random_range(0..DELAY_MS))
    }

    /// Kills one player after another. Gives the names to `told`.
    pub(super) async fn reign(&mut self, cast: &Cast, mut told: impl FnMut(&str)) {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(self.0.random_range(EVERY_MS))).await;
            let Some((name, player)) = cast.players().choose(&mut self.0) else { return };
            told(name);
            // One that has just died of itself is started again all the same.
            let _ = player.kill().await;
        }
    }
}
