//! Records and things that do not fit any more: clones, restores, an older table of records; and adoption that is disturbed or
//! done by an administrator who is no superuser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use std::time::Duration;

use chassis::exit::Exit;
use common::{Db, World, is_ready, refused};
use old::{Commands, script};
use postgres_init::adopt::{Class, Leave};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_restore_into_another_server_is_noticed_and_bound_by_hand() {
    for version in [14, 16, 18] {
        let (one, other) = (World::start(version).await, World::start(version).await);
        let document = one.document("dev", &[Db::new("registry")]);
        one.settle(&document).await;
        let records = one.ask("rollcall", "SELECT json_agg(o)::text FROM rollcall.owned o").await;
        one.stop().await;

        // The same names, and by chance perhaps the same oids; database `rollcall` comes from the first.
        let mut restored = other.document("dev", &[Db::new("registry")]);
        other.settle(&restored).await;
        let records = records.replace('\'', "''");
        other
            .run(
                "rollcall",
                &format!(
                    "DELETE FROM rollcall.owned; INSERT INTO rollcall.owned SELECT * FROM json_populate_recordset(NULL::rollcall.owned, '{records}')"
                ),
            )
            .await;
        let before = other.written().await;
        let standings = other.converge(&restored).await;
        for component in ["database/registry", "postgres/main"] {
            let text = refused(&standings, component);
            assert!(text.contains("is not the one that was recorded"), "{version}: {text}");
            assert!(text.contains(&format!("rebind DOCUMENTS --component {component}")), "{version}: {text}");
        }
        assert_eq!(other.written().await, before, "{version}: nothing is touched");

        // Another environment of the same name takes nothing over.
        restored["environment"]["uid"] = common::uid("stranger").into();
        let failure = Commands::new(&other, &restored).run(&["rebind", "--yes"]).await.unwrap_err();
        assert!(
            failure.exit == Exit::NeverWorks && failure.message.contains("nothing of another environment"),
            "{failure}"
        );
        assert_eq!(other.written().await, before);

        restored["environment"]["uid"] = common::uid("dev").into();
        let commands = Commands::new(&other, &restored);
        commands.run(&["rebind"]).await.unwrap();
        assert_eq!(other.written().await, before, "a dry run writes nothing");
        commands.run(&["rebind", "--yes"]).await.unwrap();
        other.settle(&restored).await;
        assert!(other.plan(&restored).await.is_settled());
        let failure = commands.run(&["rebind", "--component", "database/none"]).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        other.stop().await;
    }
}

#[tokio::test]
async fn a_table_of_records_of_an_older_version_is_read_and_gets_its_columns() {
    let world = World::start(16).await;
    let document = world.document("dev", &[Db::new("registry")]);
    world.settle(&document).await;
    world
        .run(
            "rollcall",
            "ALTER TABLE rollcall.owned DROP COLUMN system_identifier, DROP COLUMN adopted_at, DROP COLUMN converged",
        )
        .await;
    let plan = world.plan(&document).await;
    assert!(plan.refusals.is_empty() && plan.steps.len() == 1, "{plan}");
    world.settle(&document).await;
    assert!(world.plan(&document).await.is_settled());
    // The older version writes beside it, as it always did.
    world
        .run(
            "rollcall",
            "INSERT INTO rollcall.owned AS o (kind, name, environment_uid, environment_name, fragment, component, oid)
             SELECT kind, name, environment_uid, environment_name, fragment, component, oid FROM rollcall.owned
             ON CONFLICT (kind, name) DO UPDATE SET oid = excluded.oid",
        )
        .await;
    assert!(world.plan(&document).await.is_settled());
    world.stop().await;
}

#[tokio::test]
async fn an_administrator_who_is_no_superuser_adopts_what_it_made() {
    for version in [14, 15, 16, 17, 18] {
        let world = World::start(version).await;
        let mut document = world.document("dev", &[Db::new("registry")]);
        world.managed(&mut document).await;
        let mut admin = world.login("managed", "managed-secret", "postgres").await.unwrap();
        for sql in [
            "CREATE DATABASE registry",
            "CREATE USER registry_user PASSWORD 'password-of-registry-db' CREATEDB CREATEROLE",
            "GRANT ALL PRIVILEGES ON DATABASE registry TO registry_user",
        ] {
            admin.execute(sql).await.unwrap();
        }
        admin.close().await;
        let mut admin = world.login("managed", "managed-secret", "registry").await.unwrap();
        // Before version 15 everybody may, and nothing is granted by who does not own the schema: a warning.
        admin.execute("GRANT CREATE ON SCHEMA public TO registry_user").await.unwrap();
        admin.close().await;
        let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        let tables = "CREATE TABLE people (id serial, name text); CREATE VIEW names AS SELECT name FROM people; CREATE SCHEMA own; \
                      CREATE TABLE own.things (id int GENERATED ALWAYS AS IDENTITY)";
        app.execute(tables).await.unwrap();

        let commands = Commands::new(&world, &document);
        commands.run(&["record", "--yes"]).await.unwrap();
        for class in Class::ALL {
            let done = commands.run(&["converge", "--class", class.name(), "--yes"]).await;
            done.unwrap_or_else(|failure| panic!("{version} {class}: {failure}"));
            app.execute("INSERT INTO people (name) SELECT name FROM names; SELECT * FROM own.things")
                .await
                .unwrap();
        }
        world.settle(&document).await;
        assert!(world.plan(&document).await.is_settled(), "{version}: {}", world.plan(&document).await);
        let members = "SELECT count(*)::text FROM pg_auth_members WHERE roleid = 'registry_user'::regrole AND grantor <> 10";
        assert_eq!(
            world.ask("postgres", members).await,
            "0",
            "{version}: the administrator is no member of it any more"
        );
        let mut anew = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        anew.execute("ALTER TABLE own.things ADD COLUMN more text; INSERT INTO people DEFAULT VALUES")
            .await
            .unwrap();
        world.stop().await;
    }
}

