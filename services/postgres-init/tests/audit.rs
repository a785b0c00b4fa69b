//! Audits of real servers: nothing is said of clean ones, and what can be done is said of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use std::collections::BTreeSet;

use chassis::exit::Exit;
use common::{Db, World};
use old::{Commands, audit, audit_besides, script};
use postgres_init::audit::{Class, Report, Severity};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn found(report: &Report, severity: Severity) -> BTreeSet<Class> {
    report.findings.iter().filter(|found| found.severity == severity).map(|found| found.class).collect()
}

#[tokio::test]
async fn of_a_clean_server_nothing_is_said() {
    for version in 14..=18 {
        let world = World::with(version, &[("wal_level", "logical")]).await;
        let report = audit(&world, "postgres", world.server.password()).await;
        assert_eq!((report.findings.len(), report.unseen.len()), (0, 0), "{version}, fresh: {report}");

        let document =
            world.document("dev", &[Db::new("registry").extension("pg_trgm"), Db::new("pbms").without_ddl()]);
        world.settle(&document).await;
        let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        app.execute("CREATE TABLE people (id serial, name text)").await.unwrap();
        app.close().await;
        world.run("pbms", "SET ROLE pbms_owner; CREATE TABLE people (id serial, name text)").await;
        let report = audit(&world, "postgres", world.server.password()).await;
        assert_eq!((report.findings.len(), report.unseen.len()), (0, 0), "{version}, ours: {report}");
        Commands::new(&world, &document).run(&["audit"]).await.unwrap();

        // Made by an administrator of a managed server, and asked by it.
        world.stop().await;
        let world = World::start(version).await;
        let mut document = world.document("dev", &[Db::new("registry"), Db::new("pbms").without_ddl()]);
        world.managed(&mut document).await;
        world.settle(&document).await;
        for (user, password) in [("managed", "managed-secret"), ("postgres", world.server.password())] {
            let report = audit_besides(&world, user, password, &["managed"]).await;
            assert_eq!(report.findings, [], "{version}, {user}: {report}");
            assert_eq!(report.unseen.is_empty(), user == "postgres", "{version}, {user}: {report}");
        }
        // Who made database `rollcall` is not trusted for that: any role with CREATEDB could have.
        let report = audit(&world, "postgres", world.server.password()).await;
        assert_eq!(found(&report, Severity::Attack).is_empty(), version >= 16, "{version}: {report}");
        assert!(report.unseen.iter().any(|text| text.contains("belongs to role managed")), "{report}");
        world.stop().await;
    }
}

