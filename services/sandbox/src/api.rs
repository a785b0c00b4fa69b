//! One HTTP request at a time to a server of the sandbox: whether it is ready, and the few objects that a cluster begins
//! with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A client of one server.
pub(crate) struct Api {
    address: SocketAddr,
    /// None for one that speaks in clear.
    connector: Option<TlsConnector>,
}

impl Api {
    /// Of the server at this address, trusted as `config` says.
    pub(crate) fn new(address: SocketAddr, config: ClientConfig) -> Self {
        Self { address, connector: Some(TlsConnector::from(Arc::new(config))) }
    }

    /// Of a server that speaks in clear.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, connector: None }
    }

    /// Whether it answers this path with success, in time.
    pub(crate) async fn succeeds(&self, path: &str) -> bool {
        self.get(path).await.is_ok()
    }

    /// The document at a path.
    pub(crate) async fn get(&self, path: &str) -> std::io::Result<Value> {
        let (status, text) = self.call(Method::GET, path, Bytes::new()).await?;
        // A health check answers in words.
        judge(status, &text).map(|()| serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Makes an object; one that is there already is as good.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> std::io::Result<()> {
        match self.call(Method::POST, path, object.to_string().into()).await? {
            (StatusCode::CONFLICT, _) => Ok(()),
            (status, text) => judge(status, &text),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> std::io::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(other)?;
        let call = async {
            let stream = TcpStream::connect(self.address).await?;
            match &self.connector {
                None => exchange(stream, request).await,
                Some(connector) => {
                    let name = ServerName::from(self.address.ip());
                    exchange(connector.connect(name, stream).await?, request).await
                }
            }
        };
        tokio::time::timeout(ANSWER, call).await.map_err(other)?
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> std::io::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(other)?;
    // It ends with the sender, or by itself.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(other)?.into_parts();
    Ok((head.status, body.collect().await.map_err(other)?.to_bytes()))
}

fn judge(status: StatusCode, text: &[u8]) -> std::io::Result<()> {
    let refused = || other(format!("{status}: {}", String::from_utf8_lossy(text)));
    status.is_success().then_some(()).ok_or_else(refused)
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}
