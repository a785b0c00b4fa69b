//! psql and we, on the same scripts: the same databases. And what psql cannot: going on where a run ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;

use common::World;
use migrations::guard::Allow;
use migrations::psql::{Settings, Variables};
use migrations::world::{Journal, migrate_psql};
use migrations::{Error, Limits, Report, Sources};

/// Scripts in the shape of MOSIP's: a database, a role with a password, tables one by one, rows from CSV files that are found from
/// where the script is started, indexes that are built by themselves, upgrades that copy rows out and in.
const FILES: [(&str, &str); 13] = [
    (
        "db.sql",
        "CREATE DATABASE :mosipdbname\n  ENCODING = 'UTF8'\n  OWNER = postgres\n  TEMPLATE  = template0;\nCOMMENT ON DATABASE :mosipdbname IS 'Master; data';\n\n\\c :mosipdbname postgres\n\nDROP SCHEMA IF EXISTS master CASCADE;\nCREATE SCHEMA master;\nALTER SCHEMA master OWNER TO postgres;\nALTER DATABASE :mosipdbname SET search_path TO master,pg_catalog,public;\n",
    ),
    ("role_dbuser.sql", "CREATE ROLE :dbuname WITH\n\tINHERIT\n\tLOGIN\n\tPASSWORD :dbuserpwd;\n"),
    ("ddl.sql", "\\c :mosipdbname\n\n\\ir ddl/master-device.sql\n\\ir ddl/master-device_fk.sql\n"),
    (
        "ddl/master-device.sql",
        "-- object: master.device | type: TABLE --\n-- DROP TABLE IF EXISTS master.device CASCADE;\nCREATE TABLE master.device (\n\tid character varying(36) NOT NULL,\n\tname character varying(64) NOT NULL,\n\tis_active boolean NOT NULL,\n\tcr_dtimes timestamp,\n\tCONSTRAINT pk_device PRIMARY KEY (id)\n);\n-- ddl-end --\nCOMMENT ON TABLE master.device IS 'Device : all; of them';\n-- ddl-end --\nCREATE INDEX CONCURRENTLY IF NOT EXISTS idx_device_name ON master.device (name);\n",
    ),
    (
        "ddl/master-device_fk.sql",
        "CREATE TABLE master.reg (id int, device_id character varying(36));\nALTER TABLE master.reg ADD CONSTRAINT fk_reg FOREIGN KEY (device_id)\nREFERENCES master.device (id) MATCH SIMPLE\nON DELETE NO ACTION ON UPDATE NO ACTION;\n",
    ),
    (
        "grants.sql",
        "\\c :mosipdbname\n\nGRANT CONNECT\n   ON DATABASE :mosipdbname\n   TO :dbuname;\nGRANT USAGE ON SCHEMA master TO :dbuname;\nGRANT SELECT,INSERT,UPDATE,DELETE,REFERENCES ON ALL TABLES IN SCHEMA master TO :dbuname;\nALTER DEFAULT PRIVILEGES IN SCHEMA master\n\tGRANT SELECT,INSERT,UPDATE,DELETE,REFERENCES ON TABLES TO :dbuname;\n",
    ),
    (
        "dml.sql",
        "\\c :mosipdbname\n\n\\set CSVDataPath '''dml'\n\nTRUNCATE TABLE master.device cascade ;\n\n\\COPY master.device (id,name,is_active,cr_dtimes) FROM './dml/master-device.csv' delimiter ',' HEADER  csv;\n\\if :{?extra}\nINSERT INTO master.device VALUES (:'extra', 'extra', true, NULL);\n\\endif\nINSERT INTO master.reg SELECT 1, id FROM master.device LIMIT 1;\n",
    ),
    (
        "dml/master-device.csv",
        "id,name,is_active,cr_dtimes\n1,\"a, b\",TRUE,now()\n2,\"it's; \"\"two\"\"\",f,2026-01-01\n",
    ),
    (
        "upgrade/sql/1.2.0_to_1.2.1_upgrade.sql",
        "\\echo 'Upgrade Queries not required for transition from 1.2.0 to 1.2.1'\n",
    ),
    (
        "upgrade/sql/1.2.1_to_1.3.0_upgrade.sql",
        "\\c mosip_master\n\n\\COPY (select id, name from master.device order by id) TO 'dml/export.csv' WITH (FORMAT CSV, HEADER);\nCREATE TABLE master.device_h (id varchar(36), name text);\n\\COPY master.device_h FROM 'dml/export.csv' WITH (FORMAT CSV, HEADER);\nBEGIN;\nUPDATE master.device SET name = upper(name);\nCOMMIT;\nDO $$ BEGIN\n  EXECUTE 'ALTER TABLE master.device ADD COLUMN tenant text DEFAULT ''pg''';\nEND $$;\nSELECT format('CREATE INDEX %I ON master.device_h (%I)', 'i_' || a, a) FROM unnest(ARRAY['id', 'name']) a \\gexec\nCREATE INDEX CONCURRENTLY idx_device_tenant ON master.device (tenant);\n",
    ),
    ("upgrade/dml/.keep", ""),
    ("upgrade/sql/1.2.0_to_1.2.1_rollback.sql", "\\echo 'Rollback Queries not required.'\n"),
    (
        "upgrade/sql/1.2.1_to_1.3.0_rollback.sql",
        "\\c mosip_master\n\nDROP TABLE IF EXISTS master.device_h;\nALTER TABLE master.device DROP COLUMN IF EXISTS tenant;\n",
    ),
];

