//! How it goes: what was corrected lately, what is known of others, and what is counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chassis::converge::{Fault, Standing};
use chassis::metrics::Metrics;
use chassis::provision::Known;
use lifecycle::Component;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use tokio::time::Instant;

use crate::plan::{Certificate, Condition};
use crate::restart::plan::Outcome;
use crate::world::Error;

/// Corrections count for this long.
const LATELY: Duration = Duration::from_mins(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// In which trace something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trace {
    trace_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKey {
    component: String,
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// Every state that an object can be counted in.
const STATES: [&str; 7] = ["synced", "pending", "conflict", "denied", "refused", "failed", "orphan"];

/// How it goes with every object. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    propagation: HistogramWithExemplars<Trace>,
    writes: Family<ByResult, Counter>,
    targets: Family<ByState, Gauge>,
    last_success: Gauge,
    corrected: Counter,
    denied: Family<ByReason, Counter>,
    watch_event: Gauge,
    watch_restarts: Family<ByReason, Counter>,
    workload_restarts: Family<ByOutcome, Counter>,
    certificate_ends: Family<ByKey, Gauge>,
    known: Known,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    corrections: BTreeMap<Component, VecDeque<Instant>>,
    woken: BTreeMap<Component, Instant>,
    states: BTreeMap<Component, &'static str>,
    restarts: BTreeMap<Component, Vec<String>>,
    certificates: BTreeMap<Component, BTreeSet<String>>,
}

impl Progress {
    /// Counted in these metrics; `known` says what exists.
    pub fn new(metrics: &Metrics, known: Known) -> Self {
        let inner = Inner {
            // 1 ms to 16 s.
            propagation: HistogramWithExemplars::new(exponential_buckets(0.001, 2.0, 15)),
            writes: Family::default(),
            targets: Family::default(),
            last_success: Gauge::default(),
            corrected: Counter::default(),
            denied: Family::default(),
            watch_event: Gauge::default(),
            watch_restarts: Family::default(),
            workload_restarts: Family::default(),
            certificate_ends: Family::default(),
            known,
            now: Mutex::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "secret_propagation_seconds",
                "From the news that a source changed to the write of what follows it",
                inner.propagation.clone(),
            );
            registry.register(
                "secret_sync",
                "Writes that were tried, by what came of them",
                inner.writes.clone(),
            );
            registry.register(
                "secret_targets",
                "Secrets and ConfigMaps, by how they stand",
                inner.targets.clone(),
            );
            registry.register(
                "secret_last_success_timestamp_seconds",
                "When a Secret or ConfigMap was last found or made as it should be",
                inner.last_success.clone(),
            );
            registry.register(
                "secret_drift_corrected",
                "Changes of others that were undone",
                inner.corrected.clone(),
            );
            registry.register(
                "secret_denied",
                "What the store did not allow, by its reason",
                inner.denied.clone(),
            );
            registry.register(
                "secret_watch_last_event_timestamp_seconds",
                "When a watch last began, told something or ended in its time",
                inner.watch_event.clone(),
            );
            registry.register(
                "secret_watch_restarts",
                "Watches that broke off, by reason",
                inner.watch_restarts.clone(),
            );
            registry.register(
                "secret_workload_restarts",
                "What became of changes for the workloads that use what changed",
                inner.workload_restarts.clone(),
            );
            registry.register(
                "secret_certificate_expiry_timestamp_seconds",
                "When a certificate that was generated expires",
                inner.certificate_ends.clone(),
            );
        });
        Progress(Arc::new(inner))
    }

    /// Something about an object changed just now.
    pub fn woken(&self, object: &Component) {
        self.now().woken.entry(object.clone()).or_insert_with(Instant::now);
    }

    /// A watch lives.
    pub fn heard(&self) {
        self.0.watch_event.set(seconds_since_1970());
    }

    /// A watch broke off.
    pub fn watch_broke(&self, error: &Error) {
        self.0.watch_restarts.get_or_create(&ByReason { reason: reason(error) }).inc();
    }

    /// Whether it is known that a component exists.
    pub(crate) fn is_known(&self, component: &Component) -> bool {
        self.0.known.exists(component)
    }

    /// How the certificates of an object stand.
    pub(crate) fn certificates(&self, object: &Component, certificates: &BTreeMap<String, Certificate>) {
        let by = |key: &String| ByKey { component: object.to_string(), key: key.clone() };
        let mut now = self.now();
        let known = now.certificates.remove(object).unwrap_or_default();
        let mut ends = BTreeSet::new();
        for (key, certificate) in certificates {
            if let Condition::Good { until, .. } = certificate.condition {
                self.0.certificate_ends.get_or_create(&by(key)).set(until);
                ends.insert(key.clone());
            }
        }
        for key in known.difference(&ends) {
            self.0.certificate_ends.remove(&by(key));
        }
        if !ends.is_empty() {
            now.certificates.insert(object.clone(), ends);
        }
    }

    /// How often somebody else's change of an object was corrected lately.
    pub(crate) fn corrections(&self, object: &Component) -> u32 {
        let mut now = self.now();
        let Some(times) = now.corrections.get_mut(object) else { return 0 };
        while times.front().is_some_and(|time| time.elapsed() > LATELY) {
            times.pop_front();
        }
        u32::try_from(times.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn corrected(&self, object: &Component) {
        self.0.corrected.inc();
        self.now().corrections.entry(object.clone()).or_default().push_back(Instant::now());
    }

    /// What a source's change caused was written.
    pub(crate) fn propagated(&self, object: &Component) {
        if let Some(since) = self.now().woken.remove(object) {
            let trace = chassis::telemetry::trace_id().map(|trace_id| Trace { trace_id });
            self.0.propagation.observe(since.elapsed().as_secs_f64(), trace, Some(SystemTime::now()));
        }
    }

    /// What became of a change for a workload.
    pub(crate) fn restarted(&self, outcome: Outcome) {
        self.0.workload_restarts.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc();
    }

    /// What is said from now on of the workloads of a namespace, by the objects that they use.
    pub(crate) fn lag(&self, namespace: &str, says: BTreeMap<Component, Vec<String>>) {
        let mut now = self.now();
        now.restarts.retain(|object, _| object.namespace() != Some(namespace));
        now.restarts.extend(says);
    }

    /// What is said of the workloads that use an object.
    pub(crate) fn lagging(&self, object: &Component) -> Vec<String> {
        self.now().restarts.get(object).cloned().unwrap_or_default()
    }

    pub(crate) fn tried(&self, object: &Component, error: Option<&Error>) {
        let result = match error {
            None => "written",
            Some(error) => {
                self.failed(object, error);
                if error.is_race() { "raced" } else { "failed" }
            }
        };
        self.0.writes.get_or_create(&ByResult { result }).inc();
    }

    pub(crate) fn unseen(&self, object: &Component, error: &Error) {
        self.failed(object, error);
        self.count();
    }

    /// An object is not asked for any more. What was made of it stays, and belongs to nobody.
    pub(crate) fn left(&self, object: &Component) {
        let mut now = self.now();
        match now.states.get_mut(object) {
            Some(state) if *state == "synced" => *state = "orphan",
            _ => drop(now.states.remove(object)),
        }
        now.corrections.remove(object);
        now.woken.remove(object);
        drop(now);
        self.certificates(object, &BTreeMap::new());
        self.count();
    }

    fn failed(&self, object: &Component, error: &Error) {
        let state = match error {
            Error::Kubernetes(kubernetes::Error::Conflict { .. }) => "conflict",
            Error::Kubernetes(kubernetes::Error::Forbidden { .. }) | Error::NotGiven { .. } => "denied",
            error if error.is_transient() => "pending",
            _ => "failed",
        };
        if state == "denied" {
            self.0.denied.get_or_create(&ByReason { reason: reason(error) }).inc();
        }
        self.now().states.insert(object.clone(), state);
    }

    pub(crate) fn stands(&self, object: &Component, standing: &Standing) {
        let state = match standing {
            Standing::Ready { .. } => "synced",
            Standing::Pending(_) | Standing::Reported(_) => "pending",
            Standing::Refused(_) => "refused",
            // The error was judged when it happened.
            Standing::Failed { .. } => return self.count(),
        };
        if state == "synced" {
            self.0.last_success.set(seconds_since_1970());
            self.now().woken.remove(object);
        }
        self.now().states.insert(object.clone(), state);
        self.count();
    }

    fn count(&self) {
        let now = self.now();
        for state in STATES {
            let count = now.states.values().filter(|known| **known == state).count();
            self.0.targets.get_or_create(&ByState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(error: &Error) -> String {
    let code = error.code();
    if code.is_empty() { "Other".to_owned() } else { code }
}

/// Now, as metrics and certificates have it.
pub(crate) fn seconds_since_1970() -> i64 {
    i64::try_from(chassis::clock::now().0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_corrected_counts_for_ten_minutes() {
        let progress = Progress::new(&Metrics::new("secret-syncer"), Known::default());
        let object: Component = "secret/app/db".parse().unwrap();
        for corrected in 1..=5 {
            progress.corrected(&object);
            assert_eq!(progress.corrections(&object), corrected);
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        assert_eq!(progress.corrections(&"secret/app/other".parse().unwrap()), 0);
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(progress.corrections(&object), 5, "the first is ten minutes old");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(progress.corrections(&object), 4, "and one more is corrected again");
        tokio::time::advance(Duration::from_mins(10)).await;
        assert_eq!(progress.corrections(&object), 0);
    }
}
