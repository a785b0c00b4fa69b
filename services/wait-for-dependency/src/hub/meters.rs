//! What the hub counts.

use std::time::Duration;

use chassis::metrics::Metrics;
use lifecycle::{Component, Phase};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

type Labels = Vec<(&'static str, String)>;

/// The hub's meters.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    looks: Family<Labels, Counter>,
    watchers: Gauge,
    phases: Family<Labels, Gauge>,
}

/// From what a local look takes up to a look's deadline.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 3.0])
}

impl Meters {
    /// Meters that are read from `metrics`.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let durations: Family<Labels, Histogram, fn() -> Histogram> = Family::new_with_constructor(seconds);
        let meters = Meters {
            durations,
            looks: Family::default(),
            watchers: Gauge::default(),
            phases: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("probe_duration_seconds", "How long looks took", meters.durations.clone());
            registry.register("probes", "Looks, by what they saw", meters.looks.clone());
            registry.register("watchers", "Streams that watch", meters.watchers.clone());
            registry.register("component_phase", "1 for the phase a component is in", meters.phases.clone());
        });
        meters
    }

    /// A look ended.
    pub(super) fn looked(&self, component: &Component, passed: bool, took: Duration) {
        let component = component.to_string();
        let result = if passed { "passed" } else { "not_yet" };
        self.durations.get_or_create(&vec![("component", component.clone())]).observe(took.as_secs_f64());
        self.looks.get_or_create(&vec![("component", component), ("result", result.to_owned())]).inc();
    }

    /// So many watch.
    pub(super) fn watchers(&self, count: usize) {
        self.watchers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A component is in this phase.
    pub(super) fn phase(&self, component: &Component, phase: Option<Phase>) {
        for known in Phase::ALL {
            let labels = vec![("component", component.to_string()), ("phase", known.to_string())];
            if phase == Some(known) {
                self.phases.get_or_create(&labels).set(1);
            } else {
                self.phases.remove(&labels);
            }
        }
    }
}
