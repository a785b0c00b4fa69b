//! The commands for servers that are already in use: audit, record, converge, rebind, release-ownership.

mod address;
mod audit;
mod marks;

use std::path::PathBuf;

use chassis::converge::{Fault, Plan};
use chassis::exit::{Exit, Failure, chain};
use chassis::provision::Planned;
use chassis::{Context, Output, documents};
use clap::{Args, Subcommand};
use lifecycle::Component;
use lifecycle::document::Environment;
use tracing::warn;

use crate::adopt::{Class, Leave, MarkStep, Selected};
use crate::world::Error;
use crate::{PostgresTarget, ServerSpec, targets};

/// What is done with a server that is already in use.
#[derive(Debug, Subcommand)]
pub enum Adoption {
    /// Say which roles can do what on a server, and who can attack whom. Only looks; needs no documents.
    ///
    /// Ends with 0 when nobody can attack anybody, whatever else is worth a warning, and with 65 when somebody can.
    Audit(audit::AuditArgs),
    /// Record that what exists and carries nobody's mark is these documents', as it is: no owner, attribute or password changes.
    ///
    /// `apply` then reports what differs as drift and leaves it, until `converge` is run for each class.
    Record {
        /// For what, and whether.
        #[command(flatten)]
        run: Run,
    },
    /// Change one class of what was adopted, as `apply` would have made it. Says first whom that would cut off.
    ///
    /// No statement waits longer than 200 ms for a lock: others that use the same thing are never kept waiting behind it. What a
    /// stop leaves undone, the next run does.
    Converge {
        /// For what, and whether.
        #[command(flatten)]
        run: Run,
        /// Which class; they are best converged in this order
        #[arg(long, value_enum)]
        class: Class,
        /// A role that is let in by name before everybody else is not (public-connect)
        #[arg(long, value_name = "ROLE")]
        connect_also: Vec<String>,
        /// A role that may be cut off although it is connected now
        #[arg(long, value_name = "ROLE")]
        cut_off: Vec<String>,
    },
    /// Record which thing is meant by now, where one was restored, cloned, moved to another fragment, or is gone.
    Rebind {
        /// For what, and whether.
        #[command(flatten)]
        run: Run,
    },
    /// Take our marks from what these documents declare, and nothing else: everything stays and works as it does.
    ReleaseOwnership {
        /// For what, and whether.
        #[command(flatten)]
        run: Run,
        /// Drop database `rollcall` too, where no record of any environment is left in it
        #[arg(long)]
        drop_registry: bool,
    },
}

/// What each of these commands is told.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Documents, or folders of documents.
    #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
    documents: Vec<PathBuf>,
    /// Only this component, such as database/registry; may be repeated
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<Component>,
    /// Do it; without this it is only said what would be done
    #[arg(long)]
    yes: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One server with its client.
type Target = (Component, PostgresTarget, ServerSpec);

/// Runs one of these commands.
pub(crate) async fn run(command: Adoption, context: &Context) -> Result<(), Failure> {
    match command {
        Adoption::Audit(args) => audit::run(args, context).await,
        Adoption::Record { run } => {
            let (targets, selected) = run.targets(context)?;
            chassis::provision::print(&marks::record(&targets, &selected, run.yes).await, run.output)
        }
        Adoption::Rebind { run } => {
            let (targets, selected) = run.targets(context)?;
            chassis::provision::print(&marks::rebind(&targets, &selected, run.yes).await, run.output)
        }
        Adoption::ReleaseOwnership { run, drop_registry } => {
            let (targets, selected) = run.targets(context)?;
            let done = marks::release(&targets, &selected, drop_registry, run.yes).await;
            chassis::provision::print(&done, run.output)
        }
        Adoption::Converge { run, class, connect_also, cut_off } => {
            let (targets, selected) = run.targets(context)?;
            let leave = Leave {
                connect_also: connect_also.into_iter().collect(),
                cut_off: cut_off.into_iter().collect(),
            };
            marks::known(&targets, &selected, &leave).await?;
            let done = marks::converge(&targets, &selected, class, &leave, run.yes).await;
            chassis::provision::print(&done, run.output)
        }
    }
}

impl Run {
    /// The servers of the documents, and the components that are meant.
    fn targets(&self, context: &Context) -> Result<(Vec<Target>, Selected), Failure> {
        let environment = read(&self.documents)?;
        let targets = targets(&environment, &context.secrets_of(&environment)?);
        if targets.is_empty() {
            return Err(Failure::usage(
                "no document here declares a server with `admin`: give the fragment that does too",
            ));
        }
        let selected = Selected::new(self.component.iter().cloned());
        let unknown = selected.unknown(targets.iter().map(|target| &target.2));
        match unknown.first() {
            Some(unknown) => Err(Failure::usage(format!(
                "--component {unknown}: no document here declares it on a server of theirs"
            ))),
            None => Ok((targets, selected)),
        }
    }
}

/// Reads documents; what is wrong with some is an error here: half an environment is not adopted.
pub(super) fn read(paths: &[PathBuf]) -> Result<Environment, Failure> {
    let (environment, problems) = documents::load_partial(paths)?;
    if !problems.is_empty() {
        return Err(documents::refusal(&problems));
    }
    for (database, server) in crate::spec::left_out(&environment) {
        warn!("{database} is left to whoever has the fragment that declares {server} with `admin`");
    }
    Ok(environment)
}

pub(super) fn failure(component: &Component, error: &Error) -> Failure {
    let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
    Failure::new(exit, format!("{component}: {}", chain(error)))
}

/// A plan for marks, printed.
fn planned(component: &Component, plan: &Plan<MarkStep>, done: bool) -> Planned {
    let mut planned = Planned::of(component, plan);
    planned.text.push_str(ending(!plan.steps.is_empty(), done));
    planned.json["done"] = done.into();
    if planned.failure.is_none() && !plan.pending.is_empty() {
        let pending: Vec<String> =
            plan.pending.iter().map(|note| format!("{}: {}", note.component, note.text)).collect();
        planned.failure = Some(Failure::new(Exit::TryAgain, pending.join("\n")));
    }
    planned
}

/// The last line: whether what stands above was done.
fn ending(any: bool, done: bool) -> &'static str {
    match (any, done) {
        (false, _) => "",
        (true, true) => "= done\n",
        (true, false) => "= nothing was done: --yes does it\n",
    }
}
