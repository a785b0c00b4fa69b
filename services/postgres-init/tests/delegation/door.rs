//! Who may ask at all, for how long it is believed, and that nobody's many calls leave none to others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, SystemTime};

use chassis::exit::Exit;
use postgres_init::scram;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::run_step_request::Request as Said;
use rollcall_proto::provisioning::v1::run_step_response::Response as Told;
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;

use crate::common::World;
use crate::common::bench::until;
use crate::place::Place;
use crate::raw::{self, Claim};
use crate::steps;

#[tokio::test]
async fn an_account_that_no_rule_names_is_refused_by_name() {
    let rules = json!([
        {"namespaces": ["shop"], "accounts": ["shop/provision"]},
        {"namespaces": ["shop", "dev"], "accounts": ["batch"], "fragments": ["lib"]},
    ]);
    let place = Place::start(World::start(18).await, false, rules).await;
    for secret in ["shop-db", "lib-db"] {
        place.secret("shop", secret, "only the module knows");
    }
    let shop =
        place.fragment("shop", "shop", |document| document["steps"] = json!({"seed": {"database": "shop"}}));
    let lib = place.fragment("lib", "shop", |_| ());
    // Its own namespace's, before anything stands and after; and whoever may speak for every namespace elsewhere.
    let others = async |standing: &str| {
        for (account, named) in
            [("shop/web", "shop/web"), ("shop/batch", "shop/batch"), ("dev/batch", "shop/NAME")]
        {
            let refused = place.apply(account, &shop).await.unwrap_err();
            assert_eq!(refused.exit, Exit::NeverWorks, "{standing}: {refused}");
            let says = format!("service account {account} may not ask for ");
            assert!(refused.message.contains(&says), "{standing}: {refused}");
            let write = format!("or have who looks after the server write `{named}` there too");
            assert!(refused.message.contains(&write), "{standing}: {refused}");
        }
    };
    others("nothing stands").await;
    let made = "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'shop%'";
    assert_eq!(place.world.ask("postgres", made).await, "0");

    place.apply("shop/provision", &shop).await.unwrap();
    others("it stands").await;
    let verifier = scram::verifier("chosen by the thief").unwrap();
    let thief = raw::provision(&place, "shop/web", &shop, &[("shop_user", &verifier)]).await;
    assert_eq!(thief.unwrap_err().code(), Code::PermissionDenied);
    let refused = place.step("shop/web", &shop, &["--baseline"], "").await.unwrap_err();
    assert!(refused.message.contains("may not ask for fragment `shop`"), "{refused}");
    place.step("shop/provision", &shop, &["--baseline"], "").await.unwrap();
    place.world.login("shop_user", "only the module knows", "shop").await.unwrap().close().await;

    // Who is named by another rule has what that rule is about.
    place.apply("shop/batch", &lib).await.unwrap();
    place.apply("shop/provision", &lib).await.unwrap();
    let refused = place.apply("dev/batch", &lib).await.unwrap_err();
    assert!(refused.message.contains("service account dev/batch may not ask"), "{refused}");
    place.stop().await;
}

#[tokio::test]
async fn a_fragment_has_no_more_steps_in_the_ledger_than_its_rule_says() {
    let rules = json!([{"namespaces": ["shop"], "steps": 2}]);
    let place = Place::start(World::start(16).await, false, rules).await;
    place.secret("shop", "shop-db", "secret");
    let with = |names: &[&str]| {
        let steps = names.iter().map(|name| ((*name).to_owned(), json!({"database": "shop"})));
        place.fragment("shop", "shop", |document| document["steps"] = steps.collect())
    };
    // What was accepted is looked after however many it declares: they count when they are first run.
    place.apply("shop/web", &with(&["a", "b", "c"])).await.unwrap();
    // A newer version does not make room for another name.
    let begun = async |names: &[&str], name: &str| {
        let mut claim = Claim::open(&mut raw::stub(&place), "shop/web", Some(raw::begin(&with(names), name)))
            .await
            .unwrap();
        answer(&mut claim).await
    };
    place.apply("shop/web", &with(&["a", "b"])).await.unwrap();
    for name in ["a", "b"] {
        let Told::Granted(granted) = begun(&["a", "b"], name).await else { panic!("{name} is not granted") };
        assert!(granted.run > 0);
    }
    let Told::Refused(refused) = begun(&["b", "c"], "c").await else { panic!("c is granted") };
    assert!(
        refused.why.contains("has 2 steps in the ledger of postgres/main, where it may have 2")
            && refused.why.contains("raise `steps` of its rule to 3"),
        "{refused:?}"
    );
    let count = "SELECT string_agg(component, ' ' ORDER BY run) FROM rollcall.ledger";
    assert_eq!(place.world.ask("rollcall", count).await, "step/a step/b");
    place.stop().await;
}

/// A token that ends soon, and is there for long enough to have something begun with it.
fn brief() -> String {
    let ends = SystemTime::now() + Duration::from_secs(20);
    format!("shop/web@{}", ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis())
}

/// The first response that is not about waiting.
async fn answer(claim: &mut Claim) -> Told {
    loop {
        match claim.next().await.unwrap() {
            Told::Waits(_) => {}
            other => return other,
        }
    }
}

