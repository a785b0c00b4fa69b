//! The server that is measured, and the programs that work on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::SecretValue;
use postgres::{Encryption, Server, Session};
use sandbox::{Options, Postgres, PostgresOptions, Sandbox, Supervisor};
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};
use uuid::Uuid;

const READY: Duration = Duration::from_mins(1);
/// How often a process's memory is read. What counts is its own high-water mark, so only its last moment can be missed.
const LOOK: Duration = Duration::from_millis(2);
/// Clock ticks a second, as `/proc` counts CPU time on Linux.
const TICKS: u64 = 100;

pub(crate) struct Side {
    sandbox: Sandbox,
    server: Postgres,
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// What the server did.
pub(crate) struct Ran {
    pub(crate) statements: i64,
    pub(crate) cpu_ms: u64,
}

impl Side {
    pub(crate) async fn start(program: PathBuf, version: u16) -> Side {
        let supervisor = acceptance::programs("dev", &["sandbox"]).remove("sandbox-supervisor").unwrap();
        let supervisor = Supervisor::command(supervisor, Vec::<String>::new());
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let settings = [("shared_preload_libraries", "pg_stat_statements"), ("max_connections", "200")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = PostgresOptions { version, settings: settings.into(), ..PostgresOptions::default() };
        let server = sandbox.postgres(options).await.unwrap();
        server.ready(READY).await.unwrap();
        let side = Side { sandbox, server, program, folder: tempfile::tempdir().unwrap() };
        side.write_secret("pg", side.server.password());
        side.ask("CREATE EXTENSION pg_stat_statements").await;
        side
    }

    pub(crate) async fn stop(self) {
        self.sandbox.stop().await.unwrap();
    }

    async fn session(&self) -> Session {
        let server = Server {
            component: "postgres/main".parse().unwrap(),
            host: self.server.host().to_owned(),
            port: self.server.port(),
            tls: Encryption::Disable,
            ca: None,
        };
        let password = SecretValue::new(self.server.password());
        Session::open(&server, "postgres", Some(&password), "postgres", "bench", READY).await.unwrap()
    }

    async fn ask(&self, sql: &str) {
        let mut session = self.session().await;
        session.execute(sql).await.unwrap();
        session.close().await;
    }

    /// Forgets the statements so far; the server's CPU time until now.
    pub(crate) async fn before(&self) -> u64 {
        self.ask("CHECKPOINT").await;
        self.ask("SELECT pg_stat_statements_reset()").await;
        self.alone().await;
        self.cpu()
    }

    /// What it did since, without what asks for it.
    pub(crate) async fn since(&self, before: u64) -> Ran {
        self.alone().await;
        let cpu_ms = (self.cpu() - before) * 1000 / TICKS;
        let mut session = self.session().await;
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar(
            "SELECT sum(calls)::int8 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements_reset%'",
        );
        let statements = within.judge(asked.fetch_one(connection)).await.unwrap();
        session.close().await;
        Ran { statements, cpu_ms }
    }

    /// Waits until nobody is served any more: only then all of it is counted.
    async fn alone(&self) {
        let mut session = self.session().await;
        loop {
            let (connection, within) = session.parts();
            let asked = sqlx::query_scalar::<_, i64>(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
            );
            if within.judge(asked.fetch_one(connection)).await.unwrap() == 1 {
                break;
            }
        }
        session.close().await;
    }

    /// The CPU time of the server, in ticks: its own, that of its processes that live, and of those that have ended.
    fn cpu(&self) -> u64 {
        let server = self.server.handle().pid().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let of = |stat: String| {
            let pid: i32 = stat.split(' ').next()?.parse().ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            // Fields of proc(5) from the third on: parent, utime, stime, cutime, cstime.
            let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
            match (pid == server, number(4)? == u64::try_from(server).ok()?) {
                (true, _) => Some(number(14)? + number(15)? + number(16)? + number(17)?),
                (false, true) => Some(number(14)? + number(15)?),
                (false, false) => None,
            }
        };
        stats.filter_map(of).sum()
    }

    /// Makes the Secret of a tenant.
    pub(crate) fn secret(&self, name: &str) {
        self.write_secret(name, &format!("password-of-{name}"));
    }

    fn write_secret(&self, name: &str, value: &str) {
        let folder = self.folder.path().join("secrets/dev").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("password"), value).unwrap();
    }

    /// Writes a document of an environment of its own.
    pub(crate) fn write(&self, name: &str, databases: &Map<String, Value>) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.json"));
        let document = json!({
            "rollcall": "v1",
            "environment": {"name": name, "uid": Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes())},
            "fragment": {"name": "base", "namespace": "dev"},
            "postgres": {"main": {
                "host": self.server.host(), "port": self.server.port(), "tls": {"mode": "disable"},
                "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}},
            }},
            "databases": databases,
        });
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    /// Runs `postgres-init apply`; the largest resident set in MiB.
    pub(crate) async fn apply(&self, document: &Path) -> f64 {
        let mut command = Command::new(&self.program);
        command.arg("apply").arg(document).env_clear();
        command.env("ROLLCALL_SECRETS_ROOT", self.folder.path().join("secrets"));
        command.env("ROLLCALL_DEADLINE", "300s").env("ROLLCALL_LOG", "warn");
        ends(command.kill_on_drop(true).spawn().unwrap()).await
    }

    /// Runs the script for one tenant.
    pub(crate) async fn script(&self, script: &str, database: &str, user: &str) -> f64 {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("DB_HOST", self.server.host());
        command.env("DB_PORT", self.server.port().to_string()).env("DB_NAME", database).env("DB_USER", user);
        command.env("DB_ADMIN_PASSWORD", self.server.password()).env("DB_USER_PASSWORD", "secret");
        ends(command.kill_on_drop(true).spawn().unwrap()).await
    }
}

/// Waits for a process's success; its largest resident set in MiB.
async fn ends(mut child: Child) -> f64 {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0_f64;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = kib.and_then(|kib| kib.parse::<f64>().ok()).map_or(peak, |kib| peak.max(kib / 1024.0));
        if let Ok(ended) = tokio::time::timeout(LOOK, child.wait()).await {
            assert!(ended.unwrap().success());
            return peak;
        }
    }
}