#[tokio::test]
async fn a_module_that_does_not_act_as_the_owner_keeps_reading_and_writing() {
    for version in [14, 18] {
        let world = World::start(version).await;
        script(&world, "registry", "password-of-registry-db").await;
        let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        app.execute(
            "CREATE TABLE people (id serial, name text); CREATE VIEW names AS SELECT name FROM people",
        )
        .await
        .unwrap();
        let document = world.document("dev", &[Db::new("registry").without_ddl()]);
        let commands = Commands::new(&world, &document);
        commands.run(&["record", "--yes"]).await.unwrap();
        for class in Class::ALL {
            commands.run(&["converge", "--class", class.name(), "--yes"]).await.unwrap();
            app.execute("INSERT INTO people (name) SELECT 'x' FROM names RIGHT JOIN (SELECT 1) one ON true")
                .await
                .unwrap();
        }
        world.settle(&document).await;
        assert!(world.plan(&document).await.is_settled(), "{version}: {}", world.plan(&document).await);
        let error = app.execute("ALTER TABLE people ADD COLUMN more text").await.unwrap_err();
        assert_eq!(error.code(), "42501", "{error}");
        world.stop().await;
    }
}

#[tokio::test]
async fn whoever_holds_a_table_is_not_disturbed_and_what_a_stop_left_is_finished() {
    let world = World::start(16).await;
    script(&world, "registry", "password-of-registry-db").await;
    let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
    app.execute("CREATE TABLE a (n int); CREATE TABLE held (n int); CREATE TABLE z (n int)").await.unwrap();
    let document = world.document("dev", &[Db::new("registry")]);
    let commands = Commands::new(&world, &document);
    commands.run(&["record", "--yes"]).await.unwrap();
    app.execute("BEGIN; SELECT * FROM held").await.unwrap();

    let (target, spec) = world.target(&document);
    let owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'a'";
    let leave = Leave::default();
    let converging = target.converge_class(&spec, &spec.databases[0], Class::Ownership, &leave);
    let reached = async {
        while world.ask("registry", owner).await != "registry_owner" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It tries again and again; who reads meanwhile is never behind it for long.
        let mut reader = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        reader.execute("SET lock_timeout = '5s'").await.unwrap();
        for _ in 0..40 {
            reader.execute("SELECT * FROM held").await.unwrap();
        }
    };
    tokio::select! {
        done = converging => panic!("it did not wait: {done:?}"),
        () = reached => {}
    }

    // Stopped half-way: what was moved stays moved, everything works, and the next run does the rest.
    let held = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'held'";
    assert_eq!(world.ask("registry", held).await, "registry_user");
    app.execute("INSERT INTO a VALUES (1); INSERT INTO held VALUES (1); COMMIT").await.unwrap();
    assert!(is_ready(&world.converge(&document).await, "database/registry"));
    commands.run(&["converge", "--class", "ownership", "--yes"]).await.unwrap();
    for table in [owner, held] {
        assert_eq!(world.ask("registry", table).await, "registry_owner");
    }
    app.execute("INSERT INTO held VALUES (2); ALTER TABLE z ADD COLUMN m int").await.unwrap();

    // A session from before makes something once all is converged: told, and given to the owner like the rest.
    for class in ["attributes", "grants", "public-connect"] {
        commands.run(&["converge", "--class", class, "--yes"]).await.unwrap();
    }
    world.settle(&document).await;
    app.execute("CREATE TABLE late (n int)").await.unwrap();
    let mut anew = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
    anew.execute("SELECT * FROM late").await.unwrap_err();
    commands.run(&["converge", "--class", "ownership", "--yes"]).await.unwrap();
    anew.execute("SELECT * FROM late").await.unwrap();
    app.execute("SELECT * FROM late").await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn several_who_adopt_at_once_come_to_one_end() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let names = ["one", "two"];
        for name in names {
            script(&world, name, &format!("password-of-{name}-db")).await;
            let mut app =
                world.login(&format!("{name}_user"), &format!("password-of-{name}-db"), name).await.unwrap();
            app.execute(
                "CREATE TABLE a (id serial); CREATE TABLE b (id serial); CREATE VIEW v AS SELECT * FROM a",
            )
            .await
            .unwrap();
        }
        let document = world.document("dev", &names.map(Db::new));
        let commands = Commands::new(&world, &document);
        let all = async |args: &[&str]| {
            let runs = (0..4).map(|_| commands.run(args));
            for done in futures_util::future::join_all(runs).await {
                done.unwrap_or_else(|failure| panic!("{version} {args:?}: {failure}"));
            }
        };
        all(&["record", "--yes"]).await;
        for class in Class::ALL {
            all(&["converge", "--class", class.name(), "--yes"]).await;
        }
        world.settle(&document).await;
        assert!(world.plan(&document).await.is_settled());
        commands.run(&["audit"]).await.unwrap();
        all(&["release-ownership", "--yes"]).await;
        assert_eq!(world.ask("rollcall", "SELECT count(*)::text FROM rollcall.owned").await, "0");
        let locks = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'";
        world.comes_to("rollcall", locks, "0").await;
        world.stop().await;
    }
}
