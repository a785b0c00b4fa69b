//! Which phase a component is in, from what the hub's own probe sees, what was said, and what instances report. Pure.
//!
//! The probe decides. What was said fills in what a probe cannot know (why something fails, which attempt it is); it
//! never makes ready what the hub could look at and did not see.

use lifecycle::{Component, Cycle, Event, Evidence, Kind, Moment, Phase};

use crate::probe::NotYet;

/// So many looks in a row must fail before something that was ready counts as degraded; one is not enough.
pub const FAILURES: u32 = 3;

/// The code of evidence for something that no fragment declares.
pub const NOBODY: &str = "NOBODY";
/// The code of evidence for members of a cycle.
pub const CYCLE: &str = "CYCLE";

/// What the hub's own looks at one thing have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The last look passed.
    pub passing: bool,
    /// A look has passed since the hub started.
    pub passed_once: bool,
    /// How many looks in a row have failed.
    pub failures: u32,
    /// The last look was not let near it, so it says nothing about it.
    pub blind: bool,
    /// What the last look saw.
    pub evidence: Evidence,
}

impl Seen {
    /// Adds a look to what was seen before.
    pub fn add(before: Option<&Seen>, look: Result<Evidence, NotYet>) -> Seen {
        let passed_once = before.is_some_and(|seen| seen.passed_once);
        match look {
            Ok(evidence) => Seen { passing: true, passed_once: true, failures: 0, blind: false, evidence },
            Err(not_yet) => Seen {
                passing: false,
                passed_once,
                failures: before.map_or(0, |seen| seen.failures).saturating_add(1),
                blind: not_yet.blind,
                evidence: not_yet.evidence(),
            },
        }
    }
}

/// What one instance of a module reported last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The phase it is in.
    pub phase: Phase,
    /// Since when.
    pub since: Moment,
    /// Why, for people.
    pub reason: String,
    /// What it waits for, and what its own probes saw.
    pub unmet: Vec<(Component, Evidence)>,
    /// Tries so far.
    pub attempts: u32,
    /// When it was heard.
    pub heard: Moment,
}

/// What is known about a component.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Which.
    pub component: &'a Component,
    /// A fragment declares it.
    pub declared: bool,
    /// The cycle it is a member of.
    pub cycle: Option<&'a Cycle>,
    /// Why the hub cannot look; none when it can.
    pub unobservable: Option<&'a str>,
    /// What its looks saw; none before the first.
    pub seen: Option<&'a Seen>,
    /// What was said last.
    pub said: Option<&'a Event>,
    /// It was said by whoever has to know, about the current bring-up: only then was what it calls ready ready.
    pub said_by_maker: bool,
    /// What an instance reported last (modules only).
    pub instance: Option<&'a Instance>,
}

/// Which phase, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The phase; none when nothing is known.
    pub phase: Option<Phase>,
    /// Why, for people.
    pub reason: String,
    /// What was seen.
    pub evidence: Evidence,
    /// The phase rests on the hub's own looks, or the hub is able to look.
    pub observable: bool,
}

/// Whether `phase` means that it has been ready.
fn was_ready(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Degraded)
}

/// Decides.
pub fn decide(known: Known<'_>) -> Verdict {
    let said_phase = known.said.map(|event| event.phase);
    let said_reason = known.said.map(|event| event.reason.clone()).unwrap_or_default();
    if !known.declared {
        let reason = crate::definition::nobody(known.component);
        let evidence =
            Evidence { error: reason.clone(), error_code: NOBODY.to_owned(), ..Evidence::default() };
        return Verdict { phase: None, reason, evidence, observable: false };
    }
    if let Some(cycle) = known.cycle {
        let reason = cycle.to_string();
        let evidence =
            Evidence { error: reason.clone(), error_code: CYCLE.to_owned(), ..Evidence::default() };
        return Verdict { phase: Some(Phase::Failed), reason, evidence, observable: true };
    }
    let (told_phase, told_reason) = match known.instance {
        // An instance that calls itself ready works; whether it is ready, looks decide.
        Some(instance) if was_ready(instance.phase) => (Some(Phase::Working), instance.reason.clone()),
        Some(instance) => (Some(instance.phase), instance.reason.clone()),
        None if made_by_others(known.component.kind()) => (said_phase, said_reason),
        // The hub's own earlier words: that it failed or was removed was true of other documents.
        None => {
            let counts = |phase: &Phase| match phase {
                Phase::Failed | Phase::Removed => false,
                phase => known.said_by_maker || !was_ready(*phase),
            };
            (said_phase.filter(counts), said_reason)
        }
    };
    let told_evidence = known.said.map(|event| event.evidence.clone()).unwrap_or_default();
    if let Some(why) = known.unobservable {
        let reason = if told_reason.is_empty() { why.to_owned() } else { told_reason };
        return Verdict { phase: told_phase, reason, evidence: told_evidence, observable: false };
    }
    let Some(seen) = known.seen else {
        // What was said to be ready is not known to be before it was looked at.
        let phase = told_phase.filter(|phase| !was_ready(*phase));
        let reason = if phase.is_none() { "not looked at yet".to_owned() } else { told_reason };
        return Verdict { phase, reason, evidence: told_evidence, observable: true };
    };
    if seen.blind {
        let reason = if told_reason.is_empty() { seen.evidence.error.clone() } else { told_reason };
        return Verdict { phase: told_phase, reason, evidence: seen.evidence.clone(), observable: false };
    }
    let (phase, reason) = if seen.passing {
        (Some(Phase::Ready), String::new())
    } else {
        failing(known, seen, told_phase, told_reason)
    };
    Verdict { phase, reason, evidence: seen.evidence.clone(), observable: true }
}

