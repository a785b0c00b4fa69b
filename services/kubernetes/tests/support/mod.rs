//! A real API server, and what an administrator does with it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::time::Duration;

use chassis::SecretValue;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kubernetes::{Cluster, Desired, Name, Resource};
use sandbox::{Kubernetes, Options, Sandbox, Supervisor};
use serde_json::{Value, json};

const READY: Duration = Duration::from_mins(2);
/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Server {
    sandbox: Sandbox,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) admin: Cluster,
    client: Client,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let sandbox = Sandbox::start(Options::new(Supervisor::of_this_test("supervises")))
            .await
            .expect("a sandbox starts");
        let kubernetes = sandbox.kubernetes().await.expect("made");
        kubernetes.ready(READY).await.expect("ready");
        let kubeconfig = kubernetes.admin().expect("written");
        let admin = Cluster::of_kubeconfig(&kubeconfig).await.expect("usable");
        let client = client(&kubeconfig).await;
        Server { sandbox, kubernetes, admin, client }
    }

    pub(crate) async fn stop(self) {
        self.sandbox.stop().await.expect("it stops");
    }

    /// Makes an object, as `kubectl create` would.
    pub(crate) async fn create(&self, object: Value) {
        let text = |key: &str| object[key].as_str().expect("text").to_owned();
        let (group, version) = match text("apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), text("apiVersion")),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &text("kind")));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        api.create(&kube::api::PostParams::default(), &object).await.expect("created");
    }

    pub(crate) async fn namespace(&self, name: &str) {
        self.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    }

    /// Answers a raw request with JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = http::Request::post(path).header("content-type", "application/json");
        self.client
            .request(request.body(body.to_string().into_bytes()).expect("a request"))
            .await
            .expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.client
            .request(http::Request::get(path).body(Vec::new()).expect("a request"))
            .await
            .expect("an answer")
    }

    pub(crate) async fn delete(&self, path: &str) {
        let request = http::Request::delete(path).body(Vec::new()).expect("a request");
        self.client.request::<Value>(request).await.expect("an answer");
    }

    /// Somebody who may do these to these secrets of this namespace, and nothing else.
    pub(crate) async fn somebody(
        &self,
        user: &str,
        namespace: &str,
        names: &[&str],
        verbs: &[&str],
    ) -> Cluster {
        let metadata = json!({"name": user, "namespace": namespace});
        let rules = json!([{"apiGroups": [""], "resources": ["secrets", "configmaps"], "resourceNames": names, "verbs": verbs}]);
        self.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules,
        }))
        .await;
        self.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .await;
        let kubeconfig = self.kubernetes.kubeconfig(user, "people").expect("written");
        Cluster::of_kubeconfig(&kubeconfig).await.expect("usable")
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("readable");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a config")).expect("a client")
}

pub(crate) fn secret(namespace: &str, name: &str) -> Name {
    Name { resource: Resource::Secret, namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(crate) fn keys(values: &[(&str, &str)]) -> Desired {
    let data = values.iter().map(|(key, value)| ((*key).to_owned(), SecretValue::new(*value))).collect();
    Desired { data, ..Desired::default() }
}

/// Asks again until it holds: RBAC takes effect with a delay of some milliseconds.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
