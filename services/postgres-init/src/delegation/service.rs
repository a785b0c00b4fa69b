//! The gRPC service that modules ask: `rollcall.provisioning.v1.Delegation`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chassis::converge::Standing;
use chassis::grpc::{Callers, Writer};
use chassis::shutdown::Shutdown;
use chassis::wire::Fragment;
use futures_util::Stream;
use lifecycle::Component;
use lifecycle::document::Document;
use rollcall_proto::lifecycle::v1 as wire;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::delegation_server::{Delegation, DelegationServer};
use rollcall_proto::provisioning::v1::provision_response::Update;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

use super::accepted::Accepted;
use super::believed::Believed;
use super::door::{Admitted, Door};
use super::judge::Denied;
use super::part::part;
use super::rights;
use super::settle::{Listener, TAKES, settle};
use super::step::Call;
use crate::scram::Verifier;
use crate::spec::ServerSpec;
use crate::world::PostgresTarget;

/// A document that is larger, in bytes, is refused: it is kept.
const LARGE: usize = 256 * 1024;
/// More verifiers in one request are refused.
const MANY: usize = 256;
/// A longer name is no role's, in bytes.
const ROLE: usize = 63;
/// A message that is larger, in bytes, is not read: a document with its verifiers is not.
const MESSAGE: usize = 2 * LARGE;
/// The length of the hash of what goes into a step: SHA-256 in hexadecimal digits.
const INPUTS: usize = 64;
/// So many fragments are worked on side by side; the others take turns with them.
const AT_ONCE: usize = 4;
/// So many steps may be claimed at once: each holds a session in database `rollcall`.
const STEPS: usize = 32;
/// Whom no rule names any more has so long to say which run goes on.
const BEGINS: Duration = Duration::from_secs(5);
/// So many responses wait for whoever asked.
const QUEUE: usize = 64;

/// Answers modules.
pub(crate) struct DelegationService {
    accepted: Arc<Accepted>,
    working: Arc<Semaphore>,
    steps: Arc<Semaphore>,
    shutdown: Shutdown,
}

/// Responses to one call.
type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn responses<T: Send + 'static>(mut receiver: mpsc::Receiver<Result<T, Status>>) -> Responses<T> {
    Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

impl DelegationService {
    /// Answers whom `callers` knows; without any only loopback.
    pub(crate) fn server(
        accepted: Arc<Accepted>,
        callers: Option<Callers>,
        shutdown: Shutdown,
    ) -> Door<DelegationServer<Self>> {
        let mounted = accepted.mounted().clone();
        let service = DelegationServer::new(DelegationService {
            accepted,
            working: Arc::new(Semaphore::new(AT_ONCE)),
            steps: Arc::new(Semaphore::new(STEPS)),
            shutdown,
        });
        Door::new(service.max_decoding_message_size(MESSAGE), callers, mounted)
    }

    /// A fragment that is asked for, where `writer` may speak for its namespace.
    fn own(&self, writer: &Writer, fragment: Option<wire::Fragment>) -> Result<Document, Status> {
        let invalid =
            |error: chassis::wire::WireError| Status::invalid_argument(format!("fragment: {error}"));
        let fragment = fragment.ok_or_else(|| Status::invalid_argument("fragment is missing"))?;
        if fragment.document.len() > LARGE {
            return Err(Status::invalid_argument(format!(
                "fragment: its document is longer than {LARGE} bytes"
            )));
        }
        let document =
            Fragment::try_from(fragment).and_then(|fragment| fragment.document()).map_err(invalid)?;
        let (name, namespace) = (&document.fragment.name, &document.fragment.namespace);
        if let Some(why) = writer.refused(&format!("fragment `{name}`"), Some(namespace)) {
            return Err(Status::permission_denied(why));
        }
        let identity = self.accepted.mounted().identity();
        if document.environment != *identity {
            return Err(Status::permission_denied(format!(
                "fragment `{name}` is of environment `{}` ({}), and this service looks after `{}` ({})",
                document.environment.name, document.environment.uid, identity.name, identity.uid
            )));
        }
        Ok(part(&document, |_| true))
    }

