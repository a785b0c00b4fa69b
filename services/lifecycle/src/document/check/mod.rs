//! Checks of one document by itself: everything that can be known to be wrong without asking a server.

mod databases;
mod generate;
mod objects;
mod work;
mod workloads;

pub use objects::forbidden_type;

use super::naming::{POSTGRES_NAME_MAX, observer_role};
use super::{Document, NamingError, Ready, SecretRef, keycloak_check};
use crate::component::{is_dns_label, is_name};

/// What is wrong with a document: (key, message) pairs; empty when it is right.
pub fn check_fragment(document: &Document) -> Vec<(String, String)> {
    let mut found = Found(Vec::new());
    identity(document, &mut found);
    servers(document, &mut found);
    databases::check(document, &mut found);
    topics(document, &mut found);
    objects::check(document, &mut found);
    super::vault::check(document, &mut found);
    work::check(document, &mut found);
    modules(document, &mut found);
    keycloak_check::keycloak(document, &mut found);
    duplicates(document, &mut found);
    found.0
}

pub(super) struct Found(Vec<(String, String)>);

impl Found {
    pub(super) fn say(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push((key.into(), message.into()));
    }

    pub(super) fn name(&mut self, key: &str, name: &str) {
        if !is_name(name) {
            self.say(key, format!("`{name}` is no name: use lower-case letters, digits, `-`, `_` and `.`"));
        }
    }

    fn physical(&mut self, key: &str, name: Result<String, NamingError>) {
        if let Err(error) = name {
            self.say(key, error.to_string());
        }
    }

    pub(super) fn secret_ref(&mut self, key: &str, reference: &SecretRef) {
        if !is_key(&reference.key) {
            self.say(
                format!("{key}.key"),
                format!("`{}` is no key of a Secret: use letters, digits, `-`, `_` and `.`", reference.key),
            );
        }
    }

    fn ready(&mut self, key: &str, ready: &Ready) {
        match ready.given() {
            1 => {}
            0 => self.say(key, "says nothing: give one of http, tcp, grpc, keycloak"),
            _ => self.say(key, "says more than one thing: give exactly one of http, tcp, grpc, keycloak"),
        }
        if let Some(tcp) = &ready.tcp
            && !is_address(&tcp.address)
        {
            self.say(format!("{key}.tcp.address"), format!("`{}` is not host:port", tcp.address));
        }
        let urls = [
            ("http.url", ready.http.as_ref().map(|h| &h.url)),
            ("grpc.url", ready.grpc.as_ref().map(|g| &g.url)),
            ("keycloak.url", ready.keycloak.as_ref().map(|k| &k.url)),
            ("keycloak.management", ready.keycloak.as_ref().and_then(|k| k.management.as_ref())),
        ];
        for (what, url) in urls {
            if let Some(url) = url {
                self.address(&format!("{key}.{what}"), url);
            }
        }
    }

    pub(super) fn address(&mut self, key: &str, url: &url::Url) {
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            self.say(key, format!("`{url}` is not an http or https address"));
        }
        if url.password().is_some() || !url.username().is_empty() {
            self.say(key, "holds credentials; documents never do");
        }
    }
}

/// Whether `text` may be a key of a Secret (Kubernetes allows letters, digits, `-`, `_`, `.`).
fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text != "."
        && text != ".."
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn identity(document: &Document, found: &mut Found) {
    for (key, name) in [
        ("environment.name", &document.environment.name),
        ("fragment.name", &document.fragment.name),
        ("fragment.namespace", &document.fragment.namespace),
    ] {
        if !is_dns_label(name) {
            found.say(
                key,
                format!("`{name}` is not a DNS label: lower-case letters, digits and `-`, at most 63"),
            );
        }
    }
    if document.environment.uid.is_nil() {
        found.say("environment.uid", "is all zeros; mint one with `rollcall init`");
    }
}

