//! The shapes of attacks that were found on programs that do what secret-syncer does, each tried on it over a real API server.
//!
//! What a tenant can try with annotations and objects of its own (CVE-2026-22728), and types that are power (CVE-2026-42876),
//! are in `cluster_rights.rs`; that processes beside it have smaller rights of their own (CVE-2024-45041) in `rights.rs`; the
//! review on behalf of the target (CVE-2026-39961), where rights span the cluster, in `central.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::process::Output;

use acceptance::charts::{Charts, fragments};
use acceptance::cluster::{ACCOUNT, Cluster, User, environment, folder, standings};
use acceptance::relay::Relay;
use acceptance::rights::of_syncer;
use acceptance::sample::{APP, BASE, cluster, dev, ready, refused, text};
use acceptance::{openg2p, root};
use serde_json::Value;

const CROWN: &str = "PLANTEDcrownJ4wEl8Zq2mXv";

fn run(cluster: &Cluster, user: &User, documents: &std::path::Path, args: &[&str]) -> Output {
    let mut command = cluster.program(user, documents, args);
    command.env("ROLLCALL_LOG", "debug,h2=warn,tower=warn,hyper=warn").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// GHSA-fcxq-v2r3-cc8h: a list without a namespace read every Secret of the cluster.
// The relay goes on while the program is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_names_one_object_whatever_it_is_asked_to_do() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    let relay = Relay::start(&syncer.kubeconfig).await;
    let relayed = syncer.by_way_of(relay.kubeconfig(&syncer.kubeconfig));
    let documents = folder(&cluster.dir().join("documents"), 7, &[BASE, APP]);
    // To take down is among its rights only where the document says that a copy goes with its source.
    for (args, exit) in [(&["plan"][..], 0), (&["apply"], 0), (&["plan"], 0), (&["teardown", "--yes"], 65)] {
        let output = run(&cluster, &relayed, &documents, args);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {}", said(&output));
    }
    let service = cluster.serve(&relayed, &documents, "syncer", &[]).await;
    service.answers().await;
    service.counts("synced", 12).await;
    let calls = relay.calls();
    assert!(calls.len() > 50 && calls.iter().any(|call| call.verb == "watch"), "{calls:?}");
    for call in calls {
        let parts: Vec<&str> = call.object.split('/').collect();
        let names_one = matches!(parts[..], ["secrets" | "configmaps", namespace, name] if !namespace.is_empty() && !name.is_empty());
        assert!(names_one, "{call:?}");
        assert!(["get", "watch", "patch", "delete"].contains(&call.verb.as_str()), "{call:?}");
    }
    cluster.stop().await;
}

