//! Checks of the union: what each document may say for itself, and what still leads nowhere in all of them together.

use std::collections::BTreeMap;

use super::{Environment, Generator, Problem, Secret, Source};
use crate::{Component, Kind, When};

/// References that lead nowhere, and databases that nobody can make.
pub fn check_union(environment: &Environment) -> Vec<Problem> {
    let mut problems = values(environment);
    problems.extend(authorities(environment));
    problems.extend(uses(environment));
    problems.extend(servers(environment));
    problems.extend(readers(environment));
    problems.extend(clients(environment));
    problems.extend(work(environment));
    problems.extend(super::keycloak_check::union(environment));
    problems
}

fn problem(source: &Source, key: impl Into<String>, message: String) -> Problem {
    Problem { file: source.file.clone(), key: key.into(), message }
}

/// Values that are referred to must be made by somebody.
fn values(environment: &Environment) -> Vec<Problem> {
    let secrets = environment.secrets().map(|secret| (secret.component, secret.spec.made()));
    let configmaps = environment.configmaps().map(|map| (map.component, map.spec.made()));
    let declared: BTreeMap<Component, Option<Vec<&str>>> = secrets.chain(configmaps).collect();
    let wrong = |(source, object, key): (&Source, Component, String)| {
        let Some(made) = declared.get(&object) else {
            let message =
                format!("is referred to, and no fragment declares it; declare it under `{}s`", object.kind());
            return Some(problem(source, object.to_string(), message));
        };
        let made = made.as_ref()?;
        let missing = !made.contains(&key.as_str());
        missing.then(|| {
            let message =
                format!("its key `{key}` is referred to, and it is made with {} only", made.join(", "));
            problem(source, object.to_string(), message)
        })
    };
    environment.referring().into_iter().filter_map(wrong).collect()
}

/// What signs certificates must be an authority: where its Secret is generated, so is known what its keys are. A key that
/// is not made at all is told of with the [values].
fn authorities(environment: &Environment) -> Vec<Problem> {
    let declared: BTreeMap<Component, &Secret> =
        environment.secrets().map(|secret| (secret.component.clone(), secret.spec)).collect();
    let mut problems = Vec::new();
    for secret in environment.secrets() {
        for (key, generator) in &secret.spec.generate {
            let Some(ca) = generator.ca() else { continue };
            let component = secret.secret(&ca.secret);
            let Some(made) = declared.get(&component).map(|secret| secret.generated()) else { continue };
            let wanted = [ca.certificate.as_str(), ca.private.as_str()];
            let is_ca = match declared[&component].generate.get(&ca.certificate) {
                Some(Generator::Ca(authority)) => authority.private == ca.private,
                _ => false,
            };
            if wanted.iter().all(|key| made.contains(key)) && !is_ca {
                let at = format!("{}.generate.{key}.ca", secret.component);
                let message = format!(
                    "{component} does not make `{}` and `{}` as one authority (kind: ca) and its private key",
                    ca.certificate, ca.private
                );
                problems.push(problem(secret.source, at, message));
            }
        }
    }
    problems
}

/// What a fragment says it uses must be declared by another.
fn uses(environment: &Environment) -> Vec<Problem> {
    let mut declared: Vec<Component> = environment.modules().map(|m| m.component).collect();
    declared.extend(environment.postgres().map(|p| p.component));
    declared.extend(environment.kafka().map(|k| k.component));
    let mut problems = Vec::new();
    for source in environment.sources() {
        let uses = &source.document.uses;
        let names = uses.modules.keys().map(|name| (Kind::Module, "modules", name));
        let names = names.chain(uses.postgres.keys().map(|name| (Kind::Postgres, "postgres", name)));
        for (kind, at, name) in names.chain(uses.kafka.keys().map(|name| (Kind::Kafka, "kafka", name))) {
            if !declared.contains(&Component::new(kind, name)) {
                let message =
                    "no fragment declares it; correct the name, or give all the fragments of the environment";
                problems.push(problem(source, format!("uses.{at}.{name}"), message.to_owned()));
            }
        }
    }
    problems
}

