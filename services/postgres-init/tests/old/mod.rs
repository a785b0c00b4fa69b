//! What the old script left behind, clients that use it all the while, and our commands as they are typed.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::{Context, Failure, SecretValue};
use clap::Parser;
use postgres::{Server, Session};
use postgres_init::Args;
use postgres_init::audit::{Report, report};
use serde_json::Value;

use super::common::World;

/// Every role's verifier.
pub const ROLES: &str = "SELECT string_agg(rolname || coalesce(rolpassword, '-'), E'\\n' ORDER BY rolname) FROM pg_authid WHERE rolname !~ '^(rollcall|.*_owner)'";

/// What the script did, in its last version (facts: openg2p.md 2.2), each statement by itself.
pub async fn script(world: &World, database: &str, password: &str) {
    let user = format!("{database}_user");
    for sql in [
        format!("CREATE DATABASE \"{database}\""),
        format!("CREATE USER \"{user}\" WITH PASSWORD '{password}' CREATEDB CREATEROLE REPLICATION"),
        format!("GRANT ALL PRIVILEGES ON DATABASE \"{database}\" TO \"{user}\""),
    ] {
        world.run("postgres", &sql).await;
    }
    for sql in [
        format!("GRANT CREATE ON SCHEMA public TO \"{user}\""),
        format!("GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO \"{user}\""),
        format!("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL PRIVILEGES ON TABLES TO \"{user}\""),
    ] {
        world.run(database, &sql).await;
    }
}

/// Our commands, on one document.
pub struct Commands {
    folder: tempfile::TempDir,
    context: Context,
}

impl Commands {
    pub fn context(world: &World) -> Context {
        let root = world.secrets.path().display().to_string();
        let settings = [("ROLLCALL_SECRETS_ROOT", root.as_str()), ("ROLLCALL_DEADLINE", "60s")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Context::new("postgres-init", Settings::load(settings).unwrap(), Shutdown::manual())
    }

    pub fn new(world: &World, document: &Value) -> Commands {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one.json"), document.to_string()).unwrap();
        Commands { folder, context: Commands::context(world) }
    }

    /// Runs `postgres-init` with these arguments and the document.
    pub async fn run(&self, args: &[&str]) -> Result<(), Failure> {
        let file = self.folder.path().join("one.json").display().to_string();
        let all = ["postgres-init"].into_iter().chain(args.iter().copied()).chain([file.as_str()]);
        postgres_init::run(Args::try_parse_from(all).unwrap(), self.context.clone()).await
    }

    /// What an audit by the superuser says.
    pub async fn report(&self, world: &World) -> Report {
        audit(world, "postgres", world.server.password()).await
    }
}

/// What an audit says to whoever asks.
pub async fn audit(world: &World, user: &str, password: &str) -> Report {
    audit_besides(world, user, password, &[]).await
}

/// What an audit says where these are known to administer the server too.
pub async fn audit_besides(world: &World, user: &str, password: &str, known: &[&str]) -> Report {
    let access = postgres_init::world::Access {
        server: world.address(),
        user: user.to_owned(),
        password: Some(SecretValue::new(password)),
        database: "postgres".to_owned(),
    };
    report("test".to_owned(), &access.look(known.iter().map(ToString::to_string).collect()).await.unwrap())
}

/// Clients that query all the time, each in its way, until they are stopped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    done: Vec<Arc<AtomicU64>>,
    tasks: tokio::task::JoinSet<()>,
}

/// What a client does with its session, again and again; each uses what the script's tenants use.
const WORK: [&str; 4] = [
    "INSERT INTO people (name) VALUES ('x')",
    "SELECT count(*) FROM people JOIN names ON true WHERE id < 10; SELECT twice(2), nextval('tickets'); SELECT * FROM \"Restored Data\"",
    "BEGIN; UPDATE people SET name = 'y' WHERE id = 1; INSERT INTO events VALUES (now(), 'z'); REFRESH MATERIALIZED VIEW counted; COMMIT",
    // Holds what an owner's change would have to wait for.
    "BEGIN; SELECT count(*) FROM people; SELECT pg_sleep(0.3); SELECT count(*) FROM \"Restored Data\"; COMMIT",
];

impl Clients {
    /// Starts clients in each database: one with one session for each kind of work, and one that logs in anew each time.
    pub async fn start(world: &World, databases: &BTreeMap<&str, &str>) -> Clients {
        let mut clients = Clients {
            stop: Arc::default(),
            failures: Arc::default(),
            done: Vec::new(),
            tasks: tokio::task::JoinSet::new(),
        };
        for (database, password) in databases {
            for (work, anew) in
                WORK.iter().map(|work| (*work, false)).chain([(WORK[0], true), (WORK[1], true)])
            {
                let done = Arc::new(AtomicU64::new(0));
                clients.done.push(Arc::clone(&done));
                clients.tasks.spawn(client(
                    world.address(),
                    (*database).to_owned(),
                    SecretValue::new(*password),
                    (work, anew),
                    (Arc::clone(&clients.stop), Arc::clone(&clients.failures), done),
                ));
            }
        }
        clients.all_move_on().await;
        clients
    }

    /// Waits until each has done more, in vain when one failed.
    pub async fn all_move_on(&mut self) {
        let before: Vec<u64> = self.done.iter().map(|done| done.load(Ordering::SeqCst)).collect();
        let moved = async {
            while self.done.iter().zip(&before).any(|(done, before)| done.load(Ordering::SeqCst) < before + 2)
                && self.failures.lock().unwrap().is_empty()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), moved).await.expect("clients are served");
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
    }

    /// Ends them, and says what failed.
    pub async fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.failures.lock().unwrap().clone()
    }
}

async fn client(
    server: Server,
    database: String,
    password: SecretValue,
    (work, anew): (&'static str, bool),
    (stop, failures, done): (Arc<AtomicBool>, Arc<Mutex<Vec<String>>>, Arc<AtomicU64>),
) {
    let role = format!("{database}_user");
    let mut session: Option<Session> = None;
    while !stop.load(Ordering::SeqCst) {
        let result = async {
            if session.is_none() {
                let within = Duration::from_secs(20);
                session =
                    Some(Session::open(&server, &role, Some(&password), &database, "client", within).await?);
            }
            session.as_mut().unwrap().execute(work).await
        };
        if let Err(error) = result.await {
            failures.lock().unwrap().push(format!("{work}: {error}"));
            return;
        }
        done.fetch_add(1, Ordering::SeqCst);
        if anew {
            session.take().unwrap().close().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Some(session) = session {
        session.close().await;
    }
}
