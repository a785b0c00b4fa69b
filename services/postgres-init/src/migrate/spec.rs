//! What should be migrated: the migrations that the documents declare, with the names that things have on their servers. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lifecycle::document::{
    self, Database, Declared, Document, Environment, FlywayMigration, Identity, Migration, Mode,
    NativeMigration, PsqlMigration, SecretKey, SecretRef,
};
use lifecycle::{Component, Kind};
use migrations::guard::Allow;
use migrations::journal::Fate;
use migrations::{flyway, native, psql};
use postgres::Server;

use crate::needs::Needs;
use crate::spec::{Login, ServerSpec};

/// The schema of a tenant's database with what Rollcall writes down there, and the journal of scripts for psql in it.
pub const SCHEMA: &str = "rollcall";
const SCRIPTS: &str = "scripts";

/// A migration that should have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSpec {
    /// The component.
    pub component: Component,
    /// The fragment that declares it.
    pub fragment: String,
    /// The environment this is for.
    pub environment: Identity,
    /// Its server.
    pub server: Component,
    /// How that is reached, and from which namespace its CA is read.
    pub connection: (document::Postgres, String),
    /// The databases it is let into, its own first.
    pub databases: Vec<Entrance>,
    /// Where its files are.
    pub sources: Vec<Files>,
    /// How they are read and run.
    pub dialect: Dialect,
    /// What must be there first.
    pub needs: Needs,
    /// What is asked for, as a hash.
    pub hash: String,
    /// It is only reported what would be done.
    pub report_only: bool,
}

/// A database, and who logs in to it to act as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// The component.
    pub component: Component,
    /// Its name on the server.
    pub name: String,
    /// Who logs in.
    pub login: Login,
}

/// Where files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Where.
    pub place: FilesAt,
    /// The folder of the set that they are put below.
    pub below: String,
}

/// Where files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesAt {
    /// In a folder here.
    Directory(PathBuf),
    /// In a ConfigMap.
    ConfigMap(Component),
}

/// How files are read and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialect {
    /// Our own.
    Native(native::Settings),
    /// Flyway's.
    Flyway(flyway::Settings),
    /// psql's.
    Psql {
        /// Without the variables that are secrets.
        settings: psql::Settings,
        /// Those.
        secrets: BTreeMap<String, SecretKey>,
    },
}

impl Dialect {
    /// Says for one run what became of a statement of which nobody knows it. Whether the dialect knows of statements.
    pub(crate) fn decide(&mut self, fate: Fate) -> bool {
        match self {
            Dialect::Native(settings) => settings.decided = Some(fate),
            Dialect::Psql { settings, .. } => settings.decided = Some(fate),
            Dialect::Flyway(_) => return false,
        }
        true
    }
}

/// The migrations of these documents; and those that cannot be run from here, with the reason.
pub fn specs(environment: &Environment) -> (Vec<MigrationSpec>, Vec<(Component, String)>) {
    let servers = crate::spec::specs(environment);
    let (mut specs, mut left) = (Vec::new(), Vec::new());
    for migration in environment.migrations() {
        match of_migration(environment, &servers, &migration) {
            Ok(spec) => specs.push(spec),
            Err(why) => left.push((migration.component, why)),
        }
    }
    (specs, left)
}

impl MigrationSpec {
    /// The database that its files are brought into.
    pub fn database(&self) -> &Entrance {
        &self.databases[0]
    }

    /// What is read to run it.
    pub fn reads(&self) -> BTreeSet<Component> {
        let (connection, namespace) = &self.connection;
        let mut reads: BTreeSet<Component> =
            self.databases.iter().map(|entrance| entrance.login.password.secret.clone()).collect();
        reads.extend(Server::authority(connection, namespace).map(|ca| ca.secret));
        for files in &self.sources {
            if let FilesAt::ConfigMap(map) = &files.place {
                reads.insert(map.clone());
            }
        }
        if let Dialect::Psql { secrets, .. } = &self.dialect {
            reads.extend(secrets.values().map(|key| key.secret.clone()));
        }
        reads.extend(self.needs.reads());
        reads
    }

