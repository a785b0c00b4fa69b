//! A component's state as the hub sends it, for people and for programs.

use std::time::Duration;

use chassis::wire;
use lifecycle::Phase;
use rollcall_proto::diagnostics::v1::ComponentState;
use serde_json::{Value, json};

/// The phase; none when it is one that this version does not know.
pub(crate) fn phase_of(state: &ComponentState) -> Option<Phase> {
    wire::phase_from(state.phase).ok()
}

/// How long it has been so, for people: `42s`.
pub(crate) fn age(state: &ComponentState) -> String {
    let Some(since) = state.since.as_ref().filter(|since| since.seconds > 0) else { return "-".to_owned() };
    let since = Duration::new(u64::try_from(since.seconds).unwrap_or(0), 0);
    let now = Duration::from_millis(chassis::clock::now().0);
    humantime::format_duration(Duration::from_secs(now.saturating_sub(since).as_secs()))
        .to_string()
        .replace(' ', "")
}

/// The state as JSON.
pub(crate) fn describe(state: &ComponentState) -> Value {
    let evidence = state.evidence.as_ref();
    json!({
        "component": state.component,
        "phase": phase_of(state).map_or("unknown", Phase::as_str),
        "since": state.since.as_ref().map(|t| t.seconds),
        "generation": state.generation,
        "reason": state.reason,
        "attempts": state.attempts,
        "source": state.source,
        "event": state.event_id,
        "observable": state.observable,
        "level": evidence.map(|e| e.level.clone()),
        "error": evidence.map(|e| e.error.clone()),
        "error_code": evidence.map(|e| e.error_code.clone()),
        "incarnation": evidence.map(|e| e.incarnation.clone()),
    })
}
