//! A way to a server that loses an answer: the server has done what it was asked to, and who asked never hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections, and cuts the one over which the answer of this number comes, instead of that answer.
pub(crate) struct Proxy {
    /// Where it listens on loopback.
    pub(crate) port: u16,
    answers: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(server: u16, cut_at: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward(client, server, Arc::clone(&counter), cut_at));
            }
        });
        Proxy { port, answers, task }
    }

    /// How many answers the server gave.
    pub(crate) fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, server: TcpStream, answers: Arc<AtomicUsize>, cut_at: usize) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = answer(from_server, to_client, &answers, cut_at) => {}
    }
}

/// An answer ends with ReadyForQuery and is passed on whole; what is asked while logging in is passed on at once.
async fn answer(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    answers: &AtomicUsize,
    cut_at: usize,
) -> std::io::Result<()> {
    const AUTHENTICATION: u8 = b'R';
    const ERROR: u8 = b'E';
    const READY_FOR_QUERY: u8 = b'Z';
    let mut whole = Vec::new();
    loop {
        let (kind, length) = (server.read_u8().await?, server.read_u32().await?);
        let mut body = vec![0; length as usize - 4];
        server.read_exact(&mut body).await?;
        whole.push(kind);
        whole.extend(length.to_be_bytes());
        whole.extend(body);
        if kind == READY_FOR_QUERY && answers.fetch_add(1, Ordering::SeqCst) + 1 == cut_at {
            return Ok(());
        }
        if matches!(kind, AUTHENTICATION | ERROR | READY_FOR_QUERY) {
            client.write_all(&whole).await?;
            whole.clear();
        }
    }
}