    /// The same, where rules let the writer ask for it.
    fn document(&self, writer: &Writer, fragment: Option<wire::Fragment>) -> Result<Document, Status> {
        let asked = self.own(writer, fragment)?;
        let mounted = self.accepted.mounted();
        match writer.identity().and_then(|caller| rights::refused_account(mounted, &asked, caller)) {
            Some(why) => Err(Status::permission_denied(why)),
            None => Ok(asked),
        }
    }
}

/// Who was let in with a call. Without anybody it did not come through the door.
fn admitted(extensions: &mut tonic::Extensions) -> Result<Admitted, Status> {
    extensions.remove::<Admitted>().ok_or_else(|| Status::internal("nobody looked who calls"))
}

pub(super) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::Never(why) => Status::permission_denied(why),
        Denied::Clash(why) => Status::failed_precondition(why),
        Denied::Later(why) => Status::unavailable(why),
    }
}

/// Who asks, for people: the service account where one is known, and what it calls itself.
pub(super) fn by(writer: &Writer, source: &str) -> String {
    let source: String = source.chars().filter(|c| !c.is_control()).take(128).collect();
    match writer {
        Writer::Here => source,
        Writer::Home(identity) | Writer::Tenant(identity) => {
            format!("{source} ({}/{})", identity.namespace, identity.account)
        }
    }
}

fn verifiers(given: Vec<pb::RoleVerifier>) -> Result<Vec<(String, Verifier)>, Status> {
    if given.len() > MANY {
        return Err(Status::invalid_argument(format!(
            "{} verifiers at once; {MANY} is the limit",
            given.len()
        )));
    }
    if given.iter().any(|one| one.role.len() > ROLE) {
        return Err(Status::invalid_argument(format!("verifiers: a role's name has at most {ROLE} bytes")));
    }
    let parse = |one: pb::RoleVerifier| {
        let verifier = Verifier::parse(one.verifier).ok_or_else(|| {
            Status::invalid_argument(format!(
                "verifiers: that of role `{}` is no SCRAM-SHA-256 verifier",
                one.role
            ))
        })?;
        Ok((one.role, verifier))
    };
    given.into_iter().map(parse).collect()
}

#[tonic::async_trait]
impl Delegation for DelegationService {
    type ProvisionStream = Responses<pb::ProvisionResponse>;
    type RunStepStream = Responses<pb::RunStepResponse>;

