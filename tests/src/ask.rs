//! Questions that a person or a machine asks a service: over gRPC, and at `/metrics`.

use rollcall::rehearse::{Service, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// A connection to the gRPC port of a service.
pub async fn grpc(stage: &Stage, service: Service) -> Channel {
    channel(stage.ports(service).grpc).await
}

/// A connection to the health port of a service.
pub async fn health(stage: &Stage, service: Service) -> Channel {
    channel(stage.ports(service).health).await
}

/// A connection to a port of this machine.
pub async fn channel(port: u16) -> Channel {
    let address = format!("http://127.0.0.1:{port}");
    let connected = Endpoint::from_shared(address).unwrap().connect().await;
    connected.unwrap_or_else(|error| panic!("port {port}: {error:?}"))
}

/// What `/metrics` of a service answers: head and body.
pub async fn metrics(stage: &Stage, service: Service) -> (String, String) {
    metrics_of(stage.ports(service).metrics).await
}

/// What `/metrics` on a port of this machine answers: head and body.
pub async fn metrics_of(port: u16) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    (head.to_owned(), body.to_owned())
}
