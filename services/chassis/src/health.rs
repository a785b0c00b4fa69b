//! `grpc.health.v1` on a plaintext port of its own, because kubelets probe without TLS.
//!
//! Three names: `liveness`, `readiness`, and the empty one, which says what readiness says.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::grpc;
use crate::shutdown::Shutdown;

const SERVICE: &str = "grpc.health.v1.Health";
const LIVENESS: &str = "liveness";
const READINESS: &str = "readiness";

/// What the process says about its health. Clones share it.
#[derive(Debug, Clone)]
pub struct Health(HealthReporter);

fn serving(yes: bool) -> ServingStatus {
    if yes { ServingStatus::Serving } else { ServingStatus::NotServing }
}

impl Health {
    /// Alive and not ready yet.
    pub async fn new() -> Self {
        let health = Health(HealthReporter::new());
        health.set_live(true).await;
        health.set_ready(false).await;
        health
    }

    /// Says whether the process does its work.
    pub async fn set_ready(&self, ready: bool) {
        self.0.set_service_status(READINESS, serving(ready)).await;
        self.0.set_service_status("", serving(ready)).await;
    }

    /// Says whether the process can still do its work; when it cannot, it should be restarted.
    pub async fn set_live(&self, live: bool) {
        self.0.set_service_status(LIVENESS, serving(live)).await;
    }

    /// Answers until the shutdown. Returns the address it took, and the task.
    pub async fn serve(
        &self,
        address: SocketAddr,
        shutdown: Shutdown,
    ) -> io::Result<(SocketAddr, JoinHandle<()>)> {
        let incoming = TcpIncoming::from(TcpListener::bind(address).await?);
        let bound = incoming.local_addr()?;
        let (v1, v1alpha) = grpc::reflection(tonic_health::pb::FILE_DESCRIPTOR_SET, &[SERVICE])?;
        // Without limits, metrics and traces: what a kubelet asks every few seconds is not a service's work.
        let server = grpc::builder()
            .add_service(HealthServer::new(HealthService::from_health_reporter(self.0.clone())))
            .add_service(v1)
            .add_service(v1alpha);
        let stop = shutdown.clone();
        let serving = server.serve_with_incoming_shutdown(incoming, async move { stop.requested().await });
        let task = tokio::spawn(grpc::until_drained(serving, shutdown, Duration::ZERO));
        Ok((bound, task))
    }
}

/// Whether a process can still do its work, said by whatever part of it can tell. Clones share it.
#[derive(Debug, Clone)]
pub struct Liveness(watch::Sender<bool>);

impl Default for Liveness {
    fn default() -> Self {
        Liveness(watch::Sender::new(true))
    }
}

impl Liveness {
    /// Says whether it can; when it cannot, it should be restarted.
    pub fn set(&self, live: bool) {
        self.0.send_replace(live);
    }

    /// Whether it can.
    pub fn is_live(&self) -> bool {
        *self.0.borrow()
    }

    /// Tells those who ask for health, for as long as the process lives.
    pub(crate) async fn tell(&self, health: &Health) {
        let mut said = self.0.subscribe();
        loop {
            let live = *said.borrow_and_update();
            health.set_live(live).await;
            if said.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    #[tokio::test]
    async fn readiness_and_the_empty_name_change_together_and_liveness_apart() {
        let (health, shutdown) = (Health::new().await, Shutdown::manual());
        let (address, task) = health.serve(([127, 0, 0, 1], 0).into(), shutdown.clone()).await.unwrap();
        let client = HealthClient::new(grpc::channel(&format!("http://{address}")).unwrap());
        let says = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            client.clone().check(request).await.map(|answer| answer.into_inner().status())
        };
        assert_eq!(says("liveness").await.unwrap(), Serving);
        assert_eq!(says("readiness").await.unwrap(), NotServing);
        assert_eq!(says("").await.unwrap(), NotServing);
        health.set_ready(true).await;
        assert_eq!(says("readiness").await.unwrap(), Serving);
        assert_eq!(says("").await.unwrap(), Serving);
        health.set_live(false).await;
        assert_eq!(says("liveness").await.unwrap(), NotServing);
        assert_eq!(says("unknown").await.unwrap_err().code(), tonic::Code::NotFound);

        shutdown.trigger();
        task.await.unwrap();
    }
}
