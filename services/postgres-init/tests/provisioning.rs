//! Databases and roles come up on real servers of the oldest and the newest version, and a second run changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::SecretValue;
use chassis::converge::{Reconcile, Standing};
use common::{Db, World, is_ready};
use postgres::{ErrorKind, probe};
use postgres_init::PostgresTarget;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

#[tokio::test]
async fn version_14_comes_up_and_a_second_run_writes_nothing() {
    comes_up(14).await;
}

#[tokio::test]
async fn version_18_comes_up_and_a_second_run_writes_nothing() {
    comes_up(18).await;
}

async fn comes_up(version: u16) {
    let world = World::start(version).await;
    let document =
        world.document("dev", &[Db::new("registry").extension("pg_trgm"), Db::new("pbms").without_ddl()]);
    let begun = std::time::Instant::now();
    let standings = world.converge(&document).await;
    println!("PostgreSQL {version}: made in {:?}", begun.elapsed());
    for (component, standing) in &standings {
        assert!(matches!(standing, Standing::Ready { changed: true, .. }), "{component}: {standing:?}");
    }

    let before = world.written().await;
    let begun = std::time::Instant::now();
    let again = world.converge(&document).await;
    println!("PostgreSQL {version}: nothing to do in {:?}", begun.elapsed());
    for (component, standing) in &again {
        assert!(matches!(standing, Standing::Ready { changed: false, .. }), "{component}: {standing:?}");
    }
    assert!(world.plan(&document).await.is_settled());
    assert_eq!(world.written().await, before);
    if version < 15 {
        world.run("registry", "GRANT CREATE ON SCHEMA public TO PUBLIC").await;
        assert_eq!(world.plan(&document).await.steps.len(), 1);
        world.settle(&document).await;
    }

    // A module that changes its schema does it as the owner.
    let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
    app.execute("CREATE TABLE people (id serial PRIMARY KEY, name text)").await.unwrap();
    app.execute("CREATE INDEX ON people USING gin (name gin_trgm_ops)").await.unwrap();
    app.close().await;
    let owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'people'";
    assert_eq!(world.ask("registry", owner).await, "registry_owner");

    // One that does not uses what the owner makes, and makes nothing.
    world
        .run("pbms", "SET ROLE pbms_owner; CREATE TABLE public.people (id serial PRIMARY KEY, name text)")
        .await;
    let mut app = world.login("pbms_user", "password-of-pbms-db", "pbms").await.unwrap();
    app.execute("INSERT INTO people (name) VALUES ('x'); DELETE FROM people").await.unwrap();
    let denied = app.execute("CREATE TABLE mine (id int)").await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    app.close().await;
    assert!(world.plan(&document).await.is_settled());
    world.stop().await;
}

#[tokio::test]
async fn probes_see_what_modules_and_the_hub_need() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("registry")]);
    let server = world.address();
    let password = SecretValue::new("password-of-registry-db");
    let observer = SecretValue::new("observes-only");
    let (registry, main) = ("database/registry".parse().unwrap(), "postgres/main".parse().unwrap());

    let early = probe::login(&server, "registry_user", &password, "registry").await.unwrap_err();
    assert_eq!((early.kind, early.is_transient()), (ErrorKind::Login, false));
    let unobserved = probe::observed(&server, "dev", &observer, &main).await.unwrap_err();
    assert_eq!(unobserved.kind, ErrorKind::Login);

    let (target, spec) = world.target(&document);
    let plan = PostgresTarget::plan(&spec, &target.observe(&spec).await.unwrap());
    for step in &plan.steps[..plan.steps.len() - 1] {
        target.apply(&spec, step).await.unwrap();
    }
    let unfinished = probe::observed(&server, "dev", &observer, &registry).await.unwrap_err();
    assert_eq!(unfinished.kind, ErrorKind::NotProvisioned);
    assert!(unfinished.is_transient() && unfinished.to_string().contains("not finished"), "{unfinished}");

    let standings = common::standings(&target, &spec).await;
    assert!(is_ready(&standings, "database/registry"));
    let seen = probe::observed(&server, "dev", &observer, &registry).await.unwrap();
    assert_eq!(seen.level, "provisioned");
    let oid = world.ask("rollcall", "SELECT oid::text FROM pg_database WHERE datname = 'registry'").await;
    assert_eq!(seen.incarnation["oid"], oid);
    let accepting = probe::observed(&server, "dev", &observer, &main).await.unwrap();
    assert_eq!(
        (accepting.level.as_str(), &accepting.incarnation["system_identifier"]),
        ("accepting", &seen.incarnation["system_identifier"])
    );

    let writable = probe::login(&server, "registry_user", &password, "registry").await.unwrap();
    assert_eq!(writable.level, "writable");
    assert_eq!(writable.incarnation["started"], accepting.incarnation["started"]);
    assert!(writable.latency.as_millis() > 0);

    world.run("registry", "ALTER ROLE registry_user SET default_transaction_read_only = on").await;
    let read_only = probe::login(&server, "registry_user", &password, "registry").await.unwrap_err();
    assert_eq!(read_only.kind, ErrorKind::ReadOnly);
    let nowhere = probe::login(&server, "registry_user", &password, "nowhere").await.unwrap_err();
    assert_eq!(nowhere.kind, ErrorKind::NoDatabase);
    let refused =
        probe::login(&postgres::Server { port: 1, ..server.clone() }, "x", &password, "x").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    let lost = postgres::Server { host: "no-such-host.invalid".to_owned(), ..server.clone() };
    assert_eq!(probe::login(&lost, "x", &password, "x").await.unwrap_err().kind, ErrorKind::Unresolved);
    let tls = postgres::Server { tls: postgres::Encryption::Require, ..server };
    assert_eq!(
        probe::login(&tls, "registry_user", &password, "registry").await.unwrap_err().kind,
        ErrorKind::Tls
    );
    world.stop().await;
}

