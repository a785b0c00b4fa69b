//! What should be, on each server: the databases, roles and extensions that the documents declare. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{self, Ddl, Declared, Environment, Identity, Mode, SecretKey, observer_role};
use lifecycle::{Component, Kind, sha256_hex};
use postgres::Server;

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
    /// The server's own part (database `rollcall`, the observer) is only reported.
    pub report_only: bool,
}

/// A database that should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// The component.
    pub component: Component,
    /// The fragment that declares it.
    pub fragment: String,
    /// Its name on the server.
    pub name: String,
    /// The role that owns it; nobody logs in as it.
    pub owner: String,
    /// The role a module logs in with.
    pub app: Login,
    /// Whether the module acts as the owner.
    pub ddl: Ddl,
    /// Extensions, sorted.
    pub extensions: Vec<String>,
    /// It is only reported what would be done.
    pub report_only: bool,
}

impl DatabaseSpec {
    /// What is finished when this is finished: a hash over names and rights, never over a secret.
    pub fn hash(&self) -> String {
        let ddl = match self.ddl {
            Ddl::None => "none",
            Ddl::AsOwner => "as-owner",
        };
        let mut facts = vec!["database v1", self.name.as_str(), &self.owner, &self.app.role, ddl];
        facts.extend(self.extensions.iter().map(String::as_str));
        sha256_hex(&facts)
    }
}

impl ServerSpec {
    /// The part of this that is about one component.
    #[must_use]
    pub fn only(&self, component: &Component) -> ServerSpec {
        ServerSpec {
            observer: self.observer.clone().filter(|_| *component == self.component),
            databases: self.databases.iter().filter(|d| d.component == *component).cloned().collect(),
            ..self.clone()
        }
    }

    /// The Secrets that are read to provision the server: the passwords of its administrator and of every role that logs in,
    /// and its CA.
    pub fn reads(&self) -> BTreeSet<Component> {
        let apps = self.databases.iter().map(|database| &database.app);
        let logins = std::iter::once(&self.admin).chain(&self.observer).chain(apps);
        let passwords = logins.map(|login| login.password.secret.clone());
        passwords.chain(Server::authority(&self.connection, &self.namespace).map(|ca| ca.secret)).collect()
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
            spec.databases.extend(of_database(&database));
        }
    }
    specs
}

/// Databases that [`specs`] leaves to others, each with its server: no document here declares the server with an
/// administrator.
pub fn left_out(environment: &Environment) -> Vec<(Component, Component)> {
    let specs = specs(environment);
    environment
        .databases()
        .map(|database| (database.component, Component::new(Kind::Postgres, &database.spec.server)))
        .filter(|(_, server)| !specs.contains_key(server))
        .collect()
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
        report_only: document.policy.mode == Mode::Report,
    })
}

fn of_database(database: &Declared<'_, document::Database>) -> Option<DatabaseSpec> {
    let document = &database.source.document;
    let (naming, place, spec) = (&document.naming, document.place(), database.spec);
    let key = database.component.name();
    let app = &spec.roles.app;
    let mut extensions = spec.extensions.clone();
    extensions.sort();
    Some(DatabaseSpec {
        component: database.component.clone(),
        fragment: document.fragment.name.clone(),
        name: naming.database(spec.physical_base(key), place).ok()?,
        owner: naming.role(&spec.owner_base(key), place).ok()?,
        app: Login {
            role: naming.role(&app.name, place).ok()?,
            password: SecretKey::of(&app.password, &document.fragment.namespace),
        },
        ddl: app.ddl,
        extensions,
        report_only: document.policy.mode == Mode::Report,
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
        assert_eq!(database.extensions, ["pg_trgm", "unaccent"]);
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
