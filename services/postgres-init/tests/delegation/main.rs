//! Modules obtain what their fragments declare and the environment allows, over gRPC with their token, and hold no credential of the
//! server; whoever may not is refused, and nothing is made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod door;
mod names;
mod operator;
mod place;
mod raw;
mod steps;

use chassis::exit::Exit;
use common::World;
use common::bench::until;
use place::Place;
use postgres_init::scram;
use rollcall_proto::provisioning::v1 as pb;
use serde_json::{Value, json};
use tonic::Code;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn rules() -> Value {
    json!([{"namespaces": ["shop"], "extensions": ["pg_trgm"]}, {"namespaces": ["bank"], "databases": 1}])
}

const VERIFIER: &str = "SELECT rolpassword FROM pg_authid WHERE rolname = 'shop_user'";
const POWERS: &str = "SELECT rolcreatedb::text FROM pg_roles WHERE rolname = 'shop_user'";

#[tokio::test]
async fn a_module_without_any_credential_obtains_its_database_on_14() {
    Box::pin(obtains(14, false)).await;
}

#[tokio::test]
async fn a_module_without_any_credential_obtains_its_database_on_18() {
    Box::pin(obtains(18, false)).await;
}

#[tokio::test]
async fn a_managed_administrator_is_enough_on_16() {
    Box::pin(obtains(16, true)).await;
}

async fn obtains(version: u16, managed: bool) {
    let world = World::with(version, &[("log_statement", "all")]).await;
    let place = Place::start(world, managed, rules()).await;
    place.secret("shop", "shop-db", "only the module knows");
    let shop = place.fragment("shop", "shop", |document| {
        document["databases"]["shop"]["extensions"] = json!(["pg_trgm"]);
        document["databases"]["shop"]["settings"] = json!({"statement_timeout": "1min"});
    });
    // Two at once, as two pods of one module are.
    let (one, other) = tokio::join!(place.apply("shop/web", &shop), place.apply("shop/web", &shop));
    assert_eq!((one, other), (Ok(()), Ok(())));
    let mut app = place.world.login("shop_user", "only the module knows", "shop").await.unwrap();
    app.execute("CREATE TABLE goods (name text)").await.unwrap();
    app.close().await;

    // A password that logs in is not written again, by the module or by who looks after the server.
    let verifier = place.world.ask("postgres", VERIFIER).await;
    let written = place.world.written().await;
    place.apply("shop/web", &shop).await.unwrap();
    assert_eq!(place.world.written().await, written);

    // What was asked for is looked after, by one that is started anew too.
    let drift = async |place: &Place| {
        place.world.run("postgres", "ALTER ROLE shop_user CREATEDB").await;
        until(|| async { place.world.ask("postgres", POWERS).await == "false" }).await;
    };
    drift(&place).await;
    place.stop_serving().await;
    place.serve();
    drift(&place).await;
    assert_eq!(place.world.ask("postgres", VERIFIER).await, verifier);

    // Another password than the module's is the module's business alone.
    place.world.run("postgres", "ALTER ROLE shop_user PASSWORD 'somebody else''s'").await;
    drift(&place).await;
    place.world.login("shop_user", "somebody else's", "shop").await.unwrap().close().await;
    place.apply("shop/web", &shop).await.unwrap();
    place.world.login("shop_user", "only the module knows", "shop").await.unwrap().close().await;

    // A newer fragment takes the place of the older one.
    let more = place.fragment("shop", "shop", |document| {
        document["databases"]["till"] = document["databases"]["shop"].clone();
        document["databases"]["till"]["roles"]["app"]["name"] = json!("till_user");
    });
    place.apply("shop/web", &more).await.unwrap();
    place.world.login("till_user", "only the module knows", "till").await.unwrap().close().await;

    let told = place.world.ask("rollcall", "SELECT string_agg(h::text, ' ') FROM rollcall.history h").await;
    let kept = place.world.ask("rollcall", "SELECT string_agg(d::text, ' ') FROM rollcall.delegated d").await;
    assert!(told.contains("database/shop") && kept.contains("postgres-init/"), "{told} {kept}");
    let log = if managed { String::new() } else { place.world.log() };
    let mine = log.replace("ALTER ROLE shop_user PASSWORD 'somebody else''s'", "");
    for text in [told, kept, mine] {
        assert!(!text.contains("SCRAM-SHA-256$") && !text.contains("only the module knows"), "{text}");
    }
    place.stop().await;
}

