//! The attacks. Each is tried as the role that logs in and as whomever it may act as, and failing counts only where the server
//! denied it: a mistake in an attack is no defence.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use postgres::{Error, ErrorKind, Session};
use tokio::process::Command;

use crate::common::World;

/// A tenant and whom it attacks.
pub(crate) struct Tenant {
    pub(crate) role: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// A database of another tenant, and who logs in to it.
    pub(crate) neighbour: String,
    pub(crate) neighbours_role: String,
    pub(crate) neighbours_password: String,
    /// A role that logs in and belongs to no tenant.
    pub(crate) bystander: String,
}

/// What is attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    OsCommand,
    ForeignPassword,
    BaseBackup,
    ForeignDatabase,
    PhysicalSlot,
    LogicalRead,
}

/// All of them.
pub(crate) const ATTACKS: [Attack; 6] = [
    Attack::OsCommand,
    Attack::ForeignPassword,
    Attack::BaseBackup,
    Attack::ForeignDatabase,
    Attack::PhysicalSlot,
    Attack::LogicalRead,
];

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Attack::OsCommand => "run a command as the server's user",
            Attack::ForeignPassword => "set another role's password",
            Attack::BaseBackup => "copy the whole cluster over a replication connection",
            Attack::ForeignDatabase => "connect to another tenant's database",
            Attack::PhysicalSlot => "fill the disk through a physical replication slot",
            Attack::LogicalRead => "read another tenant's rows through logical decoding",
        })
    }
}

/// No copy of a cluster is smaller, in bytes: an empty one has 22 MB.
const WHOLE_CLUSTER: u64 = 15_000_000;

/// Whether it succeeds.
pub(crate) async fn succeeds(world: &World, tenant: &Tenant, version: u16, attack: Attack) -> bool {
    match attack {
        Attack::OsCommand => {
            let grant = format!("GRANT pg_execute_server_program TO {}", tenant.role);
            // Denied or not: what counts is whether the command runs.
            let _ = each_way(world, tenant, &tenant.database, &grant).await;
            let run = "COPY (SELECT 'mine') TO PROGRAM 'cat > /dev/null'";
            done(each_way(world, tenant, &tenant.database, run).await)
        }
        Attack::ForeignPassword => {
            let set = format!("ALTER ROLE {} PASSWORD 'taken'", tenant.bystander);
            let set = done(each_way(world, tenant, &tenant.database, &set).await);
            let login = world.login(&tenant.bystander, "taken", "postgres").await;
            assert_eq!(login.is_ok(), set, "a password that was set logs in, and no other");
            set
        }
        Attack::BaseBackup => base_backup(world, tenant, version).await,
        Attack::ForeignDatabase => {
            match world.login(&tenant.role, &tenant.password, &tenant.neighbour).await {
                Ok(session) => {
                    session.close().await;
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::NoConnect, "{error}");
                    false
                }
            }
        }
        Attack::PhysicalSlot => {
            let slot = "SELECT pg_create_physical_replication_slot('kept_for_ever', true)";
            let made = done(each_way(world, tenant, &tenant.database, slot).await);
            let slots = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'kept_for_ever'";
            assert_eq!(world.ask("postgres", slots).await, if made { "1" } else { "0" });
            made
        }
        Attack::LogicalRead => logical_read(world, tenant).await,
    }
}

fn done(tried: Result<(), Error>) -> bool {
    match tried {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code, "42501", "it must be denied: {error}");
            false
        }
    }
}

/// As the session begins, and as the role that logged in: the first that is not denied, or the last denial.
async fn each_way(world: &World, tenant: &Tenant, database: &str, sql: &str) -> Result<(), Error> {
    let mut session = world.login(&tenant.role, &tenant.password, database).await?;
    let mut tried = session.execute(sql).await;
    if tried.is_err() {
        session.execute("SET ROLE NONE").await.unwrap();
        tried = session.execute(sql).await;
    }
    session.close().await;
    tried
}

