//! All that a document can say of a database, on real servers of every version, as a superuser and as a managed administrator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::SecretValue;
use common::{Db, World, refused};
use postgres::{ErrorKind, Session, probe};
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// A module that makes no schema with its migrator, one that does, and a role that reads both.
fn everything(world: &World) -> Value {
    let key = |secret: &str| json!({"secret": secret, "key": "password"});
    for secret in ["migrator", "overlap", "bi"] {
        world.secret(secret, &format!("password-of-{secret}"));
    }
    let registry = Db::new("registry").without_ddl().with(json!({
        "connection_limit": 50,
        "settings": {"search_path": "registry, public", "statement_timeout": "30s"},
        "connect_also": ["dba", "nobody-yet"],
        "schemas": {"registry": {}, "scratch": {"owner": "app"}},
        "extensions": [{"name": "pg_trgm", "schema": "registry"}, {"name": "unaccent", "version": "1.1"}],
        "roles": {
            "app": {
                "connection_limit": 20, "settings": {"work_mem": "8MB"},
                "overlap": {"name": "registry_user_b", "password": key("overlap")},
            },
            "migrator": {"name": "registry_migrator", "password": key("migrator"), "settings": {"lock_timeout": "5s"}},
            "readers": {},
        },
    }));
    let pbms = Db::new("pbms").with(json!({"roles": {"readers": {"name": "pbms_ro"}}}));
    let mut document = world.document("dev", &[registry, pbms]);
    document["roles"] = json!({"bi": {
        "server": "main", "name": "superset_ro", "password": key("bi"), "reads": ["registry", "pbms"],
        "connection_limit": 5, "settings": {"statement_timeout": "2min"},
    }});
    document
}

async fn text(session: &mut Session, sql: &'static str) -> String {
    let (connection, within) = session.parts();
    within.judge(sqlx::query_scalar(sql).fetch_one(connection)).await.expect(sql)
}

async fn denied(session: &mut Session, sql: &str) {
    let error = session.execute(sql).await.expect_err(sql);
    assert_eq!(error.kind, ErrorKind::Denied, "{sql}: {error}");
}

#[tokio::test]
async fn on_14_as_superuser_and_managed() {
    story(14, false).await;
    story(14, true).await;
}

#[tokio::test]
async fn on_15_as_superuser_and_managed() {
    story(15, false).await;
    story(15, true).await;
}

#[tokio::test]
async fn on_16_as_superuser_and_managed() {
    story(16, false).await;
    story(16, true).await;
}

#[tokio::test]
async fn on_17_as_superuser_and_managed() {
    story(17, false).await;
    story(17, true).await;
}

#[tokio::test]
async fn on_18_as_superuser_and_managed() {
    story(18, false).await;
    story(18, true).await;
}

async fn story(version: u16, managed: bool) {
    let world = World::start(version).await;
    world.run("postgres", "CREATE ROLE dba LOGIN PASSWORD 'dba'").await;
    let mut document = everything(&world);
    if managed {
        world.managed(&mut document).await;
    }
    world.settle_twice(&document).await;
    let before = world.written().await;
    let plan = world.plan(&document).await;
    assert!(plan.is_settled(), "{version}, managed {managed}: {plan}");
    assert!(plan.to_string().contains("role `nobody-yet`, which is to connect"), "{plan}");
    world.settle(&document).await;
    assert_eq!(world.written().await, before, "{version}, managed {managed}");

    works(&world).await;
    let plan = world.plan(&document).await;
    assert!(plan.is_settled(), "{version}, managed {managed}, after they worked: {plan}");
    repaired(&world, &document).await;
    observed(&world).await;
    world.stop().await;
}

