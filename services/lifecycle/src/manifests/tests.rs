//! Each way to refer and each way to be wrong, as tables.

use serde_json::json;

use super::*;
use crate::document::{Document, Source};

fn deployment(pod: &Value) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": pod}}})
}

fn reads(key: &str) -> Value {
    json!({"containers": [{"name": "web", "env": [{"name": "DB", "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}}]}]})
}

fn secret(data: &Value) -> Value {
    json!({"kind": "Secret", "metadata": {"name": "db", "namespace": "dev"}, "stringData": data})
}

fn wrong(objects: &[Value]) -> Vec<String> {
    unresolved(objects, "dev", None).iter().map(ToString::to_string).collect()
}

#[test]
fn every_way_to_refer_is_seen() {
    let by = |pod: Value| references(&deployment(&pod), "dev");
    let container = |field: Value| json!({"containers": [field]});
    for (pod, at, component, wanted) in [
        (reads("password"), "container web, env DB", "secret/dev/db", Some("password")),
        (
            container(
                json!({"name": "c", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}),
            ),
            "container c, env E",
            "configmap/dev/m",
            Some("k"),
        ),
        (
            container(json!({"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]})),
            "container c, envFrom",
            "secret/dev/s",
            None,
        ),
        (
            json!({"initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m"}}]}], "containers": []}),
            "init container i, envFrom",
            "configmap/dev/m",
            None,
        ),
        (
            json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}]}),
            "volume v",
            "secret/dev/s",
            Some("k"),
        ),
        (
            json!({"containers": [], "volumes": [{"name": "v", "configMap": {"name": "m"}}]}),
            "volume v",
            "configmap/dev/m",
            None,
        ),
        (
            json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
            "volume v",
            "secret/dev/s",
            None,
        ),
    ] {
        let found = by(pod);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].by, format!("Deployment dev/web, {at}"));
        assert_eq!(found[0].component.to_string(), component);
        let keys = wanted.map_or(Wanted::All, |key| Wanted::Keys([key.to_owned()].into()));
        assert_eq!((&found[0].wanted, found[0].optional), (&keys, false));
    }
}

#[test]
fn a_pod_is_found_in_whatever_makes_it() {
    let pod = reads("password");
    for object in [
        json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": pod}),
        json!({"kind": "CronJob", "metadata": {"name": "x"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}),
        json!({"kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1", "metadata": {"name": "x"}, "spec": {"template": {"spec": pod}}}),
        json!({"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "x"}, "spec": pod}]}),
    ] {
        assert_eq!(wrong(std::slice::from_ref(&object)).len(), 1, "{object}");
    }
    assert_eq!(wrong(&[json!({"kind": "Service", "spec": {"ports": []}}), Value::Null]), [""; 0]);
}

#[test]
fn what_does_not_resolve_names_who_what_and_what_to_do() {
    let web = deployment(&reads("password"));
    for (secret, words) in [
        (
            None,
            &[
                "Deployment dev/web, container web, env DB",
                "secret/dev/db is made by nobody",
                "declare it under `secrets`",
            ][..],
        ),
        (Some(json!({"user": "u"})), &["secret/dev/db key `password` is not there", "it holds user"]),
        (Some(json!({})), &["holds no key at all"]),
        (Some(json!({"password": ""})), &["key `password` is empty"]),
        (Some(json!({"password": null})), &["key `password` is empty"]),
        (Some(json!({"password": "<db_password>"})), &["angle brackets"]),
        (Some(json!({"password": "ChangeMe"})), &["asks to be changed"]),
        (Some(json!({"password": "postgres"})), &["everybody tries first"]),
    ] {
        let mut objects = vec![web.clone()];
        objects.extend(secret.iter().map(self::secret));
        let found = wrong(&objects);
        assert_eq!(found.len(), 1, "{secret:?}: {found:?}");
        assert!(words.iter().all(|word| found[0].contains(word)), "{words:?}: {found:?}");
    }
    assert_eq!(wrong(&[web, self::secret(&json!({"password": "b7HkQ2", "username": "admin"}))]), [""; 0]);
}

#[test]
fn encoded_values_are_judged_decoded() {
    let encoded = json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"password": "Y2hhbmdlbWU="}});
    let null = json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"password": null}});
    assert!(wrong(&[deployment(&reads("password")), null])[0].contains("is empty"));
    let found = wrong(&[deployment(&reads("password")), encoded]);
    assert!(found[0].contains("asks to be changed") && !found[0].contains("changeme"), "{found:?}");
}

