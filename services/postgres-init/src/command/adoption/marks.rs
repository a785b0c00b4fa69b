//! Runs what changes marks, and what converges: says it, and with `--yes` does it, each server by itself.

use std::fmt::Write as _;

use chassis::converge::{Plan, Reconcile};
use chassis::exit::{Exit, Failure};
use chassis::provision::Planned;
use serde_json::{Value, json};

use super::{Target, ending, failure, planned};
use crate::adopt::{self, Class, Decide, Leave, MarkStep, Selected};
use crate::world::{Client, Converging, Error};
use crate::{PostgresTarget, ServerSpec};

/// Adopts, or says what would be adopted.
pub(super) async fn record(targets: &[Target], selected: &Selected, yes: bool) -> Vec<Planned> {
    each(targets, yes, &|spec, world, _| adopt::record(spec, world, selected)).await
}

/// Records anew, or says what would be.
pub(super) async fn rebind(targets: &[Target], selected: &Selected, yes: bool) -> Vec<Planned> {
    each(targets, yes, &|spec, world, _| adopt::rebind(spec, world, selected)).await
}

/// Gives back, or says what would be.
pub(super) async fn release(
    targets: &[Target],
    selected: &Selected,
    drop_registry: bool,
    yes: bool,
) -> Vec<Planned> {
    each(targets, yes, &|spec, world, records| adopt::release(spec, world, records, selected, drop_registry))
        .await
}

async fn each(targets: &[Target], yes: bool, decide: Decide<'_>) -> Vec<Planned> {
    let mut all = Vec::new();
    for (component, target, spec) in targets {
        let done = one(target, spec, yes, decide).await;
        all.push(match done {
            Ok(plan) => planned(component, &plan, yes),
            Err(error) => Planned::failed(component, failure(component, &error)),
        });
    }
    all
}

async fn one(
    target: &PostgresTarget,
    spec: &ServerSpec,
    yes: bool,
    decide: Decide<'_>,
) -> Result<Plan<MarkStep>, Error> {
    let world = target.observe(spec).await?;
    let plan = decide(spec, &world, &target.records(spec).await?);
    if yes {
        for step in &plan.steps {
            target.mark(spec, step, decide).await?;
        }
    }
    Ok(plan)
}

/// How many roles are named where one is mistaken.
const MEANT: usize = 12;

