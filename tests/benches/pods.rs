//! What waiting costs a pod on a real node, an environment the node's memory, and an install time.
//!
//! ```sh
//! cargo bench --package acceptance --bench pods        # as root, 7 minutes after building; BENCH_SAMPLES=3 for a quick look
//! ```
//!
//! *Pods*: from the request that creates a pod until its main container says so over TCP; both ends are seen by this process.
//! All that the pod needs (a login to PostgreSQL or its port, a topic or a broker's port) is there already, so what is measured
//! is the price of asking. Kinds of pods take turns, one at a time, so that all meet the same machine:
//! - bare: the main container alone, the baseline.
//! - shell: an init container with bash, `until …; do sleep 1; done` over both ports, one after the other.
//! - tcp: `rollcall.wait` with both ports inline, as much as the shell sees.
//! - login: `rollcall.wait` with a login to the database and the topic inline: what a module really needs.
//! - documents: `rollcall.wait` with a module of the environment's documents and its hub.
//!
//! *Install*: OpenG2P with stand-ins, from the start of `helm upgrade --install` to everything being ready, over what the
//! components of its critical path worked. *Memory*: what the kubelet counts of its hub, exporter and provisioners after that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

#[path = "pods/pod.rs"]
mod pod;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use acceptance::measure::{Spread, asked, number, rollcall, rounded};
use acceptance::node::{Alone, Place, Servers, Shop, Whole, texts};
use pod::{Kind, Yard};
use serde_json::{Value, json};

/// Where OpenG2P is installed.
const NAMESPACE: &str = "openg2p";
/// Between everything being ready and the reading of memory; the kubelet counts every ten seconds or so.
const SETTLE: Duration = Duration::from_secs(30);

fn main() {
    if asked("pods") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    let place = Place::of(&rollcall(), Alone::new().await).await;
    let shop = Shop::new(&place).await;
    shop.make_secret(&place);
    place.install(&["upgrade", "env", "environment", "--namespace", "base"], &shop.environment);
    place.install(&["upgrade", "own", "own", "--namespace", "shop"], &shop.module);
    place.comes_up("base").await;
    let pods = pods(&place, &shop).await;
    place.kubectl(&["delete", "namespace", "base", "shop"]);

    let servers = Servers::new(&place).await;
    servers.found_in(&place, NAMESPACE);
    let install = install(&place).await;
    tokio::time::sleep(SETTLE).await;
    let memory = memory(&place);
    println!("{}", json!({"bench": "pods", "install": install, "pods": pods, "memory": memory}));
    place.sandbox.stop().await.unwrap();
}

/// OpenG2P, its modules' release beside the environment's.
async fn install(place: &Place) -> Value {
    let whole =
        Whole::of(&texts(&["bridge", "commons-base", "commons-services", "pbms", "registry", "spar"]));
    let begun = Instant::now();
    whole.install(place);
    let installed = begun.elapsed();
    place.comes_up(NAMESPACE).await;
    let ready = begun.elapsed();
    let mut story = Value::Null;
    place
        .until("the exporter's story is whole", async || {
            let told = place.rollcall(&["timeline", "-n", NAMESPACE, "--output", "json"]);
            story = serde_json::from_slice(&told.stdout).unwrap_or_default();
            story["complete"] == true
        })
        .await;
    let entries = story["entries"].as_array().unwrap();
    let worked = |component: &Value| {
        entries.iter().find(|entry| entry["component"] == *component)?["worked_seconds"].as_f64()
    };
    let worked: f64 = story["critical_path"].as_array().unwrap().iter().filter_map(worked).sum();
    let [installed, ready] = [installed, ready].map(|took| took.as_secs_f64());
    println!(
        "\nOpenG2P, {} components: Helm took {installed:.1} s, all was ready after {ready:.1} s; the critical path worked {worked:.1} s of them: {}",
        entries.len(),
        story["critical_path"],
    );
    json!({
        "components": entries.len(), "helm_seconds": rounded(installed), "ready_seconds": rounded(ready),
        "told_seconds": story["seconds"], "critical_path": story["critical_path"],
        "path_worked_seconds": rounded(worked), "ready_to_path": rounded(ready / worked),
    })
}

async fn pods(place: &Place, shop: &Shop) -> Value {
    let yard = Yard::new(place, shop).await;
    let samples = number("BENCH_SAMPLES", 20_usize);
    // The first of each kind finds nothing in any cache.
    for kind in Kind::ALL {
        yard.sample(kind).await;
    }
    let mut taken: BTreeMap<Kind, Vec<_>> = BTreeMap::new();
    for _ in 0..samples {
        for kind in Kind::ALL {
            taken.entry(kind).or_default().push(yard.sample(kind).await);
        }
    }
    println!("\nfrom created to the main container's first word, in ms; {samples} samples each");
    println!("{:12}{:>9}{:>9}{:>9}{:>14}{:>14}", "", "p50", "p90", "max", "p50 to bare", "more than bare");
    let spread = |kind: Kind| Spread::of(taken[&kind].iter().copied());
    let bare = spread(Kind::Bare).quantile(50);
    let lines = Kind::ALL.map(|kind| {
        let [p50, p90, max] = [50, 90, 100].map(|hundredths| spread(kind).quantile(hundredths));
        println!("{:12}{p50:9.0}{p90:9.0}{max:9.0}{:14.2}{:14.0}", kind.name(), p50 / bare, p50 - bare);
        let line = json!({
            "p50": rounded(p50), "p90": rounded(p90), "max": rounded(max), "p50_to_bare": rounded(p50 / bare),
        });
        (kind.name().to_owned(), line)
    });
    Value::Object(lines.into_iter().collect())
}

/// What the kubelet counts, in KiB.
fn memory(place: &Place) -> Value {
    let nodes = place.json(&["get", "nodes"]);
    let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap();
    let stats = place.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let all = stats["pods"].as_array().unwrap().iter().filter(|pod| pod["podRef"]["namespace"] == NAMESPACE);
    let name = |pod: &Value| pod["podRef"]["name"].as_str().unwrap().to_owned();
    let ours: Vec<&Value> = all.filter(|pod| name(pod).starts_with("env-environment-")).collect();
    assert_eq!(ours.len(), 5, "hub, exporter and three provisioners: {stats:#}");
    println!("\nmemory in KiB, as the kubelet counts it: working set, of which anonymous");
    let (mut pods, mut sum) = (serde_json::Map::new(), [0, 0]);
    for pod in ours {
        let found = ["workingSetBytes", "rssBytes"].map(|what| pod["memory"][what].as_u64().unwrap() / 1024);
        println!("{:60}{:9}{:9}", name(pod), found[0], found[1]);
        sum = [sum[0] + found[0], sum[1] + found[1]];
        pods.insert(name(pod), json!(found));
    }
    println!("{:60}{:9}{:9}", "all", sum[0], sum[1]);
    json!({"pods": pods, "working_set_kib": sum[0], "anonymous_kib": sum[1]})
}
