//! `/metrics` for Prometheus, in the OpenMetrics text format.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::shutdown::Shutdown;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process; each name begins with `rollcall_`. Clones share the registry.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry with `rollcall_build_info`, which says what runs here.
    pub fn new(service: &str) -> Self {
        let metrics = Metrics(Arc::new(Mutex::new(Registry::with_prefix("rollcall"))));
        let labels = vec![("service", service.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
        metrics.register(|registry| registry.register("build", "What runs here", Info::new(labels)));
        metrics
    }

    /// Gives access to the registry: register metrics here, and keep what is to be counted.
    pub fn register<T>(&self, access: impl FnOnce(&mut Registry) -> T) -> T {
        // A panic while somebody registered left the registry whole: only `Vec::push` happens there.
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut body = String::new();
        self.register(|registry| text::encode(&mut body, registry))?;
        Ok(body)
    }

    /// Answers `/metrics` until the shutdown. Returns the address it took, and the task.
    pub async fn serve(
        &self,
        address: SocketAddr,
        shutdown: Shutdown,
    ) -> io::Result<(SocketAddr, JoinHandle<()>)> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let metrics = self.clone();
        let router = Router::new().route("/metrics", get(move || async move { metrics.answer() }));
        let task = tokio::spawn(async move {
            // Not a graceful shutdown: a scrape lost with the process is scraped nowhere anyway.
            tokio::select! {
                served = axum::serve(listener, router) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "metrics stopped");
                    }
                }
                () = shutdown.requested() => {}
            }
        });
        Ok((bound, task))
    }

    fn answer(&self) -> Response {
        match self.encode() {
            Ok(body) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_scrape_sees_what_was_counted() {
        let metrics = Metrics::new("postgres-init");
        let counter: Counter = Counter::default();
        metrics.register(|registry| registry.register("things", "Things", counter.clone()));
        counter.inc_by(7);

        let shutdown = Shutdown::manual();
        let (address, task) = metrics.serve(([127, 0, 0, 1], 0).into(), shutdown.clone()).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();

        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("application/openmetrics-text"), "{answer}");
        assert!(answer.contains("rollcall_things_total 7"), "{answer}");
        assert!(answer.contains("rollcall_build_info{service=\"postgres-init\",version="), "{answer}");
        shutdown.trigger();
        task.await.unwrap();
    }
}
