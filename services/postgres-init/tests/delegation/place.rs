//! An environment with one `postgres-init serve` that has the server's credential, and modules in other namespaces that have none.
#![allow(unreachable_pub, reason = "a part of the test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use chassis::grpc::{Callers, Identity, TokenError, Verify};
use chassis::provision::Command;
use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::{Context, Failure};
use clap::Parser;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::{World, uid};

/// Knows tokens of the form `namespace/account`, or `namespace/account@end` in milliseconds since 1970, or `namespace/account@+life` of
/// one that is always shown so long before its end; and counts what it is shown.
fn callers(shown: Arc<AtomicUsize>) -> Callers {
    let verify: Verify = Arc::new(move |token| {
        shown.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let (whose, end) = token.split_once('@').unwrap_or((&token, "4102444800000"));
            let (namespace, account) = whose.split_once('/').ok_or(TokenError::Invalid("is none"))?;
            let since = if end.starts_with('+') { SystemTime::now() } else { SystemTime::UNIX_EPOCH };
            let expires = since + Duration::from_millis(end.parse().unwrap());
            if expires <= SystemTime::now() {
                return Err(TokenError::Invalid("has expired"));
            }
            let (namespace, account) = (namespace.to_owned(), account.to_owned());
            Ok(Identity { namespace, account, pod: None, expires })
        })
    });
    Callers { verify, home: "dev".to_owned() }
}

pub struct Place {
    pub world: World,
    /// The modules' Secrets: none of the server's are among them.
    modules: tempfile::TempDir,
    folder: tempfile::TempDir,
    port: u16,
    shown: Arc<AtomicUsize>,
    serving: Mutex<Option<Serving>>,
}

