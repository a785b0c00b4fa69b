//! Whether a step runs, as a table; and that without a person's word it never runs twice.

use lifecycle::document::{Environment, OnChange, Source};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::step::spec::spec;

fn step(idempotent: bool, on_change: OnChange, evidence: bool) -> StepSpec {
    let mut document = json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-00000000000a"},
        "fragment": {"name": "base", "namespace": "dev"},
        "postgres": {"main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}}}},
        "databases": {"registry": {"server": "main", "roles": {"app": {"name": "user", "password": {"secret": "db", "key": "k"}}}}},
        "steps": {"seed": {"database": "registry", "idempotent": idempotent, "on_change": on_change}},
    });
    if evidence {
        document["steps"]["seed"]["evidence"] = json!({"database": "registry", "sql": "SELECT true"});
    }
    let source = Source { file: "a.yaml".to_owned(), document: serde_json::from_value(document).unwrap() };
    spec(&Environment::merge([source]).environment.unwrap(), "seed").unwrap()
}

fn run(state: State, inputs: &str, same_database: bool) -> Run {
    Run {
        number: 1,
        fragment: "base".to_owned(),
        accepted: false,
        state,
        hash: "h".to_owned(),
        inputs: inputs.to_owned(),
        same_database,
        by: "somebody".to_owned(),
        started: "then".to_owned(),
        exit: Some(3),
        output: String::new(),
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Done(_) => "done",
        Decision::Run => "run",
        Decision::Baseline(_) => "baseline",
        Decision::Ask(otherwise) => match **otherwise {
            Decision::Run => "ask, then run",
            _ => "ask, then refuse",
        },
        Decision::Refuse(_) => "refuse",
    }
}

#[test]
fn what_is_done_follows_from_what_is_written_down() {
    use Asked::{Again, Baseline, Nothing};
    use State::{Done, Failed, Running};
    let plain = step(false, OnChange::Refuse, false);
    let evident = step(false, OnChange::Refuse, true);
    let idempotent = step(true, OnChange::Refuse, false);
    for (spec, last, asked, wanted) in [
        (&plain, None, Nothing, "run"),
        (&evident, None, Nothing, "ask, then run"),
        (&plain, Some(run(Done, "a", true)), Nothing, "done"),
        (&plain, Some(run(State::Baseline, "a", true)), Nothing, "done"),
        (&plain, Some(run(Done, "b", true)), Nothing, "refuse"),
        (&step(false, OnChange::Ignore, false), Some(run(Done, "b", true)), Nothing, "done"),
        (&step(false, OnChange::Rerun, false), Some(run(Done, "b", true)), Nothing, "run"),
        (&plain, Some(run(Running, "a", true)), Nothing, "refuse"),
        (&evident, Some(run(Running, "a", true)), Nothing, "ask, then refuse"),
        (&idempotent, Some(run(Running, "a", true)), Nothing, "run"),
        (&plain, Some(run(Failed, "a", true)), Nothing, "refuse"),
        (&idempotent, Some(run(Failed, "a", true)), Nothing, "run"),
        // A dump that was restored holds what the step did, in another database by its oid.
        (&plain, Some(run(Done, "a", false)), Nothing, "refuse"),
        (&evident, Some(run(Done, "a", false)), Nothing, "ask, then run"),
        (&plain, Some(run(Running, "a", true)), Again, "run"),
        (&plain, Some(run(Done, "a", true)), Again, "run"),
        (&plain, Some(run(Failed, "a", true)), Baseline, "baseline"),
        (&plain, Some(run(Done, "b", true)), Baseline, "baseline"),
        (&plain, Some(run(Done, "a", true)), Baseline, "done"),
        (&plain, None, Baseline, "baseline"),
    ] {
        let decision = decide(spec, Written::of(last.as_ref(), false), "a", asked);
        assert_eq!(word(&decision), wanted, "{last:?} {asked:?}: {decision:?}");
        if let Decision::Refuse(text) = decision {
            assert!(text.contains("--again") && text.contains("--baseline"), "{text}");
        }
    }
}

#[test]
fn what_may_be_older_than_the_ledger_is_asked_for_or_decided_by_a_person() {
    use Asked::{Again, Baseline, Nothing};
    let plain = step(false, OnChange::Rerun, false);
    for (spec, asked, wanted) in [
        (&plain, Nothing, "refuse"),
        (&step(false, OnChange::Refuse, true), Nothing, "ask, then run"),
        (&step(true, OnChange::Refuse, false), Nothing, "run"),
        (&plain, Again, "run"),
        (&plain, Baseline, "baseline"),
    ] {
        let decision = decide(spec, Written::of(None, true), "a", asked);
        assert_eq!(word(&decision), wanted, "{asked:?}: {decision:?}");
        if let Decision::Refuse(text) = decision {
            for needle in
                ["database `registry` was taken over or restored", "--again", "--baseline", "`evidence`"]
            {
                assert!(text.contains(needle), "{text}");
            }
        }
    }
    // What is written down is what counts.
    let done = run(State::Done, "a", true);
    assert_eq!(word(&decide(&plain, Written::of(Some(&done), true), "a", Nothing)), "done");
}

proptest! {
    #[test]
    fn without_a_word_from_anybody_it_runs_once(
        state in 0usize..4, other in any::<bool>(), same in any::<bool>(), evidence in any::<bool>()
    ) {
        let state = [State::Running, State::Failed, State::Done, State::Baseline][state];
        let spec = step(false, OnChange::Refuse, evidence);
        let last = run(state, if other { "b" } else { "a" }, same);
        let decision = decide(&spec, Written::Last(&last), "a", Asked::Nothing);
        // Only a person's document (evidence) may say of another database that nothing was done to it.
        prop_assert!(decision != Decision::Run);
        prop_assert!(same || evidence || matches!(decision, Decision::Refuse(_)));
        // What was just written down as done is done.
        let next = run(State::Done, "a", true);
        prop_assert!(matches!(decide(&spec, Written::Last(&next), "a", Asked::Nothing), Decision::Done(_)));
    }
}

#[test]
fn what_another_fragment_ran_is_no_answer_unless_a_person_says_so() {
    let step = step(true, OnChange::Rerun, true);
    let declared = StepSpec { others: ["theirs".to_owned()].into(), ..step.clone() };
    for state in [State::Running, State::Failed, State::Done, State::Baseline] {
        let theirs = Run { fragment: "theirs".to_owned(), ..run(state, "i", true) };
        let accepted = Run { accepted: true, ..theirs.clone() };
        for (step, theirs) in [(&declared, &theirs), (&step, &accepted)] {
            let Decision::Refuse(why) = decide(step, Written::Last(theirs), "i", Asked::Nothing) else {
                panic!("{state:?} is an answer")
            };
            assert!(
                why.contains("fragment `theirs`") && why.contains("postgres-init step seed --baseline"),
                "{why}"
            );
        }
        // It moved, and nobody else declares it.
        let decision = decide(&step, Written::Last(&theirs), "i", Asked::Nothing);
        match decision {
            Decision::Done(why) => {
                assert!(
                    state.is_done() && why.ends_with("by fragment `theirs`, which nobody declares any more"),
                    "{why}"
                );
            }
            other => assert!(!state.is_done() && other == Decision::Run, "{other:?}"),
        }
    }
    let theirs = Run { fragment: "theirs".to_owned(), ..run(State::Done, "i", true) };
    assert_eq!(decide(&step, Written::Last(&theirs), "i", Asked::Again), Decision::Run);
    assert!(matches!(decide(&step, Written::Last(&theirs), "i", Asked::Baseline), Decision::Baseline(_)));
}
