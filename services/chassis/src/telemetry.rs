//! Logs and traces of one process, and the trace context that travels with calls and events.
//!
//! Logs go to standard error. Spans are exported over OTLP only when an endpoint is set, but trace ids exist always: a
//! process without an endpoint still hands the caller's trace on. The W3C format is used directly, not through
//! OpenTelemetry's global propagator, so nothing depends on who initialised what first.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::propagation::{Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::settings::{LogFormat, Settings};

mod json;

/// How long the last export may take: a process that is asked to stop must not hang on a dead collector.
const FLUSH: Duration = Duration::from_secs(3);

/// Keeps the exporter until [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logs and traces of this process. Needs a tokio runtime. A second call in one process (tests) keeps what the
/// first one installed.
pub fn init(settings: &Settings, service: &str) -> Telemetry {
    let (provider, unexported) = provider(settings, service);
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("rollcall")).with_location(false);
    let as_json = match settings.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if as_json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .map_event_format(json::WithTraceIds)
            .boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    // `Settings` has checked the filter; a filter made by hand that is wrong logs errors only.
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_default();
    let _ = tracing_subscriber::registry().with(filter).with(traces).with(lines).try_init();
    if let Some(error) = unexported {
        tracing::warn!(error, endpoint = settings.otlp, "traces are not exported");
    }
    Telemetry { provider }
}

fn provider(settings: &Settings, service: &str) -> (SdkTracerProvider, Option<String>) {
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(opentelemetry::KeyValue::new("service.instance.id", settings.instance.clone()))
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &settings.otlp else {
        return (builder.build(), None);
    };
    match SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(FLUSH).build() {
        Ok(exporter) => (builder.with_batch_exporter(exporter).build(), None),
        Err(error) => (builder.build(), Some(error.to_string())),
    }
}

impl Telemetry {
    /// Exports what is left, within a few seconds.
    pub async fn shutdown(self) {
        // The SDK's shutdown blocks on a thread that needs this very runtime to send: on the runtime's own thread it
        // would wait for itself.
        let flush = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH));
        let _ = tokio::time::timeout(FLUSH, flush).await;
    }
}

struct Setter<F>(F);

impl<F: FnMut(&str, String)> Injector for Setter<F> {
    fn set(&mut self, key: &str, value: String) {
        (self.0)(key, value);
    }
}

/// Hands the current span's trace context to `set`, header by header; nothing when there is no trace.
pub fn inject(set: impl FnMut(&str, String)) {
    inject_from(&Span::current(), set);
}

/// Hands a span's trace context to `set`, header by header.
pub fn inject_from(span: &Span, set: impl FnMut(&str, String)) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Setter(set));
}

/// Reads a trace context through `get`, header by header. The context is empty when the headers are missing or wrong.
pub fn extract(get: impl Fn(&str) -> Option<String>) -> Context {
    let headers: HashMap<String, String> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), get(name)?)))
        .collect();
    // Onto an empty context: what happens to be current here is not the sender's.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
}

/// The current span's W3C `traceparent`, when it has one.
pub fn traceparent() -> Option<String> {
    let mut found = None;
    inject(|key, value| {
        if key == "traceparent" {
            found = Some(value);
        }
    });
    found.filter(|value| !value.is_empty())
}

/// The id of the trace that the current span belongs to, as W3C writes it: 32 hexadecimal digits.
pub fn trace_id() -> Option<String> {
    Some(traceparent()?.split('-').nth(1)?.to_owned())
}

/// Makes a new span the child of `traceparent`. Call it before the span is entered: later has no effect.
pub fn continue_from(span: &Span, traceparent: &str) {
    let parent = extract(|name| (name == "traceparent").then(|| traceparent.to_owned()));
    set_parent(span, parent);
}

/// Makes a new span the child of what [`extract`] found.
pub fn set_parent(span: &Span, parent: Context) {
    // It fails without a subscriber and for a span that is filtered out: then there is nothing to continue.
    let _ = span.set_parent(parent);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// A subscriber with trace ids and no output.
    pub(crate) fn subscriber() -> impl tracing::Subscriber + Send + Sync {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer))
    }

    #[test]
    fn a_span_continues_the_callers_trace() {
        let _subscriber = tracing::subscriber::set_default(subscriber());
        let span = tracing::info_span!("continued");
        continue_from(&span, PARENT);
        let own = span.in_scope(traceparent).unwrap();
        assert!(own.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{own}");
        assert_ne!(own, PARENT, "it is a span of its own");
    }

    #[test]
    fn nonsense_begins_a_trace_of_its_own() {
        let _subscriber = tracing::subscriber::set_default(subscriber());
        for nonsense in ["", "00-xyz", "00-00000000000000000000000000000000-0000000000000000-01"] {
            let span = tracing::info_span!("own");
            continue_from(&span, nonsense);
            assert!(span.in_scope(traceparent).is_some(), "{nonsense:?}");
        }
    }

    #[test]
    fn without_a_span_there_is_nothing_to_hand_on() {
        let _subscriber = tracing::subscriber::set_default(subscriber());
        assert_eq!(traceparent(), None);
    }
}
