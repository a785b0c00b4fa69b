//! What should be: every Secret that the documents declare, and where its values come from.
//!
//! Pure: names and lengths come from documents, values never do.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use lifecycle::document::{Environment, Generator, Mode};
use uuid::Uuid;

/// One declared Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The Secret, its namespace spelled out.
    pub secret: Component,
    /// Who declares it.
    pub owner: Owner,
    /// Where its values come from.
    pub origin: Origin,
    /// Its fragment is in mode `report`.
    pub report_only: bool,
}

/// Who a Secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The environment's uid.
    pub environment: Uuid,
    /// The environment's name, for people.
    pub name: String,
    /// The fragment that declares the Secret.
    pub fragment: String,
}

/// Where a Secret's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Somebody else makes it. It is ready when it has the keys that the documents read.
    External(BTreeSet<String>),
    /// Made once, never overwritten: how many characters each key has.
    Generated(BTreeMap<String, u16>),
    /// It follows another Secret.
    Copied {
        /// The Secret it follows.
        from: Component,
        /// Which keys.
        keys: Selection,
    },
}

/// Which keys of its source a copy has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All, by their own names.
    All,
    /// These: new name → name in the source.
    Renamed(BTreeMap<String, String>),
}

/// The Secrets that an environment's documents declare; a copy stands after what it is copied from.
pub fn specs(environment: &Environment) -> Vec<Spec> {
    let read = keys_read(environment);
    let identity = environment.identity();
    let mut specs: Vec<Spec> = environment
        .secrets()
        .map(|declared| {
            let document = &declared.source.document;
            let origin = if let Some(copy) = &declared.spec.copy {
                let keys =
                    if copy.keys.is_empty() { Selection::All } else { Selection::Renamed(copy.keys.clone()) };
                Origin::Copied { from: declared.secret(&copy.from), keys }
            } else if declared.spec.external {
                Origin::External(read.get(&declared.component).cloned().unwrap_or_default())
            } else {
                let length = |(key, generator): (&String, &Generator)| match generator {
                    Generator::Password(password) => Some((key.clone(), password.length)),
                    _ => None,
                };
                Origin::Generated(declared.spec.generate.iter().filter_map(length).collect())
            };
            Spec {
                owner: Owner {
                    environment: identity.uid,
                    name: identity.name.clone(),
                    fragment: document.fragment.name.clone(),
                },
                origin,
                report_only: document.policy.mode == Mode::Report,
                secret: declared.component,
            }
        })
        .collect();
    let sources: BTreeMap<Component, Component> =
        specs.iter().filter_map(|spec| Some((spec.secret.clone(), spec.source()?.clone()))).collect();
    specs.sort_by_cached_key(|spec| (depth(&sources, &spec.secret), spec.secret.clone()));
    specs
}

impl Owner {
    /// Whether both are the same owner: names are for people, and an environment may be given another.
    pub fn is(&self, other: &Owner) -> bool {
        self.environment == other.environment && self.fragment == other.fragment
    }
}

impl Spec {
    /// What it is copied from, if it is a copy.
    pub fn source(&self) -> Option<&Component> {
        match &self.origin {
            Origin::Copied { from, .. } => Some(from),
            Origin::External(_) | Origin::Generated(_) => None,
        }
    }
}

/// How many copies away from an original a Secret is. Copies in a circle stop at the number of copies there are: they
/// wait for each other, and `check` calls it a cycle.
fn depth(sources: &BTreeMap<Component, Component>, secret: &Component) -> usize {
    std::iter::successors(sources.get(secret), |from| sources.get(from)).take(sources.len()).count()
}

/// The keys of each Secret that something in the documents reads: logins, certificate authorities, copies by key.
fn keys_read(environment: &Environment) -> BTreeMap<Component, BTreeSet<String>> {
    let mut read: BTreeMap<Component, BTreeSet<String>> = BTreeMap::new();
    for (secret, key) in environment.references() {
        read.entry(secret).or_default().insert(key);
    }
    read
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Source;

    use super::*;

    const HEAD: &str = "rollcall: v1\nenvironment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}\n";

    fn environment(fragments: &[&str]) -> Environment {
        let sources = fragments.iter().enumerate().map(|(i, text)| {
            let file = format!("{i}.yaml");
            Source { document: chassis::documents::parse(&file, &format!("{HEAD}{text}")).unwrap(), file }
        });
        let merged = Environment::merge(sources);
        assert_eq!(merged.problems, []);
        merged.environment.unwrap()
    }

    fn component(text: &str) -> Component {
        text.parse().unwrap()
    }

    #[test]
    fn an_external_secret_needs_every_key_that_any_document_reads() {
        let environment = environment(&[
            "
fragment: {name: base, namespace: base}
postgres: {main: {host: h, tls: {mode: verify-full, ca: {secret: ca, key: ca.crt}}, admin: {user: u, password: {secret: pg, key: admin}}, observer: {password: {secret: pg, key: observer}}}}
kafka: {main: {brokers: ['k:1'], tls: {ca: {secret: ca, key: kafka.crt}}}}
secrets: {pg: {external: true}, ca: {external: true}, unread: {external: true}}
",
            "
fragment: {name: app, namespace: app}
uses: {postgres: {main: {host: h, tls: {ca: {secret: base/ca, key: other.crt}}}}}
databases: {d: {server: main, roles: {app: {name: d, password: {secret: base/pg, key: d}}}}}
secrets: {mine: {copy: {from: base/pg, keys: {password: copied}}}}
",
        ]);
        let keys = |name: &str| {
            let spec = specs(&environment).into_iter().find(|spec| spec.secret == component(name)).unwrap();
            let Origin::External(keys) = spec.origin else { panic!("{name} is not external") };
            keys.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(keys("secret/base/pg"), ["admin", "copied", "d", "observer"]);
        assert_eq!(keys("secret/base/ca"), ["ca.crt", "kafka.crt", "other.crt"]);
        assert!(keys("secret/base/unread").is_empty());
    }

    #[test]
    fn a_copy_stands_after_what_it_is_copied_from() {
        let environment = environment(&["
fragment: {name: base, namespace: base}
policy: {mode: report}
secrets:
  a: {copy: {from: b}}
  b: {copy: {from: other/c, keys: {new: old}}}
  other/c: {generate: {old: {kind: password}}}
"]);
        let specs = specs(&environment);
        let names: Vec<String> = specs.iter().map(|spec| spec.secret.to_string()).collect();
        assert_eq!(names, ["secret/other/c", "secret/base/b", "secret/base/a"]);
        assert_eq!(specs[0].origin, Origin::Generated([("old".to_owned(), 32)].into()));
        let keys = Selection::Renamed([("new".to_owned(), "old".to_owned())].into());
        assert_eq!(specs[1].origin, Origin::Copied { from: component("secret/other/c"), keys });
        assert!(specs.iter().all(|spec| spec.report_only && spec.owner.fragment == "base"));
    }

    #[test]
    fn copies_in_a_circle_do_not_hang() {
        let environment = environment(&["
fragment: {name: base, namespace: base}
secrets: {a: {copy: {from: b}}, b: {copy: {from: a}}}
"]);
        assert_eq!(specs(&environment).len(), 2);
    }
}
