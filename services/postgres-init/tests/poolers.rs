//! A real PgBouncer between: one that lends its connections is refused before anything is done, one that leaves them to their
//! sessions is no obstacle, and a server itself is never taken for one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use chassis::SecretValue;
use chassis::converge::{Fault, Reconcile};
use chassis::exit::Exit;
use common::bench::Bench;
use common::{Db, World, standings};
use futures_util::future::join_all;
use postgres::{ErrorKind, Server, Session};
use postgres_init::Error;
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// What lends its connections, and how it gives them out.
const LENDING: [(&str, &[(&str, &str)]); 5] = [
    ("transaction", &[]),
    ("transaction", &[("server_round_robin", "1")]),
    ("transaction", &[("server_reset_query_always", "1")]),
    ("statement", &[]),
    ("statement", &[("server_round_robin", "1")]),
];

/// What the server has beyond what it began with.
const MADE: &str = "SELECT (SELECT count(*) FROM pg_database WHERE datname NOT LIKE 'template_' AND datname <> 'postgres')
     || ' databases, ' || (SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname NOT IN ('postgres', 'managed'))
     || ' roles'";

async fn session(world: &World, port: u16, database: &str) -> Session {
    let (server, password) = (Server { port, ..world.address() }, SecretValue::new(world.server.password()));
    let within = Duration::from_mins(1);
    Session::open(&server, "postgres", Some(&password), database, "test", within).await.unwrap()
}

/// Has several clients at work at once, so that the pool holds several connections that are idle afterwards.
async fn warm(world: &World, port: u16) {
    let mut clients = join_all((0..4).map(|_| session(world, port, "postgres"))).await;
    join_all(clients.iter_mut().map(|client| client.execute("SELECT pg_sleep(0.2)"))).await;
    join_all(clients.into_iter().map(Session::close)).await;
}

async fn is_refused(world: &World, document: &Value) {
    let (target, spec) = world.target(document);
    let error = target.observe(&spec).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let said = error.to_string();
    assert!(matches!(&error, Error::Postgres(error) if error.kind == ErrorKind::Pooled), "{error:?}");
    assert!(
        said.contains("pooler") && said.contains("point `host` and `port` to the server itself"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lends_its_connections_is_refused_before_anything_is_done_on_14() {
    is_refused_by(14, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lends_its_connections_is_refused_before_anything_is_done_on_18() {
    is_refused_by(18, true).await;
}

async fn is_refused_by(version: u16, managed: bool) {
    let world = World::start(version).await;
    let mut document = world.document("dev", &[Db::new("registry").extension("pg_trgm")]);
    if managed {
        world.managed(&mut document).await;
    }
    let users = [("managed", "managed-secret")];
    let mut poolers = Vec::new();
    for (mode, settings) in LENDING {
        poolers.push(world.pgbouncer(mode, &users, settings).await.port());
    }
    for warmed in [false, true] {
        for port in &poolers {
            if warmed {
                warm(&world, *port).await;
            }
            let mut through = document.clone();
            through["postgres"]["main"]["port"] = (*port).into();
            is_refused(&world, &through).await;
        }
        assert_eq!(world.ask("postgres", MADE).await, "0 databases, 0 roles");
    }
    // An environment that was made over the server itself is not changed over a pooler, and nothing of it is lost.
    world.settle_twice(&document).await;
    let before = world.written().await;
    document["databases"]["registry"]["connection_limit"] = 7.into();
    for port in poolers {
        let mut through = document.clone();
        through["postgres"]["main"]["port"] = port.into();
        is_refused(&world, &through).await;
    }
    assert_eq!(world.written().await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_end_with_65_and_work_over_a_pooler_that_leaves_connections_to_sessions() {
    let bench = Bench::start(18).await;
    bench.file("sql/V1__a.sql", "CREATE TABLE a (x int);");
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    bench.declare(
        &[Db::new("registry").extension("pg_trgm")],
        &[("migrations", migrations), ("steps", json!({"seed": {"database": "registry"}}))],
    );
    let users = [("registry_user", "password-of-registry-db")];
    let lends = bench.world.pgbouncer("transaction", &users, &[]).await;
    let leaves = bench.world.pgbouncer("session", &users, &[]).await;

    let refused = |failure: Result<(), chassis::Failure>| {
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
        assert!(failure.message.contains("point `host` and `port` to the server itself"), "{failure}");
    };
    bench.through(lends.port());
    refused(bench.run(&["apply"]).await);
    refused(bench.step(&[], "exit 0").await);
    assert_eq!(bench.world.ask("postgres", MADE).await, "0 databases, 0 roles");

    bench.through(leaves.port());
    bench.run(&["apply"]).await.unwrap();
    bench.step(&[], "exit 0").await.unwrap();
    assert!(bench.ledger().await.ends_with("migration/registry done, step/seed done"));
    let held = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'";
    bench.world.comes_to("postgres", held, "0").await;

    // Over the tenant's own login too.
    bench.file("sql/V2__b.sql", "CREATE TABLE b (x int);");
    bench.through(lends.port());
    refused(bench.run(&["migrate"]).await);
    assert_eq!(bench.world.ask("registry", "SELECT coalesce(to_regclass('b')::text, '')").await, "");
    bench.through(leaves.port());
    bench.run(&["migrate"]).await.unwrap();
    bench.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_itself_is_never_taken_for_a_pooler() {
    let world = World::start(16).await;
    let port = world.server.port();
    for _ in 0..4 {
        // Eight that prove themselves at the same time, each with another beside it.
        let proven = join_all((0..8).map(|_| async {
            let (mut one, mut other) =
                (session(&world, port, "postgres").await, session(&world, port, "postgres").await);
            let proven = one.proves_own(&mut other).await.and(other.proves_own(&mut one).await);
            one.close().await;
            other.close().await;
            proven
        }))
        .await;
        assert!(proven.iter().all(Result::is_ok), "{proven:?}");
    }
    // Eight whole runs at once, each from nothing.
    let documents: Vec<Value> =
        (0..8).map(|i| world.document(&format!("env{i}"), &[Db::new(&format!("registry{i}"))])).collect();
    let runs = join_all(documents.iter().map(|document| async {
        let (target, spec) = world.target(document);
        standings(&target, &spec).await
    }))
    .await;
    for run in runs.iter().flatten() {
        assert!(!format!("{run:?}").contains("pooler"), "{run:?}");
    }
    world.stop().await;
}
