//! What a role that reads several databases should be.

use lifecycle::document::{Declared, Environment, Mode, OnDelete, Reader, SecretKey};
use lifecycle::{Component, Kind, sha256_hex};

use super::{Bounds, Login, database};

/// A role that reads several databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// The component.
    pub component: Component,
    /// The fragment that declares it.
    pub fragment: String,
    /// The role and its password.
    pub login: Login,
    /// The databases it reads, in the order of their names on the server.
    pub reads: Vec<Read>,
    /// Databases it is to read and that no document here declares with readers.
    pub unknown: Vec<Component>,
    /// Its bounds.
    pub bounds: Bounds,
    /// It is only reported what would be done.
    pub report_only: bool,
    /// What a teardown does with it.
    pub on_delete: OnDelete,
}

/// A database that a role reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Read {
    /// The database's name on the server.
    pub database: String,
    /// The group of its readers.
    pub group: String,
    /// The database.
    pub component: Component,
}

impl RoleSpec {
    /// What is finished when this is finished: a hash over names and rights, never over a secret.
    pub fn hash(&self) -> String {
        let bounds = database::bounds(&self.bounds).to_string();
        let mut facts = vec!["role v1", &self.login.role, &bounds];
        facts.extend(self.reads.iter().map(|read| read.group.as_str()));
        sha256_hex(&facts)
    }
}

/// What a document says of a role; none where a name does not fit, which was refused with the document.
pub(super) fn of_document(environment: &Environment, role: &Declared<'_, Reader>) -> Option<RoleSpec> {
    let (document, spec) = (&role.source.document, role.spec);
    let name = document.naming.role(spec.physical_base(role.component.name()), document.place()).ok()?;
    let (mut reads, mut unknown) = (Vec::new(), Vec::new());
    for key in &spec.reads {
        let component = Component::new(Kind::Database, key);
        match read(environment, spec, &component) {
            Some(read) => reads.push(read),
            None => unknown.push(component),
        }
    }
    reads.sort();
    Some(RoleSpec {
        component: role.component.clone(),
        fragment: document.fragment.name.clone(),
        login: Login { role: name, password: SecretKey::of(&spec.password, &document.fragment.namespace) },
        reads,
        unknown,
        bounds: Bounds {
            connection_limit: spec.connection_limit,
            settings: spec.settings.clone(),
            replication: spec.replication,
            create_db: spec.create_db,
            bypass_rls: spec.bypass_rls,
        },
        report_only: document.policy.mode == Mode::Report,
        on_delete: document.policy.on_delete_of(spec.on_delete),
    })
}

fn read(environment: &Environment, role: &Reader, component: &Component) -> Option<Read> {
    let declared = environment.databases().find(|database| database.component == *component)?;
    let database = database::of_document(&declared).filter(|_| declared.spec.server == role.server)?;
    Some(Read { database: database.name, group: database.readers?, component: component.clone() })
}
