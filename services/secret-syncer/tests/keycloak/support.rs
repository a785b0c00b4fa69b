//! A real Keycloak, an administrator who sets the scene and looks at the outcome, and runs of the targets.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::converge::{Fault, Reconcile, Standing, Told, converge};
use chassis::secret::SecretStore;
use lifecycle::document::{Environment, Source};
use reqwest::{Client, Method};
use sandbox::{Keycloak, KeycloakOptions, Options, Sandbox, Supervisor};
use secret_syncer::keycloak::{Error, KeycloakTarget, Spec, targets};
use serde_json::{Value, json};
use tempfile::TempDir;

const READY: Duration = Duration::from_mins(5);
/// A value that no error, plan or Debug may ever show begins like this.
pub(crate) const PLANTED: &str = "planted-";

pub(crate) type Target = KeycloakTarget<SecretStore>;

/// A Keycloak and who looks after the scene.
pub(crate) struct Scene {
    sandbox: Sandbox,
    pub(crate) keycloak: Keycloak,
    http: Client,
    secrets: TempDir,
    /// Everything that was said anywhere.
    transcript: Mutex<String>,
    /// Everything that was logged.
    logged: Logged,
}

/// A log in memory.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_secs(30)).tls_certs_only([]).build().unwrap()
}

impl Scene {
    pub(crate) async fn start() -> Scene {
        let supervisor = Supervisor::of_this_test("supervises");
        let sandbox = Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts");
        let features = vec!["client-secret-rotation".to_owned()];
        let options = KeycloakOptions { features, ..KeycloakOptions::default() };
        let keycloak = sandbox.keycloak(options).await.expect("a server is made");
        keycloak.ready(READY).await.expect("it is ready");
        let secrets = tempfile::tempdir().unwrap();
        let logged = Logged::default();
        let writer = logged.clone();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        log.with_ansi(false).with_writer(move || writer.clone()).init();
        Scene { sandbox, keycloak, http: http(), secrets, transcript: Mutex::default(), logged }
    }

    pub(crate) async fn stop(self) {
        let transcript = self.transcript.into_inner().unwrap();
        assert!(transcript.len() > 10_000, "little was said: {transcript}");
        assert!(!transcript.contains(PLANTED), "a value was shown");
        let logged = String::from_utf8_lossy(&self.logged.0.lock().unwrap()).into_owned();
        assert!(logged.contains("TRACE"), "nothing was logged");
        let line = logged.lines().find(|line| line.contains(PLANTED));
        assert_eq!(line, None, "a value was logged");
        self.sandbox.stop().await.expect("it stops");
    }

    /// A token for the administrator, or for a client that logs in by itself.
    async fn token(&self, realm: &str, form: String) -> Result<String, (u16, Value)> {
        let url = format!("{}/realms/{realm}/protocol/openid-connect/token", self.keycloak.url());
        let build = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        let response = build.body(form).send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        match answer["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err((status, answer)),
        }
    }

    /// Whether a client logs in with a secret.
    pub(crate) async fn logs_in(&self, realm: &str, client: &str, secret: &str) -> bool {
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
        self.token(realm, form).await.is_ok()
    }

