//! secret-syncer: makes the Secrets that documents declare: generated once, or copied and kept like their source.
//!
//! The store is a directory, `<root>/<namespace>/<secret>/<key>`; what keeps Secrets is a [`Backend`], so that another
//! kind of store needs another implementation and nothing else.

pub mod plan;
pub mod spec;
pub mod world;

use std::path::Path;
use std::sync::Arc;

use chassis::exit::chain;
use chassis::provision::Command;
use chassis::{Context, Exit, Failure};
use lifecycle::Component;
use lifecycle::document::Environment;
use tokio::sync::Notify;

pub use spec::Spec;
pub use world::{Backend, Directory, Error, Target, Wakes};

/// What is to be made: one target for each declared Secret, so that one that cannot be read or written holds up nothing
/// else. A copy stands after what it is copied from.
pub fn targets(environment: &Environment, root: &Path) -> Vec<(Component, Target, Spec)> {
    let store = Directory::new(root);
    spec::specs(environment)
        .into_iter()
        .map(|spec| (spec.secret.clone(), Target::new(store.clone()), spec))
        .collect()
}

/// Wakes whenever something in the store at `root` may have changed.
pub fn watch(root: &Path) -> Result<Wakes, Error> {
    Directory::new(root).watch()
}

/// Generate and copy Secrets.
#[derive(Debug, clap::Parser)]
#[command(name = "secret-syncer", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Runs the provisioner over the store at ROLLCALL_SECRETS_ROOT.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let root = context.settings.secrets_root.clone().ok_or_else(|| {
        Failure::usage("ROLLCALL_SECRETS_ROOT is not set; name the folder that holds <namespace>/<secret>/<key>")
    })?;
    let nudge = Arc::new(Notify::new());
    // A plan touches nothing, not even by watching.
    if !matches!(args.command, Command::Plan { .. }) {
        let mut wakes = watch(&root).map_err(|error| Failure::new(Exit::Internal, chain(&error)))?;
        let nudge = Arc::clone(&nudge);
        tokio::spawn(async move {
            while wakes.wake().await {
                nudge.notify_waiters();
            }
        });
    }
    let targets = move |environment: &Environment| targets(environment, &root);
    chassis::provision::run(args.command, context, targets, nudge).await
}
