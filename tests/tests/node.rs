//! A whole Kubernetes: an environment is installed with Helm, comes up in order whatever fails meanwhile, and says why while it
//! does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::node::{Place, READY, Shop};
use acceptance::{text, until};
use sandbox::Daemon;
use serde_json::json;

const HUB: &str = "app.kubernetes.io/component=hub";
const MODULE: &str = "app=own";
const MISSING: &str = "secret/base/pg-admin";

/// Installs everything while the administrator's Secret is missing, and waits until that is said.
async fn installed(place: &Place) -> Shop {
    let shop = Shop::new(place).await;
    place.install(&["upgrade", "env", "environment", "--namespace", "base"], &shop.environment);
    place.install(&["upgrade", "own", "own", "--namespace", "shop"], &shop.module);
    until("the hub is ready", async || place.is_ready("base", HUB)).await;
    until("it is said what is missing", async || {
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
    until("the pod says why it waits", async || {
        let described = place.kubectl(&["describe", "pod", &pod, "-n", "shop"]);
        described.contains("WaitingForDependencies") && described.contains(MISSING)
    })
    .await;
    assert!(!place.is_ready("shop", MODULE));

    shop.make_secret(&place);
    place.comes_up("base").await;
    assert!(place.is_ready("shop", MODULE));
    until("the pod says that it waits no more", async || {
        place.kubectl(&["describe", "pod", &pod, "-n", "shop"]).contains("DependenciesReady")
    })
    .await;
    let story = text(&place.rollcall(&["timeline", "-n", "base"]));
    assert!(story.contains("module/orders") && story.contains("every module is ready"), "{story}");
    place.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn whatever_fails_meanwhile_it_comes_up() {
    let place = Place::new().await;
    let shop = installed(&place).await;
    for component in ["hub", "telemetry-exporter", "secret-syncer", "postgres-init", "topic-provisioner"] {
        let label = format!("app.kubernetes.io/component={component}");
        place.kubectl(&["delete", "pod", "-n", "base", "-l", &label, "--grace-period=0", "--force"]);
    }
    place.kubectl(&["delete", "pod", "-n", "shop", "-l", MODULE, "--grace-period=0", "--force"]);
    place.node.restart(Daemon::Containerd).await.unwrap();
    place.node.ready(READY).await.unwrap();
    // What is missing appears while nobody can ask the API server for it.
    let server = place.node.daemon(Daemon::ApiServer).unwrap();
    shop.make_secret(&place);
    server.kill().await.unwrap();
    assert!(!place.rollcall(&["status", "-n", "base"]).status.success());
    server.start().await.unwrap();
    place.node.ready(READY).await.unwrap();
    place.comes_up("base").await;
    assert!(place.is_ready("shop", MODULE));
    place.sandbox.stop().await.unwrap();
}

/// Helm's arguments, and that it waits for the release.
fn waited(args: [&str; 5]) -> Vec<&str> {
    args.into_iter().chain(["--wait", "--timeout", "3m"]).collect()
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
        &["install", "plain", "hooked", "--wait", "--timeout", "3m"],
        &json!({"image": image, "hook": false}),
    );
    assert!(plain.status.success(), "{}\n{}", text(&plain), place.pods());

    // The same of a whole environment, the module's release first, each waited for by Helm.
    let shop = Shop::new(&place).await;
    shop.make_secret(&place);
    std::thread::scope(|scope| {
        let module = scope
            .spawn(|| place.helm(&waited(["install", "own", "own", "--namespace", "shop"]), &shop.module));
        let args = waited(["install", "env", "environment", "--namespace", "base"]);
        let environment = place.helm(&args, &shop.environment);
        assert!(environment.status.success(), "{}\n{}", text(&environment), place.pods());
        let module = module.join().unwrap();
        assert!(module.status.success(), "{}\n{}", text(&module), place.pods());
    });
    place.comes_up("base").await;
    place.sandbox.stop().await.unwrap();
}
