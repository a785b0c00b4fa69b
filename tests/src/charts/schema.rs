//! The `values.schema.json` of a chart, made of its values and of the types that read documents.

use std::path::Path;

use chassis::settings::{KEYS, SAID_BY_DOCUMENTS};
use lifecycle::document::Document;
use serde_json::{Map, Value, json};

use super::described::{defaults, described, is_within};

/// What the pods of Rollcall's charts set themselves.
const SET: [&str; 6] = [
    "ROLLCALL_DOCUMENTS",
    "ROLLCALL_LISTEN",
    "ROLLCALL_HEALTH_LISTEN",
    "ROLLCALL_METRICS_LISTEN",
    "ROLLCALL_INSTANCE",
    "ROLLCALL_SETTINGS",
];

/// The schema that a chart should have, in draft 7: older Helms know no later one.
pub fn schema(chart: &Path) -> Value {
    let described = described(chart);
    let known = |path: &[String]| {
        described.iter().find(|value| value.path == path).map(|value| value.meaning.clone())
    };
    let paths: Vec<Vec<String>> = described.iter().map(|value| value.path.clone()).collect();
    let groups = |path: &[String]| is_within(&paths, path);
    let mut schema = of(&[], &defaults(chart), &known, &groups);
    share(&mut schema);
    let also = json!({
        "global": {"description": "What a release says to all its charts.", "type": "object"},
        "common": {"description": "Values of the library that this chart is made with.", "type": "object"},
        "enabled": {"description": "For charts that have this one as a dependency under a condition.", "type": "boolean"},
    });
    for (key, value) in also.as_object().unwrap() {
        schema["properties"].as_object_mut().unwrap().entry(key).or_insert(value.clone());
    }
    // Only shapes, no descriptions: they would be most of every file, and `rollcall schema` has them.
    if schema.to_string().contains("#/definitions/") {
        let mut types = serde_json::to_value(Document::json_schema()).unwrap();
        let mut definitions = types.as_object_mut().unwrap().remove("$defs").unwrap();
        for key in ["$schema", "title"] {
            types.as_object_mut().unwrap().remove(key);
        }
        definitions["Document"] = types;
        schema["definitions"] = plain(definitions);
    }
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema
}

/// A value's schema: as its name is known to mean, or else as its default is.
fn of(
    path: &[String],
    default: &Value,
    known: &impl Fn(&[String]) -> Option<String>,
    groups: &impl Fn(&[String]) -> bool,
) -> Value {
    let mut schema = match (by_name(path), default) {
        (Some(schema), _) => schema,
        (None, Value::Object(map)) if groups(path) => {
            let inner = |(key, value): (&String, &Value)| {
                (key.clone(), of(&[path, std::slice::from_ref(key)].concat(), value, known, groups))
            };
            let properties: Map<String, Value> = map.iter().map(inner).collect();
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        (None, Value::Object(_)) => json!({"type": "object"}),
        (None, Value::Array(_)) => json!({"type": "array"}),
        (None, Value::Bool(_)) => json!({"type": "boolean"}),
        (None, Value::Number(_)) => json!({"type": "integer", "minimum": 0}),
        (None, Value::String(_)) => json!({"type": "string"}),
        (None, Value::Null) => json!({"type": ["integer", "null"], "minimum": 0}),
    };
    if let Some(meaning) = known(path) {
        schema["description"] = json!(meaning);
    }
    schema
}

/// The parts of an environment.
const PARTS: [&str; 5] = ["hub", "telemetryExporter", "secretSyncer", "postgresInit", "topicProvisioner"];
/// What each of them takes for itself that the environment says for all.
const SHARED: [&str; 19] = [
    "imagePullSecrets",
    "settings",
    "job",
    "podLabels",
    "podAnnotations",
    "podSecurityContext",
    "securityContext",
    "networkPolicy",
    "serviceAnnotations",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "priorityClassName",
    "extraEnv",
    "extraVolumes",
    "extraVolumeMounts",
    "extraInitContainers",
    "image",
];

/// Lets each part of an environment take what is said for all, and what only a part has.
fn share(schema: &mut Value) {
    let all = schema["properties"].clone();
    let text = json!({"type": "string"});
    for part in PARTS {
        let own = schema["properties"].get_mut(part).and_then(|own| own.get_mut("properties"));
        let Some(own) = own.and_then(Value::as_object_mut) else { continue };
        own.extend(SHARED.iter().map(|name| ((*name).to_owned(), all[name].clone())));
        for key in ["repository", "digest"] {
            own["image"]["properties"][key] = text.clone();
        }
        own.insert("replicas".to_owned(), json!({"type": "integer", "minimum": 0}));
        if part == "hub" {
            // Two would tell the same news twice.
            own["replicas"]["maximum"] = json!(1);
        }
        let account =
            json!({"create": {"type": "boolean"}, "name": text, "annotations": texts_of_any_name()});
        let account = json!({"type": "object", "additionalProperties": false, "properties": account});
        own.insert("serviceAccount".to_owned(), account);
    }
}

fn one_of(names: &[&str]) -> Value {
    json!({"enum": names})
}

fn texts_of_any_name() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn objects() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}

