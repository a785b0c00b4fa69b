//! `rollcall down`: takes an environment down, over all provisioners, in the reverse order of bringing it up.

use std::collections::BTreeSet;

use chassis::bus::remove_lifecycle;
use chassis::converge::Note;
use chassis::teardown::{Confirmation, Report};
use chassis::{Context, Exit, Failure};
use clap::Args;
use lifecycle::document::{Environment, OnDelete, Source};
use lifecycle::{Component, Kind, Phase};

use super::status::snapshot;
use crate::client::Hub;
use crate::state::phase_of;

/// Take an environment down: clients of Keycloak, topics, databases and roles, then Secrets and ConfigMaps.
///
/// Only what carries this environment's mark and whose document says `on_delete: delete` goes, and only with --yes and the
/// environment's name; without them it is said what would go, what stays, and what keeps it. One refusal keeps no neighbour. It does
/// not stop workloads: `helm uninstall` does. What was cut off, the next run finishes.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    hub: Hub,
}

/// Takes it down, or says what would go.
pub async fn run(args: &Down, context: &Context) -> Result<(), Failure> {
    let Confirmation { yes, output, ref orphan, .. } = args.confirmation;
    let environment = args.confirmation.environment()?;
    args.confirmation.undeclared(&environment, &[Kind::Topic])?;
    let orphans = orphan.iter().filter(|one| one.kind() != Kind::Topic).cloned().collect();
    let how = postgres_init::How { yes, orphans, cancel: false };
    // Before anything is touched anywhere.
    postgres_init::orphans_are_there(&environment, context, &how).await?;
    let mut report = Report::new(yes);
    let hub_lives = living(&args.hub, &environment, &mut report).await;

    let clients = secret_syncer::teardown_clients(&environment, context, yes).await;
    add(&mut report, &environment, Kind::Client, clients);
    let topics = topic_provisioner::teardown(&environment, context, yes, orphan).await;
    add(&mut report, &environment, Kind::Kafka, topics);
    let databases = postgres_init::teardown(&environment, context, &how).await;
    add(&mut report, &environment, Kind::Postgres, databases);

    let staying = report.staying();
    let needed = needed(&environment, &staying);
    let objects = secret_syncer::teardown(&environment, context, yes, &staying, &needed).await;
    add(&mut report, &environment, Kind::Secret, objects);

    news(&mut report, &environment, context, hub_lives).await;
    report.print(output)
}

/// A provisioner that could not even begin leaves all that it has made.
fn add(report: &mut Report, environment: &Environment, kind: Kind, added: Result<Report, Failure>) {
    match added {
        Ok(added) => report.add(added),
        Err(failure) => {
            let all: Vec<Component> = match kind {
                Kind::Kafka => environment.topics().map(|topic| topic.component).collect(),
                Kind::Postgres => environment
                    .databases()
                    .map(|database| database.component)
                    .chain(environment.roles().map(|role| role.component))
                    .collect(),
                Kind::Client => environment.clients().map(|client| client.component).collect(),
                _ => environment.secrets().map(|secret| secret.component).collect(),
            };
            let Some(first) = all.first().cloned() else { return };
            report.retained.extend(all.iter().map(|one| Note::new(one, "stays: it could not be looked at")));
            report.failed.push((first, failure));
        }
    }
}

/// Which modules still run, as the hub knows; whether a hub answers.
async fn living(hub: &Hub, environment: &Environment, report: &mut Report) -> bool {
    let environment_itself = Component::new(Kind::Module, &environment.identity().name);
    let states = match hub.reach().await {
        Ok(reached) => match snapshot(&reached, &[]).await {
            Ok((states, ..)) => states,
            Err(failure) => {
                let text = format!("its hub did not say which modules still run: {failure}");
                report.told.push(Note::new(&environment_itself, text));
                return true;
            }
        },
        Err(failure) => {
            let text = format!("no hub says which modules still run ({failure}); see to it that none does");
            report.told.push(Note::new(&environment_itself, text));
            return false;
        }
    };
    let modules = states.iter().filter_map(|state| {
        let component: Component = state.component.parse().ok()?;
        let lives = matches!(phase_of(state), Some(Phase::Ready | Phase::Degraded | Phase::Working));
        (component.kind() == Kind::Module && lives).then_some(component)
    });
    report.told.extend(modules.map(|module| {
        Note::new(&module, "still runs: scale its workload to 0 or `helm uninstall` its release first; its sessions are ended")
    }));
    true
}

/// The Secrets that are read to reach or to use what stays.
fn needed(environment: &Environment, staying: &BTreeSet<Component>) -> BTreeSet<Component> {
    let databases = postgres_init::specs(environment).into_values().flat_map(|spec| {
        let of_it = |one: &&Component| {
            **one == spec.component || spec.database(one).is_some() || spec.role(one).is_some()
        };
        staying.iter().filter(of_it).flat_map(|one| spec.only(one).reads()).collect::<Vec<_>>()
    });
    let topics = topic_provisioner::specs(environment).into_iter().flat_map(|spec| {
        let stays = staying.iter().any(|one| *one == spec.cluster || spec.topics.contains_key(one));
        if stays { spec.reads() } else { BTreeSet::new() }
    });
    // What no administrator is declared for is used by its modules all the same.
    let left = environment.databases().filter(|database| staying.contains(&database.component)).flat_map(
        |database| {
            let roles = &database.spec.roles;
            let passwords = [
                Some(&roles.app.password),
                roles.app.overlap.as_ref().map(|overlap| &overlap.password),
                roles.migrator.as_ref().map(|migrator| &migrator.password),
            ];
            let namespace = &database.source.document.fragment.namespace;
            passwords
                .into_iter()
                .flatten()
                .map(|password| password.secret.secret(namespace))
                .collect::<Vec<_>>()
        },
    );
    databases.chain(topics).chain(left).collect()
}

/// The environment's lifecycle topic goes last, once nothing is left that it could speak of.
async fn news(report: &mut Report, environment: &Environment, context: &Context, hub_lives: bool) {
    let brokers = context.settings.brokers.as_slice();
    if brokers.is_empty() {
        return;
    }
    let topic = chassis::bus::lifecycle_topic(&environment.identity().name);
    let component = Component::new(Kind::Topic, &topic);
    let retains = |source: &Source| source.document.policy.on_delete == OnDelete::Retain;
    if !report.staying().is_empty() {
        let text = format!("topic `{topic}` stays: it tells of what stays");
        report.retained.push(Note::new(&component, text));
    } else if let Some(source) = environment.sources().find(|source| retains(source)) {
        let text = format!(
            "topic `{topic}` stays: fragment `{}` does not say `on_delete: delete`",
            source.document.fragment.name
        );
        report.retained.push(Note::new(&component, text));
    } else if hub_lives {
        let text = format!(
            "topic `{topic}` is kept by the hub, which still runs: `helm uninstall` it, then run this again"
        );
        report.refused.push(Note::new(&component, text));
    } else {
        match remove_lifecycle(brokers, environment.identity(), report.done).await {
            Ok(false) => {}
            Ok(true) => {
                let text = format!("delete topic `{topic}`, the environment's news");
                report.removed.push(Note::new(&component, text));
            }
            Err(error) => {
                let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
                report.failed.push((component, Failure::new(exit, chassis::exit::chain(&error))));
            }
        }
    }
}
