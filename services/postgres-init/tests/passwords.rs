//! Passwords of every kind log in, are left alone while they do, and are nowhere in the server's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::converge::Reconcile;
use common::bench::until;
use common::{Db, World};
use postgres_init::PostgresTarget;

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

#[tokio::test]
async fn who_may_not_read_verifiers_tries_each_login_once_and_again_a_while_later() {
    for version in [14, 18] {
        let world = World::with(version, &[("log_connections", "on")]).await;
        let mut document = world.document("dev", &[Db::new("registry"), Db::new("pbms")]);
        world.managed(&mut document).await;
        let logins =
            |role: &str| world.log().matches(&format!("connection authorized: user={role} ")).count();

        let (target, spec) = world.target(&document);
        common::standings(&target, &spec).await;
        assert_eq!((logins("registry_user"), logins("pbms_user")), (1, 1), "once it is made");
        // In a process that begins anew too, which finds a change to make besides.
        world.run("postgres", "ALTER DATABASE registry CONNECTION LIMIT 5").await;
        document["databases"]["registry"]["connection_limit"] = 7.into();
        let (target, spec) = world.target(&document);
        common::standings(&target, &spec).await;
        assert_eq!((logins("registry_user"), logins("pbms_user")), (2, 2));

        // Another password in the Secret is another question.
        world.secret("pbms-db", "another");
        let seen = target.observe(&spec).await.unwrap();
        let plan = PostgresTarget::plan(&spec, &seen);
        assert_eq!(
            plan.to_string(),
            "+ database/pbms: set the password of role `pbms_user` to what its Secret holds\n"
        );
        common::standings(&target, &spec).await;
        world.login("pbms_user", "another", "pbms").await.unwrap().close().await;

        // Somebody changes a password on the server: who goes on looking finds out, in a third of a minute.
        if version == 18 {
            world.run("postgres", "ALTER ROLE registry_user PASSWORD 'changed'").await;
            let expected =
                "+ database/registry: set the password of role `registry_user` to what its Secret holds\n";
            until(|| async {
                let seen = target.observe(&spec).await.unwrap();
                PostgresTarget::plan(&spec, &seen).to_string() == expected
            })
            .await;
        }
        world.stop().await;
    }
}
