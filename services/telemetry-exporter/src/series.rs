//! Prometheus series, computed from the fold at each scrape: a restart of the exporter changes none of them.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle::Phase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::fold::Fold;

/// What the exporter knows, shared between the reader of the topic, the scrape and gRPC.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Fold>>);

impl Shared {
    /// Looks at, or changes, what is known.
    pub fn with<T>(&self, f: impl FnOnce(&mut Fold) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Shared {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(series) = self.with(|fold| Series::of(fold)) else { return Ok(()) };
        for gauge in &series.gauges {
            let mut family = encoder.encode_descriptor(
                gauge.name,
                gauge.help,
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?;
            for (labels, value) in &gauge.points {
                point(&mut family, labels, &ConstGauge::new(*value))?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "component_failures",
            "How often the component failed.",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for (labels, value) in &series.failures {
            point(&mut family, labels, &ConstCounter::new(*value))?;
        }
        Ok(())
    }
}

fn point(family: &mut MetricEncoder<'_>, labels: &Labels, value: &impl EncodeMetric) -> Result<(), Error> {
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    value.encode(family.encode_family(&labels)?)
}

struct Gauge {
    name: &'static str,
    help: &'static str,
    points: Vec<(Labels, f64)>,
}

struct Series {
    gauges: Vec<Gauge>,
    failures: Vec<(Labels, u64)>,
}

impl Series {
    fn of(fold: &Fold) -> Option<Series> {
        let environment = fold.identity()?.name.clone();
        let labels = |component: &lifecycle::Component| {
            vec![("environment", environment.clone()), ("component", component.to_string())]
        };
        let mut phase = Vec::new();
        for event in fold.roster().iter() {
            for each in Phase::ALL {
                let mut labels = labels(&event.component);
                labels.push(("phase", each.as_str().to_owned()));
                phase.push((labels, f64::from(u8::from(each == event.phase))));
            }
        }
        let story = fold.story(fold.latest());
        let entries = story.as_ref().map(|story| story.entries.as_slice()).unwrap_or_default();
        let each = |value: &dyn Fn(&lifecycle::Entry) -> Option<f64>| -> Vec<(Labels, f64)> {
            entries.iter().filter_map(|entry| Some((labels(&entry.component), value(entry)?))).collect()
        };
        let started = story.as_ref().map(|story| story.started).unwrap_or_default();
        let time_to_ready = each(&|entry| Some(entry.ready?.since(started).as_secs_f64()));
        let waited = each(&|entry| Some(entry.waited.as_secs_f64()));
        let attempts = each(&|entry| Some(f64::from(entry.attempts)));
        let environment_labels = || vec![("environment", environment.clone())];
        let one = |value: f64| vec![(environment_labels(), value)];
        let duration = story.as_ref().map_or(Duration::ZERO, |story| story.duration);
        let complete = story.as_ref().is_some_and(|story| story.complete);
        #[allow(clippy::cast_precision_loss, reason = "generations stay far below 2^52")]
        let generation = fold.latest() as f64;
        let gauge = |name, help, points| Gauge { name, help, points };
        Some(Series {
            gauges: vec![
                gauge("component_phase", "1 for the phase the component is in, 0 for the others.", phase),
                gauge(
                    "component_time_to_ready_seconds",
                    "From the start of the latest bring-up to the component's first becoming ready.",
                    time_to_ready,
                ),
                gauge(
                    "component_wait_seconds",
                    "How long the component waited for others in the latest bring-up.",
                    waited,
                ),
                gauge(
                    "component_attempts",
                    "Tries of the component's work in the latest bring-up.",
                    attempts,
                ),
                gauge("environment_generation", "The latest bring-up.", one(generation)),
                gauge(
                    "environment_time_to_ready_seconds",
                    "From the start of the latest bring-up to the last component's becoming ready.",
                    one(duration.as_secs_f64()),
                ),
                gauge(
                    "environment_complete",
                    "1 when every module became ready in the latest bring-up.",
                    one(f64::from(u8::from(complete))),
                ),
            ],
            failures: fold.failures().map(|(component, count)| (labels(component), count)).collect(),
        })
    }
}