/// Each role does what it is for, and nothing else.
async fn works(world: &World) {
    let mut migrator = world.login("registry_migrator", "password-of-migrator", "registry").await.unwrap();
    migrator
        .execute("CREATE TABLE people (id serial PRIMARY KEY, name text); CREATE SCHEMA later")
        .await
        .unwrap();
    migrator.execute("CREATE TABLE later.things (id int); SET ROLE NONE").await.unwrap();
    migrator.execute("CREATE TABLE registry.by_itself (id int)").await.unwrap();
    assert_eq!(text(&mut migrator, "SHOW lock_timeout").await, "5s");
    migrator.close().await;
    let owners = "SELECT string_agg(tablename || ' ' || tableowner, ', ' ORDER BY tablename) FROM pg_tables \
                  WHERE schemaname IN ('registry', 'later')";
    assert_eq!(
        world.ask("registry", owners).await,
        "by_itself registry_migrator, people registry_owner, things registry_owner"
    );

    for (role, password) in
        [("registry_user", "password-of-registry-db"), ("registry_user_b", "password-of-overlap")]
    {
        let mut app = world.login(role, password, "registry").await.unwrap();
        app.execute("INSERT INTO people (name) VALUES ('x'); INSERT INTO later.things VALUES (1)")
            .await
            .unwrap();
        app.execute("UPDATE by_itself SET id = 1").await.unwrap();
        denied(&mut app, "CREATE TABLE registry.mine (id int)").await;
        denied(&mut app, "ALTER TABLE people ADD COLUMN x int").await;
        assert_eq!(text(&mut app, "SHOW work_mem").await, "8MB");
        assert_eq!(text(&mut app, "SHOW search_path").await, "registry, public");
        assert_eq!(text(&mut app, "SHOW statement_timeout").await, "30s");
        app.close().await;
    }
    let mut app = world.login("registry_user", "password-of-registry-db", "registry").await.unwrap();
    app.execute("CREATE TABLE scratch.own (id int)").await.unwrap();
    app.close().await;
    let mut app = world.login("pbms_user", "password-of-pbms-db", "pbms").await.unwrap();
    app.execute("CREATE TABLE plans (id serial); SET ROLE NONE; CREATE TABLE under_its_own_name (id int)")
        .await
        .unwrap();
    app.close().await;

    let mut bi = world.login("superset_ro", "password-of-bi", "registry").await.unwrap();
    for table in ["people", "later.things", "by_itself", "scratch.own"] {
        bi.execute(format!("SELECT * FROM {table}")).await.expect(table);
        denied(&mut bi, &format!("DELETE FROM {table}")).await;
    }
    assert_eq!(text(&mut bi, "SHOW statement_timeout").await, "2min", "a role's goes before a database's");
    denied(&mut bi, "CREATE TABLE registry.mine (id int)").await;
    bi.close().await;
    let mut bi = world.login("superset_ro", "password-of-bi", "pbms").await.unwrap();
    bi.execute("SELECT * FROM plans; SELECT * FROM under_its_own_name; SELECT last_value FROM plans_id_seq")
        .await
        .unwrap();
    bi.close().await;

    world.login("dba", "dba", "registry").await.unwrap().close().await;
    for (role, password, database) in [
        ("dba", "dba", "pbms"),
        ("superset_ro", "password-of-bi", "rollcall"),
        ("registry_migrator", "password-of-migrator", "pbms"),
        ("registry_user_b", "password-of-overlap", "pbms"),
    ] {
        let error = world.login(role, password, database).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoConnect, "{role} in {database}: {error}");
    }
    let powers = "SELECT coalesce(string_agg(rolname, ','), 'none') FROM pg_roles WHERE (rolsuper OR rolcreaterole OR rolcreatedb \
                  OR rolreplication OR rolbypassrls) AND rolname ~ '^(registry|pbms|superset)'";
    assert_eq!(world.ask("postgres", powers).await, "none");
    let left = "SELECT count(*)::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'managed' \
                AND pg_get_userbyid(m.roleid) ~ '_(user|migrator|user_b)$' AND pg_has_role(r.oid, m.roleid, 'USAGE')";
    assert_eq!(world.ask("postgres", left).await, "0", "what the administrator lent itself is given back");
}

