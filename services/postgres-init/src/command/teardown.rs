//! Runs a teardown: says what would be dropped, and with the environment's name typed drops it, each server by itself.

use std::collections::BTreeSet;

use chassis::Context;
use chassis::converge::{Fault, Note, Reconcile};
use chassis::exit::{Exit, Failure, chain};
use chassis::teardown::{Confirmation, Report};
use lifecycle::Component;
use lifecycle::document::Environment;

use crate::plan::teardown::{Change, Expect, Part, Wanted, orphans, plan};
use crate::world::Error;
use crate::{PostgresTarget, ServerSpec, spec, targets};

/// What a teardown of databases is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Teardown {
    /// For what, and whether.
    #[command(flatten)]
    confirmation: Confirmation,
    /// Drop nothing; open again what a teardown has closed and not dropped
    #[arg(long, conflicts_with = "orphan")]
    cancel: bool,
}

/// How a teardown is made.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Do it; else only say it.
    pub yes: bool,
    /// What no document declares and is to go too, by name.
    pub orphans: Vec<Component>,
    /// Nothing goes; what a teardown has closed is opened again.
    pub cancel: bool,
}

/// Runs the command.
pub(crate) async fn run(args: &Teardown, context: &Context) -> Result<(), Failure> {
    let Confirmation { yes, output, ref orphan, .. } = args.confirmation;
    let environment = args.confirmation.environment()?;
    let how = How { yes, orphans: orphan.clone(), cancel: args.cancel };
    orphans_are_there(&environment, context, &how).await?;
    let report = teardown(&environment, context, &how).await?;
    report.print(output)
}

/// Takes down what these documents have on their servers, or says what would be taken down. One server that is away hides no other.
///
/// # Errors
/// Secrets cannot be read at all; what goes wrong with a server is in the report.
pub async fn teardown(environment: &Environment, context: &Context, how: &How) -> Result<Report, Failure> {
    let context = context.clone().with_reader(kubernetes::reader());
    let mut report = Report::new(how.yes);
    for (component, server) in spec::left_out(environment) {
        let text = format!("is left to whoever has the fragment that declares {server} with `admin`");
        report.retained.push(Note::new(&component, text));
    }
    let mut unseen: BTreeSet<&Component> = how.orphans.iter().collect();
    for (component, target, spec) in targets(environment, &context.secrets_of(environment)?) {
        let target = target.of(context.source()).taking_down();
        report.add(server(&component, &target, &spec, how, &mut unseen).await);
    }
    // Where a server could not be looked at, that is what is said.
    let text = "nothing to delete: nothing is recorded for it any more that no document here declares";
    if report.failed.is_empty() {
        report.told.extend(unseen.into_iter().map(|orphan| Note::new(orphan, text)));
    }
    Ok(report)
}

/// So many changes of a component are looked through for one of it.
const CHANGES: usize = 100;

/// That each orphan that is to go is one, or was, looking only: what is asked of a teardown is known to be meant before anything is
/// touched, and one that was cut off can be run again as it was.
///
/// # Errors
/// One that is none: exit code 2, with those there are. A server that could not be looked at, where one of them may be.
pub async fn orphans_are_there(
    environment: &Environment,
    context: &Context,
    how: &How,
) -> Result<(), Failure> {
    if how.orphans.is_empty() {
        return Ok(());
    }
    let context = context.clone().with_reader(kubernetes::reader());
    let (mut there, mut gone): (BTreeSet<Component>, BTreeSet<Component>) = Default::default();
    let mut unseen = None;
    let asked: BTreeSet<Component> = how.orphans.iter().cloned().collect();
    for (component, target, spec) in targets(environment, &context.secrets_of(environment)?) {
        let wanted = Wanted { spec: &spec, orphans: &[], cancel: false };
        let target = target.taking_down();
        match target.belongings(&spec).await {
            Ok(Some(facts)) => there.extend(orphans(wanted, &facts)),
            Ok(None) => continue,
            Err(error) => {
                unseen = Some(failure(&component, &error));
                continue;
            }
        }
        // Of what is gone the history tells that it was; what is declared has a history too, and is no orphan.
        match target.history(&spec, &asked, asked.len() * CHANGES).await {
            Ok(changes) => {
                let components = changes.into_iter().flatten().map(|change| change.component);
                gone.extend(components.filter(|component| !spec.given.components.contains(component)));
            }
            Err(error) => unseen = Some(failure(&component, &error)),
        }
    }
    let unknown = |one: &&Component| !there.contains(one) && !gone.contains(one);
    let Some(unknown) = how.orphans.iter().find(unknown) else { return Ok(()) };
    if let Some(failure) = unseen {
        return Err(failure);
    }
    let there: Vec<String> = there.iter().map(ToString::to_string).collect();
    let there = if there.is_empty() { "there are none".to_owned() } else { there.join(", ") };
    Err(Failure::usage(format!(
        "--orphan {unknown}: nothing that is recorded for it lacks a document; nothing was done. Orphans: {there}"
    )))
}

