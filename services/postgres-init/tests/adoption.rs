//! A server that the old script populated, in use all the while: audited, recorded, converged class by class, and given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use std::collections::{BTreeMap, BTreeSet};

use chassis::converge::Standing;
use chassis::exit::Exit;
use common::{Db, World, is_ready, refused, standing};
use lifecycle::document::Identity;
use old::{Clients, Commands, ROLES, script};
use postgres_init::adopt::{Class, Leave};
use postgres_init::audit::Class as Found;
use postgres_init::variables::REQUIRED;
use postgres_init::{Owner, Variables, apply_variables};
use serde_json::Value;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const SETTINGS: [(&str, &str); 1] = [("wal_level", "logical")];

/// What the clients of a database use: tables of the login role with all that hangs on them, and restored ones of the superuser's.
async fn fill(world: &World, database: &str, password: &str) {
    let user = format!("{database}_user");
    let mut app = world.login(&user, password, database).await.unwrap();
    app.execute(
        "CREATE TABLE people (id serial PRIMARY KEY, name text); CREATE VIEW names AS SELECT name FROM people;
         CREATE TYPE mood AS ENUM ('good'); CREATE DOMAIN short AS text; CREATE SEQUENCE tickets;
         CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
         CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM people; SELECT lo_create(4242);
         CREATE TABLE events (at timestamptz, what text) PARTITION BY RANGE (at);
         CREATE TABLE events_now PARTITION OF events DEFAULT",
    )
    .await
    .unwrap();
    app.close().await;
    world.run(database, "CREATE TABLE \"Restored Data\" (id int); CREATE EXTENSION pg_stat_statements").await;
    world.run(database, &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO \"{user}\"")).await;
}

/// The document of what the old script made, of the fragment that runs it.
fn document(world: &World) -> Value {
    let mut document = world.document("openg2p", &[Db::new("registry"), Db::new("odkdb")]);
    document["fragment"]["name"] = "registry-postgres-init".into();
    document
}

/// What the old variables say of one database, run as a Job of the same chart.
async fn old_variables(world: &World, database: &str, password: &str) -> Result<(), chassis::Failure> {
    let values = [
        "127.0.0.1".to_owned(),
        world.server.port().to_string(),
        "postgres".to_owned(),
        world.server.password().to_owned(),
        database.to_owned(),
        format!("{database}_user"),
        password.to_owned(),
    ];
    let env = REQUIRED.into_iter().zip(values).map(|(name, value)| (name.into(), value.into()));
    let owner = Owner {
        environment: Identity { name: "openg2p".to_owned(), uid: common::uid("openg2p").parse().unwrap() },
        namespace: "openg2p".to_owned(),
        fragment: "registry-postgres-init".to_owned(),
    };
    let context = Commands::context(world);
    apply_variables(&Variables::of(env).unwrap(), &owner, &context).await
}

fn names(classes: impl IntoIterator<Item = Found>) -> BTreeSet<Found> {
    classes.into_iter().collect()
}

