//! What all documents that were given declare, so that it can be told what they declare no more.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use lifecycle::document::Environment;

use super::ServerSpec;

/// What all documents declare, also where only a part of a server is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// The fragments that were given. What another declares cannot be told.
    pub fragments: BTreeSet<String>,
    /// The databases and roles that they declare, on any server.
    pub components: BTreeSet<Component>,
    /// The names of the databases that they declare on this server.
    pub databases: Names,
    /// The names of the roles that they declare on this server.
    pub roles: Names,
}

/// Names, each with the components that name something so.
type Names = BTreeMap<String, BTreeSet<Component>>;

impl Given {
    /// What these documents declare, with the names of what this server is to have.
    pub(super) fn of(environment: &Environment, spec: &ServerSpec) -> Given {
        let databases = environment.databases().map(|database| database.component);
        let roles = environment.roles().map(|role| role.component);
        let fragments = environment.sources().map(|source| source.document.fragment.name.clone());
        Given { fragments: fragments.collect(), components: databases.chain(roles).collect(), ..names(spec) }
    }
}

/// The names of what this server is to have.
fn names(spec: &ServerSpec) -> Given {
    let databases = spec.databases.iter().map(|database| (database.name.as_str(), &database.component));
    let of_databases = spec.databases.iter().flat_map(|database| {
        database.roles().into_iter().map(|role| (role, &database.component)).collect::<Vec<_>>()
    });
    let logins = spec.roles.iter().map(|role| (role.login.role.as_str(), &role.component));
    let observer = spec.observer.iter().map(|observer| (observer.role.as_str(), &spec.component));
    Given {
        databases: by_name(databases),
        roles: by_name(of_databases.chain(logins).chain(observer)),
        ..Given::default()
    }
}

fn by_name<'a>(pairs: impl Iterator<Item = (&'a str, &'a Component)>) -> Names {
    let mut names = Names::new();
    for (name, component) in pairs {
        names.entry(name.to_owned()).or_default().insert(component.clone());
    }
    names
}

#[cfg(test)]
impl Given {
    /// What all documents declare, where these fragments have nothing on another server.
    pub(crate) fn whole(spec: &ServerSpec, fragments: &[&str]) -> Given {
        let databases = spec.databases.iter().map(|database| database.component.clone());
        let roles = spec.roles.iter().map(|role| role.component.clone());
        let fragments = fragments.iter().map(|name| (*name).to_owned()).collect();
        Given { fragments, components: databases.chain(roles).collect(), ..names(spec) }
    }
}
