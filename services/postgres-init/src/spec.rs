//! What should be, on each server: the databases, roles and extensions that the documents declare. Pure.

mod database;
mod given;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{self, Declared, Environment, Identity, Mode, OnDelete, SecretKey, observer_role};
use lifecycle::{Component, Kind};
use postgres::{REGISTRY, Server};

pub use database::{Account, Bounds, DatabaseSpec, READS, Rights, USES};
pub use given::Given;
pub use role::{Read, RoleSpec};

use crate::adopt::Class;

/// A role that logs in, and where its password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The role's name on the server.
    pub role: String,
    /// Its password.
    pub password: SecretKey,
}

/// What should be on one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// The server.
    pub component: Component,
    /// The fragment that declares it.
    pub fragment: String,
    /// The namespace of that fragment, where its Secrets are.
    pub namespace: String,
    /// How it is reached.
    pub connection: document::Postgres,
    /// Who provisions it.
    pub admin: Login,
    /// The environment this is for.
    pub environment: Identity,
    /// The role through which the environment's hub observes.
    pub observer: Option<Login>,
    /// The databases, in the order of their components.
    pub databases: Vec<DatabaseSpec>,
    /// The roles that read several databases, in the order of their components.
    pub roles: Vec<RoleSpec>,
    /// The server's own part (database `rollcall`, the observer) is only reported.
    pub report_only: bool,
    /// What a teardown does with what is this environment's and no document declares any more.
    pub on_delete: OnDelete,
    /// What becomes of a database and its login role that exist both and carry nobody's mark.
    pub unmarked: Unmarked,
    /// The connection is encrypted where the server offers it, whatever `connection` says. No document asks for that.
    pub prefers_tls: bool,
    /// The class that is converged of what was adopted; none where only what is ordinary is made.
    pub converging: Option<Class>,
    /// The fragments that asked for what they declare: the passwords of their roles are their own business, and not read here.
    pub delegated: BTreeSet<String>,
    /// The namespace of each fragment that declares a database or role here.
    pub namespaces: BTreeMap<String, String>,
    /// What all documents declare.
    pub given: Given,
}

/// What becomes of a database and its login role that exist both and carry nobody's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmarked {
    /// They are refused, and the run fails by it.
    #[default]
    Refused,
    /// They are reported on and left as they are, and the run does not fail by it.
    Reported,
}

impl ServerSpec {
    /// The part of this that is about one component.
    #[must_use]
    pub fn only(&self, component: &Component) -> ServerSpec {
        ServerSpec {
            observer: self.observer.clone().filter(|_| *component == self.component),
            databases: self.databases.iter().filter(|d| d.component == *component).cloned().collect(),
            roles: self.roles.iter().filter(|role| role.component == *component).cloned().collect(),
            ..self.clone()
        }
    }

    /// The Secrets that are read to provision the server: the passwords of its administrator and of every role that logs in,
    /// and its CA.
    pub fn reads(&self) -> BTreeSet<Component> {
        let logins = self.logins();
        let logins = std::iter::once(&self.admin).chain(logins.iter().map(|(login, _)| login));
        let passwords = logins.map(|login| login.password.secret.clone());
        passwords.chain(Server::authority(&self.connection, &self.namespace).map(|ca| ca.secret)).collect()
    }

    /// Every role that is to log in with a password that is read here, each with the database in which that is tried.
    pub fn logins(&self) -> Vec<(Login, &str)> {
        let observer = self.observer.iter().map(|observer| (observer.clone(), REGISTRY));
        let databases = self.databases.iter().filter(|database| !self.is_delegated(&database.fragment));
        let accounts = databases.flat_map(|database| {
            database.accounts().into_iter().map(|account| (account.login, database.name.as_str()))
        });
        let roles = self.roles.iter().filter(|role| !self.is_delegated(&role.fragment)).map(|role| {
            (role.login.clone(), role.reads.first().map_or(REGISTRY, |read| read.database.as_str()))
        });
        observer.chain(accounts).chain(roles).collect()
    }

    /// Every role that is to log in with a password that is its fragment's own business, with its component.
    pub fn delegated_logins(&self) -> Vec<(String, &Component)> {
        let databases = self.databases.iter().filter(|database| self.is_delegated(&database.fragment));
        let accounts = databases.flat_map(|database| {
            database.accounts().into_iter().map(|account| (account.login.role, &database.component))
        });
        let roles = self.roles.iter().filter(|role| self.is_delegated(&role.fragment));
        accounts.chain(roles.map(|role| (role.login.role.clone(), &role.component))).collect()
    }

    /// Whether a fragment asked for what it declares.
    pub fn is_delegated(&self, fragment: &str) -> bool {
        self.delegated.contains(fragment)
    }

