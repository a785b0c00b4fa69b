//! secret-syncer, as one process or more, over a cluster by way of a relay: one Secret that somebody else makes, copied to
//! several namespaces.

use lifecycle::document::Environment;
use serde_json::json;

use crate::cluster::{Cluster, User, environment, folder};
use crate::relay::Relay;
use crate::syncer::{Service, nowhere};
use crate::until;

/// What is in every value of the source.
pub const PLANTED: &str = "PLANTEDsourceA7f3Kq9vX2mZ";
/// Where the copies go.
pub const COPIES: [&str; 3] = ["app", "two", "three"];
/// The namespace, and what its fragment says.
const FRAGMENTS: [(&str, &str); 2] = [
    ("base", "secrets: {origin: {external: true}}"),
    ("app", "secrets: {copy: {copy: {from: base/origin, to: [app, two, three]}}}"),
];
/// How often everything is looked at again; one watch lasts four times as long.
const RESYNC: &str = "2s";

/// A cluster, and what runs over it.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// What stands between.
    pub relay: Relay,
    /// The processes.
    pub services: Vec<Service>,
}

/// What the scene's documents say.
pub fn dev() -> Environment {
    environment(7, &FRAGMENTS)
}

impl Scene {
    /// A scene with so many processes, each as good as the other, where everything is as it should be.
    pub async fn start(processes: usize) -> Scene {
        let cluster = Cluster::start(&[&dev()]).await;
        let syncer = cluster.syncer().await;
        let mut scene = Scene::over(cluster, &syncer).await;
        for number in 0..processes {
            scene.serve(&syncer, &format!("syncer-{number}")).await;
        }
        scene.settled().await;
        scene
    }

    /// A scene with no process yet, for this user.
    pub async fn over(cluster: Cluster, user: &User) -> Scene {
        let relay = Relay::start(&user.kubeconfig).await;
        let scene = Scene { cluster, relay, services: Vec::new() };
        scene.change("first").await;
        scene
    }

    /// One process more.
    pub async fn serve(&mut self, user: &User, name: &str) {
        let user = user.by_way_of(self.relay.kubeconfig(&user.kubeconfig));
        self.serve_as(&user, name).await;
    }

    /// One process more, on its user's own way to the cluster.
    pub async fn serve_as(&mut self, user: &User, name: &str) {
        let documents = folder(&self.cluster.dir().join("documents"), 7, &FRAGMENTS);
        let more = [("ROLLCALL_RESYNC", RESYNC), ("ROLLCALL_LOG", "trace")];
        let service = self.cluster.serve(user, &documents, name, &more).await;
        service.answers().await;
        self.services.push(service);
    }

    /// The first process.
    pub fn service(&self) -> &Service {
        &self.services[0]
    }

    /// Gives the source another value.
    pub async fn change(&self, value: &str) {
        self.cluster.secret("base", "origin", &[("password", &of(value))]).await;
    }

    /// Somebody else gives a copy another value.
    pub async fn meddle(&self, namespace: &str, value: &str) -> Result<(), kube::Error> {
        let patch = json!({"stringData": {"password": value}});
        self.cluster.admin().edit("secret", namespace, "copy", patch).await
    }

    /// Whether the copy in a namespace has the value.
    pub async fn has(&self, namespace: &str, value: &str) -> bool {
        let keys = self.cluster.keys(&format!("secret/{namespace}/copy")).await;
        keys.is_some_and(|keys| keys.get("password") == Some(&of(value)))
    }

    /// Waits until the copies in these namespaces have the value.
    pub async fn follows(&self, namespaces: &[&str], value: &str) {
        for namespace in namespaces {
            until(&format!("{namespace} has {value}"), async || self.has(namespace, value).await).await;
        }
    }

    /// Waits until every process says that everything is as it should be.
    pub async fn settled(&self) {
        for service in &self.services {
            until(&format!("{} is settled", service.handle.name()), async || {
                service.targets("synced").await == COPIES.len() + 1
            })
            .await;
        }
    }

    /// How many writes there were, whatever came of them, of the copies in these namespaces.
    pub fn writes(&self, namespaces: &[&str]) -> usize {
        namespaces.iter().map(|namespace| self.relay.count("patch", &format!("secrets/{namespace}/"))).sum()
    }

    /// Waits until every process has looked at everything twice more.
    pub async fn looked_again(&self) {
        let before = self.relay.count("get", "secrets/");
        let looks = self.services.len() * (COPIES.len() + 1) * 2;
        until("everything is looked at again", async || {
            self.relay.count("get", "secrets/") >= before + looks
        })
        .await;
    }

    /// Ends it, if no value is anywhere but in the cluster.
    pub async fn end(self) {
        nowhere(&self.cluster, &self.services.iter().collect::<Vec<_>>(), &[PLANTED]).await;
        self.cluster.stop().await;
    }
}

fn of(value: &str) -> String {
    format!("{value} '{PLANTED}' \"{value}\"")
}
