//! What should be: the topics that documents declare, by the cluster they are on and how their fragments reach it.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Document, Environment, Identity, Kafka, Mode, OnDelete, Replication};
use lifecycle::{Component, Kind, sha256_hex};

/// The topics of one environment on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The cluster, `kafka/…`.
    pub cluster: Component,
    /// The environment.
    pub environment: Identity,
    /// How the cluster is reached.
    pub connection: Connection,
    /// The topics.
    pub topics: BTreeMap<Component, TopicSpec>,
}

impl Spec {
    /// The Secrets that are read to reach the cluster: its certificate authority, where a document names one.
    pub fn reads(&self) -> BTreeSet<Component> {
        match &self.connection.tls {
            Some(Authority::Secret { secret, .. }) => [secret.clone()].into(),
            Some(Authority::System) | None => BTreeSet::new(),
        }
    }

    /// The same, of one topic only.
    #[must_use]
    pub fn only(&self, component: &Component) -> Spec {
        let topic = self.topics.get(component).cloned();
        Spec {
            cluster: self.cluster.clone(),
            environment: self.environment.clone(),
            connection: self.connection.clone(),
            topics: topic.map(|topic| (component.clone(), topic)).into_iter().collect(),
        }
    }
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// `host:port` of at least one broker.
    pub brokers: Vec<String>,
    /// How many brokers the documents expect.
    pub expect_brokers: u16,
    /// TLS, when the brokers speak it.
    pub tls: Option<Authority>,
}

/// Who vouches for the brokers' certificates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// The authorities this machine trusts.
    System,
    /// The certificates in a key of a Secret, PEM.
    Secret {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
    },
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name on the cluster.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas each partition has.
    pub replication: Replication,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
    /// The fragment that declares it.
    pub fragment: String,
    /// Its fragment is in mode `report`.
    pub report_only: bool,
    /// What a teardown does with it.
    pub on_delete: OnDelete,
}

impl TopicSpec {
    /// SHA-256 over what is asked for, lower-case hexadecimal.
    pub fn hash(&self) -> String {
        let replication = match self.replication {
            Replication::Auto => "auto".to_owned(),
            Replication::Factor(factor) => factor.to_string(),
        };
        let partitions = self.partitions.to_string();
        let mut parts = vec![self.name.as_str(), &partitions, &replication];
        parts.extend(self.config.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
        sha256_hex(&parts)
    }

    /// The `min.insync.replicas` it asks for.
    pub fn min_insync(&self) -> Option<usize> {
        self.config.get("min.insync.replicas")?.parse().ok()
    }
}

/// The topics of an environment, cluster by cluster. Fragments that reach a cluster by other addresses have their topics
/// made by these addresses.
pub fn specs(environment: &Environment) -> Vec<Spec> {
    let mut specs: BTreeMap<(Component, Connection), BTreeMap<Component, TopicSpec>> = BTreeMap::new();
    for topic in environment.topics() {
        let document = &topic.source.document;
        let kafka = &topic.spec.kafka;
        // Either is there and the name is a good one, or the fragment would not have been taken.
        let Some(cluster) = document.kafka.get(kafka).or_else(|| document.uses.kafka.get(kafka)) else {
            continue;
        };
        let base = topic.spec.name.as_deref().unwrap_or_else(|| topic.component.name());
        let Ok(name) = environment.naming().topic(base, document.place()) else { continue };
        let spec = TopicSpec {
            name,
            partitions: topic.spec.partitions,
            replication: topic.spec.replication,
            config: topic.spec.config.clone(),
            fragment: document.fragment.name.clone(),
            report_only: document.policy.mode == Mode::Report,
            on_delete: document.policy.on_delete_of(topic.spec.on_delete),
        };
        let at = (Component::new(Kind::Kafka, kafka), connection(cluster, document));
        specs.entry(at).or_default().insert(topic.component, spec);
    }
    let environment = environment.identity();
    specs
        .into_iter()
        .map(|((cluster, connection), topics)| Spec {
            cluster,
            environment: environment.clone(),
            connection,
            topics,
        })
        .collect()
}

/// The clusters that documents declare, each with no topic, and what a teardown does there with what nobody declares.
pub fn clusters(environment: &Environment) -> Vec<(Spec, OnDelete)> {
    let cluster = |declared: lifecycle::document::Declared<'_, Kafka>| {
        let document = &declared.source.document;
        let spec = Spec {
            cluster: declared.component,
            environment: environment.identity().clone(),
            connection: connection(declared.spec, document),
            topics: BTreeMap::new(),
        };
        let enforced = document.policy.mode == Mode::Enforce;
        (spec, if enforced { document.policy.on_delete } else { OnDelete::Retain })
    };
    environment.kafka().map(cluster).collect()
}

