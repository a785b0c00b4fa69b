//! The server's disk is full, in earnest: while databases and roles are made, in the middle of a migration, and until the server itself
//! dies of it. What is said names the disk, what was made is true, and once there is room all goes on by itself.

use chassis::exit::{Exit, Failure};
use chassis::shutdown::Shutdown;
use postgres::ErrorKind;
use serde_json::json;

use super::common::bench::{Bench, until};
use super::common::{Db, World};
use super::{faults, is_settled, only};

/// Room for a server with its write-ahead log and a few databases.
const DISK: u64 = 288 << 20;
/// Too little for a database, which is some 7 MB, and enough for whatever a server always writes.
const LITTLE: usize = 2 << 20;

/// A server with write-ahead log in stock: what does not fit is data. Otherwise the server dies, which is another test.
async fn server(version: u16) -> World {
    let world = World::on_a_disk(version, DISK).await;
    for _ in 0..6 {
        world.run("postgres", "CREATE TABLE IF NOT EXISTS stock (x int); INSERT INTO stock VALUES (1)").await;
        world.run("postgres", "SELECT pg_switch_wal()").await;
    }
    world.run("postgres", "DROP TABLE stock").await;
    world.run("postgres", "CHECKPOINT").await;
    world
}

/// How often the server has said that there is no room.
fn refused(world: &World) -> usize {
    world.log().matches("No space left on device").count()
}

