//! Files of Flyway's dialect whose runs are cut: what fits into one transaction runs again; what does not is noticed by us and by
//! Flyway, and goes on by itself only where that cannot do anything twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::World;
use common::flyway::write;
use migrations::flyway::Settings;
use migrations::world::migrate_flyway;
use migrations::{Error, Limits, Report, Sources};

const HISTORY: &str =
    "SELECT installed_rank::text, script, success::text, (execution_time < 0)::text FROM flyway_schema_history
     ORDER BY installed_rank";

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

async fn migrate(world: &World, database: &str, files: &[(&str, &str)]) -> Result<Report, Error> {
    let sources = Sources::of(files.iter().map(|(path, text)| (*path, *text)));
    migrate_flyway(world, database, &sources, &Settings::default(), Limits::default()).await
}

async fn flyway(
    world: &World,
    goal: &str,
    database: &str,
    files: &[(&str, &str)],
) -> Result<(), sandbox::Error> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    world.flyway("10.7.1", goal, database, folder.path(), &[]).await
}

/// A database with a table of what ran and one that says where to end a session, in a schema that is nobody's.
async fn database(world: &World, name: &str) {
    world.database(name).await;
    world
        .run(name, "CREATE SCHEMA test; CREATE TABLE test.ran (n int); CREATE TABLE test.cut (at int); INSERT INTO test.cut VALUES (0)")
        .await;
}

fn cut_in(n: usize) -> String {
    format!(
        "SELECT count(pg_terminate_backend(pid)) FROM test.cut, pg_stat_activity WHERE at = {n} AND pid = pg_backend_pid();\n"
    )
}

async fn cut_at(world: &World, database: &str, at: usize) {
    world.run(database, &format!("UPDATE test.cut SET at = {at}")).await;
}

/// Ends the session that writes to the history like this, where that is to be cut.
async fn cut_when(world: &World, database: &str, at: usize, writes: &str) {
    world
        .run(
            database,
            &format!(
                "CREATE FUNCTION test.cuts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     PERFORM pg_terminate_backend(pg_backend_pid()) FROM test.cut WHERE at = {at};
                     RETURN NEW;
                 END $$;
                 CREATE TRIGGER cuts BEFORE {writes} ON flyway_schema_history FOR EACH ROW EXECUTE FUNCTION test.cuts()"
            ),
        )
        .await;
}

async fn ran(world: &World, database: &str) -> Vec<String> {
    world.ask(database, "SELECT string_agg(n::text, ',' ORDER BY n) FROM test.ran").await
}

#[tokio::test]
async fn wherever_one_transaction_is_cut_every_statement_runs_once() {
    let world = World::start(16).await;
    // One that begins and ends its own is one transaction too.
    for name in ["app", "own"] {
        one_transaction_is_cut(&world, name).await;
    }
    world.stop().await;
}

async fn one_transaction_is_cut(world: &World, name: &str) {
    database(world, name).await;
    let text: String =
        (1..=4).flat_map(|n| [cut_in(n), format!("INSERT INTO test.ran VALUES ({n});\n")]).collect();
    let text = if name == "own" { format!("BEGIN;\n{text}COMMIT;\n") } else { text };
    let files = [("V1__a.sql", "CREATE TABLE a (x int);"), ("V2__b.sql", text.as_str())];
    for at in 1..=4 {
        cut_at(world, name, at).await;
        let error = migrate(world, name, &files).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(world.ask(name, HISTORY).await, ["1|V1__a.sql|true|false"]);
    }
    // And between its last statement and its end: by a trigger on the row that is written there.
    cut_when(world, name, 5, "INSERT").await;
    cut_at(world, name, 5).await;
    assert!(migrate(world, name, &files).await.unwrap_err().is_transient());
    cut_at(world, name, 0).await;
    migrate(world, name, &files).await.unwrap();
    assert_eq!(ran(world, name).await, ["1,2,3,4"]);
    assert_eq!(world.ask(name, HISTORY).await, ["1|V1__a.sql|true|false", "2|V2__b.sql|true|false"]);
    flyway(world, "validate", name, &files).await.unwrap();
}

