//! A role that reads several databases: a member of the readers of each, and of no other group of its environment.

use super::{Change, Decision, Step, ownership, passes, renamed, roles};
use crate::spec::{Read, RoleSpec, ServerSpec};
use crate::world::facts::{Kind, RoleFacts, World};

pub(super) fn decide(spec: &ServerSpec, role: &RoleSpec, world: &World) -> Decision {
    let own = ownership::reader(spec, role, world);
    let mut decision = match passes(spec, own, role.report_only, world) {
        Ok(decision) => decision,
        Err(decision) => return decision,
    };
    let name = &role.login.role;
    for database in &role.unknown {
        decision.refusals.push(format!(
            "role `{name}` is to read {database}, which no document here declares with readers on {}; give that document too, with \
             `roles: {{readers: {{}}}}`",
            spec.component
        ));
    }
    roles::login(&mut decision, spec, world, name, &role.bounds, Change::Login { role: name.clone() });
    roles::sessions(&mut decision, world, name, &role.bounds, None);
    let nobody = RoleFacts::default();
    let facts = world.role(name).unwrap_or(&nobody);
    // In the order of the databases, and the last is the one in which the login is proven.
    for read in &role.reads {
        group(&mut decision, spec, name, read, world);
        if !facts.member_of.contains(&read.group) {
            decision.steps.push(Change::Join { role: name.clone(), group: read.group.clone() });
        }
    }
    for other in facts.member_of.iter().filter(|group| !role.reads.iter().any(|read| read.group == **group)) {
        if is_ours(spec, other, world) {
            decision.steps.push(Change::Leave { role: name.clone(), group: other.clone() });
        } else {
            decision
                .drift
                .push(format!("role `{name}` is a member of `{other}`, which no document says; left alone"));
        }
    }
    roles::administers(&mut decision, facts);
    if !is_finished(role, world) {
        decision.steps.push(Change::FinishRole { role: name.clone() });
    }
    if world.role_record(name).is_some_and(|record| record.adopted.is_some()) {
        hold(&mut decision, role);
    }
    let renamed = renamed::steps(spec, &role.component, [(Kind::Role, name.as_str())].into_iter(), world);
    decision.steps.splice(..0, renamed);
    roles::governed(&mut decision, spec, world);
    decision
}

/// What was adopted only gets what it lacks: what somebody else made and uses is not changed.
fn hold(decision: &mut Decision, role: &RoleSpec) {
    for change in std::mem::take(&mut decision.steps) {
        if matches!(change, Change::Login { .. } | Change::Join { .. } | Change::FinishRole { .. }) {
            decision.steps.push(change);
            continue;
        }
        let step = Step { component: role.component.clone(), change };
        decision.drift.push(format!(
            "adopted as it was found; would {step}: do that by hand once nobody needs it as it is"
        ));
    }
}

/// The readers of a database: this environment's own, or not to be touched.
fn group(decision: &mut Decision, spec: &ServerSpec, name: &str, read: &Read, world: &World) {
    match (world.role(&read.group), world.role_record(&read.group)) {
        (Some(facts), Some(record))
            if record.environment_uid == spec.environment.uid.to_string() && record.oid == facts.oid => {}
        (Some(_), _) => decision.refusals.push(format!(
            "role `{name}` is to be a member of `{}`, the readers of {}, which is not this environment's; see what is said of {}",
            read.group, read.component, read.component
        )),
        (None, _) => decision.awaiting.push((
            format!("role `{name}` waits for {} and its readers, `{}`", read.component, read.group),
            read.component.clone(),
        )),
    }
}

fn is_ours(spec: &ServerSpec, group: &str, world: &World) -> bool {
    let uid = spec.environment.uid.to_string();
    world.role_record(group).is_some_and(|record| record.kind == Kind::Role && record.environment_uid == uid)
}

fn is_finished(role: &RoleSpec, world: &World) -> bool {
    world
        .role_record(&role.login.role)
        .is_some_and(|record| record.finished && record.spec_hash.as_deref() == Some(role.hash().as_str()))
        && world.role(&role.login.role).is_some()
}
