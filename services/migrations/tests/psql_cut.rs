//! Scripts of psql whose runs are cut, from database to database: every statement runs once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::World;
use migrations::psql::Settings;
use migrations::world::{Journal, migrate_psql};
use migrations::{Error, Limits, Report, Sources};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// Ends its session where the database's own table says so.
fn cut_in(n: usize) -> String {
    format!(
        "SELECT count(pg_terminate_backend(pid)) FROM cut, pg_stat_activity WHERE at = {n} AND pid = pg_backend_pid();\n"
    )
}

async fn migrate(world: &World, text: &str) -> Result<Report, Error> {
    let settings = Settings {
        scripts: vec!["db/a.sql".to_owned()],
        version: "1".to_owned(),
        database: "one".to_owned(),
        target: ("one".to_owned(), "one".to_owned()),
        ..Settings::default()
    };
    let journal = Journal {
        schema: "rollcall".to_owned(),
        table: "migrations".to_owned(),
        migration: "migration/a".to_owned(),
    };
    let sources = Sources::of([("db/a.sql", text), ("db/rows.csv", "3\n")]);
    migrate_psql(world, "one", &journal, &sources, &settings, Limits::default()).await
}

#[tokio::test]
async fn wherever_a_run_is_cut_every_statement_runs_once() {
    let world = World::start(16).await;
    for database in ["one", "two"] {
        world.database(database).await;
        world
            .run(database, "CREATE TABLE ran (n int); CREATE TABLE cut (at int); INSERT INTO cut VALUES (0)")
            .await;
    }
    let text = [
        "INSERT INTO ran VALUES (1);\n",
        &cut_in(1),
        "\\c two\nSET statement_timeout = '1min';\n",
        &cut_in(2),
        "INSERT INTO ran VALUES (2);\n",
        &cut_in(3),
        "\\copy ran from 'db/rows.csv'\n",
        &cut_in(4),
        "BEGIN;\nINSERT INTO ran VALUES (4);\n",
        &cut_in(5),
        "INSERT INTO ran VALUES (5);\nCOMMIT;\n",
        &cut_in(6),
        "SELECT format('INSERT INTO ran VALUES (%s)', n) FROM generate_series(6, 7) n \\gexec\n",
        &cut_in(7),
        "\\c one\nVACUUM ran;\nINSERT INTO ran VALUES (8);\n",
        &cut_in(8),
    ]
    .concat();
    for at in 1..=8 {
        for database in ["one", "two"] {
            world.run(database, &format!("UPDATE cut SET at = {at}")).await;
        }
        let error = migrate(&world, &text).await.unwrap_err();
        assert!(error.is_transient(), "{at}: {error}");
    }
    for database in ["one", "two"] {
        world.run(database, "UPDATE cut SET at = 0").await;
    }
    migrate(&world, &text).await.unwrap();
    let ran = "SELECT string_agg(n::text, ',' ORDER BY n) FROM ran";
    assert_eq!(world.ask("one", ran).await, ["1,8"]);
    assert_eq!(world.ask("two", ran).await, ["2,3,4,5,6,7"]);
    assert!(migrate(&world, &text).await.unwrap().done.is_empty());
    world.stop().await;
}

/// When it is written down that a transaction is about to be committed, and that it has been: in another database than the
/// journal's too, whose server knows what became of it.
#[tokio::test]
async fn wherever_the_journal_is_cut_every_statement_runs_once() {
    let world = World::start(18).await;
    for database in ["one", "two"] {
        world.database(database).await;
        world.run(database, "CREATE TABLE ran (n int)").await;
    }
    let text = "INSERT INTO ran VALUES (1);\n\\c two\nINSERT INTO ran VALUES (2);\n\\copy ran from 'db/rows.csv'\n\
                BEGIN;\nINSERT INTO ran VALUES (4);\nINSERT INTO ran VALUES (5);\nCOMMIT;\n\
                SELECT format('INSERT INTO ran VALUES (%s)', n) FROM generate_series(6, 7) n \\gexec\n";
    // The journal is made by a run that fails at once.
    let broken = migrate(&world, "SELECT nonsense;\n").await.unwrap_err();
    assert_eq!(broken.code(), "42703");
    world
        .run(
            "one",
            "DELETE FROM rollcall.migrations;
             CREATE TABLE cut (at int, begun bool);
             CREATE FUNCTION cuts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_terminate_backend(pg_backend_pid()) FROM public.cut
                 WHERE at = coalesce(NEW.begun, NEW.done) AND begun = (NEW.begun IS NOT NULL) AND NEW.state = 'running';
                 RETURN NEW;
             END $$;
             CREATE TRIGGER cuts BEFORE UPDATE ON rollcall.migrations FOR EACH ROW EXECUTE FUNCTION cuts()",
        )
        .await;
    // Of the script's own transaction only the end is written down, and of `\c` that it is done.
    for (at, begun) in [1, 3, 4, 8, 9].into_iter().flat_map(|at| [(at, true), (at, false)]) {
        world.run("one", &format!("DELETE FROM cut; INSERT INTO cut VALUES ({at}, {begun})")).await;
        let error = migrate(&world, text).await.unwrap_err();
        assert!(error.is_transient(), "{at} {begun}: {error}");
    }
    world.run("one", "DELETE FROM cut").await;
    migrate(&world, text).await.unwrap();
    let ran = "SELECT string_agg(n::text, ',' ORDER BY n) FROM ran";
    assert_eq!(world.ask("one", ran).await, ["1"]);
    assert_eq!(world.ask("two", ran).await, ["2,3,4,5,6,7"]);
    world.stop().await;
}
