//! A server as a value: what each change makes of it.

use std::collections::BTreeSet;

use lifecycle::document::{Ddl, Extension, Identity, OnDelete, Postgres, SecretKey};
use lifecycle::{Component, Kind as ComponentKind};

use crate::plan::{Change, Step, plan};
use crate::spec::{Account, Bounds, DatabaseSpec, Login, Read, RoleSpec, ServerSpec, Unmarked};
use crate::world::facts::{
    Available, DatabaseFacts, Inside, Installed, Kind, Password, Reach, Record, Registry, RoleFacts,
    SettingFacts, Shared, TextFacts, World,
};

pub(super) fn login(role: &str) -> Login {
    let secret = Component::namespaced(ComponentKind::Secret, "dev", "registry-db");
    Login { role: role.to_owned(), password: SecretKey { secret, key: "password".to_owned() } }
}

pub(super) fn app() -> Login {
    login("registry_user")
}

pub(in crate::plan) fn database(name: &str, ddl: Ddl, extensions: &[&str]) -> DatabaseSpec {
    let component = Component::new(ComponentKind::Database, name);
    let (owner, app) = (format!("{name}_owner"), login(&format!("{name}_user")));
    DatabaseSpec {
        extensions: extensions.iter().map(|name| Extension::new(*name)).collect(),
        ..DatabaseSpec::new(component, "base".to_owned(), name.to_owned(), owner, app, ddl)
    }
}

/// A database of which all is said that can be.
pub(super) fn full(name: &str) -> DatabaseSpec {
    let settings = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let bounds = Bounds {
        connection_limit: Some(7),
        settings: settings("work_mem", "8MB"),
        replication: true,
        create_db: true,
        bypass_rls: true,
    };
    let account =
        |role: &str, ddl| Account { login: login(&format!("{name}_{role}")), ddl, bounds: bounds.clone() };
    DatabaseSpec {
        bounds: bounds.clone(),
        others: vec![account("migrator", Ddl::AsOwner), account("user_b", Ddl::None)],
        migrator: Some(format!("{name}_migrator")),
        readers: Some(format!("{name}_readers")),
        connection_limit: Some(50),
        settings: settings("search_path", "own, public"),
        connect_also: ["dba".to_owned()].into(),
        schemas: [("own".to_owned(), format!("{name}_owner"))].into(),
        ..database(name, Ddl::None, &["pg_trgm"])
    }
}

/// A role that reads these.
pub(super) fn reader(databases: &[&DatabaseSpec]) -> RoleSpec {
    let read = |database: &&DatabaseSpec| Read {
        database: database.name.clone(),
        group: format!("{}_readers", database.name),
        component: database.component.clone(),
    };
    RoleSpec {
        component: Component::new(ComponentKind::Role, "bi"),
        fragment: "base".to_owned(),
        login: login("bi"),
        reads: databases.iter().map(read).collect(),
        unknown: Vec::new(),
        bounds: Bounds { connection_limit: Some(3), ..Bounds::default() },
        report_only: false,
        on_delete: OnDelete::Retain,
    }
}

pub(in crate::plan) fn spec(ddl: Ddl, extensions: &[&str]) -> ServerSpec {
    let connection: Postgres = Postgres {
        host: "localhost".to_owned(),
        port: 5432,
        tls: lifecycle::document::Tls::default(),
        admin: None,
        observer: None,
        delegate: Vec::new(),
    };
    ServerSpec {
        component: Component::new(ComponentKind::Postgres, "main"),
        fragment: "base".to_owned(),
        namespace: "dev".to_owned(),
        connection,
        admin: login("postgres"),
        environment: Identity {
            name: "dev".to_owned(),
            uid: "00000000-0000-0000-0000-00000000000a".parse().unwrap(),
        },
        observer: None,
        databases: vec![database("registry", ddl, extensions)],
        roles: Vec::new(),
        report_only: false,
        on_delete: OnDelete::Retain,
        unmarked: Unmarked::Refused,
        prefers_tls: false,
        converging: None,
        delegated: std::collections::BTreeSet::new(),
        namespaces: std::collections::BTreeMap::new(),
        given: crate::spec::Given::default(),
    }
}

pub(super) fn available(name: &str) -> Available {
    let version = "1.6".to_owned();
    Available { name: name.to_owned(), version, default: true, ..Available::default() }
}

fn setting(name: &str) -> SettingFacts {
    SettingFacts { name: name.to_owned(), context: Some("user".to_owned()), may: true }
}

