//! What is not this environment's is not touched, and tenants cannot reach each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use chassis::converge::{Fault, Reconcile, Standing};
use common::{Db, World, is_ready, refused, standing};
use old::Commands;
use postgres::ErrorKind;
use postgres_init::Error;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

#[tokio::test]
async fn two_environments_with_the_same_names_are_kept_apart() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let first = world.document("one", &[Db::new("registry")]);
        world.settle(&first).await;
        let before = world.written().await;

        let second = world.document("two", &[Db::new("registry"), Db::new("other")]);
        let standings = world.converge(&second).await;
        let text = refused(&standings, "database/registry");
        assert!(
            text.contains("belongs to environment `one`") && text.contains("{environment}_{name}"),
            "{text}"
        );
        assert!(is_ready(&standings, "database/other"), "{standings:?}");
        let after = world.written().await;
        for row in before.lines().filter(|row| row.contains("registry") || row.contains("observer_one")) {
            assert!(after.contains(row), "{row} was rewritten");
        }

        let mut apart = world.document("three", &[Db::new("registry").extension("pg_trgm")]);
        apart["naming"] =
            serde_json::json!({"database": "{environment}_{name}", "role": "{environment}_{name}"});
        world.settle(&apart).await;
        world.settle(&first).await;
        tenants_cannot_reach_each_other(&world).await;
        world.stop().await;
    }
}

async fn tenants_cannot_reach_each_other(world: &World) {
    let own = world.login("three_registry_user", "password-of-registry-db", "three_registry").await.unwrap();
    own.close().await;
    for (role, password, database) in [
        ("three_registry_user", "password-of-registry-db", "registry"),
        ("three_registry_user", "password-of-registry-db", "rollcall"),
        ("registry_user", "password-of-registry-db", "three_registry"),
        ("rollcall_observer_one", "observes-only", "registry"),
    ] {
        let error = world.login(role, password, database).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoConnect, "{role} in {database}: {error}");
    }
    let owner = world.login("registry_owner", "x", "registry").await.unwrap_err();
    assert_eq!(owner.kind, ErrorKind::Login);

    // An observer sees its own environment, writes nothing, and cannot hold our locks.
    let mut observer = world.login("rollcall_observer_one", "observes-only", "rollcall").await.unwrap();
    let (connection, within) = observer.parts();
    let seen: Vec<String> = within
        .judge(sqlx::query_scalar("SELECT name FROM rollcall.mine ORDER BY name").fetch_all(connection))
        .await
        .unwrap();
    assert_eq!(seen, ["registry", "registry_owner", "registry_user", "rollcall_observer_one"]);
    for attack in [
        "SELECT * FROM rollcall.owned",
        "DELETE FROM rollcall.owned",
        "CREATE TABLE rollcall.x (i int)",
        "CREATE TABLE public.x (i int)",
        "CREATE TEMPORARY TABLE x (i int)",
        "CREATE SCHEMA x",
        "SELECT pg_advisory_lock(1919904876, 0)",
        "SELECT pg_try_advisory_lock_shared(1)",
    ] {
        let error = observer.execute(attack).await.expect_err(attack);
        assert!(matches!(error.code(), "42501" | "3F000"), "{attack}: {error}");
    }

    // A tenant that acts as its owner has no power beyond its database.
    let mut tenant =
        world.login("three_registry_user", "password-of-registry-db", "three_registry").await.unwrap();
    for attack in [
        "RESET ROLE; CREATE ROLE x",
        "CREATE DATABASE x",
        "RESET ROLE; ALTER ROLE registry_user PASSWORD 'x'",
        "RESET ROLE; GRANT registry_owner TO three_registry_user",
        "RESET ROLE; GRANT pg_execute_server_program TO three_registry_user",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_create_logical_replication_slot('x', 'test_decoding')",
        "SET ROLE registry_owner",
        "ALTER DATABASE registry OWNER TO three_registry_owner",
    ] {
        let error = tenant.execute(attack).await.expect_err(attack);
        assert!(matches!(error.code(), "42501" | "55000"), "{attack}: {error}");
    }
}