#[tokio::test]
async fn a_crash_after_any_step_is_finished_by_the_next_run_on_14() {
    crashes(14).await;
}

#[tokio::test]
async fn a_crash_after_any_step_is_finished_by_the_next_run_on_18() {
    crashes(18).await;
}

async fn crashes(version: u16) {
    let world = World::start(version).await;
    let mut k = 0;
    loop {
        let name = format!("db{k}");
        let db = Db::new(&name).extension("pg_trgm");
        let document = world.document("dev", &[if k % 2 == 0 { db } else { db.without_ddl() }]);
        let (target, spec) = world.target(&document);
        let plan = PostgresTarget::plan(&spec, &target.observe(&spec).await.unwrap());
        for step in plan.steps.iter().take(k) {
            target.apply(&spec, step).await.unwrap();
            if matches!(step.change, postgres_init::Change::Database { .. }) {
                let inside = world.login("postgres", world.server.password(), &name).await.unwrap_err();
                assert_eq!(inside.kind, ErrorKind::Closed, "nobody connects before it is sealed");
            }
        }
        drop(target);
        world.settle(&document).await;
        assert!(world.plan(&document).await.is_settled());
        if k > plan.steps.len() {
            break;
        }
        k += 1;
    }
    assert!(k > 7, "{k} boundaries");
    world.stop().await;
}

#[tokio::test]
async fn a_half_made_database_rollcall_is_finished_and_half_a_server_part_too() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let document = world.document("dev", &[]);
        let states: [&[&str]; 4] = [
            &["CREATE DATABASE rollcall ALLOW_CONNECTIONS false TEMPLATE template0"],
            &["CREATE DATABASE rollcall TEMPLATE template0", "REVOKE ALL ON DATABASE rollcall FROM PUBLIC"],
            &["CREATE DATABASE rollcall TEMPLATE template0"],
            &[],
        ];
        for (k, state) in states.into_iter().enumerate() {
            for sql in state {
                world.run("postgres", sql).await;
            }
            let (target, spec) = world.target(&document);
            let plan = PostgresTarget::plan(&spec, &target.observe(&spec).await.unwrap());
            for step in plan.steps.iter().take(k) {
                target.apply(&spec, step).await.unwrap();
            }
            drop(target);
            world.settle(&document).await;
            assert!(world.plan(&document).await.is_settled());
            world.run("postgres", "DROP DATABASE rollcall WITH (FORCE)").await;
            world.run("postgres", "DROP ROLE rollcall_observer_dev").await;
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn four_runs_at_once_on_a_new_server_end_well() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let databases: Vec<Db> = (0..3).map(|i| Db::new(&format!("db{i}")).extension("pg_trgm")).collect();
        let document = world.document("dev", &databases);
        let runs = tokio::join!(
            world.converge(&document),
            world.converge(&document),
            world.converge(&document),
            world.converge(&document)
        );
        for standings in [runs.0, runs.1, runs.2, runs.3] {
            for (component, standing) in standings {
                assert!(matches!(standing, Standing::Ready { .. }), "{version} {component}: {standing:?}");
            }
        }
        assert!(world.plan(&document).await.is_settled());

        // Four environments that share the server.
        let each: Vec<_> = ["w", "x", "y", "z"]
            .map(|name| {
                let mut document = world.document(name, &[Db::new("shared")]);
                document["naming"] =
                    serde_json::json!({"database": "{environment}_{name}", "role": "{environment}_{name}"});
                document
            })
            .into();
        tokio::join!(
            world.settle(&each[0]),
            world.settle(&each[1]),
            world.settle(&each[2]),
            world.settle(&each[3])
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn an_administrator_without_superuser_rights_is_enough() {
    for version in [14, 16, 18] {
        let world = World::start(version).await;
        let mut document =
            world.document("dev", &[Db::new("registry").extension("pg_trgm"), Db::new("pbms").without_ddl()]);
        world.managed(&mut document).await;
        world.settle(&document).await;
        let before = world.written().await;
        world.settle(&document).await;
        assert_eq!(world.written().await, before);
        let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        app.execute("CREATE TABLE people (id serial)").await.unwrap();
        app.close().await;

        // Verifiers cannot be read; a login tells that the password is another.
        world.secret("registry-db", "changed");
        world.settle(&document).await;
        world.login("registry_user", "changed", "registry").await.unwrap().close().await;
        world.stop().await;
    }
}
