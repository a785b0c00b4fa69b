//! Peers that speak TLS as they should and HTTP as no Vault would.

use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::super::{Held, Login, Settings, Vault};
use super::*;

const TOKEN_PLANTED: &str = "hvs.PLANTEDtokenA7f3Kq9vX2";

/// A server for one connection that answers whatever it is asked with the same, and then tells what it was asked.
struct Peer {
    settings: Settings,
    asked: JoinHandle<String>,
}

async fn peer(answer: String, endless: bool) -> Peer {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/behind/", listener.local_addr().unwrap()).parse().unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = String::new();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut bytes = [0; 8192];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            asked += &String::from_utf8_lossy(&bytes[..read]);
            let mut written = stream.write_all(answer.as_bytes()).await;
            while endless && written.is_ok() {
                written = stream.write_all(&bytes).await;
            }
        }
        asked
    });
    let login = Login::Token(SecretValue::new(TOKEN_PLANTED));
    let settings = Settings {
        url,
        namespace: Some("team/a".to_owned()),
        ca: Some(SecretValue::new(made.cert.pem())),
        login,
    };
    Peer { settings, asked }
}

/// What comes of reading a secret, and what the server was asked.
async fn read(answer: &str, endless: bool) -> (Result<Option<Held>, VaultError>, String) {
    let Peer { settings, asked } = peer(answer.to_owned(), endless).await;
    let vault = Vault::new(settings).unwrap();
    let read = vault.read("secret", "app").await;
    drop(vault);
    (read, asked.await.unwrap())
}

fn whole(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn each_status_means_what_the_api_says() {
    for (status, transient, says) in [
        ("412 Precondition Failed", true, "answers 412"),
        ("429 Too Many Requests", true, "answers 429"),
        ("472 Standby", true, "answers 472"),
        ("500 Internal Server Error", true, "answers 500"),
        ("503 Service Unavailable", true, "sealed"),
        ("400 Bad Request", false, "refuses secret/data/app: 400"),
        ("405 Method Not Allowed", false, "405"),
        ("200 OK", false, "does not answer as a vault does"),
    ] {
        let (read, _) = read(&whole(status, "<html>PLANTED</html>"), false).await;
        let error = read.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains(says) && !said.contains("PLANTED"), "{said}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = peer(whole("200 OK", "{}"), false).await;
    let to = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.settings.url
    );
    let (read, _) = read(&to, false).await;
    assert!(matches!(read, Err(VaultError::Redirected { status: 307, .. })), "{read:?}");
    assert!(!elsewhere.asked.is_finished(), "nobody came");
    elsewhere.asked.abort();
}

#[tokio::test]
async fn an_answer_without_end_is_bounded_and_half_a_one_is_none() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
    let (endless, _) = read(head, true).await;
    assert!(
        matches!(&endless, Err(VaultError::Unreachable { reason, .. }) if reason.contains("longer than"))
    );
    let (garbage, _) = read("I am no HTTP server\r\n\r\n", false).await;
    assert!(matches!(&garbage, Err(VaultError::Unreachable { .. })), "{garbage:?}");
}

#[tokio::test]
async fn what_is_asked_has_namespace_token_and_path_in_their_places() {
    let answer = whole(
        "200 OK",
        r#"{"data": {"ttl": 0, "data": {"a": "b"}, "metadata": {"version": 1, "created_time": "x"}}}"#,
    );
    let (read, asked) = read(&answer, false).await;
    assert_eq!(read.unwrap().unwrap().values.len(), 1);
    for line in [
        "GET /behind/v1/auth/token/lookup-self HTTP/1.1",
        "GET /behind/v1/secret/data/app HTTP/1.1",
        "x-vault-namespace: team/a",
        "x-vault-request: true",
        &format!("x-vault-token: {TOKEN_PLANTED}"),
    ] {
        assert!(asked.contains(line), "{line}: {asked}");
    }
}