#[tokio::test]
async fn what_the_old_script_leaves_is_told_and_is_so() {
    for version in 14..=18 {
        let world = World::with(version, &[("wal_level", "logical")]).await;
        for database in ["one", "two"] {
            script(&world, database, "old").await;
        }
        world.run("two", "CREATE TABLE secrets (what text); CREATE TABLE people (id serial)").await;
        world
            .run("two", "GRANT ALL ON TABLE people TO two_user; REVOKE ALL ON TABLE secrets FROM two_user")
            .await;
        let report = audit(&world, "postgres", world.server.password()).await;
        let told = found(&report, Severity::Attack);
        for class in [Class::Replication, Class::ForeignDatabase, Class::PhysicalSlot, Class::LogicalSlot] {
            assert!(told.contains(&class), "{version} {class:?}: {report}");
        }
        assert_eq!(told.contains(&Class::OsCommand), version < 16, "{version}: {report}");
        let warned = found(&report, Severity::Warning);
        assert!(
            warned.is_superset(&BTreeSet::from([Class::Power, Class::OpenDatabase, Class::Grants])),
            "{report}"
        );

        // It is so: what is told can be done, and what is not told cannot.
        let mut tenant = world.login("one_user", "old", "one").await.unwrap();
        let command =
            "GRANT pg_execute_server_program TO one_user; COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'";
        assert_eq!(tenant.execute(command).await.is_ok(), told.contains(&Class::OsCommand), "{version}");
        tenant.execute("SELECT pg_create_physical_replication_slot('theirs')").await.unwrap();
        tenant.execute("SELECT pg_drop_replication_slot('theirs')").await.unwrap();
        let mut there = world.login("one_user", "old", "two").await.unwrap();
        there.execute("SELECT pg_create_logical_replication_slot('reads', 'test_decoding')").await.unwrap();
        there.execute("SELECT pg_drop_replication_slot('reads')").await.unwrap();
        there.close().await;
        world.run("postgres", "CREATE ROLE victim LOGIN PASSWORD 'x'").await;
        let report = audit(&world, "postgres", world.server.password()).await;
        let told = found(&report, Severity::Attack).contains(&Class::ForeignPassword);
        assert_eq!(
            tenant.execute("ALTER ROLE victim PASSWORD 'y'").await.is_ok(),
            told,
            "{version}: {report}"
        );
        tenant.close().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn each_way_to_a_power_is_found_and_administrators_are_named() {
    let world = World::start(18).await;
    for sql in [
        "CREATE ROLE files; GRANT pg_write_server_files TO files; CREATE ROLE through LOGIN PASSWORD 'x'",
        "GRANT files TO through WITH INHERIT FALSE, SET TRUE",
        "CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'x'; CREATE ROLE nobody LOGIN",
        "SET password_encryption = md5; CREATE ROLE weak LOGIN PASSWORD 'x'",
    ] {
        world.run("postgres", sql).await;
    }
    let report = audit(&world, "postgres", world.server.password()).await;
    let who = |class| -> BTreeSet<String> {
        report
            .findings
            .iter()
            .filter(|found| found.class == class)
            .flat_map(|found| found.who.clone())
            .collect()
    };
    assert_eq!(who(Class::OsCommand), BTreeSet::from(["boss".to_owned(), "through".to_owned()]), "{report}");
    assert_eq!(who(Class::WeakPassword), BTreeSet::from(["weak".to_owned()]), "{report}");
    assert_eq!(who(Class::NoPassword), BTreeSet::from(["nobody".to_owned()]), "{report}");
    assert!(report.to_string().contains("may SET ROLE `files`"), "{report}");

    let document = world.document("dev", &[]);
    let commands = Commands::new(&world, &document);
    assert_eq!(commands.run(&["audit"]).await.unwrap_err().exit, Exit::NeverWorks);
    world.run("postgres", "DROP ROLE through").await;
    commands.run(&["audit", "--administrator", "boss", "--output", "json"]).await.unwrap();

    // A `trust` for others is found in the file that counts.
    let file = world.server.data_dir().join("pg_hba.conf");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{lines}host all all 10.0.0.0/8 trust\n")).unwrap();
    let report = audit(&world, "postgres", world.server.password()).await;
    assert!(report.attacks().contains(&Class::Trust), "{report}");

    // Named by an address; a wrong password is an error that does not repeat it.
    world.secret("pg", "planted");
    let failure = commands.run(&["audit"]).await.unwrap_err();
    assert!(failure.exit == Exit::NeverWorks && !failure.message.contains("planted"), "{failure}");
    world.stop().await;
}

#[tokio::test]
async fn records_whose_things_are_others_gone_or_elsewhere_are_told() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("a"), Db::new("b"), Db::new("c")]);
    world.settle(&document).await;
    world.run("postgres", "DROP DATABASE a").await;
    world.run("postgres", "ALTER DATABASE b RENAME TO b_before").await;
    world.run("postgres", "CREATE DATABASE b TEMPLATE b_before OWNER b_owner").await;
    world.run("rollcall", "DELETE FROM rollcall.owned WHERE kind = 'database' AND name = 'c'").await;
    let report = audit(&world, "postgres", world.server.password()).await;
    for says in [
        "database `a` of environment `dev` (database/a) has vanished",
        "database `b` of environment `dev` (database/b) is not the one that was recorded",
        "database `b_before` says that Rollcall made it and has no record",
        "role `c_owner` of environment `dev` (database/c) was made for a database that has no record",
    ] {
        assert!(report.findings.iter().any(|found| found.what.contains(says)), "{says}: {report}");
    }
    world.run("rollcall", "UPDATE rollcall.owned SET system_identifier = '6' WHERE name = 'b_owner'").await;
    let report = audit(&world, "postgres", world.server.password()).await;
    assert!(
        report
            .to_string()
            .contains("role `b_owner` of environment `dev` (database/b) was recorded on another server")
    );
    world.stop().await;
}