#[test]
fn who_takes_all_keys_takes_the_bad_ones_too() {
    let all =
        deployment(&json!({"containers": [{"name": "web", "envFrom": [{"secretRef": {"name": "db"}}]}]}));
    let found = wrong(&[all, secret(&json!({"password": "", "token": "changeme", "user": "u"}))]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn what_may_be_absent_or_is_always_there_is_fine() {
    let optional = json!({"containers": [], "volumes": [
        {"name": "a", "secret": {"secretName": "none", "optional": true}},
        {"name": "b", "configMap": {"name": "kube-root-ca.crt"}},
    ]});
    assert_eq!(wrong(&[deployment(&optional)]), [""; 0]);
}

#[test]
fn what_the_cluster_will_make_of_other_objects_counts() {
    for maker in [
        json!({"kind": "SealedSecret", "metadata": {"name": "db"}, "spec": {"encryptedData": {"password": "AgB"}}}),
        json!({"kind": "ExternalSecret", "metadata": {"name": "x"}, "spec": {"target": {"name": "db"}}}),
    ] {
        assert_eq!(wrong(&[deployment(&reads("password")), maker]), [""; 0]);
    }
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "x"}, "spec": {"secretName": "db"},
    });
    assert_eq!(wrong(&[deployment(&reads("tls.key")), certificate]), [""; 0]);
    let token =
        json!({"kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": {"name": "db"}});
    assert_eq!(wrong(&[deployment(&reads("token")), token]), [""; 0]);
}

#[test]
fn documents_make_secrets_too_and_namespaces_keep_apart() {
    let document: Document = serde_json::from_value(json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": uuid::Uuid::from_u128(7)},
        "fragment": {"name": "base", "namespace": "dev"},
        "secrets": {
            "db": {"generate": {"password": {"kind": "password"}}},
            "outside": {"external": true},
            "copied": {"copy": {"from": "outside", "keys": {"mine": "theirs"}}},
        },
    }))
    .unwrap();
    let merged = Environment::merge([Source { file: "base.yaml".to_owned(), document }]);
    let environment = merged.environment.unwrap();
    let reads = |name: &str, key: &str, namespace: &str| {
        let env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]);
        let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [{"env": env}]}});
        unresolved(&[pod], "ignored", Some(&environment)).len()
    };
    for (name, key, namespace, wrong) in [
        ("db", "password", "dev", 0),
        ("db", "other", "dev", 1),
        ("db", "password", "elsewhere", 1),
        ("outside", "whatever", "dev", 0),
        ("copied", "mine", "dev", 0),
        ("copied", "theirs", "dev", 1),
        ("none", "k", "dev", 1),
    ] {
        assert_eq!(reads(name, key, namespace), wrong, "{namespace}/{name} {key}");
    }
    // Who shows it whole knows its keys better than who calls it external.
    let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "dev"}, "spec": {"containers": [
        {"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "outside", "key": "none"}}}]},
    ]}});
    let whole = json!({"kind": "Secret", "metadata": {"name": "outside", "namespace": "dev"}, "stringData": {"one": "value"}});
    assert_eq!(unresolved(&[pod, whole], "dev", Some(&environment)).len(), 1);
}

#[test]
fn a_module_takes_its_keys_from_the_workloads_it_names() {
    let document: Document = serde_json::from_value(json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": uuid::Uuid::from_u128(7)},
        "fragment": {"name": "base", "namespace": "dev"},
        "secrets": {"db": {"external": true}},
        "modules": {"web": {"keys": "referenced", "workloads": ["deployment/web", "statefulset/store"]}},
    }))
    .unwrap();
    let merged = Environment::merge([Source { file: "base.yaml".to_owned(), document }]);
    assert_eq!(merged.problems, []);
    let environment = merged.environment.unwrap();
    let wrong = |objects: &[Value]| -> Vec<String> {
        unresolved(objects, "dev", Some(&environment)).iter().map(ToString::to_string).collect()
    };
    let named = |kind: &str, name: &str| json!({"kind": kind, "metadata": {"name": name}, "spec": {"template": {"spec": reads("password")}}});
    assert_eq!(wrong(&[named("Deployment", "web"), named("StatefulSet", "store")]), [""; 0]);
    assert_eq!(wrong(&[named("Deployment", "other")]), [""; 0], "another chart's");
    for objects in
        [vec![named("Deployment", "web")], vec![named("Deployment", "web"), named("Deployment", "store")]]
    {
        let found = wrong(&objects);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(
                "module/web takes its keys from statefulset/dev/store, which is not among the manifests"
            ),
            "{found:?}"
        );
    }
}

#[test]
fn a_value_is_judged_by_what_holds_it() {
    let flaw = |component: &str, value: &str| flaw(&component.parse().unwrap(), "password", value.as_bytes());
    assert_eq!(flaw("secret/dev/s", ""), Some("is empty"));
    assert!(flaw("secret/dev/s", "changeme").is_some() && flaw("secret/dev/s", "<password>").is_some());
    assert_eq!(flaw("secret/dev/s", "b7HkQ2"), None);
    assert_eq!((flaw("configmap/dev/m", ""), flaw("configmap/dev/m", "changeme")), (None, None));
    assert!(flaw("configmap/dev/m", " <host> ").is_some());
}