/// Asks a command to stop once the disk has been too full for it twice: what came of the first time it has been told by then.
async fn stopped(bench: &Bench, args: &[&str]) -> Failure {
    let (shutdown, before) = (Shutdown::manual(), refused(&bench.world));
    let twice = async {
        until(|| async { refused(&bench.world) >= before + 2 }).await;
        shutdown.trigger();
    };
    let (ended, ()) = tokio::join!(bench.until(args, shutdown.clone()), twice);
    ended.expect_err("there is no room")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_waited_for_on_14() {
    while_databases_are_made(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_waited_for_on_18() {
    while_databases_are_made(18).await;
}

async fn while_databases_are_made(version: u16) {
    let bench = Bench::of(server(version).await);
    let world = &bench.world;
    bench.declare(&[Db::new("registry")], &[]);
    bench.run(&["apply"]).await.unwrap();
    bench.declare(&[Db::new("registry"), Db::new("pbms").extension("pg_trgm")], &[]);
    world.server.fill_disk(LITTLE).unwrap();

    let failure = stopped(&bench, &["apply"]).await;
    assert_eq!(failure.exit, Exit::TryAgain, "{failure}");
    for said in
        ["database/pbms is", "postgres/main (127.0.0.1", "SQLSTATE 53100", "free space on the server's disk"]
    {
        assert!(failure.message.contains(said), "{said}: {failure}");
    }
    // What is there is told as it is: the neighbour is finished, and this one is not.
    let finished = "SELECT string_agg(name, ' ') FROM rollcall.owned WHERE kind = 'database' AND finished_at IS NOT NULL";
    assert_eq!(world.ask("rollcall", finished).await, "registry");
    // From version 15 on a new database is in memory first, and what cannot be written is found out later.
    if version == 14 {
        assert!(failure.message.contains("make database `pbms`"), "{failure}");
        let there = "SELECT count(*)::text FROM pg_database WHERE datname = 'pbms'";
        assert_eq!(world.ask("postgres", there).await, "0");
    }

    // Who goes on trying goes on by itself.
    let before = refused(world);
    let room = async {
        until(|| async { refused(world) > before }).await;
        world.server.free_disk().unwrap();
    };
    let (made, ()) = tokio::join!(bench.run(&["apply"]), room);
    made.unwrap();
    bench.run(&["plan"]).await.unwrap();
    assert_eq!(world.ask("rollcall", finished).await, "pbms registry");
    bench.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fills_the_disk_goes_on_where_it_was_on_14() {
    while_it_migrates(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fills_the_disk_goes_on_where_it_was_on_18() {
    while_it_migrates(18).await;
}

async fn while_it_migrates(version: u16) {
    let bench = Bench::of(server(version).await);
    let world = &bench.world;
    bench.declare(&[Db::new("registry"), Db::new("pbms")], &[]);
    bench.run(&["apply"]).await.unwrap();
    let rows = "INSERT INTO person SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i";
    // One transaction; and one statement after another, for an index that is made concurrently cannot be in one.
    bench.file("together/V1__person.sql", "CREATE TABLE person (id int, name text)");
    bench.file(
        "together/V2__rows.sql",
        &format!("CREATE TABLE other (x int); {rows}; INSERT INTO other VALUES (1)"),
    );
    bench.file("each/V1__person.sql", "CREATE TABLE person (id int, name text); CREATE TABLE other (x int)");
    bench.file(
        "each/V2__rows.sql",
        &format!("INSERT INTO other VALUES (1); CREATE INDEX CONCURRENTLY other_x ON other (x); {rows}; INSERT INTO other VALUES (2)"),
    );
    let migrations = |database: &str, folder: &str| json!({folder: {"database": database, "sources": bench.source(folder), "native": {}}});
    for (database, folder, undone, done) in [("registry", "together", "", "1"), ("pbms", "each", "1", "1 2")]
    {
        bench.declare(
            &[Db::new("registry"), Db::new("pbms")],
            &[("migrations", migrations(database, folder))],
        );
        world.server.fill_disk(LITTLE).unwrap();
        let failure = stopped(&bench, &["migrate"]).await;
        assert_eq!(failure.exit, Exit::TryAgain, "{failure}");
        for said in [
            &format!("migration/{folder}"),
            "V2__rows.sql:1: statement",
            "SQLSTATE 53100",
            "free space on the server's disk",
        ] {
            assert!(failure.message.contains(said), "{said}: {failure}");
        }
        let ledger = bench.ledger().await;
        assert!(!ledger.contains(&format!("migration/{folder} done")), "{ledger}");
        let there = "SELECT string_agg(x::text, ' ' ORDER BY x) FROM other";
        let what = if undone.is_empty() { "SELECT to_regclass('other')::text" } else { there };
        assert_eq!(world.ask(database, what).await, undone);

        world.server.free_disk().unwrap();
        bench.run(&["migrate"]).await.unwrap();
        assert_eq!(world.ask(database, there).await, done, "each statement once");
        assert_eq!(world.ask(database, "SELECT count(*)::text FROM person").await, "5000");
        let ledger = bench.ledger().await;
        assert!(ledger.contains(&format!("migration/{folder} done")), "{ledger}");
        bench.run(&["migrate"]).await.unwrap();
        assert_eq!(bench.ledger().await, ledger, "nothing was left to do");
    }
    bench.world.stop().await;
}

/// At its next checkpoint a server on a full disk dies, and tries to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_of_a_full_disk_is_waited_for() {
    for version in [14, 18] {
        let world = server(version).await;
        let mut document = world.document("dev", &[Db::new("registry")]);
        world.settle(&document).await;
        // A change that waits for somebody, so that it is under way when the server dies.
        world.run("postgres", "ALTER ROLE registry_user CONNECTION LIMIT 5").await;
        document["databases"]["registry"]["roles"]["app"]["connection_limit"] = 7.into();
        let mut holder = world.login("postgres", world.server.password(), "postgres").await.unwrap();
        holder.execute("BEGIN; ALTER ROLE registry_user CONNECTION LIMIT 6").await.unwrap();
        let dies = async {
            let waits = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'rollcall%' AND wait_event_type = 'Lock'";
            until(|| async { world.ask("postgres", waits).await == "1" }).await;
            world.server.fill_disk(0).unwrap();
            let mut other = world.login("postgres", world.server.password(), "postgres").await.unwrap();
            other.execute("CHECKPOINT").await.unwrap_err()
        };
        let (found, seen) = tokio::join!(faults(&world, &document), dies);
        assert_eq!(seen.kind, ErrorKind::Lost, "{seen}");
        let text = only(&found, "");
        for said in ["registry_user", "postgres/main (127.0.0.1", "see the server's log", "full disk"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(world.log().contains("PANIC:"), "{}", world.log());
        // With what it gave back when it died it may come back by itself, or not.
        world.server.free_disk().unwrap();
        loop {
            if world.server.handle().pid().is_none() {
                world.server.start().await.unwrap();
            }
            let found = faults(&world, &document).await;
            if found.is_empty() {
                break;
            }
            assert!(found.iter().all(|(_, _, transient)| *transient), "{found:?}");
        }
        is_settled(&world, &document).await;
        let limit = "SELECT rolconnlimit::text FROM pg_roles WHERE rolname = 'registry_user'";
        assert_eq!(world.ask("postgres", limit).await, "7");
        world.stop().await;
    }
}
