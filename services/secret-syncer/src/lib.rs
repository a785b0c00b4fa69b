//! secret-syncer: makes the Secrets that documents declare: generated once, or copied and kept like their source.
//!
//! The store is a directory, `<root>/<namespace>/<secret>/<key>`; what keeps Secrets is a [`Backend`], so that another
//! kind of store needs another implementation and nothing else.

pub mod keycloak;
pub mod plan;
pub mod spec;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chassis::provision::{Command, Planned};
use chassis::{Context, Failure};
use lifecycle::Component;
use lifecycle::document::Environment;
use tokio::sync::Notify;
use tracing::warn;

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

/// Generate Secrets, copy Secrets, and keep the copies like their sources.
#[derive(Debug, clap::Parser)]
#[command(name = "secret-syncer", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Runs the provisioner over the store at ROLLCALL_SECRETS_ROOT.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let nudge = Arc::new(Notify::new());
    // What would be done where nothing is can be said without a store.
    let offline = matches!(args.command, Command::Plan { offline: true, .. });
    let root = if offline { PathBuf::new() } else { root(&context)? };
    // A plan touches nothing, not even by watching.
    if !matches!(args.command, Command::Plan { .. }) {
        wake(&root, Arc::clone(&nudge));
    }
    chassis::provision::run(args.command, context, move |environment| Ok(targets(environment, &root)), nudge)
        .await
}

/// Nudges on every change in the store, for as long as the process lives.
fn wake(root: &Path, nudge: Arc<Notify>) {
    match watch(root) {
        Ok(mut wakes) => drop(tokio::spawn(async move {
            loop {
                wakes.next().await;
                nudge.notify_waiters();
            }
        })),
        // Everything is looked at again now and then all the same.
        Err(error) => warn!("changes of Secrets are noticed late: {}", chassis::exit::chain(&error)),
    }
}

/// What would be done with each Secret; `offline` looks at none.
pub async fn plan(
    environment: &Environment,
    context: &Context,
    offline: bool,
) -> Result<Vec<Planned>, Failure> {
    let root = if offline { PathBuf::new() } else { root(context)? };
    Ok(chassis::provision::plans(&targets(environment, &root), offline).await)
}

fn root(context: &Context) -> Result<PathBuf, Failure> {
    context.settings.secrets_root.clone().ok_or_else(|| {
        Failure::usage(
            "ROLLCALL_SECRETS_ROOT is not set; name the folder that holds <namespace>/<secret>/<key>",
        )
    })
}