#[tokio::test]
async fn whoever_may_not_is_refused_and_nothing_is_made() {
    let place = Place::start(World::start(18).await, false, rules()).await;
    for (namespace, secret) in
        [("shop", "shop-db"), ("bank", "bank-db"), ("bank", "shop-db"), ("inn", "inn-db")]
    {
        place.secret(namespace, secret, "secret");
    }
    let with = |key: &str, value: Value| {
        place.fragment("shop", "shop", |document| document["databases"]["shop"][key] = value)
    };
    let change = |change: fn(&mut Value)| place.fragment("shop", "shop", change);
    let cases = [
        ("bank/web", change(|_| ()), "service account bank/web may speak for its own namespace only"),
        ("inn/web", place.fragment("inn", "inn", |_| ()), "no rule is about namespace inn"),
        (
            "dev/job",
            place.fragment("inn", "inn", |_| ()),
            "nothing on postgres/main is delegated to fragment `inn`",
        ),
        (
            "shop/web",
            change(|d| d["environment"]["uid"] = json!(common::uid("other"))),
            "this service looks after `dev`",
        ),
        ("shop/web", change(|d| d["environment"]["name"] = json!("other")), "this service looks after `dev`"),
        (
            "shop/web",
            change(|d| d["naming"] = json!({"database": "x_{name}"})),
            "names things in another way",
        ),
        (
            "shop/web",
            with("extensions", json!(["pg_trgm", "postgres_fdw"])),
            "extension `postgres_fdw` is not among",
        ),
        ("shop/web", with("connect_also", json!(["postgres"])), "`connect_also` lets others in"),
        (
            "shop/web",
            change(|d| d["databases"]["shop"]["roles"]["app"]["replication"] = json!(true)),
            "is to replicate",
        ),
        (
            "shop/web",
            change(|d| d["databases"]["shop"]["roles"]["app"]["create_db"] = json!(true)),
            "`create_db` of role `shop_user` is a power over the server",
        ),
        (
            "shop/web",
            change(|d| d["databases"]["shop"]["roles"]["app"]["bypass_rls"] = json!(true)),
            "`bypass_rls` of role `shop_user` is a power over the server",
        ),
        ("shop/web", with("settings", json!({"log_statement": "none"})), "only what every role may set"),
        ("shop/web", with("name", json!("own")), "declared twice"),
        (
            "shop/web",
            change(|d| {
                d["roles"] = json!({"spy": {"server": "main", "password": {"secret": "shop-db", "key": "password"}, "reads": ["own"]}});
            }),
            "is to read database/own",
        ),
        ("shop/web", place.fragment("base", "shop", |_| ()), "declares a fragment of this name already"),
        (
            "bank/web",
            place.fragment("bank", "bank", |d| {
                d["databases"]["two"] = d["databases"]["bank"].clone();
                d["databases"]["two"]["roles"]["app"]["name"] = json!("two_user");
            }),
            "may have 1",
        ),
        ("nobody", change(|_| ()), "the service-account token is none"),
    ];
    for (token, document, why) in cases {
        let refused = place.apply(token, &document).await.unwrap_err();
        assert_eq!(refused.exit, Exit::NeverWorks, "{why}: {refused}");
        assert!(refused.message.contains(why), "{why}: {refused}");
    }
    let others = "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_database WHERE datname NOT LIKE 'template%'";
    until(|| async { place.world.ask("postgres", others).await == "own postgres rollcall" }).await;

    // What was asked for once keeps its namespace, and its names.
    place.apply("shop/web", &change(|_| ())).await.unwrap();
    let taken = place.fragment("shop", "bank", |_| ());
    let refused = place.apply("bank/web", &taken).await.unwrap_err();
    assert!(refused.message.contains("is of namespace shop"), "{refused}");
    let same = place.fragment("bank", "bank", |d| d["databases"]["bank"]["name"] = json!("shop"));
    let refused = place.apply("bank/web", &same).await.unwrap_err();
    assert!(
        refused.message.contains("declared twice") && refused.message.contains("fragment `shop`"),
        "{refused}"
    );
    steals(&place).await;
    place.stop().await;
}