/// An empty server of version 18 whose Secrets are there.
pub(super) fn world() -> World {
    World {
        shared: Shared {
            version: 180_006,
            superuser: true,
            reads_verifiers: true,
            available: ["pg_trgm", "unaccent"].map(available).into(),
            settings: ["work_mem", "search_path"].map(setting).into(),
            reach: Some(Reach::default()),
            ..Shared::default()
        },
        passwords: ["a", "b", "registry"]
            .iter()
            .flat_map(|name| ["user", "user_b", "migrator"].map(|role| format!("{name}_{role}")))
            .chain(["bi".to_owned()])
            .map(|role| (role, Password::Given))
            .collect(),
        ..World::default()
    }
}

/// A server on which all that `spec` says is made.
pub(super) fn finished(spec: &ServerSpec) -> World {
    let mut world = world();
    if let Some(observer) = &spec.observer {
        world.passwords.insert(observer.role.clone(), Password::Given);
    }
    for step in plan(spec, &world).steps {
        step_on(&mut world, spec, &step);
    }
    world.shared.databases.sort_by_key(|database| database.name == postgres::REGISTRY);
    world
}

fn oid(world: &World) -> i64 {
    let oids = world.shared.databases.iter().map(|d| d.oid).chain(world.shared.roles.iter().map(|r| r.oid));
    oids.chain(world.records.iter().map(|r| r.oid)).max().unwrap_or(16_000) + 1
}

fn record(world: &mut World, spec: &ServerSpec, step: &Step, kind: Kind, name: &str, oid: i64) {
    if let Some(known) = world.records.iter_mut().find(|record| record.kind == kind && record.name == name) {
        known.oid = oid;
        return;
    }
    world.records.push(Record {
        kind,
        name: name.to_owned(),
        environment_uid: spec.environment.uid.to_string(),
        environment_name: spec.environment.name.clone(),
        fragment: spec.fragment_of(&step.component).to_owned(),
        component: step.component.to_string(),
        oid,
        spec_hash: None,
        finished: false,
        system_identifier: None,
        adopted: None,
        leaving: false,
        now: None,
        renamed_from: None,
    });
}

fn make_role(world: &mut World, spec: &ServerSpec, step: &Step, kind: Kind, name: &str, login: bool) {
    if world.role(name).is_none() {
        let oid = oid(world);
        world.shared.roles.push(RoleFacts {
            name: name.to_owned(),
            oid,
            login,
            limit: -1,
            governed: true,
            ..RoleFacts::default()
        });
        record(world, spec, step, kind, name, oid);
    }
    if login {
        world.passwords.insert(name.to_owned(), Password::Fits);
    }
}

fn role<'a>(world: &'a mut World, name: &str) -> &'a mut RoleFacts {
    world.shared.roles.iter_mut().find(|role| role.name == name).unwrap()
}

fn find<'a>(world: &'a mut World, name: &str) -> &'a mut DatabaseFacts {
    world.shared.databases.iter_mut().find(|database| database.name == name).unwrap()
}

fn make_database(world: &mut World, name: &str, owner: &str) {
    if world.database(name).is_none() {
        let oid = oid(world);
        let grants = BTreeSet::from(["=CONNECT".to_owned(), "=TEMPORARY".to_owned()]);
        let text = TextFacts { encoding: "UTF8".to_owned(), ..TextFacts::default() };
        let (name_of, owner) = (name.to_owned(), owner.to_owned());
        let made =
            DatabaseFacts { name: name_of, oid, owner, grants, limit: -1, text, ..DatabaseFacts::default() };
        world.shared.databases.push(made);
        let public_open = world.shared.version < 150_000;
        world.inside.insert(name.to_owned(), Ok(Inside { public_open, ..Inside::default() }));
    }
}

fn inside<'a>(world: &'a mut World, name: &str) -> &'a mut Inside {
    world.inside.get_mut(name).unwrap().as_mut().unwrap()
}