    /// Asks as the administrator.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let (user, password) = (self.keycloak.admin_user(), self.keycloak.admin_password());
        let form = format!("grant_type=password&client_id=admin-cli&username={user}&password={password}");
        let token = self.token("master", form).await.expect("the administrator is let in");
        let url = format!("{}/admin/realms{path}", self.keycloak.url());
        let mut build = self.http.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            build = build.header("content-type", "application/json").body(body.to_string());
        }
        let response = build.send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.admin(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) {
        let (status, answer) = self.admin(Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    pub(crate) async fn put(&self, path: &str, body: Value) {
        let (status, answer) = self.admin(Method::PUT, path, Some(body)).await;
        assert_eq!(status, 204, "{path}: {answer}");
    }

    /// A realm that keeps a record of every change to it.
    pub(crate) async fn realm(&self, realm: &str) {
        self.post("", json!({"realm": realm, "enabled": true, "adminEventsEnabled": true})).await;
    }

    pub(crate) async fn record_changes(&self, realm: &str) {
        self.put(&format!("/{realm}/events/config"), json!({"adminEventsEnabled": true})).await;
    }

    /// Every change to a realm that was recorded, the newest first.
    pub(crate) async fn changes(&self, realm: &str) -> Vec<String> {
        let events = self.get(&format!("/{realm}/admin-events?max=10000")).await;
        let text = |event: &Value| {
            let (what, path) = (event["operationType"].as_str(), event["resourcePath"].as_str());
            format!("{} {}", what.unwrap_or_default(), path.unwrap_or_default())
        };
        events.as_array().unwrap().iter().map(text).collect()
    }

    /// The client of this id as it is, whole.
    pub(crate) async fn client(&self, realm: &str, id: &str) -> Value {
        let query = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let found = self.get(&format!("/{realm}/clients?clientId={query}")).await;
        assert_eq!(found.as_array().unwrap().len(), 1, "client {id} of {realm}");
        found[0].clone()
    }

    pub(crate) async fn uid(&self, realm: &str, id: &str) -> String {
        self.client(realm, id).await["id"].as_str().unwrap().to_owned()
    }

    /// A client with a service account that has these roles of these clients, and of the realm where no client is named.
    pub(crate) async fn account(&self, realm: &str, id: &str, secret: &str, roles: &[(&str, &str)]) {
        let client = json!({
            "clientId": id, "serviceAccountsEnabled": true, "standardFlowEnabled": false, "secret": secret,
        });
        self.post(&format!("/{realm}/clients"), client).await;
        for (holder, role) in roles {
            self.give(realm, id, holder, role).await;
        }
    }

    pub(crate) async fn give(&self, realm: &str, id: &str, holder: &str, role: &str) {
        let client = self.uid(realm, id).await;
        let user = self.get(&format!("/{realm}/clients/{client}/service-account-user")).await;
        let user = user["id"].as_str().unwrap();
        let (from, to) = if holder.is_empty() {
            (format!("/{realm}/roles/{role}"), format!("/{realm}/users/{user}/role-mappings/realm"))
        } else {
            let holder = self.uid(realm, holder).await;
            let to = format!("/{realm}/users/{user}/role-mappings/clients/{holder}");
            (format!("/{realm}/clients/{holder}/roles/{role}"), to)
        };
        let role = self.get(&from).await;
        self.post(&to, json!([role])).await;
    }

    /// Writes a secret that documents refer to, as somebody else would.
    pub(crate) fn secret(&self, name: &str, value: &str) {
        let path = self.secrets.path().join("app").join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("k"), value).unwrap();
    }

    /// The folder of all Secrets.
    pub(crate) fn root(&self) -> &Path {
        self.secrets.path()
    }

    pub(crate) fn store(&self) -> SecretStore {
        SecretStore::Root(self.secrets.path().to_owned())
    }

    /// What such a document declares, with a server that this account of this realm logs in to.
    pub(crate) fn targets(&self, uid: u128, (realm, account): (&str, &str), more: &str) -> Targets {
        let environment = environment(uid, &self.keycloak.url(), (realm, account), more);
        Targets::of(&environment, &self.store())
    }

    pub(crate) fn say(&self, text: &str) {
        self.transcript.lock().unwrap().push_str(text);
    }

    /// How every client stands after one run.
    pub(crate) async fn once(&self, targets: &Targets) -> BTreeMap<String, Standing> {
        let mut all = BTreeMap::new();
        for (name, (target, spec)) in &targets.0 {
            let standing = self.run(target, spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            all.insert(name.clone(), standing);
        }
        all
    }

    /// One run over one client.
    pub(crate) async fn run(&self, target: &Target, spec: &Spec) -> Result<Standing, Error> {
        let last = Mutex::new(None);
        let tell = |told: Told<'_, _>| {
            self.say(&format!("{told:?}\n"));
            match told {
                Told::Drift(note) => self.say(&format!("{}\n", note.text)),
                Told::Step(step) => self.say(&format!("{step}\n")),
                Told::Tried(..) => {}
                Told::Standing(_, standing) => *last.lock().unwrap() = Some(standing),
            }
        };
        if let Ok(world) = target.observe(spec).await {
            self.say(&format!("{world:?}\n{}\n", <Target as Reconcile>::plan(spec, &world)));
        }
        let ran = converge(target, spec, &spec.component, &tell).await;
        self.say(&format!("{target:?} {spec:?} {ran:?}\n"));
        if let Err(error) = &ran {
            self.say(&chassis::exit::chain(error));
        }
        ran?;
        Ok(last.into_inner().unwrap().unwrap())
    }

    /// Runs until nothing is pending any more, as a one-shot does.
    pub(crate) async fn settled(&self, targets: &Targets) -> BTreeMap<String, Standing> {
        for _ in 0..10 {
            let all = self.once(targets).await;
            let moving = |standing: &Standing| {
                matches!(standing, Standing::Pending(_) | Standing::Failed { transient: true, .. })
            };
            if !all.values().any(moving) {
                return all;
            }
        }
        panic!("not settled after 10 runs: {:?}", self.once(targets).await);
    }

    /// The error of one look at the only client.
    pub(crate) async fn error(&self, targets: &Targets) -> Error {
        let (target, spec) = targets.only();
        let error = self.run(target, spec).await.unwrap_err();
        let read = target.secret_of(spec).await.unwrap_err();
        assert_eq!(error.is_transient(), read.is_transient(), "{error} and {read}");
        self.say(&format!("{error:?} {read:?} {read}\n"));
        error
    }
}

