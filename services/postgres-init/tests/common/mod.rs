//! A real server, documents, Secrets, and a look at what is there.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

pub mod bench;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chassis::SecretValue;
use chassis::converge::{Plan, Reconcile, Standing, Told, converge};
use chassis::secret::SecretStore;
use lifecycle::Component;
use lifecycle::document::{Document, Environment, Source};
use postgres::{Encryption, Server, Session};
use postgres_init::{PostgresTarget, ServerSpec, Step, targets};
use sandbox::{Options, PgBouncer, PgBouncerOptions, PostgresOptions, Sandbox, Supervisor};
use serde_json::{Value, json};

const READY: Duration = Duration::from_mins(1);

/// A server, and the Secrets of everybody who uses it.
pub struct World {
    sandbox: Sandbox,
    pub server: sandbox::Postgres,
    pub secrets: tempfile::TempDir,
}

impl World {
    pub async fn start(version: u16) -> World {
        World::with(version, &[]).await
    }

    pub async fn with(version: u16, settings: &[(&str, &str)]) -> World {
        World::on(version, settings, None).await
    }

    /// A server on a disk of its own, of so many bytes.
    pub async fn on_a_disk(version: u16, bytes: u64) -> World {
        World::on(version, &[], Some(bytes)).await
    }

    async fn on(version: u16, settings: &[(&str, &str)], disk: Option<u64>) -> World {
        let sandbox = Sandbox::start(Options::new(Supervisor::of_this_test("supervises")))
            .await
            .expect("a sandbox starts");
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let server =
            sandbox.postgres(PostgresOptions { version, settings, disk, ..PostgresOptions::default() });
        let server = server.await.expect("a server is made");
        server.ready(READY).await.expect("it is ready");
        let world = World { sandbox, server, secrets: tempfile::tempdir().expect("a directory") };
        world.secret("pg", world.server.password());
        world.secret("observer", "observes-only");
        world
    }

    pub async fn stop(self) {
        self.sandbox.stop().await.expect("it stops");
    }

    /// Writes key `password` of a Secret in namespace `dev`.
    pub fn secret(&self, name: &str, value: &str) {
        let folder = self.secrets.path().join("dev").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("password"), value).expect("written");
    }

    pub fn store(&self) -> SecretStore {
        SecretStore::Root(self.secrets.path().to_owned())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).expect("a log")
    }

    fn at(&self) -> Server {
        Server {
            component: "postgres/main".parse().expect("a component"),
            host: "127.0.0.1".to_owned(),
            port: self.server.port(),
            tls: Encryption::Disable,
            ca: None,
        }
    }

    pub fn address(&self) -> Server {
        self.at()
    }

    /// Logs in as anybody.
    pub async fn login(
        &self,
        role: &str,
        password: &str,
        database: &str,
    ) -> Result<Session, postgres::Error> {
        let password = SecretValue::new(password);
        Session::open(&self.at(), role, Some(&password), database, "test", READY).await
    }

    /// Sees to it that there is a `psql` to be started.
    pub async fn has_psql(&self) {
        let ran = self.sandbox.psql(&self.server, self.secrets.path(), &["-c", "SELECT 1"]).await;
        ran.expect("psql can be had");
    }

    /// A PgBouncer before the server, which knows the superuser and these besides.
    pub async fn pgbouncer(
        &self,
        mode: &'static str,
        users: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> PgBouncer {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        // A login that failed makes the next ones wait, 15 seconds unless told otherwise.
        let settings = [&[("server_login_retry", "1")], settings].concat();
        let options = PgBouncerOptions { mode, users: owned(users), settings: owned(&settings) };
        let pooler = self.sandbox.pgbouncer(&self.server, options).await.expect("a pooler starts");
        pooler.ready(READY).await.expect("it is ready");
        pooler
    }

    /// Runs statements as the superuser.
    pub async fn run(&self, database: &str, sql: &str) {
        let mut session = self.login("postgres", self.server.password(), database).await.expect("a login");
        session.execute(sql).await.expect(sql);
        session.close().await;
    }

    /// One text, asked by the superuser.
    pub async fn ask(&self, database: &str, sql: &'static str) -> String {
        let mut session = self.login("postgres", self.server.password(), database).await.expect("a login");
        let (connection, within) = session.parts();
        let answer: Option<String> =
            within.judge(sqlx::query_scalar(sql).fetch_one(connection)).await.expect(sql);
        session.close().await;
        answer.unwrap_or_default()
    }

    /// Waits until the superuser is answered so: what a client held is let go when its backend has ended, a moment after it.
    pub async fn comes_to(&self, database: &str, sql: &'static str, answer: &str) {
        bench::until(async || self.ask(database, sql).await == answer).await;
    }

    /// What every shared row that is ours was last written by.
    pub async fn written(&self) -> String {
        self.ask(
            "rollcall",
            "SELECT string_agg(row, E'\\n' ORDER BY row) FROM (
               SELECT 'database ' || datname || xmin AS row FROM pg_database
               UNION ALL SELECT 'role ' || rolname || xmin || coalesce(rolpassword, '') FROM pg_authid
               UNION ALL SELECT 'member ' || roleid || member || xmin FROM pg_auth_members
               UNION ALL SELECT 'comment ' || objoid || xmin FROM pg_shdescription
               UNION ALL SELECT 'setting ' || setdatabase || setrole || xmin FROM pg_db_role_setting
               UNION ALL SELECT 'record ' || kind || name || xmin FROM rollcall.owned) rows",
        )
        .await
    }

    /// The server's own part of a document.
    pub fn server_part(&self) -> Value {
        json!({"main": {
            "host": "127.0.0.1", "port": self.server.port(), "tls": {"mode": "disable"},
            "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}},
            "observer": {"password": {"secret": "observer", "key": "password"}}
        }})
    }

    /// A document of environment `name`; its Secrets get passwords unless they have one.
    pub fn document(&self, name: &str, databases: &[Db]) -> Value {
        for db in databases {
            if !self.secrets.path().join("dev").join(&db.secret).exists() {
                self.secret(&db.secret, &format!("password-of-{}", db.secret));
            }
        }
        let databases: BTreeMap<&str, Value> =
            databases.iter().map(|db| (db.name.as_str(), db.part())).collect();
        json!({
            "rollcall": "v1", "environment": {"name": name, "uid": uid(name)},
            "fragment": {"name": "base", "namespace": "dev"},
            "postgres": self.server_part(), "databases": databases,
        })
    }

    /// From now on a managed service's administrator provisions: CREATEROLE and CREATEDB, and no superuser.
    pub async fn managed(&self, document: &mut Value) {
        self.run("postgres", "CREATE ROLE managed LOGIN CREATEROLE CREATEDB PASSWORD 'managed-secret'").await;
        self.secret("pg", "managed-secret");
        document["postgres"]["main"]["admin"]["user"] = "managed".into();
    }

    /// Two runs, after which all must be ready: what waits for something of the first is made in the second.
    pub async fn settle_twice(&self, document: &Value) {
        self.converge(document).await;
        self.settle(document).await;
    }

    /// What is said of a plan, line by line.
    pub async fn told(&self, document: &Value) -> String {
        self.plan(document).await.to_string()
    }

    pub fn target(&self, document: &Value) -> (PostgresTarget, ServerSpec) {
        let (_, target, spec) = targets(&environment(document), &self.store()).pop().expect("one server");
        (target, spec)
    }

    /// One whole run.
    pub async fn converge(&self, document: &Value) -> BTreeMap<Component, Standing> {
        let (target, spec) = self.target(document);
        standings(&target, &spec).await
    }

    /// One whole run after which all must be ready.
    pub async fn settle(&self, document: &Value) {
        for (component, standing) in self.converge(document).await {
            assert!(matches!(standing, Standing::Ready { .. }), "{component}: {standing:?}");
        }
    }

    pub async fn plan(&self, document: &Value) -> Plan<Step> {
        let (target, spec) = self.target(document);
        PostgresTarget::plan(&spec, &target.observe(&spec).await.expect("it can be observed"))
    }
}

