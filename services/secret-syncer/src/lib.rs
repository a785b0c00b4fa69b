//! secret-syncer: makes the Secrets and ConfigMaps that documents declare: generated once, or kept like what they follow.
//!
//! They are kept in a cluster or a directory, by a [`Backend`], so that another kind of store needs another implementation
//! and nothing else.

mod central;
mod command;
mod elsewhere;
pub mod escrow;
mod follow;
pub mod generate;
pub mod keycloak;
pub mod plan;
mod progress;
pub mod rbac;
pub mod referenced;
pub mod restart;
pub mod sops;
pub mod spec;
mod store;
pub mod target;
mod teardown;
pub mod vault;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis::provision::{Around, Command, Known, Planned};
use chassis::settings::Settings;
use chassis::{Context, Failure};
use lifecycle::Component;
use lifecycle::document::{Environment, Source as DocumentSource, Vault};
use nix::sys::resource::{Resource, setrlimit};

pub use progress::Progress;
pub use spec::Spec;
pub use store::Store;
pub use teardown::{rights as teardown_rights, teardown, teardown_clients};
pub use world::{Backend, Directory, Error, Kubernetes, Nowhere, Outside, Target};

use central::Central;
use command::Asked;
use elsewhere::Elsewhere;
use follow::{Following, Telling};
use restart::Keepers;
use target::Maker;
use world::InStore;

/// The objects that are to be made: one target for each, so that one that cannot be read or written holds up nothing else.
/// What follows something stands after it.
pub fn targets<B: Backend + Clone>(
    specs: Vec<Spec>,
    store: &B,
    outside: &Arc<dyn Outside>,
    progress: &Progress,
) -> Vec<(Component, Target<B>, Spec)> {
    let target = || Target::new(store.clone(), Arc::clone(outside), progress.clone());
    specs.into_iter().map(|spec| (spec.object.clone(), target(), spec)).collect()
}

/// Everything that is to be made: clients of Keycloak, and the objects.
fn everything(
    environment: &Environment,
    settings: &Settings,
    store: &Store,
    progress: &Progress,
) -> Vec<(Component, Maker<Store>, target::Spec)> {
    let clients = keycloak::targets(environment, &InStore(store.clone()));
    let outside: Arc<dyn Outside> = Arc::new(Elsewhere::new(environment, settings, store.clone(), &clients));
    let objects = targets(spec::specs(environment), store, &outside, progress);
    let clients = clients
        .into_iter()
        .map(|(name, target, spec)| (name, Maker::Client(target), target::Spec::Client(Box::new(spec))));
    let objects = objects
        .into_iter()
        .map(|(name, target, spec)| (name, Maker::Object(target), target::Spec::Object(Box::new(spec))));
    clients.chain(objects).collect()
}

/// The keys that pods refer to, as something to look at. Who ends does not wait for pods: they may be what comes next.
fn referred(environment: &Environment, store: &Store) -> Vec<(Component, Maker<Store>, target::Spec)> {
    let keys = referenced::specs(environment).into_iter().map(|spec| {
        let maker = Maker::Keys { store: store.clone(), cluster: referenced::cluster(store) };
        (spec.module.clone(), maker, target::Spec::Keys(Box::new(spec)))
    });
    keys.collect()
}

/// Generate Secrets, copy Secrets and ConfigMaps, and keep the copies like what they follow.
#[derive(Debug, clap::Parser)]
#[command(name = "secret-syncer", version)]
pub struct Args {
    /// Obey selectors of namespaces, with rights over the whole cluster, and carry only what the namespace of a copy was given.
    #[arg(long, global = true)]
    central: bool,
    #[command(subcommand)]
    command: Asked,
}

/// Runs the provisioner over the store that the settings name.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    // What was read must not lie in a file when this process dies.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Failure::internal)?;
    // What would be done where nothing is can be said without a store.
    let offline = matches!(args.command, Asked::Provision(Command::Plan { offline: true, .. }));
    let store = if offline { Store::nothing() } else { Store::open(&context.settings, args.central).await? };
    let central =
        if args.central { Central::open(&store, &context.settings).await? } else { Central::default() };
    match args.command {
        Asked::Provision(command) => Box::pin(provision(command, context, store, central)).await,
        Asked::Forget { secret, documents } => command::forget(&store, &documents, &secret).await,
        Asked::Teardown { documents, generated, clients, yes, environment: typed } => {
            let environment = central.resolve(&chassis::documents::load_complete(&documents)?)?;
            let name = &environment.identity().name;
            if let Some(typed) = typed.filter(|typed| typed != name) {
                return Err(Failure::usage(format!(
                    "--environment {typed}: these documents are of environment `{name}`; nothing was done"
                )));
            }
            let also = command::Also { generated, clients };
            Box::pin(command::teardown(&store, &environment, also, yes)).await
        }
    }
}

