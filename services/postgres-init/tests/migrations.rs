//! Migrations as part of documents on real servers: each dialect, failing and mended, cut in the middle, kept in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use chassis::SecretValue;
use chassis::exit::Exit;
use chassis::shutdown::Shutdown;
use common::Db;
use common::bench::{Bench, until};
use postgres::{ErrorKind, done};
use serde_json::json;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const SCRIPTS: [(&str, &str); 5] = [
    ("psql/ddl.sql", "\\c registry postgres\n\\ir ddl/person.sql\n"),
    (
        "psql/ddl/person.sql",
        "CREATE TABLE person (id int PRIMARY KEY, name text);\nCREATE INDEX CONCURRENTLY person_name ON person (name);\n",
    ),
    (
        "psql/dml.sql",
        "\\c registry sysadmin\n\\COPY person (id,name) FROM './dml/person.csv' delimiter ',' HEADER csv;\n",
    ),
    ("psql/dml/person.csv", "id,name\n1,\"a, b\"\n2,c\n"),
    ("psql/db.sql", "CREATE DATABASE registry;\n\\c elsewhere\n"),
];

/// As a document asks for it, whichever fragment has done it.
fn asked(hash: &str) -> done::Asked {
    done::Asked { hash: hash.to_owned(), fragment: None, declared: std::collections::BTreeSet::new() }
}

#[tokio::test]
async fn each_dialect_runs_on_14() {
    each_dialect(14).await;
}

#[tokio::test]
async fn each_dialect_runs_on_18() {
    each_dialect(18).await;
}

async fn each_dialect(version: u16) {
    let bench = Bench::start(version).await;
    for (path, text) in SCRIPTS {
        bench.file(path, text);
    }
    bench.file("native/V1__a.sql", "CREATE TABLE a (x int); INSERT INTO a VALUES (1);");
    bench.file("native/V2__b.sql", "CREATE INDEX CONCURRENTLY a_x ON a (x);");
    bench.file("flyway/sql/V20200101000000__a.sql", "CREATE TABLE ${prefix}_users (x int);");
    bench.file("flyway/qa/V20200101000001__b.sql", "INSERT INTO eg_users VALUES (0);");
    bench.world.secret("migrator", "migrates");
    let migrated = |name: &str| {
        let login = json!({"name": format!("{name}_migrator"), "password": {"secret": "migrator", "key": "password"}});
        Db::new(name).without_ddl().with(json!({"roles": {"migrator": login}}))
    };
    let databases = || [Db::new("registry"), migrated("native"), migrated("digit")];
    let migrations = json!({
        "registry": {"database": "registry", "sources": bench.source("psql"),
                     "psql": {"scripts": ["ddl.sql", "dml.sql"], "version": "1.2.0"}, "needs": ["migration/native"]},
        "native": {"database": "native", "sources": bench.source("native"), "native": {}},
        "digit": {"database": "digit", "sources": bench.source("flyway"),
                  "flyway": {"table": "eg_schema", "schemas": ["public", "pg"], "locations": ["filesystem:/flyway/sql"],
                             "current_schema": true, "out_of_order": true, "placeholders": {"prefix": "eg"}}},
    });
    bench.declare(&databases(), &[("migrations", migrations)]);
    bench.run(&["apply"]).await.unwrap();
    assert_eq!(
        bench.world.ask("registry", "SELECT string_agg(name, ';' ORDER BY id) FROM person").await,
        "a, b;c"
    );
    assert_eq!(
        bench.world.ask("native", "SELECT count(*)::text FROM pg_indexes WHERE indexname = 'a_x'").await,
        "1"
    );
    let histories =
        "SELECT (SELECT count(*) FROM public.eg_schema) || ' ' || (SELECT count(*) FROM pg.eg_schema) || ' '
         || (SELECT count(*) FROM public.eg_users)";
    // The schema that was made has Flyway's own row of it.
    assert_eq!(bench.world.ask("digit", histories).await, "1 2 0");
    // Everything belongs to the owner, and nothing ran as anybody else.
    for (database, owner) in
        [("registry", "registry_owner"), ("native", "native_owner"), ("digit", "digit_owner")]
    {
        let owners = bench
            .world
            .ask(database, "SELECT string_agg(DISTINCT tableowner::text, ' ') FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
            .await;
        assert_eq!(owners, owner);
    }
    // A login may write the tables, and not what was run; Flyway's own history is as Flyway leaves it.
    let written = "SELECT string_agg(DISTINCT relname, ', ') FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.relkind = 'r' AND c.oid > 16384 AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'";
    for (database, tables) in [("native", "a"), ("digit", "eg_schema, eg_users")] {
        assert_eq!(bench.world.ask(database, written).await, tables);
    }
    let ledger = bench.ledger().await;
    for name in ["registry", "native", "digit"] {
        assert!(ledger.contains(&format!("migration/{name} running")), "{ledger}");
        assert!(ledger.contains(&format!("migration/{name} done")), "{ledger}");
    }
    assert!(ledger.find("native done").unwrap() < ledger.find("registry running").unwrap(), "{ledger}");
    let done = "SELECT string_agg(migration || done, ' ') FROM rollcall.migrated";
    assert_eq!(bench.world.ask("registry", done).await, "migration/registrytrue");

    // The module's login and the hub's observer both see that it is done, as this document asks for it and no other.
    let hash =
        bench.environment().migrations().find(|m| m.component.name() == "registry").unwrap().spec.hash();
    let (server, name) = (bench.world.address(), "migration/registry".parse().unwrap());
    let password = SecretValue::new("password-of-registry-db");
    let observer = SecretValue::new("observes-only");
    done::migrated(&server, "registry_user", &password, "registry", &name, &hash).await.unwrap();
    done::recorded(&server, "dev", &observer, &name, &asked(&hash)).await.unwrap();
    let other = done::recorded(&server, "dev", &observer, &name, &asked("another")).await.unwrap_err();
    assert!(other.said.contains("as another document asked for it"), "{other}");
    let other =
        done::migrated(&server, "registry_user", &password, "registry", &name, "another").await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::NotProvisioned);

    // A second run has nothing to do, and a plan says so.
    bench.run(&["apply"]).await.unwrap();
    bench.run(&["plan"]).await.unwrap();
    bench.run(&["migrate"]).await.unwrap();
    assert_eq!(bench.ledger().await, ledger);
    assert_eq!(
        bench.world.ask("native", written).await,
        "a",
        "the rights with all tables are not given again"
    );
    // A database that was made anew is migrated anew.
    bench.world.run("postgres", "DROP DATABASE native; ").await;
    bench
        .world
        .run("rollcall", "DELETE FROM rollcall.owned WHERE name = 'native' AND kind = 'database'")
        .await;
    bench.run(&["apply"]).await.unwrap();
    assert_eq!(bench.world.ask("native", "SELECT count(*)::text FROM a").await, "1");
    bench.world.stop().await;
}

