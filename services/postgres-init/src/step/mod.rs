//! `postgres-init step NAME -- COMMAND`: runs a command once in an environment and writes it down in the ledger.

pub(crate) mod claim;
mod group;
mod inputs;
pub mod plan;
pub mod process;
pub mod spec;
mod through;

use std::path::PathBuf;
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::converge::Fault;
use chassis::exit::chain;
use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure, documents};
use lifecycle::Component;
use postgres::{Server, Session};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::world::ledger::{self, Entry, State};
use crate::world::{Error, PostgresTarget};
use claim::Left;
use plan::{Asked, Decision, Written};
use process::Secrets;
use spec::{Evidence, StepSpec};

/// How long the evidence may take to be asked.
const EVIDENCE: Duration = Duration::from_mins(1);
/// What is waited for is said again this often (design §9).
const SAID_AGAIN: Duration = Duration::from_secs(30);
/// How long it is tried to write down how a command ended, when the server is away just then.
const WRITE: Duration = Duration::from_mins(2);
/// The same where it was asked to stop: a pod that has to end does not wait for longer.
const WRITE_STOPPED: Duration = Duration::from_secs(5);

/// A step and its command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The step, as the documents name it.
    name: String,
    /// Documents, or folders of documents.
    #[arg(
        long,
        value_name = "DOCUMENTS",
        env = "ROLLCALL_DOCUMENTS",
        value_delimiter = ':',
        required = true
    )]
    documents: Vec<PathBuf>,
    /// A file that goes into it: when its content is another one, so are the inputs. May be given several times.
    #[arg(long, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// A variable that goes into it, by name. Never one that holds a secret: a hash of it is written down.
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// A variable whose value is never written down, besides those whose names say that they hold secrets.
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// Run it, whatever is written down: after a run that did not end well and that a person has looked at.
    #[arg(long, conflicts_with = "baseline")]
    again: bool,
    /// Write down that it was done, and run nothing: on an environment older than its ledger.
    #[arg(long)]
    baseline: bool,
    /// The command.
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "baseline")]
    command: Vec<String>,
}

/// Runs a step, unless it was done.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let (environment, problems) = documents::load_partial(&args.documents)?;
    for problem in &problems {
        warn!("refused a document: {problem}");
    }
    let name = args.name.strip_prefix("step/").unwrap_or(&args.name);
    let inputs = if args.command.is_empty() {
        // A baseline of whatever is run later.
        String::new()
    } else {
        inputs::hash(&args.command, &args.input, &args.env).map_err(Failure::usage)?
    };
    if let Some(address) =
        context.settings.postgres_init.as_ref().filter(|_| through::is_theirs(&environment, name))
    {
        return through::run(&args, name, inputs, &environment, address, context).await;
    }
    let spec = spec::spec(&environment, name).map_err(Failure::usage)?;
    let secrets = context.secrets_of(&environment)?.only(spec.reads());
    let asked = match (args.again, args.baseline) {
        (true, _) => Asked::Again,
        (_, true) => Asked::Baseline,
        _ => Asked::Nothing,
    };
    let work = Work { spec: &spec, inputs: &inputs, secrets: &secrets, by: context.source(), asked };
    let session = crate::delegation::within(context, work.turn()).await?;
    work.take_turn(session, &args).await
}

struct Work<'a> {
    spec: &'a StepSpec,
    inputs: &'a str,
    secrets: &'a SecretStore,
    by: String,
    asked: Asked,
}

