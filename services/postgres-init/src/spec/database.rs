//! What one database should be: its roles, what it is made with, and who may do what in it.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{self, Ddl, Declared, Extension, Locale, Mode, OnDelete, SchemaOwner, SecretKey};
use lifecycle::{Component, sha256_hex};
use serde_json::{Map, Value, json};

use super::Login;

/// The encoding of a database of which none is said.
const UTF8: &str = "UTF8";

/// What somebody may do with what others make who does not act as the owner: kind of `pg_default_acl`, how GRANT calls such
/// objects, and privileges.
pub type Rights = [(&'static str, &'static str, &'static str)];

/// The rights of a module that does not act as the owner.
pub const USES: &Rights = &[
    ("r", "TABLES", "SELECT, INSERT, UPDATE, DELETE"),
    ("S", "SEQUENCES", "USAGE, SELECT, UPDATE"),
    ("f", "ROUTINES", "EXECUTE"),
    ("n", "SCHEMAS", "USAGE"),
];

/// The rights of readers.
pub const READS: &Rights =
    &[("r", "TABLES", "SELECT"), ("S", "SEQUENCES", "SELECT"), ("n", "SCHEMAS", "USAGE")];

/// How a role's sessions are bounded, and what is opened to it beyond LOGIN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    /// How many sessions it may have; left as it is when absent.
    pub connection_limit: Option<u16>,
    /// What its sessions begin with.
    pub settings: BTreeMap<String, String>,
    /// REPLICATION.
    pub replication: bool,
    /// CREATEDB.
    pub create_db: bool,
    /// BYPASSRLS.
    pub bypass_rls: bool,
}

impl Bounds {
    /// The attributes that open something beyond LOGIN, in the words of ALTER ROLE.
    pub fn powers(&self) -> Vec<&'static str> {
        let powers =
            [(self.replication, "REPLICATION"), (self.create_db, "CREATEDB"), (self.bypass_rls, "BYPASSRLS")];
        powers.into_iter().filter_map(|(wanted, power)| wanted.then_some(power)).collect()
    }
}

/// A role that logs in to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The role and its password.
    pub login: Login,
    /// Whether it acts as the owner.
    pub ddl: Ddl,
    /// Its bounds.
    pub bounds: Bounds,
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
    /// The bounds of the module's role.
    pub bounds: Bounds,
    /// The other roles that log in to it: a second one of the module, one that migrates.
    pub others: Vec<Account>,
    /// The one of these that migrates.
    pub migrator: Option<String>,
    /// The group whose members read it.
    pub readers: Option<String>,
    /// The encoding it is made with.
    pub encoding: String,
    /// The locale it is made with; the server's own when absent.
    pub locale: Option<Locale>,
    /// How many sessions it takes; left as it is when absent.
    pub connection_limit: Option<u16>,
    /// What every session in it begins with.
    pub settings: BTreeMap<String, String>,
    /// Roles beside ours that may connect.
    pub connect_also: BTreeSet<String>,
    /// Schemas beside `public`, with the role that owns each.
    pub schemas: BTreeMap<String, String>,
    /// Extensions, sorted.
    pub extensions: Vec<Extension>,
    /// It is only reported what would be done.
    pub report_only: bool,
    /// What a teardown does with it.
    pub on_delete: OnDelete,
}

impl DatabaseSpec {
    /// A database of which nothing but its names is said.
    pub fn new(
        component: Component,
        fragment: String,
        name: String,
        owner: String,
        app: Login,
        ddl: Ddl,
    ) -> Self {
        DatabaseSpec {
            component,
            fragment,
            name,
            owner,
            app,
            ddl,
            bounds: Bounds::default(),
            others: Vec::new(),
            migrator: None,
            readers: None,
            encoding: UTF8.to_owned(),
            locale: None,
            connection_limit: None,
            settings: BTreeMap::new(),
            connect_also: BTreeSet::new(),
            schemas: BTreeMap::new(),
            extensions: Vec::new(),
            report_only: false,
            on_delete: OnDelete::Retain,
        }
    }

    /// The roles that log in to it, the module's own last: that it works is how a module sees that the database is finished.
    pub fn accounts(&self) -> Vec<Account> {
        let app = Account { login: self.app.clone(), ddl: self.ddl, bounds: self.bounds.clone() };
        self.others.iter().cloned().chain([app]).collect()
    }

    /// Every role of it.
    pub fn roles(&self) -> Vec<&str> {
        let others = self.others.iter().map(|account| account.login.role.as_str());
        let named = [self.owner.as_str(), &self.app.role];
        named.into_iter().chain(others).chain(self.readers.as_deref()).collect()
    }

    /// Who has which rights with what the owner and others make in it.
    pub fn grants(&self) -> Vec<(String, &'static Rights)> {
        let accounts = self.accounts().into_iter().filter(|account| account.ddl == Ddl::None);
        let uses = accounts.map(|account| (account.login.role, USES));
        uses.chain(self.readers.iter().map(|readers| (readers.clone(), READS))).collect()
    }