async fn converging(world: &World, document: &Value, class: Class) -> (Vec<String>, Vec<String>, usize) {
    let (target, spec) = world.target(document);
    let database = spec.databases.iter().find(|database| database.name == "registry").unwrap();
    let found = target.converging(&spec, database, class, &Leave::default()).await.unwrap();
    (found.said, found.refused, found.first.len() + found.steps.len() + found.then.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_use_is_adopted_without_a_failed_query_and_without_a_new_password() {
    for version in [14, 16, 18] {
        let world = World::with(version, &SETTINGS).await;
        let passwords =
            BTreeMap::from([("registry", "password-of-registry-db"), ("odkdb", "password-of-odkdb-db")]);
        for (database, password) in &passwords {
            script(&world, database, password).await;
            fill(&world, database, password).await;
        }
        world
            .run(
                "postgres",
                "CREATE ROLE superset_ro LOGIN PASSWORD 'reads'; CREATE ROLE legacy LOGIN PASSWORD 'x'",
            )
            .await;
        let document = document(&world);
        let commands = Commands::new(&world, &document);
        let verifiers = world.ask("postgres", ROLES).await;
        let mut clients = Clients::start(&world, &passwords).await;
        let mut reader = world.login("superset_ro", "reads", "registry").await.unwrap();

        // Seen, and nothing written.
        let report = commands.report(&world).await;
        let mut attacks =
            names([Found::Replication, Found::ForeignDatabase, Found::PhysicalSlot, Found::LogicalSlot]);
        if version < 16 {
            attacks.extend([Found::OsCommand, Found::ForeignPassword, Found::ForeignRows]);
        }
        assert_eq!(report.attacks(), attacks, "{version}: {report}");
        assert_eq!(commands.run(&["audit"]).await.unwrap_err().exit, Exit::NeverWorks);
        commands.run(&["record"]).await.unwrap();
        let count = "SELECT count(*)::text FROM pg_database WHERE datname = 'rollcall'";
        assert_eq!(world.ask("postgres", count).await, "0", "a dry run makes nothing");

        // Recorded; what `apply` would change it reports.
        commands.run(&["record", "--yes"]).await.unwrap();
        let adopted = world.written().await;
        let standings = world.converge(&document).await;
        assert!(is_ready(&standings, "database/registry"), "{version}: {standings:?}");
        let plan = world.plan(&document).await;
        for says in ["NOCREATEDB", "belongs to role `postgres`", "close database", "act as `registry_owner`"]
        {
            assert!(plan.drift.iter().any(|note| note.text.contains(says)), "{version}, {says}: {plan}");
        }
        let shared = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| !["observer", "rollcall", "comment"].iter().any(|word| line.contains(word)))
                .map(ToOwned::to_owned)
                .collect()
        };
        assert_eq!(
            shared(&world.written().await),
            shared(&adopted),
            "{version}: apply leaves what is adopted"
        );
        old_variables(&world, "registry", passwords["registry"]).await.unwrap();
        clients.all_move_on().await;

        // Converged, class by class. Grants wait for ownership.
        let failure = commands.run(&["converge", "--class", "grants", "--yes"]).await.unwrap_err();
        assert!(
            failure.exit == Exit::NeverWorks && failure.message.contains("converge ownership first"),
            "{failure}"
        );
        for class in ["attributes", "ownership", "grants"] {
            commands.run(&["converge", "--class", class]).await.unwrap();
            commands
                .run(&["converge", "--class", class, "--yes"])
                .await
                .unwrap_or_else(|f| panic!("{version} {class}: {f}"));
            clients.all_move_on().await;
        }
        let (said, refused, _) = converging(&world, &document, Class::PublicConnect).await;
        assert!(said.iter().any(|line| line.contains("`legacy` could not connect")), "{said:?}");
        assert!(refused.len() == 1 && refused[0].contains("`superset_ro` is connected"), "{refused:?}");
        let failure = commands
            .run(&["converge", "--class", "public-connect", "--component", "database/registry", "--yes"])
            .await
            .unwrap_err();
        assert!(failure.message.contains("--connect-also superset_ro"), "{failure}");
        world.login("superset_ro", "reads", "odkdb").await.unwrap().close().await;
        commands
            .run(&["converge", "--class", "public-connect", "--connect-also", "superset_ro", "--yes"])
            .await
            .unwrap();
        clients.all_move_on().await;
        reader.execute("SELECT 1").await.unwrap();
        world.login("superset_ro", "reads", "registry").await.unwrap().close().await;
        world.login("legacy", "x", "registry").await.unwrap_err();

        assert_eq!(clients.stop().await, Vec::<String>::new(), "{version}: no query failed");
        assert_eq!(world.ask("postgres", ROLES).await, verifiers, "{version}: no password was rewritten");
        ordinary(&world, &document, &commands, &passwords).await;
        released(&world, &document, &commands).await;
        world.stop().await;
    }
}

