//! Decides: from what should be and what is, what to do, what to refuse and what to wait for. No I/O.

mod databases;
mod inside;
pub(crate) mod ownership;
mod powers;
mod reader;
mod renamed;
mod roles;
mod settings;
mod step;
pub mod teardown;
#[cfg(test)]
mod tests;
mod undeclared;
mod unmarked;

use std::collections::BTreeSet;

use chassis::converge::{Awaits, Note, Plan};
use lifecycle::Component;

use crate::adopt;
use crate::spec::{Bounds, DatabaseSpec, ServerSpec};
use crate::world::facts::{Kind, Registry, World};
pub use inside::{each_right, makers, needs_look};
use ownership::Obstacle;
pub(crate) use renamed::follow;
pub use step::{Change, Step};
pub use unmarked::{leaves, leaves_all};

/// What is to be done on a server.
pub fn plan(spec: &ServerSpec, world: &World) -> Plan<Step> {
    let mut plan = Plan::default();
    server(spec, world).pour(&spec.component, &mut plan);
    for database in &spec.databases {
        decide(spec, database, world).pour(&database.component, &mut plan);
    }
    for role in &spec.roles {
        reader::decide(spec, role, world).pour(&role.component, &mut plan);
    }
    let undeclared = undeclared::notes(spec, world).into_iter();
    plan.drift.extend(undeclared.map(|(component, text)| Note::new(&component, text)));
    if !world.marks_were_read() {
        // Where the server's own part fails for good, so does what waits for it.
        plan.pending.iter_mut().for_each(|note| note.awaits = Awaits::Component(spec.component.clone()));
    }
    plan
}

/// What is decided about one component.
#[derive(Default)]
struct Decision {
    steps: Vec<Change>,
    refusals: Vec<String>,
    drift: Vec<String>,
    pending: Vec<String>,
    /// What waits for another component.
    awaiting: Vec<(String, Component)>,
}

impl Decision {
    fn refuse(text: String) -> Self {
        Decision { refusals: vec![text], ..Decision::default() }
    }

    /// A component that is refused or undecided is left alone, whole.
    fn pour(self, component: &Component, plan: &mut Plan<Step>) {
        if self.refusals.is_empty() && self.pending.is_empty() && self.awaiting.is_empty() {
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
        let awaiting = self.awaiting.into_iter();
        plan.pending.extend(
            awaiting.map(|(text, first)| Note::new(component, text).awaiting(Awaits::Component(first))),
        );
    }
}

/// Database `rollcall` and the observer.
fn server(spec: &ServerSpec, world: &World) -> Decision {
    let mut decision = Decision::default();
    if world.registry != Registry::Ready {
        decision.steps.push(Change::Registry);
    }
    match ownership::server(spec, world) {
        Ok(()) => {}
        // Once the records can be read, the next look tells whose the observer is.
        Err(Obstacle::Unread(_)) => return decision,
        Err(obstacle) => return Decision::refuse(obstacle.into_text()),
    }
    if let Some(observer) = &spec.observer {
        let make = Change::Observer { role: observer.role.clone() };
        roles::login(&mut decision, spec, world, &observer.role, &Bounds::default(), make);
        let connects = world
            .database(postgres::REGISTRY)
            .is_some_and(|registry| registry.grants.contains(&format!("{}=CONNECT", observer.role)));
        if !connects {
            decision.steps.push(Change::OpenRegistry { role: observer.role.clone() });
        }
        if let Some(role) = world.role(&observer.role) {
            roles::memberships(&mut decision, role, &BTreeSet::new());
        }
    }
    roles::governed(&mut decision, spec, world);
    decision
}

fn decide(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Decision {
    if leaves(spec, database, world) {
        return unmarked::alone(database, world);
    }
    let mut decision =
        match passes(spec, ownership::database(spec, database, world), database.report_only, world) {
            Ok(decision) => decision,
            Err(decision) => return decision,
        };
    roles::of_database(&mut decision, spec, database, world);
    let exists = world.database(&database.name);
    if exists.is_none() {
        decision.steps.push(Change::Database { name: database.name.clone() });
    }
    databases::made_with(&mut decision, database, exists, world);
    databases::seal(&mut decision, database, exists, world);
    databases::bounds(&mut decision, spec, database, exists, world);
    inside::decide(&mut decision, spec, database, world);
    // Last: that the login works is how a module sees that its database is finished.
    databases::admit(&mut decision, database, exists, world);
    if !is_finished(database, world) {
        decision.steps.push(Change::Finish { name: database.name.clone() });
    }
    adopt::hold(spec, database, world, &mut decision.steps, &mut decision.drift);
    let roles = database.roles().into_iter().map(|role| (Kind::Role, role));
    let renamed = renamed::steps(
        spec,
        &database.component,
        roles.chain([(Kind::Database, database.name.as_str())]),
        world,
    );
    decision.steps.splice(..0, renamed);
    roles::governed(&mut decision, spec, world);
    decision
}

/// The beginning of a decision about what may be touched; else the whole of it.
fn passes(
    spec: &ServerSpec,
    own: Result<(), Obstacle>,
    report_only: bool,
    world: &World,
) -> Result<Decision, Decision> {
    let mut decision = Decision::default();
    match own {
        Ok(()) => {}
        // This run makes the records readable, and the next look tells.
        Err(Obstacle::Unread(text)) if !spec.report_only => {
            decision.pending.push(text);
            return Err(decision);
        }
        Err(obstacle) => return Err(Decision::refuse(obstacle.into_text())),
    }
    if world.registry != Registry::Ready && spec.report_only && !report_only {
        decision.pending.push(format!(
            "database `{}`, where ownership is recorded, is not as it should be: fragment `{}`, which declares {}, is in mode report",
            postgres::REGISTRY, spec.fragment, spec.component
        ));
    }
    Ok(decision)
}

fn is_finished(database: &DatabaseSpec, world: &World) -> bool {
    world.database_record(&database.name).is_some_and(|record| {
        record.finished && record.spec_hash.as_deref() == Some(database.hash().as_str())
    }) && world.database(&database.name).is_some()
}
