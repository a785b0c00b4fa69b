//! Roles on real servers: which have powers, who may be changed by whom, how passwords overlap, and who reads whose databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::converge::Standing;
use common::{Db, World, is_ready, refused, standing};
use postgres::ErrorKind;
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn replicating(name: &str) -> Db {
    Db::new(name).with(json!({"roles": {"app": {"replication": true}}}))
}

const POWERS: &str =
    "SELECT coalesce(string_agg(rolname, ','), 'none') FROM pg_roles WHERE rolreplication AND NOT rolsuper";

#[tokio::test]
async fn replication_is_given_only_where_nothing_of_others_can_be_reached() {
    for version in [14, 18] {
        let world = World::with(version, &[("wal_level", "logical")]).await;
        // Alone on its server.
        world.settle(&world.document("alone", &[replicating("registry")])).await;
        assert_eq!(world.ask("postgres", POWERS).await, "registry_user");
        world.settle(&world.document("alone", &[Db::new("registry")])).await;
        assert_eq!(
            world.ask("postgres", POWERS).await,
            "none",
            "and taken when it is not asked for any more"
        );

        // Beside another environment: each reason is said, and what each way out does.
        world.run("postgres", "CREATE DATABASE theirs").await;
        let document = world.document("alone", &[replicating("registry")]);
        let text = refused(&world.converge(&document).await, "database/registry");
        for says in [
            "not of environment `alone` on this server (`theirs`)",
            "every role may connect to `theirs`",
            "of pg_hba.conf lets it make a replication connection",
            "set max_slot_wal_keep_size",
            "a server of its own",
        ] {
            assert!(text.contains(says), "`{says}`: {text}");
        }
        assert_eq!(world.ask("postgres", POWERS).await, "none");
        world.run("postgres", "REVOKE CONNECT ON DATABASE theirs FROM PUBLIC").await;
        world.run("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'").await;
        let rules = world.ask("postgres", "SHOW hba_file").await;
        let kept = std::fs::read_to_string(&rules).unwrap();
        let reject = "local replication registry_user reject\nhost replication registry_user all reject\n";
        std::fs::write(&rules, format!("{reject}{kept}")).unwrap();
        world.run("postgres", "SELECT pg_reload_conf()").await;
        let document = world.document("alone", &[replicating("registry")]);
        world.settle(&document).await;
        assert_eq!(world.ask("postgres", POWERS).await, "registry_user");

        // What opens later is told, and nobody who works is cut off.
        world.run("postgres", "GRANT CONNECT ON DATABASE theirs TO PUBLIC").await;
        let told = world.told(&document).await;
        assert!(
            told.contains("~ database/registry") && told.contains("every role may connect to `theirs`"),
            "{told}"
        );
        assert!(is_ready(&world.converge(&document).await, "database/registry"));
        world.stop().await;
    }
}

#[tokio::test]
async fn a_managed_administrator_is_told_what_takes_a_superuser() {
    for version in [14, 16, 18] {
        let world = World::start(version).await;
        let mut document = world.document("dev", &[replicating("registry")]);
        world.managed(&mut document).await;
        let text = refused(&world.converge(&document).await, "database/registry");
        assert!(text.contains("REPLICATION of role `registry_user` can be changed only by"), "{text}");
        if version >= 16 {
            world.run("postgres", "ALTER ROLE managed REPLICATION").await;
            world.settle(&document).await;
            assert_eq!(world.ask("postgres", POWERS).await, "managed,registry_user");
            world.stop().await;
            continue;
        }
        // A power that somebody gave by hand, and that only a superuser can take.
        let mut plain = world.document("dev", &[Db::new("registry")]);
        plain["postgres"]["main"]["admin"]["user"] = "managed".into();
        world.settle(&plain).await;
        world.run("postgres", "ALTER ROLE registry_user BYPASSRLS").await;
        let text = refused(&world.converge(&plain).await, "database/registry");
        assert!(
            text.contains("BYPASSRLS of role `registry_user`") && text.contains("a superuser,"),
            "{text}"
        );
        world.stop().await;
    }
}

