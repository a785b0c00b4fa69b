//! Steps of modules that hold no credential of their ledger's server: once however many ask, also where the claim is lost meanwhile.
#![allow(unreachable_pub, reason = "a part of the test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use chassis::exit::Exit;
use rollcall_proto::provisioning::v1::run_step_request::Request as Said;
use serde_json::{Value, json};
use tonic::Code;

use crate::common::World;
use crate::common::bench::until;
use crate::place::Place;
use crate::raw::{self, Claim};
use crate::rules;

/// A module with a database, and step `seed` that works on it.
pub async fn place(version: u16, step: &Value) -> (Place, Value) {
    let place = Place::start(World::start(version).await, version == 16, rules()).await;
    place.secret("shop", "shop-db", "only the module knows");
    let shop = place.fragment("shop", "shop", |document| document["steps"] = json!({"seed": step}));
    place.apply("shop/web", &shop).await.unwrap();
    (place, shop)
}

/// A command that adds a line to file `ran`.
fn adds(place: &Place, then: &str) -> String {
    format!("echo ran >> {}/ran; {then}", place.path().display())
}

fn ran(place: &Place) -> usize {
    std::fs::read_to_string(place.path().join("ran")).unwrap_or_default().lines().count()
}

pub async fn ledger(place: &Place) -> String {
    let runs = "SELECT string_agg(component || ' ' || state, ', ' ORDER BY run) FROM rollcall.ledger";
    place.world.ask("rollcall", runs).await
}

fn until_go(place: &Place) -> String {
    adds(place, &format!("until [ -e {}/go ]; do sleep 0.05; done", place.path().display()))
}

fn go(place: &Place) {
    std::fs::write(place.path().join("go"), "").unwrap();
}

#[tokio::test]
async fn a_step_runs_once_through_the_door() {
    let (place, shop) = place(14, &json!({"database": "shop"})).await;
    let script = format!("{}; cat {}/secret", until_go(&place), place.path().display());
    std::fs::write(place.path().join("secret"), "only the module knows").unwrap();
    let waited = async {
        until(|| async { ran(&place) == 1 }).await;
        let sessions = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%' AND datname = 'rollcall'";
        until(|| async { place.world.ask("postgres", sessions).await == "true" || ran(&place) > 1 }).await;
        go(&place);
    };
    let step = || place.step("shop/web", &shop, &[], &script);
    let (a, b, ()) = tokio::join!(step(), step(), waited);
    assert_eq!((a, b), (Ok(()), Ok(())));
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed done"));

    // Other inputs are a person's affair.
    let other = adds(&place, "exit 7");
    let refused = place.step("shop/web", &shop, &[], &other).await.unwrap_err();
    assert!(refused.exit == Exit::NeverWorks && refused.message.contains("--baseline"), "{refused}");
    let failed = place.step("shop/web", &shop, &["--again"], &other).await.unwrap_err();
    assert_eq!(failed.command, Some(7));
    place.step("shop/web", &shop, &["--baseline"], "").await.unwrap();
    place.step("shop/web", &shop, &[], &other).await.unwrap();
    assert_eq!(ran(&place), 2);
    assert_eq!(ledger(&place).await, "step/seed done, step/seed failed, step/seed baseline");

    // Whose the step is not.
    place.secret("bank", "bank-db", "secret");
    let refused = place.step("bank/web", &shop, &["--again"], &script).await.unwrap_err();
    assert!(refused.message.contains("may speak for its own namespace only"), "{refused}");
    let bank =
        place.fragment("bank", "bank", |document| document["steps"] = json!({"seed": {"server": "main"}}));
    let refused = place.step("bank/web", &bank, &["--baseline"], "").await.unwrap_err();
    assert!(refused.message.contains("declared twice"), "{refused}");
    assert_eq!(ran(&place), 2);
    let output =
        place.world.ask("rollcall", "SELECT string_agg(output || inputs, ' ') FROM rollcall.ledger").await;
    assert!(!output.contains("only the module knows"), "{output}");
    place.stop().await;
}

#[tokio::test]
async fn evidence_is_looked_at_by_the_module_and_needs_are_looked_at_by_both() {
    let evidence = json!({"database": "shop", "sql": "SELECT count(*) > 0 FROM keys"});
    let step =
        json!({"database": "shop", "evidence": evidence, "needs": ["secret/shop-keys", "database/shop"]});
    let (place, shop) = place(18, &step).await;
    let mut app = place.world.login("shop_user", "only the module knows", "shop").await.unwrap();
    app.execute("CREATE TABLE keys (k int); INSERT INTO keys VALUES (1)").await.unwrap();
    app.close().await;
    let script = adds(&place, "");
    let begun = place.step("shop/web", &shop, &[], &script);
    let there = async {
        // Nothing is asked before it is there.
        place.secret("shop", "shop-keys", "k");
    };
    let (done, ()) = tokio::join!(begun, there);
    done.unwrap();
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (0, "step/seed baseline"));
    place.stop().await;
}

