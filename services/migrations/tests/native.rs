//! Our own dialect on real servers: one transaction where that is possible, and otherwise every statement once, wherever a run
//! ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::World;
use migrations::native::Settings;
use migrations::world::migrate_native;
use migrations::{Error, Limits, Report, Sources};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

async fn migrate(world: &World, files: &[(&str, &str)]) -> Result<Report, Error> {
    let sources = Sources::of(files.iter().map(|(path, text)| (*path, *text)));
    migrate_native(world, "registry", "migration/registry", &sources, &Settings::default(), Limits::default())
        .await
}

const STATE: &str = "SELECT script, state, done::text, begun::text FROM rollcall_history ORDER BY id";

#[tokio::test]
async fn everything_runs_once_and_what_changed_runs_again() {
    for version in [14, 18] {
        let world = World::start(version).await;
        world.database("registry").await;
        let mut files = vec![
            (
                "V1__people.sql",
                "CREATE TABLE people (id int, name text);\nCREATE FUNCTION f(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN n > 0 THEN 1 END; SELECT 2; END;",
            ),
            (
                "V2__rows.sql",
                "COPY people FROM stdin;\n1\tMaría; 'de'\n\\.\nINSERT INTO people SELECT n, 'x' FROM generate_series(2, 9) n;",
            ),
            (
                "V3__index.sql",
                "CREATE INDEX CONCURRENTLY people_id ON people (id);\nVACUUM people;\nCREATE TABLE after (a int);",
            ),
            ("R__view.sql", "CREATE OR REPLACE VIEW all_people AS SELECT id FROM people;"),
        ];
        assert_eq!(migrate(&world, &files).await.unwrap().done.len(), 5);
        assert!(migrate(&world, &files).await.unwrap().done.is_empty());
        files[3].1 = "CREATE OR REPLACE VIEW all_people AS SELECT id, name FROM people;";
        assert_eq!(migrate(&world, &files).await.unwrap().done, ["run R__view.sql"]);
        assert_eq!(world.ask("registry", "SELECT count(*)::text FROM all_people").await, ["9"]);
        files[0].1 = "CREATE TABLE people (id bigint, name text);";
        let changed = migrate(&world, &files).await.unwrap_err();
        assert!(changed.to_string().contains("V1__people.sql: has changed since it ran"), "{changed}");
        world.stop().await;
    }
}

#[tokio::test]
async fn what_fails_leaves_nothing_or_goes_on_where_it_failed() {
    let world = World::start(18).await;
    world.database("registry").await;
    let whole = [("V1__a.sql", "CREATE TABLE a (x int);\nINSERT INTO a VALUES (1);\nSELECT nonsense;")];
    let error = migrate(&world, &whole).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("V1__a.sql:3: statement 3: column \"nonsense\" does not exist (SQLSTATE 42703)"),
        "{error}"
    );
    assert!(world.ask("registry", STATE).await.is_empty());
    assert_eq!(world.ask("registry", "SELECT to_regclass('a')::text").await, ["-"]);

    // An index that cannot be built is left half built by the server; the next run builds it again.
    let text = "CREATE TABLE a (x int);\nINSERT INTO a VALUES (1), (1);\nCREATE UNIQUE INDEX CONCURRENTLY i ON a (x);\nINSERT INTO a VALUES (3);";
    let files = [("V1__a.sql", text)];
    let error = migrate(&world, &files).await.unwrap_err();
    assert_eq!(error.code(), "23505", "{error}");
    assert!(!error.to_string().contains("(x)=(1)"), "rows are nobody's business: {error}");
    assert_eq!(world.ask("registry", STATE).await, ["V1__a.sql|failed|2|-"]);
    assert_eq!(
        world.ask("registry", "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'i'::regclass").await,
        ["false"]
    );
    world.run("registry", "DELETE FROM a WHERE ctid = '(0,2)'").await;
    assert_eq!(migrate(&world, &files).await.unwrap().done, ["go on with V1__a.sql after statement 2"]);
    assert_eq!(world.ask("registry", "SELECT string_agg(x::text, ',') FROM a").await, ["1,3"]);
    assert_eq!(
        world.ask("registry", "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'i'::regclass").await,
        ["true"]
    );
    assert_eq!(world.ask("registry", STATE).await, ["V1__a.sql|done|4|-"]);
    world.stop().await;
}