#[tokio::test]
async fn what_others_made_is_refused_and_neighbours_come_up() {
    let world = World::start(18).await;
    world.run("postgres", "CREATE DATABASE registry").await;
    world.run("postgres", "CREATE ROLE pbms_user LOGIN PASSWORD 'theirs' CREATEDB").await;
    let document = world.document("dev", &[Db::new("registry"), Db::new("pbms"), Db::new("free")]);
    let standings = world.converge(&document).await;
    assert!(refused(&standings, "database/registry").contains("carries no mark"), "{standings:?}");
    assert!(refused(&standings, "database/pbms").contains("role `pbms_user` exists and carries no mark"));
    assert!(is_ready(&standings, "database/free") && is_ready(&standings, "postgres/main"), "{standings:?}");
    world.login("pbms_user", "theirs", "postgres").await.unwrap().close().await;
    let roles =
        "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^(registry|pbms)'";
    assert_eq!(world.ask("postgres", roles).await, "pbms_user");

    // A database called `rollcall` that is somebody else's is not taken over.
    world.stop().await;
    let world = World::start(18).await;
    world.run("postgres", "CREATE ROLE dev LOGIN CREATEDB PASSWORD 'dev'; CREATE ROLE x").await;
    world.run("postgres", "CREATE DATABASE rollcall OWNER dev").await;
    let standings = world.converge(&world.document("dev", &[Db::new("registry")])).await;
    assert!(refused(&standings, "database/registry").contains("belongs to role dev"), "{standings:?}");
    assert!(refused(&standings, "postgres/main").contains("not Rollcall's own"), "{standings:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_vanished_or_was_made_anew_is_refused_and_what_drifted_is_repaired() {
    let world = World::start(18).await;
    let document = world.document(
        "dev",
        &[Db::new("a").extension("pg_trgm"), Db::new("b"), Db::new("c").extension("postgis")],
    );
    let standings = world.converge(&document).await;
    assert!(refused(&standings, "database/c").contains("no extension `postgis`"));
    assert!(is_ready(&standings, "database/a") && is_ready(&standings, "database/b"));

    world.run("a", "DROP EXTENSION pg_trgm").await;
    world
        .run(
            "postgres",
            "ALTER ROLE a_user CREATEDB; ALTER ROLE a_owner LOGIN; GRANT CONNECT ON DATABASE a TO PUBLIC",
        )
        .await;
    world.run("postgres", "GRANT pg_monitor TO a_user; GRANT CONNECT ON DATABASE rollcall TO PUBLIC").await;
    let plan = world.plan(&document).await;
    assert_eq!(plan.steps.len(), 5, "{plan}");
    assert!(plan.drift.iter().any(|note| note.text.contains("pg_monitor")), "{plan}");
    assert!(is_ready(&world.converge(&document).await, "database/a"));
    assert!(world.plan(&document).await.steps.is_empty());

    world.run("postgres", "DROP DATABASE b").await;
    let text = refused(&world.converge(&document).await, "database/b");
    assert!(text.contains("has vanished") && text.contains("rebind DOCUMENTS"), "{text}");
    world.run("postgres", "CREATE DATABASE b OWNER b_owner").await;
    let text = refused(&world.converge(&document).await, "database/b");
    assert!(text.contains("not the one that was recorded"), "{text}");
    let commands = Commands::new(&world, &document);
    commands.run(&["rebind", "--component", "database/b"]).await.unwrap();
    assert!(
        refused(&world.converge(&document).await, "database/b").contains("not the one"),
        "a dry run binds nothing"
    );
    commands.run(&["rebind", "--component", "database/b", "--yes"]).await.unwrap();
    assert!(is_ready(&world.converge(&document).await, "database/b"));
    world.stop().await;
}

#[tokio::test]
async fn an_administrator_who_cannot_log_in_is_told_without_the_password() {
    let world = World::start(18).await;
    world.secret("pg", "planted-admin-password");
    let document = world.document("dev", &[Db::new("registry")]);
    let (target, spec) = world.target(&document);
    let error = target.observe(&spec).await.unwrap_err();
    assert!(matches!(&error, Error::Admin { error, .. } if error.kind == ErrorKind::Login), "{error}");
    assert!(!error.is_transient() && error.code() == "28P01");
    let text = format!("{error} {error:?} {target:?}");
    assert!(text.contains("role `postgres`") && !text.contains("planted"), "{text}");

    std::fs::remove_dir_all(world.secrets.path().join("dev/pg")).unwrap();
    let error = target.observe(&spec).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("secret/dev/pg does not exist"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_missing_secret_is_waited_for_and_an_unfit_one_refused() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("late"), Db::new("bad"), Db::new("fine")]);
    std::fs::remove_dir_all(world.secrets.path().join("dev/late-db")).unwrap();
    world.secret("bad-db", "planted\n");
    let standings = world.converge(&document).await;
    let Standing::Pending(note) = standing(&standings, "database/late") else { panic!("{standings:?}") };
    assert!(note.text.contains("secret/dev/late-db does not exist"), "{note:?}");
    let text = refused(&standings, "database/bad");
    assert!(text.contains("line break") && !text.contains("planted"), "{text}");
    assert!(is_ready(&standings, "database/fine"));
    world.secret("late-db", "now");
    assert!(is_ready(&world.converge(&document).await, "database/late"));
    world.stop().await;
}

#[tokio::test]
async fn in_mode_report_nothing_is_done() {
    let world = World::start(18).await;
    let mut document = world.document("dev", &[Db::new("registry")]);
    document["policy"] = serde_json::json!({"mode": "report"});
    let standings = world.converge(&document).await;
    assert!(matches!(standing(&standings, "database/registry"), Standing::Reported(_)), "{standings:?}");
    let made =
        "SELECT count(*)::text FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')";
    assert_eq!(world.ask("postgres", made).await, "0");
    // What is somebody else's is part of the report too.
    world.run("postgres", "CREATE DATABASE registry").await;
    let standings = world.converge(&document).await;
    let Standing::Reported(text) = standing(&standings, "database/registry") else { panic!("{standings:?}") };
    assert!(text.contains("mode is report; would be refused") && text.contains("carries no mark"), "{text}");
    world.stop().await;
}
