//! Asking the hub and the exporter over gRPC on behalf of a person.

use std::time::Duration;

use chassis::{Exit, Failure};
use clap::Args;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long a person is kept waiting for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the hub is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hub {
    /// The hub's address.
    #[arg(long, env = "ROLLCALL_HUB", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub(crate) hub: String,
}

/// A connection to a service, made now: a wrong address is said at once.
pub(crate) async fn connect(url: &str) -> Result<Channel, Failure> {
    let wrong = || Failure::usage(format!("`{url}` is not an address such as http://127.0.0.1:7070"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?.connect_timeout(PATIENCE);
    if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
        return Err(wrong());
    }
    endpoint.connect().await.map_err(|error| {
        let reason = chassis::exit::chain(&error);
        Failure::new(
            Exit::TryAgain,
            format!("{url} does not answer: {reason}; is it running, and is this its address?"),
        )
    })
}

/// A refused or failed call as a failure that names the service.
pub(crate) fn refused(url: &str, status: &Status) -> Failure {
    if status.code() == tonic::Code::Unimplemented {
        let text = format!(
            "{url} answers, but is another service: the hub and the exporter have addresses of their own"
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
    Failure::new(exit, format!("{url}: {}", status.message()))
}

/// A request that is given up after [`PATIENCE`].
pub(crate) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
