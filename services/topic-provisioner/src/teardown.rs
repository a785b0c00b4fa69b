//! Runs a teardown: says which topics would be deleted, and with the environment's name typed deletes them.

use std::collections::BTreeSet;

use chassis::Context;
use chassis::converge::{Fault, Note};
use chassis::exit::{Exit, Failure, chain};
use chassis::secret::SecretStore;
use chassis::teardown::{Confirmation, Report};
use lifecycle::document::{Environment, OnDelete};
use lifecycle::{Component, Kind};

use crate::plan::teardown::{Subject, Verdict, Wish, decide, undeclared};
use crate::spec::{Spec, clusters, specs};
use crate::world::{Error, KafkaTarget};

/// Runs the command.
pub(crate) async fn run(confirmation: &Confirmation, context: &Context) -> Result<(), Failure> {
    let environment = confirmation.environment()?;
    confirmation.undeclared(&environment, &[Kind::Topic])?;
    if let Some(other) = confirmation.orphan.iter().find(|orphan| orphan.kind() != Kind::Topic) {
        return Err(Failure::usage(format!("--orphan {other}: only topics are taken down here")));
    }
    let report = teardown(&environment, context, confirmation.yes, &confirmation.orphan).await?;
    report.print(confirmation.output)
}

/// Deletes the topics of these documents, or says which would be deleted; with `orphans` those too, which nobody declares. One
/// cluster that is away hides no other.
///
/// # Errors
/// Secrets cannot be read at all; what goes wrong with a cluster is in the report.
pub async fn teardown(
    environment: &Environment,
    context: &Context,
    yes: bool,
    orphans: &[Component],
) -> Result<Report, Failure> {
    let secrets = context.clone().with_reader(kubernetes::reader()).secrets_of(environment)?;
    let mut report = Report::new(yes);
    let declared = specs(environment);
    for spec in &declared {
        let subjects = spec.topics.iter().map(|(component, topic)| Subject::declared(component, topic));
        cluster(&mut report, spec, &secrets, |_| subjects.collect()).await;
    }
    let mut unseen: BTreeSet<&Component> = orphans.iter().filter(|one| one.kind() == Kind::Topic).collect();
    // The same cluster may be reached by several names.
    for (spec, on_delete) in clusters(environment) {
        let names: BTreeSet<String> =
            declared.iter().flat_map(|other| other.topics.values().map(|topic| topic.name.clone())).collect();
        cluster(&mut report, &spec, &secrets, |world| {
            let subject = |name: String| {
                let component = Component::new(Kind::Topic, &name);
                unseen.remove(&component);
                let goes = orphans.contains(&component) && on_delete == OnDelete::Delete;
                let wish = if goes { Wish::Delete } else { Wish::Orphan };
                Subject { component, name, fragment: None, wish }
            };
            undeclared(world, spec.environment.uid, &names).into_iter().map(subject).collect()
        })
        .await;
    }
    // Where a cluster could not be looked at, that is what is said. (One that is gone cannot be told from one that never was.)
    let text = "nothing to delete: no record says that it is this environment's and that no document here declares it";
    if report.failed.is_empty() {
        report.told.extend(unseen.into_iter().map(|orphan| Note::new(orphan, text)));
    }
    Ok(report)
}

async fn cluster(
    report: &mut Report,
    spec: &Spec,
    secrets: &SecretStore,
    subjects: impl FnOnce(&crate::plan::World) -> Vec<Subject>,
) {
    let target = KafkaTarget::new(spec, secrets.only(spec.reads()));
    let (world, readers) = match target.belongings(spec).await {
        Ok(seen) => seen,
        Err(error) => {
            // What was not seen stays.
            let unseen = spec
                .topics
                .keys()
                .map(|one| Note::new(one, format!("stays: {} was not looked at", spec.cluster)));
            report.retained.extend(unseen);
            report.failed.push((spec.cluster.clone(), failure(&spec.cluster, &error)));
            return;
        }
    };
    for subject in subjects(&world) {
        let mut verdict = decide(&subject, &world, &readers, spec.environment.uid);
        if report.done && matches!(verdict, Verdict::Delete | Verdict::Forget) {
            verdict = match target.take_down(spec, &subject).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    report.failed.push((subject.component.clone(), failure(&subject.component, &error)));
                    continue;
                }
            };
        }
        says(report, &subject, verdict);
    }
}

fn says(report: &mut Report, subject: &Subject, verdict: Verdict) {
    let note = |text: String| Note::new(&subject.component, text);
    let name = &subject.name;
    match verdict {
        Verdict::Nothing => {}
        Verdict::Delete => report.removed.push(note(format!("delete topic `{name}` with all that is in it"))),
        Verdict::Forget => {
            report.removed.push(note(format!("take away the record of topic `{name}`, which is gone")));
        }
        Verdict::Retained(text) => report.retained.push(note(text)),
        Verdict::Refused(text) => report.refused.push(note(text)),
        Verdict::Orphan(text) => report.orphans.push(note(text)),
        Verdict::Foreign(text) => report.told.push(note(text)),
    }
}

fn failure(component: &Component, error: &Error) -> Failure {
    let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
    Failure::new(
        exit,
        format!("{component}: {}; what was done stays done, and the next run goes on", chain(error)),
    )
}