/// A `serve` that ends with whoever holds it, also where a test fails.
struct Serving {
    shutdown: Shutdown,
    ended: Option<JoinHandle<Result<(), Failure>>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Place {
    /// A server whose document has these rules.
    pub async fn start(world: World, managed: bool, rules: Value) -> Place {
        let port = sandbox::ports::free(1).unwrap()[0];
        let (modules, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut base = world.document("dev", &[]);
        if managed {
            world.managed(&mut base).await;
        }
        base["postgres"]["main"]["delegate"] = rules;
        let own = crate::common::Db::new("own");
        base["databases"] = world.document("dev", &[own])["databases"].clone();
        std::fs::write(folder.path().join("base.json"), base.to_string()).unwrap();
        let place = Place { world, modules, folder, port, shown: Arc::default(), serving: Mutex::default() };
        place.serve();
        place
    }

    fn context(secrets: &Path, shutdown: Shutdown, more: &[(&str, String)]) -> Context {
        let env = [
            ("ROLLCALL_SECRETS_ROOT", secrets.display().to_string()),
            ("ROLLCALL_DEADLINE", "60s".to_owned()),
            ("ROLLCALL_RESYNC", "200ms".to_owned()),
            ("ROLLCALL_HEALTH_LISTEN", "127.0.0.1:0".to_owned()),
            ("ROLLCALL_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let env = env.into_iter().chain(more.iter().cloned());
        let settings = Settings::load(env.map(|(name, value)| (name.to_owned(), value)));
        Context::new("postgres-init", settings.unwrap(), shutdown)
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn serve(&self) {
        let shutdown = Shutdown::manual();
        let listen = [("ROLLCALL_LISTEN", format!("127.0.0.1:{}", self.port))];
        let context = Self::context(self.world.secrets.path(), shutdown.clone(), &listen);
        let callers = callers(Arc::clone(&self.shown));
        let command = Command::Serve { documents: vec![self.folder.path().join("base.json")] };
        // A process of its own, nearly: on a runtime of one thread, as it runs.
        let serving = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(postgres_init::provision(command, context, Some(callers)))
        });
        *self.serving.lock().unwrap() = Some(Serving { shutdown, ended: Some(serving) });
    }

    /// The server's document has these rules when it is served the next time.
    pub fn rules(&self, rules: Value) {
        let path = self.folder.path().join("base.json");
        let mut base: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        base["postgres"]["main"]["delegate"] = rules;
        std::fs::write(path, base.to_string()).unwrap();
    }

    /// How many calls have shown a token.
    pub fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }

    pub async fn stop_serving(&self) {
        let mut serving = self.serving.lock().unwrap().take().unwrap();
        serving.shutdown.trigger();
        serving.ended.take().unwrap().await.unwrap().unwrap();
    }

    pub async fn stop(self) {
        self.stop_serving().await;
        self.world.stop().await;
    }

    /// Writes a Secret of a module; what is not there is not there.
    pub fn secret(&self, namespace: &str, name: &str, value: &str) {
        let folder = self.modules.path().join(namespace).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("password"), value).unwrap();
    }

    /// A fragment of a namespace with one database of its name, and more.
    pub fn fragment(&self, name: &str, namespace: &str, more: impl FnOnce(&mut Value)) -> Value {
        let mut document = json!({
            "rollcall": "v1", "environment": {"name": "dev", "uid": uid("dev")},
            "fragment": {"name": name, "namespace": namespace},
            "uses": {"postgres": {"main": {"host": "127.0.0.1", "port": self.world.server.port(), "tls": {"mode": "disable"}}}},
            "databases": {name: {"server": "main", "roles": {"app": {
                "name": format!("{name}_user"), "password": {"secret": format!("{name}-db"), "key": "password"}, "ddl": "as-owner"
            }}}},
            "modules": {name: {"needs": [format!("database/{name}")]}},
        });
        more(&mut document);
        document
    }

    fn write(&self, document: &Value) -> PathBuf {
        let (name, namespace) = (&document["fragment"]["name"], &document["fragment"]["namespace"]);
        let file = format!("{}-{}.json", name.as_str().unwrap(), namespace.as_str().unwrap());
        let path = self.folder.path().join(file);
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    /// The file of whoever began with this token has another from now on.
    pub fn renew(&self, token: &str, new: &str) -> PathBuf {
        let file = self.folder.path().join(token.replace('/', "-"));
        std::fs::write(&file, new).unwrap();
        file
    }

    /// What the operator is told of what was accepted.
    pub async fn delegations(&self) -> String {
        let base = self.folder.path().join("base.json");
        let (environment, _) = chassis::documents::load_partial(&[base]).unwrap();
        let context = Self::context(self.world.secrets.path(), Shutdown::manual(), &[]);
        let told = postgres_init::delegations(&environment, &context).await.unwrap();
        told.iter().map(ToString::to_string).collect()
    }

    fn of_module(&self, token: &str, deadline: &str) -> Context {
        let file = self.renew(token, token);
        let more = [
            ("ROLLCALL_POSTGRES_INIT", self.address()),
            ("ROLLCALL_HUB_TOKEN_FILE", file.display().to_string()),
            ("ROLLCALL_DEADLINE", deadline.to_owned()),
        ];
        Self::context(self.modules.path(), Shutdown::manual(), &more)
    }

    async fn run(&self, token: &str, deadline: &str, args: &[&str]) -> Result<(), Failure> {
        let args = [&["postgres-init"], args].concat();
        let context = self.of_module(token, deadline);
        Box::pin(postgres_init::run(postgres_init::Args::parse_from(args), context)).await
    }

    /// Runs step `seed` with these arguments and this command of a shell.
    pub async fn step(
        &self,
        token: &str,
        document: &Value,
        args: &[&str],
        script: &str,
    ) -> Result<(), Failure> {
        let path = self.write(document);
        let begin = ["step", "seed", "--documents", path.to_str().unwrap()];
        let command: &[&str] = if script.is_empty() { &[] } else { &["--", "sh", "-c", script] };
        self.run(token, "60s", &[&begin[..], args, command].concat()).await
    }

    /// A folder for what commands leave.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes something the direct way, with the server's credential.
    pub async fn directly(&self, document: &Value) -> Result<(), Failure> {
        let (base, path) = (self.folder.path().join("base.json"), self.write(document));
        let args = ["postgres-init", "apply", base.to_str().unwrap(), path.to_str().unwrap()];
        let args = postgres_init::Args::parse_from(args);
        let context = Self::context(self.world.secrets.path(), Shutdown::manual(), &[]);
        Box::pin(postgres_init::run(args, context)).await
    }

    /// What a module's init container does, with a token.
    pub async fn apply(&self, token: &str, document: &Value) -> Result<(), Failure> {
        self.apply_within(token, document, "60s").await
    }

    /// The same, with this deadline.
    pub async fn apply_within(&self, token: &str, document: &Value, deadline: &str) -> Result<(), Failure> {
        let path = self.write(document);
        self.run(token, deadline, &["apply", path.to_str().unwrap()]).await
    }
}