/// Refuses a role that is on none of these servers, naming those that it may have meant.
pub(super) async fn known(targets: &[Target], selected: &Selected, leave: &Leave) -> Result<(), Failure> {
    if leave.named().next().is_none() {
        return Ok(());
    }
    let mut clients: Vec<Client> = Vec::new();
    for (component, target, spec) in targets {
        let meant = spec.databases.iter().filter(|database| selected.takes(&database.component));
        let names = meant.map(|database| database.name.clone()).collect();
        clients.extend(target.clients(spec, names).await.map_err(|error| failure(component, &error))?);
    }
    let is_known = |role: &String| clients.iter().any(|client| client.role == *role);
    let unknown: Vec<String> = leave
        .named()
        .filter(|(_, role)| !is_known(role))
        .map(|(option, role)| format!("{option} {role}: there is no role `{role}`"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let may = clients.iter().filter(|client| client.may).take(MEANT).map(|client| {
        let now = if client.connected { " (connected now)" } else { "" };
        format!("`{}`{now}", client.role)
    });
    let may: Vec<String> = may.collect();
    let may = if may.is_empty() { "nobody but superusers".to_owned() } else { may.join(", ") };
    Err(Failure::usage(format!(
        "{}; nothing was done. To these databases may connect {may}",
        unknown.join("; ")
    )))
}

/// Converges a class of every database that is meant, or says what would be done and whom it would cut off.
pub(super) async fn converge(
    targets: &[Target],
    selected: &Selected,
    class: Class,
    leave: &Leave,
    yes: bool,
) -> Vec<Planned> {
    let mut all = Vec::new();
    for (component, target, spec) in targets {
        let (mut text, mut values, mut failures) = (String::new(), Vec::new(), Vec::new());
        let mut any = false;
        for database in spec.databases.iter().filter(|database| selected.takes(&database.component)) {
            let name = &database.component;
            let found = match target.converging(spec, database, class, leave).await {
                Ok(found) => found,
                Err(error) => {
                    let _ = writeln!(text, "? {}", failure(name, &error));
                    failures.push(failure(name, &error));
                    continue;
                }
            };
            any |= !found.settled && found.is_decided();
            failures.extend(
                found.refused.iter().map(|why| Failure::new(Exit::NeverWorks, format!("{name}: {why}"))),
            );
            failures.extend(
                found.pending.iter().map(|why| Failure::new(Exit::TryAgain, format!("{name}: {why}"))),
            );
            let mut done = Done { all: changes(class, &found), undone: Vec::new() };
            if yes
                && found.is_decided()
                && let Err(error) = target.converge_class(spec, database, class, leave).await
            {
                failures.push(failure(name, &error));
                let left = target.converging(spec, database, class, leave).await.ok();
                let left = left.filter(Converging::is_decided).map(|left| changes(class, &left));
                done = Done::cut(done.all, left);
            }
            text.push_str(&lines(&name.to_string(), &done, &found));
            values.push(value(&name.to_string(), &done, &found));
        }
        let exit = failures.iter().map(|failure| failure.exit).min_by_key(|exit| *exit as u8);
        let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
        let done = yes && failures.is_empty();
        all.push(Planned {
            target: component.clone(),
            settled: !any && failures.is_empty(),
            text: format!("{text}{}", if yes && !done { "" } else { ending(any, done) }),
            json: json!({"target": component.to_string(), "class": class, "done": done, "databases": values}),
            failure: exit.map(|exit| Failure::new(exit, messages.join("\n"))),
        });
    }
    all
}

/// What is converged of a database, or would be; and what is not, where that ended with an error.
struct Done {
    all: Vec<String>,
    undone: Vec<String>,
}

impl Done {
    /// What was to be done and ended with an error: done is what is not left. What is left may not be seen.
    fn cut(all: Vec<String>, left: Option<Vec<String>>) -> Self {
        match left {
            Some(left) => Done {
                all: all.into_iter().filter(|one| !left.contains(one)).collect(),
                undone: left.into_iter().map(|one| format!("not done: {one}")).collect(),
            },
            None => Done {
                all: Vec::new(),
                undone: all
                    .into_iter()
                    .map(|one| format!("it cannot be seen whether this is done: {one}"))
                    .collect(),
            },
        }
    }
}

/// What converging does. What is refused or undecided is left alone, whole.
fn changes(class: Class, found: &Converging) -> Vec<String> {
    if !found.is_decided() {
        return Vec::new();
    }
    let moves = |moves: &[adopt::moves::Move]| moves.iter().map(|one| one.what.clone()).collect::<Vec<_>>();
    let mut all = moves(&found.first);
    all.extend(found.steps.iter().map(ToString::to_string));
    all.extend(moves(&found.then));
    if !found.settled {
        all.push(format!("record that {class} is converged"));
    }
    all
}

fn lines(name: &str, done: &Done, found: &Converging) -> String {
    let mut text = String::new();
    for (mark, all) in [
        ('+', &done.all),
        ('~', &found.said),
        ('!', &found.refused),
        ('?', &found.pending),
        ('?', &done.undone),
    ] {
        for line in all {
            let _ = writeln!(text, "{mark} {name}: {line}");
        }
    }
    text
}

fn value(name: &str, done: &Done, found: &Converging) -> Value {
    json!({
        "component": name, "steps": done.all, "undone": done.undone, "cuts_off": found.said, "refusals": found.refused,
        "pending": found.pending, "settled": found.settled,
    })
}
