//! The rights that secret-syncer needs, worked out from what it is to do: objects by name, and what is done with each.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::{Component, Kind};
use uuid::Uuid;

use crate::spec::{Origin, Spec};
use crate::world::record_name;

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// It is read, and followed by a watch.
    Read,
    /// It is made too, and kept as it should be. Creating can be limited by name because everything is created by server-side
    /// apply, whose request carries the name.
    Write,
    /// It is also deleted when what it follows is gone.
    WriteAndDelete,
}

impl Use {
    /// What it takes, in the words of Kubernetes.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Use::Read => &["get", "watch"],
            Use::Write => &["get", "watch", "create", "patch"],
            Use::WriteAndDelete => &["get", "watch", "create", "patch", "delete"],
        }
    }
}

/// What is done with which object: the most that any spec asks for. `also` are Secrets that are read besides, to log in
/// somewhere.
pub(crate) fn uses(specs: &[Spec], also: BTreeSet<Component>, environment: Uuid) -> BTreeMap<Component, Use> {
    let mut uses: BTreeMap<Component, Use> = BTreeMap::new();
    let mut ask = |object: Component, what: Use| {
        let asked = uses.entry(object).or_insert(what);
        *asked = (*asked).max(what);
    };
    for secret in also {
        ask(secret, Use::Read);
    }
    for spec in specs {
        spec.read_objects().for_each(|source| ask(source, Use::Read));
        let what = match &spec.origin {
            Origin::External => Use::Read,
            Origin::Generated(_) => {
                let namespace = spec.object.namespace().unwrap_or_default();
                ask(Component::namespaced(Kind::ConfigMap, namespace, record_name(environment)), Use::Write);
                Use::Write
            }
            Origin::Followed(followed) if followed.source_gone == lifecycle::document::SourceGone::Delete => {
                Use::WriteAndDelete
            }
            Origin::Followed(_) => Use::Write,
        };
        ask(spec.object.clone(), what);
    }
    uses
}
