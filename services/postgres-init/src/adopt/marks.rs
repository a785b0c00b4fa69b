//! Decides about marks alone: whose a thing becomes, which thing is meant by now, what is given back. Pure.

use std::collections::BTreeSet;

use chassis::converge::{Note, Plan};
use lifecycle::Component;

use super::{Mark, MarkStep, refuse};
use crate::audit::facts::Recorded;
use crate::plan::ownership::{self, Obstacle};
use crate::spec::{DatabaseSpec, RoleSpec, ServerSpec};
use crate::world::facts::{Kind, Record, World};

/// The components that a command is about: these, or all that the documents declare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected(BTreeSet<Component>);

impl Selected {
    /// These components; none of them is all of them.
    pub fn new(components: impl IntoIterator<Item = Component>) -> Self {
        Selected(components.into_iter().collect())
    }

    /// Whether this component is meant.
    pub fn takes(&self, component: &Component) -> bool {
        self.0.is_empty() || self.0.contains(component)
    }

    /// Whether this component was named.
    pub fn names(&self, component: &Component) -> bool {
        self.0.contains(component)
    }

    /// The components that were named and that none of these servers has.
    pub fn unknown<'a>(&self, specs: impl IntoIterator<Item = &'a ServerSpec>) -> Vec<Component> {
        let known: BTreeSet<Component> = specs
            .into_iter()
            .flat_map(|spec| {
                let databases = spec.databases.iter().map(|database| database.component.clone());
                let roles = spec.roles.iter().map(|role| role.component.clone());
                databases.chain(roles).chain([spec.component.clone()]).collect::<Vec<_>>()
            })
            .collect();
        self.0.difference(&known).cloned().collect()
    }
}

/// What would be recorded as adopted: what is there and carries nobody's mark. What is another's is refused.
pub fn record(spec: &ServerSpec, world: &World, selected: &Selected) -> Plan<MarkStep> {
    let mut plan = Plan::default();
    for database in spec.databases.iter().filter(|database| selected.takes(&database.component)) {
        adopt(spec, database, world, &mut plan);
    }
    for role in spec.roles.iter().filter(|role| selected.takes(&role.component)) {
        adopt_reader(spec, role, world, &mut plan);
    }
    plan
}

/// A role that reads several databases. What it has stays as it is for good; it only gets what it lacks.
fn adopt_reader(spec: &ServerSpec, role: &RoleSpec, world: &World, plan: &mut Plan<MarkStep>) {
    let (component, name) = (&role.component, &role.login.role);
    match ownership::reader(spec, role, world) {
        Ok(()) => return,
        Err(Obstacle::Known(text)) => return refuse(plan, component, text),
        Err(Obstacle::Unread(text)) => return plan.pending.push(Note::new(component, text)),
        Err(Obstacle::Unmarked(_)) => {}
    }
    if role.report_only || spec.report_only {
        return refuse(plan, component, REPORTED);
    }
    if *name == spec.admin.role {
        return refuse(plan, component, administers(name));
    }
    if let Some(facts) = world.role(name) {
        let mark = Mark::Adopt {
            kind: Kind::Role,
            name: name.clone(),
            fragment: role.fragment.clone(),
            oid: facts.oid,
        };
        plan.steps.push(MarkStep { component: component.clone(), mark });
    }
}

const REPORTED: &str = "its fragment, or that of its server, is in mode report, in which nothing is recorded either; set `policy: {mode: enforce}` \
     first: what is adopted is not changed by itself";

fn administers(role: &str) -> String {
    format!(
        "`{role}` administers the server: an administrator is not adopted; give the module a role of its own"
    )
}