#[tokio::test]
async fn a_claim_that_is_lost_is_taken_again_and_one_that_was_left_is_a_persons_affair() {
    let (place, shop) = place(18, &json!({"database": "shop"})).await;
    // Who looks after the ledger is started anew while the command runs.
    let script = until_go(&place);
    let anew = async {
        until(|| async { ran(&place) == 1 }).await;
        place.stop_serving().await;
        place.serve();
        // The class of the locks of steps, "step" in ASCII.
        let held =
            "SELECT (count(*) = 1)::text FROM pg_locks WHERE locktype = 'advisory' AND classid = 1937007984";
        until(|| async { place.world.ask("postgres", held).await == "true" }).await;
        go(&place);
    };
    let (done, ()) = tokio::join!(place.step("shop/web", &shop, &[], &script), anew);
    done.unwrap();
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed done"));

    // Whoever runs it vanishes: nobody knows how it ended.
    std::fs::remove_file(place.path().join("go")).unwrap();
    tokio::select! {
        ended = place.step("shop/web", &shop, &["--again"], &script) => panic!("{ended:?}"),
        () = until(|| async { ran(&place) == 2 }) => {}
    }
    let refused = place.step("shop/web", &shop, &[], &script).await.unwrap_err();
    assert!(refused.message.contains("nobody has written down how it ended"), "{refused}");
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (2, "step/seed done, step/seed running"));
    place.stop().await;
}

#[tokio::test]
async fn a_step_that_needs_the_modules_own_migration_comes_after_it() {
    let place = Place::start(World::start(18).await, false, rules()).await;
    place.secret("shop", "shop-db", "only the module knows");
    std::fs::create_dir(place.path().join("sql")).unwrap();
    std::fs::write(place.path().join("sql/V1__goods.sql"), "CREATE TABLE goods (name text)").unwrap();
    let folder = place.path().join("sql").display().to_string();
    let shop = place.fragment("shop", "shop", |document| {
        document["migrations"] = json!({"shop": {"database": "shop", "sources": [{"directory": folder}], "native": {},
            "needs": ["database/shop"]}});
        document["steps"] = json!({"seed": {"database": "shop", "needs": ["migration/shop"]}});
    });
    let script = adds(&place, "");
    let seed = place.step("shop/web", &shop, &[], &script);
    let (done, applied) = tokio::join!(seed, place.apply("shop/web", &shop));
    assert_eq!((done, applied), (Ok(()), Ok(())));
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed done"));
    let table = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'goods'";
    assert_eq!(place.world.ask("shop", table).await, "shop_owner");
    place.stop().await;
}

#[tokio::test]
async fn one_that_waits_leaves_a_lost_claim_to_whoever_holds_it_again() {
    // It may be repeated, but not while it runs.
    let (place, shop) = place(16, &json!({"database": "shop", "idempotent": true})).await;
    let script = until_go(&place);
    let step = || place.step("shop/web", &shop, &[], &script);
    let anew = async {
        until(|| async { ran(&place) == 1 }).await;
        let tries = "SELECT (count(*) > 1)::text FROM pg_stat_activity WHERE datname = 'rollcall'";
        until(|| async { place.world.ask("postgres", tries).await == "true" }).await;
        place.stop_serving().await;
        place.serve();
        let held =
            "SELECT (count(*) = 1)::text FROM pg_locks WHERE locktype = 'advisory' AND classid = 1937007984";
        until(|| async { place.world.ask("postgres", held).await == "true" }).await;
        go(&place);
    };
    let (a, b, ()) = tokio::join!(step(), step(), anew);
    assert_eq!((a, b), (Ok(()), Ok(())));
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed done"));
    place.stop().await;
}

#[tokio::test]
async fn a_rule_that_changes_does_not_end_what_runs_and_nobody_else_takes_it_up() {
    let (place, shop) = place(18, &json!({"database": "shop"})).await;
    let script = until_go(&place);
    let changed = async {
        until(|| async { ran(&place) == 1 }).await;
        place.stop_serving().await;
        // For the fragment to be refused for good, also the run that goes on is not believed.
        place.world.run("rollcall", "UPDATE rollcall.delegated SET namespace = 'bank'").await;
        place.rules(json!([{"namespaces": ["shop"], "accounts": ["other"]}]));
        place.serve();
        let before = place.shown();
        until(|| async { place.shown() > before + 5 }).await;
        assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed running"));
        place.world.run("rollcall", "UPDATE rollcall.delegated SET namespace = 'shop'").await;
        go(&place);
    };
    let (done, ()) = tokio::join!(place.step("shop/web", &shop, &[], &script), changed);
    done.unwrap();
    assert_eq!((ran(&place), ledger(&place).await.as_str()), (1, "step/seed done"));
    // What begins is judged by the rules as they are.
    let refused = place.step("shop/web", &shop, &["--again"], &script).await.unwrap_err();
    assert!(refused.message.contains("service account shop/web may not ask"), "{refused}");
    // A run of the same number is nobody else's.
    let mine =
        place.fragment("bank", "shop", |document| document["steps"] = json!({"seed": {"database": "bank"}}));
    let Said::Begin(mut begin) = raw::begin(&mine, "seed") else { panic!("it begins nothing") };
    begin.resumes = 1;
    let mut thief = Claim::open(&mut raw::stub(&place), "shop/web", Some(Said::Begin(begin))).await.unwrap();
    assert_eq!(thief.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(ran(&place), 1);
    place.stop().await;
}
