//! The state of one component as services tell each other over gRPC.

use lifecycle::{Component, Event, Evidence, Moment, Phase};
use rollcall_proto::diagnostics::v1 as pb;
use uuid::Uuid;

use super::{WireError, evidence, evidence_from, moment, phase, phase_from, timestamp};

/// The last known state of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentState {
    /// Which component.
    pub component: Component,
    /// Its phase; none when nobody told yet, or when it is one this version does not know.
    pub phase: Option<Phase>,
    /// When it entered the phase.
    pub since: Moment,
    /// Which bring-up this belongs to.
    pub generation: u64,
    /// What was seen.
    pub evidence: Evidence,
    /// Why, for people.
    pub reason: String,
    /// Tries so far.
    pub attempts: u32,
    /// Who said so last.
    pub source: String,
    /// The id of the event that says so; none when nobody announced it.
    pub event_id: Option<Uuid>,
    /// Whether the answering service is able to observe the component itself.
    pub observable: bool,
}

impl From<&Event> for ComponentState {
    fn from(event: &Event) -> ComponentState {
        ComponentState {
            component: event.component.clone(),
            phase: Some(event.phase),
            since: event.since,
            generation: event.generation,
            evidence: event.evidence.clone(),
            reason: event.reason.clone(),
            attempts: event.attempts,
            source: event.source.clone(),
            event_id: Some(event.id()),
            observable: true,
        }
    }
}

impl From<&ComponentState> for pb::ComponentState {
    fn from(state: &ComponentState) -> pb::ComponentState {
        pb::ComponentState {
            component: state.component.to_string(),
            phase: state.phase.map_or(0, |known| phase(known).into()),
            since: Some(timestamp(state.since)),
            generation: state.generation,
            evidence: Some(evidence(&state.evidence)),
            reason: state.reason.clone(),
            attempts: state.attempts,
            source: state.source.clone(),
            event_id: state.event_id.map(|id| id.to_string()).unwrap_or_default(),
            observable: state.observable,
        }
    }
}

impl TryFrom<pb::ComponentState> for ComponentState {
    type Error = WireError;

    fn try_from(wire: pb::ComponentState) -> Result<ComponentState, WireError> {
        let since = match &wire.since {
            None => Moment::default(),
            some => moment(some.as_ref(), "since")?,
        };
        Ok(ComponentState {
            component: wire.component.parse()?,
            phase: phase_from(wire.phase).ok(),
            since,
            generation: wire.generation,
            evidence: evidence_from(wire.evidence)?,
            reason: wire.reason,
            attempts: wire.attempts,
            source: wire.source,
            event_id: wire.event_id.parse().ok(),
            observable: wire.observable,
        })
    }
}