async fn until_refused(claim: &mut Claim) -> Code {
    loop {
        match claim.next().await {
            Ok(Told::Waits(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(status) => return status.code(),
        }
    }
}

#[tokio::test]
async fn a_claim_outlives_its_token_only_while_its_command_runs() {
    let (place, shop) = steps::place(18, &json!({"database": "shop"})).await;
    let brief = brief();
    let begin = || Some(raw::begin(&shop, "seed"));
    let mut runs = Claim::open(&mut raw::stub(&place), &brief, begin()).await.unwrap();
    let Told::Granted(granted) = answer(&mut runs).await else { panic!("it is not granted") };
    let mut lasting = Claim::open(&mut raw::stub(&place), "shop/web", begin()).await.unwrap();
    assert!(matches!(lasting.next().await, Ok(Told::Waits(_))));
    let mut waits = Claim::open(&mut raw::stub(&place), &brief, begin()).await.unwrap();
    let renewed = async {
        // One of ours waits too. At the end of its token it asks again, with the one that its file has by then.
        let waiting = "SELECT (count(*) = 3)::text FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock($1)' AND datname = 'rollcall'";
        until(|| async { place.world.ask("postgres", waiting).await == "true" }).await;
        place.renew(&brief, "shop/web");
        assert_eq!(until_refused(&mut waits).await, Code::Unavailable);
        let late = Claim::open(&mut raw::stub(&place), &brief, begin()).await;
        assert_eq!(late.map(|_| ()).unwrap_err().code(), Code::Unauthenticated);
        // What runs holds its lock, and nobody else is let in.
        assert_eq!(steps::ledger(&place).await, "step/seed running");
        let held =
            "SELECT (count(*) = 1)::text FROM pg_locks WHERE locktype = 'advisory' AND classid = 1937007984";
        assert_eq!(place.world.ask("postgres", held).await, "true");
        let finish = pb::FinishStep { run: granted.run, exit: Some(0), output: "long after".to_owned() };
        runs.say(Said::Finish(finish)).await;
        assert!(matches!(runs.next().await, Ok(Told::Recorded(_))));
        assert!(matches!(lasting.next().await, Ok(Told::Done(_))));
    };
    // Its command is another one than what was granted, so a person would decide: it is not run.
    let (ours, ()) = tokio::join!(place.step(&brief, &shop, &[], "exit 9"), renewed);
    assert!(ours.unwrap_err().message.contains("with another command"));
    assert_eq!(steps::ledger(&place).await, "step/seed done");
    place.stop().await;
}

#[tokio::test]
async fn whoever_only_waits_outlives_its_tokens() {
    let (place, shop) = steps::place(18, &json!({"database": "shop"})).await;
    let mut runs =
        Claim::open(&mut raw::stub(&place), "shop/web", Some(raw::begin(&shop, "seed"))).await.unwrap();
    let Told::Granted(granted) = answer(&mut runs).await else { panic!("it is not granted") };
    let before = place.shown();
    let four = async {
        until(|| async { place.shown() > before + 4 }).await;
        let finish = pb::FinishStep { run: granted.run, exit: Some(0), output: String::new() };
        runs.say(Said::Finish(finish)).await;
        assert!(matches!(runs.next().await, Ok(Told::Recorded(_))));
    };
    // Each of its calls is believed for a second, which is longer than an answer must stand to be believed here.
    let (waited, ()) = tokio::join!(place.step("shop/web@+1000", &shop, &[], "exit 9"), four);
    assert!(waited.unwrap_err().message.contains("with another command"));
    place.stop().await;
}

#[tokio::test]
async fn a_flood_of_one_token_leaves_its_neighbours_served() {
    // More than a server has in flight, over connections as many as a namespace has pods.
    const CONNECTIONS: usize = 24;
    const EACH: usize = 50;
    const OPEN: usize = 8;
    let (place, shop) = steps::place(18, &json!({"database": "shop"})).await;
    place.secret("bank", "bank-db", "secret");
    let bank =
        place.fragment("bank", "bank", |document| document["steps"] = json!({"load": {"database": "bank"}}));
    place.apply("bank/web", &bank).await.unwrap();
    let mut flood = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stub = raw::stub(&place);
        for number in 0..EACH {
            // Every other says nothing at all, and is waited for.
            let first = (number % 2 == 0).then(|| raw::begin(&bank, "load"));
            let mut stub = stub.clone();
            flood.spawn(async move { Claim::open(&mut stub, "bank/web", first).await });
        }
    }
    let (mut held, mut refused) = (Vec::new(), 0);
    while refused < CONNECTIONS * EACH - OPEN {
        match flood.join_next().await.unwrap().unwrap() {
            Ok(claim) => held.push(claim),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("service account bank/web has 8 steps open"), "{status}");
                refused += 1;
            }
        }
    }
    assert!(held.len() <= OPEN, "{} are open", held.len());
    // At the first attempt, and not after what floods has ended.
    raw::provision(&place, "shop/web", &shop, &[]).await.unwrap();
    let mut claim =
        Claim::open(&mut raw::stub(&place), "shop/web", Some(raw::begin(&shop, "seed"))).await.unwrap();
    assert!(matches!(answer(&mut claim).await, Told::Granted(_)));
    // Those of who was refused end a moment later.
    let sessions = "SELECT (count(*) <= 16)::text FROM pg_stat_activity WHERE datname = 'rollcall'";
    place.world.comes_to("postgres", sessions, "true").await;
    // Whoever floods is served again when it ends.
    drop((flood, held));
    until(|| async {
        Claim::open(&mut raw::stub(&place), "bank/web", Some(raw::begin(&bank, "load"))).await.is_ok()
    })
    .await;
    place.stop().await;
}
