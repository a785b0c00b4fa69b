//! A real API server, what an administrator and others do with it, and secret-syncer over it: in this process, or as the
//! real program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use chassis::converge::{Fault, Standing, Told, converge};
use chassis::metrics::Metrics;
use chassis::provision::Known;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kubernetes::Cluster as Door;
use lifecycle::document::Environment;
use sandbox::{KafkaOptions, Options, PostgresOptions, ProcessSpec, Sandbox, Supervisor};
use secret_syncer::{Kubernetes, Nowhere, Progress};
use serde_json::{Value, json};

pub use crate::fragments::{environment, folder};
use crate::syncer::Service;
use crate::{PATIENCE, binary};

/// The service account that secret-syncer runs as.
pub const ACCOUNT: (&str, &str) = ("rollcall", "secret-syncer");

/// A cluster: an API server and its etcd, nothing else.
pub struct Cluster {
    /// Where it runs.
    pub sandbox: Sandbox,
    /// The API server.
    pub server: sandbox::Kubernetes,
    admin: Client,
}

/// A user of the cluster.
#[derive(Clone)]
pub struct User {
    /// His kubeconfig.
    pub kubeconfig: PathBuf,
    client: Client,
}

impl Cluster {
    /// Starts one, with the namespaces that an environment's objects are in and the Roles that `rollcall rbac` prints for it.
    pub async fn start(environments: &[&Environment]) -> Cluster {
        let supervisor = Supervisor::command(binary(), ["sandbox-supervisor"]);
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let server = sandbox.kubernetes().await.unwrap();
        server.ready(PATIENCE).await.unwrap();
        let admin = client(&server.admin().unwrap()).await;
        let cluster = Cluster { sandbox, server, admin };
        cluster.namespace(ACCOUNT.0).await;
        for environment in environments {
            for namespace in namespaces(environment) {
                cluster.namespace(&namespace).await;
            }
            cluster.grant(environment).await;
        }
        cluster
    }

    /// Ends it.
    pub async fn stop(self) {
        self.sandbox.stop().await.unwrap();
    }

    /// A PostgreSQL server beside it.
    pub async fn postgres(&self) -> sandbox::Postgres {
        let server = self.sandbox.postgres(PostgresOptions::default()).await.unwrap();
        server.ready(PATIENCE).await.unwrap();
        server
    }

    /// A Kafka beside it, with these settings.
    pub async fn kafka(&self, options: KafkaOptions) -> sandbox::Kafka {
        let kafka = self.sandbox.kafka(options).await.unwrap();
        kafka.ready(PATIENCE).await.unwrap();
        kafka
    }

    /// The folder of everything in it.
    pub fn dir(&self) -> &Path {
        self.sandbox.dir()
    }

    /// Makes a namespace, if there is none.
    pub async fn namespace(&self, name: &str) {
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    }

    /// The administrator.
    pub fn admin(&self) -> User {
        User { kubeconfig: self.server.admin().unwrap(), client: self.admin.clone() }
    }

    /// Somebody with a client certificate and no rights but those that Roles give him.
    pub async fn user(&self, name: &str) -> User {
        User::of(&self.server.kubeconfig(name, "people").unwrap()).await
    }

    /// secret-syncer's own service account, with a token of its own.
    pub async fn syncer(&self) -> User {
        self.account(ACCOUNT).await
    }

    /// A service account, by namespace and name, with a token of its own.
    pub async fn account(&self, account: (&str, &str)) -> User {
        let token = self.token_of(account, 3600).await;
        let kubeconfig = self.server.kubeconfig_of_token(account.1, &token).unwrap();
        User { client: client(&kubeconfig).await, kubeconfig }
    }

    /// A token for secret-syncer's service account that is good for so many seconds (at least 600, as Kubernetes has it).
    pub async fn token(&self, seconds: u32) -> String {
        self.token_of(ACCOUNT, seconds).await
    }

