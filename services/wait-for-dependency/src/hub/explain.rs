//! Why a component is not ready, down to the root, in words. Pure.

use chassis::wire::ComponentState;
use lifecycle::{Component, Event, Kind, Moment, Phase, Roster, explain};

use super::decide::CYCLE;
use super::state::State;

/// An explanation: the chain, its text, and what else becomes possible when the root is mended.
#[derive(Debug)]
pub struct Explanation {
    /// From the asked component to the root, each with what it lacks.
    pub chain: Vec<(ComponentState, Option<Component>)>,
    /// The chain as one line.
    pub text: String,
    /// Others that wait for the root too.
    pub also_unblocks: Vec<Component>,
}

/// Explains a component.
pub fn explanation(state: &State, component: &Component, now: Moment) -> Explanation {
    let roster = effective(state, now);
    let links = explain(component, state.graph(), &roster);
    let mut chain: Vec<(ComponentState, Option<Component>)> =
        links.into_iter().map(|link| (state.state(&link.component, ""), link.waits_for)).collect();
    // A cycle's first member names the whole of it.
    if let Some(first) = chain.iter().position(|(link, _)| link.evidence.error_code == CYCLE) {
        chain.truncate(first + 1);
    }
    let text = chain
        .iter()
        .map(|(link, lacks)| phrase(state, link, lacks.as_ref(), now))
        .collect::<Vec<_>>()
        .join(" ← ");
    let also_unblocks = match chain.last() {
        Some((root, _)) if root.phase != Some(Phase::Ready) => state
            .graph()
            .dependants(&root.component)
            .into_iter()
            .filter(|other| chain.iter().all(|(link, _)| link.component != *other))
            .filter(|other| state.state(other, "").phase != Some(Phase::Ready))
            .collect(),
        _ => Vec::new(),
    };
    Explanation { chain, text, also_unblocks }
}

/// The phases as far as they are known here: the hub's own, and where it cannot look, what waiting modules report. What a
/// waiting module does not name as unmet, it has.
fn effective(state: &State, now: Moment) -> Roster {
    let mut roster = Roster::new();
    let mut tell = |component: &Component, phase: Phase, since: Moment| {
        let event = Event {
            environment: state.identity().uid,
            component: component.clone(),
            phase,
            since,
            generation: 0,
            evidence: lifecycle::Evidence::default(),
            reason: String::new(),
            attempts: 0,
            source: String::new(),
            time: now,
        };
        roster.hear(0, event);
    };
    for component in state.components() {
        let known = state.state(component, "");
        if let Some(phase) = known.phase {
            tell(component, phase, known.since);
        }
    }
    for module in state.components() {
        for (_, instance) in state.instances(module) {
            for need in state.graph().start_needs(module) {
                let unmet = instance.unmet.iter().any(|(component, _)| *component == need.component);
                let known = state.state(&need.component, "");
                if known.phase.is_none() && state.graph().declares(&need.component) {
                    let phase = if unmet { Phase::Working } else { Phase::Ready };
                    tell(&need.component, phase, instance.since);
                }
            }
        }
    }
    roster
}

/// One link in words.
fn phrase(state: &State, link: &ComponentState, lacks: Option<&Component>, now: Moment) -> String {
    let name = &link.component;
    if !state.graph().declares(name) {
        let refused = state.refused().join("; ");
        let refused = if refused.is_empty() { refused } else { format!("; refused were: {refused}") };
        return format!("{}{refused}", crate::definition::nobody(name));
    }
    let seconds = now.since(link.since).as_secs();
    let attempt = if link.attempts > 0 { format!(", attempt {}", link.attempts) } else { String::new() };
    let why = [&link.reason, &link.evidence.error].into_iter().find(|text| !text.is_empty()).cloned();
    let why = why.or_else(|| reported(state, name)).map(|text| format!(": {text}")).unwrap_or_default();
    match (link.phase, lacks) {
        (Some(Phase::Ready), _) => format!("{name} ready for {seconds} s"),
        (Some(Phase::Failed), _) => format!("{name} failed {seconds} s ago{attempt}{why}"),
        (Some(Phase::Removed), _) => format!("{name} removed {seconds} s ago{why}"),
        (Some(Phase::Degraded), _) => format!("{name} degraded for {seconds} s{attempt}{why}"),
        (Some(Phase::Waiting | Phase::Working), Some(lacks)) => {
            format!("{name} waits {seconds} s for {lacks}")
        }
        (Some(Phase::Waiting), None) => format!("{name} waits {seconds} s{attempt}{why}"),
        (Some(Phase::Working), None) => format!("{name} working for {seconds} s{attempt}{why}"),
        (None, Some(lacks)) => format!("{name} not heard of yet, needs {lacks}"),
        (None, None) => format!("{name} not heard of yet{why}{}", maker(name.kind())),
    }
}

/// Who is to be asked about something that nobody has said a word about.
fn maker(kind: Kind) -> String {
    let service = match kind {
        Kind::Database | Kind::Role | Kind::Migration | Kind::Step => "postgres-init",
        Kind::Topic => "topic-provisioner",
        Kind::Secret | Kind::ConfigMap | Kind::Client => "secret-syncer",
        _ => return String::new(),
    };
    format!("; {service} makes it and has said nothing: see that it runs, and its log")
}

/// What waiting modules saw of a component that nobody else tells about.
fn reported(state: &State, component: &Component) -> Option<String> {
    state.components().find_map(|module| {
        state.instances(module).find_map(|(source, instance)| {
            let (_, evidence) = instance.unmet.iter().find(|(unmet, _)| unmet == component)?;
            (!evidence.error.is_empty()).then(|| format!("{} (seen by {source})", evidence.error))
        })
    })
}
