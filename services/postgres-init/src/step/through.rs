//! A step whose ledger somebody else keeps: `postgres-init serve` holds the claim for as long as our stream to it lives, and the command
//! runs here.

use std::sync::{Mutex, PoisonError};

use chassis::converge::Reconcile;
use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure};
use lifecycle::document::{Document, Environment};
use lifecycle::{Component, Kind};
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::run_step_request::Request;
use rollcall_proto::provisioning::v1::run_step_response::Response;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::process::{self, Ended, Secrets};
use super::spec::{self, Evidence};
use super::{Args, evident, hide};
use crate::delegation::client::{Asker, Patience, plainly, theirs, without_made};
use crate::delegation::conviction::{Conviction, goes_on};
use crate::delegation::part::is_seen_here;
use crate::migrate::{self, MigrationTarget};
use crate::spec::logins_of;

/// A step that is asked for.
struct Through<'a> {
    asker: Asker<'a>,
    component: Component,
    document: Document,
    name: &'a str,
    inputs: String,
    wish: pb::StepWish,
    evidence: Option<Evidence>,
    /// Why the last call came to no end.
    trouble: Mutex<String>,
}

/// The two halves of a stream that lives.
struct Line {
    requests: mpsc::Sender<pb::RunStepRequest>,
    responses: Streaming<pb::RunStepResponse>,
}

/// What came of asking.
enum Answer {
    /// The command may run; the run's number.
    Granted(Box<Line>, i64),
    /// There is nothing to run, or it is written down how it ended.
    Over,
}

/// Whether these documents leave the ledger of this step to others.
pub(super) fn is_theirs(environment: &Environment, name: &str) -> bool {
    let component = Component::new(Kind::Step, name);
    let declared = environment.steps().find(|step| step.component == component);
    declared.is_some_and(|step| theirs(environment, &step.source.document).steps.contains_key(name))
}

/// Runs the step, unless it was done.
pub(super) async fn run(
    args: &Args,
    name: &str,
    inputs: String,
    environment: &Environment,
    address: &str,
    context: &Context,
) -> Result<(), Failure> {
    let component = Component::new(Kind::Step, name);
    let declared = environment.steps().find(|step| step.component == component);
    let declared = declared.ok_or_else(|| Failure::usage(format!("no document declares {component}")))?;
    let document = &declared.source.document;
    let secrets = context.secrets_of(environment)?;
    let evidence = spec::evidence(environment, document, declared.spec).map_err(Failure::usage)?;
    let wish = match (args.again, args.baseline) {
        (true, _) => pb::StepWish::Again,
        (_, true) => pb::StepWish::Baseline,
        _ => pb::StepWish::Unspecified,
    };
    let through = Through {
        asker: Asker::new(environment, address, secrets.clone(), context)?,
        document: theirs(environment, document),
        component,
        name,
        inputs,
        wish,
        evidence,
        trouble: Mutex::default(),
    };
    let seen = declared.spec.needs.iter().filter(|need| is_seen_here(document, need));
    let (migrations, objects): (Vec<Component>, Vec<Component>) = seen
        .map(|need| need.component.clone().in_namespace(&document.fragment.namespace))
        .partition(|component| component.kind() == Kind::Migration);
    let turn = async {
        through.until_there(&objects, &secrets).await?;
        through.until_migrated(&migrations, &secrets).await?;
        through.ask(0, None).await
    };
    match crate::delegation::within(context, turn).await? {
        Answer::Over => Ok(()),
        Answer::Granted(line, run) => through.execute(line, run, args, &secrets, &objects).await,
    }
}

