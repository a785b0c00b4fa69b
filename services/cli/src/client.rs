//! Asking the hub and the exporter over gRPC on behalf of a person, wherever they are.

use std::time::Duration;

use chassis::{Exit, Failure};
use clap::Args;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::in_cluster::{InCluster, Part};

/// How long a person is kept waiting for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the hub is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hub {
    /// The hub's address, where it is not looked for in a cluster.
    #[arg(long, env = "ROLLCALL_HUB", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    hub: String,
    #[command(flatten)]
    cluster: InCluster,
}

/// Where the exporter is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Exporter {
    /// The exporter's address, where it is not looked for in a cluster.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7070")]
    exporter: String,
    #[command(flatten)]
    cluster: InCluster,
}

impl Hub {
    /// A connection to it.
    pub(crate) async fn reach(&self) -> Result<Reached, Failure> {
        reach(&self.hub, &self.cluster, Part::Hub).await
    }
}

impl Exporter {
    /// A connection to it.
    pub(crate) async fn reach(&self) -> Result<Reached, Failure> {
        reach(&self.exporter, &self.cluster, Part::Exporter).await
    }
}

async fn reach(url: &str, cluster: &InCluster, part: Part) -> Result<Reached, Failure> {
    if cluster.is_asked() { cluster.reach(part).await } else { Reached::at(url).await }
}

/// A service that answers.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// The connection.
    pub(crate) channel: Channel,
    /// Where it is, for people.
    pub(crate) place: String,
}

impl Reached {
    /// The service at an address. The connection is made now: a wrong address is said at once.
    pub(crate) async fn at(url: &str) -> Result<Self, Failure> {
        let wrong = || Failure::usage(format!("`{url}` is not an address such as http://127.0.0.1:7070"));
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?.connect_timeout(PATIENCE);
        if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let channel = endpoint.connect().await.map_err(|error| {
            let reason = chassis::exit::chain(&error);
            Failure::new(
                Exit::TryAgain,
                format!(
                    "{url} does not answer: {reason}; is it running, and is this its address? In a cluster it is found by -n NAMESPACE"
                ),
            )
        })?;
        Ok(Reached { channel, place: url.to_owned() })
    }

    /// A refused or failed call as a failure that names the service.
    pub(crate) fn refused(&self, status: &Status) -> Failure {
        let place = &self.place;
        if status.code() == tonic::Code::Unimplemented {
            let text = format!(
                "{place} answers, but is another service: the hub and the exporter have addresses of their own"
            );
            return Failure::usage(text);
        }
        let exit = match status.code() {
            tonic::Code::NotFound | tonic::Code::InvalidArgument => Exit::Usage,
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::ResourceExhausted => {
                Exit::TryAgain
            }
            _ => Exit::Internal,
        };
        Failure::new(exit, format!("{place}: {}", status.message()))
    }
}

/// A request that is given up after [`PATIENCE`].
pub(crate) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
