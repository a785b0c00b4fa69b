//! How a process runs: arguments, settings, logs, the work, and an exit code. Every `main.rs` is one call of [`main`].

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle::document::{Environment, Identity};
use tokio::sync::Notify;
use tracing::Instrument;

use crate::bus::{Bus, Part};
use crate::exit::{Exit, Failure};
use crate::health::Liveness;
use crate::metrics::Metrics;
use crate::secret::{SecretReader, SecretStore};
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Telemetry};

mod servers;
#[cfg(test)]
mod tests;

pub use servers::Servers;

/// How long the work may go on after it was asked to stop; a kubelet kills after 30 s.
const GRACE: Duration = Duration::from_secs(20);
/// Where a kubelet reads why a container ended, and how much of it.
const TERMINATION_LOG: &str = "/dev/termination-log";
const TERMINATION_LIMIT: usize = 4096;

/// What a service's work is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The service's name, for example `postgres-init`.
    pub service: &'static str,
    /// How this process runs.
    pub settings: Settings,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: Metrics,
    /// What this process has to do with the lifecycle topic.
    pub part: Part,
    /// Whether it can still do its work.
    pub liveness: Liveness,
    /// Whoever reads Secrets where the settings name no folder.
    pub reader: Option<Arc<dyn SecretReader>>,
}

impl Context {
    /// A context for tests and for callers that run without [`main`].
    pub fn new(service: &'static str, settings: Settings, shutdown: Shutdown) -> Self {
        Context {
            service,
            settings,
            shutdown,
            metrics: Metrics::new(service),
            part: Part::default(),
            liveness: Liveness::default(),
            reader: None,
        }
    }

    /// The same for a service that asks `reader` for Secrets where the settings name no folder.
    #[must_use]
    pub fn with_reader(self, reader: Option<Arc<dyn SecretReader>>) -> Self {
        Context { reader, ..self }
    }

    /// Where this process reads secrets; `namespace` is that of its own fragment.
    pub fn secrets(&self, namespace: &str) -> SecretStore {
        match (&self.settings.secrets_dir, &self.settings.secrets_root, &self.reader) {
            (Some(dir), _, _) => SecretStore::Own { dir: dir.clone(), namespace: namespace.to_owned() },
            (None, Some(root), _) => SecretStore::Root(root.clone()),
            (None, None, Some(reader)) => SecretStore::Reader(Arc::clone(reader)),
            (None, None, None) => SecretStore::None,
        }
    }

    /// Where this process reads secrets when it works for a whole environment. ROLLCALL_SECRETS_DIR belongs to one
    /// namespace, so it will not do for an environment of several.
    pub fn secrets_of(&self, environment: &Environment) -> Result<SecretStore, Failure> {
        let mut namespaces = environment.sources().map(|source| source.document.fragment.namespace.as_str());
        let first = namespaces.next().unwrap_or_default();
        match namespaces.find(|other| *other != first) {
            Some(other) if self.settings.secrets_dir.is_some() => Err(Failure::usage(format!(
                "ROLLCALL_SECRETS_DIR holds one namespace's secrets, and these documents span {first} and {other}; set ROLLCALL_SECRETS_ROOT instead"
            ))),
            _ => Ok(self.secrets(first)),
        }
    }

    /// The same for a service that makes the lifecycle topic when it is missing.
    #[must_use]
    pub fn as_keeper(self) -> Self {
        Context { part: Part::Keeper, ..self }
    }

    /// The environment's bus; none when no brokers are configured.
    pub fn bus(&self, environment: &Identity) -> Bus {
        match self.settings.brokers.as_slice() {
            [] => Bus::none(),
            brokers => Bus::start(brokers, environment.clone(), &self.shutdown, self.part),
        }
    }

    /// Who speaks: `<service>/<instance>`.
    pub fn source(&self) -> String {
        format!("{}/{}", self.service, self.settings.instance)
    }
}

