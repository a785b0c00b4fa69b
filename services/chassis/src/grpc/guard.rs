//! What stands before every service: a trace, a count, a limit and a deadline.
//!
//! Tonic's own timeout and limit sit outside of any layer of ours, so what they turn away would be neither counted nor
//! traced; and its limit is one per connection.

use std::collections::HashSet;
use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument;

use super::observe::{Call, Durations};
use crate::metrics::Metrics;
use crate::telemetry;

/// So many requests in flight that are not of our contract, beside the others.
const OTHERS: usize = 32;
/// The label that these share.
const OTHER: &str = "other";

/// Puts a [`Guard`] before a service.
#[derive(Debug, Clone)]
pub(super) struct GuardLayer(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    deadline: Duration,
    permits: Arc<Semaphore>,
    /// For what is not of our contract, such as reflection, whose streams nothing ends.
    others: Arc<Semaphore>,
    durations: Durations,
    methods: HashSet<String>,
}

impl GuardLayer {
    pub(super) fn new(metrics: &Metrics, deadline: Duration, concurrency: usize) -> Self {
        GuardLayer(Arc::new(Limits {
            deadline,
            permits: Arc::new(Semaphore::new(concurrency)),
            others: Arc::new(Semaphore::new(OTHERS.min(concurrency))),
            durations: Durations::new(metrics),
            methods: methods(),
        }))
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, limits: Arc::clone(&self.0) }
    }
}

/// A service behind the limits.
#[derive(Debug, Clone)]
pub(super) struct Guard<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limits = Arc::clone(&self.limits);
        // The one that was polled ready must be the one that is called.
        let unpolled = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, unpolled);

        let method = limits.label(request.uri().path());
        let permits = Arc::clone(if method == OTHER { &limits.others } else { &limits.permits });
        let span = tracing::info_span!(parent: None, "rpc", otel.name = method, otel.kind = "server", code = tracing::field::Empty);
        telemetry::set_parent(&span, telemetry::extract(|name| header(request.headers(), name)));
        let call = Call::begin(method, limits.durations.clone(), span.clone());
        let answer = async move {
            let Ok(permit) = permits.try_acquire_owned() else {
                let full = Status::resource_exhausted("too many requests in flight; try again");
                return Ok(call.follow(full.into_http(), None));
            };
            let asked = header(request.headers(), "grpc-timeout").and_then(|value| grpc_timeout(&value));
            let deadline = asked.map_or(limits.deadline, |asked| asked.min(limits.deadline));
            // The head of the answer comes when the handler is done, or when its stream begins.
            let response = match tokio::time::timeout(deadline, inner.call(request)).await {
                Ok(Ok(response)) => response,
                Err(_) => Status::deadline_exceeded(format!("no answer within {deadline:?}")).into_http(),
            };
            Ok(call.follow(response, Some(permit)))
        };
        Box::pin(answer.instrument(span))
    }
}

impl Limits {
    /// The method as a label. Anybody may call any path: what is not ours shares one label.
    fn label(&self, path: &str) -> String {
        self.methods.get(path).map_or(OTHER, String::as_str).to_owned()
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Every method of the wire contract, as the path of its requests.
fn methods() -> HashSet<String> {
    let described = prost_types::FileDescriptorSet::decode(rollcall_proto::FILE_DESCRIPTOR_SET);
    let files = described.unwrap_or_default().file;
    let paths = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let service_path = format!("/{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| format!("{service_path}/{}", method.name()))
        })
    });
    paths.collect()
}

/// Reads a `grpc-timeout`: at most eight digits and a unit ("PROTOCOL-HTTP2" of gRPC).
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_digits_and_a_unit() {
        assert_eq!(grpc_timeout("15S"), Some(Duration::from_secs(15)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        for nonsense in ["", "S", "1", "-1S", "+1S", "1.5S", "999999999S", "1s", "1é"] {
            assert_eq!(grpc_timeout(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn methods_are_those_of_the_wire_contract() {
        assert!(methods().contains("/rollcall.diagnostics.v1.Hub/Watch"));
        assert!(!methods().contains("/rollcall.diagnostics.v1.Hub/Nothing"));
    }
}