/// Whoever writes requests by hand gets no further.
async fn steals(place: &Place) {
    let before = place
        .world
        .ask("postgres", "SELECT string_agg(rolname || coalesce(rolpassword, ''), ' ') FROM pg_authid")
        .await;
    let bank = place.fragment("bank", "bank", |_| ());
    let verifier = scram::verifier("chosen by the thief").unwrap();
    for (role, verifier, code) in [
        ("shop_user", verifier.as_str(), Code::PermissionDenied),
        ("postgres", &verifier, Code::PermissionDenied),
        ("own_user", &verifier, Code::PermissionDenied),
        ("bank_owner", &verifier, Code::PermissionDenied),
        ("bank_user", "chosen by the thief", Code::InvalidArgument),
        (&"r".repeat(64), &verifier, Code::InvalidArgument),
    ] {
        let message = pb::RoleVerifier { role: role.to_owned(), verifier: verifier.to_owned() };
        assert!(!format!("{message:?}").contains(verifier), "{message:?}");
        let ended = raw::provision(place, "bank/web", &bank, &[(role, verifier)]).await.unwrap_err();
        assert_eq!(ended.code(), code, "{role}: {ended}");
        assert!(!ended.message().contains("SCRAM-SHA-256$"), "{ended}");
    }
    let after = place
        .world
        .ask("postgres", "SELECT string_agg(rolname || coalesce(rolpassword, ''), ' ') FROM pg_authid WHERE rolname NOT LIKE 'bank%'")
        .await;
    assert_eq!(after, before);
    // By whose role it is the very same request is followed.
    let owners = scram::verifier("chosen by its owner").unwrap();
    let shop = place.fragment("shop", "shop", |_| ());
    raw::provision(place, "shop/web", &shop, &[("shop_user", &owners)]).await.unwrap();
    place.world.login("shop_user", "chosen by its owner", "shop").await.unwrap().close().await;
    raw::provision(place, "bank/web", &bank, &[("bank_user", &verifier)]).await.unwrap();
    place.world.login("bank_user", "chosen by the thief", "bank").await.unwrap().close().await;
}

#[tokio::test]
async fn things_of_a_fragment_that_was_mounted_go_only_to_whom_the_documents_name() {
    let world = World::start(16).await;
    // The fragment `shop` was mounted once, beside the server's.
    let mut once = world.document("dev", &[common::Db::new("shop")]);
    once["fragment"]["name"] = json!("shop");
    world.settle(&once).await;
    let adopts = |fragments: Value| json!([{"namespaces": ["shop"], "fragments": fragments}]);
    let place = Place::start(world, false, adopts(json!([]))).await;
    place.secret("shop", "shop-db", "password-of-shop-db");
    let shop = place.fragment("shop", "shop", |_| ());
    let refused = place.apply("shop/web", &shop).await.unwrap_err();
    assert!(refused.message.contains("things were made for fragment `shop`"), "{refused}");
    let Place { world, .. } = stopped(place).await;
    let before = world.ask("postgres", VERIFIER).await;
    let place = Place::start(world, false, adopts(json!(["shop"]))).await;
    place.secret("shop", "shop-db", "password-of-shop-db");
    place.apply("shop/web", &shop).await.unwrap();
    assert_eq!(place.world.ask("postgres", VERIFIER).await, before);
    place.stop().await;
}

async fn stopped(place: Place) -> Place {
    place.stop_serving().await;
    place
}
