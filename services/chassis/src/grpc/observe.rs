//! How long a call took and how it ended, also when it is a stream or its caller went away.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: String,
    code: String,
}

/// `rollcall_rpc_server_duration_seconds`, by method and code.
#[derive(Debug, Clone)]
pub(super) struct Durations(Family<Labels, Histogram, fn() -> Histogram>);

impl Durations {
    pub(super) fn new(metrics: &Metrics) -> Self {
        // From what a status takes to what a watch lasts.
        let buckets = || Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0]);
        let durations: Family<Labels, Histogram, fn() -> Histogram> = Family::new_with_constructor(buckets);
        metrics.register(|registry| {
            let help = "How long calls took, until the end of their answer";
            registry.register_with_unit("rpc_server_duration", help, Unit::Seconds, durations.clone());
        });
        Durations(durations)
    }
}

/// A call under way. It is counted when it is dropped: then it ended, or its caller went away.
#[derive(Debug)]
pub(super) struct Call {
    method: String,
    durations: Durations,
    span: Span,
    began: Instant,
    code: Option<Code>,
}

impl Call {
    pub(super) fn begin(method: String, durations: Durations, span: Span) -> Self {
        Call { method, durations, span, began: Instant::now(), code: None }
    }

    /// Follows the answer to its end, and keeps the permit until then.
    pub(super) fn follow(
        mut self,
        response: Response<Body>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        // An answer without a body has its status in the head.
        self.hear(response.headers());
        response.map(|body| Body::new(Followed { body, call: self, _permit: permit }))
    }

    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = format!("{:?}", self.code.unwrap_or(Code::Cancelled));
        self.span.record("code", &code);
        let labels = Labels { method: std::mem::take(&mut self.method), code };
        self.durations.0.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
    }
}

/// A body that tells its call how it ended.
struct Followed {
    body: Body,
    call: Call,
    _permit: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Followed {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let span = self.call.span.clone();
        let frame = span.in_scope(|| Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.hear(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.code = Some(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