/// What a change makes of a server.
pub(super) fn step_on(world: &mut World, spec: &ServerSpec, step: &Step) {
    let database = spec.database(&step.component).map_or("", |database| &database.name);
    match &step.change {
        Change::Registry => {
            make_database(world, postgres::REGISTRY, "postgres");
            let registry = find(world, postgres::REGISTRY);
            registry.grants.clear();
            registry.open = true;
            world.registry = Registry::Ready;
        }
        Change::Observer { role } => make_role(world, spec, step, Kind::Observer, role, true),
        Change::OpenRegistry { role } => {
            make_database(world, postgres::REGISTRY, "postgres");
            find(world, postgres::REGISTRY).grants.insert(format!("{role}=CONNECT"));
        }
        Change::Owner { role } | Change::Group { role } => {
            make_role(world, spec, step, Kind::Role, role, false);
        }
        Change::Login { role } => make_role(world, spec, step, Kind::Role, role, true),
        Change::Attributes { role: name, set } => {
            for attribute in set {
                match attribute.as_str() {
                    "LOGIN" => role(world, name).login = true,
                    "NOLOGIN" => role(world, name).login = false,
                    other => match other.strip_prefix("NO") {
                        Some(power) => drop(role(world, name).powers.remove(power)),
                        None => drop(role(world, name).powers.insert(other.to_owned())),
                    },
                }
            }
        }
        Change::Password { role } => drop(world.passwords.insert(role.clone(), Password::Fits)),
        Change::Database { name } => {
            let owner = spec.database(&step.component).unwrap().owner.clone();
            make_database(world, name, &owner);
        }
        Change::Seal { name } => {
            let sealed = find(world, name);
            sealed.grants.retain(|grant| !grant.starts_with('='));
            sealed.open = true;
            let oid = sealed.oid;
            record(world, spec, step, Kind::Database, name, oid);
        }
        Change::ActAsOwner { role: name, owner } => {
            role(world, name).member_of.insert(owner.clone());
            role(world, name).acts_as.insert(format!("{database}={owner}"));
        }
        Change::NotAsOwner { role: name, owner } => {
            role(world, name).member_of.remove(owner);
            role(world, name).acts_as.remove(&format!("{database}={owner}"));
        }
        Change::ClosePublic { .. } => inside(world, database).public_open = false,
        Change::Schema { name, owner } => {
            inside(world, database).schemas.entry(name.clone()).or_insert_with(|| owner.clone());
        }
        Change::Extension(extension) => {
            let version = extension.version.clone().unwrap_or_else(|| "1.6".to_owned());
            let schema = extension.schema.clone().unwrap_or_else(|| "public".to_owned());
            let all = &mut inside(world, database).extensions;
            all.entry(extension.name.clone()).or_insert(Installed { version, schema });
        }
        Change::Update { name, version } => {
            inside(world, database).extensions.get_mut(name).unwrap().version.clone_from(version);
        }
        Change::Privileges { role, makers, rights } => {
            let own = format!("{role}:");
            let seen = inside(world, database);
            seen.defaults.extend(super::super::inside::defaults(role, rights, makers));
            seen.lacking.retain(|right| !right.starts_with(&own));
        }
        Change::Connect { role, name } => drop(find(world, name).grants.insert(format!("{role}=CONNECT"))),
        Change::Join { role: name, group } => drop(role(world, name).member_of.insert(group.clone())),
        Change::Leave { role: name, group } => drop(role(world, name).member_of.remove(group)),
        Change::FinishRole { role } => {
            let hash = spec.role(&step.component).unwrap().hash();
            let record = world.records.iter_mut().find(|r| r.kind == Kind::Role && r.name == *role).unwrap();
            (record.spec_hash, record.finished) = (Some(hash), true);
        }
        Change::Admit { role, name } => {
            find(world, name).grants.extend([format!("{role}=CONNECT"), format!("{role}=TEMPORARY")]);
        }
        Change::Finish { name } => {
            let hash = spec.database(&step.component).unwrap().hash();
            let record =
                world.records.iter_mut().find(|r| r.kind == Kind::Database && r.name == *name).unwrap();
            (record.spec_hash, record.finished) = (Some(hash), true);
        }
        Change::Renamed { kind, from, to, .. } => {
            let renamed = world.records.iter_mut().find(|record| record.kind == *kind && record.name == *to);
            let record = renamed.filter(|record| record.renamed_from.as_ref() == Some(from)).unwrap();
            record.renamed_from = None;
        }
        Change::Reassign { kind, name, from } => {
            // Whoever comes first has it.
            let stale = world.records.iter_mut().find(|record| record.kind == *kind && record.name == *name);
            for record in stale.into_iter().filter(|record| record.component == *from) {
                record.component = step.component.to_string();
            }
        }
        other => bound(world, other),
    }
}

/// What a change makes of the bounds of roles and databases.
fn bound(world: &mut World, change: &Change) {
    match change {
        Change::RoleLimit { role: name, limit } => role(world, name).limit = i32::from(*limit),
        Change::RoleSettings { role: name, database, settings } => {
            let within = database.clone().unwrap_or_default();
            let set = &mut role(world, name).settings;
            for (name, value) in settings {
                let own = format!("{name}=");
                set.retain(|(database, setting)| *database != within || !setting.starts_with(&own));
                set.insert((within.clone(), format!("{name}={value}")));
            }
        }
        Change::DatabaseLimit { name, limit } => find(world, name).limit = i32::from(*limit),
        Change::DatabaseSettings { name, settings } => {
            let set = &mut find(world, name).settings;
            for (name, value) in settings {
                set.retain(|setting| !setting.starts_with(&format!("{name}=")));
                set.insert(format!("{name}={value}"));
            }
        }
        _ => {}
    }
}
