//! Between domain types and the wire: nothing else in Rollcall turns one into the other.
//!
//! Reading is strict per message and never more: a record this version does not understand is an error of that record.

mod record;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use lifecycle::document::Identity;
use lifecycle::{Component, ComponentError, Event, Evidence, Moment, Phase};
use prost_types::Timestamp;
use rollcall_proto::lifecycle::v1 as pb;
use uuid::Uuid;

pub use record::{BringUp, Forgotten, Fragment, News, content_type, forgotten_key, fragment_key, record_uid};
pub use state::ComponentState;

/// What is wrong with a message, and in which field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no such message.
    #[error("not a message of this kind: {0}")]
    Decode(String),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A phase that this version does not know, or none.
    #[error("phase {0} is not known to this version")]
    Phase(i32),
    /// A kind of record that this version does not know: a newer version's record.
    #[error("a kind of record that is not known to this version")]
    Kind,
    /// A component's name that is none.
    #[error("component: {0}")]
    Component(#[from] ComponentError),
    /// A uid that is none.
    #[error("{field}: `{value}` is not a UUID")]
    Uuid {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A time or duration outside what can be represented.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// The record stands under a key that is not its own.
    #[error("the record stands under the key `{found}`, its own is `{expected}`")]
    Key {
        /// The key it stands under.
        found: String,
        /// The key that it should stand under.
        expected: String,
    },
    /// The hash is not the document's.
    #[error("hash: it is not the document's SHA-256")]
    Hash,
    /// A document in a schema that this version cannot read.
    #[error("schema: this version reads v1, not `{0}`")]
    Schema(String),
    /// A document that does not read, or contradicts its envelope.
    #[error("document: {0}")]
    Document(String),
}

/// A moment on the wire.
pub fn timestamp(moment: Moment) -> Timestamp {
    let nanos = i32::try_from(moment.0 % 1_000).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: i64::try_from(moment.0 / 1_000).unwrap_or(i64::MAX), nanos }
}

/// A moment from the wire; `field` is named when it is missing or before 1970.
pub fn moment(timestamp: Option<&Timestamp>, field: &'static str) -> Result<Moment, WireError> {
    let stamp = timestamp.ok_or(WireError::Missing(field))?;
    let millis = u64::try_from(stamp.nanos / 1_000_000).ok().filter(|millis| *millis < 1_000);
    u64::try_from(stamp.seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000)?.checked_add(millis?))
        .map(Moment)
        .ok_or(WireError::Range(field))
}

/// A phase on the wire.
pub fn phase(phase: Phase) -> pb::Phase {
    match phase {
        Phase::Waiting => pb::Phase::Waiting,
        Phase::Working => pb::Phase::Working,
        Phase::Ready => pb::Phase::Ready,
        Phase::Degraded => pb::Phase::Degraded,
        Phase::Failed => pb::Phase::Failed,
        Phase::Removed => pb::Phase::Removed,
    }
}

/// A phase from the wire.
pub fn phase_from(value: i32) -> Result<Phase, WireError> {
    match pb::Phase::try_from(value) {
        Ok(pb::Phase::Waiting) => Ok(Phase::Waiting),
        Ok(pb::Phase::Working) => Ok(Phase::Working),
        Ok(pb::Phase::Ready) => Ok(Phase::Ready),
        Ok(pb::Phase::Degraded) => Ok(Phase::Degraded),
        Ok(pb::Phase::Failed) => Ok(Phase::Failed),
        Ok(pb::Phase::Removed) => Ok(Phase::Removed),
        Ok(pb::Phase::Unspecified) | Err(_) => Err(WireError::Phase(value)),
    }
}

/// Evidence on the wire.
pub fn evidence(evidence: &Evidence) -> pb::Evidence {
    pb::Evidence {
        level: evidence.level.clone(),
        incarnation: evidence.incarnation.clone(),
        latency: prost_types::Duration::try_from(evidence.latency).ok(),
        error: evidence.error.clone(),
        error_code: evidence.error_code.clone(),
    }
}

/// Evidence from the wire; none is empty evidence.
pub fn evidence_from(wire: Option<pb::Evidence>) -> Result<Evidence, WireError> {
    let Some(wire) = wire else { return Ok(Evidence::default()) };
    let latency = match wire.latency {
        None => Duration::ZERO,
        Some(latency) => latency.try_into().map_err(|_| WireError::Range("evidence.latency"))?,
    };
    Ok(Evidence {
        level: wire.level,
        incarnation: wire.incarnation,
        latency,
        error: wire.error,
        error_code: wire.error_code,
    })
}

/// An environment on the wire.
pub fn environment(identity: &Identity) -> pb::Environment {
    pb::Environment { name: identity.name.clone(), uid: identity.uid.to_string() }
}

/// An environment from the wire.
pub fn environment_from(wire: Option<&pb::Environment>) -> Result<Identity, WireError> {
    let wire = wire.ok_or(WireError::Missing("environment"))?;
    Ok(Identity { name: wire.name.clone(), uid: uuid(&wire.uid, "environment.uid")? })
}

fn uuid(text: &str, field: &'static str) -> Result<Uuid, WireError> {
    text.parse().map_err(|_| WireError::Uuid { field, value: text.to_owned() })
}

/// An event on the wire. The environment's name is for people; the event itself holds the uid.
pub fn event(event: &Event, environment_name: &str) -> pb::Event {
    pb::Event {
        id: event.id().to_string(),
        environment: Some(pb::Environment {
            name: environment_name.to_owned(),
            uid: event.environment.to_string(),
        }),
        component: event.component.to_string(),
        phase: phase(event.phase).into(),
        since: Some(timestamp(event.since)),
        generation: event.generation,
        evidence: Some(evidence(&event.evidence)),
        reason: event.reason.clone(),
        attempts: event.attempts,
        source: event.source.clone(),
        time: Some(timestamp(event.time)),
    }
}

/// An event from the wire.
pub fn event_from(wire: pb::Event) -> Result<Event, WireError> {
    Ok(Event {
        environment: environment_from(wire.environment.as_ref())?.uid,
        component: wire.component.parse::<Component>()?,
        phase: phase_from(wire.phase)?,
        since: moment(wire.since.as_ref(), "since")?,
        generation: wire.generation,
        evidence: evidence_from(wire.evidence)?,
        reason: wire.reason,
        attempts: wire.attempts,
        source: wire.source,
        time: moment(wire.time.as_ref(), "time")?,
    })
}