    /// The settings that are wanted anywhere.
    pub fn settings(&self) -> BTreeSet<String> {
        let of_databases = self.databases.iter().flat_map(|database| {
            let others = database.others.iter().map(|other| &other.bounds);
            let bounds = others.chain([&database.bounds]).map(|bounds| &bounds.settings);
            bounds.chain([&database.settings])
        });
        let of_roles = self.roles.iter().map(|role| &role.bounds.settings);
        of_databases.chain(of_roles).flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether any role is to have a power that could reach what is not this environment's.
    pub fn reaches(&self) -> bool {
        let databases = self.databases.iter().map(|database| &database.bounds);
        databases.chain(self.roles.iter().map(|role| &role.bounds)).any(|bounds| !bounds.powers().is_empty())
    }

    /// The role that is this component.
    pub fn role(&self, component: &Component) -> Option<&RoleSpec> {
        self.roles.iter().find(|role| role.component == *component)
    }

    /// The fragment that declares this component; the server's own for the server's part.
    pub fn fragment_of(&self, component: &Component) -> &str {
        let database = self.database(component).map(|database| &database.fragment);
        database.or_else(|| self.role(component).map(|role| &role.fragment)).unwrap_or(&self.fragment)
    }

    /// The database that is this component.
    pub fn database(&self, component: &Component) -> Option<&DatabaseSpec> {
        self.databases.iter().find(|database| database.component == *component)
    }
}

/// What should be on each server that these documents declare with an administrator. A database on a server that no
/// document here declares is left to whoever has that document.
pub fn specs(environment: &Environment) -> BTreeMap<Component, ServerSpec> {
    let mut specs: BTreeMap<Component, ServerSpec> = environment
        .postgres()
        .filter_map(|server| Some((server.component.clone(), of_server(&server)?)))
        .collect();
    for database in environment.databases() {
        if let Some(spec) = specs.get_mut(&Component::new(Kind::Postgres, &database.spec.server)) {
            // Names that do not fit were refused with their document.
            spec.databases.extend(database::of_document(&database));
            spec.namespaces.extend([namespace(database.source)]);
        }
    }
    for role in environment.roles() {
        if let Some(spec) = specs.get_mut(&Component::new(Kind::Postgres, &role.spec.server)) {
            spec.roles.extend(role::of_document(environment, &role));
            spec.namespaces.extend([namespace(role.source)]);
        }
    }
    for spec in specs.values_mut() {
        spec.given = Given::of(environment, spec);
    }
    specs
}

fn namespace(source: &document::Source) -> (String, String) {
    let fragment = &source.document.fragment;
    (fragment.name.clone(), fragment.namespace.clone())
}

/// Databases and roles that [`specs`] leaves to others, each with its server: no document here declares the server with an
/// administrator.
pub fn left_out(environment: &Environment) -> Vec<(Component, Component)> {
    let specs = specs(environment);
    let databases = environment.databases().map(|database| (database.component, &database.spec.server));
    let roles = environment.roles().map(|role| (role.component, &role.spec.server));
    databases
        .chain(roles)
        .map(|(component, server)| (component, Component::new(Kind::Postgres, server)))
        .filter(|(_, server)| !specs.contains_key(server))
        .collect()
}

/// Every role with which a fragment's modules log in to a server: the component it belongs to, its login, and a database in which
/// that can be tried.
pub(crate) fn logins_of(
    environment: &Environment,
    fragment: &str,
    server: &str,
) -> Vec<(Component, Login, String)> {
    let own = |source: &document::Source| source.document.fragment.name == fragment;
    let databases = environment.databases().filter(|one| own(one.source) && one.spec.server == server);
    let accounts = databases.filter_map(|one| database::of_document(&one)).flat_map(|database| {
        let accounts = database.accounts().into_iter();
        accounts
            .map(|account| (database.component.clone(), account.login, database.name.clone()))
            .collect::<Vec<_>>()
    });
    let roles = environment.roles().filter(|one| own(one.source) && one.spec.server == server);
    let readers = roles.filter_map(|one| role::of_document(environment, &one)).map(|role| {
        // The server judges the password before the database.
        let database = role.reads.first().map_or_else(|| "postgres".to_owned(), |read| read.database.clone());
        (role.component, role.login, database)
    });
    accounts.chain(readers).collect()
}

fn of_server(server: &Declared<'_, document::Postgres>) -> Option<ServerSpec> {
    let document = &server.source.document;
    let key = |reference| SecretKey::of(reference, &document.fragment.namespace);
    let admin = server.spec.admin.as_ref()?;
    Some(ServerSpec {
        component: server.component.clone(),
        fragment: document.fragment.name.clone(),
        namespace: document.fragment.namespace.clone(),
        connection: server.spec.clone(),
        admin: Login { role: admin.user.clone(), password: key(&admin.password) },
        environment: document.environment.clone(),
        observer: server.spec.observer.as_ref().map(|observer| Login {
            role: observer_role(&document.environment.name),
            password: key(&observer.password),
        }),
        databases: Vec::new(),
        roles: Vec::new(),
        report_only: document.policy.mode == Mode::Report,
        on_delete: document.policy.on_delete,
        unmarked: Unmarked::default(),
        prefers_tls: false,
        converging: None,
        delegated: BTreeSet::new(),
        namespaces: BTreeMap::new(),
        given: Given::default(),
    })
}

#[cfg(test)]
mod tests {
    use lifecycle::document::{Document, Source};
    use serde_json::{Value, json};