/// Runs a service from the command line: parses its arguments, and then as [`run_with`].
pub fn main<A, F>(service: &'static str, run: F) -> ExitCode
where
    A: clap::Parser,
    F: AsyncFnOnce(A, Context) -> Result<(), Failure>,
{
    match arguments(std::env::args_os()) {
        Ok(arguments) => run_with(service, environment(), async |context| run(arguments, context).await),
        Err(exit) => exit.into(),
    }
}

/// The arguments of a process, its name first; or, when they ask for help or cannot be understood, the exit code after that was said.
pub fn arguments<A: clap::Parser>(given: impl IntoIterator<Item = OsString>) -> Result<A, Exit> {
    A::try_parse_from(given).map_err(|error| {
        let _ = error.print();
        // `--help` and `--version` are errors only to clap.
        if error.use_stderr() {
            say_why(&error.render().to_string());
            Exit::Usage
        } else {
            Exit::Done
        }
    })
}

/// The variables of this process. `std::env::vars` would panic at one that is not Unicode, whosever it is.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Runs the work with settings from `env`, on a runtime of one thread: services wait for others and must be small.
///
/// A failure is said once: as an error line, and to the kubelet. A panic anywhere in the process ends it with 1, because
/// a service that lost a part of itself must not look healthy.
pub fn run_with<F>(service: &'static str, env: impl IntoIterator<Item = (String, String)>, run: F) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), Failure>,
{
    execute(service, env, run, |failure| tracing::error!(exit = failure.exit as u8, "{failure}"))
}

/// Runs a command that a person typed: a failure is a plain line, and only warnings are logged unless ROLLCALL_LOG says
/// otherwise.
pub fn run_for_people<F>(
    command: &'static str,
    env: impl IntoIterator<Item = (String, String)>,
    run: F,
) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), Failure>,
{
    let quiet = [("ROLLCALL_LOG", "warn"), ("ROLLCALL_LOG_FORMAT", "text")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    // What comes later wins.
    execute(command, quiet.into_iter().chain(env), run, |failure| eprintln!("error: {failure}"))
}

fn execute<F>(
    service: &'static str,
    env: impl IntoIterator<Item = (String, String)>,
    run: F,
    say: fn(&Failure),
) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), Failure>,
{
    let env: Vec<(String, String)> = env.into_iter().collect();
    let traceparent = env.iter().find(|(name, _)| name == "TRACEPARENT").map(|(_, value)| value.clone());
    let settings = match Settings::load(env) {
        Ok(settings) => settings,
        Err(error) => return unstarted(service, &Failure::usage(error)),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unstarted(service, &Failure::internal(error)),
    };
    let panics = Panics::watch();
    let telemetry = runtime.block_on(async { telemetry::init(&settings, service) });
    let work = async {
        let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
        let context = Context::new(service, settings, shutdown.clone());
        let work = run(context);
        match &traceparent {
            Some(traceparent) => {
                let span = tracing::info_span!("run", otel.name = service);
                telemetry::continue_from(&span, traceparent);
                bounded(work, &shutdown, &panics).instrument(span).await
            }
            None => bounded(work, &shutdown, &panics).await,
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    let ended = ended.unwrap_or_else(|_| Err(panics.failure()));
    let exit = match ended {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            say(&failure);
            say_why(&failure.message);
            failure.code()
        }
    };
    runtime.block_on(Telemetry::shutdown(telemetry));
    // A blocking call that never returns must not keep the process.
    runtime.shutdown_background();
    exit
}

/// The work, until it is done, until it has ignored the shutdown for too long, or until something panicked.
async fn bounded(
    work: impl Future<Output = Result<(), Failure>>,
    shutdown: &Shutdown,
    panics: &Panics,
) -> Result<(), Failure> {
    let ignored = async {
        shutdown.requested().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = work => ended,
        () = ignored => Err(Failure::new(Exit::TryAgain, format_args!("asked to stop, and still at work after {GRACE:?}"))),
        () = panics.noticed.notified() => Err(panics.failure()),
    }
}

/// A failure before there are logs.
fn unstarted(service: &str, failure: &Failure) -> ExitCode {
    eprintln!("{service}: {failure}");
    say_why(&failure.message);
    failure.exit.into()
}

/// Tells the kubelet, where there is one.
fn say_why(message: &str) {
    // Only a file that is there already: it is the kubelet's to make.
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(TERMINATION_LOG) {
        let _ = file.write_all(&message.as_bytes()[..message.floor_char_boundary(TERMINATION_LIMIT)]);
    }
}

/// Remembers the first panic of the process, wherever it happens.
#[derive(Debug, Clone, Default)]
struct Panics {
    first: Arc<Mutex<Option<String>>>,
    noticed: Arc<Notify>,
}

impl Panics {
    fn watch() -> Self {
        let panics = Panics::default();
        let hook = panics.clone();
        std::panic::set_hook(Box::new(move |info| {
            let mut first = hook.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| info.to_string());
            hook.noticed.notify_one();
        }));
        panics
    }

    fn failure(&self) -> Failure {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        Failure::internal(first.as_deref().unwrap_or("panicked"))
    }
}
