//! A relay between a client and an API server: it ends TLS with the server's own certificate, counts what is asked, and
//! stands in the way as it is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
type Rule = Box<dyn Fn(&Call) -> Option<Fault> + Send>;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As RBAC calls it: `get`, `watch`, `patch`, `delete`, …
    pub verb: String,
    /// `<resource>/<namespace>/<name>`.
    pub object: String,
}

/// What stands in the way of a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server's own refusal, as its outer layers say it when it has no time: text, and how many seconds to wait.
    Busy(u16, Option<u32>),
    /// The server's own refusal, by code and reason.
    Status(u16, &'static str),
    /// A watch that begins, and says that the version it goes on from is too old.
    Expired,
    /// A watch that begins, and ends well at once.
    Ended,
    /// No answer ever, and an open connection.
    Silence,
    /// The server's own answer, once this says so.
    Held(watch::Receiver<bool>),
}

/// A relay. It ends when it is dropped.
pub struct Relay {
    port: u16,
    dir: PathBuf,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    upstream: SocketAddr,
    connector: TlsConnector,
    rule: Mutex<Rule>,
    calls: Mutex<Vec<Call>>,
    /// How often watches were made silent: those that began before are.
    silences: AtomicU64,
    hanging: AtomicUsize,
    /// Goes off when connections are to be held: open, and dead.
    holes: Notify,
}

