//! Values that charts are rendered with, and what is asked of all that they render.

use std::path::Path;

use serde_json::{Value, json};

use super::{Charts, fragments};
use crate::{openg2p, root};

/// A chart, and values that it takes.
pub struct Case {
    /// The chart's folder.
    pub chart: &'static str,
    /// What is special about the values.
    pub what: &'static str,
    /// The values.
    pub values: Value,
}

/// The documents of a folder, as values.
pub fn of_folder(folder: &Path) -> Value {
    fragments(&chassis::documents::load_complete(&[folder.to_owned()]).unwrap())
}

/// Values that use all that pods can be told.
fn much() -> Value {
    json!({
        "imagePullSecrets": [{"name": "regcred"}],
        "image": {"registry": "registry.local:5000", "tag": "1.2.3", "pullPolicy": "Always"},
        "settings": {"ROLLCALL_LOG": "debug", "ROLLCALL_RESYNC": "10s", "ROLLCALL_BROKERS": "kafka:9092"},
        "commonLabels": {"team": "platform"},
        "podLabels": {"sidecar.istio.io/inject": "false"},
        "podAnnotations": {"prometheus.io/scrape": "true"},
        "podSecurityContext": {"fsGroup": 2000},
        "securityContext": {"runAsUser": 4000},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["infra"]}]}]}}},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"team": "platform"}}}],
        "priorityClassName": "system-cluster-critical",
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/trust/ca.crt"}],
        "extraVolumes": [{"name": "trust", "configMap": {"name": "trust", "optional": true}}],
        "extraVolumeMounts": [{"name": "trust", "mountPath": "/trust", "readOnly": true}],
        "serviceAnnotations": {"a": "b"},
        "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "cli"}}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "egress": [{"ports": [{"port": 5432}]}]},
    })
}

fn with(mut values: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no map") };
    values.as_object_mut().unwrap().extend(more);
    values
}

/// Databases as charts of OpenG2P list them, with what they say besides.
pub fn old_databases() -> Value {
    json!({
        "enabled": true,
        "replicaCount": 1,
        "nameOverride": "registry-pg-init",
        "job": {"annotations": {}, "backoffLimit": 4, "ttlSecondsAfterFinished": 100},
        "podAnnotations": {}, "podSecurityContext": {}, "securityContext": {}, "resources": {}, "nodeSelector": {},
        "tolerations": [], "affinity": {}, "imagePullSecrets": [],
        "serviceAccount": {"create": true, "annotations": {}, "name": ""},
        "global": {"postgresqlHost": "commons-postgresql"},
        "postgresql": {"host": "{{ .Values.global.postgresqlHost }}", "port": 5432, "user": "postgres",
            "existingSecret": "{{ .Values.global.postgresqlHost }}", "existingSecretPostgresPasswordKey": "postgres-password"},
        "databases": [
            {"name": "{{ .Release.Name | replace \"-\" \"_\" }}", "user": "{{ .Release.Name | replace \"-\" \"_\" }}_user",
             "secret": "{{ .Release.Name }}", "secretUserPasswordKey": "{{ .Release.Name }}-db-user", "extensions": ["pg_trgm"]},
            {"name": "odkdb", "user": "odkuser", "password": "", "secret": "odk-db-user",
             "secretUserPasswordKey": "odk-db-user-password", "extensions": "pgcrypto, unaccent"},
        ],
    })
}

/// Values for every chart: few, many, and those of the reference environments.
pub fn cases() -> Vec<Case> {
    let openg2p = json!({"fragments": of_folder(&openg2p())});
    let mosip = json!({"fragments": of_folder(&root().join("charts/environments/mosip"))});
    let brokers = json!({"settings": {"ROLLCALL_BROKERS": "kafka:9092"}});
    let mut cases = Vec::new();
    let mut case = |chart, what, values| cases.push(Case { chart, what, values });
    for chart in ["secret-syncer", "wait-for-dependency", "postgres-init", "topic-provisioner"] {
        case(chart, "the documents only", openg2p.clone());
        case(chart, "all that pods can be told", with(openg2p.clone(), much()));
    }
    for chart in ["secret-syncer", "postgres-init", "topic-provisioner"] {
        let run = |run: &str| with(openg2p.clone(), json!({"run": run}));
        case(chart, "once", run("apply"));
        case(chart, "for good", run("serve"));
    }
    case("secret-syncer", "MOSIP", mosip.clone());
    case("telemetry-exporter", "the documents and brokers", with(openg2p.clone(), brokers));
    case("telemetry-exporter", "all that pods can be told", with(openg2p.clone(), much()));
    case("postgres-init", "OpenG2P's values", old_databases());
    let enforce = json!({"mode": "enforce", "environment": {"uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"}, "passwords": {"generate": true}});
    case("postgres-init", "OpenG2P's values, enforced", with(old_databases(), enforce));
    case("environment", "the documents only", openg2p.clone());
    case("environment", "MOSIP", mosip);
    let parts = json!({
        "bus": {"brokers": ["kafka-0:9092", "kafka-1:9092"]},
        "namespaces": {"web": {"labels": {"istio-injection": "enabled"}, "pullSecrets": ["infra/regcred"]},
            "jobs": {"pullSecrets": ["infra/regcred", "jobs/other"]}},
        "postgresInit": {"run": "apply", "tolerations": []},
        "hub": {"replicas": 0, "settings": {"ROLLCALL_LOG": "info"}, "serviceAccount": {"create": false, "name": "given"}},
    });
    let mut all = much();
    all["image"] = json!({"registry": "registry.local:5000", "tag": "1.2.3"});
    case("environment", "all that pods can be told", with(with(openg2p.clone(), all), parts));
    let down = json!({"run": "delete", "environment": "openg2p", "orphans": ["database/old"]});
    case("environment", "all to be taken down", with(openg2p.clone(), json!({"down": down})));
    case("environment", "what would go to be told", with(openg2p.clone(), json!({"down": {"run": "plan"}})));
    case(
        "cluster",
        "a fence and namespaces",
        json!({
            "policy": {"accounts": [{"namespace": "a", "name": "b"}], "namespaceLabels": {"env": "dev"}},
            "namespaces": {"web": {"labels": {"istio-injection": "enabled"}, "pullSecrets": ["infra/regcred"]}},
        }),
    );
    case("cluster", "the central one", with(with(openg2p, much()), json!({"central": {"enabled": true}})));
    cases
}

/// What a rendered object runs: the pod's template, as a Pod of the object's namespace; none where it runs none.
pub fn pod(manifest: &Value) -> Option<Value> {
    let template = manifest["spec"].get("template")?;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("pod");
    pod["metadata"]["namespace"] = manifest["metadata"]["namespace"].clone();
    Some(pod)
}

/// Whether a selector of labels chooses an object that has these.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value)
}

impl Charts {
    /// All that the charts render of the matrix, each object with its case.
    pub fn rendered(&self) -> Vec<(Case, Vec<Value>)> {
        cases()
            .into_iter()
            .map(|case| {
                let manifests = self.render(case.chart, &case.values);
                (case, manifests)
            })
            .collect()
    }
}
