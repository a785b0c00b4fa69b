//! The union of an environment's fragments, and what keeps a fragment out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::check::Claim;
use super::{
    Client, ConfigMap, Database, Document, Generator, Identity, Kafka, Keycloak, Migration, Module, Naming,
    ObjectName, Postgres, Reader, Ready, Roles, Secret, SecretRef, Step, Topic, check_fragment,
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

    /// A fragment's document, to be changed.
    pub(super) fn document_mut(&mut self, fragment: &str) -> Option<&mut Document> {
        self.sources.get_mut(fragment).map(|source| &mut source.document)
    }

    /// Declared `PostgreSQL` servers.
    pub fn postgres(&self) -> impl Iterator<Item = Declared<'_, Postgres>> {
        self.declared(Kind::Postgres, |d| &d.postgres)
    }

    /// Declared Kafka clusters.
    pub fn kafka(&self) -> impl Iterator<Item = Declared<'_, Kafka>> {
        self.declared(Kind::Kafka, |d| &d.kafka)
    }

    /// Declared clients.
    pub fn clients(&self) -> impl Iterator<Item = Declared<'_, Client>> {
        self.declared(Kind::Client, |d| &d.clients)
    }

    /// The declared Keycloak server called `name`, with the fragment that declares it.
    pub fn keycloak(&self, name: &str) -> Option<(&Source, &Keycloak)> {
        self.sources.values().find_map(|source| Some((source, source.document.keycloak.get(name)?)))
    }

    /// Declared databases.
    pub fn databases(&self) -> impl Iterator<Item = Declared<'_, Database>> {
        self.declared(Kind::Database, |d| &d.databases)
    }

    /// Declared roles that read several databases.
    pub fn roles(&self) -> impl Iterator<Item = Declared<'_, Reader>> {
        self.declared(Kind::Role, |d| &d.roles)
    }

    /// Declared migrations.
    pub fn migrations(&self) -> impl Iterator<Item = Declared<'_, Migration>> {
        self.declared(Kind::Migration, |d| &d.migrations)
    }

    /// Declared steps.
    pub fn steps(&self) -> impl Iterator<Item = Declared<'_, Step>> {
        self.declared(Kind::Step, |d| &d.steps)
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

    /// Declared Secrets, each once for every namespace in which it stands.
    pub fn secrets(&self) -> impl Iterator<Item = Declared<'_, Secret>> {
        self.sources.values().flat_map(|source| {
            let (document, namespace) = (&source.document, &source.document.fragment.namespace);
            document.secrets.iter().flat_map(move |(name, spec)| {
                let stands = spec.stands(name, namespace).into_iter();
                stands.map(move |component| Declared { source, component, spec })
            })
        })
    }

    /// Declared ConfigMaps, each once for every namespace in which it stands.
    pub fn configmaps(&self) -> impl Iterator<Item = Declared<'_, ConfigMap>> {
        self.sources.values().flat_map(|source| {
            let (document, namespace) = (&source.document, &source.document.fragment.namespace);
            document.configmaps.iter().flat_map(move |(name, spec)| {
                let stands = spec.stands(name, namespace).into_iter();
                stands.map(move |component| Declared { source, component, spec })
            })
        })
    }

    /// Every value that some document refers to: Secret or ConfigMap, and key.
    pub fn references(&self) -> BTreeSet<(Component, String)> {
        self.referring().into_iter().map(|(_, secret, key)| (secret, key)).collect()
    }

    /// Who refers to which value.
    pub(super) fn referring(&self) -> Vec<(&Source, Component, String)> {
        let mut found = Vec::new();
        for source in self.sources.values() {
            let document = &source.document;
            let namespace = &document.fragment.namespace;
            let mut refer = |reference: &SecretRef| {
                found.push((source, reference.secret.secret(namespace), reference.key.clone()));
            };
            for server in document.postgres.values().chain(document.uses.postgres.values()) {
                server.admin.iter().for_each(|admin| refer(&admin.password));
                server.observer.iter().for_each(|observer| refer(&observer.password));
                server.tls.ca.iter().for_each(&mut refer);
            }
            for cluster in document.kafka.values().chain(document.uses.kafka.values()) {
                cluster.tls.iter().filter_map(|tls| tls.ca.as_ref()).for_each(&mut refer);
            }
            document.vault.values().flat_map(super::Vault::references).for_each(&mut refer);
            for server in document.keycloak.values() {
                refer(&server.login.secret);
                server.tls.ca.iter().for_each(&mut refer);
            }
            document.clients.values().filter_map(|client| client.secret.as_ref()).for_each(&mut refer);
            for database in document.databases.values() {
                let Roles { app, migrator, .. } = &database.roles;
                let others = app.overlap.iter().map(|other| &other.password);
                let others = others.chain(migrator.iter().map(|migrator| &migrator.password));
                std::iter::once(&app.password).chain(others).for_each(&mut refer);
            }
            document.roles.values().for_each(|role| refer(&role.password));
            document.migrations.values().flat_map(Migration::secrets).for_each(&mut refer);
            let generators = document.secrets.values().flat_map(|secret| secret.generate.values());
            for ca in generators.filter_map(Generator::ca) {
                refer(&ca.certificate());
                refer(&ca.private());
            }
            document.configmaps.values().flat_map(|map| map.bundle.values()).flatten().for_each(&mut refer);
            found.extend(followed(document).into_iter().map(|(from, key)| (source, from, key)));
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
    pub fn secret(&self, name: &ObjectName) -> Component {
        name.secret(self.namespace())
    }

    /// The namespace of this fragment.
    pub fn namespace(&self) -> &str {
        &self.source.document.fragment.namespace
    }
}

/// The values that copies and templates of a document follow by key, and those that its modules read.
fn followed(document: &Document) -> Vec<(Component, String)> {
    let namespace = &document.fragment.namespace;
    let secrets = document.secrets.values().filter_map(|secret| Some((Kind::Secret, secret.copy.as_ref()?)));
    let configmaps = document.configmaps.values();
    let all = secrets.chain(configmaps.filter_map(|map| Some((Kind::ConfigMap, map.copy.as_ref()?))));
    let by_copy = all.filter_map(|(kind, copy)| Some((copy.from.component(kind, namespace)?, copy)));
    let by_copy = by_copy.filter(|(from, _)| from.kind().is_namespaced());
    let by_copy =
        by_copy.flat_map(|(from, copy)| copy.keys.values().map(move |key| (from.clone(), key.clone())));
    let templates = document.secrets.values().filter_map(|secret| secret.template.as_ref());
    let values = templates.flat_map(|template| template.values.values());
    let values = values.filter_map(|value| Some((value.component(namespace)?, value.key.clone())));
    let read = document.modules.values().flat_map(|module| module.keys.listed());
    let read = read.filter_map(|value| Some((value.component(namespace)?, value.key.clone())));
    by_copy.chain(values).chain(read).collect()
}

/// What two fragments may not both say. Each claim is (what is claimed, who claims it under which key).
fn clashes(sources: &[Source]) -> Vec<Problem> {
    let mut claims: BTreeMap<String, Vec<(&str, Claim)>> = BTreeMap::new();
    for source in sources {
        for claim in super::check::claims(&source.document) {
            claims.entry(claim.folded.clone()).or_default().push((&source.file, claim));
        }
    }
    let mut problems = disagreements(sources);
    for claimants in claims.values().filter(|claimants| claimants.len() > 1) {
        for (i, (file, claim)) in claimants.iter().enumerate() {
            let others = claimants.iter().enumerate().filter(|(j, _)| *j != i);
            let others: Vec<String> =
                others.map(|(_, (file, claim))| format!("{file} ({})", claim.key)).collect();
            problems.push(Problem {
                file: (*file).to_owned(),
                key: claim.key.clone(),
                message: format!(
                    "{} is declared twice, also in {}; keep one",
                    claim.what,
                    others.join(" and ")
                ),
            });
        }
    }
    problems
}

/// Fragments must agree on environment and naming. Those that differ from most of the others are refused; when there is
/// no majority, nobody knows who is right, and all are.
fn disagreements(sources: &[Source]) -> Vec<Problem> {
    let mut camps: Vec<Vec<&Source>> = Vec::new();
    for source in sources {
        match camps.iter_mut().find(|camp| difference(camp[0], source).is_none()) {
            Some(camp) => camp.push(source),
            None => camps.push(vec![source]),
        }
    }
    let largest = camps.iter().map(Vec::len).max().unwrap_or(0);
    let mut leading = camps.iter().filter(|camp| camp.len() == largest);
    let right = leading.next().filter(|_| leading.next().is_none());
    let wrong = camps.iter().filter(|camp| right.is_none_or(|right| !std::ptr::eq(*camp, right)));
    let other = |camp: &Vec<&Source>| match right {
        Some(right) => Some(right[0]),
        None => camps.iter().map(|other| other[0]).find(|other| other.file != camp[0].file),
    };
    wrong
        .filter_map(|camp| Some((camp, other(camp)?)))
        .flat_map(|(camp, other)| {
            camp.iter().filter_map(move |source| Some((source, other, difference(source, other)?)))
        })
        .map(|(source, other, key)| Problem {
            file: source.file.clone(),
            key: key.to_owned(),
            message: format!(
                "differs from {}; it must be the same in all fragments of an environment",
                other.file
            ),
        })
        .collect()
}

/// The key in which two fragments differ that must be the same in all.
fn difference(a: &Source, b: &Source) -> Option<&'static str> {
    if a.document.environment != b.document.environment {
        Some("environment")
    } else if a.document.naming != b.document.naming {
        Some("naming")
    } else {
        None
    }
}