#[tokio::test]
async fn one_that_fails_says_where_and_runs_again_only_when_something_changed() {
    let bench = Bench::start(18).await;
    bench.file("sql/V1__a.sql", "CREATE SEQUENCE tries;\n");
    bench.file("sql/V2__b.sql", "SELECT 1;\nSELECT nextval('tries');\nINSERT INTO missing VALUES (1);\n");
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    bench.declare(&[Db::new("registry")], &[("migrations", migrations)]);
    let failure = bench.run(&["apply"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks);
    assert!(
        failure.message.contains("V2__b.sql:3: statement 3: relation \"missing\" does not exist"),
        "{failure}"
    );
    assert!(bench.ledger().await.ends_with("migration/registry failed"), "{}", bench.ledger().await);
    let hash = bench.environment().migrations().next().unwrap().spec.hash();
    let (observer, name) = (SecretValue::new("observes-only"), "migration/registry".parse().unwrap());
    let seen =
        done::recorded(&bench.world.address(), "dev", &observer, &name, &asked(&hash)).await.unwrap_err();
    assert!(seen.said.contains("failed at") && seen.said.contains("V2__b.sql:3"), "{seen}");
    let tries = "SELECT last_value::text FROM tries";
    assert_eq!(bench.world.ask("registry", tries).await, "1");

    // Who serves looks often, and runs it once.
    let shutdown = Shutdown::manual();
    let served = async {
        let stop = shutdown.clone();
        let serving = bench.until(&["serve"], shutdown.clone());
        let mending = async {
            until(|| async { bench.world.ask("registry", tries).await == "2" }).await;
            // It looks on: each look logs in and asks.
            let looks = "SELECT xact_commit::text FROM pg_stat_database WHERE datname = 'registry'";
            let seen = || async { bench.world.ask("postgres", looks).await.parse::<u64>().unwrap() };
            let before = seen().await;
            until(|| async { seen().await > before + 20 }).await;
            assert_eq!(bench.world.ask("registry", tries).await, "2");
            bench.world.run("registry", "SET ROLE registry_owner; CREATE TABLE missing (x int)").await;
            until(|| async { bench.ledger().await.ends_with("migration/registry done") }).await;
            stop.trigger();
        };
        tokio::join!(serving, mending).0
    };
    tokio::time::timeout(Duration::from_mins(1), Box::pin(served)).await.unwrap().unwrap();
    assert_eq!(bench.world.ask("registry", "SELECT count(*)::text FROM missing").await, "1");
    bench.world.stop().await;
}

#[tokio::test]
async fn one_that_is_cut_goes_on_where_it_was() {
    let bench = Bench::start(14).await;
    let sleeper = "CREATE TABLE a (x int);\nCREATE INDEX CONCURRENTLY a_x ON a (x);\nSELECT pg_sleep(600);\n";
    bench.file("sql/V1__a.sql", sleeper);
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    bench.declare(&[Db::new("registry")], &[("migrations", migrations)]);
    let cut = async {
        let sleeps = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        until(|| async { bench.world.ask("postgres", sleeps).await == "true" }).await;
    };
    // What is dropped in the middle is what a killed process is: its connections end, and nothing more is said.
    tokio::select! {
        ended = bench.run(&["migrate"]) => panic!("{ended:?}"),
        ended = bench.run(&["apply"]) => panic!("{ended:?}"),
        () = cut => {}
    }
    bench
        .world
        .run(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'",
        )
        .await;
    assert_eq!(
        bench.world.ask("registry", "SELECT string_agg(done::text, ' ') FROM rollcall.migrated").await,
        "false"
    );
    bench.file("sql/V1__a.sql", &sleeper.replace("600", "0"));
    bench.run(&["apply"]).await.unwrap();
    assert_eq!(
        bench.world.ask("registry", "SELECT string_agg(done::text, ' ') FROM rollcall.migrated").await,
        "true"
    );
    bench.world.stop().await;
}

#[tokio::test]
async fn a_file_can_do_no_more_than_its_tenant() {
    let bench = Bench::start(14).await;
    bench.file("sql/V1__a.sql", "RESET ROLE;\nRESET SESSION AUTHORIZATION;\nCREATE ROLE mine SUPERUSER;\n");
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    bench.declare(&[Db::new("registry")], &[("migrations", migrations.clone())]);
    let failure = bench.run(&["apply"]).await.unwrap_err();
    assert!(failure.message.contains("V1__a.sql:3") && failure.message.contains("42501"), "{failure}");
    // A login that has got powers is not used: whoever gave them is told.
    bench.file("sql/V1__a.sql", "SELECT 1;\n");
    bench.world.run("postgres", "ALTER ROLE registry_user CREATEROLE").await;
    let failure = bench.run(&["migrate"]).await.unwrap_err();
    assert!(failure.message.contains("may do more on the server than in its database"), "{failure}");
    bench.world.stop().await;
}

#[tokio::test]
async fn files_of_a_configmap_are_waited_for_and_run_beside_those_of_a_folder() {
    let bench = Bench::start(18).await;
    bench.file("sql/V1__a.sql", "CREATE TABLE a (x int);\n");
    let migrations = json!({"registry": {"database": "registry", "native": {"locations": ["base", "more"]}, "sources": [
        {"directory": bench.path().join("sql"), "below": "base"}, {"configmap": "registry-sql", "below": "more"}]}});
    let maps = json!({"registry-sql": {"external": true}});
    bench.declare(&[Db::new("registry")], &[("migrations", migrations), ("configmaps", maps)]);
    let failure = bench.run(&["migrate", "--check"]).await.unwrap_err();
    assert!(
        failure.exit == Exit::TryAgain && failure.message.contains("configmap/dev/registry-sql"),
        "{failure}"
    );

    let folder = bench.world.secrets.path().join("dev/.configmaps/registry-sql");
    let (applied, ()) = tokio::join!(bench.run(&["apply"]), async {
        let made = "SELECT count(*)::text FROM pg_database WHERE datname = 'registry'";
        until(async || bench.world.ask("postgres", made).await == "1").await;
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("V2__b.sql"), "INSERT INTO a VALUES (2);\n").unwrap();
    });
    applied.unwrap();
    assert_eq!(bench.world.ask("registry", "SELECT string_agg(x::text, ' ') FROM a").await, "2");
    // What ran is not changed behind its back.
    std::fs::write(folder.join("V2__b.sql"), "INSERT INTO a VALUES (3);\n").unwrap();
    let failure = bench.run(&["apply"]).await.unwrap_err();
    assert!(failure.exit == Exit::NeverWorks && failure.message.contains("more/V2__b.sql"), "{failure}");
    assert_eq!(bench.world.ask("registry", "SELECT string_agg(x::text, ' ') FROM a").await, "2");
    bench.world.stop().await;
}