/// GHSA-77v3-r3jw-j2v2: a template's function read Secrets of other namespaces with the rights of whoever filled it in.
#[tokio::test]
async fn a_template_is_given_values_and_can_ask_for_none() {
    let cluster = Cluster::start(&[&dev()]).await;
    cluster.secret("base", "crown", &[("jewels", CROWN)]).await;
    // The value of a tenant is as a template would write it.
    let asks =
        "{crown} {{ getSecretKey \"base\" \"crown\" \"jewels\" }} ${secret:base/crown:jewels} {password:url}";
    cluster.secret("app", "mine", &[("user", asks)]).await;
    let wish = environment(
        7,
        &[(
            "app",
            "secrets: {mine: {external: true}, url: {template: {keys: {url: 'pg://{user}@db'}, values: {user: {secret: mine, key: user}}}}}",
        )],
    );
    cluster.grant(&wish).await;
    let syncer = cluster.syncer().await;
    ready(&standings(&syncer.store().await, &wish).await);
    assert_eq!(text(&cluster, "secret/app/url", "url").await, format!("pg://{asks}@db"), "to the letter");
    // And a document that calls for a function is refused before anything is asked.
    let bad = [("app", "secrets: {url: {template: {keys: {url: '{lookup base/crown}'}, values: {}}}}")];
    let output = run(&cluster, &syncer, &folder(&cluster.dir().join("bad"), 7, &bad), &["apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    cluster.stop().await;
}

/// CVE-2026-42875 and CVE-2026-39961: a namespace that a tenant wrote into its own object was read with the rights of whoever
/// served it. Here it is written into its own fragment, under each key that names an object.
#[tokio::test]
async fn a_fragment_that_names_anothers_secret_reads_what_its_owner_gave_and_nothing_else() {
    let cluster = Cluster::start(&[&dev()]).await;
    cluster.secret("base", "crown", &[("jewels", CROWN), ("ca.crt", CROWN)]).await;
    let syncer = cluster.syncer().await;
    for (what, mallory) in [
        ("copy", "secrets: {loot: {copy: {from: base/crown}}}"),
        ("renamed", "secrets: {loot: {copy: {from: base/crown, keys: {innocent: jewels}}}}"),
        (
            "template",
            "secrets: {loot: {template: {keys: {a: '{v}'}, values: {v: {secret: base/crown, key: jewels}}}}}",
        ),
        ("bundle", "configmaps: {loot: {bundle: {a: [{secret: base/crown, key: ca.crt}]}}}"),
        (
            "authority",
            "secrets: {loot: {generate: {tls.crt: {kind: certificate, ca: {secret: base/crown}, names: [a], private: tls.key}}}}",
        ),
        (
            "vault",
            "vault: {main: {url: 'https://127.0.0.1:1', tls: {ca: {secret: base/crown, key: ca.crt}}, login: {token: {secret: base/crown, key: jewels}}}}\nsecrets: {loot: {copy: {from: {vault: main, path: a}}}}",
        ),
        (
            "keycloak",
            "keycloak: {main: {url: 'https://127.0.0.1:1', login: {client: rollcall, secret: {secret: base/crown, key: jewels}}}}\nclients: {portal: {keycloak: main, realm: staff, external: true}}\nsecrets: {loot: {copy: {from: {client: portal}}}}",
        ),
        ("written there", "secrets: {base/loot: {generate: {a: {kind: password}}}}"),
        ("copied there", "secrets: {own: {external: true}, loot: {copy: {from: own, to: [base]}}}"),
    ] {
        let fragments = [("app", mallory)];
        let wish = environment(7, &fragments);
        cluster.secret("app", "own", &[("a", "b")]).await;
        // The tenant's own namespace gives everything; the owner of `base` gives nothing.
        let own = |right: &Value| right["metadata"]["namespace"] == "app";
        cluster.give(ACCOUNT, &of_syncer(&wish).into_iter().filter(own).collect::<Vec<_>>()).await;
        let documents = folder(&cluster.dir().join(format!("mallory {what}")), 7, &fragments);
        let output = run(&cluster, &syncer, &documents, &["apply"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(65), "{what}: {said}");
        assert!(said.contains("a Role in namespace base must allow"), "{what}: {said}");
        assert!(!said.contains(CROWN), "{what}");
        for object in ["secret/app/loot", "configmap/app/loot", "secret/base/loot"] {
            assert!(cluster.keys(object).await.is_none(), "{what}: {object}");
        }
    }
    // Namespaces of the cluster itself are refused with the document.
    let bad = [("app", "secrets: {loot: {copy: {from: kube-system/crown}}}")];
    let output = run(&cluster, &syncer, &folder(&cluster.dir().join("bad"), 7, &bad), &["apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    cluster.stop().await;
}

/// CVE-2026-42876: whoever gets a service account's token Secret written has that account's rights. A source can become one
/// after it was first copied only as another object of the same name.
#[tokio::test]
async fn a_source_that_turns_into_power_is_not_carried_on() {
    let cluster = Cluster::start(&[&dev()]).await;
    let wish = environment(
        7,
        &[
            ("base", "secrets: {token: {external: true}}"),
            ("app", "secrets: {copy: {copy: {from: base/token}}}"),
        ],
    );
    cluster.grant(&wish).await;
    cluster.secret("base", "token", &[("token", "harmless")]).await;
    let syncer = cluster.syncer().await;
    ready(&standings(&syncer.store().await, &wish).await);
    for kind in ["bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
        cluster.admin().delete("secret", "base", "token").await.unwrap();
        let mut power = acceptance::cluster::secret("base", "token", &[("token", CROWN)]);
        power["type"] = kind.into();
        cluster.admin().create(power).await.unwrap();
        let all = standings(&syncer.store().await, &wish).await;
        refused(&all["secret/app/copy"], "neither read nor made");
        assert_eq!(text(&cluster, "secret/app/copy", "token").await, "harmless");
    }
    cluster.stop().await;
}

/// CVE-2024-33398: a program that runs on every node could list every Secret.
#[tokio::test]
async fn no_chart_but_cluster_asks_for_rights_over_the_cluster_and_none_can_list_secrets() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::of(&cluster.sandbox).await;
    let mosip = chassis::documents::load_complete(&[root().join("charts/environments/mosip")]).unwrap();
    let openg2p = chassis::documents::load_complete(&[openg2p()]).unwrap();
    let mut rules = 0;
    for (name, values) in [
        ("secret-syncer", serde_json::json!({"fragments": fragments(&mosip)})),
        ("secret-syncer", serde_json::json!({"fragments": fragments(&openg2p)})),
        ("secret-syncer", serde_json::json!({"fragments": fragments(&dev())})),
        ("cluster", serde_json::json!({"fragments": fragments(&dev()), "central": {"enabled": true}})),
    ] {
        for manifest in charts.render(name, &values) {
            let kind = manifest["kind"].as_str().unwrap();
            assert!(name == "cluster" || !kind.starts_with("Cluster"), "{name}: {manifest}");
            for rule in manifest["rules"].as_array().into_iter().flatten() {
                rules += 1;
                let has = |key: &str, what: &str| rule[key].as_array().unwrap().iter().any(|is| is == what);
                let values = has("resources", "secrets") || has("resources", "configmaps");
                assert!(
                    !(values && (has("verbs", "list") || has("verbs", "update") || has("verbs", "*"))),
                    "{rule}"
                );
                assert!(!has("resources", "*") && !has("apiGroups", "*"), "{rule}");
                let by_name = rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty());
                assert!(name == "cluster" || by_name, "{name}: {rule}");
            }
        }
    }
    assert!(rules > 50, "{rules}");
    cluster.stop().await;
}
