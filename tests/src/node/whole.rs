//! A whole environment of documents in one namespace, with a stand-in as the pod of each of its modules.

use std::process::Output;

use lifecycle::document::{Environment, Ready};
use lifecycle::{Component, Graph, Kind, OnRestart};
use serde_json::{Map, Value, json};

use super::{Place, images};
use crate::charts::fragments;
use crate::{environment, openg2p, text};

/// How long Helm may wait for a release when all processors are busy.
const DEADLINE: &str = "5m";
/// The release of chart `environment`, and of the modules.
const RELEASES: [&str; 2] = ["env", "modules"];

/// The reference documents of OpenG2P with these names, as texts.
pub fn texts(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| std::fs::read_to_string(openg2p().join(format!("{name}.yaml"))).unwrap())
        .collect()
}

/// The documents as those of another environment: its name, which is its namespace too, its uid, and its naming if it has any.
pub fn renamed(texts: &[String], name: &str, uid: &str, naming: Option<&str>) -> Vec<String> {
    let theirs = "{name: openg2p, uid: 3f6f4f0e-8d0b-4c39-9a55-2d1f0c6b7a10}";
    let naming = naming.map(|naming| format!("\nnaming: {naming}")).unwrap_or_default();
    let rename = |text: &String| {
        assert!(text.contains(theirs) && text.contains("namespace: openg2p}"), "{text}");
        text.replace(theirs, &format!("{{name: {name}, uid: {uid}}}{naming}"))
            .replace("namespace: openg2p}", &format!("namespace: {name}}}"))
    };
    texts.iter().map(rename).collect()
}

/// An environment, and what its two releases are installed with.
pub struct Whole {
    /// What the documents declare.
    pub environment: Environment,
    /// The namespace of all its fragments.
    pub namespace: String,
    /// The values of chart `environment`.
    pub values: Value,
}

impl Whole {
    /// Of these documents.
    pub fn of(texts: &[String]) -> Whole {
        let environment = environment(texts);
        let namespaces = environment.sources().map(|source| source.document.fragment.namespace.clone());
        let namespace = namespaces.last().unwrap();
        let accounts: Map<String, Value> =
            names(&environment).map(|name| (name.clone(), json!(name))).collect();
        let values = json!({
            "fragments": fragments(&environment), "bus": {"brokers": ["commons-kafka:9092"]}, "image": images(),
            "waiters": accounts,
        });
        Whole { environment, namespace, values }
    }

    /// The values of the modules' chart.
    pub fn modules(&self) -> Value {
        let modules = self.environment.modules();
        let modules: Map<String, Value> = modules
            .map(|module| {
                let service = module.spec.ready.as_ref().map(address);
                let service = service.map(|(host, port)| json!({"host": host, "port": port}));
                (module.component.name().to_owned(), service.unwrap_or_else(|| json!({})))
            })
            .collect();
        json!({
            "modules": modules,
            "rollcall": {
                "documents": "env-environment", "image": images(),
                "hub": format!("http://env-environment-hub.{}:7070", self.namespace),
            },
        })
    }

    /// Installs or upgrades both releases.
    #[track_caller]
    pub fn install(&self, place: &Place) {
        place.install(&["upgrade", "env", "environment", "--namespace", &self.namespace], &self.values);
        place.install(&["upgrade", "modules", "modules", "--namespace", &self.namespace], &self.modules());
    }