fn adopt(spec: &ServerSpec, database: &DatabaseSpec, world: &World, plan: &mut Plan<MarkStep>) {
    let (component, app) = (&database.component, &database.app.role);
    match ownership::database(spec, database, world) {
        // All of it is ours or not there.
        Ok(()) => return,
        Err(Obstacle::Known(text)) => return refuse(plan, component, text),
        Err(Obstacle::Unread(text)) => return plan.pending.push(Note::new(component, text)),
        Err(Obstacle::Unmarked(_)) => {}
    }
    if database.report_only || spec.report_only {
        return refuse(plan, component, REPORTED);
    }
    match (world.database(&database.name), world.role(app)) {
        (Some(_), Some(_)) => {}
        (None, _) => {
            return refuse(
                plan,
                component,
                format!(
                    "a role of it exists and carries nobody's mark, and database `{}` does not exist: what is half there is not adopted. \
                     Make the database, or drop or rename the role",
                    database.name
                ),
            );
        }
        (_, None) => {
            return refuse(
                plan,
                component,
                format!(
                    "database `{}` exists and carries nobody's mark, and role `{app}` does not exist: what is half there is not adopted. \
                     Make the role with the password its Secret holds, or correct the document",
                    database.name
                ),
            );
        }
    }
    if let Some(role) = database.roles().into_iter().find(|role| *role == spec.admin.role) {
        return refuse(plan, component, administers(role));
    }
    let nobody = [Some(&database.owner), database.readers.as_ref()].into_iter().flatten();
    for role in nobody {
        if world.role(role).is_some_and(|facts| facts.powers.contains("SUPERUSER")) {
            return refuse(
                plan,
                component,
                format!(
                    "role `{role}` is to own or to read, without logging in, and is a superuser: it is not adopted; name another in the document"
                ),
            );
        }
    }
    let roles = database.roles().into_iter();
    let roles = roles.map(|name| (Kind::Role, name, world.role(name).map(|role| role.oid)));
    let own = world.database(&database.name).map(|database| database.oid);
    // The database first: from its record on it is not made anew when it vanishes, wherever the rest is cut.
    let found = [(Kind::Database, database.name.as_str(), own)].into_iter().chain(roles);
    for (kind, name, oid) in found {
        let recorded = match kind {
            Kind::Database => world.database_record(name).is_some(),
            Kind::Role | Kind::Observer => world.role_record(name).is_some(),
        };
        if let Some(oid) = oid.filter(|_| !recorded) {
            let mark = Mark::Adopt { kind, name: name.to_owned(), fragment: database.fragment.clone(), oid };
            plan.steps.push(MarkStep { component: component.clone(), mark });
        }
    }
}

/// What would be recorded anew where this environment's records and things do not fit. A record that vanished is only forgotten
/// where its component is named.
pub fn rebind(spec: &ServerSpec, world: &World, selected: &Selected) -> Plan<MarkStep> {
    let mut plan = Plan::default();
    let observer = spec.observer.as_ref().filter(|_| selected.takes(&spec.component));
    if let Some(record) = observer.and_then(|observer| world.role_record(&observer.role)) {
        again(spec, &spec.component, &spec.fragment, record, world, selected, &mut plan);
    }
    for database in spec.databases.iter().filter(|database| selected.takes(&database.component)) {
        let roles = database.roles().into_iter().filter_map(|name| world.role_record(name));
        for record in roles.chain(world.database_record(&database.name)) {
            again(spec, &database.component, &database.fragment, record, world, selected, &mut plan);
        }
    }
    for role in spec.roles.iter().filter(|role| selected.takes(&role.component)) {
        if let Some(record) = world.role_record(&role.login.role) {
            again(spec, &role.component, &role.fragment, record, world, selected, &mut plan);
        }
    }
    // A component with a refusal is left alone, whole.
    let refused: BTreeSet<Component> = plan.refusals.iter().map(|note| note.component.clone()).collect();
    plan.steps.retain(|step| !refused.contains(&step.component));
    plan
}

fn again(
    spec: &ServerSpec,
    component: &Component,
    fragment: &str,
    record: &Record,
    world: &World,
    selected: &Selected,
    plan: &mut Plan<MarkStep>,
) {
    let thing = format!("{} `{}`", super::word(record.kind), record.name);
    if record.environment_uid != spec.environment.uid.to_string() {
        return refuse(
            plan,
            component,
            format!(
                "{thing} belongs to environment `{}` ({}) and not to `{}` ({}): nothing of another environment is taken over. Whoever \
                 has its documents can give it back with `release-ownership`",
                record.environment_name, record.environment_uid, spec.environment.name, spec.environment.uid
            ),
        );
    }
    let oid = match record.kind {
        Kind::Database => world.database(&record.name).map(|database| database.oid),
        Kind::Role | Kind::Observer => world.role(&record.name).map(|role| role.oid),
    };
    let step = |mark| MarkStep { component: component.clone(), mark };
    match oid {
        // A role that is gone is made again as it is.
        None if record.kind != Kind::Database => {}
        None if selected.names(component) => {
            plan.steps.push(step(Mark::Forget { name: record.name.clone() }));
        }
        None => {
            let identifier = world.shared.system_identifier.as_ref();
            let vanished = record.renamed_to(identifier).map_or_else(
                || "has vanished; to".to_owned(),
                |to| format!("is called `{to}` by now; to leave it aside and"),
            );
            plan.drift.push(Note::new(
                component,
                format!("{thing} {vanished} have an empty one made, name it: --component {component}"),
            ));
        }
        Some(oid)
            if oid != record.oid
                || record.fragment != fragment
                || record.is_elsewhere(world.shared.system_identifier.as_ref()) =>
        {
            plan.steps.push(step(Mark::Rebind {
                kind: record.kind,
                name: record.name.clone(),
                fragment: fragment.to_owned(),
                oid,
            }));
        }
        Some(_) => {}
    }
}

