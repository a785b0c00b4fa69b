//! The union of an environment's fragments, and what keeps a fragment out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::naming::folded;
use super::{
    Database, Document, Identity, Kafka, Module, Naming, Postgres, Ready, Secret, SecretName, SecretRef,
    Topic, check_fragment,
};
use crate::{Component, Kind};

/// A document and where it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The file, or who registered it.
    pub file: String,
    /// The document.
    pub document: Document,
}

/// What is wrong with a document: file, key, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, or who registered the document.
    pub file: String,
    /// The key in it, dotted; empty when it is about the whole file.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}: {}: {}", self.file, self.key, self.message)
        }
    }
}

/// What merging gives: the environment of the fragments that were taken, and why the others were not.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The union of the fragments that are right; none when no fragment is.
    pub environment: Option<Environment>,
    /// Why fragments were refused, in order of file and key. Empty when all were taken.
    pub problems: Vec<Problem>,
}

/// The union of an environment's fragments.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    identity: Identity,
    naming: Naming,
    sources: BTreeMap<String, Source>,
}

/// Something a fragment declares, with where it is declared.
#[derive(Debug)]
pub struct Declared<'a, T> {
    /// The fragment's document and file.
    pub source: &'a Source,
    /// The component it declares.
    pub component: Component,
    /// What it says.
    pub spec: &'a T,
}

impl<T> Clone for Declared<'_, T> {
    fn clone(&self) -> Self {
        Declared { source: self.source, component: self.component.clone(), spec: self.spec }
    }
}

impl Environment {
    /// Merges fragments. The result does not depend on their order. A fragment that is wrong by itself is refused,
    /// and only it; fragments that contradict each other are refused together, because neither is known to be right.
    pub fn merge(sources: impl IntoIterator<Item = Source>) -> Merged {
        let mut sources: Vec<Source> = sources.into_iter().collect();
        sources
            .sort_by(|a, b| (&a.file, &a.document.fragment.name).cmp(&(&b.file, &b.document.fragment.name)));

        let mut problems = Vec::new();
        sources.retain(|source| {
            let found = check_fragment(&source.document);
            let sound = found.is_empty();
            problems.extend(found.into_iter().map(|(key, message)| Problem {
                file: source.file.clone(),
                key,
                message,
            }));
            sound
        });

        let clashes = clashes(&sources);
        let refused: BTreeSet<&str> = clashes.iter().map(|p| p.file.as_str()).collect();
        sources.retain(|source| !refused.contains(source.file.as_str()));
        problems.extend(clashes);
        problems.sort();
        problems.dedup();

        let environment = sources.first().map(|first| Environment {
            identity: first.document.environment.clone(),
            naming: first.document.naming.clone(),
            sources: sources.iter().map(|s| (s.document.fragment.name.clone(), s.clone())).collect(),
        });
        Merged { environment, problems }
    }