/// A database whose app has these powers, in the words of documents.
fn powerful(powers: &[&str]) -> Db {
    let app: serde_json::Map<String, Value> =
        powers.iter().map(|power| ((*power).to_owned(), json!(true))).collect();
    Db::new("registry").with(json!({"roles": {"app": app}}))
}

const GIVEN: &str = "SELECT coalesce(string_agg(rolname || CASE WHEN rolcreatedb THEN ' CREATEDB' ELSE '' END \
       || CASE WHEN rolbypassrls THEN ' BYPASSRLS' ELSE '' END, ',' ORDER BY rolname), 'none') \
     FROM pg_roles WHERE (rolcreatedb OR rolbypassrls) AND rolname LIKE 'registry%'";
const ROLES: &str = "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'registry%'";

#[tokio::test]
async fn making_databases_and_passing_policies_by_are_given_only_where_nothing_of_others_is_opened() {
    for version in [14, 16, 18] {
        let world = World::start(version).await;
        world.run("postgres", "CREATE DATABASE theirs IS_TEMPLATE true").await;
        let both = world.document("dev", &[powerful(&["create_db", "bypass_rls"])]);
        refused(&world.converge(&both).await, "database/registry");
        let text = world.told(&both).await;
        for says in [
            "`registry_user` with CREATEDB would reach what is not of environment `dev`",
            "copies `theirs`, marked as a template",
            "`registry_user` with BYPASSRLS would reach",
            "every role may connect to `theirs`",
        ] {
            assert!(text.contains(says), "`{says}`: {text}");
        }
        assert_eq!(world.ask("postgres", ROLES).await, "0", "nothing is made");
        world.run("postgres", "ALTER DATABASE theirs IS_TEMPLATE false").await;
        world.run("postgres", "REVOKE CONNECT ON DATABASE theirs FROM PUBLIC").await;
        world.settle(&both).await;
        assert_eq!(world.ask("postgres", GIVEN).await, "registry_user CREATEDB BYPASSRLS");
        assert!(world.plan(&both).await.is_settled());

        // It is used, and opens no other's.
        let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        app.execute("SET ROLE NONE").await.unwrap();
        app.execute("CREATE DATABASE scratch").await.unwrap();
        let error = app.execute("CREATE DATABASE copy TEMPLATE theirs").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        world.run("postgres", "ALTER DATABASE theirs IS_TEMPLATE true").await;
        app.execute("CREATE DATABASE copy TEMPLATE theirs").await.unwrap();
        app.close().await;
        world.run("postgres", "GRANT CONNECT ON DATABASE theirs TO registry_owner").await;
        let told = world.told(&both).await;
        assert!(told.contains("copies `theirs`") && told.contains("it is let into `theirs`"), "{told}");
        world.run("postgres", "ALTER DATABASE theirs IS_TEMPLATE false").await;
        world.run("postgres", "REVOKE CONNECT ON DATABASE scratch, copy FROM PUBLIC").await;
        let told = world.told(&both).await;
        assert!(told.contains("it is let into `copy`, `scratch`, `theirs`"), "{told}");
        assert!(is_ready(&world.converge(&both).await, "database/registry"));

        // What is changed by hand is set right in both ways.
        world.run("postgres", "ALTER ROLE registry_user NOBYPASSRLS NOCREATEDB").await;
        world.run("postgres", "REVOKE CONNECT ON DATABASE theirs FROM registry_owner").await;
        world.run("postgres", "DROP DATABASE scratch").await;
        world.run("postgres", "DROP DATABASE copy").await;
        assert!(world.told(&both).await.contains("set CREATEDB BYPASSRLS on role `registry_user`"));
        world.settle(&both).await;
        assert_eq!(world.ask("postgres", GIVEN).await, "registry_user CREATEDB BYPASSRLS");
        world.settle(&world.document("dev", &[powerful(&["create_db"])])).await;
        assert_eq!(world.ask("postgres", GIVEN).await, "registry_user CREATEDB");
        world.settle(&world.document("dev", &[powerful(&[])])).await;
        assert_eq!(world.ask("postgres", GIVEN).await, "none");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_managed_administrator_gives_the_powers_that_its_version_lets_it_give() {
    for version in [14, 16, 18] {
        let world = World::start(version).await;
        let mut both = world.document("dev", &[powerful(&["create_db", "bypass_rls"])]);
        let mut plain = world.document("dev", &[powerful(&[])]);
        world.managed(&mut both).await;
        plain["postgres"]["main"]["admin"]["user"] = "managed".into();
        let text = refused(&world.converge(&both).await, "database/registry");
        let way =
            if version < 16 { "by a superuser, and" } else { "or a role that has BYPASSRLS itself, and" };
        assert!(
            text.contains("BYPASSRLS of role `registry_user` can be changed only") && text.contains(way),
            "{text}"
        );
        assert!(!text.contains("CREATEDB of role"), "{text}");
        assert_eq!(world.ask("postgres", ROLES).await, "0", "nothing is made");
        if version < 16 {
            let mut create = world.document("dev", &[powerful(&["create_db"])]);
            create["postgres"]["main"]["admin"]["user"] = "managed".into();
            world.settle(&create).await;
            assert_eq!(world.ask("postgres", GIVEN).await, "registry_user CREATEDB");
        } else {
            world.run("postgres", "ALTER ROLE managed BYPASSRLS").await;
            world.settle(&both).await;
            assert_eq!(world.ask("postgres", GIVEN).await, "registry_user CREATEDB BYPASSRLS");
            // Neither may it take what it has not itself.
            world.run("postgres", "ALTER ROLE managed NOBYPASSRLS").await;
            let text = refused(&world.converge(&plain).await, "database/registry");
            assert!(text.contains("or a role that has BYPASSRLS itself"), "{text}");
            world.run("postgres", "ALTER ROLE managed BYPASSRLS").await;
        }
        world.settle(&plain).await;
        assert_eq!(world.ask("postgres", GIVEN).await, "none");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_role_that_another_drops_at_the_same_time_is_a_race() {
    for version in [14, 16, 18] {
        let world = World::start(version).await;
        world.run("postgres", "CREATE ROLE gone").await;
        let mut first = world.login("postgres", world.server.password(), "postgres").await.unwrap();
        let mut second = world.login("postgres", world.server.password(), "postgres").await.unwrap();
        first.execute("BEGIN").await.unwrap();
        first.execute("DROP ROLE gone").await.unwrap();
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted";
        let (dropped, ()) = tokio::join!(second.execute("DROP ROLE gone"), async {
            world.comes_to("postgres", waiting, "1").await;
            first.execute("COMMIT").await.unwrap();
        });
        let error = dropped.unwrap_err();
        assert_eq!((error.kind, error.is_transient()), (ErrorKind::Concurrent, true), "{error}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_role_out_of_the_administrators_reach_is_refused_with_the_grant_that_helps() {
    let world = World::start(18).await;
    let mut document = world.document("dev", &[Db::new("registry")]);
    world.managed(&mut document).await;
    world.settle(&document).await;
    world.run("postgres", "REVOKE registry_user FROM managed CASCADE").await;
    assert!(world.plan(&document).await.is_settled(), "nothing to do is nothing to be refused");
    world.secret("registry-db", "changed");
    let text = refused(&world.converge(&document).await, "database/registry");
    let grant = "GRANT \"registry_user\" TO \"managed\" WITH ADMIN OPTION";
    assert!(text.contains(grant), "{text}");
    world.run("postgres", grant).await;
    world.settle(&document).await;
    world.login("registry_user", "changed", "registry").await.unwrap().close().await;
    world.stop().await;
}

#[tokio::test]
async fn a_password_is_changed_under_running_pods_with_two_roles() {
    for version in [14, 18] {
        let world = World::start(version).await;
        world.secret("b", "first-of-b");
        let db = Db::new("registry").with(json!({"roles": {"app": {"overlap": {
            "name": "registry_user_b", "password": {"secret": "b", "key": "password"}
        }}}}));
        let document = world.document("dev", &[db]);
        world.settle(&document).await;
        let mut pod = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
        pod.execute("CREATE TABLE people (id int)").await.unwrap();

        // The other one's changes; the pods that run and start with the first notice nothing.
        world.secret("b", "second-of-b");
        let told = world.told(&document).await;
        assert_eq!(
            told,
            "+ database/registry: set the password of role `registry_user_b` to what its Secret holds\n"
        );
        world.settle(&document).await;
        world.login("registry_user", "password-of-registry-db", "registry").await.unwrap().close().await;
        let mut next = world.login("registry_user_b", "second-of-b", "registry").await.unwrap();
        // Both act as the owner, so what one made the other alters.
        next.execute("ALTER TABLE people ADD COLUMN name text").await.unwrap();
        pod.execute("DROP TABLE people").await.unwrap();
        let old = world.login("registry_user_b", "first-of-b", "registry").await.unwrap_err();
        assert_eq!(old.kind, ErrorKind::Login);
        world.stop().await;
    }
}

fn reading(mut document: Value, reads: &[&str]) -> Value {
    document["roles"] = json!({"superset": {
        "server": "main", "name": "superset_ro", "password": {"secret": "bi", "key": "password"}, "reads": reads
    }});
    document
}

#[tokio::test]
async fn a_role_reads_what_agrees_in_its_own_environment_and_stops_when_it_is_taken_out() {
    for version in [14, 18] {
        let world = World::start(version).await;
        world.secret("bi", "bi");
        let read = |name: &str| Db::new(name).with(json!({"roles": {"readers": {}}}));
        let two = reading(world.document("dev", &[read("a"), read("b")]), &["a", "b"]);
        let first = world.converge(&two).await;
        let Standing::Pending(note) = standing(&first, "role/superset") else { panic!("{first:?}") };
        assert!(note.text.contains("waits for database/a and its readers, `a_readers`"), "{note:?}");
        world.settle(&two).await;
        for database in ["a", "b"] {
            world.login("superset_ro", "bi", database).await.unwrap().close().await;
        }

        let one = reading(world.document("dev", &[read("a"), read("b")]), &["a"]);
        assert!(world.told(&one).await.contains("end that role `superset_ro` is a member of `b_readers`"));
        world.settle(&one).await;
        let error = world.login("superset_ro", "bi", "b").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoConnect);

        // Whoever made it a member.
        world.run("postgres", "GRANT b_readers TO superset_ro").await;
        if version >= 16 {
            world.run("postgres", "CREATE ROLE other; GRANT b_readers TO other WITH ADMIN OPTION").await;
            world.run("postgres", "GRANT b_readers TO superset_ro GRANTED BY other").await;
        }
        world.settle(&one).await;
        assert!(world.plan(&one).await.is_settled());

        // Another environment can neither take the role nor join the readers.
        let mut thief = reading(world.document("thief", &[read("a")]), &["a"]);
        thief["roles"]["superset"]["name"] = "thief_ro".into();
        let standings = world.converge(&thief).await;
        assert!(
            refused(&standings, "role/superset").contains("which is not this environment's"),
            "{standings:?}"
        );
        let taken = reading(world.document("thief", &[read("c")]), &["c"]);
        let text = refused(&world.converge(&taken).await, "role/superset");
        assert!(text.contains("role `superset_ro` belongs to environment `dev`"), "{text}");
        world.settle(&one).await;
        world.stop().await;
    }
}