/// A physical replication connection reads every file of the cluster.
async fn base_backup(world: &World, tenant: &Tenant, version: u16) -> bool {
    let copy = world.secrets.path().join("copy.tar");
    // The grammar of the replication protocol changed with version 15.
    let backup =
        if version < 15 { "BASE_BACKUP FAST NOWAIT" } else { "BASE_BACKUP (CHECKPOINT 'fast', WAIT false)" };
    world.has_psql().await;
    let connection = format!(
        "host=127.0.0.1 port={} user={} dbname=any replication=true sslmode=disable",
        world.server.port(),
        tenant.role
    );
    let output = Command::new("psql")
        .args(["-X", "-q", "-d", &connection, "-o", copy.to_str().unwrap(), "-c", backup])
        .env("PGPASSWORD", &tenant.password)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), output).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Copied it is before psql says that it does not understand what comes after the files.
    if std::fs::metadata(&copy).is_ok_and(|file| file.len() > WHOLE_CLUSTER) {
        return true;
    }
    assert!(
        said.contains("replication role to start walsender") || said.contains("start WAL sender"),
        "{said}"
    );
    false
}

/// Decoding reads what is written to a database past all its grants.
async fn logical_read(world: &World, tenant: &Tenant) -> bool {
    let Ok(mut spy) = world.login(&tenant.role, &tenant.password, &tenant.neighbour).await else {
        // Who may not connect there tries it from its own database, where it may make no slot.
        let make = "SELECT pg_create_logical_replication_slot('spy', 'test_decoding')";
        return done(each_way(world, tenant, &tenant.database, make).await);
    };
    spy.execute("SELECT pg_create_logical_replication_slot('spy', 'test_decoding')").await.unwrap();
    let direct = spy.execute("SELECT name FROM people").await.unwrap_err();
    assert_eq!(direct.code, "42501", "{direct}");
    let (role, password) = (&tenant.neighbours_role, &tenant.neighbours_password);
    let mut neighbour = world.login(role, password, &tenant.neighbour).await.unwrap();
    // Flushed, for decoding reads no further.
    neighbour.execute("SET synchronous_commit = on; INSERT INTO people VALUES ('Binta')").await.unwrap();
    neighbour.close().await;
    let (connection, within) = spy.parts();
    let read = sqlx::query_scalar("SELECT data FROM pg_logical_slot_get_changes('spy', NULL, NULL)");
    let rows: Vec<String> = within.judge(read.fetch_all(connection)).await.unwrap();
    spy.close().await;
    assert!(rows.iter().any(|row| row.contains("Binta")), "{rows:?}");
    true
}

/// Every lock that a tenant can take and keep, wherever it may connect: sessions to be closed.
pub(crate) async fn hold_locks(world: &World, tenant: &Tenant) -> Vec<Session> {
    let mut held = Vec::new();
    for database in [tenant.database.as_str(), "postgres", "template1", "rollcall", &tenant.neighbour] {
        let Ok(mut session) = world.login(&tenant.role, &tenant.password, database).await else { continue };
        // The numbers are no secret: those of everything that is locked by name, and of a thousand other things.
        session
            .execute(
                "SELECT pg_advisory_lock(1919904876, hashtext(name)), pg_advisory_lock(1667329024, hashtext(name))
                   FROM unnest(ARRAY['', 'mallory', 'victim', 'newcomer', 'rollcall']) name;
                 SELECT pg_advisory_lock(n) FROM generate_series(1, 1000) n",
            )
            .await
            .unwrap();
        held.push(session);
    }
    assert!(!held.is_empty(), "at least its own database lets it in");
    let (role, password) = (&tenant.role, &tenant.password);
    let mut session = world.login(role, password, &tenant.database).await.unwrap();
    session.execute("BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE").await.unwrap();
    held.push(session);
    // What it may write of the shared catalogs, in transactions that do not end.
    for shared in ["ALTER ROLE CURRENT_USER SET work_mem = '1MB'", "COMMENT ON DATABASE mallory IS 'mine'"] {
        let mut session = world.login(role, password, &tenant.database).await.unwrap();
        session.execute("BEGIN").await.unwrap();
        // Not everything is allowed to everybody, and what is not holds nothing.
        let _ = session.execute(shared).await;
        held.push(session);
    }
    held
}