/// What others take away is given back, what is there is granted, and what is strange is told of.
async fn repaired(world: &World, document: &Value) {
    world
        .run("registry", "REVOKE ALL ON ALL TABLES IN SCHEMA registry FROM registry_user, registry_readers")
        .await;
    world.run("registry", "REVOKE USAGE ON SCHEMA later FROM registry_readers").await;
    world.run("registry", "CREATE TABLE public.strange (id int)").await;
    world
        .run(
            "postgres",
            "ALTER ROLE registry_user CONNECTION LIMIT 1; ALTER DATABASE registry CONNECTION LIMIT 2",
        )
        .await;
    world.run("postgres", "ALTER ROLE registry_user IN DATABASE registry SET work_mem = '1MB'").await;
    world.run("postgres", "ALTER DATABASE registry SET search_path = 'registry, public'").await;
    world.run("postgres", "ALTER ROLE superset_ro RESET statement_timeout").await;
    // Whoever granted it: since version 16 only that one's grant is revoked by a plain REVOKE.
    let revoke = "DO $$ DECLARE whose text; BEGIN
        SELECT pg_get_userbyid(grantor) INTO whose FROM pg_auth_members WHERE roleid = 'pbms_ro'::regrole AND member = 'superset_ro'::regrole;
        EXECUTE format('REVOKE pbms_ro FROM superset_ro GRANTED BY %I', whose); END $$";
    world.run("postgres", revoke).await;
    let told = world.told(document).await;
    for line in [
        "let role `registry_user` have 20 sessions at once",
        "let database `registry` take 50 sessions at once",
        "set work_mem for role `registry_user` in database `registry`",
        "set search_path for database `registry`",
        "set statement_timeout for role `superset_ro`",
        "let role `registry_user` use what",
        "let role `registry_readers` read what",
        "make role `superset_ro` a member of `pbms_ro`",
        "public.strange of role `postgres`",
    ] {
        assert!(told.contains(line), "`{line}`: {told}");
    }
    assert!(!told.contains("registry_user_b` use"), "{told}");
    world.settle(document).await;
    assert!(world.plan(document).await.is_settled());
    let mut bi = world.login("superset_ro", "password-of-bi", "registry").await.unwrap();
    bi.execute("SELECT * FROM people; SELECT * FROM later.things; SELECT * FROM by_itself").await.unwrap();
    denied(&mut bi, "SELECT * FROM public.strange").await;
    bi.close().await;
}

/// The hub sees the role as it sees databases, and a waiter logs in.
async fn observed(world: &World) {
    let (server, component) = (world.address(), "role/bi".parse().unwrap());
    let observer = SecretValue::new("observes-only");
    let seen = probe::observed(&server, "dev", &observer, &component).await.unwrap();
    assert_eq!(seen.level, "provisioned");
    let password = SecretValue::new("password-of-bi");
    assert_eq!(probe::login(&server, "superset_ro", &password, "registry").await.unwrap().level, "writable");
    world.run("rollcall", "UPDATE rollcall.owned SET finished_at = NULL WHERE component = 'role/bi'").await;
    let unfinished = probe::observed(&server, "dev", &observer, &component).await.unwrap_err();
    assert_eq!(unfinished.kind, ErrorKind::NotProvisioned);
}

