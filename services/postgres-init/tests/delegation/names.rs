//! What a fragment's name and place stand for: whose it is, and that it is there for as long as nobody else takes it away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use chassis::exit::Exit;
use serde_json::json;

use crate::common::World;
use crate::common::bench::until;
use crate::place::Place;

#[tokio::test]
async fn a_name_that_was_taken_gives_nobody_what_is_made_for_its_owner() {
    let rules = json!([{"namespaces": ["shop"], "databases": 9}, {"namespaces": ["bank"]}]);
    let place = Place::start(World::start(18).await, false, rules).await;
    for (namespace, secret) in
        [("bank", "shop-db"), ("shop", "shop-db"), ("shop", "lib-db"), ("inn", "inn-db")]
    {
        place.secret(namespace, secret, "secret");
    }
    // Somebody asks for little under a name that is to be another's.
    let taken = place.fragment("shop", "bank", |document| {
        document["databases"]["shop"]["name"] = json!("little");
        document["databases"]["shop"]["roles"]["app"]["name"] = json!("little_user");
    });
    place.apply("bank/web", &taken).await.unwrap();
    // The owner of that name, with a credential of its own: it is told, and nothing is made that others could have.
    let refused = place.directly(&place.fragment("shop", "shop", |_| ())).await.unwrap_err();
    assert_eq!(refused.exit, Exit::NeverWorks, "{refused}");
    assert!(
        refused.message.contains("is of namespace bank") && refused.message.contains("of namespace shop"),
        "{refused}"
    );
    let made = "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'shop%'";
    assert_eq!(place.world.ask("postgres", made).await, "0");

    // What ran once for a fragment is a reason as good as what was made.
    let ran = "INSERT INTO rollcall.ledger (environment_uid, environment_name, fragment, component, state, hash) \
               SELECT environment_uid, 'dev', 'lib', 'step/seed', 'done', '' FROM rollcall.delegated";
    place.world.run("rollcall", ran).await;
    let lib = place
        .fragment("lib", "shop", |document| document["databases"]["lib"]["roles"]["readers"] = json!({}));
    let refused = place.apply("shop/web", &lib).await.unwrap_err();
    assert!(refused.message.contains("things were made for fragment `lib`"), "{refused}");
    place.world.run("rollcall", "DELETE FROM rollcall.ledger; DELETE FROM rollcall.delegated").await;
    place.stop_serving().await;
    place.serve();

    // A database, and somebody who reads it. A newer version of what was there first stays first.
    place.apply("shop/web", &lib).await.unwrap();
    place.secret("shop", "till-db", "secret");
    let till = place.fragment("till", "shop", |document| {
        let password = json!({"secret": "till-db", "key": "password"});
        document["roles"] = json!({"bi": {"server": "main", "password": password, "reads": ["lib"]}});
    });
    place.apply("shop/web", &till).await.unwrap();
    let mut newer = lib.clone();
    newer["databases"]["lib"]["settings"] = json!({"statement_timeout": "1min"});
    place.apply("shop/web", &newer).await.unwrap();
    place.apply("shop/web", &till).await.unwrap();
    place.world.run("postgres", "ALTER ROLE bi CREATEDB").await;
    let powers = "SELECT rolcreatedb::text FROM pg_roles WHERE rolname = 'bi'";
    until(|| async { place.world.ask("postgres", powers).await == "false" }).await;
    place.stop().await;
}

#[tokio::test]
async fn what_was_made_counts_and_a_module_that_has_it_starts_without_anybody_to_ask() {
    let rules = json!([{"namespaces": ["shop"], "databases": 1, "fragment_count": 1}]);
    let place = Place::start(World::start(16).await, false, rules).await;
    for secret in ["shop-db", "lib-db"] {
        place.secret("shop", secret, "secret");
    }
    let shop = place.fragment("shop", "shop", |_| ());
    place.apply("shop/web", &shop).await.unwrap();
    // One at a time is one too many, for what was made stays.
    let other = place.fragment("shop", "shop", |document| {
        let mut database = document["databases"]["shop"].clone();
        database["roles"]["app"]["name"] = json!("other_user");
        document["databases"] = json!({"other": database});
        document["modules"] = json!({});
    });
    let refused = place.apply("shop/web", &other).await.unwrap_err();
    assert!(refused.message.contains("has 1 and may have 1"), "{refused}");
    let lib = place.fragment("lib", "shop", |document| document["databases"] = json!({}));
    let mut role = lib.clone();
    let password = json!({"secret": "lib-db", "key": "password"});
    role["roles"] = json!({"bi": {"server": "main", "password": password, "reads": ["shop"]}});
    role["modules"] = json!({});
    let refused = place.apply("shop/web", &role).await.unwrap_err();
    assert!(refused.message.contains("has 1 other fragments"), "{refused}");

    // Nobody is there to ask.
    place.stop_serving().await;
    place.apply("shop/web", &shop).await.unwrap();
    place.world.run("postgres", "ALTER ROLE shop_user PASSWORD 'another'").await;
    let waits = place.apply_within("shop/web", &shop, "13s").await.unwrap_err();
    assert_eq!(waits.exit, Exit::Deadline, "{waits}");
    place.serve();
    place.apply("shop/web", &shop).await.unwrap();
    place.stop().await;
}