    async fn token_of(&self, (namespace, name): (&str, &str), seconds: u32) -> String {
        self.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}))
            .await;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.admin().call("POST", &path, Some(request)).await.unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Makes an object, or makes it as given, whoever made it.
    pub async fn apply(&self, object: Value) {
        let admin = User { kubeconfig: PathBuf::new(), client: self.admin.clone() };
        admin.apply("administrator", true, object).await.unwrap();
    }

    /// Makes a Secret, or makes its keys as given.
    pub async fn secret(&self, namespace: &str, name: &str, keys: &[(&str, &str)]) {
        self.apply(secret(namespace, name, keys)).await;
    }

    /// Makes a ConfigMap, or makes its keys as given.
    pub async fn configmap(&self, namespace: &str, name: &str, keys: &[(&str, &str)]) {
        self.apply(configmap(namespace, name, keys)).await;
    }

    /// The keys of an object of an environment, by its component's name; none when there is none.
    pub async fn keys(&self, component: &str) -> Option<BTreeMap<String, String>> {
        let component: lifecycle::Component = component.parse().unwrap();
        let object = self
            .admin()
            .get(component.kind().as_str(), component.namespace().unwrap(), component.name())
            .await?;
        let data = object["data"].as_object().cloned().unwrap_or_default();
        let text = |value: &Value| {
            let text = value.as_str().unwrap();
            if component.kind() == lifecycle::Kind::ConfigMap {
                return text.to_owned();
            }
            String::from_utf8(
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap(),
            )
            .unwrap()
        };
        Some(data.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }

    /// Every version of every Secret and ConfigMap but those of Kubernetes' own namespaces: what two of them have in common was not
    /// written in between.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for kind in ["secrets", "configmaps"] {
            let list = self.admin().call("GET", &format!("/api/v1/{kind}"), None).await.unwrap();
            for object in list["items"].as_array().unwrap() {
                let metadata = &object["metadata"];
                if metadata["namespace"].as_str().unwrap().starts_with("kube-") {
                    continue;
                }
                let name = format!("{kind}/{}/{}", metadata["namespace"], metadata["name"]).replace('"', "");
                versions.insert(name, metadata["resourceVersion"].as_str().unwrap().to_owned());
            }
        }
        versions
    }

    /// Runs the real program with these arguments over the cluster, as a user.
    pub fn program(&self, user: &User, documents: &Path, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(binary());
        command.arg("secret-syncer").args(args).stdin(Stdio::null());
        command.env_clear().env("KUBECONFIG", &user.kubeconfig).env("ROLLCALL_DOCUMENTS", documents);
        command.env("ROLLCALL_LOG_FORMAT", "json").env("ROLLCALL_DEADLINE", "60s");
        command
    }

    /// Keeps the real program running as a service, with these variables besides.
    pub async fn serve(&self, user: &User, documents: &Path, name: &str, more: &[(&str, &str)]) -> Service {
        self.serve_by(binary(), &["secret-syncer", "serve"], user, documents, name, more).await
    }

    /// As [`serve`](Cluster::serve), by this program with these arguments.
    pub async fn serve_by(
        &self,
        program: &Path,
        args: &[&str],
        user: &User,
        documents: &Path,
        name: &str,
        more: &[(&str, &str)],
    ) -> Service {
        let [grpc, health, metrics] = sandbox::ports::free(3).unwrap()[..] else { panic!("no ports") };
        let log = self.dir().join(format!("{name}.log"));
        let mut spec = ProcessSpec::new(name, program, &log)
            .args(args.iter().copied())
            .env("KUBECONFIG", user.kubeconfig.display().to_string())
            .env("ROLLCALL_DOCUMENTS", documents.display().to_string())
            .env("ROLLCALL_LOG_FORMAT", "json")
            .env("ROLLCALL_LISTEN", format!("127.0.0.1:{grpc}"))
            .env("ROLLCALL_HEALTH_LISTEN", format!("127.0.0.1:{health}"))
            .env("ROLLCALL_METRICS_LISTEN", format!("127.0.0.1:{metrics}"));
        for (name, value) in more {
            spec = spec.env(*name, *value);
        }
        Service { handle: self.sandbox.spawn(spec).await.unwrap(), log, grpc, health, metrics }
    }
}

impl User {
    /// The same one, who finds the API server where another kubeconfig says.
    #[must_use]
    pub fn by_way_of(&self, kubeconfig: PathBuf) -> User {
        User { kubeconfig, client: self.client.clone() }
    }