fn servers(document: &Document, found: &mut Found) {
    for (name, server) in &document.postgres {
        let key = format!("postgres.{name}");
        found.name(&key, name);
        if server.host.is_empty() {
            found.say(format!("{key}.host"), "is empty");
        }
        if let Some(admin) = &server.admin {
            found.secret_ref(&format!("{key}.admin.password"), &admin.password);
        }
        delegates(&key, server, found);
        if let Some(observer) = &server.observer {
            found.secret_ref(&format!("{key}.observer.password"), &observer.password);
            let role = observer_role(&document.environment.name);
            if role.len() > POSTGRES_NAME_MAX {
                found.say(format!("{key}.observer"), format!("its role's name `{role}` would be {} bytes long, {POSTGRES_NAME_MAX} are allowed; shorten environment.name", role.len()));
            }
        }
        if document.uses.postgres.contains_key(name) {
            found.say(
                format!("uses.postgres.{name}"),
                "is declared in this fragment itself; keep it under `postgres` only",
            );
        }
    }
    for (name, server) in &document.uses.postgres {
        let key = format!("uses.postgres.{name}");
        found.name(&key, name);
        if server.admin.is_some() {
            found.say(
                format!("{key}.admin"),
                "an administrator's credential stands only in the fragment that declares the server",
            );
        }
        if !server.delegate.is_empty() {
            found.say(
                format!("{key}.delegate"),
                "who may ask for databases is said only in the fragment that declares the server",
            );
        }
        if server.observer.is_some() {
            found.say(
                format!("{key}.observer"),
                "the observer stands only in the fragment that declares the server",
            );
        }
    }
    for (at, clusters) in [("kafka", &document.kafka), ("uses.kafka", &document.uses.kafka)] {
        for (name, cluster) in clusters {
            let key = format!("{at}.{name}");
            found.name(&key, name);
            if cluster.brokers.is_empty() {
                found.say(format!("{key}.brokers"), "is empty; name at least one broker");
            }
            for broker in cluster.brokers.iter().filter(|broker| !is_address(broker)) {
                found.say(format!("{key}.brokers"), format!("`{broker}` is not host:port"));
            }
        }
    }
    for name in document.kafka.keys().filter(|name| document.uses.kafka.contains_key(*name)) {
        found.say(
            format!("uses.kafka.{name}"),
            "is declared in this fragment itself; keep it under `kafka` only",
        );
    }
}

fn delegates(key: &str, server: &super::Postgres, found: &mut Found) {
    if server.admin.is_none() && !server.delegate.is_empty() {
        found.say(format!("{key}.delegate"), "needs `admin`: without one nothing can be made for anybody");
    }
    for (i, rule) in server.delegate.iter().enumerate() {
        let key = format!("{key}.delegate.{i}");
        if rule.namespaces.is_empty() {
            found.say(format!("{key}.namespaces"), "is empty; name at least one namespace");
        }
        for (at, names) in [("namespaces", &rule.namespaces), ("fragments", &rule.fragments)] {
            for name in names.iter().filter(|name| !is_dns_label(name)) {
                found.say(format!("{key}.{at}"), format!("`{name}` is not a DNS label"));
            }
        }
        accounts(&format!("{key}.accounts"), rule, found);
    }
}

fn accounts(key: &str, rule: &super::Delegate, found: &mut Found) {
    let Some(accounts) = &rule.accounts else { return };
    if accounts.is_empty() {
        found.say(
            key,
            "is empty, so nobody may ask; name accounts, or leave it out for every account of the namespaces",
        );
    }
    for named in accounts {
        let (namespace, name) = named.split_once('/').map_or((None, named.as_str()), |(n, a)| (Some(n), a));
        // A DNS subdomain, as Kubernetes has it.
        if name.len() > 253 || !name.split('.').all(is_dns_label) {
            found.say(key, format!("`{named}` is no service account: write `name` or `namespace/name`"));
        } else if let Some(namespace) = namespace.filter(|namespace| !rule.namespaces.contains(*namespace)) {
            found.say(
                key,
                format!("`{named}` is of a namespace that is not among `namespaces`; add {namespace} there"),
            );
        }
    }
}

fn topics(document: &Document, found: &mut Found) {
    for (name, topic) in &document.topics {
        let key = format!("topics.{name}");
        found.name(&key, name);
        if !document.kafka.contains_key(&topic.kafka) && !document.uses.kafka.contains_key(&topic.kafka) {
            found.say(
                format!("{key}.kafka"),
                format!("`{}` is neither under kafka nor under uses.kafka of this fragment", topic.kafka),
            );
        }
        found.physical(&key, document.naming.topic(topic.name.as_deref().unwrap_or(name), document.place()));
        if topic.partitions == 0 || topic.partitions > 10_000 {
            found
                .say(format!("{key}.partitions"), format!("{} is not between 1 and 10000", topic.partitions));
        }
        if let super::Replication::Factor(factor) = topic.replication {
            let isr = topic.config.get("min.insync.replicas").and_then(|v| v.parse::<u16>().ok());
            if factor == 0 {
                found.say(
                    format!("{key}.replication"),
                    "0 replicas hold nothing; give a number from 1 or `auto`",
                );
            } else if isr.is_some_and(|isr| isr > factor) {
                found.say(
                    format!("{key}.config.min.insync.replicas"),
                    format!("is more than the {factor} replicas, so nothing could ever be written"),
                );
            }
        }
    }
}

