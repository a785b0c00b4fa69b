//! The ledger of steps for modules that hold no credential of its server: the stream is the claim, and this side holds the lock.

use std::sync::Arc;
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::grpc::Writer;
use lifecycle::document::{Document, Environment};
use postgres::Session;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::run_step_request::Request;
use rollcall_proto::provisioning::v1::run_step_response::Response;
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::accepted::Accepted;
use super::believed::Believed;
use super::judge::Denied;
use super::rules;
use super::service::denied;
use super::settle::TAKES;
use crate::step::claim::{self, Left};
use crate::step::plan::{Asked, Decision, Written, anothers, decide};
use crate::step::spec::{StepSpec, spec};
use crate::world::ledger::{self, Entry, State};
use crate::world::{Error, PostgresTarget};

/// How often it is looked whether the session that holds the lock still lives.
const EVERY: Duration = Duration::from_secs(5);
/// More output, in bytes, is not written down.
const KEPT: usize = 8 * 1024;

/// What a caller is told.
pub(super) type Listener = Sender<Result<pb::RunStepResponse, Status>>;

/// One call: a fragment's step, and whoever runs it.
pub(super) struct Call {
    pub(super) accepted: Arc<Accepted>,
    pub(super) asked: Document,
    pub(super) begin: pb::BeginStep,
    pub(super) by: String,
    pub(super) writer: Writer,
    pub(super) requests: Streaming<pb::RunStepRequest>,
    pub(super) listener: Listener,
    /// How many may hold a session for it, and its own place among them.
    pub(super) places: Arc<Semaphore>,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

fn failed(error: Error) -> Status {
    denied(error.into())
}

impl Call {
    /// Answers the call to its end.
    pub(super) async fn answer(mut self) {
        let ended = if self.begin.resumes == 0 { self.run().await } else { self.resume().await };
        let last = match ended {
            Ok(Some(response)) => Ok(pb::RunStepResponse { response: Some(response) }),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        // Nobody may be listening any more.
        let _ = self.listener.send_timeout(last, TAKES).await;
    }

    /// The last response; none when the caller is gone. A token that ends meanwhile has nothing granted any more: where that is looked
    /// at, nothing is half written down.
    async fn run(&mut self) -> Result<Option<Response>, Status> {
        let believed = Believed::of(&self.writer);
        let environment = self.environment().await?;
        let spec = match spec(&environment, &self.begin.name) {
            Ok(spec) => spec,
            Err(why) => return Ok(Some(refused(why))),
        };
        let reads = spec.server.reads().into_iter().chain(spec.needs.reads()).collect();
        let secrets = self.accepted.secrets().only(reads);
        let target = PostgresTarget::new(secrets.clone()).of(self.accepted.source().to_owned());
        let Some(mut session) = self.turn(&spec, &secrets, &target, believed).await? else {
            return Ok(None);
        };
        let asked = match self.begin.wish() {
            pb::StepWish::Again => Asked::Again,
            pb::StepWish::Baseline => Asked::Baseline,
            pb::StepWish::Unspecified => Asked::Nothing,
        };
        let last = claim::last(&mut session, &spec).await.map_err(failed)?;
        if let Some(why) = last.as_ref().and_then(|run| anothers(&spec, run)) {
            return Ok(Some(refused(why)));
        }
        if last.is_none()
            && let Some(why) = self.one_too_many(&spec, &mut session).await?
        {
            return Ok(Some(refused(why)));
        }
        let older = last.is_none() && claim::older(&mut session, &spec).await.map_err(failed)?;
        let mut decision = decide(&spec, Written::of(last.as_ref(), older), &self.begin.inputs, asked);
        if let Decision::Ask(otherwise) = decision {
            let Some(shown) = self.evidence(believed).await? else { return Ok(None) };
            decision = if shown {
                Decision::Baseline("its evidence shows that it was done".to_owned())
            } else {
                *otherwise
            };
        }
        believed.still()?;
        match decision {
            Decision::Ask(_) => Err(Status::internal("evidence is asked once")),
            Decision::Done(why) => Ok(Some(done(why))),
            Decision::Refuse(why) => Ok(Some(refused(why))),
            _ if spec.report_only => {
                Ok(Some(done("mode is report; would run it, or write down that it was done".to_owned())))
            }
            Decision::Baseline(why) => {
                let entry = self.entry(&spec, State::Baseline, &why);
                ledger::add(&mut session, &spec.server, &entry).await.map_err(failed)?;
                session.close().await;
                Ok(Some(done(format!("written down as done: {why}"))))
            }
            Decision::Run => {
                let entry = self.entry(&spec, State::Running, "");
                let number = ledger::add(&mut session, &spec.server, &entry).await.map_err(failed)?;
                self.granted(session, number).await
            }
        }
    }

    /// The environment that knows the step: as it was accepted or, where the caller says something new, accepted now.
    async fn environment(&self) -> Result<Environment, Status> {
        let (fragment, name) = (&self.asked.fragment, &self.begin.name);
        let kept = self.accepted.latest().into_iter().find(|kept| kept.fragment == fragment.name);
        let known = kept.filter(|kept| kept.namespace == fragment.namespace).and_then(|kept| kept.document);
        let same = known.is_some_and(|known| {
            known.steps.contains_key(name) && known.steps.get(name) == self.asked.steps.get(name)
        });
        let joined = self.accepted.joined().borrow().clone();
        // One that was left out of the union is judged again, which tells why.
        if same && joined.sources().any(|source| source.document.fragment == *fragment) {
            return Ok(joined);
        }
        self.accepted.accept(&self.asked, &self.by, self.writer.identity()).await.map_err(denied)
    }

    /// Why a step that is not in the ledger may not come into it: names there are bounded, whatever newer documents declare.
    async fn one_too_many(&self, spec: &StepSpec, session: &mut Session) -> Result<Option<String>, Status> {
        let recorded = ledger::steps(session, &spec.server, &spec.fragment).await.map_err(failed)?;
        let (mounted, server) = (self.accepted.mounted(), spec.server.component.name());
        Ok(rules::refused_step(mounted, server, recorded, &self.asked, self.writer.identity()))
    }

    /// Waits until what the step needs is there and nobody else runs it; a session that holds its lock. None when the caller is gone.
    async fn turn(
        &mut self,
        spec: &StepSpec,
        secrets: &chassis::secret::SecretStore,
        target: &PostgresTarget,
        believed: Believed,
    ) -> Result<Option<Session>, Status> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut said = String::new();
        let mut session: Option<Session> = None;
        let mut left = Left::default();
        loop {
            let places = (&self.places, &mut self.place);
            let why = match try_turn(spec, secrets, target, &mut session, &mut left, places).await {
                Ok(Turn::Ours) => return Ok(session),
                Ok(Turn::Waits(why)) => why,
                Err(error) => match Denied::from(error) {
                    Denied::Later(why) => {
                        session = None;
                        why
                    }
                    refused => return Err(denied(refused)),
                },
            };
            if why != said {
                said.clone_from(&why);
                let waits = Response::Waits(pb::StepWaits { why });
                if self.tell(waits).await.is_none() {
                    return Ok(None);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.listener.closed() => return Ok(None),
                over = believed.ends() => return Err(over),
            }
        }
    }

    pub(super) async fn tell(&self, response: Response) -> Option<()> {
        let response = pb::RunStepResponse { response: Some(response) };
        self.listener.send_timeout(Ok(response), TAKES).await.ok()
    }

    async fn evidence(&mut self, believed: Believed) -> Result<Option<bool>, Status> {
        if self.tell(Response::EvidenceWanted(pb::EvidenceWanted {})).await.is_none() {
            return Ok(None);
        }
        let answer = tokio::select! {
            answer = self.requests.message() => answer,
            over = believed.ends() => return Err(over),
        };
        match answer {
            Ok(Some(pb::RunStepRequest { request: Some(Request::Evidence(evidence)) })) => {
                Ok(Some(evidence.shown))
            }
            Ok(Some(_)) => Err(Status::invalid_argument("the step's evidence is wanted, and nothing else")),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// The command runs where the caller is, until that one tells how it ended. It holds the lock for so long, also where it runs longer
    /// than the token that it began with: to let go of it would let another begin while it runs.
    pub(super) async fn granted(
        &mut self,
        mut session: Session,
        run: i64,
    ) -> Result<Option<Response>, Status> {
        if self.tell(Response::Granted(pb::StepGranted { run })).await.is_none() {
            return Ok(None);
        }
        let finish = loop {
            tokio::select! {
                message = self.requests.message() => match message {
                    Ok(Some(pb::RunStepRequest { request: Some(Request::Finish(finish)) })) if finish.run == run => break finish,
                    Ok(Some(_)) => return Err(Status::invalid_argument("that run was not granted here")),
                    // The claim ends with the stream; what is written down says that nobody knows how it ended.
                    Ok(None) | Err(_) => return Ok(None),
                },
                () = tokio::time::sleep(EVERY) => session
                    .execute("SELECT 1")
                    .await
                    .map_err(|error| Status::unavailable(format!("the session that holds its lock is lost: {error}")))?,
            }
        };
        let state = if finish.exit == Some(0) { State::Done } else { State::Failed };
        let cut = finish.output.floor_char_boundary(KEPT);
        let output = finish.output[..cut].replace('\0', "");
        ledger::finish(&mut session, run, state, finish.exit, &output).await.map_err(failed)?;
        session.close().await;
        Ok(Some(Response::Recorded(pb::StepRecorded {})))
    }

    fn entry<'a>(&'a self, spec: &'a StepSpec, state: State, output: &'a str) -> Entry<'a> {
        Entry {
            component: &spec.component,
            fragment: &spec.fragment,
            state,
            hash: &spec.hash,
            inputs: &self.begin.inputs,
            database: spec.database.as_deref(),
            by: &self.by,
            exit: None,
            output,
        }
    }
}

/// Whose turn it is.
enum Turn {
    Ours,
    Waits(String),
}

async fn try_turn(
    spec: &StepSpec,
    secrets: &chassis::secret::SecretStore,
    target: &PostgresTarget,
    held: &mut Option<Session>,
    left: &mut Left,
    (places, place): (&Arc<Semaphore>, &mut Option<OwnedSemaphorePermit>),
) -> Result<Turn, Error> {
    if held.is_none() {
        let uid = spec.server.environment.uid;
        if let Some((first, why)) = spec.needs.unmet(uid, secrets).await? {
            return Ok(Turn::Waits(format!("{why}; {first} comes first")));
        }
        // Whoever waits for a need takes none.
        if place.is_none() {
            let Ok(free) = Arc::clone(places).try_acquire_owned() else {
                let why =
                    "as many steps are claimed or wait for one another here as may; one of them comes first";
                return Ok(Turn::Waits(why.to_owned()));
            };
            *place = Some(free);
        }
        let mut new = target.registry(&spec.server).await?;
        let last = claim::last(&mut new, spec).await?;
        // Whose it is not does not hold its lock either.
        if let Some(why) = last.as_ref().and_then(|run| anothers(spec, run)) {
            return Err(Error::Refused(why));
        }
        *held = Some(new);
    }
    let Some(session) = held else { return Ok(Turn::Waits("there is no session".to_owned())) };
    if ledger::try_lock(session, &spec.server, &spec.component).await? {
        let last = ledger::latest(session, &spec.server, &spec.component, spec.database.as_deref()).await?;
        let Some(why) = left.waits(last.as_ref(), Instant::now()) else { return Ok(Turn::Ours) };
        ledger::unlock(session, &spec.server, &spec.component).await?;
        return Ok(Turn::Waits(why));
    }
    left.is_held();
    Ok(Turn::Waits("another instance runs it just now; its result counts for this one too".to_owned()))
}

fn done(why: String) -> Response {
    Response::Done(pb::StepDone { why })
}

pub(super) fn refused(why: String) -> Response {
    Response::Refused(pb::StepRefused { why })
}
