//! Taking down on real servers: only what is recorded as this environment's goes, and only where both the document and the command
//! say so; what holds it is told; whoever is cut off midway goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod under_way;

use chassis::Context;
use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::teardown::Report;
use common::{Db, World, environment, is_ready, refused};
use postgres_init::{How, teardown};
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const SAY: How = How { yes: false, orphans: Vec::new(), cancel: false };
const DO: How = How { yes: true, orphans: Vec::new(), cancel: false };

fn context(world: &World) -> Context {
    let root = world.secrets.path().display().to_string();
    let settings = [("ROLLCALL_SECRETS_ROOT".to_owned(), root)];
    Context::new("postgres-init", Settings::load(settings).unwrap(), Shutdown::manual())
}

async fn down(world: &World, document: &Value, how: How) -> Report {
    teardown(&environment(document), &context(world), &how).await.unwrap()
}

/// The same, where all must go well.
async fn goes(world: &World, document: &Value) -> Report {
    let report = down(world, document, DO).await;
    assert!(report.outcome().is_ok(), "{report}");
    report
}

/// A document of an environment with names of its own, whose things may go.
fn doomed(world: &World, name: &str, databases: &[Db]) -> Value {
    let mut document = world.document(name, databases);
    document["policy"] = json!({"on_delete": "delete"});
    document["naming"] = json!({"database": "{environment}_{name}", "role": "{environment}_{name}"});
    document
}

/// A database of which much is said.
fn rich(name: &str) -> Db {
    Db::new(name).with(json!({"roles": {
        "migrator": {"name": format!("{name}_migrator"), "password": {"secret": "migrator", "key": "password"}},
        "readers": {}
    }}))
}

fn with_reader(world: &World, document: &mut Value, reads: &[&str]) {
    world.secret("bi", "reads-only");
    document["roles"] =
        json!({"bi": {"server": "main", "password": {"secret": "bi", "key": "password"}, "reads": reads}});
}

/// What of an environment is left on the server: databases, roles, records, runs.
async fn left(world: &World) -> String {
    world
        .ask(
            "rollcall",
            "SELECT concat_ws(' ', (SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname LIKE 'gone%'),
               (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE '%gone%'),
               (SELECT string_agg(name, ',' ORDER BY name) FROM rollcall.owned WHERE environment_name = 'gone'),
               (SELECT count(*) FROM rollcall.ledger WHERE environment_name = 'gone'))",
        )
        .await
}

/// Everything that the neighbour has, without statistics that move by themselves.
const NEIGHBOUR: &str = "
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
  SELECT 'database ' || to_jsonb(d)::text AS line FROM pg_database d WHERE datname LIKE 'stays%'
  UNION ALL SELECT 'role ' || to_jsonb(r)::text FROM pg_authid r WHERE rolname LIKE '%stays%'
  UNION ALL SELECT 'member ' || m.roleid || ' ' || m.member FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname LIKE '%stays%'
  UNION ALL SELECT 'setting ' || to_jsonb(s)::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname LIKE '%stays%'
  UNION ALL SELECT 'comment ' || to_jsonb(c)::text FROM pg_shdescription c JOIN pg_roles r ON r.oid = c.objoid WHERE r.rolname LIKE '%stays%'
  UNION ALL SELECT 'record ' || to_jsonb(o)::text FROM rollcall.owned o WHERE environment_name = 'stays') lines";