    /// Installs both releases at one time, and Helm waits for each.
    #[track_caller]
    pub fn install_and_wait(&self, place: &Place) {
        let install = |release, chart, values: &Value| {
            let args = ["install", release, chart, "--namespace", &self.namespace];
            let output = place.helm(&[&args[..], &["--wait", "--timeout", DEADLINE]].concat(), values);
            assert!(output.status.success(), "{release}: {}\n{}", text(&output), place.why(&self.namespace));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| install("modules", "modules", &self.modules()));
            install("env", "environment", &self.values);
        });
    }

    /// Goes back to a revision of both releases.
    #[track_caller]
    pub fn roll_back(&self, place: &Place, revision: &str) {
        for release in RELEASES {
            let args = ["rollback", release, revision, "--namespace", &self.namespace];
            done(&place.charts.over(place.node.kubeconfig(), &args));
        }
    }

    /// Removes both releases, and waits until their pods are gone.
    pub async fn uninstall(&self, place: &Place) {
        for release in RELEASES.iter().rev() {
            let args = ["uninstall", release, "--namespace", &self.namespace];
            done(&place.charts.over(place.node.kubeconfig(), &args));
        }
        place
            .until("no pod is left", async || {
                place.kubectl(&["get", "pods", "-n", &self.namespace, "-o", "name"]).is_empty()
            })
            .await;
    }

    /// The pods of its modules, by module.
    pub fn pods(&self, place: &Place) -> Vec<(String, Value)> {
        let pods = place.staying(&self.namespace, "module").into_iter();
        let mut pods: Vec<(String, Value)> =
            pods.map(|pod| (pod["metadata"]["labels"]["module"].as_str().unwrap().to_owned(), pod)).collect();
        pods.sort_by(|a, b| a.0.cmp(&b.0));
        pods
    }

    /// Everything came up in order: no stand-in found a need unmet and died of it, nobody started before whom it needs was
    /// ready, and the exporter tells a story that is whole. `again` says that modules were ready before.
    pub async fn came_up_in_order(&self, place: &Place, again: bool) {
        let pods = self.pods(place);
        let mut declared: Vec<String> = names(&self.environment).collect();
        declared.sort();
        let run: Vec<&String> = pods.iter().map(|(name, _)| name).collect();
        assert_eq!(run, declared.iter().collect::<Vec<_>>(), "a pod for each");
        let of = |name: &str| &pods.iter().find(|(module, _)| module == name).unwrap().1;
        let graph = Graph::of(&self.environment);
        for (name, pod) in &pods {
            let main = &pod["status"]["containerStatuses"][0];
            assert_eq!(main["restartCount"], 0, "{name} died: {main:#}\n{}", place.why(&self.namespace));
            // To the second, both by the node's clock; such times sort as text.
            let started = main["state"]["running"]["startedAt"].as_str().unwrap();
            let module = Component::new(Kind::Module, name);
            for need in graph.start_needs(&module).filter(|need| need.component.kind() == Kind::Module) {
                if again && need.on_restart == OnRestart::Report {
                    continue;
                }
                let ready = ready_since(of(need.component.name())).unwrap();
                assert!(
                    *ready <= *started,
                    "{module} started at {started}, {} was ready at {ready}",
                    need.component
                );
            }
        }
        self.tells(place, &graph).await;
    }

    async fn tells(&self, place: &Place, graph: &Graph) {
        // The exporter hears of it from the bus, a moment later than the hub.
        let mut story = Value::Null;
        place
            .until("the exporter's story is whole", async || {
                let told = place.rollcall(&["timeline", "-n", &self.namespace, "--output", "json"]);
                story = serde_json::from_slice(&told.stdout).unwrap_or_default();
                story["complete"] == true
            })
            .await;
        let path: Vec<Component> = serde_json::from_value(story["critical_path"].clone()).unwrap();
        assert!(!path.is_empty(), "{story:#}");
        for pair in path.windows(2) {
            let needs = graph.start_needs(&pair[1]).any(|need| need.component == pair[0]);
            assert!(needs, "no path of the graph: {path:?}");
        }
    }
}

/// Helm did it.
#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

/// The modules' names.
fn names(environment: &Environment) -> impl Iterator<Item = String> {
    environment.modules().map(|module| module.component.name().to_owned())
}

/// Where a health check goes.
fn address(ready: &Ready) -> (String, u16) {
    let url = ready.http.as_ref().map(|http| &http.url);
    let url = url.or_else(|| ready.grpc.as_ref().map(|grpc| &grpc.url));
    if let Some(url) = url.or_else(|| ready.keycloak.as_ref().map(|keycloak| &keycloak.url)) {
        return (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap());
    }
    let (host, port) = ready.tcp.as_ref().unwrap().address.rsplit_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
}

/// Since when a pod is ready.
fn ready_since(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|one| one["type"] == "Ready" && one["status"] == "True")?;
    Some(ready["lastTransitionTime"].as_str()?.to_owned())
}
