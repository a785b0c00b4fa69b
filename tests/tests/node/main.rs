//! A whole Kubernetes: an environment is installed with Helm, comes up in order whatever fails meanwhile, and says why while it
//! does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

mod applied;
mod delegated;
mod foreign;
mod neighbours;
mod openg2p;
mod releases;
mod rights;

use std::time::Duration;

use acceptance::charts::Charts;
use acceptance::node::{Place, READY, Shop};
use acceptance::{catalog, text};
use sandbox::{Daemon, Helm};
use serde_json::{Value, json};

const HUB: &str = "app.kubernetes.io/component=hub";
const MODULE: &str = "app=own";
const MISSING: &str = "secret/base/pg-admin";

/// Installs everything while the administrator's Secret is missing, and waits until that is said.
async fn installed(place: &Place) -> Shop {
    let shop = Shop::new(place).await;
    place.install(&["upgrade", "env", "environment", "--namespace", "base"], &shop.environment);
    place.install(&["upgrade", "own", "own", "--namespace", "shop"], &shop.module);
    place.until("the hub is ready", async || place.is_ready("base", HUB)).await;
    place
        .until("it is said what is missing", async || {
            text(&place.rollcall(&["explain", "module/orders", "-n", "base"])).contains(MISSING)
        })
        .await;
    shop
}

