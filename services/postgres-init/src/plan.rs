//! Decides: from what should be and what is, what to do, what to refuse and what to wait for. No I/O.

mod gate;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use chassis::converge::{Note, Plan};
use lifecycle::Component;
use lifecycle::document::Ddl;

use crate::spec::{DatabaseSpec, ServerSpec};
use crate::world::facts::{DatabaseFacts, Inside, Password, Registry, RoleFacts, World};
pub use step::{Change, Step};

/// What the login role gets with what the owner makes, where it does not act as the owner: object kind of
/// `pg_default_acl`, and privilege.
pub const DEFAULTS: [(&str, &str, &str); 4] = [
    ("r", "TABLES", "SELECT, INSERT, UPDATE, DELETE"),
    ("S", "SEQUENCES", "USAGE, SELECT, UPDATE"),
    ("f", "ROUTINES", "EXECUTE"),
    ("n", "SCHEMAS", "USAGE"),
];

/// What is to be done on a server.
pub fn plan(spec: &ServerSpec, world: &World) -> Plan<Step> {
    let mut plan = Plan::default();
    server(spec, world).pour(&spec.component, &mut plan);
    for database in &spec.databases {
        decide(spec, database, world).pour(&database.component, &mut plan);
    }
    plan
}

/// Whether a database must be looked into before it can be decided: what it should hold is nowhere else to be seen.
pub fn needs_look(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> bool {
    world.database(&database.name).is_some_and(|facts| facts.open)
        && gate::database(spec, database, world).is_ok()
        && (!database.extensions.is_empty()
            || database.ddl == Ddl::None
            || (opens_public(world) && !is_finished(database, world)))
}

/// What is decided about one component.
#[derive(Default)]
struct Decision {
    steps: Vec<Change>,
    refusals: Vec<String>,
    drift: Vec<String>,
    pending: Vec<String>,
}

impl Decision {
    fn refuse(text: String) -> Self {
        Decision { refusals: vec![text], ..Decision::default() }
    }

    /// A component that is refused or undecided is left alone, whole.
    fn pour(self, component: &Component, plan: &mut Plan<Step>) {
        if self.refusals.is_empty() && self.pending.is_empty() {
            plan.steps
                .extend(self.steps.into_iter().map(|change| Step { component: component.clone(), change }));
        }
        for (texts, notes) in [
            (self.refusals, &mut plan.refusals),
            (self.drift, &mut plan.drift),
            (self.pending, &mut plan.pending),
        ] {
            notes.extend(texts.into_iter().map(|text| Note::new(component, text)));
        }
    }
}

/// Database `rollcall` and the observer.
fn server(spec: &ServerSpec, world: &World) -> Decision {
    if let Err(text) = gate::server(spec, world) {
        return Decision::refuse(text);
    }
    let mut decision = Decision::default();
    if world.registry != Registry::Ready {
        decision.steps.push(Change::Registry);
    }
    if let Some(observer) = &spec.observer {
        login(&mut decision, world, &observer.role, Change::Observer { role: observer.role.clone() });
        let connects = world
            .database(postgres::REGISTRY)
            .is_some_and(|registry| registry.grants.contains(&format!("{}=CONNECT", observer.role)));
        if !connects {
            decision.steps.push(Change::OpenRegistry { role: observer.role.clone() });
        }
        if let Some(role) = world.role(&observer.role) {
            memberships(&mut decision, role, &BTreeSet::new());
        }
    }
    decision
}

fn decide(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Decision {
    if let Err(text) = gate::database(spec, database, world) {
        return Decision::refuse(text);
    }
    let mut decision = Decision::default();
    for extension in database.extensions.iter().filter(|e| !world.shared.available.contains(*e)) {
        decision.refusals.push(format!(
            "the server has no extension `{extension}`; install its package on the server, or take it out of the document"
        ));
    }
    if world.registry != Registry::Ready && spec.report_only && !database.report_only {
        decision.pending.push(format!(
            "database `{}`, where ownership is recorded, is not as it should be: fragment `{}`, which declares {}, is in mode report",
            postgres::REGISTRY, spec.fragment, spec.component
        ));
    }

    roles(&mut decision, database, world);
    let exists = world.database(&database.name);
    if exists.is_none() {
        decision.steps.push(Change::Database { name: database.name.clone() });
    }
    seal(&mut decision, database, exists, world);
    inside(&mut decision, database, world);
    // Last: that the login works is how a module sees that its database is finished.
    admit(&mut decision, database, exists, world);
    if !is_finished(database, world) {
        decision.steps.push(Change::Finish { name: database.name.clone() });
    }
    decision
}

/// The owner, the login role, and that the one may act as the other.
fn roles(decision: &mut Decision, database: &DatabaseSpec, world: &World) {
    match world.role(&database.owner) {
        None => decision.steps.push(Change::Owner { role: database.owner.clone() }),
        Some(role) => {
            attributes(decision, role, false);
            memberships(decision, role, &BTreeSet::new());
        }
    }
    let app = &database.app.role;
    login(decision, world, app, Change::Login { role: app.clone() });
    if let Some(role) = world.role(app) {
        memberships(decision, role, &BTreeSet::from([database.owner.clone()]));
    }
}

/// A role that logs in: made, restricted, and with its password.
fn login(decision: &mut Decision, world: &World, name: &str, make: Change) {
    match world.passwords.get(name) {
        Some(Password::Unfit(text)) => decision.refusals.push(text.clone()),
        Some(Password::Pending(text)) => decision.pending.push(text.clone()),
        None => decision.pending.push(format!("the password of role `{name}` was not looked at yet")),
        Some(Password::Unseen(why)) => {
            decision.drift.push(format!(
                "whether role `{name}` has the password its Secret holds cannot be seen: {why}"
            ));
        }
        Some(Password::Given | Password::Fits | Password::Differs) => {}
    }
    let Some(role) = world.role(name) else { return decision.steps.push(make) };
    attributes(decision, role, true);
    if world.passwords.get(name) == Some(&Password::Differs) {
        decision.steps.push(Change::Password { role: name.to_owned() });
    }
}

fn attributes(decision: &mut Decision, role: &RoleFacts, login: bool) {
    let mut set: Vec<String> = role.powers.iter().map(|power| format!("NO{power}")).collect();
    if role.login != login {
        set.push(if login { "LOGIN" } else { "NOLOGIN" }.to_owned());
    }
    if !set.is_empty() {
        decision.steps.push(Change::Attributes { role: role.name.clone(), set });
    }
}

fn memberships(decision: &mut Decision, role: &RoleFacts, expected: &BTreeSet<String>) {
    for other in role.member_of.difference(expected) {
        decision.drift.push(format!(
            "role `{}` is a member of `{other}`, which no document says; left alone",
            role.name
        ));
    }
}

/// What the login role may do with the database itself, as `grantee=PRIVILEGE`.
fn admission(database: &DatabaseSpec) -> BTreeSet<String> {
    let app = &database.app.role;
    BTreeSet::from([format!("{app}=CONNECT"), format!("{app}=TEMPORARY")])
}

/// That not everybody may connect, and the record.
fn seal(decision: &mut Decision, database: &DatabaseSpec, exists: Option<&DatabaseFacts>, world: &World) {
    let wanted = admission(database);
    let grants = exists.map(|database| &database.grants);
    let open = grants.is_none_or(|grants| grants.iter().any(|grant| grant.starts_with('=')));
    // The record of a database that vanished unfinished names an oid that is gone.
    let recorded = world.database_record(&database.name).is_some() && exists.is_some();
    if recorded && exists.is_some_and(|facts| !facts.open) {
        decision.pending.push(format!(
            "database `{0}` takes no connections: somebody closed it; open it with ALTER DATABASE \"{0}\" ALLOW_CONNECTIONS true",
            database.name
        ));
    }
    if open || !recorded {
        decision.steps.push(Change::Seal { name: database.name.clone() });
    }
    for grant in
        grants.into_iter().flatten().filter(|grant| !grant.starts_with('=') && !wanted.contains(*grant))
    {
        decision.drift.push(format!(
            "database `{}` is open to more than its login role ({grant}); left alone",
            database.name
        ));
    }
}

/// Whom the login role acts as, and that it may connect. An owner may always connect, and so may who acts as one.
fn admit(decision: &mut Decision, database: &DatabaseSpec, exists: Option<&DatabaseFacts>, world: &World) {
    let app = &database.app.role;
    let begins_as_owner = format!("{}={}", database.name, database.owner);
    let (member, acts) = world.role(app).map_or((false, false), |role| {
        (
            role.member_of.contains(&database.owner),
            role.acts_as.contains(&begins_as_owner) && exists.is_some(),
        )
    });
    let change = |make: fn(String, String) -> Change| make(app.clone(), database.owner.clone());
    match database.ddl {
        Ddl::AsOwner if !(member && acts) => {
            decision.steps.push(change(|role, owner| Change::ActAsOwner { role, owner }));
        }
        Ddl::None if member || acts => {
            decision.steps.push(change(|role, owner| Change::NotAsOwner { role, owner }));
        }
        _ => {}
    }
    if exists.is_none_or(|facts| !facts.grants.is_superset(&admission(database))) {
        decision.steps.push(Change::Admit { role: app.clone(), name: database.name.clone() });
    }
}

/// What is inside the database. One that was not looked into is as its finished record says, or empty.
fn inside(decision: &mut Decision, database: &DatabaseSpec, world: &World) {
    let nothing =
        Inside { public_open: opens_public(world) && !is_finished(database, world), ..Inside::default() };
    let seen = match world.inside.get(&database.name) {
        Some(Ok(seen)) => seen,
        Some(Err(blind)) if blind.transient => return decision.pending.push(blind.why.clone()),
        Some(Err(blind)) => return decision.refusals.push(blind.why.clone()),
        None => &nothing,
    };
    if seen.public_open && opens_public(world) {
        decision.steps.push(Change::ClosePublic { owner: database.owner.clone() });
    }
    for extension in database.extensions.iter().filter(|e| !seen.extensions.contains(*e)) {
        decision.steps.push(Change::Extension { name: extension.clone() });
    }
    if database.ddl == Ddl::None && !seen.privileges.is_superset(&privileges()) {
        decision
            .steps
            .push(Change::Privileges { role: database.app.role.clone(), owner: database.owner.clone() });
    }
}

/// What [`Inside::privileges`] must hold where the login role does not act as the owner.
pub fn privileges() -> BTreeSet<String> {
    let each =
        DEFAULTS.iter().flat_map(|(kind, _, all)| all.split(", ").map(move |one| format!("{kind}:{one}")));
    each.chain(["public:USAGE".to_owned()]).collect()
}

/// Before version 15 everybody may create in schema `public`, and only a superuser can end that.
fn opens_public(world: &World) -> bool {
    world.shared.version < 150_000 && world.shared.superuser
}

fn is_finished(database: &DatabaseSpec, world: &World) -> bool {
    world.database_record(&database.name).is_some_and(|record| {
        record.finished && record.spec_hash.as_deref() == Some(database.hash().as_str())
    }) && world.database(&database.name).is_some()
}