/// A uid that is the same for the same name.
pub fn uid(name: &str) -> String {
    let hash = lifecycle::sha256_hex(&[name]);
    format!("{}-{}-4{}-8{}-{}", &hash[..8], &hash[8..12], &hash[12..15], &hash[15..18], &hash[18..30])
}

pub fn environment(document: &Value) -> Environment {
    let document: Document = serde_json::from_value(document.clone()).expect("a document");
    let merged = Environment::merge([Source { file: "test.yaml".to_owned(), document }]);
    assert!(merged.problems.is_empty(), "{:?}", merged.problems);
    merged.environment.expect("an environment")
}

/// A database of a document.
pub struct Db {
    pub name: String,
    pub secret: String,
    pub as_owner: bool,
    pub extensions: Vec<String>,
    pub more: Value,
}

impl Db {
    pub fn new(name: &str) -> Db {
        Db {
            name: name.to_owned(),
            secret: format!("{name}-db"),
            as_owner: true,
            extensions: Vec::new(),
            more: json!({}),
        }
    }

    pub fn extension(mut self, name: &str) -> Db {
        self.extensions.push(name.to_owned());
        self
    }

    pub fn without_ddl(self) -> Db {
        Db { as_owner: false, ..self }
    }

    /// Says more of it, in the words of documents.
    pub fn with(self, more: Value) -> Db {
        Db { more, ..self }
    }

    fn part(&self) -> Value {
        let mut part = json!({
            "server": "main", "extensions": self.extensions,
            "roles": {"app": {
                "name": format!("{}_user", self.name), "password": {"secret": self.secret, "key": "password"},
                "ddl": if self.as_owner { "as-owner" } else { "none" }
            }}
        });
        merge(&mut part, &self.more);
        part
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// How each component stands after one run.
pub async fn standings(target: &PostgresTarget, spec: &ServerSpec) -> BTreeMap<Component, Standing> {
    let told = Mutex::new(BTreeMap::new());
    let tell = |news: Told<'_, Step>| {
        if let Told::Standing(component, standing) = news {
            told.lock().expect("nobody panicked").insert(component, standing);
        }
    };
    converge(target, spec, &spec.component, &tell).await.expect("the server can be observed");
    told.into_inner().expect("nobody panicked")
}

/// How one component stands.
pub fn standing<'a>(standings: &'a BTreeMap<Component, Standing>, component: &str) -> &'a Standing {
    &standings[&component.parse::<Component>().expect("a component")]
}

pub fn is_ready(standings: &BTreeMap<Component, Standing>, component: &str) -> bool {
    matches!(standing(standings, component), Standing::Ready { .. })
}

/// The text of a refusal.
pub fn refused(standings: &BTreeMap<Component, Standing>, component: &str) -> String {
    match standing(standings, component) {
        Standing::Refused(text) => text.clone(),
        other => panic!("{component}: {other:?}"),
    }
}
