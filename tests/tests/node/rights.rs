//! What every account of an environment may do, in every namespace, compared with a file; and that it reads no Secret but those
//! that it is given by name.

use std::collections::BTreeSet;

use acceptance::node::Place;
use acceptance::root;
use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// What is compared; `ROLLCALL_WRITE=1` writes it anew.
const EXPECTED: &str = "tests/tests/node/can-i.txt";

/// The accounts of the namespace's environment. `default` is nobody's: what it may everybody may.
pub(crate) async fn are_as_expected(place: &Place, namespace: &str) {
    let namespaces = names(place, &["get", "namespaces"]);
    let secrets = names(place, &["get", "secrets", "-n", namespace]);
    let mut found = String::new();
    let mut everybody = BTreeSet::new();
    let mut accounts = names(place, &["get", "serviceaccounts", "-n", namespace]);
    assert!(accounts.len() > 30, "{accounts:?}");
    accounts.sort_by_key(|account| (account != "default", account.clone()));
    for account in accounts {
        let client = client(place, &format!("system:serviceaccount:{namespace}:{account}")).await;
        let rules = join_all(namespaces.iter().map(|namespace| rules(&client, namespace))).await;
        let (mut given, mut may) = (BTreeSet::new(), BTreeSet::new());
        for (at, rules) in namespaces.iter().zip(rules) {
            for rule in &rules {
                let line = format!("{at}: {}", words(rule));
                if account == "default" {
                    everybody.insert(line.clone());
                } else if everybody.contains(&line) {
                    continue;
                }
                // The server lists them in no order.
                may.insert(format!("{account} in {line}\n"));
                let secrets = rule.resources.iter().flatten().any(|resource| resource == "secrets");
                if at == namespace && secrets && rule.verbs.iter().any(|verb| verb == "get") {
                    given.extend(rule.resource_names.clone().unwrap_or_default());
                }
            }
        }
        found.extend(may);
        let readable = join_all(secrets.iter().map(|secret| reads(&client, namespace, secret))).await;
        let readable: BTreeSet<String> = secrets
            .iter()
            .zip(readable)
            .filter(|(_, reads)| *reads)
            .map(|(secret, _)| secret.clone())
            .collect();
        assert!(readable.is_subset(&given), "{account} reads {readable:?}, and is given {given:?}");
        assert!(!reads(&client, namespace, "").await, "{account} reads every Secret");
    }
    let path = root().join(EXPECTED);
    if std::env::var_os("ROLLCALL_WRITE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{EXPECTED} says otherwise; ROLLCALL_WRITE=1 writes what is");
}

fn names(place: &Place, args: &[&str]) -> Vec<String> {
    let list = place.json(args);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The administrator, who asks as somebody else: `kubectl --as`.
async fn client(place: &Place, user: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(place.node.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    Client::try_from(config).unwrap()
}

/// `kubectl auth can-i --list`, as far as it is about resources.
async fn rules(client: &Client, namespace: &str) -> Vec<ResourceRule> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let api = Api::<SelfSubjectRulesReview>::all(client.clone());
    let status = api.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert!(!status.incomplete, "{status:?}");
    status.resource_rules
}

/// `kubectl auth can-i get secret/NAME`; without a name, any.
async fn reads(client: &Client, namespace: &str, name: &str) -> bool {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("get".to_owned()),
        resource: Some("secrets".to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// A rule in words: verbs, resources with their groups, names; each in order.
fn words(rule: &ResourceRule) -> String {
    let groups = rule.api_groups.iter().flatten();
    let dotted = groups.flat_map(|group| {
        let resources = rule.resources.iter().flatten();
        resources.map(move |resource| format!("{resource}.{group}").trim_end_matches('.').to_owned())
    });
    let names = rule.resource_names.iter().flatten().cloned();
    let parts = [listed(rule.verbs.iter().cloned()), listed(dotted), listed(names)];
    parts.join(" ").trim_end().to_owned()
}

fn listed(words: impl Iterator<Item = String>) -> String {
    words.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}