impl Work<'_> {
    /// Waits until what it needs is there and nobody else runs it; a session that holds its lock.
    async fn turn(&self) -> Result<Session, Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let (mut said, mut at) = (String::new(), Instant::now());
        // Kept while it waits: who holds the lock may take hours.
        let mut session = None;
        let mut left = Left::default();
        loop {
            let why = match self.try_turn(&mut session, &mut left).await {
                Ok(None) => match session.take() {
                    Some(session) => return Ok(session),
                    None => continue,
                },
                Ok(Some(why)) => why,
                Err(error) if error.is_transient() => {
                    session = None;
                    chain(&error)
                }
                Err(error) => return Err(self.hopeless(&error)),
            };
            if why != said || at.elapsed() >= SAID_AGAIN {
                info!(component = %self.spec.component, "waits: {why}");
                (said, at) = (why, Instant::now());
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Tries to take the lock over the session, which is made where there is none; why it is not our turn, unless it is.
    async fn try_turn(&self, held: &mut Option<Session>, left: &mut Left) -> Result<Option<String>, Error> {
        let spec = self.spec;
        if held.is_none() {
            let uid = spec.server.environment.uid;
            if let Some((first, why)) = spec.needs.unmet(uid, self.secrets).await? {
                return Ok(Some(format!("{why}; {first} comes first")));
            }
            *held = Some(PostgresTarget::new(self.secrets.clone()).registry(&spec.server).await?);
        }
        let Some(session) = held else { return Ok(Some("there is no session".to_owned())) };
        if !ledger::try_lock(session, &spec.server, &spec.component).await? {
            left.is_held();
            let waits = "another instance runs it just now; its result counts for this one too";
            return Ok(Some(waits.to_owned()));
        }
        let last = ledger::latest(session, &spec.server, &spec.component, spec.database.as_deref()).await?;
        let waits = left.waits(last.as_ref(), Instant::now());
        if waits.is_some() {
            ledger::unlock(session, &spec.server, &spec.component).await?;
        }
        Ok(waits)
    }

    fn hopeless(&self, error: &Error) -> Failure {
        Failure::new(Exit::NeverWorks, format!("{}: {}", self.spec.component, chain(error)))
    }

    async fn take_turn(&self, mut session: Session, args: &Args) -> Result<(), Failure> {
        let spec = self.spec;
        let failed = |error: Error| {
            let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
            Failure::new(exit, format!("{}: {}", spec.component, chain(&error)))
        };
        let last = claim::last(&mut session, spec).await;
        let last = last.map_err(failed)?;
        let older = last.is_none() && claim::older(&mut session, spec).await.map_err(failed)?;
        let mut decision = plan::decide(spec, Written::of(last.as_ref(), older), self.inputs, self.asked);
        if let Decision::Ask(otherwise) = decision {
            let shown = match &spec.evidence {
                Some(evidence) => evident(&spec.component, evidence, self.secrets).await?,
                None => false,
            };
            decision = if shown {
                Decision::Baseline("its evidence shows that it was done".to_owned())
            } else {
                *otherwise
            };
        }
        let ended = match decision {
            Decision::Ask(_) => Err(Failure::internal("evidence is asked once")),
            Decision::Done(why) => {
                info!(component = %spec.component, "{why}");
                Ok(())
            }
            Decision::Refuse(why) => Err(Failure::new(Exit::NeverWorks, why)),
            _ if spec.report_only => {
                info!(component = %spec.component, "mode is report; would run it, or write down that it was done");
                Ok(())
            }
            Decision::Baseline(why) => {
                ledger::add(&mut session, &spec.server, &self.entry(State::Baseline, &why))
                    .await
                    .map_err(failed)?;
                info!(component = %spec.component, "written down as done: {why}");
                Ok(())
            }
            Decision::Run => {
                let entry = self.entry(State::Running, "");
                let number = ledger::add(&mut session, &spec.server, &entry).await.map_err(failed)?;
                self.execute(&mut session, number, args).await
            }
        };
        session.close().await;
        ended
    }

    fn entry<'a>(&'a self, state: State, output: &'a str) -> Entry<'a> {
        Entry {
            component: &self.spec.component,
            fragment: &self.spec.fragment,
            state,
            hash: &self.spec.hash,
            inputs: self.inputs,
            database: self.spec.database.as_deref(),
            by: &self.by,
            exit: None,
            output,
        }
    }

    async fn execute(&self, session: &mut Session, number: i64, args: &Args) -> Result<(), Failure> {
        let component = &self.spec.component;
        let reads: Vec<Component> = self.spec.reads().into_iter().collect();
        let secrets = hide(component, &args.secret_env, &reads, self.secrets).await;
        info!(%component, run = number, "running {}", secrets.hide(&args.command.join(" ")));
        let begun = Instant::now();
        let target = PostgresTarget::new(self.secrets.clone());
        let ended = tokio::select! {
            ended = process::run(&args.command, &secrets) => ended,
            () = claim::watch(session, &target, self.spec, number) => return Err(lost(component, number)),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // It never began, so nothing is half done: what is written down says so.
                let said = format!("{} cannot be started: {error}", args.command[0]);
                self.write(session, number, State::Failed, Some(127), &said, WRITE).await?;
                return Err(Failure::of_command(127, format!("{component}: {said}")));
            }
        };
        let state = if ended.exit == Some(0) { State::Done } else { State::Failed };
        self.write(session, number, state, ended.exit, &ended.output, write_within(&ended)).await?;
        outcome(component, number, begun, &ended)
    }

    /// Writes down how it ended: over the session that holds the lock or, where that is lost, over new ones.
    async fn write(
        &self,
        session: &mut Session,
        number: i64,
        state: State,
        exit: Option<i32>,
        output: &str,
        within: Duration,
    ) -> Result<(), Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut trouble = "the server did not answer".to_owned();
        let written = async {
            let mut result = ledger::finish(session, number, state, exit, output).await;
            while let Err(error) = result {
                trouble = chain(&error);
                warn!(component = %self.spec.component, "how it ended cannot be written down yet: {trouble}");
                tokio::time::sleep(backoff.next_delay()).await;
                result = match PostgresTarget::new(self.secrets.clone()).registry(&self.spec.server).await {
                    Ok(mut again) => ledger::finish(&mut again, number, state, exit, output).await,
                    Err(error) => Err(error),
                };
            }
        };
        tokio::time::timeout(within, written).await.map_err(|_| {
            let text = format!(
                "{}: the command ended, and that could not be written down within {within:?}: {trouble}; the next run will ask a person",
                self.spec.component
            );
            Failure::new(Exit::TryAgain, text)
        })
    }
}