impl Through<'_> {
    /// What only this side can see of what must be there first.
    async fn until_there(&self, objects: &[Component], secrets: &SecretStore) -> Result<(), Failure> {
        let mut patience = Patience::new();
        for object in objects {
            while let Err(error) = secrets.contents(object, &[]).await {
                patience.wait(&self.component.to_string(), &format!("{error}; {object} comes first")).await;
            }
        }
        Ok(())
    }

    /// The migrations that the module runs itself are seen in its database.
    async fn until_migrated(&self, migrations: &[Component], secrets: &SecretStore) -> Result<(), Failure> {
        let specs = migrate::specs(&without_made(self.asker.environment)).0;
        for spec in specs.iter().filter(|spec| migrations.contains(&spec.component)) {
            let target = MigrationTarget::new(secrets.only(spec.reads()), self.asker.source());
            let mut patience = Patience::new();
            loop {
                let why = match target.observe(spec).await {
                    Ok(world) if MigrationTarget::plan(spec, &world).is_settled() => break,
                    Ok(_) => "is not done yet".to_owned(),
                    Err(error) => chassis::exit::chain(&error),
                };
                let why = format!("{} comes first: {why}", spec.component);
                patience.wait(&self.component.to_string(), &why).await;
            }
        }
        Ok(())
    }

    /// Asks until there is an answer; for a run that was granted already where `resumes` is not 0, which `ended` so.
    async fn ask(&self, resumes: i64, ended: Option<&Ended>) -> Result<Answer, Failure> {
        let mut patience = Patience::new();
        let mut conviction = Conviction::new(&self.asker.context.settings);
        loop {
            let mut heard = false;
            let status = match self.once(resumes, ended, &mut heard).await {
                Ok(answer) => return answer,
                Err(status) => status,
            };
            // A command that runs is not ended because somebody refuses to hear of it.
            if resumes == 0 && conviction.is_hopeless(&status, heard, Instant::now()) {
                let text =
                    format!("{}: {} refuses it: {}", self.component, self.asker.address, status.message());
                return Err(Failure::new(Exit::NeverWorks, text));
            }
            if goes_on(&status, heard) {
                patience = Patience::new();
            }
            let why = format!("{}: {}", self.asker.address, plainly(&status));
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&why);
            patience.wait(&self.component.to_string(), &why).await;
        }
    }

    /// Asks once. `Err` when the stream came to no end, and whether anything was `heard` before.
    async fn once(
        &self,
        resumes: i64,
        ended: Option<&Ended>,
        heard: &mut bool,
    ) -> Result<Result<Answer, Failure>, Status> {
        let mut line = self.open(resumes).await?;
        let mut patience = String::new();
        loop {
            let Some(message) = line.responses.message().await? else {
                return Err(Status::unavailable("it ended without an answer"));
            };
            *heard = true;
            match message.response {
                Some(Response::Waits(waits)) if waits.why == patience => {}
                Some(Response::Waits(waits)) => {
                    info!(component = %self.component, "waits: {}", waits.why);
                    patience = waits.why;
                }
                Some(Response::EvidenceWanted(_)) => {
                    let shown = match &self.evidence {
                        Some(evidence) => evident(&self.component, evidence, &self.asker.secrets).await,
                        None => Ok(false),
                    };
                    let shown = match shown {
                        Ok(shown) => shown,
                        Err(failure) => return Ok(Err(failure)),
                    };
                    line.send(Request::Evidence(pb::StepEvidence { shown })).await?;
                }
                Some(Response::Granted(granted)) => match ended {
                    Some(ended) => line.finish(granted.run, ended).await?,
                    None => return Ok(Ok(Answer::Granted(Box::new(line), granted.run))),
                },
                Some(Response::Done(done)) => {
                    info!(component = %self.component, "{}", done.why);
                    return Ok(Ok(Answer::Over));
                }
                Some(Response::Refused(refused)) => {
                    return Ok(Err(Failure::new(Exit::NeverWorks, refused.why)));
                }
                Some(Response::Recorded(_)) => return Ok(Ok(Answer::Over)),
                // A newer server says more.
                None => {}
            }
        }
    }

    async fn open(&self, resumes: i64) -> Result<Line, Status> {
        let fragment = chassis::wire::Fragment::try_from(&self.document)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let begin = pb::BeginStep {
            fragment: Some((&fragment).into()),
            name: self.name.to_owned(),
            inputs: self.inputs.clone(),
            wish: self.wish.into(),
            source: self.asker.source(),
            resumes,
        };
        let (requests, mut waiting) = mpsc::channel(4);
        let sent = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
        let line = Line { requests, responses: self.stream(sent, begin).await? };
        Ok(line)
    }

    async fn stream(
        &self,
        sent: impl futures_util::Stream<Item = pb::RunStepRequest> + Send + 'static,
        begin: pb::BeginStep,
    ) -> Result<Streaming<pb::RunStepResponse>, Status> {
        use futures_util::StreamExt;
        let first = pb::RunStepRequest { request: Some(Request::Begin(begin)) };
        let sent = futures_util::stream::once(std::future::ready(first)).chain(sent);
        Ok(self.asker.stub().run_step(self.asker.request(sent).await).await?.into_inner())
    }

    /// Runs the command while the claim is watched, and has written down how it ended.
    async fn execute(
        &self,
        mut line: Box<Line>,
        run: i64,
        args: &Args,
        secrets: &SecretStore,
        objects: &[Component],
    ) -> Result<(), Failure> {
        let component = &self.component;
        let mut reads = objects.to_vec();
        reads.extend(self.evidence.iter().map(|evidence| evidence.entrance.login.password.secret.clone()));
        let mut hidden = hide(component, &args.secret_env, &reads, secrets).await;
        for server in self.document.uses.postgres.keys() {
            for (_, login, _) in logins_of(self.asker.environment, &self.document.fragment.name, server) {
                // One that cannot be read here the command has from its variables, if at all.
                if let Ok(value) = secrets.read(&login.password.secret, &login.password.key).await {
                    hidden.add(value.expose_text().unwrap_or_default());
                }
            }
        }
        info!(%component, run, "running {}", hidden.hide(&args.command.join(" ")));
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = started(args, &hidden) => ended,
            failure = self.watch(&mut line, run) => return Err(failure),
        };
        // Over the stream that holds the claim or, where that is lost, over a new one.
        let written = async {
            if line.finish(run, &ended).await.is_ok() && line.recorded().await {
                return Ok(());
            }
            self.ask(run, Some(&ended)).await.map(drop)
        };
        let within = super::write_within(&ended);
        let Ok(written) = tokio::time::timeout(within, written).await else {
            let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let text = format!(
                "{component}: the command {}, and that could not be written down within {within:?} ({trouble}); the next run will ask a person",
                super::how(&ended)
            );
            return Err(Failure::new(Exit::TryAgain, text));
        };
        written?;
        super::outcome(component, run, begun, &ended)
    }

    /// Holds the claim while the command runs. Ends only when it is lost for good.
    async fn watch(&self, line: &mut Line, run: i64) -> Failure {
        loop {
            if let Ok(Some(_)) = line.responses.message().await {
                continue;
            }
            warn!(component = %self.component, run, "the stream that holds its claim is lost; it is taken again");
            match self.ask(run, None).await {
                Ok(Answer::Granted(again, _)) => {
                    warn!(component = %self.component, run, "the claim is held again");
                    *line = *again;
                }
                Ok(Answer::Over) => return super::lost(&self.component, run),
                Err(failure) => {
                    let lost = super::lost(&self.component, run);
                    return Failure::new(lost.exit, format!("{lost}: {failure}"));
                }
            }
        }
    }
}

async fn started(args: &Args, hidden: &Secrets) -> Ended {
    process::run(&args.command, hidden).await.unwrap_or_else(|error| Ended {
        // It never began, so nothing is half done: what is written down says so.
        exit: Some(127),
        signal: None,
        output: format!("{} cannot be started: {error}", args.command[0]),
        stopped: false,
    })
}

impl Line {
    async fn send(&self, request: Request) -> Result<(), Status> {
        let sent = self.requests.send(pb::RunStepRequest { request: Some(request) }).await;
        sent.map_err(|_| Status::unavailable("the stream is lost"))
    }

    async fn finish(&self, run: i64, ended: &Ended) -> Result<(), Status> {
        let finish = pb::FinishStep { run, exit: ended.exit, output: ended.output.clone() };
        self.send(Request::Finish(finish)).await
    }

    /// Whether it is written down.
    async fn recorded(&mut self) -> bool {
        loop {
            match self.responses.message().await {
                Ok(Some(pb::RunStepResponse { response: Some(Response::Recorded(_)) })) => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }
}