fn name(place: &Place) -> String {
    place.pod("shop", MODULE)["metadata"]["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn an_environment_comes_up_in_order_and_says_why_while_it_does_not() {
    let place = Place::new().await;
    let shop = installed(&place).await;
    // Whoever looks at the pod reads it there.
    let pod = name(&place);
    place
        .until("the pod says why it waits", async || {
            let described = place.kubectl(&["describe", "pod", &pod, "-n", "shop"]);
            described.contains("WaitingForDependencies") && described.contains(MISSING)
        })
        .await;
    assert!(!place.is_ready("shop", MODULE));

    shop.make_secret(&place);
    place.comes_up("base").await;
    assert!(place.is_ready("shop", MODULE));
    place
        .until("the pod says that it waits no more", async || {
            place.kubectl(&["describe", "pod", &pod, "-n", "shop"]).contains("DependenciesReady")
        })
        .await;
    // The exporter hears of it from the bus, a moment later than the hub.
    place
        .until("the story is told", async || {
            let story = text(&place.rollcall(&["timeline", "-n", "base"]));
            story.contains("module/orders") && story.contains("every module is ready")
        })
        .await;
    // Also by the name that the kubeconfig has for the cluster, and not by another.
    let context = place.kubectl(&["config", "current-context"]);
    let status = ["status", "-n", "base", "--context"];
    assert!(text(&place.rollcall(&[&status[..], &[context.trim()]].concat())).contains("module/orders"));
    let wrong = place.rollcall(&[&status[..], &["elsewhere"]].concat());
    assert!(!wrong.status.success() && text(&wrong).contains("elsewhere"), "{}", text(&wrong));
    an_old_chart_takes_another_image(&place, &shop).await;
    foreign::wait(&place, &shop).await;
    delegated::provision(&place, &shop).await;
    place.sandbox.stop().await.unwrap();
}

/// OpenG2P's own chart, as it was and with nothing but the image changed: its Job makes the database. Whose it is the pod tells.
async fn an_old_chart_takes_another_image(place: &Place, shop: &Shop) {
    let (host, port) = shop.address.rsplit_once(':').unwrap();
    let values = json!({
        // There is no registry to pull from.
        "image": {"repository": "localhost/rollcall/postgres-init", "tag": "1", "pullPolicy": "IfNotPresent"},
        "postgresql": {"host": host, "port": port, "existingSecret": "pg-admin", "existingSecretPostgresPasswordKey": "password"},
        "databases": [{"name": "old_database", "user": "old_user", "secret": "old-db", "secretUserPasswordKey": "password"}],
    });
    place.install(&["upgrade", "old", "openg2p-postgres-init", "--namespace", "base"], &values);
    place
        .until("its Job is done", async || {
            let jobs = place.json(&["get", "jobs", "-n", "base"]);
            let old = |job: &Value| job["metadata"]["name"].as_str().unwrap().starts_with("old-");
            let mut jobs = jobs["items"].as_array().unwrap().iter();
            jobs.any(|job| old(job) && job["status"]["succeeded"] == 1)
        })
        .await;
    let owner = "SELECT environment_name || '/' || fragment FROM rollcall.owned WHERE name = 'old_database'";
    let owner = catalog::rows_of(&shop.postgres, "rollcall", owner).await;
    assert!(owner.len() == 1 && owner[0].contains("base/"), "{owner:?}");
}

/// What one may lose at any time, but for the module itself.
const PARTS: [&str; 5] = ["hub", "telemetry-exporter", "secret-syncer", "postgres-init", "topic-provisioner"];

fn kill(place: &Place, namespace: &str, label: &str) {
    place.kubectl(&["delete", "pod", "-n", namespace, "-l", label, "--grace-period=0", "--force"]);
}

fn kill_part(place: &Place, component: &str) {
    kill(place, "base", &format!("app.kubernetes.io/component={component}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn whatever_fails_meanwhile_it_comes_up() {
    let place = Place::new().await;
    let shop = installed(&place).await;
    for component in PARTS {
        kill_part(&place, component);
    }
    kill(&place, "shop", MODULE);
    place.node.restart(Daemon::Containerd).await.unwrap();
    place.node.ready(READY).await.unwrap();
    // As long as an upgrade of a control plane: leases end, and whoever reads through it has given up by then.
    let server = place.node.daemon(Daemon::ApiServer).unwrap();
    server.kill().await.unwrap();
    assert!(!place.rollcall(&["status", "-n", "base"]).status.success());
    tokio::time::sleep(Duration::from_mins(1)).await;
    server.start().await.unwrap();
    place.node.ready(READY).await.unwrap();
    place
        .until("it is said again what is missing", async || {
            text(&place.rollcall(&["explain", "module/orders", "-n", "base"])).contains(MISSING)
        })
        .await;
    assert!(!place.is_ready("shop", MODULE));
    shop.make_secret(&place);
    // In the middle of their work, all at once; and each at its work, one after the other.
    for component in PARTS {
        kill_part(&place, component);
    }
    for component in PARTS {
        kill_part(&place, component);
        place
            .until("another one is ready", async || {
                place.is_ready("base", &format!("app.kubernetes.io/component={component}"))
            })
            .await;
    }
    place.comes_up("base").await;
    place.until("the module is ready", async || place.is_ready("shop", MODULE)).await;
    place.sandbox.stop().await.unwrap();
}

/// Helm's arguments, and that it waits for the release.
fn waited(args: [&str; 5]) -> Vec<&str> {
    args.into_iter().chain(["--wait", "--timeout", "5m"]).collect()
}

/// A module that waits for what a hook makes after the release: Helm waits for the module first, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn what_dead_locks_with_hooks_does_not_without() {
    let place = Place::new().await;
    let image = "localhost/rollcall/wait-for-dependency:1";
    let hooked = place.helm(
        &["install", "hooked", "hooked", "--wait", "--timeout", "20s"],
        &json!({"image": image, "hook": true}),
    );
    assert!(!hooked.status.success(), "{}\n{}", text(&hooked), place.pods());
    assert!(!place.is_ready("default", "app=module"), "{}", place.pods());
    let made = place.kubectl(&["get", "pods", "-l", "app=made", "-o", "name"]);
    assert_eq!(made, "", "what it waits for was never begun");
    let gone = place.charts.over(place.node.kubeconfig(), &["uninstall", "hooked", "--wait"]);
    assert!(gone.status.success(), "{}", text(&gone));

    let plain = place.helm(
        &["install", "plain", "hooked", "--wait", "--timeout", "5m"],
        &json!({"image": image, "hook": false}),
    );
    assert!(plain.status.success(), "{}\n{}", text(&plain), place.pods());

    // The same of a whole environment, the module's release first, each waited for by Helm: by Helm 3, and by Helm 4.
    let newer = Charts::with(&place.sandbox, Helm::V4).await;
    let shop = Shop::new(&place).await;
    shop.make_secret(&place);
    std::thread::scope(|scope| {
        let module = scope
            .spawn(|| place.helm(&waited(["install", "own", "own", "--namespace", "shop"]), &shop.module));
        let args = waited(["install", "env", "environment", "--namespace", "base"]);
        let values = newer.values("environment", &shop.environment);
        let args = [&args[..], &["--values", &values]].concat();
        let environment = newer.over(place.node.kubeconfig(), &args);
        assert!(environment.status.success(), "{}\n{}", text(&environment), place.pods());
        let module = module.join().unwrap();
        assert!(module.status.success(), "{}\n{}", text(&module), place.pods());
    });
    place.comes_up("base").await;
    place.sandbox.stop().await.unwrap();
}