#[tokio::test]
async fn wherever_statements_of_their_own_are_cut_a_person_is_asked() {
    let world = World::start(18).await;
    let text: String =
        (1..=3).flat_map(|n| [cut_in(n), format!("INSERT INTO test.ran VALUES ({n});\n")]).collect();
    let files = [
        ("V1__a.sql", "CREATE TABLE a (x int);"),
        ("V2__b.sql", text.as_str()),
        ("V2__b.sql.conf", "executeInTransaction=false\n"),
    ];
    // The last is after the last statement, when it is to be written down that it has ended.
    for at in 1..=4 {
        let name = format!("app_{at}");
        let name = name.as_str();
        database(&world, name).await;
        migrate(&world, name, &files[..1]).await.unwrap();
        cut_when(&world, name, 4, "UPDATE").await;
        cut_at(&world, name, at).await;
        assert!(migrate(&world, name, &files).await.unwrap_err().is_transient());
        cut_at(&world, name, 0).await;
        let ran_before = ran(&world, name).await;
        assert_eq!(ran_before, [["-", "1", "1,2", "1,2,3"][at - 1]]);
        let cut = ["1|V1__a.sql|true|false", "2|V2__b.sql|false|true"];
        for _ in 0..2 {
            let error = migrate(&world, name, &files).await.unwrap_err();
            assert!(matches!(error, Error::Refused(_)), "{error}");
            let said = "V2__b.sql: the history says that it was begun and has not ended (rank 2)";
            assert!(error.to_string().contains(said), "{error}");
        }
        // Flyway does not go on either.
        if at == 2 {
            flyway(&world, "migrate", name, &files).await.unwrap_err();
        }
        assert_eq!(ran(&world, name).await, ran_before);
        assert_eq!(world.ask(name, HISTORY).await, cut);
        // Both ways out.
        if at % 2 == 0 {
            world
                .run(name, "DELETE FROM test.ran; DELETE FROM flyway_schema_history WHERE NOT success")
                .await;
            assert_eq!(migrate(&world, name, &files).await.unwrap().done, ["public: run V2__b.sql"]);
        } else {
            let rest = format!("INSERT INTO test.ran SELECT generate_series({at}, 3)");
            world.run(name, &rest).await;
            world.run(name, "UPDATE flyway_schema_history SET success = true").await;
            assert_eq!(migrate(&world, name, &files).await.unwrap().done, Vec::<String>::new());
        }
        assert_eq!(ran(&world, name).await, ["1,2,3"]);
        flyway(&world, "validate", name, &files).await.unwrap();
    }
    world.stop().await;
}

/// With `IF NOT EXISTS` an index that was left half built looks as if it were there. It is in its table's schema, which names
/// need not be looked up in.
#[tokio::test]
async fn an_index_whose_building_was_cut_is_built_by_the_next_run() {
    let world = World::start(16).await;
    database(&world, "app").await;
    let files = [
        ("V1__a.sql", "CREATE TABLE test.a (x int);"),
        ("V2__i.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON test.a (x);"),
    ];
    migrate(&world, "app", &files[..1]).await.unwrap();
    // It waits for a transaction that is older than itself, until its session is ended.
    let mut older = world.login("app").await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TEMP TABLE old (x int); SELECT 1";
    sqlx::raw_sql(begin).execute(&mut older).await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
               WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active' AND wait_event_type = 'Lock'";
    let end = async {
        while world.ask("app", end).await == ["0"] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (ended, ()) = tokio::join!(migrate(&world, "app", &files), end);
    assert_eq!(ended.unwrap_err().code(), "57P01");
    drop(older);
    let valid = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('test.i')";
    assert_eq!(world.ask("app", valid).await, ["false"]);
    assert_eq!(world.ask("app", HISTORY).await[1], "2|V2__i.sql|false|true");
    assert_eq!(migrate(&world, "app", &files).await.unwrap().done, ["public: run V2__i.sql"]);
    assert_eq!(world.ask("app", valid).await, ["true"]);
    assert_eq!(world.ask("app", HISTORY).await, ["1|V1__a.sql|true|false", "2|V2__i.sql|true|false"]);
    flyway(&world, "validate", "app", &files).await.unwrap();

    // One that a run had built when it was cut is not built twice.
    let files = [files[0], files[1], ("V3__j.sql", "CREATE INDEX CONCURRENTLY j ON test.a (x);")];
    world.run("app", "CREATE INDEX j ON test.a (x)").await;
    assert_eq!(migrate(&world, "app", &files).await.unwrap_err().code(), "42P07");
    let refused = migrate(&world, "app", &files).await.unwrap_err().to_string();
    assert!(refused.contains("V3__j.sql: the history says that it failed (rank 3)"), "{refused}");
    world.run("app", "UPDATE flyway_schema_history SET execution_time = -1 WHERE NOT success").await;
    assert_eq!(migrate(&world, "app", &files).await.unwrap().done, ["public: run V3__j.sql"]);
    assert_eq!(world.ask("app", HISTORY).await[2], "3|V3__j.sql|true|false");
    world.stop().await;
}

/// Flyway refuses a file of which some statements can run in a transaction and others cannot, unless somebody has said how it runs.
#[tokio::test]
async fn what_is_mixed_is_refused_as_flyway_refuses_it() {
    let world = World::start(18).await;
    let mixed = [("V1__a.sql", "CREATE TABLE a (x int);\n\nVACUUM a;\n")];
    let said = [mixed[0], ("V1__a.sql.conf", "executeInTransaction=false\n")];
    for database in ["theirs", "ours"] {
        world.database(database).await;
    }
    flyway(&world, "migrate", "theirs", &mixed).await.unwrap_err();
    let error = migrate(&world, "ours", &mixed).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(
        error.to_string().contains("V1__a.sql:3: has statements that cannot run in a transaction"),
        "{error}"
    );
    for database in ["theirs", "ours"] {
        assert_eq!(world.ask(database, "SELECT to_regclass('a')::text").await, ["-"]);
    }
    flyway(&world, "migrate", "theirs", &said).await.unwrap();
    migrate(&world, "ours", &said).await.unwrap();
    let history =
        "SELECT installed_rank::text, version, description, type, script, checksum::text, installed_by,
                   (execution_time >= 0)::text, success::text FROM flyway_schema_history";
    assert_eq!(world.ask("ours", history).await, world.ask("theirs", history).await);
    assert_eq!(world.catalog("ours").await, world.catalog("theirs").await);
    // What has run already is nobody's business any more.
    assert!(migrate(&world, "theirs", &mixed).await.unwrap().done.is_empty());
    world.stop().await;
}
