//! Flyway and we, on the same files: the same databases, the same histories, and each goes on where the other was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::World;
use common::flyway::{FILES, VERSIONS, write};
use migrations::flyway::{Settings, lock_number};
use migrations::guard::Allow;
use migrations::world::migrate_flyway;
use migrations::{Error, Limits, Report, Sources};

const HISTORY: &str = "SELECT installed_rank::text, version, description, type, script, checksum::text, installed_by, success::text
     FROM flyway_schema_history ORDER BY installed_rank";
const SHAPE: &str = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull::text,
     (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)
     FROM pg_attribute WHERE attrelid = 'flyway_schema_history'::regclass AND attnum > 0
     UNION ALL SELECT indexdef, '', '', '' FROM pg_indexes WHERE tablename = 'flyway_schema_history'
     UNION ALL SELECT conname::text, pg_get_constraintdef(oid), '', '' FROM pg_constraint
     WHERE conrelid = 'flyway_schema_history'::regclass AND contype = 'p' ORDER BY 1";

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn settings() -> Settings {
    Settings {
        locations: vec!["main".to_owned(), "seed".to_owned()],
        baseline_on_migrate: true,
        out_of_order: true,
        ..Settings::default()
    }
}

async fn migrate(
    world: &World,
    database: &str,
    files: &[(&str, &str)],
    settings: &Settings,
) -> Result<Report, Error> {
    let sources = Sources::of(files.iter().map(|(path, text)| (*path, *text)));
    migrate_flyway(world, database, &sources, settings, Limits::default()).await
}

/// Flyway with the settings of DIGIT's images, and the history's name that newer ones have by default.
async fn flyway(
    world: &World,
    version: &str,
    goal: &str,
    database: &str,
    files: &[(&str, &str)],
) -> Result<(), sandbox::Error> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    let path = folder.path().display();
    let locations = format!("filesystem:{path}/main,filesystem:{path}/seed");
    let settings = [
        ("flyway.table", "flyway_schema_history"),
        ("flyway.baselineOnMigrate", "true"),
        ("flyway.outOfOrder", "true"),
        ("flyway.locations", locations.as_str()),
    ];
    world.flyway(version, goal, database, folder.path(), &settings).await
}

/// What a version of Flyway understands: 4.1.2 does not know the bodies of PostgreSQL 14, and no version builds an index by itself:
/// 4.1.2 has it in a transaction, and 10.7.1 waits for ever for the transaction that holds its own lock.
fn understood(version: &str) -> Vec<(&'static str, String)> {
    let files = FILES.iter().filter(|(path, _)| !path.contains("alone"));
    let text = |text: &str| match version {
        "4.1.2" => text.split_inclusive('\n').filter(|line| !line.contains("ATOMIC")).collect(),
        _ => text.to_owned(),
    };
    files.map(|(path, all)| (*path, text(all))).collect()
}