    /// The journal of scripts for psql.
    pub fn journal(&self) -> migrations::world::Journal {
        migrations::world::Journal {
            schema: SCHEMA.to_owned(),
            table: SCRIPTS.to_owned(),
            migration: self.component.to_string(),
        }
    }
}

fn of_migration(
    environment: &Environment,
    servers: &BTreeMap<Component, ServerSpec>,
    declared: &Declared<'_, Migration>,
) -> Result<MigrationSpec, String> {
    let (document, migration) = (&declared.source.document, declared.spec);
    let entrances: Result<Vec<(Component, Entrance)>, String> = migration
        .databases()
        .map(|component| entrance(environment, &component, Database::migrates))
        .collect();
    let entrances = entrances?;
    let server = entrances[0].0.clone();
    if let Some((other, entrance)) = entrances.iter().find(|(other, _)| *other != server) {
        return Err(format!(
            "{} is on {other} and not on {server}; name databases of one server",
            entrance.component
        ));
    }
    let connection = connection(environment, document, &server).ok_or_else(|| {
        format!("no document here says how {server} is reached; say so under uses.postgres")
    })?;
    let needs = Needs::of(environment, servers, &server, &migration.needs, document);
    let directory = |path: &str| FilesAt::Directory(PathBuf::from(path));
    let sources = migration.sources.iter().filter_map(|source| {
        let map = source.configmap.as_ref().map(|name| name.configmap(&document.fragment.namespace));
        let place = source.directory.as_deref().map(directory).or_else(|| map.map(FilesAt::ConfigMap))?;
        Some(Files { place, below: source.below.clone().unwrap_or_default() })
    });
    let databases: Vec<Entrance> = entrances.into_iter().map(|(_, entrance)| entrance).collect();
    Ok(MigrationSpec {
        component: declared.component.clone(),
        fragment: document.fragment.name.clone(),
        environment: document.environment.clone(),
        server,
        connection,
        sources: sources.collect(),
        dialect: dialect(migration, &databases, document)?,
        databases,
        needs,
        hash: migration.hash(),
        report_only: document.policy.mode == Mode::Report,
    })
}

/// A database's server, and how one of its login roles gets in.
pub(crate) fn entrance(
    environment: &Environment,
    component: &Component,
    role: impl Fn(&Database) -> Option<(&str, &SecretRef)>,
) -> Result<(Component, Entrance), String> {
    let declared = environment
        .databases()
        .find(|database| database.component == *component)
        .ok_or_else(|| format!("no document here declares {component}; give the fragment that does"))?;
    let document = &declared.source.document;
    let (role, password) = role(declared.spec).ok_or_else(|| {
        format!("nobody who logs in to {component} acts as its owner; give it a `migrator`, or its app role `ddl: as-owner`")
    })?;
    let (naming, place) = (&document.naming, document.place());
    let name = naming.database(declared.spec.physical_base(component.name()), place);
    let user = naming.role(role, place);
    let entrance = Entrance {
        component: component.clone(),
        name: name.map_err(|error| error.to_string())?,
        login: Login {
            role: user.map_err(|error| error.to_string())?,
            password: SecretKey::of(password, &document.fragment.namespace),
        },
    };
    Ok((Component::new(Kind::Postgres, &declared.spec.server), entrance))
}

/// How a fragment reaches a server: as it says itself, or as whoever declares it does.
pub(crate) fn connection(
    environment: &Environment,
    document: &Document,
    server: &Component,
) -> Option<(document::Postgres, String)> {
    let own = document.uses.postgres.get(server.name()).or_else(|| document.postgres.get(server.name()));
    if let Some(own) = own {
        return Some((own.clone(), document.fragment.namespace.clone()));
    }
    let declared = environment.postgres().find(|declared| declared.component == *server)?;
    Some((declared.spec.clone(), declared.namespace().to_owned()))
}

