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
        world.stop().await;
    }
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
    let mut document = world.document("dev", &[db, Db::new("old")]);
    document["roles"] = json!({"superset": {
        "server": "main", "name": "superset_ro", "password": {"secret": "bi", "key": "password"}, "reads": ["orders"]
    }});
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
    let settings = [("ROLLCALL_SECRETS_ROOT".to_owned(), world.secrets.path().display().to_string())];
    let context = Context::new("postgres-init", Settings::load(settings).unwrap(), Shutdown::manual());
    let orphans = |names: &[&str]| How {
        yes: true,
        orphans: names.iter().map(|name| name.parse().unwrap()).collect(),
        cancel: false,
    };
    let typo = orphans(&["role/superset", "database/typo"]);
    let failure = orphans_are_there(&environment(&document), &context, &typo).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains("Orphans: database/old, database/orders, role/superset"), "{failure}");
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

    // What another fragment declares, whose document is not given, is not judged.
    document["fragment"]["name"] = json!("other");
    document["databases"] = json!({});
    assert!(!world.told(&document).await.contains("no more"), "{}", world.told(&document).await);
    world.stop().await;
}
