//! Deciding what a teardown takes away: what is ours, and of what was generated only what its owner says to.

use super::{Action, Deciding, Marker, Plan};
use crate::plan::World;
use crate::spec::{Origin, Spec};

/// Decides what to do about one object when its environment is taken down. What was generated stays unless `generated`: it
/// may be the only key to something that stays too.
pub fn teardown(spec: &Spec, world: &World, generated: bool) -> Plan {
    let mut plan = Deciding { spec, world, plan: Plan::default() };
    let is_marked = *plan.marker() != Marker::None;
    // Somebody else's, or not there: not a word about it.
    if matches!(spec.origin, Origin::External) || !is_marked || plan.untouchable() {
        return plan.plan;
    }
    if matches!(spec.origin, Origin::Generated(_)) && !generated {
        plan.drift(
            "was generated, and stays: what it opens may stay too; say --generated to have it deleted",
        );
    } else {
        plan.step(Action::Delete { because: "its environment is taken down" });
    }
    plan.plan
}