    /// Applies an object under a field manager's name.
    pub async fn apply(&self, manager: &str, force: bool, object: Value) -> Result<Value, kube::Error> {
        let params = PatchParams { force, ..PatchParams::apply(manager) };
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let patch = kube::api::Patch::Apply(&object);
        let applied = api(&self.client, &object).patch(&name, &params, &patch).await?;
        Ok(serde_json::to_value(applied).unwrap())
    }

    /// Makes an object that is not there.
    pub async fn create(&self, object: Value) -> Result<Value, kube::Error> {
        let made: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let made = api(&self.client, &object).create(&PostParams::default(), &made).await?;
        Ok(serde_json::to_value(made).unwrap())
    }

    /// Edits an object as `kubectl edit` does: by merging.
    pub async fn edit(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<(), kube::Error> {
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        named(&self.client, kind, namespace)
            .patch(name, &params, &kube::api::Patch::Merge(patch))
            .await
            .map(drop)
    }

    /// Whoever this kubeconfig says.
    pub async fn of(kubeconfig: &Path) -> User {
        User { client: client(kubeconfig).await, kubeconfig: kubeconfig.to_owned() }
    }

    /// The user's own connections.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Reads an object; none when there is none.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = named(&self.client, kind, namespace).get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(found).unwrap())
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), kube::Error> {
        named(&self.client, kind, namespace).delete(name, &kube::api::DeleteParams::default()).await.map(drop)
    }

    /// Lists objects.
    pub async fn list(&self, kind: &str, namespace: &str) -> Result<usize, kube::Error> {
        named(&self.client, kind, namespace).list(&ListParams::default()).await.map(|list| list.items.len())
    }

    /// Asks anything.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, kube::Error> {
        let request =
            http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.client.request(request.body(body).unwrap()).await
    }

    /// Whether the user may do this to an object, by what the API server says of his rights.
    pub async fn may(&self, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace, "name": name}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.call("POST", path, Some(review)).await.unwrap();
        answer["status"]["allowed"].as_bool().unwrap_or(false)
    }

    /// secret-syncer's store as this user sees it.
    pub async fn store(&self) -> Kubernetes {
        Kubernetes::new(Door::of_kubeconfig(&self.kubeconfig).await.unwrap())
    }
}

/// Makes every object of an environment once, in this process; how each stands, by its component's name.
pub async fn standings(store: &Kubernetes, environment: &Environment) -> BTreeMap<String, Standing> {
    let progress = Progress::new(&Metrics::new("secret-syncer"), Known::default());
    let specs = secret_syncer::spec::specs(environment);
    let mut all = BTreeMap::new();
    for (component, target, spec) in
        secret_syncer::targets(specs, store, &(Arc::new(Nowhere) as _), &progress)
    {
        let last = Mutex::new(None);
        let tell = |told: Told<'_, _>| {
            if let Told::Standing(_, standing) = told {
                *last.lock().unwrap() = Some(standing);
            }
        };
        let standing = match converge(&target, &spec, &component, &tell).await {
            Ok(()) => last.into_inner().unwrap().unwrap(),
            Err(error) => Standing::Failed {
                error: chassis::exit::chain(&error),
                code: error.code(),
                transient: error.is_transient(),
            },
        };
        all.insert(component.to_string(), standing);
    }
    all
}

/// The namespaces in which an environment's objects are.
pub fn namespaces(environment: &Environment) -> Vec<String> {
    let objects =
        environment.secrets().map(|s| s.component).chain(environment.configmaps().map(|c| c.component));
    let mut namespaces: Vec<String> =
        objects.filter_map(|object| Some(object.namespace()?.to_owned())).collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

/// A Secret's manifest.
pub fn secret(namespace: &str, name: &str, keys: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = keys.iter().copied().collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data})
}

/// A ConfigMap's manifest.
pub fn configmap(namespace: &str, name: &str, keys: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = keys.iter().copied().collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

pub(crate) fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |key: &str| object[key].as_str().unwrap();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or_else(|| ("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn named(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (version, kind) = match kind {
        "configmap" => ("v1", "ConfigMap"),
        "secret" => ("v1", "Secret"),
        "deployment" => ("apps/v1", "Deployment"),
        other => panic!("{other}"),
    };
    api(client, &json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace}}))
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}
