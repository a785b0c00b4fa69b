//! A server answers `grpc.health.v1.Health/Check` with SERVING.

use std::fmt;

use lifecycle::Evidence;
use lifecycle::document::GrpcReady;
use tonic::Code;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use url::Url;

use super::{DEADLINE, NotYet, State, net};

/// Ready when the service is SERVING.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grpc {
    /// `http://host:port` or `https://host:port`.
    pub url: Url,
    /// The service asked about; the whole server when empty.
    pub service: String,
}

impl From<&GrpcReady> for Grpc {
    fn from(ready: &GrpcReady) -> Self {
        Grpc { url: ready.url.clone(), service: ready.service.clone() }
    }
}

impl fmt::Display for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grpc {}", self.address())?;
        if self.service.is_empty() { Ok(()) } else { write!(f, "/{}", self.service) }
    }
}

impl Grpc {
    fn address(&self) -> String {
        format!(
            "{}:{}",
            self.url.host_str().unwrap_or_default(),
            self.url.port_or_known_default().unwrap_or_default()
        )
    }

    pub(super) async fn look(&self) -> Result<Evidence, NotYet> {
        let endpoint = self.endpoint()?.connect_timeout(DEADLINE).timeout(DEADLINE);
        // A channel of its own: every probe proves that a new connection works.
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Err(net::judge(&error, &self.address()).await),
        };
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer =
            HealthClient::new(channel).check(request).await.map_err(|status| self.refusal(&status))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(Evidence::level("serving")),
            status => Err(NotYet::new(State::Unhealthy, format!("says {}", status.as_str_name()))
                .code(status.as_str_name())),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, NotYet> {
        let wrong = |error: tonic::transport::Error| {
            NotYet::new(State::Unknown, chassis::exit::chain(&error)).never()
        };
        let endpoint = Endpoint::from_shared(self.url.to_string()).map_err(wrong)?;
        if self.url.scheme() != "https" {
            return Ok(endpoint);
        }
        super::install_crypto();
        endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)
    }

    fn refusal(&self, status: &tonic::Status) -> NotYet {
        let said = status.message();
        let (state, error) = match status.code() {
            Code::NotFound => (State::Absent, format!("knows no service `{}`", self.service)),
            Code::Unimplemented => (State::Unhealthy, "does not implement grpc.health.v1".to_owned()),
            Code::Unauthenticated | Code::PermissionDenied => (State::Denied, said.to_owned()),
            Code::DeadlineExceeded | Code::Cancelled => return NotYet::timed_out(),
            _ => (State::Rejecting, said.to_owned()),
        };
        NotYet::new(state, error).code(format!("{:?}", status.code()))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;
    use tonic_health::server::health_reporter;

    use super::super::Probe;
    use super::super::faults::{self, Fault};
    use super::*;

    async fn look(address: &str, service: &str) -> Result<Evidence, NotYet> {
        let url = format!("http://{address}").parse().unwrap();
        faults::look(Probe::Grpc(Grpc { url, service: service.to_owned() })).await
    }

    #[tokio::test]
    async fn only_serving_passes() {
        let (reporter, service) = health_reporter();
        reporter.set_service_status("up", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("down", tonic_health::ServingStatus::NotServing).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );

        assert_eq!(look(&address, "up").await.unwrap().level, "serving");
        let down = look(&address, "down").await.unwrap_err();
        assert_eq!((down.state, down.code.as_str()), (State::Unhealthy, "NOT_SERVING"));
        let unknown = look(&address, "other").await.unwrap_err();
        assert_eq!(unknown.state, State::Absent);
        assert!(unknown.error.contains("knows no service `other`"), "{unknown}");
    }

    #[tokio::test]
    async fn a_server_without_health_does_not_pass() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = tonic::service::Routes::default();
        tokio::spawn(
            Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        assert!(look(&address, "").await.unwrap_err().error.contains("does not implement"));
    }

    #[tokio::test]
    async fn each_fault_of_the_network_is_told_apart() {
        assert_eq!(look(&faults::closed_port().await, "").await.unwrap_err().state, State::Refused);
        assert_eq!(look("no-such-host.invalid:1", "").await.unwrap_err().state, State::Unresolved);
        let http =
            faults::serve(Fault::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned())).await;
        assert_eq!(look(&http.address, "").await.unwrap_err().state, State::Rejecting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_times_out() {
        let silent = faults::serve(Fault::NeverAccept).await;
        assert_eq!(look(&silent.address, "").await.unwrap_err().state, State::TimedOut);
    }
}
