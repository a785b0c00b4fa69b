//! A server as a value: what each change makes of it.

use std::collections::BTreeSet;

use lifecycle::document::{Ddl, Identity, Postgres, SecretKey};
use lifecycle::{Component, Kind as ComponentKind};

use crate::plan::{Change, Step, plan, privileges};
use crate::spec::{DatabaseSpec, Login, ServerSpec};
use crate::world::facts::{
    DatabaseFacts, Inside, Kind, Password, Record, Registry, RoleFacts, Shared, World,
};

pub(super) fn login(role: &str) -> Login {
    let secret = Component::namespaced(ComponentKind::Secret, "dev", "registry-db");
    Login { role: role.to_owned(), password: SecretKey { secret, key: "password".to_owned() } }
}

pub(super) fn app() -> Login {
    login("registry_user")
}

pub(super) fn database(name: &str, ddl: Ddl, extensions: &[&str]) -> DatabaseSpec {
    DatabaseSpec {
        component: Component::new(ComponentKind::Database, name),
        fragment: "base".to_owned(),
        name: name.to_owned(),
        owner: format!("{name}_owner"),
        app: login(&format!("{name}_user")),
        ddl,
        extensions: extensions.iter().map(ToString::to_string).collect(),
        report_only: false,
    }
}

pub(super) fn spec(ddl: Ddl, extensions: &[&str]) -> ServerSpec {
    let connection: Postgres = Postgres {
        host: "localhost".to_owned(),
        port: 5432,
        tls: lifecycle::document::Tls::default(),
        admin: None,
        observer: None,
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
        report_only: false,
    }
}

/// An empty server of version 18 whose Secrets are there.
pub(super) fn world() -> World {
    World {
        shared: Shared {
            version: 180_006,
            superuser: true,
            reads_verifiers: true,
            available: BTreeSet::from(["pg_trgm".to_owned(), "unaccent".to_owned()]),
            ..Shared::default()
        },
        passwords: ["a", "b", "registry"]
            .iter()
            .map(|name| (format!("{name}_user"), Password::Given))
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
        fragment: spec.database(&step.component).map_or(&spec.fragment, |d| &d.fragment).clone(),
        component: step.component.to_string(),
        oid,
        spec_hash: None,
        finished: false,
    });
}

fn make_role(world: &mut World, spec: &ServerSpec, step: &Step, kind: Kind, name: &str, login: bool) {
    if world.role(name).is_none() {
        let oid = oid(world);
        world.shared.roles.push(RoleFacts {
            name: name.to_owned(),
            oid,
            login,
            powers: BTreeSet::new(),
            member_of: BTreeSet::new(),
            acts_as: BTreeSet::new(),
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
        let made = DatabaseFacts { name: name.to_owned(), oid, owner: owner.to_owned(), open: false, grants };
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
            find(world, postgres::REGISTRY).grants.clear();
            world.registry = Registry::Ready;
        }
        Change::Observer { role } => make_role(world, spec, step, Kind::Observer, role, true),
        Change::OpenRegistry { role } => {
            make_database(world, postgres::REGISTRY, "postgres");
            find(world, postgres::REGISTRY).grants.insert(format!("{role}=CONNECT"));
        }
        Change::Owner { role } => make_role(world, spec, step, Kind::Role, role, false),
        Change::Login { role } => make_role(world, spec, step, Kind::Role, role, true),
        Change::Attributes { role: name, set } => {
            for attribute in set {
                match attribute.as_str() {
                    "LOGIN" => role(world, name).login = true,
                    "NOLOGIN" => role(world, name).login = false,
                    other => drop(role(world, name).powers.remove(other.trim_start_matches("NO"))),
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
        Change::Extension { name } => drop(inside(world, database).extensions.insert(name.clone())),
        Change::Privileges { .. } => inside(world, database).privileges = privileges(),
        Change::Admit { role, name } => {
            find(world, name).grants.extend([format!("{role}=CONNECT"), format!("{role}=TEMPORARY")]);
        }
        Change::Finish { name } => {
            let hash = spec.database(&step.component).unwrap().hash();
            let record =
                world.records.iter_mut().find(|r| r.kind == Kind::Database && r.name == *name).unwrap();
            (record.spec_hash, record.finished) = (Some(hash), true);
        }
    }
}
