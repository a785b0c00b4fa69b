//! JSON log lines that carry the trace they belong to, so that a log can be found from a trace and the reverse.

use std::fmt;

use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber, dispatcher};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The subscriber's JSON with `trace_id` and `span_id` added.
pub(super) struct WithTraceIds(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTraceIds
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<Json>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let span = ctx.lookup_current();
        let trace = span.and_then(|span| dispatcher::get_default(|d| get_otel_context(&span.id(), d)));
        let Some(trace) = trace.filter(|trace| trace.span().span_context().is_valid()) else {
            return self.0.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        // The line is one object: open it again at its last brace.
        let open = line.trim_end().strip_suffix('}').unwrap_or(&line);
        let (span, comma) = (trace.span(), if open.len() > 1 { "," } else { "" });
        let ids = span.span_context();
        writeln!(writer, r#"{open}{comma}"trace_id":"{}","span_id":"{}"}}"#, ids.trace_id(), ids.span_id())
    }
}
