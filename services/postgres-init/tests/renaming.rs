//! Names that a document changes, on a real server: nothing empty is made beside what is there; what somebody renamed is taken under
//! its new name; and whoever is declared no more is told of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::{Context, Exit};
use common::{Db, World, environment, refused};
use old::Commands;
use postgres_init::{How, orphans_are_there, teardown};
use serde_json::json;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_new_name_makes_nothing_empty_and_what_was_renamed_goes_on() {
    for (version, managed) in [(14, true), (18, false)] {
        let world = World::start(version).await;
        let mut document = world.document("dev", &[Db::new("orders")]);
        if managed {
            world.managed(&mut document).await;
        }
        world.settle_twice(&document).await;
        world.settle(&document).await;
        let password = "password-of-orders-db";
        let mut module = world.login("orders_user", password, "orders").await.unwrap();
        module.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
        module.close().await;

        document["databases"]["orders"]["name"] = json!("ordersdb");
        document["databases"]["orders"]["roles"]["app"]["name"] = json!("ordersdb_user");
        let before = world.written().await;
        let text = refused(&world.converge(&document).await, "database/orders");
        let rename = "ALTER DATABASE \"orders\" RENAME TO \"ordersdb\"; ALTER ROLE \"orders_owner\" RENAME TO \"ordersdb_owner\"";
        assert!(
            text.contains("is recorded as database `orders`") && text.contains(rename),
            "{version}: {text}"
        );
        assert_eq!(world.written().await, before, "{version}: nothing is made, nothing is touched");

        world.run("postgres", "ALTER DATABASE \"orders\" RENAME TO \"ordersdb\"").await;
        world.run("postgres", "ALTER ROLE \"orders_owner\" RENAME TO \"ordersdb_owner\"").await;
        let text = refused(&world.converge(&document).await, "database/orders");
        let rename = "ALTER ROLE \"orders_user\" RENAME TO \"ordersdb_user\"";
        assert!(text.contains(rename), "{version}: {text}");
        world.run("postgres", rename).await;
        world.settle_twice(&document).await;
        world.settle(&document).await;
        let records = "SELECT string_agg(name, ' ' ORDER BY kind, name) FROM rollcall.owned WHERE component = 'database/orders'";
        assert_eq!(
            world.ask("rollcall", records).await,
            "ordersdb ordersdb_owner ordersdb_user",
            "{version}"
        );
        let mut module = world.login("ordersdb_user", password, "ordersdb").await.unwrap();
        module.execute("INSERT INTO kept VALUES (8)").await.unwrap();
        module.close().await;
        assert_eq!(
            world.ask("ordersdb", "SELECT sum(n)::text FROM kept").await,
            "15",
            "{version}: its data is its own"
        );
        assert!(!world.told(&document).await.contains('+'), "{version}: {}", world.told(&document).await);

        // Renamed, and moved to another fragment: what it advises ends it.
        world.run("postgres", "ALTER DATABASE \"ordersdb\" RENAME TO \"sales\"").await;
        document["databases"]["orders"]["name"] = json!("sales");
        document["databases"]["orders"]["roles"]["owner"] = json!({"name": "ordersdb_owner"});
        document["fragment"]["name"] = json!("moved");
        let text = refused(&world.converge(&document).await, "database/orders");
        assert!(text.contains("rebind DOCUMENTS --component database/orders"), "{version}: {text}");
        let commands = Commands::new(&world, &document);
        commands.run(&["rebind", "--yes"]).await.unwrap();
        world.settle_twice(&document).await;
        assert!(!world.told(&document).await.contains('+'), "{version}: {}", world.told(&document).await);

        // Its component is called otherwise: the records go along, and it is still known by them.
        let databases = document["databases"].as_object_mut().unwrap();
        let orders = databases.remove("orders").unwrap();
        databases.insert("people".to_owned(), orders);
        world.settle_twice(&document).await;
        let components = "SELECT string_agg(DISTINCT component, ' ') FROM rollcall.owned WHERE component LIKE 'database/%'";
        assert_eq!(world.ask("rollcall", components).await, "database/people", "{version}");
        assert!(!world.told(&document).await.contains('+'), "{version}: {}", world.told(&document).await);
        document["databases"]["people"]["name"] = json!("empty");
        let text = refused(&world.converge(&document).await, "database/people");
        assert!(text.contains("is recorded as database `sales`"), "{version}: {text}");

        // Taken from under its name: nothing empty is made, and it is said where it is.
        document["databases"]["people"]["name"] = json!("sales");
        world.run("postgres", "ALTER DATABASE \"sales\" RENAME TO \"sales_old\"").await;
        let text = refused(&world.converge(&document).await, "database/people");
        assert!(text.contains("database `sales` is called `sales_old` by now"), "{version}: {text}");
        world.run("postgres", "ALTER DATABASE \"sales_old\" RENAME TO \"sales\"").await;

        // Called otherwise and moved in one go: what is advised is of the component that asks.
        let databases = document["databases"].as_object_mut().unwrap();
        let people = databases.remove("people").unwrap();
        databases.insert("citizens".to_owned(), people);
        document["fragment"]["name"] = json!("again");
        let text = refused(&world.converge(&document).await, "database/citizens");
        assert!(text.contains("rebind DOCUMENTS --component database/citizens"), "{version}: {text}");
        let commands = Commands::new(&world, &document);
        for moved in ["database/citizens", "postgres/main"] {
            commands.run(&["rebind", "--component", moved, "--yes"]).await.unwrap();
        }
        world.settle_twice(&document).await;
        assert!(!world.told(&document).await.contains('+'), "{version}: {}", world.told(&document).await);

        // Given back under a name that is not recorded yet, with our comment.
        world.run("postgres", "ALTER DATABASE \"sales\" RENAME TO \"archive\"").await;
        document["databases"]["citizens"]["name"] = json!("archive");
        let comment = "SELECT coalesce(shobj_description(oid, 'pg_database'), 'none') FROM pg_database WHERE datname = 'archive'";
        assert!(world.ask("postgres", comment).await.starts_with("Rollcall: "));
        Commands::new(&world, &document).run(&["release-ownership", "--yes"]).await.unwrap();
        assert_eq!(world.ask("postgres", comment).await, "none", "{version}");
        assert_eq!(
            world.ask("rollcall", "SELECT count(*)::text FROM rollcall.owned").await,
            "0",
            "{version}"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn what_another_component_has_is_not_taken_and_is_given_back() {
    let world = World::start(16).await;
    world.secret("migrator", "migrates");
    let migrates = |name: &str| json!({"name": name, "password": {"secret": "migrator", "key": "password"}});
    let one = Db::new("one").without_ddl().with(json!({"roles": {"migrator": migrates("first")}}));
    let right = world.document("dev", &[one, Db::new("two")]);
    world.settle_twice(&right).await;
    world.settle(&right).await;
    let before = world.written().await;

    let mut wrong = right.clone();
    wrong["databases"].as_object_mut().unwrap().remove("two");
    wrong["databases"]["one"]["name"] = json!("two");
    let text = refused(&world.converge(&wrong).await, "database/one");
    assert!(
        text.contains("is recorded as database `one`") && text.contains("recorded for database/two"),
        "{text}"
    );
    assert_eq!(world.written().await, before, "nothing is touched, nothing is recorded otherwise");

    // Where that was done once, the right document gives it back, and its next name makes nothing empty.
    world
        .run(
            "rollcall",
            "UPDATE rollcall.owned SET component = 'database/one' WHERE name IN ('two', 'two_owner')",
        )
        .await;
    let told = world.told(&right).await;
    for name in ["database `two`", "role `two_owner`"] {
        let line = format!("+ database/two: record {name} here, which was recorded for database/one");
        assert!(told.contains(&line), "{told}");
    }
    world.settle(&right).await;
    let records =
        "SELECT string_agg(component, ' ' ORDER BY name) FROM rollcall.owned WHERE name LIKE 'two%'";
    assert_eq!(world.ask("rollcall", records).await, "database/two database/two database/two");
    assert!(!world.told(&right).await.contains('+'), "{}", world.told(&right).await);
    let mut next = right.clone();
    next["databases"]["two"]["name"] = json!("three");
    let text = refused(&world.converge(&next).await, "database/two");
    assert!(text.contains("is recorded as database `two`"), "{text}");

    // A login that migrates does not go on with the owner's rights beside its successor.
    let mut next = right.clone();
    next["databases"]["one"]["roles"]["migrator"] = migrates("second");
    let text = refused(&world.converge(&next).await, "database/one");
    let rename = "ALTER ROLE \"first\" RENAME TO \"second\"";
    assert!(text.contains("role `first` recorded") && text.contains(rename), "{text}");
    world.run("postgres", rename).await;
    world.settle_twice(&next).await;
    assert!(!world.told(&next).await.contains("first"), "{}", world.told(&next).await);
    world.stop().await;
}

#[tokio::test]
async fn whoever_is_declared_no_more_is_told_of_until_it_is_gone() {
    let world = World::start(16).await;
    world.secret("bi", "reads-only");
    world.secret("migrator", "migrates");
    let db = Db::new("orders").with(json!({"connect_also": ["visitor"], "roles": {
        "migrator": {"name": "orders_migrator", "password": {"secret": "migrator", "key": "password"}}, "readers": {}
    }}));
    world.run("postgres", "CREATE ROLE visitor LOGIN").await;
    let mut document = world.document("dev", &[db, Db::new("old"), Db::new("plain")]);
    document["roles"] = json!({"superset": {
        "server": "main", "name": "superset_ro", "password": {"secret": "bi", "key": "password"}, "reads": ["orders"]
    }});
    let settings = [("ROLLCALL_SECRETS_ROOT".to_owned(), world.secrets.path().display().to_string())];
    let context = Context::new("postgres-init", Settings::load(settings).unwrap(), Shutdown::manual());
    let orphans = |names: &[&str]| How {
        yes: true,
        orphans: names.iter().map(|name| name.parse().unwrap()).collect(),
        cancel: false,
    };
    let typo = orphans(&["role/superset", "database/typo"]);
    let failure = orphans_are_there(&environment(&document), &context, &typo).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "nothing is recorded on this server yet: {failure}");
    world.settle_twice(&document).await;
    assert!(!world.told(&document).await.contains('~'), "{}", world.told(&document).await);

    document.as_object_mut().unwrap().remove("roles");
    document["databases"].as_object_mut().unwrap().remove("old");
    let orders = &mut document["databases"]["orders"];
    orders["roles"].as_object_mut().unwrap().remove("migrator");
    orders.as_object_mut().unwrap().remove("connect_also");
    world.settle(&document).await;
    let told = world.told(&document).await;
    for line in [
        "~ postgres/main: role `superset_ro` is recorded for role/superset of fragment `base`, which declares it no more (where a document that was not given does, give that one too): `superset_ro` \
         still logs in, a member of `orders_readers`; ALTER ROLE \"superset_ro\" NOLOGIN ends its access",
        "~ postgres/main: database `old`, role `old_owner`, role `old_user` are recorded for database/old",
        "~ database/orders: role `orders_migrator` is recorded for database/orders",
        "teardown DOCUMENTS --orphan role/superset` says what would go",
        "REVOKE CONNECT ON DATABASE \"orders\" FROM \"visitor\"",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    // What it advises is what a teardown takes, and nothing else.
    document["policy"] = json!({"on_delete": "delete"});
    let failure = orphans_are_there(&environment(&document), &context, &typo).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains("Orphans: database/old, database/orders, role/superset"), "{failure}");
    let declared = orphans(&["database/plain"]);
    let failure = orphans_are_there(&environment(&document), &context, &declared).await.unwrap_err();
    assert_eq!(
        failure.exit,
        Exit::Usage,
        "what is declared is no orphan, whatever was done to it: {failure}"
    );
    document["databases"]["orders"]["on_delete"] = json!("retain");
    let how = orphans(&["role/superset", "database/old", "database/orders"]);
    orphans_are_there(&environment(&document), &context, &how).await.unwrap();
    let report = teardown(&environment(&document), &context, &how).await.unwrap();
    assert!(report.outcome().is_ok(), "{report}");
    let records =
        "SELECT string_agg(name, ' ' ORDER BY kind, name) FROM rollcall.owned WHERE kind <> 'observer'";
    assert_eq!(
        world.ask("rollcall", records).await,
        "orders orders_migrator orders_owner orders_readers orders_user",
        "what is declared stays, and so does a role that may still use something of it: {report}"
    );

    // Cut off it could be run again as it was, and says what it does not find.
    let how = orphans(&["role/superset", "database/old"]);
    orphans_are_there(&environment(&document), &context, &how).await.unwrap();
    let report = teardown(&environment(&document), &context, &how).await.unwrap();
    for gone in &how.orphans {
        let said = |note: &chassis::converge::Note| {
            note.component == *gone && note.text.starts_with("nothing to delete")
        };
        assert!(report.told.iter().any(said), "{gone}: {report}");
    }
    assert!(report.outcome().is_ok(), "{report}");

    // What another fragment declares, whose document is not given, is not judged.
    document["fragment"]["name"] = json!("other");
    document["databases"] = json!({});
    assert!(!world.told(&document).await.contains("no more"), "{}", world.told(&document).await);
    world.stop().await;
}
