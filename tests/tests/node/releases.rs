//! This release and the one before it, in one environment: each hub, waiter and provisioner meets those of the other.

use acceptance::charts::Charts;
use acceptance::node::{Alone, Place, Shop};
use acceptance::previous::Previous;
use acceptance::{binary, text};
use serde_json::Value;

use self::Release::{Newer, Older};

const MODULE: &str = "app=own";
const ENVIRONMENT: [&str; 4] = ["env", "environment", "--namespace", "base"];
const OWN: [&str; 4] = ["own", "own", "--namespace", "shop"];

/// What runs beside the hub: the key of its values, and its component.
const PROVISIONERS: [(&str, &str); 4] = [
    ("postgresInit", "postgres-init"),
    ("topicProvisioner", "topic-provisioner"),
    ("secretSyncer", "secret-syncer"),
    ("telemetryExporter", "telemetry-exporter"),
];

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

impl Release {
    fn tag(self) -> &'static str {
        match self {
            Older => "0",
            Newer => "1",
        }
    }
}

impl Releases {
    /// Installs or upgrades with a release's charts and images, and waits until that runs.
    #[track_caller]
    fn put(&self, release: Release, name: [&str; 4], values: &Value) {
        self.set(release, name, &tagged(values, release));
    }

    /// The environment with the hub of one release, and with provisioners and exporter of the other.
    #[track_caller]
    fn cross(&self, hub: Release, provisioners: Release, values: &Value) {
        let mut values = tagged(values, hub);
        for (key, _) in PROVISIONERS {
            values[key]["image"]["tag"] = provisioners.tag().into();
        }
        self.set(hub, ENVIRONMENT, &values);
    }

    #[track_caller]
    fn set(&self, release: Release, name: [&str; 4], values: &Value) {
        let charts = match release {
            Older => &self.older,
            Newer => &self.place.charts,
        };
        let file = charts.values(name[1], values);
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
    async fn rescheduled(&self, shop: &Shop, runs: Runs) {
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
        assert_eq!(image(&pod["spec"]["initContainers"][0]), runs.waiter, "{pod:#}");
        for (_, component) in PROVISIONERS.into_iter().chain([("hub", "hub")]) {
            let pod = place.pod("base", &format!("app.kubernetes.io/component={component}"));
            let is = if component == "hub" { runs.hub } else { runs.provisioners };
            assert_eq!(image(&pod["spec"]["containers"][0]), is, "{component}");
        }
    }
}

/// What runs of which release.
struct Runs {
    hub: Release,
    provisioners: Release,
    waiter: Release,
}

/// Values with the images of this release.
fn tagged(values: &Value, release: Release) -> Value {
    let text = values.to_string().replace(r#""tag":"1""#, &format!(r#""tag":"{}""#, release.tag()));
    serde_json::from_str(&text).unwrap()
}

fn image(container: &Value) -> Release {
    if container["image"].as_str().unwrap().ends_with(":0") { Older } else { Newer }
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

    let runs = |hub, provisioners, waiter| both.rescheduled(&shop, Runs { hub, provisioners, waiter });

    both.put(Older, ENVIRONMENT, &shop.environment);
    both.put(Older, OWN, &shop.module);
    runs(Older, Older, Older).await;
    let made = shop.made(&both.place).await;

    both.put(Newer, ENVIRONMENT, &shop.environment);
    runs(Newer, Newer, Older).await;
    both.put(Newer, OWN, &shop.module);
    runs(Newer, Newer, Newer).await;
    both.cross(Newer, Older, &shop.environment);
    runs(Newer, Older, Newer).await;
    both.cross(Older, Newer, &shop.environment);
    runs(Older, Newer, Newer).await;
    both.back(ENVIRONMENT, "1");
    runs(Older, Older, Newer).await;

    // Nobody made anew what another release had made.
    assert_eq!(shop.made(&both.place).await, made);
    both.place.sandbox.stop().await.unwrap();
}