fn dialect(migration: &Migration, databases: &[Entrance], document: &Document) -> Result<Dialect, String> {
    match migration {
        Migration { native: Some(asked), .. } => Ok(Dialect::Native(as_native(asked))),
        Migration { flyway: Some(asked), .. } => Ok(Dialect::Flyway(as_flyway(asked))),
        Migration { psql: Some(asked), .. } => {
            let namespace = &document.fragment.namespace;
            let key = |(name, reference): (&String, _)| (name.clone(), SecretKey::of(reference, namespace));
            let secrets = asked.secrets.iter().map(key).collect();
            Ok(Dialect::Psql { settings: as_psql(asked, databases)?, secrets })
        }
        _ => Err("it has no dialect; give one of native, flyway, psql".to_owned()),
    }
}

fn allow(files: &BTreeSet<String>) -> Allow {
    if files.is_empty() { Allow::Nothing } else { Allow::Files(files.clone()) }
}

fn as_native(asked: &NativeMigration) -> native::Settings {
    native::Settings {
        schema: asked.schema.clone(),
        table: asked.table.clone(),
        locations: folders(&asked.locations),
        baseline: asked.baseline.clone(),
        out_of_order: asked.out_of_order,
        ignore_missing: asked.ignore_missing,
        allow: allow(&asked.allow_destructive),
        decided: None,
    }
}

fn as_flyway(asked: &FlywayMigration) -> flyway::Settings {
    flyway::Settings {
        table: asked.table.clone(),
        schemas: asked.schemas.clone(),
        current_schema: asked.current_schema,
        locations: folders(&asked.locations),
        baseline_on_migrate: asked.baseline_on_migrate,
        baseline_version: asked.baseline_version.clone(),
        out_of_order: asked.out_of_order,
        ignore_missing: asked.ignore_missing,
        create_schemas: asked.create_schemas,
        placeholders: asked.placeholders.clone(),
        placeholder_replacement: asked.placeholder_replacement,
        target: asked.target.clone(),
        allow: allow(&asked.allow_destructive),
    }
}

/// Flyway's way to name a folder of its image, as documents of charts that used it do: the set is what was below it.
fn folders(locations: &[String]) -> Vec<String> {
    let folder = |location: &String| {
        let path = location.strip_prefix("filesystem:").unwrap_or(location);
        path.strip_prefix("/flyway/").unwrap_or(path).to_owned()
    };
    locations.iter().map(folder).collect()
}

fn as_psql(asked: &PsqlMigration, databases: &[Entrance]) -> Result<psql::Settings, String> {
    let physical = |name: &str| {
        let found = databases.iter().find(|entrance| entrance.component.name() == name);
        found.map(|entrance| entrance.name.clone()).ok_or_else(|| format!("`{name}` is no database of it"))
    };
    let mut before = BTreeMap::new();
    for (script, preparations) in &asked.before {
        let each: Result<Vec<(String, String)>, String> =
            preparations.iter().map(|one| Ok((physical(&one.database)?, one.script.clone()))).collect();
        before.insert(script.clone(), each?);
    }
    let database = databases[0].name.clone();
    let variables = asked.variables.iter();
    Ok(psql::Settings {
        folder: asked.folder.clone(),
        scripts: asked.scripts.clone(),
        version: asked.version.clone(),
        database: database.clone(),
        target: (database, asked.schema.clone()),
        upgrades: asked.upgrades.clone(),
        before,
        baseline: asked.baseline.clone(),
        rollback: asked.rollback,
        variables: variables.fold(psql::Variables::new(), |all, (name, value)| all.with(name, value)),
        allow: allow(&asked.allow_destructive),
        decided: None,
    })
}
