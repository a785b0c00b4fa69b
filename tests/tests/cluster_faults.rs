//! Faults of a cluster under secret-syncer: an API server that goes away, has no time, refuses, or falls silent. Nothing is
//! lost, nothing is written more often than it must be, others are not held up, and what is wrong is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acceptance::relay::Fault;
use acceptance::scene::{COPIES, Scene, dev};
use acceptance::{PATIENCE, until};
use rollcall_proto::lifecycle::v1::Phase;
use serde_json::{Value, json};

const BROKE_OFF: &str = "rollcall_secret_watch_restarts_total{reason=\"Unreachable\"}";
const TOO_OLD: &str = "rollcall_secret_watch_restarts_total{reason=\"Busy\"}";

#[tokio::test]
async fn it_goes_on_by_itself_when_the_server_or_its_watches_were_away() {
    let scene = Scene::start(1).await;
    let (relay, service) = (&scene.relay, scene.service());

    // Killed and restarted: said meanwhile, and not one write afterwards but those that are due.
    relay.forget();
    scene.cluster.server.kill().await.unwrap();
    service.counts("pending", COPIES.len() + 1).await;
    let away = "secret/app/copy: the API server cannot be reached";
    until("it is told", async || service.text().contains(away)).await;
    assert!(service.is_live().await, "what is away comes back; restarting this process would not help");
    scene.cluster.server.start().await.unwrap();
    scene.cluster.server.ready(PATIENCE).await.unwrap();
    scene.settled().await;
    assert_eq!(scene.writes(&COPIES), 0);
    scene.change("after the restart").await;
    scene.follows(&COPIES, "after the restart").await;
    scene.settled().await;
    scene.looked_again().await;
    assert_eq!(scene.writes(&COPIES), COPIES.len(), "one each");

    // Watches on which nothing comes any more: what they miss is corrected, and they are made anew.
    let (watches, broken) = (relay.count("watch", "secrets/base/origin"), service.metric(BROKE_OFF).await);
    relay.silence_watches();
    scene.change("unheard").await;
    scene.follows(&COPIES, "unheard").await;
    until("all watches are made anew", async || service.metric(BROKE_OFF).await >= broken + 4.0).await;
    until("and asked for", async || relay.count("watch", "secrets/base/origin") > watches).await;
    assert!(service.is_live().await);

    // A connection over which nothing passes any more, and that nobody closes.
    relay.swallow();
    scene.change("into the void").await;
    scene.follows(&COPIES, "into the void").await;
    scene.settled().await;
    assert!(service.is_live().await);

    // Watches that end at once are asked for ever more seldom; versions that are too old, said at the door or in a watch
    // that has begun, are given up.
    relay.forget();
    let begun = Instant::now();
    relay.rule(|call| (call.verb == "watch").then_some(Fault::Ended));
    let watches = || relay.count("watch", "secrets/base/origin");
    until("a watch is asked for again and again", async || watches() >= 5).await;
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}", begun.elapsed());
    for fault in [Fault::Status(410, "Expired"), Fault::Expired] {
        let (old, text) = (service.metric(TOO_OLD).await, format!("{fault:?}").replace('"', ""));
        relay.rule(move |call| (call.verb == "watch").then(|| fault.clone()));
        until("watches are too old", async || service.metric(TOO_OLD).await > old).await;
        scene.change(&text).await;
        scene.follows(&COPIES, &text).await;
    }
    relay.clear();
    let watches = relay.count("watch", "secrets/base/origin");
    until("it is watched again", async || relay.count("watch", "secrets/base/origin") > watches).await;
    scene.change("heard").await;
    scene.follows(&COPIES, "heard").await;
    scene.settled().await;
    scene.end().await;
}

