//! Passwords of every kind log in, are left alone while they do, and are nowhere in the server's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Db, World};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const HOSTILE: [&str; 8] = [
    "it's'; DROP ROLE postgres; --",
    "\"planted\"",
    "back\\slash\\'planted",
    "planted@host:5432/db#x%20$1",
    "x' SUPERUSER PASSWORD 'planted",
    "pä\u{df}wört-\u{2168}-planted-漢字",
    " planted with spaces ",
    "$$planted$$ %s {} ${HOME}",
];

#[tokio::test]
async fn on_14() {
    hostile(14).await;
}

#[tokio::test]
async fn on_18() {
    hostile(18).await;
}

async fn hostile(version: u16) {
    let settings = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_min_error_statement", "debug5"),
    ];
    let world = World::with(version, &settings).await;
    let databases: Vec<Db> = (0..HOSTILE.len()).map(|i| Db::new(&format!("db{i}"))).collect();
    for (db, password) in databases.iter().zip(HOSTILE) {
        world.secret(&db.secret, password);
    }
    let document = world.document("dev", &databases);
    world.settle(&document).await;
    for (db, password) in databases.iter().zip(HOSTILE) {
        let role = format!("{}_user", db.name);
        world.login(&role, password, &db.name).await.unwrap().close().await;
    }
    let powers = "SELECT coalesce(string_agg(rolname, ','), 'none') FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'";
    assert_eq!(world.ask("postgres", powers).await, "none");

    // Rotated: each gets the next one's.
    let before = world.written().await;
    world.settle(&document).await;
    assert_eq!(world.written().await, before, "a password that logs in is not rewritten");
    for (db, password) in databases.iter().zip(HOSTILE.iter().cycle().skip(1)) {
        world.secret(&db.secret, password);
    }
    assert_eq!(world.plan(&document).await.steps.len(), HOSTILE.len());
    world.settle(&document).await;
    for (db, password) in databases.iter().zip(HOSTILE.iter().cycle().skip(1)) {
        let role = format!("{}_user", db.name);
        world.login(&role, password, &db.name).await.unwrap().close().await;
    }

    let log = world.log();
    assert!(log.contains("CREATE DATABASE") && log.contains("ALLOW_CONNECTIONS"), "the log holds statements");
    for secret in HOSTILE.into_iter().chain(["planted", "SCRAM-SHA-256$"]) {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
    world.stop().await;
}
