//! The gRPC server and client that every service uses, with the same deadlines, limits, metrics and traces everywhere.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::server::TcpIncoming;
use tower::Service;

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

mod callers;
mod client;
mod guard;
mod observe;
#[cfg(test)]
mod tests;

pub use callers::{Callers, Identity, PodReference, TokenError, Verify, Writer};
pub use client::{Traced, channel, show};
use guard::GuardLayer;

/// How long a request may take until its answer begins.
const DEADLINE: Duration = Duration::from_secs(10);
/// Requests in flight, open streams included. An environment has about a hundred waiters; this bounds memory.
const CONCURRENCY: usize = 1024;
/// How long open requests may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// A gRPC server to be.
#[derive(Debug)]
pub struct Server {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    metrics: Metrics,
    deadline: Duration,
    drain: Duration,
}

/// A gRPC server that serves.
#[derive(Debug)]
pub struct Serving {
    /// The address it took; tells the port when 0 was asked for.
    pub address: SocketAddr,
    /// Ends when the server has drained.
    pub task: JoinHandle<()>,
}

impl Server {
    /// A server that counts its requests in `metrics`; one server to a registry.
    pub fn new(metrics: &Metrics) -> Self {
        Server {
            routes: RoutesBuilder::default(),
            names: Vec::new(),
            metrics: metrics.clone(),
            deadline: DEADLINE,
            drain: DRAIN,
        }
    }

    /// Serves this too; reflection tells of it.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }

    /// How long a request may take until its answer begins (10 s). A caller's `grpc-timeout` may shorten it. A stream
    /// that has begun goes on for as long as its service lets it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long open requests may go on after the shutdown (5 s).
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Binds and serves in a task. At the shutdown it takes no new connection and lets open requests end; services
    /// must end their own streams then, and what is left after the drain is cut.
    pub async fn serve(mut self, address: SocketAddr, shutdown: Shutdown) -> io::Result<Serving> {
        let (v1, v1alpha) = reflection(rollcall_proto::FILE_DESCRIPTOR_SET, &self.names)?;
        self.routes.add_service(v1).add_service(v1alpha);
        let guard = GuardLayer::new(&self.metrics, self.deadline, CONCURRENCY);
        let incoming = TcpIncoming::from(TcpListener::bind(address).await?).with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        let server = builder().layer(guard).add_routes(self.routes.routes());
        let stop = shutdown.clone();
        let serving = server.serve_with_incoming_shutdown(incoming, async move { stop.requested().await });
        let task = tokio::spawn(until_drained(serving, shutdown, self.drain));
        Ok(Serving { address, task })
    }
}

/// What every server of ours has: it notices dead peers, and sends small messages at once.
pub(crate) fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// Reflection for these services, in the version of today and the one that older clients ask for.
#[allow(clippy::type_complexity, reason = "tonic-reflection names its two services only like this")]
pub(crate) fn reflection(
    descriptors: &'static [u8],
    names: &[&'static str],
) -> io::Result<(
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    tonic_reflection::server::v1alpha::ServerReflectionServer<
        impl tonic_reflection::server::v1alpha::ServerReflection,
    >,
)> {
    let configured = || {
        let builder =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = configured().build_v1().map_err(io::Error::other)?;
    let v1alpha = configured().build_v1alpha().map_err(io::Error::other)?;
    Ok((v1, v1alpha))
}

/// Serves until the shutdown, and for at most `drain` after it: one stuck stream must not hold the process.
pub(crate) async fn until_drained(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    shutdown: Shutdown,
    drain: Duration,
) {
    let cut = async {
        shutdown.requested().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(error = crate::exit::chain(&error), "gRPC stopped");
            }
        }
        () = cut => tracing::warn!(seconds = drain.as_secs(), "requests were still open after the drain"),
    }
}