/// How long it is tried to write down how a command ended.
fn write_within(ended: &process::Ended) -> Duration {
    if ended.stopped { WRITE_STOPPED } else { WRITE }
}

/// What a command that has ended means for whoever ran it.
fn outcome(
    component: &Component,
    number: i64,
    begun: Instant,
    ended: &process::Ended,
) -> Result<(), Failure> {
    if ended.exit == Some(0) {
        info!(%component, run = number, seconds = begun.elapsed().as_secs(), "done");
        return Ok(());
    }
    let how = how(ended);
    Err(Failure::of_command(ended.code(), format!("{component}: the command {how}; see its output")))
}

/// How a command ended, for people.
fn how(ended: &process::Ended) -> String {
    match (ended.exit, ended.signal) {
        (Some(0), _) => "ran to its end".to_owned(),
        (Some(exit), _) => format!("failed with exit code {exit}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// The claim is another's: the command was ended, for two must not run at once.
fn lost(component: &Component, number: i64) -> Failure {
    Failure::new(
        Exit::TryAgain,
        format!(
            "{component}: the claim of run {number} was lost, and it is another's by now, so the command was ended here; see what it has left"
        ),
    )
}

/// The secrets that a command might print: those read for the step, and those that its variables hold.
async fn hide(
    component: &Component,
    variables: &[String],
    reads: &[Component],
    store: &SecretStore,
) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add_variables(variables);
    for object in reads {
        match store.contents(object, &[]).await {
            Ok(contents) => {
                for value in contents.values() {
                    secrets.add(value.expose_text().unwrap_or_default());
                }
            }
            Err(error) => {
                warn!(%component, "what it prints is not written down: {error}");
                secrets.are_unknown();
            }
        }
    }
    secrets
}

/// Whether the evidence shows that it was done.
async fn evident(component: &Component, evidence: &Evidence, secrets: &SecretStore) -> Result<bool, Failure> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let begun = Instant::now();
    loop {
        let error = match ask(evidence, secrets).await {
            Ok(shown) => return Ok(shown),
            Err(error) => error,
        };
        let said = format!("{component}: its evidence cannot be asked: {}", chain(&error));
        // It may only read, on whichever server.
        if !error.is_transient() || error.code() == "25006" {
            let text = format!(
                "{said}; correct `evidence` in its document: while it is not known whether it was done, it does not run"
            );
            return Err(Failure::new(Exit::NeverWorks, text));
        }
        if begun.elapsed() > EVIDENCE {
            return Err(Failure::new(Exit::TryAgain, said));
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Asks in a transaction that can change nothing.
async fn ask(evidence: &Evidence, secrets: &SecretStore) -> Result<bool, Error> {
    let (connection, namespace) = &evidence.connection;
    let server = Server::resolve(&evidence.server, connection, namespace, secrets).await?;
    let login = &evidence.entrance.login;
    let password = secrets.password(&login.password.secret, &login.password.key).await?;
    let database = &evidence.entrance.name;
    let session =
        Session::open(&server, &login.role, Some(&password), database, "rollcall evidence", EVIDENCE).await;
    let mut session = session?;
    session.execute("BEGIN READ ONLY").await?;
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar(AssertSqlSafe(evidence.sql.clone())).persistent(false);
    let shown: Option<bool> = within.judge(asked.fetch_one(connection)).await?;
    session.close().await;
    Ok(shown.unwrap_or(false))
}
