//! Lifecycle events: the news that a component reached a phase, with the evidence for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::Component;

/// Where a component is in its life: `waiting → working → ready ⇄ degraded`, `failed`, `removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Something it needs is not ready.
    Waiting,
    /// It is being made, or it is starting.
    Working,
    /// Its probe passed.
    Ready,
    /// It was ready; its probe fails now.
    Degraded,
    /// It will not become ready by itself.
    Failed,
    /// No document declares it any more.
    Removed,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Phase; 6] =
        [Phase::Waiting, Phase::Working, Phase::Ready, Phase::Degraded, Phase::Failed, Phase::Removed];

    /// The phase's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Working => "working",
            Phase::Ready => "ready",
            Phase::Degraded => "degraded",
            Phase::Failed => "failed",
            Phase::Removed => "removed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z. This crate has no clock: callers bring the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` to `self`; zero when clocks disagree about which came first.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What the last probe saw. Never a secret value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The level reached, for example `writable`.
    pub level: String,
    /// What identifies this very instance, for example `system_identifier` and `started`.
    pub incarnation: BTreeMap<String, String>,
    /// How long the probe took.
    pub latency: Duration,
    /// The error in the peer's own words; empty when the probe passed.
    pub error: String,
    /// The error's code as the peer gives it, for example an SQLSTATE.
    pub error_code: String,
}

impl Evidence {
    /// Evidence of a probe that passed at `level`.
    pub fn level(level: impl Into<String>) -> Self {
        Evidence { level: level.into(), ..Evidence::default() }
    }

    /// The same evidence with one more identifying fact.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.incarnation.insert(key.into(), value.into());
        self
    }
}

/// The news that a component reached a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The environment's uid.
    pub environment: Uuid,
    /// What reached the phase.
    pub component: Component,
    /// The phase it reached.
    pub phase: Phase,
    /// When it entered this phase.
    pub since: Moment,
    /// Which bring-up this belongs to; 0 when there is no hub.
    pub generation: u64,
    /// What was seen.
    pub evidence: Evidence,
    /// Why, for people.
    pub reason: String,
    /// Tries so far, cumulative over repeated announcements.
    pub attempts: u32,
    /// Who says so: `<service>/<instance>`.
    pub source: String,
    /// When it was said; differs from `since` when an announcement is repeated.
    pub time: Moment,
}

/// The namespace of event ids, itself a version 5 UUID of the DNS name `lifecycle.rollcall`.
const EVENT_IDS: Uuid = Uuid::from_u128(0x8024_7668_24ad_521b_a930_1beb_2046_ca99);

impl Event {
    /// The event's id, a version 5 UUID (RFC 9562 §5.5): the same news has the same id however often it is told.
    pub fn id(&self) -> Uuid {
        let name = format!(
            "{}\0{}\0{}\0{}\0{}",
            self.environment, self.component, self.generation, self.phase, self.since.0
        );
        Uuid::new_v5(&EVENT_IDS, name.as_bytes())
    }

    /// The record key: compaction keeps the last record of each phase of each generation of each component.
    pub fn key(&self) -> String {
        format!("{}@{}#{}", self.component, self.generation, self.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            environment: Uuid::from_u128(7),
            component: Component::new(crate::Kind::Database, "registry"),
            phase: Phase::Ready,
            since: Moment(1_000),
            generation: 3,
            evidence: Evidence::level("writable"),
            reason: String::new(),
            attempts: 1,
            source: "postgres-init/1".to_owned(),
            time: Moment(1_000),
        }
    }

    #[test]
    fn telling_the_same_news_again_keeps_its_id() {
        let again = Event { time: Moment(9_000), attempts: 4, ..event() };
        assert_eq!(again.id(), event().id());
        assert_ne!(Event { since: Moment(1_001), ..event() }.id(), event().id());
    }

    #[test]
    fn the_key_names_component_generation_and_phase() {
        assert_eq!(event().key(), "database/registry@3#ready");
    }
}