#[tokio::test]
async fn one_environment_goes_and_its_neighbour_is_as_it_was() {
    for (version, managed) in [(14, true), (16, false), (18, true)] {
        let world = World::start(version).await;
        world.secret("migrator", "migrates");
        let mut stays = doomed(&world, "stays", &[rich("a"), rich("b")]);
        let mut gone = doomed(&world, "gone", &[rich("a"), rich("b")]);
        with_reader(&world, &mut stays, &["a", "b"]);
        with_reader(&world, &mut gone, &["a", "b"]);
        if managed {
            world.managed(&mut stays).await;
            gone["postgres"]["main"]["admin"]["user"] = "managed".into();
        }
        world.settle_twice(&stays).await;
        world.settle_twice(&gone).await;
        let mut app = world.login("stays_a_user", "password-of-a-db", "stays_a").await.unwrap();
        app.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1), (2)").await.unwrap();
        let (before, rows) = (world.ask("rollcall", NEIGHBOUR).await, "SELECT sum(n)::text FROM kept");
        assert!(before.lines().count() > 20, "{version} {managed}: there is something to compare\n{before}");

        let written = world.written().await;
        let said = down(&world, &gone, SAY).await;
        assert!(said.outcome().is_ok() && !said.removed.is_empty(), "{version} {managed}: {said}");
        assert_eq!(world.written().await, written, "who only says writes nothing");
        let report = goes(&world, &gone).await;
        assert_eq!(report.removed, said.removed, "{version} {managed}: what was said is done");
        assert!(report.retained.is_empty() && report.orphans.is_empty(), "{report}");
        assert_eq!(left(&world).await, "0", "{version} {managed}: {report}");
        assert_eq!(world.ask("rollcall", NEIGHBOUR).await, before, "{version} {managed}");
        assert_eq!(world.ask("stays_a", rows).await, "3");
        app.execute("INSERT INTO kept VALUES (3)").await.unwrap();
        app.close().await;

        // Twice is once, and what went is made anew.
        let again = goes(&world, &gone).await;
        assert!(again.removed.is_empty() && again.retained.is_empty(), "{again}");
        world.settle_twice(&gone).await;
        let told = world
            .ask(
                "rollcall",
                "SELECT string_agg(step, ';' ORDER BY change) FROM rollcall.history WHERE component = 'database/a'
                 AND environment_uid IN (SELECT environment_uid FROM rollcall.owned WHERE environment_name = 'gone') AND step ~ 'gone_a`'",
            )
            .await;
        let drop = told.find("drop database `gone_a`").expect("its history says that it went");
        assert!(
            told[drop..].contains("make database `gone_a`")
                && told[..drop].contains("make database `gone_a`")
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn what_is_not_to_go_by_its_document_stays_with_its_mark() {
    let world = World::start(16).await;
    let mut document = doomed(&world, "gone", &[Db::new("a"), Db::new("b")]);
    with_reader(&world, &mut document, &[]);
    document.as_object_mut().unwrap().remove("roles");
    document["databases"]["a"]["on_delete"] = "retain".into();
    // A role of what goes that somebody lets into what stays.
    world.settle(&document).await;
    world.run("gone_a", "CREATE TABLE t (n int); GRANT SELECT ON t TO gone_b_user").await;
    let before = left(&world).await;
    let said = down(&world, &document, SAY).await;
    assert!(said.to_string().contains("= database/a: database `gone_a`, role `gone_a_owner`"), "{said}");
    assert_eq!(left(&world).await, before);
    let report = goes(&world, &document).await;
    let text = report.to_string();
    assert!(
        text.contains("role `gone_b_user` stays: it owns or may use 1 things in or of database `gone_a`"),
        "{text}"
    );
    assert!(text.contains("role `rollcall_observer_gone` stays: it observes 4 more things"), "{text}");
    let rest = left(&world).await;
    assert!(
        !rest.contains("gone_b_owner") && rest.contains("gone_b_user") && rest.starts_with("gone_a "),
        "{rest}"
    );
    world.login("gone_a_user", "password-of-a-db", "gone_a").await.unwrap().close().await;

    // Whoever is in mode report touches nothing, and by default everything stays.
    document["policy"] = json!({"on_delete": "delete", "mode": "report"});
    document["databases"]["a"].as_object_mut().unwrap().remove("on_delete");
    assert!(goes(&world, &document).await.removed.is_empty());
    document.as_object_mut().unwrap().remove("policy");
    assert!(goes(&world, &document).await.removed.is_empty());
    assert_eq!(left(&world).await, rest);

    document["policy"] = json!({"on_delete": "delete"});
    goes(&world, &document).await;
    assert_eq!(left(&world).await, "0");
    world.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended_and_what_would_be_lost_is_refused() {
    for (version, managed) in [(14, true), (18, false)] {
        let settings = [("wal_level", "logical"), ("max_prepared_transactions", "5")];
        let world = World::with(version, &settings).await;
        let mut document = doomed(&world, "gone", &[Db::new("a"), Db::new("b")]);
        if managed {
            world.managed(&mut document).await;
        }
        world.settle(&document).await;
        let mut app = world.login("gone_a_user", "password-of-a-db", "gone_a").await.unwrap();
        app.execute("CREATE TABLE t (n int)").await.unwrap();
        world
            .run(
                "gone_a",
                "SELECT pg_create_logical_replication_slot('decodes', 'test_decoding'); SELECT pg_create_physical_replication_slot('standby')",
            )
            .await;
        world
            .run(
                "gone_a",
                "CREATE SUBSCRIPTION sub CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)",
            )
            .await;
        app.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'two-phase'").await.unwrap();

        let report = down(&world, &document, DO).await;
        let text = report.to_string();
        assert!(text.contains("a session of role `gone_a_user` (application `test`)"), "{version}: {text}");
        for needle in [
            "! database/a: replication slot `decodes` decodes database `gone_a`",
            "! database/a: transaction 'two-phase' of role `gone_a_",
            "! database/a: subscription `sub`",
        ] {
            assert!(text.contains(needle), "{version}: {needle}\n{text}");
        }
        // A slot of a standby is of nobody here: none of these roles may replicate.
        assert!(!text.contains("standby"), "{text}");
        assert_eq!(report.outcome().unwrap_err().exit, chassis::Exit::NeverWorks);
        app.execute("SELECT 1").await.expect("what is refused is left alone, whole");
        assert!(left(&world).await.starts_with("gone_a "), "the neighbour went: {}", left(&world).await);

        app.execute("ROLLBACK PREPARED 'two-phase'").await.unwrap();
        world.run("gone_a", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)").await;
        world.run("gone_a", "DROP SUBSCRIPTION sub").await;
        world.run("postgres", "SELECT pg_drop_replication_slot('decodes')").await;
        if managed {
            // A stranger's session cannot be ended by who is no superuser: nothing is begun.
            let report = down_with_superuser_inside(&world, &document).await;
            assert!(report.to_string().contains("may not end the session of role `postgres`"), "{report}");
            app.execute("SELECT 1").await.expect("it was not closed");
        }
        let report = goes(&world, &document).await;
        assert!(report.to_string().contains("end the sessions in database `gone_a`"), "{report}");
        assert!(app.execute("SELECT 1").await.is_err(), "its session was ended");
        assert_eq!(left(&world).await, "0", "{report}");
        world.stop().await;
    }
}

async fn down_with_superuser_inside(world: &World, document: &Value) -> Report {
    let admin = world.login("postgres", world.server.password(), "gone_a").await.unwrap();
    let report = down(world, document, DO).await;
    admin.close().await;
    world
        .comes_to(
            "postgres",
            "SELECT count(*)::text FROM pg_stat_activity WHERE datname = 'gone_a' AND usename = 'postgres'",
            "0",
        )
        .await;
    report
}

#[tokio::test]
async fn a_role_that_replicates_may_have_made_a_physical_slot() {
    let world = World::with(16, &[("wal_level", "logical"), ("max_slot_wal_keep_size", "1GB")]).await;
    let replicates = Db::new("a").with(json!({"roles": {"app": {"replication": true}}}));
    let document = doomed(&world, "gone", &[replicates]);
    world.settle(&document).await;
    world.run("postgres", "SELECT pg_create_physical_replication_slot('whose')").await;
    let report = down(&world, &document, DO).await;
    assert!(
        report.to_string().contains("physical replication slot `whose` may be of role `gone_a_user`"),
        "{report}"
    );
    world.run("postgres", "SELECT pg_drop_replication_slot('whose')").await;
    goes(&world, &document).await;
    assert_eq!(left(&world).await, "0");
    world.stop().await;
}

#[tokio::test]
async fn a_clone_a_restore_and_what_others_own_are_not_touched() {
    let world = World::start(18).await;
    let document = doomed(&world, "gone", &[Db::new("a"), Db::new("b"), Db::new("c"), Db::new("d")]);
    world.settle(&document).await;
    // Made anew under its name; recorded on another cluster; recorded by another fragment; recorded by another environment; renamed.
    world.run("postgres", "ALTER DATABASE gone_d RENAME TO kept").await;
    world.run("postgres", "DROP DATABASE gone_a").await;
    world.run("postgres", "CREATE DATABASE gone_a OWNER gone_a_owner").await;
    world.run("rollcall", "UPDATE rollcall.owned SET system_identifier = '1' WHERE name = 'gone_b'").await;
    world.run("rollcall", "UPDATE rollcall.owned SET fragment = 'moved' WHERE name = 'gone_c'").await;
    let written = world.written().await;
    let report = down(&world, &document, DO).await;
    let text = report.to_string();
    for needle in [
        "! database/a: database `gone_a` is not the one that was recorded (its oid is",
        "! database/b: database `gone_b` is not the one that was recorded (it was recorded on another cluster)",
        "! database/c: database `gone_c` belongs to fragment `moved`",
        "! database/d: database `gone_d` is called `kept` by now",
    ] {
        assert!(text.contains(needle), "{needle}\n{text}");
    }
    assert!(text.contains("rebind DOCUMENTS --component database/a --yes"), "{text}");
    assert_eq!(world.written().await, written);
    assert!(report.removed.is_empty(), "{report}");

    let mut stranger = document.clone();
    stranger["environment"]["uid"] = common::uid("stranger").into();
    let report = down(&world, &stranger, DO).await;
    assert!(
        report.removed.is_empty() && report.to_string().contains("belongs to environment `gone`"),
        "{report}"
    );
    assert_eq!(world.written().await, written);
    world.stop().await;
}

#[tokio::test]
async fn what_nobody_declares_any_more_goes_only_when_that_is_said_too() {
    let world = World::start(14).await;
    let mut document = doomed(&world, "gone", &[rich("a"), Db::new("b")]);
    world.secret("migrator", "migrates");
    world.settle(&document).await;
    let removed = document["databases"].as_object_mut().unwrap().remove("a").unwrap();
    document["databases"]["b"]["on_delete"] = "retain".into();
    let report = goes(&world, &document).await;
    assert!(
        report.to_string().contains("* database/a: database `gone_a`, of fragment `base`")
            && report.to_string().contains("* database/a: role `gone_a_migrator`, role `gone_a_owner`"),
        "{report}"
    );
    assert!(report.removed.is_empty());
    let orphans = How { orphans: vec!["database/a".parse().unwrap()], ..DO };
    document["policy"] = json!({"on_delete": "retain"});
    let report = down(&world, &document, orphans.clone()).await;
    assert!(report.removed.is_empty(), "the document does not say it: {report}");
    let failure = report.outcome().unwrap_err();
    assert!(
        failure.exit == chassis::Exit::NeverWorks && failure.message.contains("policy: {on_delete: delete}"),
        "{failure}"
    );
    document["policy"] = json!({"on_delete": "delete"});
    let report = down(&world, &document, orphans.clone()).await;
    assert!(report.outcome().is_ok(), "{report}");
    let rest = left(&world).await;
    assert!(rest.starts_with("gone_b ") && !rest.contains("gone_a"), "{rest}");
    document["databases"]["a"] = removed;
    assert!(is_ready(&world.converge(&document).await, "database/a"));
    world.stop().await;
}