/// What a document declares, by component.
pub(crate) struct Targets(pub(crate) BTreeMap<String, (Target, Spec)>);

impl Targets {
    pub(crate) fn of(environment: &Environment, store: &SecretStore) -> Targets {
        let all = targets(environment, store).into_iter();
        Targets(all.map(|(component, target, spec)| (component.to_string(), (target, spec))).collect())
    }

    pub(crate) fn only(&self) -> (&Target, &Spec) {
        assert_eq!(self.0.len(), 1);
        let (target, spec) = self.0.values().next().unwrap();
        (target, spec)
    }

    pub(crate) fn get(&self, name: &str) -> (&Target, &Spec) {
        let (target, spec) = &self.0[name];
        (target, spec)
    }
}

pub(crate) fn environment(uid: u128, url: &str, login: (&str, &str), more: &str) -> Environment {
    let document = chassis::documents::parse("app.yaml", &document(uid, url, login, more)).unwrap();
    let merged = Environment::merge([Source { file: "app.yaml".to_owned(), document }]);
    assert_eq!(merged.problems, []);
    merged.environment.unwrap()
}

/// A document with a server that this account of this realm logs in to.
pub(crate) fn document(uid: u128, url: &str, (realm, account): (&str, &str), more: &str) -> String {
    let uid = uuid::Uuid::from_u128(uid);
    let tls = if url.starts_with("https") { "{ca: {secret: ca, key: k}}" } else { "{mode: disable}" };
    format!(
        "
rollcall: v1
environment: {{name: dev, uid: {uid}}}
fragment: {{name: app, namespace: app}}
keycloak:
  main: {{url: '{url}', tls: {tls}, login: {{realm: {realm}, client: {account}, secret: {{secret: {account}, key: k}}}}}}
{more}
"
    )
}

#[track_caller]
pub(crate) fn ready(standing: &Standing, changed: bool) {
    let Standing::Ready { changed: did, evidence } = standing else { panic!("not ready: {standing:?}") };
    assert_eq!((*did, evidence.level.as_str()), (changed, "client"));
    assert!(!evidence.incarnation["client_uid"].is_empty());
}

#[track_caller]
pub(crate) fn refused(standing: &Standing, says: &str) {
    let Standing::Refused(text) = standing else { panic!("not refused: {standing:?}") };
    assert!(text.contains(says), "{text}");
}

#[track_caller]
pub(crate) fn failed(standing: &Standing, says: &str) {
    let Standing::Failed { error, code, transient: false } = standing else {
        panic!("not failed for good: {standing:?}")
    };
    assert!(error.contains(says) && code == "403", "{code}: {error}");
}