impl Relay {
    /// A relay to the API server that a kubeconfig of the sandbox names; nothing stands in the way yet.
    pub async fn start(kubeconfig: &Path) -> Relay {
        let dir = kubeconfig.parent().unwrap().to_owned();
        let cluster = cluster(kubeconfig);
        let upstream = cluster["server"].as_str().unwrap().trim_start_matches("https://").parse().unwrap();
        let mut roots = RootCertStore::empty();
        let authority = cluster["certificate-authority"].as_str().unwrap();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = || Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        // Whoever trusts the server trusts the relay.
        let certificate = CertificateDer::from_pem_file(dir.join("apiserver.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("apiserver.key")).unwrap();
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut server =
            server.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            upstream,
            connector: TlsConnector::from(Arc::new(client)),
            rule: Mutex::new(Box::new(|_| None)),
            calls: Mutex::default(),
            silences: AtomicU64::default(),
            hanging: AtomicUsize::default(),
            holes: Notify::new(),
        });
        let (acceptor, serving) = (TlsAcceptor::from(Arc::new(server)), Arc::clone(&state));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&serving)));
            }
        });
        Relay { port, dir, state, accepting }
    }

    /// Somebody's kubeconfig by way of the relay. Only a token passes it: a client certificate ends here.
    pub fn kubeconfig(&self, of: &Path) -> PathBuf {
        let mut config: Value = serde_json::from_slice(&std::fs::read(of).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", self.port));
        let file = self.dir.join(format!("relayed-{}.kubeconfig", self.port));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// From now on this stands in the way, and nothing else.
    pub fn rule(&self, rule: impl Fn(&Call) -> Option<Fault> + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on nothing stands in the way.
    pub fn clear(&self) {
        self.rule(|_| None);
    }

    /// No byte comes any more on the watches that there are; their connections stay.
    pub fn silence_watches(&self) {
        self.state.silences.fetch_add(1, Ordering::SeqCst);
    }

    /// On connections as they are nothing passes any more, as when a network goes away; those to come are not touched.
    pub fn swallow(&self) {
        self.state.holes.notify_waiters();
    }

    /// How many calls hang in [`Fault::Silence`].
    pub fn hanging(&self) -> usize {
        self.state.hanging.load(Ordering::SeqCst)
    }

    /// How many calls of a verb there were about objects whose name begins so.
    pub fn count(&self, verb: &str, object: &str) -> usize {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(|call| call.verb == verb && call.object.starts_with(object)).count()
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// Counts anew.
    pub fn forget(&self) {
        self.state.calls.lock().unwrap().clear();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn cluster(kubeconfig: &Path) -> Value {
    let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig).unwrap()).unwrap();
    config["clusters"][0]["cluster"].clone()
}

/// Answers on one connection, over one of its own. Without an answer it breaks the call off.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let upstream = Arc::new(tokio::sync::Mutex::new(None));
    let serving = Arc::clone(&state);
    let answer = hyper::service::service_fn(move |request| {
        let (state, upstream) = (Arc::clone(&serving), Arc::clone(&upstream));
        async move { answer(request, &state, &upstream).await }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        _ = &mut connection => {}
        // Kept, and not heard any more.
        () = state.holes.notified() => std::future::pending().await,
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Arc<State>,
    upstream: &tokio::sync::Mutex<Option<SendRequest<Incoming>>>,
) -> Result<Answer, Broken> {
    let call = Call::of(request.method(), request.uri());
    let fault = (state.rule.lock().unwrap())(&call);
    let is_watch = call.verb == "watch";
    state.calls.lock().unwrap().push(call);
    match fault {
        None => {}
        Some(Fault::Silence) => {
            let _hanging = Hanging::begin(state);
            return std::future::pending().await;
        }
        Some(Fault::Held(mut gate)) => drop(gate.wait_for(|open| *open).await.map_err(|_| Broken)?),
        Some(fault) => return Ok(fault.answer()),
    }
    let born = state.silences.load(Ordering::SeqCst);
    let mut sender = {
        let mut upstream = upstream.lock().await;
        let sender = match upstream.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => state.connect().await.map_err(|_| Broken)?,
        };
        upstream.insert(sender).clone()
    };
    sender.ready().await.map_err(|_| Broken)?;
    let response = sender.send_request(request).await.map_err(|_| Broken)?;
    let watched = |body| Watched { body, born, state: Arc::clone(state) };
    Ok(response.map(|body| if is_watch { BoxBody::new(watched(body)) } else { BoxBody::new(body) }))
}

impl State {
    async fn connect(&self) -> std::io::Result<SendRequest<Incoming>> {
        let stream = TcpStream::connect(self.upstream).await?;
        let stream = self.connector.connect(ServerName::from(self.upstream.ip()), stream).await?;
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The API server gave no answer, so neither does the relay.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the API server does not answer")
    }
}

impl std::error::Error for Broken {}

/// A call that hangs, for as long as the caller waits.
struct Hanging(Arc<State>);

impl Hanging {
    fn begin(state: &Arc<State>) -> Hanging {
        state.hanging.fetch_add(1, Ordering::SeqCst);
        Hanging(Arc::clone(state))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What comes on a watch until it is made silent.
struct Watched {
    body: Incoming,
    born: u64,
    state: Arc<State>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if self.state.silences.load(Ordering::SeqCst) > self.born {
            // Nothing will ever wake it, and nothing is to.
            return Poll::Pending;
        }
        polled
    }
}

impl Call {
    fn of(method: &Method, uri: &Uri) -> Call {
        let query = uri.query().unwrap_or_default();
        let verb = match method.as_str() {
            "GET" if query.contains("watch=") => "watch",
            "GET" => "get",
            "PATCH" => "patch",
            "DELETE" => "delete",
            other => other,
        };
        let parts: Vec<&str> = uri.path().trim_start_matches("/api/v1/namespaces/").split('/').collect();
        // A watch names its object in a field selector, where `=` is written as `%3D`.
        let selected = query.split('&').find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
        let object = match parts[..] {
            [namespace, resource] => format!("{resource}/{namespace}/{}", selected.unwrap_or_default()),
            [namespace, resource, name] => format!("{resource}/{namespace}/{name}"),
            _ => uri.path().to_owned(),
        };
        Call { verb: verb.to_owned(), object }
    }
}

impl Fault {
    fn answer(self) -> Answer {
        let status = |code: u16, reason: &str| json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
        let (code, after, text) = match self {
            Fault::Busy(code, after) => (code, after, "try again later".to_owned()),
            Fault::Status(code, reason) => (code, None, status(code, reason).to_string()),
            Fault::Expired => {
                (200, None, json!({"type": "ERROR", "object": status(410, "Expired")}).to_string() + "\n")
            }
            Fault::Ended | Fault::Silence | Fault::Held(_) => (200, None, String::new()),
        };
        let body = Full::from(text).map_err(|never| match never {});
        let mut answer = Response::new(BoxBody::new(body));
        *answer.status_mut() = StatusCode::from_u16(code).unwrap();
        if let Some(after) = after {
            answer.headers_mut().insert(http::header::RETRY_AFTER, after.into());
        }
        answer
    }
}