#[tokio::test]
async fn a_write_that_fails_is_made_later_once_and_holds_no_other_up() {
    let scene = Scene::start(1).await;
    let (relay, service) = (&scene.relay, scene.service());
    let others = &COPIES[1..];
    for (fault, says) in [
        (Fault::Busy(429, Some(3)), "the API server answers 429; trying again later"),
        (Fault::Busy(500, None), "answers 500"),
        (Fault::Busy(503, Some(1)), "answers 503"),
        (Fault::Busy(504, None), "answers 504"),
        (Fault::Status(409, "Conflict"), "changed after it was looked at"),
        (Fault::Silence, "no answer within 10s"),
    ] {
        let (patience, hangs) = (matches!(fault, Fault::Busy(_, Some(3))), matches!(fault, Fault::Silence));
        let tries = Arc::new(Mutex::new(Vec::new()));
        relay.forget();
        let times = Arc::clone(&tries);
        relay.rule(move |call| {
            let is_it = call.verb == "patch" && call.object == "secrets/app/copy";
            is_it.then(|| {
                times.lock().unwrap().push(Instant::now());
                fault.clone()
            })
        });
        scene.change(says).await;
        scene.follows(others, says).await;
        // The others did not wait for it.
        until("it hangs", async || !hangs || relay.hanging() == 1).await;
        service.says("secret/app/copy", Phase::Working, says).await;
        until("metrics say so", async || {
            service.targets("pending").await == 1 && service.targets("synced").await == COPIES.len()
        })
        .await;
        let is_told =
            |line: &str| line.contains("\"WARN\"") && line.contains("secret/app/copy") && line.contains(says);
        until("it is told", async || service.text().lines().any(is_told)).await;
        if patience {
            until("it is tried again", async || tries.lock().unwrap().len() > 1).await;
            let tries = tries.lock().unwrap();
            assert!(tries[1] - tries[0] > Duration::from_secs(2), "not before the server wants it");
        }
        assert!(!scene.has("app", says).await);
        let failed = scene.writes(&["app"]);
        relay.clear();
        scene.follows(&["app"], says).await;
        scene.settled().await;
        scene.looked_again().await;
        assert_eq!(scene.writes(&["app"]), failed + 1, "{says}: made once");
        assert_eq!(scene.writes(others), others.len(), "{says}: one each");
    }
    scene.end().await;
}

#[tokio::test]
async fn rights_may_be_withdrawn_and_namespaces_may_end() {
    let scene = Scene::start(1).await;
    let (cluster, service) = (&scene.cluster, scene.service());

    // The right to write one of them.
    let role = |verbs: Value| {
        let rights = acceptance::rights::of_syncer(&dev());
        let is_it = |object: &&Value| object["kind"] == "Role" && object["metadata"]["namespace"] == "app";
        let mut role = rights.iter().find(is_it).unwrap().clone();
        role["rules"].as_array_mut().unwrap().iter_mut().for_each(|rule| rule["verbs"] = verbs.clone());
        role
    };
    let syncer = cluster.syncer().await;
    cluster.apply(role(json!(["get", "watch"]))).await;
    until("it is known", async || !syncer.may("patch", "secrets", "app", "copy").await).await;
    scene.change("may not be written").await;
    scene.follows(&COPIES[1..], "may not be written").await;
    let advice = "a Role in namespace app must allow `patch` on secrets with resourceNames [copy]";
    service.says("secret/app/copy", Phase::Failed, advice).await;
    service.counts("denied", 1).await;
    until("the denial is counted", async || {
        service.metric("rollcall_secret_denied_total{reason=\"Forbidden\"}").await >= 1.0
    })
    .await;
    cluster.grant(&dev()).await;
    scene.follows(&["app"], "may not be written").await;
    service.says("secret/app/copy", Phase::Ready, "").await;

    // The right even to look.
    cluster.apply(role(json!(["delete"]))).await;
    service.counts("denied", 1).await;
    until("it is told", async || service.text().contains("cannot get secret/app/copy: forbidden")).await;
    scene.change("may not be seen").await;
    scene.follows(&COPIES[1..], "may not be seen").await;
    cluster.grant(&dev()).await;
    scene.follows(&COPIES, "may not be seen").await;
    scene.settled().await;

    // A namespace that ends, is gone, and comes back.
    let admin = cluster.admin();
    admin.call("DELETE", "/api/v1/namespaces/three", None).await.unwrap();
    admin.delete("secret", "three", "copy").await.unwrap();
    service.says("secret/three/copy", Phase::Working, "namespace three is being deleted").await;
    service.counts("pending", 1).await;
    scene.change("while it ends").await;
    scene.follows(&COPIES[..2], "while it ends").await;
    let mut ending = admin.call("GET", "/api/v1/namespaces/three", None).await.unwrap();
    ending["spec"]["finalizers"] = json!([]);
    admin.call("PUT", "/api/v1/namespaces/three/finalize", Some(ending)).await.unwrap();
    service.says("secret/three/copy", Phase::Working, "namespace three does not exist").await;
    cluster.namespace("three").await;
    scene.follows(&COPIES, "while it ends").await;
    scene.settled().await;
    scene.end().await;
}
