//! Peers with faults, for the tests of probes: in this process, on a free port.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use chassis::secret::SecretStore;
use lifecycle::Evidence;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{NotYet, Probe};

/// What is wrong with a peer.
pub(crate) enum Fault {
    /// It listens and never accepts: the kernel completes the connection, nobody speaks.
    NeverAccept,
    /// It accepts and closes.
    AcceptAndClose,
    /// It reads something, answers these bytes and closes.
    Answer(String),
    /// It reads something, answers these bytes and then neither speaks nor closes.
    Stall(String),
    /// As `Answer`, in bytes.
    Bytes(Vec<u8>),
}

/// A peer; its task and its port end with it.
pub(crate) struct Peer {
    pub(crate) address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a peer on a free port.
pub(crate) async fn serve(fault: Fault) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        if matches!(fault, Fault::NeverAccept) {
            std::future::pending::<()>().await;
        }
        let mut held = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Some(stream) = answer(stream, &fault).await {
                held.push(stream);
            }
        }
    });
    Peer { address, task }
}

/// Plays the fault on one connection. Gives it back when it must stay open.
async fn answer(mut stream: TcpStream, fault: &Fault) -> Option<TcpStream> {
    let bytes = match fault {
        Fault::NeverAccept | Fault::AcceptAndClose => return None,
        Fault::Answer(text) | Fault::Stall(text) => text.as_bytes(),
        Fault::Bytes(bytes) => bytes,
    };
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(bytes).await;
    if matches!(fault, Fault::Stall(_)) {
        return Some(stream);
    }
    let _ = stream.shutdown().await;
    None
}

/// Serves one HTTP answer over TLS with this certificate. The thread gives back whether the client got that far.
pub(crate) fn serve_tls(
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
) -> (String, JoinHandle<std::io::Result<()>>) {
    super::install_crypto();
    let key = PrivatePkcs8KeyDer::from(key).into();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        let (stream, _) = listener.accept()?;
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let read = stream.read(&mut [0; 4096])?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    };
    (address, std::thread::spawn(serve))
}

/// A port on which nobody listens.
pub(crate) async fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Looks once, without secrets.
pub(crate) async fn look(probe: Probe) -> Result<Evidence, NotYet> {
    super::probe(&probe, &SecretStore::None).await
}
