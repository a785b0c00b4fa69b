//! Makes what one fragment asked for, and tells whoever asked how it goes until nothing is open any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::clock;
use chassis::converge::{Fault, Note, Reconcile, Standing, Told, converge};
use chassis::exit::chain;
use chassis::wire::ComponentState;
use lifecycle::{Component, Evidence, Phase};
use rollcall_proto::diagnostics::v1::PlanLine;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::provision_response::Update;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::judge::Denied;
use crate::plan::Step;
use crate::spec::ServerSpec;
use crate::world::PostgresTarget;

/// Looks that must agree before a refusal of all is believed.
const CONVINCED: u32 = 3;

/// Whoever takes no response for so long is taken to be gone.
pub(super) const TAKES: Duration = Duration::from_secs(10);

/// What a response is told to.
pub(super) type Listener = Sender<Result<pb::ProvisionResponse, Status>>;

/// Works on one server, in passes that take turns with those of others, until nothing that was asked for is open, or nobody listens any more. How each component stands then.
pub(super) async fn settle(
    target: &PostgresTarget,
    spec: &ServerSpec,
    source: &str,
    turns: &Semaphore,
    listener: &Listener,
) -> BTreeMap<Component, Standing> {
    let asked: BTreeSet<Component> = PostgresTarget::components(spec).into_iter().collect();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut said: BTreeMap<Component, (Phase, String)> = BTreeMap::new();
    let mut hopeless = 0;
    loop {
        let seen = Mutex::new(BTreeMap::new());
        let hear = |told: Told<'_, Step>| match told {
            Told::Step(step) => {
                let line = PlanLine { component: step.component.to_string(), text: step.to_string() };
                // Whoever does not read fast enough hears how it stands all the same.
                let _ = listener.try_send(Ok(pb::ProvisionResponse { update: Some(Update::Line(line)) }));
            }
            Told::Standing(component, standing) => {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(component, standing);
            }
            Told::Drift(_) | Told::Tried(..) => {}
        };
        let turn = tokio::select! {
            turn = turns.acquire() => turn,
            () = listener.closed() => return BTreeMap::new(),
        };
        let made = converge(target, spec, &spec.component, &hear).await;
        drop(turn);
        let mut stands = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(()) => hopeless = 0,
            Err(error) => {
                let (said, code) = (chain(&error), error.code());
                hopeless = if matches!(Denied::from(error), Denied::Never(_)) { hopeless + 1 } else { 0 };
                let never = hopeless >= CONVINCED;
                for component in asked
                    .iter()
                    .filter(|component| !stands.contains_key(*component))
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    let standing = if never {
                        Standing::Failed { error: said.clone(), code: code.clone(), transient: false }
                    } else {
                        Standing::Pending(Note::new(&component, said.clone()))
                    };
                    stands.insert(component, standing);
                }
            }
        }
        for (component, standing) in &stands {
            let (phase, reason, evidence) = told(standing);
            if said.get(component) != Some(&(phase, reason.clone())) {
                said.insert(component.clone(), (phase, reason.clone()));
                let state = state(component, phase, reason, evidence, source);
                if listener.send_timeout(Ok(state), TAKES).await.is_err() {
                    return stands;
                }
            }
        }
        // The server's own part is its own documents' business, but nothing is made without it.
        let open = |component: &&Component| stands.get(*component).is_none_or(is_open);
        let waits =
            asked.iter().filter(|component| **component != spec.component).any(|component| open(&component));
        if !waits || listener.is_closed() {
            return stands;
        }
        // Nothing is held meanwhile that others could need.
        target.rest();
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = listener.closed() => return stands,
        }
    }
}

fn is_open(standing: &Standing) -> bool {
    matches!(standing, Standing::Pending(_) | Standing::Failed { transient: true, .. })
}

fn told(standing: &Standing) -> (Phase, String, Evidence) {
    match standing {
        Standing::Ready { evidence, .. } => (Phase::Ready, String::new(), evidence.clone()),
        Standing::Pending(note) => (Phase::Waiting, note.text.clone(), Evidence::default()),
        Standing::Reported(text) => (Phase::Waiting, text.clone(), Evidence::default()),
        Standing::Refused(text) => (Phase::Failed, text.clone(), Evidence::default()),
        Standing::Failed { error, code, transient } => {
            let evidence = Evidence { error: error.clone(), error_code: code.clone(), ..Evidence::default() };
            (if *transient { Phase::Working } else { Phase::Failed }, error.clone(), evidence)
        }
    }
}

fn state(
    component: &Component,
    phase: Phase,
    reason: String,
    evidence: Evidence,
    source: &str,
) -> pb::ProvisionResponse {
    let state = ComponentState {
        component: component.clone(),
        phase: Some(phase),
        since: clock::now(),
        generation: 0,
        evidence,
        reason,
        attempts: 0,
        source: source.to_owned(),
        event_id: None,
        observable: true,
    };
    pb::ProvisionResponse { update: Some(Update::State((&state).into())) }
}
