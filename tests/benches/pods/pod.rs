//! Pods of every kind, and how long each takes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::charts::matrix;
use acceptance::cluster::User;
use acceptance::node::{Place, Shop, images};
use acceptance::until;
use sandbox::image::{Base, Image};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const SHELL: &str = "localhost/shell:1";
/// Where images of tests have their program, which is bash in this one.
const AS: &str = "/rollcall";
const PODS: &str = "/api/v1/namespaces/shop/pods";
/// No pod takes longer, unless it never starts.
const STARTS: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bare,
    Shell,
    Tcp,
    Login,
    Documents,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [Kind::Bare, Kind::Shell, Kind::Tcp, Kind::Login, Kind::Documents];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Shell => "shell",
            Kind::Tcp => "tcp",
            Kind::Login => "login",
            Kind::Documents => "documents",
        }
    }
}

/// Where pods are made, and where they say that they have started.
pub(crate) struct Yard {
    admin: User,
    starts: TcpListener,
    pods: Vec<(Kind, Value)>,
}

impl Yard {
    pub(crate) async fn new(place: &Place, shop: &Shop) -> Yard {
        let shell = ["/bin/bash", "/bin/sleep"];
        let base = Base::of(shell).unwrap();
        let image = Image::of_program(SHELL, "bash", &base, Path::new("/bin/bash")).unwrap();
        place.node.load(&[image.file(Path::new("/bin/sleep"), "/bin/sleep").unwrap()]).await.unwrap();
        let starts = TcpListener::bind((place.node.host().unwrap(), 0)).await.unwrap();
        let said = starts.local_addr().unwrap();
        let pods = Kind::ALL.map(|kind| (kind, pod(kind, place, shop, said)));
        let admin = User::of(place.node.kubeconfig()).await;
        Yard { admin, starts, pods: pods.into() }
    }

    /// Makes a pod, waits until it says that it has started, and takes it away.
    pub(crate) async fn sample(&self, kind: Kind) -> Duration {
        let (_, pod) = self.pods.iter().find(|(of, _)| *of == kind).unwrap();
        let begun = Instant::now();
        let made = self.admin.call("POST", PODS, Some(pod.clone())).await.unwrap();
        let name = made["metadata"]["name"].as_str().unwrap();
        let said = tokio::time::timeout(STARTS, self.starts.accept()).await;
        let took = begun.elapsed();
        let Ok(said) = said else { panic!("{kind:?} never started: {:#}", self.get(name).await.unwrap()) };
        let mut word = String::new();
        said.unwrap().0.read_to_string(&mut word).await.unwrap();
        assert_eq!(word.trim(), kind.name(), "another pod than the one that was made");
        let at_once = json!({"gracePeriodSeconds": 0});
        self.admin.call("DELETE", &format!("{PODS}/{name}"), Some(at_once)).await.unwrap();
        until("the pod is gone", async || self.get(name).await.is_none()).await;
        took
    }

    async fn get(&self, name: &str) -> Option<Value> {
        self.admin.call("GET", &format!("{PODS}/{name}"), None).await.ok()
    }
}

/// The pod of chart `own`, its main container another.
fn pod(kind: Kind, place: &Place, shop: &Shop, said: SocketAddr) -> Value {
    let [postgres, kafka] = [&shop.address, &shop.brokers];
    let needs = match kind {
        Kind::Bare | Kind::Shell | Kind::Documents => json!([]),
        Kind::Tcp => json!([{"tcp": postgres}, {"tcp": kafka}]),
        Kind::Login => json!([
            {"postgres": {"host": said.ip(), "port": port(postgres), "database": "orders", "user": "orders", "sslmode": "disable", "password": {"secret": "orders-db", "key": "password"}}},
            {"kafka": format!("{kafka}/orders.events")},
        ]),
    };
    let values = match kind {
        Kind::Documents => shop.module.clone(),
        _ => json!({"image": SHELL, "rollcall": {"needs": needs, "image": images()}}),
    };
    let manifests = place.charts.render_as("own", "own", &values, &["--namespace", "shop"]);
    let mut pod = manifests.iter().find_map(matrix::pod).unwrap();
    pod["metadata"] = json!({"generateName": format!("{}-", kind.name()), "namespace": "shop"});
    let words = |script: String| json!([AS, "-c", script]);
    let [host, port] = [said.ip().to_string(), said.port().to_string()];
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["containers"] = json!([{
        "name": "main", "image": SHELL,
        "command": words(format!("echo {} > /dev/tcp/{host}/{port}; exec sleep 600", kind.name())),
    }]);
    if kind == Kind::Shell {
        let look = |at: &str| {
            let at = at.replace(':', "/");
            format!("until (: > /dev/tcp/{at}) 2>/dev/null; do sleep 1; done")
        };
        let script = [look(postgres), look(kafka)].join("; ");
        pod["spec"]["initContainers"] = json!([{"name": "wait", "image": SHELL, "command": words(script)}]);
    }
    assert_eq!(pod["spec"]["initContainers"].is_array(), kind != Kind::Bare, "{pod:#}");
    pod
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}