fn connection(cluster: &Kafka, document: &Document) -> Connection {
    let authority = |tls: &lifecycle::document::KafkaTls| match &tls.ca {
        None => Authority::System,
        Some(ca) => {
            Authority::Secret { secret: ca.secret.secret(&document.fragment.namespace), key: ca.key.clone() }
        }
    };
    Connection {
        brokers: cluster.brokers.clone(),
        expect_brokers: cluster.expect_brokers,
        tls: cluster.tls.as_ref().map(authority),
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Source;

    use super::*;

    const HEAD: &str = "
rollcall: v1
environment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
naming: {topic: '{environment}.{name}'}
";

    fn environment(fragments: &[&str]) -> Environment {
        let sources = fragments.iter().enumerate().map(|(i, text)| {
            let file = format!("{i}.yaml");
            Source { document: chassis::documents::parse(&file, &format!("{HEAD}{text}")).unwrap(), file }
        });
        let merged = Environment::merge(sources);
        assert_eq!(merged.problems, []);
        merged.environment.unwrap()
    }

    const BASE: &str = "
fragment: {name: base, namespace: base}
kafka: {main: {brokers: ['k:1'], tls: {ca: {secret: ca, key: ca.crt}}}, other: {brokers: ['o:1'], tls: {}}}
topics:
  declared: {kafka: main, partitions: 3}
  elsewhere: {kafka: other, partitions: 1, replication: 2, name: there}
";

    #[test]
    fn topics_stand_by_their_cluster_and_the_way_to_it() {
        let environment = environment(&[
            BASE,
            "
fragment: {name: same, namespace: same}
policy: {mode: report}
uses: {kafka: {main: {brokers: ['k:1'], tls: {ca: {secret: base/ca, key: ca.crt}}}}}
topics: {same: {kafka: main, partitions: 1}}
",
            "
fragment: {name: far, namespace: far}
uses: {kafka: {main: {brokers: ['k.far:1']}}}
topics: {far: {kafka: main, partitions: 1}}
",
        ]);
        let specs = specs(&environment);
        let seen: Vec<(String, Vec<String>, Vec<&str>)> = specs
            .iter()
            .map(|spec| {
                let names = spec.topics.values().map(|topic| topic.name.as_str()).collect();
                (spec.cluster.to_string(), spec.connection.brokers.clone(), names)
            })
            .collect();
        let at = |cluster: &str, broker: &str, names: &[&'static str]| {
            (cluster.to_owned(), vec![broker.to_owned()], names.to_vec())
        };
        let expected = [
            at("kafka/main", "k.far:1", &["dev.far"]),
            at("kafka/main", "k:1", &["dev.declared", "dev.same"]),
            at("kafka/other", "o:1", &["dev.there"]),
        ];
        assert_eq!(seen, expected);
        let ca = Authority::Secret { secret: "secret/base/ca".parse().unwrap(), key: "ca.crt".to_owned() };
        assert_eq!(specs[1].connection.tls, Some(ca));
        let read: Vec<BTreeSet<Component>> = specs.iter().map(Spec::reads).collect();
        let authority: Component = "secret/base/ca".parse().unwrap();
        // It logs in nowhere, so it reads no password.
        assert_eq!(read, [[].into(), [authority].into(), [].into()]);
        assert_eq!((&specs[0].connection.tls, &specs[2].connection.tls), (&None, &Some(Authority::System)));
        let same = &specs[1].topics[&"topic/same".parse().unwrap()];
        assert!(same.report_only && same.fragment == "same");
    }

    #[test]
    fn the_hash_tells_every_wish_apart() {
        let topic = specs(&environment(&[BASE]))[0].topics.values().next().unwrap().clone();
        let same = TopicSpec { fragment: "other".to_owned(), report_only: true, ..topic.clone() };
        assert_eq!(topic.hash(), same.hash());
        let other = [
            TopicSpec { partitions: 4, ..topic.clone() },
            TopicSpec { replication: Replication::Factor(3), ..topic.clone() },
            TopicSpec { config: [("retention.ms".to_owned(), "1".to_owned())].into(), ..topic.clone() },
        ];
        assert!(other.iter().all(|other| other.hash() != topic.hash()));
    }
}
