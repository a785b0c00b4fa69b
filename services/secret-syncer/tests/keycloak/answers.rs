//! What Keycloak never answers and what stands before it might: pages, nonsense, silence, other certificates. None of it is
//! taken for "not there", none of it shows a value, and all of it ends within a deadline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::converge::{Fault, Reconcile};
use chassis::secret::SecretStore;
use secret_syncer::keycloak::Error;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::support::{PLANTED, Targets, environment};

const CLIENT: &str =
    "clients: {a: {keycloak: main, realm: staff, truth: cluster, secret: {secret: a, key: k}}}";

/// What a peer answers to a request, its head and body; silence when it is none.
type Answers = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

struct Peer {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn peer(answers: Answers, tls: Option<TlsAcceptor>) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answers, told, tls) = (Arc::clone(&answers), Arc::clone(&told), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, &answers, &told).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, &answers, &told).await;
                        }
                    }
                }
            });
        }
    });
    Peer { address, heard, task }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Answers,
    told: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let Ok(read) = stream.read(&mut part).await else { return };
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if read == 0 || body.len() >= length.unwrap_or(0) {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    told.lock().unwrap().push(request.clone());
    match answers(&request) {
        Some(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        None => std::future::pending().await,
    }
}

fn http(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nlocation: http://elsewhere.invalid/{PLANTED}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn json(body: &str) -> Vec<u8> {
    http("200 OK", "application/json", body.as_bytes())
}

fn token() -> Vec<u8> {
    json(&format!("{{\"access_token\": \"{PLANTED}token\", \"expires_in\": 60}}"))
}

/// A token first, then this.
fn after_login(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Answers {
    Arc::new(move |request| {
        if request.starts_with("POST /realms/master/protocol/openid-connect/token") {
            return Some(token());
        }
        answer(request)
    })
}

fn store() -> (TempDir, SecretStore) {
    let root = tempfile::tempdir().unwrap();
    for name in ["rollcall", "a", "ca"] {
        std::fs::create_dir_all(root.path().join("app").join(name)).unwrap();
        std::fs::write(root.path().join("app").join(name).join("k"), format!("{PLANTED}{name}")).unwrap();
    }
    let store = SecretStore::Root(root.path().to_owned());
    (root, store)
}

fn target(url: &str, store: &SecretStore) -> Targets {
    Targets::of(&environment(7, url, ("master", "rollcall"), CLIENT), store)
}

async fn look(answers: Answers) -> Error {
    let (_root, store) = store();
    let peer = peer(answers, None).await;
    let targets = target(&format!("http://{}", peer.address), &store);
    let (target, spec) = targets.only();
    let error = target.observe(spec).await.unwrap_err();
    let shown = format!("{} {error:?} {target:?}", chassis::exit::chain(&error));
    assert!(!shown.contains(PLANTED), "{shown}");
    assert!(shown.contains("keycloak/main at http://127.0.0.1"), "{shown}");
    error
}

/// The status and the body of an answer, what is said of it, and whether trying again may help.
type Case<'a> = (&'a str, &'a [u8], &'a str, bool);

#[tokio::test]
async fn what_is_not_keycloaks_answer_is_never_taken_for_not_there() {
    let page = format!("<html>not found, {PLANTED}</html>");
    let said = format!("{{\"error\": \"{PLANTED}rollcall {PLANTED}token no\"}}");
    let coded = format!("{{\"error\": \"invalid_input\", \"error_description\": \"{PLANTED}token\\u0000\"}}");
    let cases: [Case<'_>; 15] = [
        ("200 OK", page.as_bytes(), "is no JSON", true),
        ("200 OK", b"\xff\xfe[]", "is no JSON", true),
        ("200 OK", b"{}", "another shape", true),
        ("200 OK", b"[{\"id\": 1}]", "is not one client", true),
        ("200 OK", b"[{\"id\": \"1\"}, {\"id\": \"2\"}]", "is not one client", true),
        ("200 OK", b"[]", "view-clients", false),
        ("404 Not Found", page.as_bytes(), "not Keycloak's", true),
        ("404 Not Found", b"", "not Keycloak's", true),
        ("302 Found", b"", "is not followed", true),
        ("403 Forbidden", page.as_bytes(), "not Keycloak's", true),
        ("403 Forbidden", b"", "view-clients", false),
        ("500 Internal Server Error", said.as_bytes(), "it answers 500", true),
        ("503 Service Unavailable", page.as_bytes(), "it answers 503", true),
        ("429 Too Many Requests", b"", "it answers 429", true),
        ("400 Bad Request", coded.as_bytes(), "400 (… )", false),
    ];
    for (status, body, says, transient) in cases {
        let bytes = http(status, "text/html", body);
        let error = look(after_login(move |_| Some(bytes.clone()))).await;
        let text = error.to_string();
        assert!(text.contains(says) && error.is_transient() == transient, "{status}: {text}, wanted {says}");
    }
}

#[tokio::test]
async fn what_answers_a_login_wrongly_is_told() {
    let bad = format!("{{\"error\": \"invalid_client\", \"error_description\": \"{PLANTED}rollcall\"}}");
    let cases: [Case<'_>; 8] = [
        ("401 Unauthorized", bad.as_bytes(), "invalid_client", false),
        ("403 Forbidden", b"<html>", "not Keycloak's", true),
        ("403 Forbidden", b"", "(403)", false),
        ("404 Not Found", b"<html>", "not Keycloak's", true),
        ("404 Not Found", br#"{"error": "Realm does not exist"}"#, "realm `master`", true),
        ("200 OK", b"<html>", "is no JSON", true),
        ("200 OK", br#"{"access_token": 7}"#, "another shape", true),
        ("502 Bad Gateway", b"", "it answers 502", true),
    ];
    for (status, body, says, transient) in cases {
        let bytes = http(status, "text/html", body);
        let error = look(Arc::new(move |_| Some(bytes.clone()))).await;
        let text = error.to_string();
        assert!(text.contains(says) && error.is_transient() == transient, "{status}: {text}, wanted {says}");
    }
}

#[tokio::test]
async fn a_token_that_is_never_taken_is_renewed_once_and_no_more() {
    let (_root, store) = store();
    let answers = after_login(|_| {
        Some(http("401 Unauthorized", "application/json", br#"{"error": "HTTP 401 Unauthorized"}"#))
    });
    let peer = peer(answers, None).await;
    let targets = target(&format!("http://{}", peer.address), &store);
    let (target, spec) = targets.only();
    let error = target.observe(spec).await.unwrap_err();
    assert!(!error.is_transient() && error.code() == "401", "{error}");
    let heard = peer.heard.lock().unwrap().clone();
    let logins = heard.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!((heard.len(), logins), (4, 2), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_and_endless_answers_end() {
    let started = tokio::time::Instant::now();
    let error = look(after_login(|_| None)).await;
    assert!(error.is_transient() && error.to_string().contains("no answer within"), "{error}");
    let error = look(Arc::new(|_| None)).await;
    assert!(error.is_transient() && error.to_string().contains("no answer within"), "{error}");
    assert!(started.elapsed() < Duration::from_mins(1));
    let long = json(&" ".repeat(5 * 1024 * 1024));
    let error = look(after_login(move |_| Some(long.clone()))).await;
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_for_one_login_do_not_wait_for_one_deadline_after_another() {
    let (_root, store) = store();
    let peer = peer(Arc::new(|_| None), None).await;
    let targets = target(&format!("http://{}", peer.address), &store);
    let (target, spec) = targets.only();
    let started = tokio::time::Instant::now();
    let looks: JoinSet<bool> = (0..20)
        .map(|_| {
            let (target, spec) = (target.clone(), spec.clone());
            async move { target.observe(&spec).await.unwrap_err().is_transient() }
        })
        .collect();
    assert!(looks.join_all().await.into_iter().all(|transient| transient));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

/// The certificate is verified by the given authority alone; whoever else answers is told nothing.
#[tokio::test]
async fn only_the_given_authority_is_trusted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (served, other) = (own(), own());
    let key = PrivatePkcs8KeyDer::from(served.signing_key.serialize_der()).into();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![served.cert.der().clone()], key)
        .unwrap();
    let answers = after_login(|_| Some(http("503 Service Unavailable", "text/html", b"")));
    let peer = peer(answers, Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://{}", peer.address.replace("127.0.0.1", "localhost"));
    let (root, store) = store();
    let ca = root.path().join("app/ca/k");
    let targets = target(&url, &store);
    let (target, spec) = targets.only();
    let error = target.observe(spec).await.unwrap_err();
    assert!(
        !error.is_transient() && error.to_string().contains("secret/app/ca:k holds no certificate"),
        "{error}"
    );
    std::fs::write(&ca, other.cert.pem()).unwrap();
    let error = target.observe(spec).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("certificate"), "{error}");
    assert!(peer.heard.lock().unwrap().is_empty(), "nothing was said to it");
    // The right one is taken as soon as it is there.
    std::fs::write(&ca, served.cert.pem()).unwrap();
    let error = target.observe(spec).await.unwrap_err();
    assert!(error.to_string().contains("it answers 503"), "{error}");
    assert!(peer.heard.lock().unwrap()[0].contains("planted%2Drollcall"), "the secret went to the right one");
    // Its name counts too.
    let by_address = self::target(&url.replace("localhost", "127.0.0.1"), &store);
    let (target, spec) = by_address.only();
    let error = target.observe(spec).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("certificate"), "{error}");
}