/// Whether a teardown of a database was begun, which somebody may have renamed since it was recorded under this name.
fn is_leaving(world: &World, name: &str) -> bool {
    world.records.iter().any(|record| {
        record.kind == Kind::Database
            && record.leaving
            && record.renamed_from.as_deref().unwrap_or(&record.name) == name
    })
}

/// What would be given back: the marks of the components that the documents declare, and nothing else. `records` are all of the
/// server's. The observer goes with the last mark of its environment; database `rollcall` with the last of all, where that is
/// asked for.
pub fn release(
    spec: &ServerSpec,
    world: &World,
    records: &[Recorded],
    selected: &Selected,
    drop_registry: bool,
) -> Plan<MarkStep> {
    let mut plan = Plan::default();
    let uid = spec.environment.uid.to_string();
    let declared = |record: &Recorded| {
        let databases = spec.databases.iter().map(|database| (&database.component, &database.fragment));
        let roles = spec.roles.iter().map(|role| (&role.component, &role.fragment));
        let (component, fragment) =
            databases.chain(roles).find(|(component, _)| component.to_string() == record.component)?;
        (record.fragment == *fragment && selected.takes(component)).then_some(component)
    };
    let (mut stays, mut own_stay) = (0, 0);
    let mut observers = Vec::new();
    for record in records {
        let own = record.environment_uid == uid;
        match declared(record).filter(|_| own && record.kind != "observer") {
            Some(component) if record.kind == "database" && is_leaving(world, &record.name) => {
                stays += 1;
                own_stay += 1;
                refuse(
                    &mut plan,
                    component,
                    format!(
                        "database `{}` is being torn down and may be closed: `postgres-init teardown` finishes that, or with --cancel \
                         opens it again",
                        record.name
                    ),
                );
            }
            Some(component) => {
                let kind = if record.kind == "database" { Kind::Database } else { Kind::Role };
                let mark = Mark::Release { kind, name: record.name.clone() };
                plan.steps.push(MarkStep { component: component.clone(), mark });
            }
            None if own && record.kind == "observer" => observers.push(record),
            None => {
                stays += 1;
                own_stay += usize::from(own);
            }
        }
    }
    // Of a component, the database's record goes last: a database without one whose owner has one looks half-made.
    plan.steps.sort_by_key(|step| {
        let (kind, name) = match &step.mark {
            Mark::Release { kind, name } => (*kind, name.clone()),
            _ => (Kind::Observer, String::new()),
        };
        (step.component.clone(), std::cmp::Reverse(kind), name)
    });
    let server = &spec.component;
    for observer in observers {
        if own_stay > 0 {
            stays += 1;
            plan.drift.push(Note::new(
                server,
                format!(
                    "role `{}` stays: it observes {own_stay} more things of this environment",
                    observer.name
                ),
            ));
            continue;
        }
        let same = world.role(&observer.name).filter(|role| role.oid == observer.oid);
        let mark = match same {
            Some(role) => Mark::DropObserver { role: role.name.clone(), oid: role.oid },
            None => Mark::Release { kind: Kind::Observer, name: observer.name.clone() },
        };
        plan.steps.push(MarkStep { component: server.clone(), mark });
    }
    if stays == 0 && drop_registry {
        plan.steps.push(MarkStep { component: server.clone(), mark: Mark::DropRegistry });
    } else if stays == 0 {
        plan.drift.push(Note::new(
            server,
            format!(
                "no ownership record is left then: with --drop-registry database `{}` goes too",
                postgres::REGISTRY
            ),
        ));
    } else if drop_registry {
        plan.drift.push(Note::new(
            server,
            format!("database `{}` stays: it holds {stays} more ownership records", postgres::REGISTRY),
        ));
    }
    plan
}