fn modules(document: &Document, found: &mut Found) {
    for (name, module) in &document.modules {
        let key = format!("modules.{name}");
        found.name(&key, name);
        if let Some(ready) = &module.ready {
            found.ready(&format!("{key}.ready"), ready);
        }
        workloads::module(&key, module, &document.fragment.namespace, found);
        for (i, need) in module.needs.iter().enumerate() {
            if module.needs[..i].iter().any(|earlier| earlier.component == need.component) {
                found.say(format!("{key}.needs"), format!("{} stands twice", need.component));
            }
        }
        if document.uses.modules.contains_key(name) {
            found.say(
                format!("uses.modules.{name}"),
                "is declared in this fragment itself; keep it under `modules` only",
            );
        }
    }
    for (name, used) in &document.uses.modules {
        found.name(&format!("uses.modules.{name}"), name);
        if let Some(ready) = &used.ready {
            found.ready(&format!("uses.modules.{name}.ready"), ready);
        }
    }
    for (name, ready) in &document.endpoints {
        found.name(&format!("endpoints.{name}"), name);
        found.ready(&format!("endpoints.{name}"), ready);
    }
}

fn duplicates(document: &Document, found: &mut Found) {
    let mut seen = std::collections::BTreeMap::new();
    for claim in claims(document) {
        if let Some(first) = seen.insert(claim.folded, claim.key.clone()) {
            found.say(claim.key, format!("{} is declared twice, also as {first}; keep one", claim.what));
        }
    }
}

/// What a document claims for itself.
pub(super) struct Claim {
    /// What is claimed, in a form that is equal for two claims of an environment that clash: names that differ only in
    /// `-`, `_` and `.` are equal.
    pub(super) folded: String,
    /// What is claimed, for people.
    pub(super) what: String,
    /// Under which key.
    pub(super) key: String,
}

impl Claim {
    pub(super) fn new(what: String, key: String) -> Claim {
        Claim { folded: super::folded(&what), what, key }
    }

    fn on(kind: &str, server: &str, name: &str, key: String) -> Claim {
        Claim::new(format!("{kind} `{name}` on {server}"), key)
    }
}

/// Everything a document claims for itself.
pub(super) fn claims(document: &Document) -> Vec<Claim> {
    let (naming, place) = (&document.naming, document.place());
    let fragment = format!("fragment `{}`", document.fragment.name);
    let mut claims = vec![Claim::new(fragment, "fragment.name".to_owned())];
    let mut declare = |kind: &str, at: &str, name: &str| {
        claims.push(Claim::new(format!("{kind}/{name}"), format!("{at}.{name}")));
    };
    document.postgres.keys().for_each(|name| declare("postgres", "postgres", name));
    document.kafka.keys().for_each(|name| declare("kafka", "kafka", name));
    document.databases.keys().for_each(|name| declare("database", "databases", name));
    document.roles.keys().for_each(|name| declare("role", "roles", name));
    document.migrations.keys().for_each(|name| declare("migration", "migrations", name));
    document.steps.keys().for_each(|name| declare("step", "steps", name));
    document.topics.keys().for_each(|name| declare("topic", "topics", name));
    document.endpoints.keys().for_each(|name| declare("endpoint", "endpoints", name));
    document.modules.keys().for_each(|name| declare("module", "modules", name));
    let secrets = document.secrets.iter().flat_map(|(name, secret)| {
        secret.stands(name, place.namespace).into_iter().map(move |what| (what, format!("secrets.{name}")))
    });
    let configmaps = document.configmaps.iter().flat_map(|(name, configmap)| {
        configmap
            .stands(name, place.namespace)
            .into_iter()
            .map(move |what| (what, format!("configmaps.{name}")))
    });
    for (what, key) in secrets.chain(configmaps) {
        // Kubernetes tells `a.b` and `a-b` apart.
        let what = what.to_string();
        claims.push(Claim { folded: what.clone(), what, key });
    }
    claims.extend(databases::claims(document));
    for (name, topic) in &document.topics {
        if let Ok(physical) = naming.topic(topic.name.as_deref().unwrap_or(name), place) {
            claims.push(Claim::on(
                "topic",
                &format!("kafka/{}", topic.kafka),
                &physical,
                format!("topics.{name}"),
            ));
        }
    }
    claims.extend(keycloak_check::claims(document));
    claims
}