/// A run is cut at every statement by a trigger that ends its session, before and after it; the next run goes on, and
/// everything has run once.
#[tokio::test]
async fn wherever_a_run_is_cut_every_statement_runs_once() {
    let world = World::start(16).await;
    let cut_in = |n: usize| {
        format!(
            "SELECT count(pg_terminate_backend(pid)) FROM cut, pg_stat_activity WHERE at = {n} AND pid = pg_backend_pid();\n"
        )
    };
    let text: String = std::iter::once("VACUUM;\n".to_owned())
        .chain((1..=4).flat_map(|n| [format!("INSERT INTO ran VALUES ({n});\n"), cut_in(n)]))
        .chain([
            "BEGIN;\nINSERT INTO ran VALUES (5);\n".to_owned(),
            cut_in(5),
            "INSERT INTO ran VALUES (6);\nCOMMIT;\n".to_owned(),
            cut_in(6),
        ])
        .collect();
    let files = [("V1__a.sql", text.as_str())];
    world.database("registry").await;
    world
        .run("registry", "CREATE TABLE ran (n int); CREATE TABLE cut (at int); INSERT INTO cut VALUES (1)")
        .await;
    for at in 1..=6 {
        world.run("registry", &format!("UPDATE cut SET at = {at}")).await;
        let error = migrate(&world, &files).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    world.run("registry", "UPDATE cut SET at = 0").await;
    migrate(&world, &files).await.unwrap();
    assert_eq!(
        world.ask("registry", "SELECT string_agg(n::text, ',' ORDER BY n) FROM ran").await,
        ["1,2,3,4,5,6"]
    );
    world.stop().await;
}

/// `CREATE INDEX CONCURRENTLY` cannot run in a transaction: what a cut one has left is looked at.
#[tokio::test]
async fn an_index_whose_building_was_cut_is_built_once() {
    let world = World::start(16).await;
    world.database("registry").await;
    let files = [(
        "V1__a.sql",
        "CREATE TABLE a (x int);\nCREATE INDEX CONCURRENTLY i ON a (x);\nINSERT INTO a VALUES (1);",
    )];
    let valid = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('i')";
    let cut = async || {
        // It waits for a transaction that is older than itself, until its session is ended.
        let mut older = world.login("registry").await;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TEMP TABLE old (x int); SELECT 1";
        sqlx::raw_sql(begin).execute(&mut older).await.unwrap();
        let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                   WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active' AND wait_event_type = 'Lock'";
        let end = async {
            while world.ask("registry", end).await == ["0"] {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let (ended, ()) = tokio::join!(migrate(&world, &files), end);
        assert_eq!(ended.unwrap_err().code(), "57P01");
        assert_eq!(world.ask("registry", STATE).await, ["V1__a.sql|running|1|2"]);
        assert_eq!(world.ask("registry", valid).await, ["false"]);
    };
    cut().await;
    // It is cut again when it is dropped and built anew, and then somebody builds it by hand.
    cut().await;
    world.run("registry", "DROP INDEX i; CREATE INDEX i ON a (x)").await;
    let by_hand = world.ask("registry", "SELECT 'i'::regclass::oid::text").await;
    assert_eq!(migrate(&world, &files).await.unwrap().done, ["go on with V1__a.sql after statement 1"]);
    assert_eq!(world.ask("registry", "SELECT 'i'::regclass::oid::text").await, by_hand);
    assert_eq!(world.ask("registry", valid).await, ["true"]);
    assert_eq!(world.ask("registry", "SELECT count(*)::text FROM a").await, ["1"]);
    world.stop().await;
}

#[tokio::test]
async fn many_at_once_run_each_migration_once() {
    let world = World::start(18).await;
    world.database("registry").await;
    let files = [
        ("V1__a.sql", "CREATE TABLE a (x int);"),
        ("V2__b.sql", "INSERT INTO a VALUES (1);\nCREATE INDEX CONCURRENTLY i ON a (x);"),
    ];
    let all = (0..4).map(|_| migrate(&world, &files));
    let done: usize =
        futures_util::future::join_all(all).await.into_iter().map(|report| report.unwrap().done.len()).sum();
    assert_eq!(done, 3);
    assert_eq!(world.ask("registry", "SELECT count(*)::text FROM a").await, ["1"]);
    world.stop().await;
}

/// What a script does to its session does not outlive it, and cannot let the lock go.
#[tokio::test]
async fn a_server_that_ends_who_is_silent_does_not_end_the_lock() {
    let world = World::start(14).await;
    world.database("registry").await;
    world.run("postgres", "ALTER DATABASE registry SET idle_session_timeout = '300ms'").await;
    let files = [("V1__slow.sql", "SELECT pg_sleep(1);\nVACUUM;\nSELECT pg_sleep(1);")];
    migrate(&world, &files).await.unwrap();
    assert!(migrate(&world, &files).await.unwrap().done.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn scripts_cannot_change_who_we_are() {
    let world = World::start(16).await;
    world.database("registry").await;
    let files = [
        (
            "V1__a.sql",
            "CREATE ROLE somebody;\nCREATE SCHEMA elsewhere AUTHORIZATION somebody;\nSET ROLE somebody;\nSET search_path = elsewhere;\nCREATE TABLE a (x int);",
        ),
        ("V2__b.sql", "SELECT pg_advisory_unlock_all();\nDISCARD ALL;"),
        ("V3__c.sql", "SET standard_conforming_strings = off;\nCREATE TABLE c AS SELECT 'it\\'s' AS x;"),
        ("V4__d.sql", "CREATE TABLE d AS SELECT current_user::text AS who, 'a\\' AS slash;"),
    ];
    assert_eq!(migrate(&world, &files).await.unwrap().done.len(), 5);
    assert_eq!(world.ask("registry", "SELECT who, slash FROM public.d").await, ["postgres|a\\"]);
    assert_eq!(world.ask("registry", "SELECT x FROM c").await, ["it's"]);
    assert_eq!(
        world.ask("registry", "SELECT tableowner::text FROM pg_tables WHERE tablename = 'a'").await,
        ["somebody"]
    );
    world.stop().await;
}

/// A statement that cannot run in a transaction and of which nobody knows whether it ran: a person says.
#[tokio::test]
async fn what_nobody_knows_a_person_says() {
    let world = World::start(18).await;
    world.database("registry").await;
    let files = [("V1__a.sql", "CREATE TABLE a (x int);\nCREATE DATABASE other;\nINSERT INTO a VALUES (1);")];
    // The session ends when it has made the database and before that is written down.
    world.run("registry", "CREATE DATABASE other").await;
    let failed = migrate(&world, &files).await.unwrap_err();
    assert_eq!(failed.code(), "42P04");
    world.run("registry", "UPDATE rollcall_history SET state = 'running', begun = 2").await;
    let unknown = migrate(&world, &files).await.unwrap_err().to_string();
    assert!(unknown.contains("V1__a.sql:2: statement 2: a run ended in the middle of it"), "{unknown}");
    let sources = Sources::of(files);
    let settings = Settings { decided: Some(migrations::journal::Fate::Committed), ..Settings::default() };
    let done =
        migrate_native(&world, "registry", "migration/registry", &sources, &settings, Limits::default())
            .await;
    assert_eq!(done.unwrap().done, ["go on with V1__a.sql after statement 2"]);
    assert_eq!(world.ask("registry", STATE).await, ["V1__a.sql|done|3|-"]);
    world.stop().await;
}

/// A procedure that commits cannot run in a transaction, which no word of its call tells.
#[tokio::test]
async fn what_ends_transactions_itself_runs_without_one() {
    let world = World::start(14).await;
    world.database("registry").await;
    let files = [(
        "V1__a.sql",
        "CREATE TABLE a (x int);\nCREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO a VALUES (1); COMMIT; INSERT INTO a VALUES (2); END $$;\nVACUUM a;\nCALL p();",
    )];
    migrate(&world, &files).await.unwrap();
    assert_eq!(world.ask("registry", "SELECT string_agg(x::text, ',') FROM a").await, ["1,2"]);

    // One that fails after it has committed is not simply called again.
    let half = "CREATE PROCEDURE q() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO a VALUES (3); COMMIT; PERFORM 1 / 0; END $$;\nVACUUM a;\nCALL q();";
    let files = [files[0], ("V2__b.sql", half)];
    assert_eq!(migrate(&world, &files).await.unwrap_err().code(), "22012");
    let unknown = migrate(&world, &files).await.unwrap_err().to_string();
    assert!(unknown.contains("V2__b.sql:3: statement 3: a run ended in the middle of it"), "{unknown}");
    assert_eq!(world.ask("registry", "SELECT string_agg(x::text, ',') FROM a").await, ["1,2,3"]);
    world.stop().await;
}

/// A run is cut around every commit: when it is written down that a transaction is about to be committed, and when it has been
/// committed and that is to be written down. The server knows which of them were.
#[tokio::test]
async fn wherever_the_journal_is_cut_every_statement_runs_once() {
    let world = World::start(18).await;
    world.database("registry").await;
    let first = ("V1__a.sql", "CREATE TABLE ran (n int);");
    migrate(&world, &[first]).await.unwrap();
    world
        .run(
            "registry",
            "CREATE TABLE cut (at int, begun bool);
             CREATE FUNCTION cuts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_terminate_backend(pg_backend_pid()) FROM cut
                 WHERE at = coalesce(NEW.begun, NEW.done) AND begun = (NEW.begun IS NOT NULL) AND NEW.state = 'running';
                 RETURN NEW;
             END $$;
             CREATE TRIGGER cuts BEFORE UPDATE ON rollcall_history FOR EACH ROW EXECUTE FUNCTION cuts()",
        )
        .await;
    let text = "VACUUM;\nINSERT INTO ran VALUES (1);\nINSERT INTO ran VALUES (2);\nBEGIN;\nINSERT INTO ran VALUES (3);\n\
                INSERT INTO ran VALUES (4);\nCOMMIT;\nINSERT INTO ran VALUES (5);";
    let files = [first, ("V2__b.sql", text)];
    // Of the script's own transaction only the end is written down.
    for (at, begun) in [1, 2, 3, 7, 8].into_iter().flat_map(|at| [(at, true), (at, false)]) {
        world.run("registry", &format!("DELETE FROM cut; INSERT INTO cut VALUES ({at}, {begun})")).await;
        let error = migrate(&world, &files).await.unwrap_err();
        assert!(error.is_transient(), "{at} {begun}: {error}");
    }
    world.run("registry", "DELETE FROM cut").await;
    migrate(&world, &files).await.unwrap();
    assert_eq!(
        world.ask("registry", "SELECT string_agg(n::text, ',' ORDER BY n) FROM ran").await,
        ["1,2,3,4,5"]
    );
    world.stop().await;
}