async fn provision(
    command: Command,
    context: Context,
    store: Store,
    central: Central,
) -> Result<(), Failure> {
    let around = Around { callers: kubernetes::callers_of(&command).await, ..Around::default() };
    // A plan touches nothing, not even by watching.
    let follows = !matches!(command, Command::Plan { .. });
    // Who ends before pods are ready cannot see a restart through; what it changed is noticed by whoever serves.
    let restarts = matches!(command, Command::Serve { .. });
    let ends = matches!(command, Command::Apply { .. });
    let progress = Progress::new(&context.metrics, around.known.clone());
    let telling = Telling {
        nudges: around.nudges.clone(),
        progress: progress.clone(),
        liveness: context.liveness.clone(),
        restarts: Arc::default(),
        modules: Vec::new(),
    };
    let settings = context.settings.clone();
    let keepers =
        restarts.then(|| Keepers::new(&store, context.settings.resync, &progress, &telling.restarts));
    let following = follows.then(|| Following::of(&store, telling));
    if let (Command::Serve { .. }, Store::Kubernetes(store)) = (&command, &store) {
        central.follow(store.watches(), &around.changed);
    }
    let targets = move |environment: &Environment| {
        let environment = central.resolve(environment)?;
        if let Some(following) = &following {
            let modules = referenced::specs(&environment).into_iter().map(|spec| spec.module);
            following.of_these(&spec::specs(&environment), modules.collect());
        }
        if let Some(keepers) = &keepers {
            keepers.are(&environment);
        }
        let mut targets = everything(&environment, &settings, &store, &progress);
        if !ends {
            targets.extend(referred(&environment, &store));
        }
        Ok(targets)
    };
    Box::pin(chassis::provision::run(command, context, targets, around)).await
}

/// What is done with which Secrets and ConfigMaps for these documents, each by name.
pub fn uses(environment: &Environment) -> BTreeMap<Component, rbac::Use> {
    rbac::uses(&spec::specs(environment), credentials(environment), environment.identity().uid)
}

/// The Secrets that are read to log in to Vaults and Keycloaks, or to be given to a client.
pub(crate) fn credentials(environment: &Environment) -> BTreeSet<Component> {
    let of = |source: &DocumentSource| {
        let (document, namespace) = (&source.document, &source.document.fragment.namespace);
        let vaults = document.vault.values().flat_map(Vault::references);
        let clients = document.clients.values().filter_map(|client| client.secret.as_ref());
        vaults.chain(clients).map(|reference| reference.secret.secret(namespace)).collect::<Vec<_>>()
    };
    environment.sources().flat_map(of).chain(logins(environment)).collect()
}

/// The Secrets that are read to log in to Keycloaks.
fn logins(environment: &Environment) -> BTreeSet<Component> {
    let of = |source: &DocumentSource| {
        let (document, namespace) = (&source.document, &source.document.fragment.namespace);
        let servers = document.keycloak.values();
        let references = servers.flat_map(|server| server.tls.ca.iter().chain([&server.login.secret]));
        references.map(|reference| reference.secret.secret(namespace)).collect::<Vec<_>>()
    };
    environment.sources().flat_map(of).collect()
}

/// What would be done with each object; `offline` looks at none.
pub async fn plan(
    environment: &Environment,
    context: &Context,
    offline: bool,
) -> Result<Vec<Planned>, Failure> {
    let store = if offline { Store::nothing() } else { Store::open(&context.settings, false).await? };
    let progress = Progress::new(&context.metrics, Known::default());
    for copy in environment.choosing() {
        tracing::warn!("{copy}: which namespaces its labels choose is for the central secret-syncer to say");
    }
    let mut targets = everything(environment, &context.settings, &store, &progress);
    targets.extend(referred(environment, &store));
    Ok(chassis::provision::plans(&targets, offline).await)
}
