//! The three servers of a long-lived service: gRPC, health, metrics.

use std::net::SocketAddr;

use tokio::task::JoinHandle;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::grpc::Server;
use crate::health::Health;
use crate::shutdown::Shutdown;

/// The servers of a running service.
#[derive(Debug)]
pub struct Servers {
    /// Where gRPC answers.
    pub grpc: SocketAddr,
    /// Where health answers.
    pub health: SocketAddr,
    /// Where metrics are read.
    pub metrics: SocketAddr,
    /// What the service says about its health; ready is for the service to say.
    pub readiness: Health,
    task: JoinHandle<()>,
}

impl Context {
    /// Serves gRPC, health and metrics where the settings say, until the shutdown. At the shutdown health says "not
    /// serving" first, then gRPC drains, then health and metrics end.
    pub async fn serve(&self, server: Server) -> Result<Servers, Failure> {
        let (settings, readiness) = (&self.settings, Health::new().await);
        let (drain, end) = (Shutdown::manual(), Shutdown::manual());
        let grpc = server
            .serve(settings.listen, drain.clone())
            .await
            .map_err(|error| refused("ROLLCALL_LISTEN", settings.listen, &error))?;
        let (health, health_task) = readiness
            .serve(settings.health_listen, end.clone())
            .await
            .map_err(|error| refused("ROLLCALL_HEALTH_LISTEN", settings.health_listen, &error))?;
        let (metrics, metrics_task) = self
            .metrics
            .serve(settings.metrics_listen, end.clone())
            .await
            .map_err(|error| refused("ROLLCALL_METRICS_LISTEN", settings.metrics_listen, &error))?;
        // Others find the ports by this line when the settings say port 0.
        tracing::info!(grpc = %grpc.address, health = %health, metrics = %metrics, "listening");

        let (liveness, live) = (self.liveness.clone(), readiness.clone());
        let follower = tokio::spawn(async move { liveness.tell(&live).await });
        let (shutdown, health_handle) = (self.shutdown.clone(), readiness.clone());
        let task = tokio::spawn(async move {
            shutdown.requested().await;
            health_handle.set_ready(false).await;
            drain.trigger();
            let _ = grpc.task.await;
            end.trigger();
            let _ = tokio::join!(health_task, metrics_task);
            follower.abort();
        });
        Ok(Servers { grpc: grpc.address, health, metrics, readiness, task })
    }
}

impl Servers {
    /// Waits until the shutdown was asked for and all three servers have ended.
    pub async fn ended(self) {
        let _ = self.task.await;
    }
}

fn refused(key: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Internal,
        format_args!("{key}: cannot listen on {address}: {error}; free the address, or set another"),
    )
}