#[tokio::test]
async fn the_same_files_make_the_same_database_and_the_same_history() {
    let world = World::start(16).await;
    for version in VERSIONS {
        let files = understood(version);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let (theirs, ours) = (format!("theirs_{}", &version[..1]), format!("ours_{}", &version[..1]));
        world.database(&theirs).await;
        world.database(&ours).await;
        flyway(&world, version, "migrate", &theirs, &files).await.unwrap();
        let report = migrate(&world, &ours, &files, &settings()).await.unwrap();
        assert_eq!(report.done.len(), files.len(), "{report:?}");
        assert!(
            report
                .warnings
                .iter()
                .any(|said| said.starts_with("main/v20220527262609__eg_driver_ddl.sql: is left out"))
        );
        assert_eq!(world.ask(&ours, HISTORY).await, world.ask(&theirs, HISTORY).await, "Flyway {version}");
        assert_eq!(world.ask(&ours, SHAPE).await, world.ask(&theirs, SHAPE).await, "Flyway {version}");
        assert_eq!(world.catalog(&ours).await, world.catalog(&theirs).await, "Flyway {version}");

        // Each finds nothing to do where the other was, and Flyway finds what we wrote valid.
        flyway(&world, version, "validate", &ours, &files).await.unwrap();
        assert_eq!(migrate(&world, &theirs, &files, &settings()).await.unwrap().done, Vec::<String>::new());

        // And goes on from there, out of order and with a repeatable one that has changed.
        let mut more = files.clone();
        more.retain(|(path, _)| !path.contains("R__"));
        more.push(("main/V20180608000000__late.sql", "CREATE TABLE late (a int);"));
        more.push((
            "seed/R__all_views.sql",
            "CREATE OR REPLACE VIEW eg_codes AS SELECT code FROM eg_role WHERE true;",
        ));
        flyway(&world, version, "migrate", &ours, &more).await.unwrap();
        assert_eq!(migrate(&world, &theirs, &more, &settings()).await.unwrap().done.len(), 2);
        assert_eq!(world.ask(&ours, HISTORY).await, world.ask(&theirs, HISTORY).await, "Flyway {version}");
        assert_eq!(world.catalog(&ours).await, world.catalog(&theirs).await, "Flyway {version}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_schema_that_holds_something_is_baselined_as_flyway_does_it() {
    let world = World::start(14).await;
    let files = [
        ("main/V1__first.sql", "CREATE TABLE a (x int);"),
        ("main/V2__second.sql", "CREATE TABLE b (x int);"),
        ("seed/README", ""),
    ];
    for version in VERSIONS {
        let (theirs, ours) = (format!("theirs_{}", &version[..1]), format!("ours_{}", &version[..1]));
        for database in [&theirs, &ours] {
            world.database(database).await;
            world.run(database, "CREATE TABLE elsewhere (x int)").await;
        }
        flyway(&world, version, "migrate", &theirs, &files).await.unwrap();
        migrate(&world, &ours, &files, &settings()).await.unwrap();
        assert_eq!(world.ask(&ours, HISTORY).await, world.ask(&theirs, HISTORY).await, "Flyway {version}");
        assert_eq!(world.catalog(&ours).await, world.catalog(&theirs).await, "Flyway {version}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_fails_leaves_what_flyway_would_leave_and_says_where() {
    let world = World::start(18).await;
    let broken = [
        ("main/V1__good.sql", "CREATE TABLE good (x int);"),
        ("main/V2__bad.sql", "CREATE TABLE half (x int);\n\nINSERT INTO half\n  SELECT nonsense;\n"),
        ("seed/README", ""),
    ];
    let alone = [
        ("main/V1__good.sql", "CREATE TABLE good (x int);"),
        ("main/V2__alone.sql", "CREATE INDEX CONCURRENTLY i ON nowhere (x);"),
        ("seed/README", ""),
    ];
    for (name, files, said) in [
        (
            "broken",
            &broken,
            "main/V2__bad.sql:4: statement 2: column \"nonsense\" does not exist (SQLSTATE 42703);",
        ),
        (
            "alone",
            &alone,
            "main/V2__alone.sql:1: statement 1: relation \"nowhere\" does not exist (SQLSTATE 42P01);",
        ),
    ] {
        let (theirs, ours) = (format!("theirs_{name}"), format!("ours_{name}"));
        world.database(&theirs).await;
        world.database(&ours).await;
        flyway(&world, "10.7.1", "migrate", &theirs, files).await.unwrap_err();
        let error = migrate(&world, &ours, files, &settings()).await.unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
        assert!(!error.is_transient());
        assert_eq!(world.catalog(&ours).await, world.catalog(&theirs).await, "{name}");
        // Flyway 10 rolls its own record of the failure back together with its lock; 4 and we keep it.
        let failed = world.ask(&ours, "SELECT script FROM flyway_schema_history WHERE NOT success").await;
        assert_eq!(failed, if name == "alone" { vec!["V2__alone.sql"] } else { vec![] });
        let succeeded = HISTORY.replace("ORDER", "WHERE success ORDER");
        assert_eq!(world.ask(&ours, &succeeded).await, world.ask(&theirs, HISTORY).await, "{name}");
    }
    let again = migrate(&world, "ours_alone", &alone, &settings()).await.unwrap_err();
    assert!(again.to_string().contains("the history says that it failed (rank 2)"), "{again}");
    world.stop().await;
}

#[tokio::test]
async fn flyway_and_we_take_the_same_lock() {
    let world = World::start(16).await;
    let number = lock_number("public", "flyway_schema_history");
    for version in VERSIONS {
        let database = format!("locked_{}", &version[..1]);
        world.database(&database).await;
        // The migration itself writes down which locks are held while it runs.
        let look = "CREATE TABLE held AS SELECT ((classid::bigint << 32) | objid::bigint)::text AS number
                    FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1;";
        let files = [("main/V1__look.sql", look), ("seed/README", "")];
        flyway(&world, version, "migrate", &database, &files).await.unwrap();
        assert_eq!(
            world.ask(&database, "SELECT number FROM held").await,
            [number.to_string()],
            "Flyway {version}"
        );
    }
    // And we do not begin while somebody holds it.
    let mut holder = world.login("locked_4").await;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(number).execute(&mut holder).await.unwrap();
    let sources = Sources::of([("V2__more.sql", "SELECT 1")]);
    let limits = Limits { lock: std::time::Duration::ZERO, ..Limits::default() };
    let settings = Settings { ignore_missing: true, ..Settings::default() };
    let error = migrate_flyway(&world, "locked_4", &sources, &settings, limits).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.is_transient(), "{error}");
    drop(holder);
    migrate_flyway(&world, "locked_4", &sources, &settings, Limits::default()).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn many_at_once_run_each_migration_once() {
    let world = World::start(18).await;
    world.database("many").await;
    let files = [
        ("main/V1__a.sql", "CREATE TABLE a (x int); INSERT INTO a VALUES (1);"),
        ("main/V2__b.sql", "CREATE INDEX CONCURRENTLY i ON a (x);"),
        ("seed/README", ""),
    ];
    let settings = settings();
    let all = (0..4).map(|_| migrate(&world, "many", &files, &settings));
    let done: usize =
        futures_util::future::join_all(all).await.into_iter().map(|report| report.unwrap().done.len()).sum();
    assert_eq!(done, 3);
    assert_eq!(world.ask("many", "SELECT count(*)::text FROM a").await, ["1"]);
    assert_eq!(
        world.ask("many", "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'i'::regclass").await,
        ["true"]
    );
    world.stop().await;
}

#[tokio::test]
async fn data_are_not_lost_to_a_wrong_name_of_a_history() {
    let world = World::start(16).await;
    world.database("enc").await;
    let own = Settings { table: "egov_enc_service_schema".to_owned(), ..settings() };
    migrate(&world, "enc", &FILES, &own).await.unwrap();
    world.run("enc", "INSERT INTO eg_enc_keys (key) VALUES ('the only one')").await;
    let wrong = migrate(&world, "enc", &FILES, &settings()).await.unwrap_err().to_string();
    for expected in [
        "has no history `flyway_schema_history`, but `egov_enc_service_schema` records V",
        "main/V20180607185601__eg_enc.sql:1: DROP TABLE of `eg_enc_keys`, which was there before this run",
        "main/V20180607185601__eg_enc.sql:2: makes table `eg_enc_keys`, which is there already",
    ] {
        assert!(wrong.contains(expected), "{expected} in {wrong}");
    }
    assert_eq!(world.ask("enc", "SELECT key FROM eg_enc_keys").await, ["the only one"]);

    // What a person has looked at may go.
    let mut more = FILES.to_vec();
    more.push(("main/V20240101000000__again.sql", "DROP TABLE eg_enc_keys;"));
    let refused = migrate(&world, "enc", &more, &own).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    let allow = Allow::Files(["V20240101000000__again.sql".to_owned()].into());
    migrate(&world, "enc", &more, &Settings { allow, ..own }).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn each_schema_of_a_list_has_its_own_tables_and_history() {
    let world = World::start(16).await;
    world.database("central").await;
    let schemas = ["public", "pg", "ke"].map(str::to_owned).to_vec();
    let settings = Settings { schemas, current_schema: true, ..settings() };
    let report = migrate(&world, "central", &FILES, &settings).await.unwrap();
    assert_eq!(report.done.len(), 3 * FILES.len() + 2);
    for schema in ["public", "pg", "ke"] {
        let count = format!("SELECT count(*)::text FROM {schema}.eg_role");
        assert_eq!(world.ask("central", &count).await, ["6"], "{schema}");
        let rows = format!(
            "SELECT count(*)::text FROM {schema}.flyway_schema_history WHERE type = 'SQL' AND success"
        );
        assert_eq!(world.ask("central", &rows).await, [(FILES.len() - 1).to_string()], "{schema}");
    }
    assert!(migrate(&world, "central", &FILES, &settings).await.unwrap().done.is_empty());

    // Where `public` is looked in too, a tenant's migration would drop the table of all.
    let schemas = vec!["late".to_owned()];
    let refused =
        migrate(&world, "central", &FILES, &Settings { schemas, current_schema: false, ..settings }).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("DROP TABLE of `eg_enc_keys`, which was there before this run")
    );
    world.stop().await;
}
