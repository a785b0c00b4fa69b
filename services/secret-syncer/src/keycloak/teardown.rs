//! Deciding what a teardown takes away of Keycloak: clients that we made, and nothing else. Realms stay with all in them.

use chassis::converge::Note;

use super::plan::{Client, Marker, Plan};
use super::spec::{Spec, Wish};
use super::state::World;
use super::step::{Action, Step};

/// Decides what to do about one client when its environment is taken down.
pub fn teardown(spec: &Spec, world: &World) -> Plan {
    let mut plan = Plan::default();
    let ours = |client: &&Client| matches!(&client.marker, Marker::Of(owner) if owner.is(&spec.owner));
    // Somebody else's, or not there: not a word about it.
    let Some(client) = world.client.as_ref().filter(ours) else { return plan };
    if matches!(spec.wish, Wish::External { .. }) {
        return plan;
    }
    if client.made {
        plan.steps.push(Step { component: spec.component.clone(), action: Action::Delete });
    } else {
        let says =
            format!("{} was there before Rollcall took it over, and stays; delete it by hand", spec.called());
        plan.drift.push(Note::new(&spec.component, says));
    }
    plan
}