#[tokio::test]
async fn check_tells_offline_what_would_be_refused() {
    let bench = Bench::start(18).await;
    for (path, text) in SCRIPTS {
        bench.file(path, text);
    }
    bench.file("sql/V1__a.sql", "SELECT 1");
    let psql = |scripts: &[&str]| {
        json!({"registry": {"database": "registry", "sources": bench.source("psql"),
        "psql": {"scripts": scripts, "version": "1.2.0"}}})
    };
    bench.declare(&[Db::new("registry")], &[("migrations", psql(&["ddl.sql", "dml.sql"]))]);
    bench.world.server.stop().await.unwrap();
    bench.run(&["migrate", "--check"]).await.unwrap();
    bench.declare(&[Db::new("registry")], &[("migrations", psql(&["db.sql", "ddl.sql"]))]);
    let failure = bench.run(&["migrate", "--check"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks);
    assert!(
        failure.message.contains("connects to database `elsewhere`, which the documents do not name"),
        "{failure}"
    );
    bench.file("psql/ddl.sql", "\\c registry\n\\lo_import x\n");
    bench.declare(&[Db::new("registry")], &[("migrations", psql(&["ddl.sql"]))]);
    let failure = bench.run(&["migrate", "--check", "--component", "migration/registry"]).await.unwrap_err();
    assert!(failure.message.contains("ddl.sql:2"), "{failure}");
    let failure = bench.run(&["migrate", "--check", "--component", "migration/none"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    bench.world.stop().await;
}

#[tokio::test]
async fn a_managed_administrator_suffices_on_14() {
    managed(14).await;
}

#[tokio::test]
async fn a_managed_administrator_suffices_on_16() {
    managed(16).await;
}

#[tokio::test]
async fn a_managed_administrator_suffices_on_18() {
    managed(18).await;
}

/// As on a managed service: who looks after the server may make roles and databases, and is no superuser.
async fn managed(version: u16) {
    let bench = Bench::start(version).await;
    bench.world.run("postgres", "CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'managed'").await;
    bench.world.secret("pg", "managed");
    bench.file("sql/V1__a.sql", "CREATE TABLE a (x int);\nCREATE INDEX CONCURRENTLY a_x ON a (x);\n");
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    let mut server = bench.world.server_part();
    server["main"]["admin"]["user"] = json!("manager");
    let steps = json!({"seed": {"database": "registry", "needs": ["migration/registry"]}});
    let more = [("migrations", migrations), ("postgres", server), ("steps", steps)];
    bench.declare(&[Db::new("registry")], &more);
    bench.run(&["apply"]).await.unwrap();
    let owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'a'";
    assert_eq!(bench.world.ask("registry", owner).await, "registry_owner");
    bench.step(&[], "exit 0").await.unwrap();
    bench.step(&[], "exit 0").await.unwrap();
    bench.run(&["apply"]).await.unwrap();
    let ledger = ["migration/registry running", "migration/registry done", "step/seed done"].join(", ");
    assert_eq!(bench.ledger().await, ledger);
    let hash = bench.environment().migrations().next().unwrap().spec.hash();
    let (observer, name) = (SecretValue::new("observes-only"), "migration/registry".parse().unwrap());
    done::recorded(&bench.world.address(), "dev", &observer, &name, &asked(&hash)).await.unwrap();
    bench.world.stop().await;
}
