//! Others who write what secret-syncer writes: a second instance of it, somebody who meddles now and then, and somebody who
//! will not stop; and credentials that are no longer good.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::cluster::{ACCOUNT, Cluster};
use acceptance::relay::{Call, Fault, Relay};
use acceptance::scene::{COPIES, Scene, dev};
use acceptance::until;
use rollcall_proto::lifecycle::v1::Phase;

const WRITTEN: &str = "rollcall_secret_sync_total{result=\"written\"}";
/// As often it corrects what somebody keeps changing.
const CORRECTIONS: usize = 5;

async fn written(scene: &Scene) -> usize {
    let mut sum = 0;
    for service in &scene.services {
        sum += format!("{}", service.metric(WRITTEN).await).parse::<usize>().unwrap();
    }
    sum
}

#[tokio::test]
async fn two_instances_agree_and_write_nothing_twice() {
    let scene = Scene::start(2).await;
    let (before, mut due) = (written(&scene).await, 0);
    scene.relay.forget();
    for round in 0..8 {
        let value = format!("round {round}");
        scene.change(&value).await;
        scene.follows(&COPIES, &value).await;
        due += COPIES.len();
        if round % 2 == 0 {
            // Before both know that it is settled, or after: both must do.
            if round % 4 == 0 {
                scene.settled().await;
            }
            scene.meddle(COPIES[round % 3], "meddled").await.unwrap();
            scene.follows(&COPIES, &value).await;
            due += 1;
        }
    }
    // What is written is counted once its answer has come.
    until("each change is counted", async || written(&scene).await - before >= due).await;
    scene.looked_again().await;
    assert_eq!(written(&scene).await - before, due, "each change is written once, by one of them");
    assert!(scene.writes(&COPIES) <= 2 * due, "{} tries for {due} writes", scene.writes(&COPIES));

    // Faster than they can follow: they end where the source ends.
    for round in 0..20 {
        scene.change(&format!("quick {round}")).await;
    }
    scene.follows(&COPIES, "quick 19").await;
    scene.looked_again().await;
    scene.settled().await;
    let (tries, all) = (scene.writes(&COPIES), 2 * (due + 20 * COPIES.len()));
    assert!(tries <= all, "{tries} tries, at most {all}");
    scene.looked_again().await;
    assert_eq!(scene.writes(&COPIES), tries, "then it is quiet");
    scene.end().await;
}

/// One that hears of a copy which another has written, before it hears of what that was made from.
#[tokio::test]
async fn nobody_writes_back_what_was_read_before_another_wrote() {
    let mut scene = Scene::start(1).await;
    let syncer = scene.cluster.syncer().await;
    let late = Relay::start(&syncer.kubeconfig).await;
    late.rule(|call| {
        (call.verb == "watch" && call.object == "secrets/base/origin").then_some(Fault::Silence)
    });
    scene.serve_as(&syncer.by_way_of(late.kubeconfig(&syncer.kubeconfig)), "late").await;
    scene.settled().await;
    let (before, mut due) = (written(&scene).await, 0);
    for round in 0..6 {
        // It has just looked at the source when that changes.
        let looks = late.count("get", "secrets/base/origin");
        until("it looks", async || late.count("get", "secrets/base/origin") > looks).await;
        let value = format!("round {round}");
        scene.change(&value).await;
        scene.follows(&COPIES, &value).await;
        due += COPIES.len();
        until("each change is counted", async || written(&scene).await - before >= due).await;
    }
    scene.looked_again().await;
    assert_eq!(written(&scene).await - before, due, "each change is written once, by one of them");
    scene.end().await;
}

/// How often each copy was looked at.
fn looks(relay: &Relay) -> [usize; 3] {
    COPIES.map(|copy| relay.count("get", &format!("secrets/{copy}/copy")))
}