/// A server that databases are declared on needs an administrator.
fn servers(environment: &Environment) -> Vec<Problem> {
    let without = environment.postgres().filter(|server| server.spec.admin.is_none());
    without
        .filter(|server| {
            let (name, roles) = (server.component.name(), environment.roles());
            environment.databases().map(|d| &d.spec.server).chain(roles.map(|r| &r.spec.server)).any(|on| on == name)
        })
        .map(|server| {
            let key = format!("postgres.{}", server.component.name());
            let message =
                "databases or roles are declared on it, and it has no `admin`, so nobody can make them; add `admin`";
            problem(server.source, key, message.to_owned())
        })
        .collect()
}

/// What a role reads must be a database on its server that has readers.
fn readers(environment: &Environment) -> Vec<Problem> {
    let mut problems = Vec::new();
    for role in environment.roles() {
        for name in &role.spec.reads {
            let component = Component::new(Kind::Database, name);
            let message = match environment.databases().find(|database| database.component == component) {
                None => {
                    "no fragment declares it; correct the name, or give all the fragments of the environment"
                        .to_owned()
                }
                Some(database) if database.spec.server != role.spec.server => {
                    format!(
                        "it is on postgres/{}, and a role reads on its own server only",
                        database.spec.server
                    )
                }
                Some(database) if database.spec.roles.readers.is_none() => {
                    "it has no readers; add `roles: {readers: {}}` where it is declared".to_owned()
                }
                Some(_) => continue,
            };
            let key = format!("roles.{}.reads: {component}", role.component.name());
            problems.push(problem(role.source, key, message));
        }
    }
    problems
}

/// What is migrated must have somebody who acts as its owner, and scripts stay on one server.
fn work(environment: &Environment) -> Vec<Problem> {
    let declared: BTreeMap<Component, &super::Database> =
        environment.databases().map(|database| (database.component, database.spec)).collect();
    let mut problems = Vec::new();
    for migration in environment.migrations() {
        let key = format!("migrations.{}.database", migration.component.name());
        let known: Vec<_> =
            migration.spec.databases().filter_map(|name| Some((declared.get(&name)?, name))).collect();
        for (database, component) in &known {
            // One of the same fragment is told of there.
            let own = migration.source.document.databases.contains_key(component.name());
            if database.migrates().is_none() && !(own && component.name() == migration.spec.database) {
                let message = format!(
                    "nobody who logs in to {component} acts as its owner, so nothing could be migrated; give it a `migrator`, or its app role `ddl: as-owner`"
                );
                problems.push(problem(migration.source, key.clone(), message));
            }
            if database.server != known[0].0.server {
                let message = format!("{component} is on another server; scripts stay on one");
                problems.push(problem(migration.source, key.clone(), message));
            }
        }
    }
    problems
}

/// A client that a module needs to start must be one that its waiter can look at: with the client's own secret.
fn clients(environment: &Environment) -> Vec<Problem> {
    let wrong = |module: &super::Declared<'_, super::Module>, client: &Component| {
        let declared = environment.clients().find(|declared| declared.component == *client)?;
        let namespace = module.namespace();
        if environment.credential(client, namespace).is_some() {
            return None;
        }
        let message = if declared.spec.public {
            format!(
                "{client} is public: without a secret nothing proves that it is there; need the module that is its Keycloak, or make it `when: runtime`"
            )
        } else {
            format!(
                "{client} can be looked at only with its secret, and no Secret in namespace {namespace} is declared to hold it; declare one (copy: {{from: {{client: {}}}}}), or need the module that is its Keycloak",
                client.name()
            )
        };
        Some(problem(module.source, format!("modules.{}.needs", module.component.name()), message))
    };
    let needs = |module: super::Declared<'_, super::Module>| {
        let start = module.spec.needs.iter().filter(|need| need.when == When::Start);
        start.filter_map(|need| wrong(&module, &need.component)).collect::<Vec<_>>()
    };
    environment.modules().flat_map(needs).collect()
}