/// Nothing is left to do, nobody can attack anybody, and the old variables work unchanged.
async fn ordinary(world: &World, document: &Value, commands: &Commands, passwords: &BTreeMap<&str, &str>) {
    world.settle(document).await;
    let plan = world.plan(document).await;
    assert!(plan.is_settled(), "{plan}");
    let (_, _, left) = converging(world, document, Class::Ownership).await;
    assert_eq!(left, 0);
    let left = "SELECT string_agg(relname, ',') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_get_userbyid(relowner) <> 'registry_owner' \
                AND relname NOT LIKE 'pg_stat%'";
    assert_eq!(world.ask("registry", left).await, "");
    for (database, password) in passwords {
        old_variables(world, database, password).await.unwrap();
    }
    commands.run(&["audit"]).await.unwrap();
    assert!(!world.log().contains("password-of"), "no password reaches the server's log");
    assert!(!world.log().contains("PANIC") && !world.log().contains("deadlock"), "{}", world.log());
}

/// Leaving takes our marks and nothing else.
async fn released(world: &World, document: &Value, commands: &Commands) {
    let things = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT 'database ' || datname || pg_get_userbyid(datdba) || coalesce(datacl::text, '') AS line FROM pg_database WHERE datname <> 'rollcall'
        UNION ALL SELECT rolname || rolcanlogin || rolcreatedb || coalesce(rolpassword, '') FROM pg_authid WHERE rolname NOT LIKE 'rollcall%'
        UNION ALL SELECT roleid::regrole || ' ' || member::regrole FROM pg_auth_members) lines";
    let before = world.ask("postgres", things).await;
    commands.run(&["release-ownership", "--component", "database/odkdb", "--yes"]).await.unwrap();
    let left = world
        .ask("rollcall", "SELECT string_agg(DISTINCT component, ',' ORDER BY component) FROM rollcall.owned")
        .await;
    assert_eq!(left, "database/registry,postgres/main");
    assert!(refused(&world.converge(document).await, "database/odkdb").contains("carries no mark"));
    commands.run(&["release-ownership"]).await.unwrap();
    assert_eq!(
        world.ask("rollcall", "SELECT count(*)::text FROM rollcall.owned").await,
        "4",
        "a dry run takes nothing"
    );
    commands.run(&["release-ownership", "--drop-registry", "--yes"]).await.unwrap();
    let gone = "SELECT count(*)::text FROM (SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles) n WHERE datname LIKE 'rollcall%'";
    assert_eq!(world.ask("postgres", gone).await, "0");
    assert_eq!(world.ask("postgres", things).await, before);
    let comments = "SELECT count(*)::text FROM pg_shdescription WHERE description LIKE 'Rollcall: %'";
    assert_eq!(world.ask("postgres", comments).await, "0");
}

