//! What people ask postgres-init for on the command line: what every provisioner does, what is done with servers that are in use,
//! and migrations and steps by themselves.

mod adoption;
pub(crate) mod delegations;
mod install;
pub(crate) mod teardown;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use chassis::provision::{Around, Command as Provision};
use chassis::{Context, Exit, Failure, documents};
use lifecycle::Component;
use lifecycle::document::Environment;
use migrations::journal::Fate;
use tracing::warn;

pub(crate) use install::install;

use crate::migrate::{self, MigrationSpec};
use crate::step;
pub use adoption::Adoption;
pub(crate) use adoption::run as adopt;

/// What postgres-init is asked to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What every provisioner does.
    #[command(flatten)]
    Provision(Provision),
    /// What is done with a server that is already in use.
    #[command(flatten)]
    Adoption(Adoption),
    /// Run migrations, and nothing else: once, now, also those that failed before.
    ///
    /// Needs no administrator: each runs over the login of its database that acts as the owner.
    Migrate(Migrate),
    /// Run a command once in an environment, and write it down in the ledger of a server.
    ///
    /// When it was done already, nothing runs. Several at once run it once, and the others wait for the result. Its exit code is
    /// the command's; 65 when it may not run without a person's word, which --again and --baseline give.
    Step(step::Args),
    /// Say what modules asked `serve` for and was accepted: which fragment, who asked, when, for what, and
    /// whether it is looked after now.
    Delegations(delegations::Delegations),
    /// Drop the databases and roles of these documents, where both they (`on_delete: delete`) and this command say so; without --yes
    /// only say what would be dropped, what stays, and what keeps it.
    Teardown(teardown::Teardown),
    /// Copy this program, with the libraries that it stands on, into a folder, for pods whose own image has it not: there
    /// `FOLDER/ld.so --library-path FOLDER FOLDER/postgres-init` runs their steps, whatever C library the image has.
    Install {
        /// The folder.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Which migrations, and how far.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// Documents, or folders of documents.
    #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
    documents: Vec<PathBuf>,
    /// Only this migration, as migration/NAME; may be given several times.
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<Component>,
    /// Ask no server: only tell from the files everything that would be refused, and end with 65 if anything would.
    #[arg(long)]
    check: bool,
    /// Where a run was cut in the middle of a statement and nobody knows whether it ran: what you have found out. For one
    /// migration.
    #[arg(long, value_name = "WHICH", value_enum, requires = "component", conflicts_with = "check")]
    unknown_statement: Option<Ran>,
}

/// What became of a statement, as a person has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ran {
    /// It ran to its end: it is not run again.
    Done,
    /// It left nothing: it is run again.
    NotDone,
}

/// Runs migrations once.
pub(crate) async fn migrate(args: Migrate, context: &Context) -> Result<(), Failure> {
    let (environment, problems) = documents::load_partial(&args.documents)?;
    for problem in &problems {
        warn!("refused a document: {problem}");
    }
    let mut specs = wanted(&environment, &args.component)?;
    if let Some(ran) = args.unknown_statement {
        let [spec] = specs.as_mut_slice() else {
            return Err(Failure::usage("--unknown-statement is about one migration; give one --component"));
        };
        let fate = if ran == Ran::Done { Fate::Committed } else { Fate::Aborted };
        if !spec.dialect.decide(fate) {
            return Err(Failure::usage(format!(
                "{}: Flyway's history knows of no statements; see its table, and repair the row there",
                spec.component
            )));
        }
    }
    let done = if args.check {
        check(&environment, &specs, context).await
    } else {
        let secrets = context.secrets_of(&environment)?;
        let targets = specs.into_iter().map(|spec| crate::migration_target(spec, &secrets, context));
        chassis::provision::apply(&environment, context, targets.collect(), Around::default()).await
    };
    match done {
        Ok(()) if !problems.is_empty() => Err(documents::refusal(&problems)),
        done => done,
    }
}

fn wanted(environment: &Environment, components: &[Component]) -> Result<Vec<MigrationSpec>, Failure> {
    let (mut specs, left) = migrate::specs(environment);
    let asked: BTreeSet<&Component> = components.iter().collect();
    if let Some((component, why)) =
        left.iter().find(|(component, _)| asked.is_empty() || asked.contains(component))
    {
        return Err(Failure::usage(format!("{component}: {why}")));
    }
    if let Some(unknown) = asked.iter().find(|asked| !specs.iter().any(|spec| spec.component == ***asked)) {
        return Err(Failure::usage(format!("no document declares {unknown}")));
    }
    specs.retain(|spec| asked.is_empty() || asked.contains(&spec.component));
    if specs.is_empty() {
        return Err(Failure::usage("no document declares a migration"));
    }
    Ok(specs)
}

async fn check(environment: &Environment, specs: &[MigrationSpec], context: &Context) -> Result<(), Failure> {
    let secrets = context.secrets_of(environment)?;
    let (mut refusals, mut lines) = (Vec::new(), Vec::new());
    for spec in specs {
        let store = secrets.only(spec.reads());
        let (refused, warned) = migrate::check(spec, &store).await.map_err(|error| {
            let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
            Failure::new(exit, format!("{}: {error}", spec.component))
        })?;
        if refused.is_empty() && warned.is_empty() {
            lines.push(format!("= {}: nothing is wrong with its files", spec.component));
        }
        lines.extend(refused.iter().map(|text| format!("! {}: {text}", spec.component)));
        lines.extend(warned.iter().map(|text| format!("~ {}: {text}", spec.component)));
        refusals.extend(refused.into_iter().map(|text| format!("{}: {text}", spec.component)));
    }
    match writeln!(std::io::stdout(), "{}", lines.join("\n")) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.map_err(Failure::internal)?,
    }
    if refusals.is_empty() { Ok(()) } else { Err(Failure::new(Exit::NeverWorks, refusals.join("\n"))) }
}
