//! The wish to stop, shared by everything that runs in a process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether the process was asked to stop. Clones share the wish; it cannot be taken back.
#[derive(Debug, Clone)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Follows SIGTERM (Kubernetes) and SIGINT (a person at a terminal). Needs a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Shutdown::manual();
        let asked = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            asked.trigger();
        });
        Ok(shutdown)
    }

    /// Follows nothing but [`Shutdown::trigger`].
    pub fn manual() -> Self {
        Shutdown(CancellationToken::new())
    }

    /// Waits until somebody asks for the stop; at once when somebody did already.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether somebody asked for the stop.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Asks for the stop.
    pub fn trigger(&self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clone_hears_the_wish() {
        let shutdown = Shutdown::manual();
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        shutdown.trigger();
        waiter.await.unwrap();
        assert!(shutdown.is_requested());
    }
}