/// The phase of something whose last look failed.
fn failing(
    known: Known<'_>,
    seen: &Seen,
    told: Option<Phase>,
    told_reason: String,
) -> (Option<Phase>, String) {
    let said = known.said.map(|event| event.phase);
    let error = seen.evidence.error.clone();
    match said {
        // Whoever makes it says more than a failed look.
        Some(Phase::Removed | Phase::Failed | Phase::Waiting | Phase::Working)
            if made_by_others(known.component.kind()) =>
        {
            (said, told_reason)
        }
        _ if seen.passed_once && seen.failures < FAILURES => (Some(Phase::Ready), error),
        // Just made: a look that had begun before is no reason to call it degraded.
        Some(Phase::Ready) if made_by_others(known.component.kind()) && seen.failures < FAILURES => {
            (Some(Phase::Working), error)
        }
        _ if seen.passed_once || (known.said_by_maker && said.is_some_and(was_ready)) => {
            (Some(Phase::Degraded), error)
        }
        _ => match known.component.kind() {
            Kind::Module => (told, told_reason),
            kind if made_by_others(kind) => (told, if told_reason.is_empty() { error } else { told_reason }),
            // A server or endpoint that was never seen well: it is starting.
            _ => (Some(Phase::Working), error),
        },
    }
}

/// Things that a provisioner makes: it says first that they are ready, and the hub keeps them ready or degraded.
pub fn made_by_others(kind: Kind) -> bool {
    !matches!(kind, Kind::Module | Kind::Postgres | Kind::Kafka | Kind::Endpoint)
}

