//! This release and the one before it, in one environment: each hub, waiter and provisioner meets those of the other.

use acceptance::charts::Charts;
use acceptance::node::{Alone, Place, Shop};
use acceptance::previous::Previous;
use acceptance::{binary, text};
use serde_json::Value;

const MODULE: &str = "app=own";
const ENVIRONMENT: [&str; 4] = ["env", "environment", "--namespace", "base"];
const OWN: [&str; 4] = ["own", "own", "--namespace", "shop"];

/// Both releases as charts and images.
struct Releases {
    place: Place,
    older: Charts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The one before this one; its images have tag 0.
    Older,
    /// This one, tag 1.
    Newer,
}

impl Releases {
    /// Installs or upgrades with a release's charts and images, and waits until that runs.
    #[track_caller]
    fn put(&self, release: Release, name: [&str; 4], values: &Value) {
        let (charts, tag) = match release {
            Release::Older => (&self.older, "0"),
            Release::Newer => (&self.place.charts, "1"),
        };
        let file = charts.values(name[1], &tagged(values, tag));
        let args = ["upgrade", "--install", "--wait", "--timeout", "5m", "--values", &file];
        let done = charts.over(self.place.node.kubeconfig(), &[&args[..], &name].concat());
        assert!(done.status.success(), "{release:?} {name:?}: {}\n{}", text(&done), self.place.pods());
    }

    /// Takes Helm's release back to a revision, and waits until that runs.
    #[track_caller]
    fn back(&self, name: [&str; 4], revision: &str) {
        let args = ["rollback", name[0], revision, "--wait", "--timeout", "5m", name[2], name[3]];
        let done = self.place.charts.over(self.place.node.kubeconfig(), &args);
        assert!(done.status.success(), "{name:?}: {}\n{}", text(&done), self.place.pods());
    }

    /// The module's pod goes while its server is down; the one that comes hears of the hub, and everything is ready in the end.
    async fn rescheduled(&self, shop: &Shop, hub: Release, waiter: Release) {
        let place = &self.place;
        shop.postgres.stop().await.unwrap();
        let gone = place.pod("shop", MODULE)["metadata"]["uid"].clone();
        place.kubectl(&["delete", "pod", "-n", "shop", "-l", MODULE]);
        place
            .until("the hub is heard by another pod", async || {
                let pods = place.staying("shop", MODULE);
                let [pod] = &pods[..] else { return false };
                let name = pod["metadata"]["name"].as_str().unwrap();
                let log = ["logs", name, "-n", "shop", "-c", "rollcall-wait"];
                let log = place.node.kubectl().args(log).output().unwrap();
                pod["metadata"]["uid"] != gone && text(&log).contains("the hub's stream lives")
            })
            .await;
        assert!(!place.is_ready("shop", MODULE));
        shop.postgres.start().await.unwrap();
        place.until("the module is ready", async || place.is_ready("shop", MODULE)).await;
        place.comes_up("base").await;
        let pod = place.pod("shop", MODULE);
        assert_eq!(image(&pod["spec"]["initContainers"][0]), waiter, "{pod:#}");
        for component in ["hub", "postgres-init", "topic-provisioner", "secret-syncer", "telemetry-exporter"]
        {
            let pod = place.pod("base", &format!("app.kubernetes.io/component={component}"));
            assert_eq!(image(&pod["spec"]["containers"][0]), hub, "{component}");
        }
    }
}

/// Values with the images of this tag.
fn tagged(values: &Value, tag: &str) -> Value {
    let text = values.to_string().replace(r#""tag":"1""#, &format!(r#""tag":"{tag}""#));
    serde_json::from_str(&text).unwrap()
}

fn image(container: &Value) -> Release {
    if container["image"].as_str().unwrap().ends_with(":0") { Release::Older } else { Release::Newer }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn an_environment_is_upgraded_piece_by_piece_and_taken_back() {
    let alone = Alone::new().await;
    let previous = Previous::get(&alone);
    let place = Place::of(binary(), alone).await;
    place.load(&previous.program, "0").await;
    let older = Charts::from(&place.sandbox, &previous.source, "older").await;
    older.add("own", &previous.source.join("tests/charts/own"));
    let shop = Shop::new(&place).await;
    shop.make_secret(&place);
    let both = Releases { place, older };

    both.put(Release::Older, ENVIRONMENT, &shop.environment);
    both.put(Release::Older, OWN, &shop.module);
    both.rescheduled(&shop, Release::Older, Release::Older).await;
    let made = shop.made(&both.place).await;

    both.put(Release::Newer, ENVIRONMENT, &shop.environment);
    both.rescheduled(&shop, Release::Newer, Release::Older).await;
    both.put(Release::Newer, OWN, &shop.module);
    both.rescheduled(&shop, Release::Newer, Release::Newer).await;
    both.back(ENVIRONMENT, "1");
    both.rescheduled(&shop, Release::Older, Release::Newer).await;

    // Nobody made anew what another release had made.
    assert_eq!(shop.made(&both.place).await, made);
    both.place.sandbox.stop().await.unwrap();
}