    /// What is finished when this is finished: a hash over names and rights, never over a secret. What is not said does not
    /// count, so that a record stays good when more can be said.
    pub fn hash(&self) -> String {
        let mut facts = vec!["database v1", self.name.as_str(), &self.owner, &self.app.role, ddl(self.ddl)];
        facts.extend(self.extensions.iter().map(|extension| extension.name.as_str()));
        let more = self.more();
        let more = if more.is_empty() { String::new() } else { Value::Object(more).to_string() };
        if !more.is_empty() {
            facts.push(&more);
        }
        sha256_hex(&facts)
    }

    /// What is said beyond names, the module's rights and names of extensions.
    fn more(&self) -> Map<String, Value> {
        let given = |said: bool, value: Value| said.then_some(value);
        let exact = self.extensions.iter().filter(|one| one.version.is_some() || one.schema.is_some());
        let exact: Vec<Value> = exact.map(|one| json!(one)).collect();
        let others = self.others.iter().map(|other| {
            json!({"role": other.login.role, "ddl": ddl(other.ddl), "bounds": self::bounds(&other.bounds)})
        });
        let parts = [
            ("bounds", given(self.bounds != Bounds::default(), self::bounds(&self.bounds))),
            ("others", given(!self.others.is_empty(), others.collect())),
            ("readers", self.readers.as_ref().map(|readers| json!(readers))),
            ("encoding", given(self.encoding != UTF8, json!(self.encoding))),
            ("locale", self.locale.as_ref().map(|locale| json!(locale))),
            ("connection_limit", self.connection_limit.map(|limit| json!(limit))),
            ("settings", given(!self.settings.is_empty(), json!(self.settings))),
            ("connect_also", given(!self.connect_also.is_empty(), json!(self.connect_also))),
            ("schemas", given(!self.schemas.is_empty(), json!(self.schemas))),
            ("extensions", given(!exact.is_empty(), json!(exact))),
        ];
        parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?))).collect()
    }
}

fn ddl(ddl: Ddl) -> &'static str {
    match ddl {
        Ddl::None => "none",
        Ddl::AsOwner => "as-owner",
    }
}

/// Bounds as they count in a hash: what came later counts where it is said.
pub(super) fn bounds(bounds: &Bounds) -> Value {
    let mut said = json!({
        "connection_limit": bounds.connection_limit, "settings": bounds.settings, "replication": bounds.replication
    });
    for (key, is_said) in [("create_db", bounds.create_db), ("bypass_rls", bounds.bypass_rls)] {
        if is_said {
            said[key] = json!(true);
        }
    }
    said
}

/// What a document says of a database; none where a name does not fit, which was refused with the document.
pub(super) fn of_document(database: &Declared<'_, document::Database>) -> Option<DatabaseSpec> {
    let document = &database.source.document;
    let (naming, place, spec) = (&document.naming, document.place(), database.spec);
    let key = database.component.name();
    let app = &spec.roles.app;
    let role = |base: &str| naming.role(base, place).ok();
    let login = |base: &str, password| {
        Some(Login { role: role(base)?, password: SecretKey::of(password, &document.fragment.namespace) })
    };
    let bounds = Bounds {
        connection_limit: app.connection_limit,
        settings: app.settings.clone(),
        replication: app.replication,
        create_db: app.create_db,
        bypass_rls: app.bypass_rls,
    };
    let mut others = Vec::new();
    if let Some(migrator) = &spec.roles.migrator {
        let bounds = Bounds {
            connection_limit: migrator.connection_limit,
            settings: migrator.settings.clone(),
            ..Bounds::default()
        };
        others.push(Account { login: login(&migrator.name, &migrator.password)?, ddl: Ddl::AsOwner, bounds });
    }
    if let Some(overlap) = &app.overlap {
        let login = login(&overlap.name, &overlap.password)?;
        others.push(Account { login, ddl: app.ddl, bounds: bounds.clone() });
    }
    let owner = role(&spec.owner_base(key))?;
    let module = login(&app.name, &app.password)?;
    let schemas = spec.schemas.iter().map(|(name, schema)| match schema.owner {
        SchemaOwner::Owner => (name.clone(), owner.clone()),
        SchemaOwner::App => (name.clone(), module.role.clone()),
    });
    let mut extensions = spec.extensions.clone();
    extensions.sort();
    let name = naming.database(spec.physical_base(key), place).ok()?;
    Some(DatabaseSpec {
        schemas: schemas.collect(),
        bounds,
        others,
        migrator: match &spec.roles.migrator {
            Some(migrator) => Some(role(&migrator.name)?),
            None => None,
        },
        readers: match spec.readers_base(key) {
            Some(base) => Some(role(&base)?),
            None => None,
        },
        encoding: spec.encoding.clone().unwrap_or_else(|| UTF8.to_owned()),
        locale: spec.locale.clone(),
        connection_limit: spec.connection_limit,
        settings: spec.settings.clone(),
        connect_also: spec.connect_also.iter().cloned().collect(),
        extensions,
        report_only: document.policy.mode == Mode::Report,
        on_delete: document.policy.on_delete_of(spec.on_delete),
        ..DatabaseSpec::new(
            database.component.clone(),
            document.fragment.name.clone(),
            name,
            owner,
            module,
            app.ddl,
        )
    })
}