    use super::*;

    fn specs_of(documents: &[Value]) -> BTreeMap<Component, ServerSpec> {
        let sources = documents.iter().enumerate().map(|(i, document)| Source {
            file: format!("{i}.yaml"),
            document: serde_json::from_value::<Document>(document.clone()).unwrap(),
        });
        let merged = Environment::merge(sources);
        assert!(merged.problems.is_empty(), "{:?}", merged.problems);
        specs(&merged.environment.unwrap())
    }

    fn document(fragment: &str, rest: &Value) -> Value {
        let mut document = json!({
            "rollcall": "v1", "environment": {"name": "my-dev", "uid": "00000000-0000-4000-8000-00000000000a"},
            "fragment": {"name": fragment, "namespace": format!("{fragment}-ns")},
            "naming": {"database": "{environment}_{name}", "role": "{fragment}_{name}"},
        });
        for (key, value) in rest.as_object().unwrap() {
            document[key] = value.clone();
        }
        document
    }

    fn base() -> Value {
        document(
            "base",
            &json!({"postgres": {
                "main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}},
                         "observer": {"password": {"secret": "obs", "key": "password"}}},
                "theirs": {"host": "elsewhere"}
            }}),
        )
    }

    fn registry() -> Value {
        document(
            "registry",
            &json!({
                "policy": {"mode": "report"},
                "uses": {"postgres": {"main": {"host": "db"}}},
                "databases": {"registry": {"server": "main", "extensions": ["unaccent", "pg_trgm"],
                    "roles": {"app": {"name": "user", "password": {"secret": "base-ns/x", "key": "k"}}}}}
            }),
        )
    }

    #[test]
    fn a_database_goes_to_the_server_that_another_fragment_declares() {
        let specs = specs_of(&[base(), registry()]);
        assert_eq!(specs.len(), 1, "a server without an administrator is not ours to provision");
        let server = &specs[&"postgres/main".parse().unwrap()];
        assert_eq!(server.observer.as_ref().unwrap().role, "rollcall_observer_my_dev");
        assert_eq!(server.admin.password.secret.to_string(), "secret/base-ns/pg");
        let database = &server.databases[0];
        assert_eq!(
            (database.name.as_str(), database.owner.as_str(), database.app.role.as_str()),
            ("my-dev_registry", "registry_registry_owner", "registry_user")
        );
        assert_eq!(database.app.password.secret.to_string(), "secret/base-ns/x");
        assert_eq!(database.extensions, ["pg_trgm", "unaccent"].map(document::Extension::new));
        assert!(database.report_only && !server.report_only);
        assert!(server.only(&server.component).databases.is_empty());
        assert!(server.only(&database.component).observer.is_none());
    }

    #[test]
    fn the_secrets_of_a_server_are_its_logins_and_its_authority() {
        let names = |specs: &BTreeMap<Component, ServerSpec>| -> Vec<String> {
            specs.values().flat_map(ServerSpec::reads).map(|secret| secret.to_string()).collect()
        };
        assert_eq!(names(&specs_of(&[base()])), ["secret/base-ns/obs", "secret/base-ns/pg"]);
        let mut base = base();
        base["postgres"]["main"]["tls"] = json!({"ca": {"secret": "certs/ca", "key": "ca.crt"}});
        let mut registry = registry();
        registry["databases"]["registry"]["roles"]["app"]["password"]["secret"] = json!("own");
        // How another fragment reaches the server is for that one's modules, not for who provisions it.
        registry["uses"]["postgres"]["main"]["tls"] = json!({"ca": {"secret": "its-ca", "key": "ca.crt"}});
        assert_eq!(
            names(&specs_of(&[base, registry.clone()])),
            ["secret/base-ns/obs", "secret/base-ns/pg", "secret/certs/ca", "secret/registry-ns/own"]
        );
        assert!(names(&specs_of(&[registry])).is_empty(), "nothing to provision is nothing to read");
    }

    #[test]
    fn without_the_fragment_that_declares_the_server_its_databases_are_left_alone() {
        assert!(specs_of(&[registry()]).is_empty());
    }
}
