//! Rights as people give them: the Roles that `rollcall rbac` prints, applied, and what those who have them may and do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lifecycle::document::Environment;
use rollcall::command::rbac::{Account, Process, Service, manifests};
use serde_json::{Value, json};

use crate::cluster::{ACCOUNT, Cluster, User};
use crate::{rollcall, text, until};

/// The Roles of secret-syncer, as the command line makes them.
pub fn of_syncer(environment: &Environment) -> Vec<Value> {
    of_syncer_as(environment, ACCOUNT)
}

/// The same for an account, by namespace and name.
pub fn of_syncer_as(environment: &Environment, account: (&str, &str)) -> Vec<Value> {
    of_service_as(Service::SecretSyncer, environment, account)
}

/// The Roles of a service that runs as this account, by namespace and name.
pub fn of_service_as(service: Service, environment: &Environment, account: (&str, &str)) -> Vec<Value> {
    let account = Account { namespace: account.0.to_owned(), name: account.1.to_owned() };
    manifests(environment, Process::Service(service), &account).unwrap()
}

/// The Roles of the waiter of a module that runs as this account; none where it would be given what no module may read.
pub fn of_waiter_as(module: &str, environment: &Environment, account: (&str, &str)) -> Option<Vec<Value>> {
    let account = Account { namespace: account.0.to_owned(), name: account.1.to_owned() };
    manifests(environment, Process::Waiter(module), &account).ok()
}

/// What `rollcall rbac` prints for an account with these arguments: the YAML of its standard output.
pub fn printed(documents: &Path, account: (&str, &str), args: &[&str]) -> Vec<Value> {
    let account = format!("{}/{}", account.0, account.1);
    let all = [&["rbac", documents.to_str().unwrap(), "--account", &account], args].concat();
    let output = rollcall(&all, &[]);
    assert!(output.status.success(), "{}", text(&output));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// Roles and bindings by kind, namespace and name, with what they allow to whom.
pub fn said(manifests: &[Value]) -> BTreeMap<String, Value> {
    let is_right = |manifest: &&Value| matches!(manifest["kind"].as_str(), Some("Role" | "RoleBinding"));
    let mut rights = BTreeMap::new();
    for manifest in manifests.iter().filter(is_right) {
        let metadata = &manifest["metadata"];
        let name = format!("{} {}/{}", manifest["kind"], metadata["namespace"], metadata["name"]);
        let mut says = manifest.clone();
        says.as_object_mut().unwrap().remove("metadata");
        // Their order means nothing.
        if let Some(rules) = says.get_mut("rules").and_then(Value::as_array_mut) {
            rules.sort_by_key(ToString::to_string);
        }
        assert!(rights.insert(name.clone(), says).is_none(), "{name} twice");
    }
    rights
}

/// The objects that Roles name, as components are written.
pub fn named(manifests: &[Value]) -> BTreeSet<String> {
    let rules = manifests.iter().flat_map(|manifest| {
        let namespace = manifest["metadata"]["namespace"].as_str().unwrap();
        manifest["rules"].as_array().into_iter().flatten().map(move |rule| (namespace, rule))
    });
    let names = rules.flat_map(|(namespace, rule)| {
        let kind = rule["resources"][0].as_str().unwrap().trim_end_matches('s');
        let names = rule["resourceNames"].as_array().into_iter().flatten();
        names.map(move |name| format!("{kind}/{namespace}/{}", name.as_str().unwrap()))
    });
    names.collect()
}

/// What a process asked an API server for, by all that it said: verbs and objects.
pub fn asked(said: &str) -> BTreeSet<(String, String)> {
    let part = |line: &str, from: &str, to: char| {
        let (_, rest) = line.split_once(from)?;
        Some(rest.split(to).next()?.to_owned())
    };
    let lines = said.lines().filter(|line| line.contains("asks the API server"));
    let asked = lines.map(|line| (part(line, "verb=\"", '"').unwrap(), part(line, "object=", ' ').unwrap()));
    asked.collect()
}

impl Cluster {
    /// Applies the Roles of secret-syncer.
    pub async fn grant(&self, environment: &Environment) {
        self.give(ACCOUNT, &of_syncer(environment)).await;
    }

    /// Applies these, and waits until the API server goes by the Roles among them, which are an account's.
    pub async fn give(&self, account: (&str, &str), manifests: &[Value]) {
        for manifest in manifests {
            self.apply(manifest.clone()).await;
        }
        for role in manifests.iter().filter(|manifest| manifest["kind"] == "Role") {
            for rule in role["rules"].as_array().unwrap() {
                let namespace = role["metadata"]["namespace"].as_str().unwrap();
                until(&format!("{rule} is given in {namespace}"), async || {
                    self.goes_by(account, namespace, rule).await
                })
                .await;
            }
        }
    }

    async fn goes_by(&self, (of, account): (&str, &str), namespace: &str, rule: &Value) -> bool {
        let (resource, part) = rule["resources"][0].as_str().unwrap().split_once('/').map_or_else(
            || (rule["resources"][0].clone(), Value::Null),
            |(resource, part)| (json!(resource), json!(part)),
        );
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{of}:{account}"),
                "resourceAttributes": {
                    "namespace": namespace, "verb": rule["verbs"][0], "group": rule["apiGroups"][0],
                    "resource": resource, "subresource": part, "name": rule["resourceNames"][0],
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self.admin().call("POST", path, Some(review)).await.unwrap();
        answer["status"]["allowed"].as_bool().unwrap_or(false)
    }

    /// Applies what `rollcall rbac` prints for an account with these arguments; the account, and the objects that are named.
    pub async fn printed(
        &self,
        documents: &Path,
        account: (&str, &str),
        args: &[&str],
    ) -> (User, BTreeSet<String>) {
        let manifests = printed(documents, account, args);
        self.give(account, &manifests).await;
        (self.account(account).await, named(&manifests))
    }
}

impl User {
    /// Every right to objects that the user has in a namespace, as verb and object; and whether that is all he has, but for
    /// asking who he is and what he may.
    pub async fn rights(&self, namespace: &str) -> BTreeSet<(String, String)> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let answer = self.call("POST", path, Some(review)).await.unwrap();
        assert_eq!(answer["status"]["incomplete"], false, "{answer}");
        let texts = |rule: &Value, key: &str| -> Vec<String> {
            let texts = rule[key].as_array().into_iter().flatten();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut rights = BTreeSet::new();
        for rule in answer["status"]["resourceRules"].as_array().unwrap() {
            let about_oneself = ["authorization.k8s.io", "authentication.k8s.io"];
            if texts(rule, "apiGroups").iter().all(|group| about_oneself.contains(&group.as_str())) {
                continue;
            }
            for resource in texts(rule, "resources") {
                let kind = resource.trim_end_matches('s');
                let mut names = texts(rule, "resourceNames");
                if resource == "events" && texts(rule, "verbs") == ["create"] {
                    // Nobody knows the names of Events before.
                    names.push("*".to_owned());
                }
                assert!(!names.is_empty(), "a right to every object: {rule}");
                for name in names {
                    let object = format!("{kind}/{namespace}/{name}");
                    rights.extend(texts(rule, "verbs").into_iter().map(|verb| (verb, object.clone())));
                }
            }
        }
        rights
    }
}
