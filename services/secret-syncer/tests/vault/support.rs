//! A real Vault, what its administrator does with it, and a log of everything that the program under test says.

use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use chassis::SecretValue;
use reqwest::{Certificate, Client, Method};
use sandbox::{Options, Sandbox, Supervisor};
use secret_syncer::vault::{Held, Login, Settings, Vault, VaultError};
use serde_json::{Value, json};

const READY: Duration = Duration::from_mins(2);
/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How often something is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// A value that is found again wherever it went.
pub(crate) const PLANTED: &str = "PLANTEDvaultA7f3Kq9vX2";

pub(crate) struct Server {
    pub(crate) sandbox: Sandbox,
    pub(crate) vault: sandbox::Vault,
    root: String,
    client: Client,
}

impl Server {
    /// An open Vault with KV version 2 at `secret`.
    pub(crate) async fn start() -> Server {
        listen();
        let supervisor = Supervisor::of_this_test("supervises");
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let vault = sandbox.vault().await.unwrap();
        vault.ready(READY).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = std::fs::read(vault.authority()).unwrap();
        let builder = Client::builder().tls_certs_only(Certificate::from_pem_bundle(&ca).unwrap());
        let client = builder.timeout(PATIENCE).build().unwrap();
        let root = vault.root_token().unwrap();
        let server = Server { sandbox, vault, root, client };
        server.post("sys/mounts/secret", json!({"type": "kv", "options": {"version": "2"}})).await;
        server.post("sys/auth/approle", json!({"type": "approle"})).await;
        // The engine is there some moments after it was mounted.
        eventually(async || {
            server.ask(Method::POST, "secret/data/first", json!({"data": {}})).await.is_some()
        })
        .await;
        server
    }

    pub(crate) async fn ready(&self) {
        self.vault.ready(READY).await.unwrap();
    }

    /// What the administrator is answered; nothing when it is no success.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> Option<Value> {
        let request = self.client.request(method, format!("{}/v1/{path}", self.vault.url()));
        let request = request.header("x-vault-token", &self.root).body(body.to_string());
        let answer = request.send().await.unwrap();
        let success = answer.status().is_success();
        let bytes = answer.bytes().await.unwrap();
        success.then(|| serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> impl Future<Output = Value> {
        let (path, at) = (path.to_owned(), std::panic::Location::caller());
        async move { self.ask(Method::POST, &path, body).await.unwrap_or_else(|| panic!("{path} at {at}")) }
    }

    /// Writes a secret; a new version each time.
    pub(crate) async fn write(&self, path: &str, values: Value) {
        self.post(&format!("secret/data/{path}"), json!({"data": values})).await;
    }

    /// Makes a policy that lets read one secret and its metadata.
    pub(crate) async fn policy(&self, name: &str, path: &str) {
        let rule = |part: &str| format!("path \"secret/{part}/{path}\" {{ capabilities = [\"read\"] }}\n");
        let policy = rule("data") + &rule("metadata");
        self.post(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).await;
    }

    /// A token with one policy: itself, and the accessor by which it is revoked.
    pub(crate) async fn token(&self, policy: &str, more: Value) -> (String, String) {
        let mut body = json!({"policies": [policy]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.post("auth/token/create", body).await;
        let text = |key: &str| made["auth"][key].as_str().unwrap().to_owned();
        (text("client_token"), text("accessor"))
    }

    pub(crate) fn root(&self) -> Login {
        Login::Token(SecretValue::new(self.root.clone()))
    }

    /// The vault as the program under test sees it.
    pub(crate) fn vault(&self, login: Login) -> Vault {
        Vault::new(self.settings(login)).unwrap()
    }

    pub(crate) fn settings(&self, login: Login) -> Settings {
        let ca = SecretValue::new(std::fs::read(self.vault.authority()).unwrap());
        Settings { url: self.vault.url().parse().unwrap(), namespace: None, ca: Some(ca), login }
    }

    /// Ends, after looking for the planted value, the root token and these others in all that was said.
    pub(crate) async fn stop(self, others: &[&str]) {
        self.sandbox.stop().await.unwrap();
        let said = log().lock().unwrap();
        assert!(!said.is_empty(), "the log is not listened to");
        let said = String::from_utf8_lossy(&said);
        for planted in [PLANTED, &self.root].iter().chain(others) {
            assert!(!said.contains(planted), "found in the log: …{planted}");
        }
    }
}

/// The planted value, read.
#[track_caller]
pub(crate) fn planted(read: Result<Option<Held>, VaultError>) {
    let held = read.unwrap().unwrap();
    assert_eq!(held.values["password"].expose_text(), Some(PLANTED));
}

/// An error that shows nothing planted in any form.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(read: Result<T, VaultError>) -> VaultError {
    let error = read.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(!said.contains("PLANTED") && !said.contains("hvs."), "{said}");
    error
}

pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let tried = async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("it never came true");
}

fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(Mutex::default)
}

/// Everything that is logged from now on, at the finest level, is kept.
fn listen() {
    struct Kept;
    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            log().lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Kept);
    // Of all tests of this program the first one does it for all.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}
