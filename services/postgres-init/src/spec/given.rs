//! What all documents that were given declare, so that it can be told what they declare no more.

use std::collections::BTreeSet;

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
    pub databases: BTreeSet<String>,
    /// The names of the roles that they declare on this server.
    pub roles: BTreeSet<String>,
}

impl Given {
    /// What these documents declare, with the names of what this server is to have.
    pub(super) fn of(environment: &Environment, spec: &ServerSpec) -> Given {
        let databases = environment.databases().map(|database| database.component);
        let roles = environment.roles().map(|role| role.component);
        let of_databases = spec.databases.iter().flat_map(super::DatabaseSpec::roles);
        let logins = spec.roles.iter().map(|role| role.login.role.as_str());
        let observer = spec.observer.iter().map(|observer| observer.role.as_str());
        Given {
            fragments: environment.sources().map(|source| source.document.fragment.name.clone()).collect(),
            components: databases.chain(roles).collect(),
            databases: spec.databases.iter().map(|database| database.name.clone()).collect(),
            roles: of_databases.chain(logins).chain(observer).map(str::to_owned).collect(),
        }
    }
}