#[tokio::test]
async fn what_is_half_there_foreign_or_an_administrators_is_not_recorded() {
    let world = World::start(18).await;
    let theirs = world.document("theirs", &[Db::new("taken")]);
    world.settle(&theirs).await;
    world.run("postgres", "CREATE DATABASE half").await;
    world.run("postgres", "CREATE ROLE other_user").await;
    let before = world.written().await;
    let document =
        world.document("dev", &[Db::new("half"), Db::new("other"), Db::new("taken"), Db::new("new")]);
    let failure = Commands::new(&world, &document).run(&["record", "--yes"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks);
    for says in [
        "role `half_user` does not exist",
        "database `other` does not exist",
        "belongs to environment `theirs`",
    ] {
        assert!(failure.message.contains(says), "{says}: {failure}");
    }
    assert_eq!(world.written().await, before);

    script(&world, "boss", "x").await;
    let mut document = world.document("dev", &[Db::new("boss")]);
    document["databases"]["boss"]["roles"]["app"]["name"] = "postgres".into();
    let parsed = serde_json::from_value::<lifecycle::document::Document>(document.clone());
    // A reserved role is refused by the document already.
    assert!(parsed.is_err() || Commands::new(&world, &document).run(&["record", "--yes"]).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn what_rollcall_made_and_gave_back_is_recorded_whole_and_missed_when_it_vanishes() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("fr")]);
    let commands = Commands::new(&world, &document);
    world.settle(&document).await;
    commands.run(&["release-ownership", "--yes"]).await.unwrap();
    commands.run(&["record", "--yes"]).await.unwrap();
    let rows = "SELECT string_agg(kind || ' ' || name || ' ' || (finished_at IS NOT NULL) || ' ' || (adopted_at IS NOT NULL), ', ' ORDER BY kind, name) \
                FROM rollcall.owned WHERE kind <> 'observer'";
    let whole = "database fr true true, role fr_owner true true, role fr_user true true";
    assert_eq!(world.ask("rollcall", rows).await, whole);
    // Its owner's record by itself says nothing of the database: what was cut in between is recorded by the next run.
    world.run("rollcall", "DELETE FROM rollcall.owned WHERE kind = 'database'").await;
    let text = refused(&world.converge(&document).await, "database/fr");
    assert!(text.contains("database `fr` exists and carries no mark"), "{text}");
    commands.run(&["record", "--yes"]).await.unwrap();
    assert_eq!(world.ask("rollcall", rows).await, whole);

    for class in [None, Some("public-connect")] {
        if let Some(class) = class {
            commands.run(&["converge", "--class", class, "--yes"]).await.unwrap();
            assert_eq!(world.ask("rollcall", rows).await, whole);
        }
        world.run("postgres", "DROP DATABASE fr").await;
        let text = refused(&world.converge(&document).await, "database/fr");
        assert!(text.contains("was finished and has vanished") && text.contains("Restore it"), "{text}");
        assert_eq!(commands.run(&["apply"]).await.unwrap_err().exit, Exit::NeverWorks);
        let count = "SELECT count(*)::text FROM pg_database WHERE datname = 'fr'";
        assert_eq!(world.ask("postgres", count).await, "0", "{class:?}");
        // What somebody restores or makes by hand is another one, and `rebind` says which is meant.
        world.run("postgres", "CREATE DATABASE fr OWNER fr_owner").await;
        let text = refused(&world.converge(&document).await, "database/fr");
        assert!(text.contains("is not the one that was recorded") && text.contains("rebind"), "{text}");
        commands.run(&["rebind", "--yes"]).await.unwrap();
        let standings = world.converge(&document).await;
        assert!(is_ready(&standings, "database/fr"), "{standings:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_vanishes_after_it_was_adopted_is_not_made_anew_by_itself() {
    let world = World::start(16).await;
    script(&world, "registry", "password-of-registry-db").await;
    let document = world.document("dev", &[Db::new("registry")]);
    let commands = Commands::new(&world, &document);
    commands.run(&["record", "--yes"]).await.unwrap();
    world.secret("registry-db", "another");
    let standings = world.converge(&document).await;
    assert!(matches!(standing(&standings, "database/registry"), Standing::Ready { .. }), "{standings:?}");
    world.login("registry_user", "password-of-registry-db", "registry").await.unwrap().close().await;
    world.run("postgres", "DROP DATABASE registry").await;
    let text = refused(&world.converge(&document).await, "database/registry");
    assert!(
        text.contains("has vanished") && text.contains("rebind DOCUMENTS --component database/registry"),
        "{text}"
    );
    commands.run(&["rebind", "--yes"]).await.unwrap();
    assert!(refused(&world.converge(&document).await, "database/registry").contains("has vanished"));
    commands.run(&["rebind", "--component", "database/registry", "--yes"]).await.unwrap();
    world.settle(&document).await;
    assert!(world.plan(&document).await.is_settled());
    let mut app = world.login("registry_user", "another", "registry").await.unwrap();
    app.execute("CREATE TABLE people (id int)").await.unwrap();
    world.stop().await;
}