    async fn provision(
        &self,
        request: Request<pb::ProvisionRequest>,
    ) -> Result<Response<Self::ProvisionStream>, Status> {
        let (_, mut extensions, message) = request.into_parts();
        let Admitted { writer, place, .. } = admitted(&mut extensions)?;
        let asked = self.document(&writer, message.fragment)?;
        let verifiers = verifiers(message.verifiers)?;
        if asked.databases.is_empty() && asked.roles.is_empty() {
            return Err(Status::invalid_argument(format!(
                "fragment `{}` declares no database or role on a server under `uses.postgres`, so there is nothing to make",
                asked.fragment.name
            )));
        }
        let by = by(&writer, &message.source);
        let environment = self.accepted.accept(&asked, &by, writer.identity()).await.map_err(denied)?;
        let (listener, receiver) = mpsc::channel(QUEUE);
        let targets = self.accepted.targets(&environment, &asked.fragment.name);
        let (accepted, working) = (Arc::clone(&self.accepted), Arc::clone(&self.working));
        let (shutdown, believed) = (self.shutdown.clone(), Believed::of(&writer));
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = work(&accepted, targets, &asked, &verifiers, &working, &listener) => ended,
                // What is made is idempotent, so it may be cut anywhere.
                over = believed.ends() => Err(over),
                () = shutdown.requested() => Err(leaves()),
            };
            // Nobody may be listening any more.
            let _ = listener.send_timeout(ended, TAKES).await;
            drop(place);
        });
        Ok(Response::new(responses(receiver)))
    }

    async fn run_step(
        &self,
        request: Request<Streaming<pb::RunStepRequest>>,
    ) -> Result<Response<Self::RunStepStream>, Status> {
        let (_, mut extensions, mut requests) = request.into_parts();
        let Admitted { writer, place, stranger } = admitted(&mut extensions)?;
        let first = if stranger {
            let begun = tokio::time::timeout(BEGINS, requests.message()).await;
            begun.map_err(|_| Status::deadline_exceeded("it was not begun in time"))??
        } else {
            requests.message().await?
        };
        let first = first.and_then(|message| message.request);
        let Some(pb::run_step_request::Request::Begin(mut begin)) = first else {
            return Err(Status::invalid_argument("a stream starts with `begin`"));
        };
        let fragment = begin.fragment.take();
        let asked = match begin.resumes {
            0 => self.document(&writer, fragment)?,
            // It was granted when it began.
            _ => self.own(&writer, fragment)?,
        };
        let is_hash = |text: &str| text.len() == INPUTS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A baseline stands for whatever is run later.
        let said = Some(&begin.inputs).filter(|inputs| !inputs.is_empty());
        if said.is_some_and(|inputs| !is_hash(inputs)) {
            return Err(Status::invalid_argument(format!(
                "inputs: it is no hash, which is {INPUTS} hexadecimal digits"
            )));
        }
        if !lifecycle::is_name(&begin.name) {
            return Err(Status::invalid_argument("name: it is no step's"));
        }
        if !asked.steps.contains_key(&begin.name) {
            return Err(Status::invalid_argument(format!(
                "fragment `{}` declares no step `{}` that is written down on a server under `uses.postgres`",
                asked.fragment.name, begin.name
            )));
        }
        let (listener, receiver) = mpsc::channel(QUEUE);
        let by = by(&writer, &begin.source);
        let last = listener.clone();
        let accepted = Arc::clone(&self.accepted);
        let places = Arc::clone(&self.steps);
        let call = Call { accepted, asked, begin, by, writer, requests, listener, places, place: None };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = call.answer() => {}
                () = shutdown.requested() => {
                    let _ = last.send_timeout(Err(leaves()), TAKES).await;
                }
            }
            drop(place);
        });
        Ok(Response::new(responses(receiver)))
    }
}

fn leaves() -> Status {
    Status::unavailable("this instance ends; another one answers")
}

/// Makes everything; the last response.
async fn work(
    accepted: &Accepted,
    targets: Vec<(PostgresTarget, ServerSpec)>,
    asked: &Document,
    verifiers: &[(String, Verifier)],
    turns: &Semaphore,
    listener: &Listener,
) -> Result<pb::ProvisionResponse, Status> {
    let mut unknown: BTreeMap<&str, &Verifier> =
        verifiers.iter().map(|(role, verifier)| (role.as_str(), verifier)).collect();
    for (target, spec) in targets {
        let stands = settle(&target, &spec, accepted.source(), turns, listener).await;
        if listener.is_closed() {
            return Err(Status::cancelled("nobody listens any more"));
        }
        let _turn = turns.acquire().await;
        for (role, component) in spec.delegated_logins() {
            let Some(verifier) = unknown.remove(role.as_str()) else { continue };
            if is_made(&stands, component) {
                let set = target.set_verifier(&spec, component, &role, verifier).await;
                set.map_err(|error| denied(error.into()))?;
            }
        }
    }
    if let Some(role) = unknown.keys().next() {
        return Err(Status::permission_denied(format!(
            "role `{role}` is no login role of fragment `{}`, so its password is not this fragment's to set",
            asked.fragment.name
        )));
    }
    Ok(pb::ProvisionResponse { update: Some(Update::Settled(pb::Settled {})) })
}

fn is_made(stands: &BTreeMap<Component, Standing>, component: &Component) -> bool {
    matches!(stands.get(component), Some(Standing::Ready { .. }))
}