/// Whether the hub may say this phase of a component. `said` is what was said last: of what others make, saying the same
/// again would only put the hub's time in place of theirs.
pub fn may_say(kind: Kind, phase: Phase, said: Option<Phase>) -> bool {
    !made_by_others(kind) || (was_ready(phase) && said.is_some_and(|said| was_ready(said) && said != phase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::State;

    fn component(kind: Kind) -> Component {
        Component::new(kind, "x").in_namespace("dev")
    }

    fn said(component: &Component, phase: Phase) -> Event {
        Event {
            environment: uuid::Uuid::nil(),
            component: component.clone(),
            phase,
            since: Moment(1),
            generation: 1,
            evidence: Evidence::default(),
            reason: "said so".to_owned(),
            attempts: 0,
            source: "x/1".to_owned(),
            time: Moment(1),
        }
    }

    fn looks(outcomes: &[bool]) -> Option<Seen> {
        let mut seen = None;
        for passes in outcomes {
            let look =
                if *passes { Ok(Evidence::level("ok")) } else { Err(NotYet::new(State::Refused, "no")) };
            seen = Some(Seen::add(seen.as_ref(), look));
        }
        seen
    }

    fn phase(kind: Kind, outcomes: &[bool], word: Option<Phase>, report: Option<Phase>) -> Option<Phase> {
        let component = component(kind);
        let (seen, event) = (looks(outcomes), word.map(|phase| said(&component, phase)));
        let instance = report.map(|phase| Instance {
            phase,
            since: Moment(1),
            reason: "waits".to_owned(),
            unmet: Vec::new(),
            attempts: 0,
            heard: Moment(1),
        });
        let known = Known {
            component: &component,
            declared: true,
            cycle: None,
            unobservable: None,
            seen: seen.as_ref(),
            said: event.as_ref(),
            said_by_maker: true,
            instance: instance.as_ref(),
        };
        decide(known).phase
    }

    #[test]
    fn a_modules_phase_follows_its_looks_and_before_those_its_instances() {
        use Phase::{Degraded, Failed, Ready, Waiting, Working};
        for (outcomes, word, report, wanted) in [
            (&[][..], None, None, None),
            (&[], None, Some(Waiting), Some(Waiting)),
            (&[false], None, Some(Waiting), Some(Waiting)),
            (&[false], None, Some(Working), Some(Working)),
            (&[false], None, Some(Failed), Some(Failed)),
            (&[true], None, Some(Waiting), Some(Ready)),
            (&[true, false], None, None, Some(Ready)),
            (&[true, false, false], None, None, Some(Ready)),
            (&[true, false, false, false], None, None, Some(Degraded)),
            (&[true, false, false, false, true], None, None, Some(Ready)),
            (&[true, false, false, true, false, false], None, None, Some(Ready)),
            // After a restart of the hub: what was ready before counts only once it is seen.
            (&[], Some(Ready), None, None),
            (&[false], Some(Ready), None, Some(Degraded)),
            (&[false], Some(Degraded), Some(Waiting), Some(Degraded)),
            (&[true], Some(Degraded), None, Some(Ready)),
        ] {
            assert_eq!(
                phase(Kind::Module, outcomes, word, report),
                wanted,
                "{outcomes:?} {word:?} {report:?}"
            );
        }
    }

    #[test]
    fn what_a_provisioner_says_explains_a_failing_look() {
        use Phase::{Degraded, Failed, Ready, Removed, Waiting, Working};
        for (outcomes, word, wanted) in [
            (&[false][..], None, None),
            (&[false], Some(Waiting), Some(Waiting)),
            (&[false], Some(Failed), Some(Failed)),
            (&[true], Some(Failed), Some(Ready)),
            (&[false, false], Some(Ready), Some(Working)),
            (&[false, false, false], Some(Ready), Some(Degraded)),
            (&[true, false, false, false], Some(Ready), Some(Degraded)),
            (&[true, false, false, false], Some(Removed), Some(Removed)),
            (&[], Some(Working), Some(Working)),
        ] {
            assert_eq!(phase(Kind::Database, outcomes, word, None), wanted, "{outcomes:?} {word:?}");
        }
        assert_eq!(phase(Kind::Kafka, &[false], None, None), Some(Working));
    }

    #[test]
    fn a_look_that_was_not_let_near_says_nothing() {
        let component = component(Kind::Database);
        let passed = Seen::add(None, Ok(Evidence::level("provisioned")));
        let seen = (0..FAILURES).fold(passed, |seen, _| {
            Seen::add(Some(&seen), Err(NotYet::new(State::Denied, "wrong password").blind()))
        });
        let word = said(&component, Phase::Ready);
        let known = Known {
            component: &component,
            declared: true,
            cycle: None,
            unobservable: None,
            seen: Some(&seen),
            said: Some(&word),
            said_by_maker: true,
            instance: None,
        };
        let verdict = decide(known);
        assert_eq!(
            (verdict.phase, verdict.observable),
            (Some(Phase::Ready), false),
            "neither degraded nor seen ready"
        );
        assert_eq!(verdict.evidence.error, "denied: wrong password");
    }

    #[test]
    fn the_hub_says_only_what_is_its_to_say() {
        use Phase::{Degraded, Ready, Waiting, Working};
        for (kind, phase, word, may) in [
            (Kind::Module, Waiting, None, true),
            (Kind::Kafka, Ready, None, true),
            (Kind::Database, Ready, None, false),
            (Kind::Database, Ready, Some(Working), false),
            (Kind::Database, Ready, Some(Ready), false),
            (Kind::Database, Degraded, Some(Ready), true),
            (Kind::Topic, Ready, Some(Degraded), true),
            (Kind::Secret, Working, Some(Ready), false),
        ] {
            assert_eq!(may_say(kind, phase, word), may, "{kind} {phase} {word:?}");
        }
    }

    proptest! {
        /// The rule of the whole system: only an own look that passed makes something ready that the hub can look at.
        #[test]
        fn nothing_that_is_said_makes_ready(
            kind in 0..Kind::ALL.len(),
            outcomes in prop::collection::vec(any::<bool>(), 0..8),
            word in prop::option::of(0..Phase::ALL.len()),
            report in prop::option::of(0..Phase::ALL.len()),
        ) {
            let decided = phase(Kind::ALL[kind], &outcomes, word.map(|i| Phase::ALL[i]), report.map(|i| Phase::ALL[i]));
            if decided == Some(Phase::Ready) {
                prop_assert!(outcomes.iter().rev().take(FAILURES as usize).any(|passed| *passed));
            }
            if outcomes.last() == Some(&true) {
                prop_assert_eq!(decided, Some(Phase::Ready));
            }
        }
    }
}
