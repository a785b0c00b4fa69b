//! What a provisioner answers beside the services that every provisioner has.

use std::fmt;
use std::sync::Arc;

use lifecycle::document::Environment;
use tokio::sync::watch;

use crate::grpc::Server;

/// The environment of the documents and the server to be; the server with more services, and the environment with what joined it,
/// at any time.
type Join = dyn Fn(&Environment, Server) -> (Server, watch::Receiver<Environment>) + Send + Sync;

/// Adds services to a provisioner that serves, and fragments to its environment. Called once, when it begins to serve.
#[derive(Clone)]
pub struct Beside(Arc<Join>);

impl Beside {
    /// What adds them.
    pub fn new(
        join: impl Fn(&Environment, Server) -> (Server, watch::Receiver<Environment>) + Send + Sync + 'static,
    ) -> Self {
        Beside(Arc::new(join))
    }

    pub(super) fn join(
        &self,
        environment: &Environment,
        server: Server,
    ) -> (Server, watch::Receiver<Environment>) {
        (self.0)(environment, server)
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside")
    }
}