#[tokio::test]
async fn a_database_is_made_with_its_locale_where_the_version_has_it() {
    for version in [14, 15, 17, 18] {
        let world = World::start(version).await;
        let with = |name: &str, locale: Value| Db::new(name).with(json!({"locale": locale}));
        let document = world.document(
            "dev",
            &[
                with("libc", json!({"provider": "libc", "name": "C"})),
                with("icu", json!({"provider": "icu", "name": "en-US"})),
                with("builtin", json!({"provider": "builtin", "name": "C.UTF-8"})),
                Db::new("latin")
                    .with(json!({"encoding": "LATIN1", "locale": {"provider": "libc", "name": "C"}})),
            ],
        );
        let standings = world.converge(&document).await;
        for (name, since) in [("libc", 14), ("icu", 15), ("builtin", 17), ("latin", 14)] {
            let component = format!("database/{name}");
            if version < since {
                let text = refused(&standings, &component);
                assert!(
                    text.contains(&format!("needs PostgreSQL {since}, and the server has {version}")),
                    "{text}"
                );
            } else {
                assert!(common::is_ready(&standings, &component), "{version} {name}: {standings:?}");
            }
        }
        let made = "SELECT string_agg(datname || ' ' || pg_encoding_to_char(encoding) || ' ' || datcollate, ', ' ORDER BY datname) \
                    FROM pg_database WHERE datname IN ('latin', 'libc')";
        assert_eq!(world.ask("postgres", made).await, "latin LATIN1 C, libc UTF8 C");
        let told = world.told(&document).await;
        assert!(!told.contains('~') && !told.contains('+'), "{version}: {told}");

        let other = world.document(
            "dev",
            &[with("libc", json!({"provider": "libc", "name": "C.UTF-8"})), Db::new("latin")],
        );
        let plan = world.plan(&other).await;
        let told = plan.to_string();
        assert!(plan.refusals.is_empty(), "{told}");
        assert!(told.contains("`libc` has locale C (libc), and the document says C.UTF-8"), "{told}");
        assert!(told.contains("`latin` has encoding LATIN1, and the document says UTF8"), "{told}");
        if version >= 15 {
            world
                .run("postgres", "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'icu'")
                .await;
            let told = world.told(&document).await;
            assert!(told.contains("`icu` was made with version 0.1 of its collation"), "{told}");
            assert!(told.contains("REFRESH COLLATION VERSION"), "{told}");
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn extensions_are_made_in_their_version_and_who_must_make_them_is_said() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let with = |extensions: Value| Db::new("registry").with(json!({"extensions": extensions}));
        let trgm = |version: &str| json!([{"name": "pg_trgm", "version": version}]);
        let mut first = world.document("dev", &[with(json!(["hstore"]))]);
        world.managed(&mut first).await;
        world.settle(&first).await;
        let document = |db: Db| {
            let mut document = world.document("dev", &[db]);
            document["postgres"]["main"]["admin"]["user"] = "managed".into();
            document
        };
        let text = refused(&world.converge(&document(with(json!(["dblink"])))).await, "database/registry");
        assert!(
            text.contains("`dblink` can be made or brought to another version by a superuser only")
                && text.contains("role `managed`"),
            "{text}"
        );
        world.run("registry", "CREATE EXTENSION dblink").await;
        world.settle(&document(with(json!(["dblink"])))).await;

        let text = refused(&world.converge(&document(with(trgm("9.9")))).await, "database/registry");
        assert!(text.contains("in version 1.") && text.contains("and not in 9.9"), "{text}");
        world.settle(&document(with(trgm("1.4")))).await;
        world.settle(&document(with(trgm("1.5")))).await;
        let installed = "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'";
        assert_eq!(world.ask("registry", installed).await, "1.5");
        let text = refused(&world.converge(&document(with(trgm("9.9")))).await, "database/registry");
        assert!(text.contains("and not in 9.9"), "{text}");
        let told = world.told(&document(with(trgm("1.4")))).await;
        assert!(told.contains("has version 1.5, newer than 1.4"), "{told}");
        let elsewhere = json!({"schemas": {"geo": {}}, "extensions": [{"name": "pg_trgm", "schema": "geo"}]});
        let told = world.told(&document(Db::new("registry").with(elsewhere))).await;
        assert!(told.contains("is in schema `public` instead of `geo`"), "{told}");
        world.stop().await;
    }
}

#[tokio::test]
async fn settings_that_the_server_would_not_take_are_refused_before_anything_is_done() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let document = |name: &str| {
            let settings = json!({"settings": {name: "1"}});
            world.document("dev", &[Db::new("registry").with(settings)])
        };
        for (name, says) in [
            ("no_such_setting", "the server knows no such setting"),
            ("shared_buffers", "as a whole only (its context is postmaster)"),
            ("log_connections", "as a whole only"),
        ] {
            let told = world.told(&document(name)).await;
            assert!(told.contains(says), "{name}: {told}");
        }
        world.settle(&document("log_min_duration_statement")).await;
        world.settle(&document("app.tenant")).await;

        world.stop().await;

        let world = World::start(version).await;
        let settings = json!({"settings": {"track_functions": "1"}});
        let mut own = world.document("dev", &[Db::new("registry").with(settings)]);
        world.managed(&mut own).await;
        let told = world.told(&own).await;
        let way_out = if version < 15 {
            "only a superuser can make it"
        } else {
            "GRANT SET ON PARAMETER track_functions"
        };
        assert!(told.contains(way_out), "{told}");
        if version >= 15 {
            world.run("postgres", "GRANT SET ON PARAMETER track_functions TO managed").await;
            own["databases"]["registry"]["settings"]["track_functions"] = "all".into();
            world.settle(&own).await;
        }
        world.stop().await;
    }
}
