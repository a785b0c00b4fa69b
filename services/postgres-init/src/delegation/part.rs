//! The part of a fragment that others make for it. Pure.

use std::collections::BTreeMap;

use lifecycle::document::{Document, Step, Uses};
use lifecycle::{Kind, Need};

/// What of a fragment is asked of whoever looks after its servers: databases and roles on servers that it only uses and that
/// `others` look after, and the steps that are written down there, with those of their needs that can be seen there. Nothing else of it
/// travels.
pub(crate) fn part(document: &Document, others: impl Fn(&str) -> bool) -> Document {
    let theirs = |server: &str| document.uses.postgres.contains_key(server) && others(server);
    let databases = document.databases.iter().filter(|(_, database)| theirs(&database.server));
    let roles = document.roles.iter().filter(|(_, role)| theirs(&role.server));
    let steps = document.steps.iter().filter(|(_, step)| {
        let database = step.database.as_ref().and_then(|name| document.databases.get(name));
        let server = step.server.as_ref().or_else(|| database.map(|database| &database.server));
        server.is_some_and(|server| theirs(server))
    });
    let servers = document.uses.postgres.iter().filter(|(name, _)| others(name));
    Document {
        rollcall: document.rollcall,
        environment: document.environment.clone(),
        fragment: document.fragment.clone(),
        policy: document.policy,
        naming: document.naming.clone(),
        postgres: BTreeMap::new(),
        kafka: BTreeMap::new(),
        vault: BTreeMap::new(),
        keycloak: BTreeMap::new(),
        uses: Uses {
            postgres: servers.map(|(name, server)| (name.clone(), server.clone())).collect(),
            ..Uses::default()
        },
        databases: databases.map(|(name, database)| (name.clone(), database.clone())).collect(),
        roles: roles.map(|(name, role)| (name.clone(), role.clone())).collect(),
        migrations: BTreeMap::new(),
        steps: steps.map(|(name, step)| (name.clone(), seen_there(document, step))).collect(),
        secrets: BTreeMap::new(),
        configmaps: BTreeMap::new(),
        topics: BTreeMap::new(),
        realms: BTreeMap::new(),
        clients: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        modules: BTreeMap::new(),
    }
}

/// Whether a need is seen by the module itself: its Secrets, its ConfigMaps, and the migrations that it runs.
pub(crate) fn is_seen_here(document: &Document, need: &Need) -> bool {
    match need.component.kind() {
        Kind::Secret | Kind::ConfigMap => true,
        Kind::Migration => document.migrations.contains_key(need.component.name()),
        _ => false,
    }
}

fn seen_there(document: &Document, step: &Step) -> Step {
    let needs = step.needs.iter().filter(|need| !is_seen_here(document, need));
    Step { needs: needs.cloned().collect(), ..step.clone() }
}