/// Takes down what is on one server; what it has of the orphans is not unseen any more.
async fn server(
    component: &Component,
    target: &PostgresTarget,
    spec: &ServerSpec,
    how: &How,
    unseen: &mut BTreeSet<&Component>,
) -> Report {
    let mut report = Report::new(how.yes);
    let facts = match target.belongings(spec).await {
        Ok(Some(facts)) => facts,
        Ok(None) => {
            let text =
                format!("has no database `{}`, so nothing on it is this environment's", postgres::REGISTRY);
            report.told.push(Note::new(component, text));
            return report;
        }
        Err(error) => {
            stays(&mut report, spec, &format!("stays: {component} was not looked at"));
            report.failed.push((component.clone(), failure(component, &error)));
            return report;
        }
    };
    let wanted = Wanted { spec, orphans: &how.orphans, cancel: how.cancel };
    let there = orphans(wanted, &facts);
    unseen.retain(|orphan| !there.contains(orphan));
    // What goes would be made again, empty, by whoever provisions meanwhile.
    let busy = facts.provisioners.iter().filter(|_| !how.cancel).map(|who| {
        let text = format!(
            "{who} provisions for this environment at this moment: nothing goes until it is scaled down"
        );
        Note::new(component, text)
    });
    report.refused.extend(busy);
    if how.yes && !report.refused.is_empty() {
        stays(&mut report, spec, &format!("stays: somebody provisions on {component}"));
        return report;
    }
    let mut failed: BTreeSet<Component> = BTreeSet::new();
    let mut dropped: BTreeSet<(Component, String)> = BTreeSet::new();
    for part in plan(wanted, &facts, Expect::Done) {
        let told = part.told.iter().map(|text| Note::new(&part.component, text));
        report.told.extend(told);
        if !how.yes || part.steps.is_empty() {
            says(&mut report, &part, &part.steps);
            continue;
        }
        if failed.contains(&part.component) {
            continue;
        }
        let ended = target.take_down(wanted, &part).await;
        let decided = Part { steps: Vec::new(), ..ended.part.unwrap_or_else(|| part.clone()) };
        says(&mut report, &decided, &ended.done);
        dropped.extend(ended.done.iter().filter_map(|step| match step {
            Change::DropDatabase { name, .. } => Some((part.component.clone(), name.clone())),
            _ => None,
        }));
        if let Some(error) = ended.error {
            failed.insert(part.component.clone());
            report.failed.push((part.component.clone(), failure(&part.component, &error)));
        }
    }
    again(&mut report, target, spec, component, &dropped).await;
    report
}

/// What is on a server of which nothing goes: what it needs stays too.
fn stays(report: &mut Report, spec: &ServerSpec, why: &str) {
    let databases = spec.databases.iter().map(|database| &database.component);
    let all = databases.chain(spec.roles.iter().map(|role| &role.component));
    report.retained.extend(all.map(|one| Note::new(one, why)));
}

/// Whether what was dropped is there again: somebody provisions all the while.
async fn again(
    report: &mut Report,
    target: &PostgresTarget,
    spec: &ServerSpec,
    server: &Component,
    dropped: &BTreeSet<(Component, String)>,
) {
    if dropped.is_empty() {
        return;
    }
    match target.belongings(spec).await {
        Ok(facts) => {
            let there = |name: &str| facts.as_ref().is_some_and(|facts| facts.database(name).is_some());
            for (component, name) in dropped.iter().filter(|(_, name)| there(name)) {
                let text = format!(
                    "{component}: database `{name}` was dropped and made again, empty: scale down who provisions, then run this again"
                );
                report.failed.push((component.clone(), Failure::new(Exit::TryAgain, text)));
            }
        }
        Err(error) => report.failed.push((server.clone(), failure(server, &error))),
    }
}

fn says(report: &mut Report, part: &Part, steps: &[Change]) {
    let note = |text: &dyn std::fmt::Display| Note::new(&part.component, text);
    for step in steps {
        match step {
            Change::Close { .. } | Change::End { .. } | Change::Reopen { .. } => report.told.push(note(step)),
            _ => report.removed.push(note(step)),
        }
    }
    report.retained.extend(part.retained.iter().map(|text| note(text)));
    report.refused.extend(part.refused.iter().map(|text| note(text)));
    report.orphans.extend(part.orphans.iter().map(|text| note(text)));
}

fn failure(component: &Component, error: &Error) -> Failure {
    let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
    Failure::new(
        exit,
        format!(
            "{component}: {}; what was done stays done, and the next run goes on (postgres-init teardown --cancel opens again what was closed)",
            chain(error)
        ),
    )
}