/// One that hears of nothing, and whose look at a copy ends after another has written that, although it looked at the source
/// before that changed.
#[tokio::test]
async fn nobody_writes_back_what_was_read_before_it_looked_at_the_copy() {
    let mut scene = Scene::start(1).await;
    let syncer = scene.cluster.syncer().await;
    let late = Relay::start(&syncer.kubeconfig).await;
    let deaf = |call: &Call| (call.verb == "watch").then_some(Fault::Silence);
    late.rule(deaf);
    scene.serve_as(&syncer.by_way_of(late.kubeconfig(&syncer.kubeconfig)), "late").await;
    scene.settled().await;
    let (before, mut due) = (written(&scene).await, 0);
    for round in 0..6 {
        let (open, gate) = tokio::sync::watch::channel(false);
        let is_copy = |call: &Call| call.verb == "get" && call.object.ends_with("/copy");
        late.rule(move |call| if is_copy(call) { Some(Fault::Held(gate.clone())) } else { deaf(call) });
        let begun = looks(&late);
        until("it begins to look at every copy", async || {
            looks(&late).iter().zip(begun).all(|(now, then)| *now > then)
        })
        .await;
        let looked = late.count("get", "secrets/base/origin");
        until("it looks at the source", async || late.count("get", "secrets/base/origin") > looked).await;
        let value = format!("round {round}");
        scene.change(&value).await;
        scene.follows(&COPIES, &value).await;
        due += COPIES.len();
        open.send(true).unwrap();
        late.rule(deaf);
        until("each change is counted", async || written(&scene).await - before >= due).await;
    }
    scene.looked_again().await;
    assert_eq!(late.count("patch", "secrets/"), 0, "it has nothing newer to write");
    assert_eq!(written(&scene).await - before, due, "each change is written once, by one of them");
    scene.end().await;
}

#[tokio::test]
async fn somebody_who_will_not_stop_is_told_of_and_left_alone() {
    let scene = Scene::start(1).await;
    let service = scene.service();
    scene.relay.forget();
    let fight = async {
        loop {
            if !scene.has("app", "never").await {
                // The two may well write at once.
                let _ = scene.meddle("app", "theirs").await;
            }
            tokio::task::yield_now().await;
        }
    };
    let told = service.says("secret/app/copy", Phase::Failed, "somebody keeps changing it");
    tokio::select! {
        () = fight => {}
        () = told => {}
    }
    scene.looked_again().await;
    assert!(scene.writes(&["app"]) <= CORRECTIONS + 1, "{}", scene.writes(&["app"]));
    service.counts("refused", 1).await;
    until("each correction is counted", async || {
        format!("{}", service.metric("rollcall_secret_drift_corrected_total").await)
            == CORRECTIONS.to_string()
    })
    .await;
    assert_eq!(scene.cluster.keys("secret/app/copy").await.unwrap()["password"], "theirs");

    // The others follow all the while, and it does too once it is given up.
    scene.change("later").await;
    scene.follows(&COPIES[1..], "later").await;
    scene.cluster.admin().delete("secret", "app", "copy").await.unwrap();
    scene.follows(&COPIES, "later").await;
    scene.settled().await;
    scene.end().await;
}

#[tokio::test]
async fn credentials_that_are_no_longer_good_are_read_anew() {
    let cluster = Cluster::start(&[&dev()]).await;
    let good = cluster.syncer().await;
    let token = good.kubeconfig.with_extension("token");
    let valid = std::fs::read(&token).unwrap();
    std::fs::write(&token, "expired").unwrap();
    let mut scene = Scene::over(cluster, &good).await;
    scene.serve(&good, "syncer").await;
    let service = scene.service();
    service.says("secret/app/copy", Phase::Waiting, "does not accept our credentials").await;
    service.counts("pending", COPIES.len() + 1).await;
    assert!(service.is_live().await);
    std::fs::write(&token, valid).unwrap();
    scene.settled().await;

    // Not good any more in the middle, because whose they are is gone.
    let (namespace, name) = ACCOUNT;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
    scene.cluster.admin().call("DELETE", &path, None).await.unwrap();
    service.counts("pending", COPIES.len() + 1).await;
    scene.change("meanwhile").await;
    std::fs::write(&token, scene.cluster.token(3600).await).unwrap();
    scene.follows(&COPIES, "meanwhile").await;
    scene.settled().await;
    scene.end().await;
}