const PASSWORD: &str = "it's a \\ secret; --";

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn sources() -> Sources {
    Sources::of(FILES.iter().map(|(path, text)| (*path, *text)))
}

fn settings(version: &str) -> Settings {
    let variables = Variables::new()
        .with("mosipdbname", "mosip_master")
        .with("dbuname", "masteruser")
        .with("extra", "3")
        .with_secret_literal("dbuserpwd", PASSWORD);
    Settings {
        scripts: ["role_dbuser.sql", "db.sql", "ddl.sql", "grants.sql", "dml.sql"]
            .map(str::to_owned)
            .to_vec(),
        version: version.to_owned(),
        database: "postgres".to_owned(),
        target: ("mosip_master".to_owned(), "master".to_owned()),
        upgrades: Some("upgrade/sql".to_owned()),
        variables,
        ..Settings::default()
    }
}

fn journal() -> Journal {
    Journal {
        schema: "rollcall".to_owned(),
        table: "migrations".to_owned(),
        migration: "migration/master".to_owned(),
    }
}

async fn migrate(world: &World, sources: &Sources, settings: &Settings) -> Result<Report, Error> {
    migrate_psql(world, "postgres", &journal(), sources, settings, Limits::default()).await
}

/// psql itself, from a folder with the files, as MOSIP's `deploy.sh` calls it.
async fn psql(world: &World, folder: &Path, script: &str) -> Result<(), sandbox::Error> {
    let password = format!("dbuserpwd={}", migrations::psql::quote_literal(PASSWORD));
    let args = [
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "mosipdbname=mosip_master",
        "-v",
        "dbuname=masteruser",
        "-v",
        "extra=3",
    ];
    let args = [&args[..], &["-v", &password, "-d", "postgres", "-f", script]].concat();
    world.sandbox.psql(&world.server, folder, &args).await
}

