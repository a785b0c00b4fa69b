//! The whole of OpenG2P: installed, upgraded, rolled back, removed and installed again over what it left behind.

use std::collections::BTreeMap;

use acceptance::node::{Place, Servers, Whole, texts};
use acceptance::{catalog, text, topics};
use serde_json::Value;

use crate::{neighbours, rights};

const NAMESPACE: &str = "openg2p";
const FRAGMENTS: [&str; 6] = ["bridge", "commons-base", "commons-services", "pbms", "registry", "spar"];
/// The topic whose partitions grow.
const TOPIC: &str = "openg2p.audit.events";
/// What an upgrade brings: a database and a module.
const SURVEYS: &str = "
rollcall: v1
environment: {name: openg2p, uid: 3f6f4f0e-8d0b-4c39-9a55-2d1f0c6b7a10}
fragment: {name: surveys, namespace: openg2p}
uses:
  postgres: {main: {host: commons-postgresql, tls: {mode: disable}}}
  modules: {iam: {}}
databases:
  surveys: {server: main, roles: {app: {name: surveys_user, password: {secret: surveys, key: password}, ddl: as-owner}}}
secrets:
  surveys: {generate: {password: {kind: password}}}
modules:
  surveys: {needs: [database/surveys, module/iam], ready: {http: {url: \"http://surveys/ping\"}}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn openg2p_comes_up_in_order_and_lives_through_what_its_operator_does() {
    let place = Place::new().await;
    let servers = Servers::new(&place).await;
    servers.found_in(&place, NAMESPACE);
    let whole = Whole::of(&texts(&FRAGMENTS));
    whole.install(&place);
    place.comes_up(NAMESPACE).await;
    whole.came_up_in_order(&place, false).await;

    rights::are_as_expected(&place, NAMESPACE).await;
    grows_and_is_rolled_back(&place, &servers, &whole).await;
    starts_again_without_keycloak(&place).await;
    is_installed_again(&place, &servers, &whole).await;
    neighbours::come_and_go(&place, &servers).await;
    place.sandbox.stop().await.unwrap();
}

/// What must be the same as long as a module stays up: which pod it is, and how often it was started.
fn lives(place: &Place, whole: &Whole) -> BTreeMap<String, (String, u64)> {
    let pods = whole.pods(place).into_iter();
    let life = |pod: &Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap();
        (pod["metadata"]["uid"].as_str().unwrap().to_owned(), restarts)
    };
    pods.map(|(module, pod)| (module, life(&pod))).collect()
}

async fn partitions(servers: &Servers) -> usize {
    let topics = topics::all_of(&servers.kafka).await;
    topics[TOPIC].iter().filter(|line| line.starts_with("partition ")).count()
}

/// A topic grows and a module comes; on the way back partitions stay, which is said and hurts nobody.
async fn grows_and_is_rolled_back(place: &Place, servers: &Servers, whole: &Whole) {
    let before = lives(place, whole);
    assert_eq!(partitions(servers).await, 12);
    let mut documents = texts(&FRAGMENTS);
    let (few, more) = (
        format!("{TOPIC}: {{kafka: main, partitions: 12"),
        format!("{TOPIC}: {{kafka: main, partitions: 18"),
    );
    for text in &mut documents {
        *text = text.replace(&few, &more);
    }
    documents.push(SURVEYS.to_owned());
    let grown = Whole::of(&documents);
    grown.install(place);
    place.until("the new module is known", async || place.phase(NAMESPACE, "module/surveys").is_some()).await;
    place.comes_up(NAMESPACE).await;
    // The hub knew the topic as ready before it was to grow.
    place.until("the topic has grown", async || partitions(servers).await == 18).await;
    let mut after = lives(place, &grown);
    assert!(after.remove("surveys").is_some(), "{}", place.pods());
    assert_eq!(after, before, "an upgrade touches only what it changes");

    grown.roll_back(place, "1");
    place
        .until("the new module is forgotten", async || {
            place.phase(NAMESPACE, "module/keycloak").is_some()
                && place.phase(NAMESPACE, "module/surveys").is_none()
        })
        .await;
    place.comes_up(NAMESPACE).await;
    let label = "app.kubernetes.io/component=topic-provisioner";
    place
        .until("it is said that partitions stay", async || {
            let said = place.kubectl(&["logs", "-n", NAMESPACE, "-l", label, "--tail=-1"]);
            said.contains("has 18 partitions, 12 are asked for; partitions are never removed")
        })
        .await;
    assert_eq!(partitions(servers).await, 18);
    place
        .until("the new module's pod is gone", async || place.staying(NAMESPACE, "module=surveys").is_empty())
        .await;
    assert_eq!(place.phase(NAMESPACE, &format!("topic/{TOPIC}")).as_deref(), Some("ready"));
    assert_eq!(lives(place, whole), before, "a rollback touches only what it changes");
    // The database of a module that went is left to whoever may want it back.
    let databases = "SELECT datname FROM pg_database WHERE datname = 'surveys'";
    assert_eq!(catalog::rows_of(&servers.postgres, "postgres", databases).await, ["(surveys)"]);
}

/// Keycloak holds a module's first start; afterwards only one that says so waits for it.
async fn starts_again_without_keycloak(place: &Place) {
    place.kubectl(&["scale", "deployment", "keycloak", "-n", NAMESPACE, "--replicas=0"]);
    place
        .until("Keycloak is seen to be gone", async || {
            place.phase(NAMESPACE, "module/keycloak").is_some_and(|phase| phase != "ready")
        })
        .await;
    // Both need Keycloak to start; for the first only `on_restart: report`.
    for label in ["module=awe", "module=iam"] {
        place.kubectl(&["delete", "pod", "-n", NAMESPACE, "-l", label]);
    }
    place.until("the one starts", async || place.is_ready(NAMESPACE, "module=awe")).await;
    let said =
        place.kubectl(&["logs", "-n", NAMESPACE, "-l", "module=awe", "-c", "rollcall-wait", "--tail=-1"]);
    assert!(said.contains("module/keycloak is not waited for: module/awe was ready before"), "{said}");
    let mut why = String::new();
    place
        .until("it is said what the other waits for", async || {
            why = text(&place.rollcall(&["explain", "module/iam", "-n", NAMESPACE]));
            why.starts_with("module/iam ") && why.contains("← module/keycloak ")
        })
        .await;
    place
        .until("the other waits", async || {
            let pod = place.pod(NAMESPACE, "module=iam");
            pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    assert!(!place.is_ready(NAMESPACE, "module=iam"), "{why}");
    place.kubectl(&["scale", "deployment", "keycloak", "-n", NAMESPACE, "--replicas=1"]);
    place.until("it starts too", async || place.is_ready(NAMESPACE, "module=iam")).await;
    place.comes_up(NAMESPACE).await;
}

/// Everything that the namespace keeps secret, but for Helm's own notes.
pub(crate) fn secrets(place: &Place, namespace: &str) -> BTreeMap<String, Value> {
    let list = place.json(&["get", "secrets", "-n", namespace]);
    let ours =
        list["items"].as_array().unwrap().iter().filter(|secret| secret["type"] != "helm.sh/release.v1");
    ours.map(|secret| (secret["metadata"]["name"].as_str().unwrap().to_owned(), secret["data"].clone()))
        .collect()
}

/// What the Registry's module wrote into its database at each of its starts.
async fn starts(servers: &Servers) -> Vec<String> {
    let starts = "SELECT started FROM rehearsal_registry_staff_api ORDER BY started";
    catalog::rows_of(&servers.postgres, "registry", starts).await
}

/// Removed and installed again: what was left behind is what it works with.
async fn is_installed_again(place: &Place, servers: &Servers, whole: &Whole) {
    let (kept, wrote) = (secrets(place, NAMESPACE), starts(servers).await);
    assert!(kept.len() > 20 && wrote.len() == 1, "{} Secrets, {wrote:?}", kept.len());
    whole.uninstall(place).await;
    assert_eq!(secrets(place, NAMESPACE), kept, "what was generated is kept");
    assert_eq!(starts(servers).await, wrote);

    whole.install_and_wait(place);
    place.comes_up(NAMESPACE).await;
    whole.came_up_in_order(place, true).await;
    assert_eq!(secrets(place, NAMESPACE), kept, "the passwords are the same");
    let again = starts(servers).await;
    assert!(again.len() == 2 && again[0] == wrote[0], "{again:?}");
}