/// A map that may have these keys, each with such a value. (Helm garbles what it says of `propertyNames`.)
fn named<'a>(keys: impl Iterator<Item = &'a str>, value: &Value) -> Value {
    let properties: Map<String, Value> = keys.map(|key| (key.to_owned(), value.clone())).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn label() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"})
}

/// The schema of a value whose name says what it is.
fn by_name(path: &[String]) -> Option<Value> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(match path.as_slice() {
        ["fragments"] => json!({
            "type": "object", "additionalProperties": {"$ref": "#/definitions/Document"},
            "propertyNames": {"pattern": "^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$", "maxLength": 200},
        }),
        [.., "settings"] => {
            let names = KEYS.iter().map(|key| key.name);
            let names = names.filter(|name| !SET.contains(name) && !SAID_BY_DOCUMENTS.contains(name));
            named(names, &json!({"type": ["string", "number", "boolean"]}))
        }
        ["namespaces"] => {
            let has = json!({"type": "object", "additionalProperties": false, "properties": {
                "labels": texts_of_any_name(), "annotations": texts_of_any_name(),
                "pullSecrets": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}},
            }});
            json!({"type": "object", "additionalProperties": has, "propertyNames": label()})
        }
        ["needs"] => {
            let kinds = ["tcp", "http", "postgres", "kafka", "grpc", "keycloak", "secret"];
            let mut need = named(kinds.into_iter(), &json!({}));
            need["minProperties"] = json!(1);
            need["maxProperties"] = json!(1);
            json!({"type": "array", "items": need})
        }
        ["databases"] => json!({"type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["name", "user", "secret", "secretUserPasswordKey"],
            "properties": {
                "name": {"type": "string"}, "user": {"type": "string"}, "secret": {"type": "string"},
                "secretUserPasswordKey": {"type": "string"},
                "password": {"type": ["string", "null"], "description": "OpenG2P's, without a meaning: the Secret holds it."},
                "generate": {"type": "boolean"},
                "extensions": {"type": ["array", "string", "null"], "items": {"type": "string"}},
            },
        }}),
        ["postgresql", "port"] => json!({"type": ["integer", "string"]}),
        ["postgresql", "tls"] => json!({"allOf": [{"$ref": "#/definitions/Tls"}]}),
        ["environment", "uid"] => {
            json!({"type": "string", "pattern": "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"})
        }
        ["policy", "accounts"] => json!({"type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["namespace", "name"],
            "properties": {"namespace": label(), "name": {"type": "string", "minLength": 1}},
        }}),
        ["roles", "namespaces"] => json!({"type": "array", "items": label()}),
        ["bus", "brokers"] => {
            json!({"type": "array", "items": {"type": "string", "pattern": "^[^:\\s]+:[0-9]+$"}})
        }
        ["mode"] => one_of(&["report", "enforce"]),
        ["secrets"] => one_of(&["env", "files", "api"]),
        ["down", "run"] => one_of(&["", "plan", "delete"]),
        ["down", "orphans"] => json!({"type": "array", "items": {"type": "string", "pattern": "^[a-z]+/"}}),
        [.., "run"] => one_of(&["serve", "apply"]),
        [.., "pullPolicy"] => one_of(&["Always", "IfNotPresent", "Never"]),
        ["secretNames"] => json!({"type": "array", "items": {"type": "string"}}),
        [.., "from" | "metricsFrom" | "egress"]
        | [
            "imagePullSecrets"
            | "tolerations"
            | "topologySpreadConstraints"
            | "extraEnv"
            | "extraVolumes"
            | "extraVolumeMounts"
            | "extraInitContainers",
        ] => objects(),
        [
            ..,
            "annotations" | "podAnnotations" | "serviceAnnotations" | "podLabels" | "commonLabels"
            | "nodeSelector" | "namespaceLabels" | "waiters",
        ] => texts_of_any_name(),
        ["priorityClassName"] => json!({"type": "string"}),
        _ => return None,
    })
}

/// Without descriptions and defaults, and with references as draft 7 has them.
fn plain(schema: Value) -> Value {
    match schema {
        Value::Object(map) => {
            // A property may be called `description`; what says something is a text.
            let says =
                |key: &str, value: &Value| key == "description" && value.is_string() || key == "default";
            let kept = map.into_iter().filter(|(key, value)| !says(key, value));
            Value::Object(kept.map(|(key, value)| (key, plain(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::String(text) => Value::String(text.replace("#/$defs/", "#/definitions/")),
        other => other,
    }
}