#[tokio::test]
async fn the_same_scripts_make_the_same_databases() {
    let (theirs, ours) = tokio::join!(World::start(18), World::start(18));
    let folder = tempfile::tempdir().unwrap();
    common::flyway::write(folder.path(), &FILES);
    for script in ["role_dbuser.sql", "db.sql", "ddl.sql", "grants.sql", "dml.sql"] {
        psql(&theirs, folder.path(), script).await.unwrap();
    }
    let report = migrate(&ours, &sources(), &settings("1.2.0")).await.unwrap();
    assert_eq!(report.done.len(), 5, "{report:?}");
    let now = "UPDATE master.device SET cr_dtimes = NULL";
    for world in [&theirs, &ours] {
        world.run("mosip_master", now).await;
    }
    assert_eq!(ours.catalog("mosip_master").await, theirs.catalog("mosip_master").await);
    assert!(migrate(&ours, &sources(), &settings("1.2.0")).await.unwrap().done.is_empty());

    psql(&theirs, &folder.path().join("upgrade"), "sql/1.2.0_to_1.2.1_upgrade.sql").await.unwrap();
    psql(&theirs, &folder.path().join("upgrade"), "sql/1.2.1_to_1.3.0_upgrade.sql").await.unwrap();
    let report = migrate(&ours, &sources(), &settings("1.3.0")).await.unwrap();
    assert_eq!(
        report.done,
        ["run upgrade/sql/1.2.0_to_1.2.1_upgrade.sql", "run upgrade/sql/1.2.1_to_1.3.0_upgrade.sql"]
    );
    assert_eq!(ours.catalog("mosip_master").await, theirs.catalog("mosip_master").await);

    // The module can log in with the password that stood in a statement, and nobody else knows it.
    let login = "SELECT rolcanlogin::text FROM pg_authid WHERE rolname = 'masteruser' AND rolpassword LIKE 'SCRAM-SHA-256$%'";
    assert_eq!(ours.ask("postgres", login).await, ["true"]);
    let log = std::fs::read_to_string(ours.server.log()).unwrap();
    assert!(!log.contains("secret; --"), "the server's log");
    let written = ours.ask("postgres", "SELECT m::text FROM rollcall.migrations m").await.join("\n");
    assert!(!written.contains("secret; --"), "{written}");

    // Back only when asked, and what is dropped then has to be allowed.
    let older = migrate(&ours, &sources(), &settings("1.2.0")).await.unwrap();
    assert!(
        older.done.is_empty() && older.warnings[0].contains("newer than 1.2.0; switch `rollback` on"),
        "{older:?}"
    );
    let back = Settings { rollback: true, ..settings("1.2.0") };
    let refused = migrate(&ours, &sources(), &back).await.unwrap_err().to_string();
    assert!(
        refused.contains("upgrade/sql/1.2.1_to_1.3.0_rollback.sql:3: DROP TABLE of `master.device_h`"),
        "{refused}"
    );
    let allow = Allow::Files(["upgrade/sql/1.2.1_to_1.3.0_rollback.sql".to_owned()].into());
    assert_eq!(migrate(&ours, &sources(), &Settings { allow, ..back }).await.unwrap().done.len(), 2);
    psql(&theirs, &folder.path().join("upgrade"), "sql/1.2.1_to_1.3.0_rollback.sql").await.unwrap();
    assert_eq!(ours.catalog("mosip_master").await, theirs.catalog("mosip_master").await);
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn what_is_there_already_is_taken_at_a_version_that_somebody_names() {
    let world = World::start(14).await;
    let folder = tempfile::tempdir().unwrap();
    common::flyway::write(folder.path(), &FILES);
    for script in ["role_dbuser.sql", "db.sql", "ddl.sql", "dml.sql"] {
        psql(&world, folder.path(), script).await.unwrap();
    }
    let unknown = migrate(&world, &sources(), &settings("1.3.0")).await.unwrap_err().to_string();
    assert!(
        unknown
            .contains("schema `master` is in database `mosip_master` and nothing says which version it is"),
        "{unknown}"
    );
    let nowhere = Settings { baseline: Some("0.9".to_owned()), ..settings("1.3.0") };
    let nowhere = migrate(&world, &sources(), &nowhere).await.unwrap_err().to_string();
    assert!(nowhere.contains("version 0.9 is there, and no files lead from it to 1.3.0"), "{nowhere}");
    let baseline = Settings { baseline: Some("1.2.1".to_owned()), ..settings("1.3.0") };
    let report = migrate(&world, &sources(), &baseline).await.unwrap();
    assert_eq!(report.done, ["baseline at version 1.2.1", "run upgrade/sql/1.2.1_to_1.3.0_upgrade.sql"]);
    assert!(migrate(&world, &sources(), &baseline).await.unwrap().done.is_empty());
    world.stop().await;
}

/// Rows from another database, as MOSIP's partner management takes over those of two others.
#[tokio::test]
async fn an_upgrade_takes_rows_from_other_databases() {
    let world = World::start(18).await;
    for database in ["mosip_authdevice", "mosip_pms"] {
        world.database(database).await;
        world.run(database, "CREATE SCHEMA pms; CREATE TABLE pms.device (id int, name text)").await;
    }
    world.run("mosip_authdevice", "INSERT INTO pms.device VALUES (1, 'a, \"b\"'), (2, NULL)").await;
    let sources = Sources::of([
        ("ddl.sql", "SELECT 1;"),
        (
            "up/sql/1_support.sql",
            "\\COPY (select * from pms.device order by id) TO './dml/device.csv' WITH (FORMAT CSV, HEADER);\n",
        ),
        (
            "up/sql/1_to_2_upgrade.sql",
            "\\c mosip_pms\n\\COPY pms.device FROM './dml/device.csv' WITH (FORMAT CSV, HEADER);\n",
        ),
    ]);
    let before = vec![("mosip_authdevice".to_owned(), "up/sql/1_support.sql".to_owned())];
    let settings = Settings {
        scripts: vec!["ddl.sql".to_owned()],
        version: "2".to_owned(),
        database: "postgres".to_owned(),
        target: ("mosip_pms".to_owned(), "pms".to_owned()),
        upgrades: Some("up/sql".to_owned()),
        before: [("up/sql/1_to_2_upgrade.sql".to_owned(), before)].into(),
        baseline: Some("1".to_owned()),
        ..Settings::default()
    };
    migrate(&world, &sources, &settings).await.unwrap();
    let rows = world.ask("mosip_pms", "SELECT id::text, name FROM pms.device ORDER BY id").await;
    assert_eq!(rows, ["1|a, \"b\"", "2|-"]);
    world.stop().await;
}

#[tokio::test]
async fn a_script_that_failed_goes_on_at_its_statement() {
    let world = World::start(16).await;
    let broken = |text: &str| {
        Sources::of(FILES.iter().map(|(path, all)| {
            let text = if *path == "ddl/master-device_fk.sql" { text } else { all };
            (*path, text.to_owned())
        }))
    };
    let before = "CREATE TABLE master.reg (id int, device_id character varying(36));\n";
    let wrong = format!("{before}\nALTER TABLE master.reg\n  ADD nonsense;\n");
    let error = migrate(&world, &broken(&wrong), &settings("1.2.0")).await.unwrap_err();
    assert!(error.to_string().starts_with("ddl/master-device_fk.sql:4: statement 6: "), "{error}");
    assert_eq!(error.code(), "42601");
    let state = "SELECT script, state, done::text, code FROM rollcall.migrations WHERE state <> 'done'";
    assert_eq!(world.ask("postgres", state).await, ["ddl.sql|failed|5|42601"]);

    let changed = migrate(&world, &broken("CREATE TABLE master.other (id int);"), &settings("1.2.0"))
        .await
        .unwrap_err();
    assert!(
        changed.to_string().contains("its first 5 statements have run and are not what they were"),
        "{changed}"
    );
    let right = format!("{before}ALTER TABLE master.reg ADD COLUMN more int;");
    let report = migrate(&world, &broken(&right), &settings("1.2.0")).await.unwrap();
    assert_eq!(report.done[0], "go on with ddl.sql after step 5");
    assert_eq!(report.done.len(), 3);
    assert_eq!(world.ask("mosip_master", "SELECT count(*)::text FROM master.reg").await, ["1"]);
    world.stop().await;
}

/// Ends its session where `cut` says so.
fn cut_in(n: usize) -> String {
    format!(
        "SELECT count(pg_terminate_backend(pid)) FROM cut, pg_stat_activity WHERE at = {n} AND pid = pg_backend_pid();\n"
    )
}

/// What `\copy … to` wrote is gone with the run, and so may the rows be that it came from: writing it again would lose them.
#[tokio::test]
async fn rows_that_were_copied_out_are_not_lost_to_a_cut() {
    let world = World::start(16).await;
    world.database("app").await;
    world
        .run("app", "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2); CREATE TABLE cut (at int)")
        .await;
    let export = "\\copy (select n from t order by n) to 'rows.csv'\n";
    let script = |after: &str| format!("{export}{}TRUNCATE t;\n{}{after}", cut_in(1), cut_in(2));
    let settings = Settings {
        scripts: vec!["a.sql".to_owned()],
        version: "1".to_owned(),
        database: "app".to_owned(),
        target: ("app".to_owned(), "app".to_owned()),
        allow: Allow::Everything,
        ..Settings::default()
    };
    let run = async |after: &str, more: &[(&str, &str)]| {
        let text = script(after);
        let files = [("a.sql", text.as_str())].into_iter().chain(more.iter().copied());
        let sources = Sources::of(files.collect::<Vec<_>>());
        migrate_psql(&world, "app", &journal(), &sources, &settings, Limits::default()).await
    };
    let rows = "SELECT string_agg(n::text, ',' ORDER BY n) FROM t";
    let load = "\\copy t from 'rows.csv'\n";
    // Nothing has happened since: it is written again, and what runs is the whole.
    world.run("app", "INSERT INTO cut VALUES (1)").await;
    assert!(run(load, &[]).await.unwrap_err().is_transient());
    assert_eq!(world.ask("app", rows).await, ["1,2"]);
    world.run("app", "UPDATE cut SET at = 2").await;
    assert!(run(load, &[]).await.unwrap_err().is_transient());
    assert_eq!(world.ask("app", rows).await, ["-"]);
    world.run("app", "UPDATE cut SET at = 0").await;
    for _ in 0..2 {
        let error = run(load, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        assert!(
            error.to_string().contains("a.sql:5: reads `rows.csv`, which a.sql:1 wrote in a run"),
            "{error}"
        );
    }
    let state = "SELECT state, done::text FROM rollcall.migrations";
    assert_eq!(world.ask("app", state).await, ["running|3"]);
    // What somebody has put there is read.
    let done = run("\\copy t from 'backup.csv'\n", &[("backup.csv", "1\n2\n")]).await.unwrap();
    assert_eq!(done.done, ["go on with a.sql after step 3"]);
    assert_eq!(world.ask("app", rows).await, ["1,2"]);
    assert_eq!(world.ask("app", state).await, ["done|5"]);
    world.stop().await;
}

/// What a query answers with is judged as what stands in a script, and so is what has no schema in another database.
#[tokio::test]
async fn what_is_generated_destroys_no_more_than_what_is_written() {
    let world = World::start(16).await;
    for database in ["app", "other"] {
        world.database(database).await;
        world
            .run(database, "CREATE SCHEMA own; CREATE TABLE own.t (n int); INSERT INTO own.t VALUES (1)")
            .await;
    }
    world.run("postgres", "ALTER DATABASE other SET search_path = own").await;
    let run = async |text: &str, allow: Allow, version: &str| {
        let settings = Settings {
            scripts: vec![format!("{version}.sql")],
            version: version.to_owned(),
            database: "app".to_owned(),
            target: ("app".to_owned(), "app".to_owned()),
            allow,
            ..Settings::default()
        };
        let journal = Journal { migration: format!("migration/{version}"), ..journal() };
        let sources = Sources::of([(format!("{version}.sql"), text.to_owned())]);
        migrate_psql(&world, "app", &journal, &sources, &settings, Limits::default()).await
    };
    for (n, (text, said)) in [
        (
            "SELECT 'SELECT 1', 'TRUNCATE own.t' \\gexec\n",
            ".sql:1: TRUNCATE of `own.t`, which was there before",
        ),
        ("\\c other\nSELECT 'DROP TABLE t' \\gexec\n", ".sql:2: DROP TABLE of `t`, which was there before"),
        ("BEGIN;\nSELECT 'DELETE FROM own.t' \\gexec\nCOMMIT;\n", ".sql:2: DELETE without WHERE of `own.t`"),
        ("\\c other\nTRUNCATE t;\n", ".sql:2: TRUNCATE of `t`, which was there before"),
    ]
    .into_iter()
    .enumerate()
    {
        let error = run(text, Allow::Nothing, &n.to_string()).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains(said), "{error}");
        for database in ["app", "other"] {
            assert_eq!(world.ask(database, "SELECT count(*)::text FROM own.t").await, ["1"], "{text}");
        }
    }
    let never = run("SELECT 'DROP DATABASE other' \\gexec\n", Allow::Everything, "never").await.unwrap_err();
    assert!(
        never.to_string().contains("never.sql:1: DROP DATABASE of `other`: scripts that drop"),
        "{never}"
    );
    assert_eq!(world.ask("other", "SELECT count(*)::text FROM own.t").await, ["1"]);

    // What it has made itself it may take away, and what a person allows.
    let own = "CREATE TABLE mine (n int);\nSELECT 'DROP TABLE mine' \\gexec\n";
    run(own, Allow::Nothing, "own").await.unwrap();
    run("SELECT 'TRUNCATE own.t' \\gexec\n", Allow::Everything, "0").await.unwrap();
    assert_eq!(world.ask("app", "SELECT count(*)::text FROM own.t").await, ["0"]);
    world.stop().await;
}