    /// The environment's name and uid.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How names become physical names.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The fragments, in the order of their names.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// Declared `PostgreSQL` servers.
    pub fn postgres(&self) -> impl Iterator<Item = Declared<'_, Postgres>> {
        self.declared(Kind::Postgres, |d| &d.postgres)
    }

    /// Declared Kafka clusters.
    pub fn kafka(&self) -> impl Iterator<Item = Declared<'_, Kafka>> {
        self.declared(Kind::Kafka, |d| &d.kafka)
    }

    /// Declared databases.
    pub fn databases(&self) -> impl Iterator<Item = Declared<'_, Database>> {
        self.declared(Kind::Database, |d| &d.databases)
    }

    /// Declared topics.
    pub fn topics(&self) -> impl Iterator<Item = Declared<'_, Topic>> {
        self.declared(Kind::Topic, |d| &d.topics)
    }

    /// Declared endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = Declared<'_, Ready>> {
        self.declared(Kind::Endpoint, |d| &d.endpoints)
    }

    /// Declared modules.
    pub fn modules(&self) -> impl Iterator<Item = Declared<'_, Module>> {
        self.declared(Kind::Module, |d| &d.modules)
    }

    /// Declared Secrets.
    pub fn secrets(&self) -> impl Iterator<Item = Declared<'_, Secret>> {
        self.sources.values().flat_map(|source| {
            source.document.secrets.iter().map(move |(name, spec)| Declared {
                source,
                component: name.component(&source.document.fragment.namespace),
                spec,
            })
        })
    }

    /// Every value that some document refers to: Secret and key.
    pub fn references(&self) -> BTreeSet<(Component, String)> {
        let mut found = BTreeSet::new();
        for source in self.sources.values() {
            let document = &source.document;
            let mut refer = |reference: &SecretRef| {
                let secret = reference.secret.component(&document.fragment.namespace);
                found.insert((secret, reference.key.clone()));
            };
            for server in document.postgres.values().chain(document.uses.postgres.values()) {
                server.admin.iter().for_each(|admin| refer(&admin.password));
                server.observer.iter().for_each(|observer| refer(&observer.password));
                server.tls.ca.iter().for_each(&mut refer);
            }
            for cluster in document.kafka.values().chain(document.uses.kafka.values()) {
                cluster.tls.iter().filter_map(|tls| tls.ca.as_ref()).for_each(&mut refer);
            }
            for database in document.databases.values() {
                refer(&database.roles.app.password);
            }
            for copy in document.secrets.values().filter_map(|secret| secret.copy.as_ref()) {
                for key in copy.keys.values() {
                    refer(&SecretRef { secret: copy.from.clone(), key: key.clone() });
                }
            }
        }
        found
    }

    /// The module called `name`.
    pub fn module(&self, name: &str) -> Option<Declared<'_, Module>> {
        self.modules().find(|m| m.component.name() == name)
    }

    fn declared<'a, T: 'a>(
        &'a self,
        kind: Kind,
        part: impl Fn(&'a Document) -> &'a BTreeMap<String, T> + 'a,
    ) -> impl Iterator<Item = Declared<'a, T>> + 'a {
        self.sources.values().flat_map(move |source| {
            part(&source.document).iter().map(move |(name, spec)| Declared {
                source,
                component: Component::new(kind, name),
                spec,
            })
        })
    }
}

impl<T> Declared<'_, T> {
    /// The component of a Secret named in this fragment.
    pub fn secret(&self, name: &SecretName) -> Component {
        name.component(&self.source.document.fragment.namespace)
    }
}

/// What two fragments may not both say. Each claim is (what is claimed, who claims it under which key).
fn clashes(sources: &[Source]) -> Vec<Problem> {
    let mut claims: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    for source in sources {
        for (what, key) in super::check::claims(&source.document) {
            claims.entry(what).or_default().push((&source.file, key));
        }
    }
    let mut problems = Vec::new();
    for (what, claimants) in claims.iter().filter(|(_, claimants)| claimants.len() > 1) {
        for (i, (file, key)) in claimants.iter().enumerate() {
            let others: Vec<String> = claimants
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .map(|(_, (file, key))| format!("{file} ({key})"))
                .collect();
            problems.push(Problem {
                file: (*file).to_owned(),
                key: key.clone(),
                message: format!("{what} is declared twice, also in {}; keep one", others.join(" and ")),
            });
        }
    }
    if let Some(first) = sources.first() {
        let (identity, naming) = (&first.document.environment, &first.document.naming);
        for other in &sources[1..] {
            if other.document.environment != *identity {
                problems.extend(disagree(first, other, "environment"));
            } else if other.document.naming != *naming {
                problems.extend(disagree(first, other, "naming"));
            }
        }
    }
    problems
}

fn disagree(a: &Source, b: &Source, key: &str) -> [Problem; 2] {
    [(a, b), (b, a)].map(|(this, that)| Problem {
        file: this.file.clone(),
        key: key.to_owned(),
        message: format!(
            "differs from {}; it must be the same in all fragments of an environment",
            that.file
        ),
    })
}

/// The claims of one document by the form under which they clash: `claim → key`.
pub(super) fn claim(kind: &str, server: &str, name: &str) -> String {
    format!("{kind} `{}` on {server}", folded(name))
}
