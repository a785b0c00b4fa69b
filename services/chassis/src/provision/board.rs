//! How all targets of a one-shot stand together: whether anything that is still open could be made in this run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifecycle::Component;
use tokio::sync::Notify;

use crate::converge::{Awaits, Note};
use crate::exit::{Exit, Failure};

/// How one target stands after a pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// What was refused or will never work, a line each.
    refusals: Vec<String>,
    /// The components that it was said of.
    lost: BTreeSet<Component>,
    /// What is to be tried again, and what it waits for.
    pub(super) open: Vec<Note>,
}

impl Verdict {
    /// This run does not make it, and nothing is wrong with that: whatever waits for it waits for somebody else.
    pub(super) fn left(&mut self, component: Component) {
        self.lost.insert(component);
    }

    /// These components are refused or will never work.
    pub(super) fn refused(&mut self, components: impl IntoIterator<Item = Component>, why: String) {
        self.lost.extend(components);
        self.refusals.push(why);
    }

    /// Whether there is something to be tried again.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

/// How every target stands.
#[derive(Debug)]
pub(super) struct Board {
    /// None for a target that was not looked at yet.
    verdicts: Mutex<BTreeMap<Component, Option<Verdict>>>,
    /// What only somebody else makes is waited for.
    patient: bool,
    changed: Notify,
}

impl Board {
    /// A board for these targets.
    pub(super) fn new(targets: impl IntoIterator<Item = Component>, patient: bool) -> Self {
        let verdicts = targets.into_iter().map(|name| (name, None)).collect();
        Board { verdicts: Mutex::new(verdicts), patient, changed: Notify::new() }
    }

    /// A pass begins: nobody has looked yet.
    pub(super) fn begin(&self) {
        self.verdicts().values_mut().for_each(|verdict| *verdict = None);
    }

    /// A target stands so now.
    pub(super) fn stands(&self, target: &Component, verdict: Verdict) {
        self.verdicts().insert(target.clone(), Some(verdict));
        self.changed.notify_one();
    }

    /// Waits until all that is still open waits, at once or through others, for what is refused or what only somebody else
    /// makes: then no further pass of this run makes anything.
    pub(super) async fn is_stuck(&self) {
        while !is_stuck(&self.verdicts(), self.patient) {
            self.changed.notified().await;
        }
    }

    /// How the run ended. A refusal outweighs what others have yet to make: it stands however often one tries. What others
    /// have not made is a dependency that failed (69) and not hopeless (65): once they have, the next run succeeds.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        let verdicts = self.verdicts();
        let all = || verdicts.values().flatten();
        let refusals = all().flat_map(|verdict| verdict.refusals.iter().cloned());
        let (first, then): (Vec<&Note>, Vec<&Note>) =
            all().flat_map(|verdict| &verdict.open).partition(|note| note.awaits == Awaits::Others);
        let open = first.iter().chain(&then).map(|note| format!("{}: {}", note.component, note.text));
        let hint = (!first.is_empty()).then(|| {
            "have it made and run this again, or set ROLLCALL_DEADLINE to how long it is to be waited for"
                .to_owned()
        });
        let lines: Vec<String> = refusals.chain(open).chain(hint).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let refused = all().any(|verdict| !verdict.refusals.is_empty());
        let exit = if refused { Exit::NeverWorks } else { Exit::DependencyFailed };
        Err(Failure::new(exit, lines.join("\n")))
    }

    fn verdicts(&self) -> MutexGuard<'_, BTreeMap<Component, Option<Verdict>>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_stuck(verdicts: &BTreeMap<Component, Option<Verdict>>, patient: bool) -> bool {
    if verdicts.values().any(Option::is_none) {
        return false;
    }
    let all = || verdicts.values().flatten();
    let mut lost: BTreeSet<&Component> = all().flat_map(|verdict| &verdict.lost).collect();
    let mut open: Vec<&Note> = all().flat_map(|verdict| &verdict.open).collect();
    loop {
        let before = open.len();
        open.retain(|note| {
            let stuck = match &note.awaits {
                Awaits::Time => false,
                Awaits::Component(other) => lost.contains(other),
                Awaits::Others => !patient,
            };
            if stuck {
                lost.insert(&note.component);
            }
            !stuck
        });
        if open.is_empty() || open.len() == before {
            return open.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Component {
        text.parse().unwrap()
    }

    fn open(component: &str, awaits: Awaits) -> (Component, Option<Verdict>) {
        let note = Note::new(&name(component), "waits").awaiting(awaits);
        (name(component), Some(Verdict { open: vec![note], ..Verdict::default() }))
    }

    fn after(component: &str, other: &str) -> (Component, Option<Verdict>) {
        open(component, Awaits::Component(name(other)))
    }

    fn refused(component: &str) -> (Component, Option<Verdict>) {
        let mut verdict = Verdict::default();
        verdict.refused([name(component)], format!("{component}: is another's"));
        (name(component), Some(verdict))
    }

    fn reported(component: &str) -> (Component, Option<Verdict>) {
        let mut verdict = Verdict::default();
        verdict.left(name(component));
        (name(component), Some(verdict))
    }

    fn done(component: &str) -> (Component, Option<Verdict>) {
        (name(component), Some(Verdict::default()))
    }

    #[test]
    fn a_run_ends_when_all_that_is_open_waits_for_others() {
        let missing = || open("client/portal", Awaits::Others);
        let chain =
            || [missing(), after("secret/a/copy", "client/portal"), after("secret/a/url", "secret/a/copy")];
        for (stuck, verdicts) in [
            (true, vec![missing()]),
            (true, chain().to_vec()),
            (true, [&chain()[..], &[done("secret/a/x")]].concat()),
            (true, vec![refused("secret/a/x"), after("secret/a/copy", "secret/a/x")]),
            (true, vec![reported("secret/a/x"), after("secret/a/copy", "secret/a/x")]),
            // Each of these can still be made: the rest comes first.
            (false, [&chain()[..], &[open("secret/a/x", Awaits::Time)]].concat()),
            (false, [&chain()[..], &[(name("secret/a/x"), None)]].concat()),
            (false, vec![after("secret/a/copy", "secret/a/x"), done("secret/a/x")]),
            (false, vec![after("secret/a/copy", "secret/b/undeclared"), missing()]),
        ] {
            assert_eq!(is_stuck(&verdicts.iter().cloned().collect(), false), stuck, "{verdicts:?}");
        }
        assert!(!is_stuck(&chain().into(), true), "with a deadline it is waited for");
        assert!(is_stuck(&[refused("secret/a/x"), after("secret/a/copy", "secret/a/x")].into(), true));
    }

    #[tokio::test]
    async fn the_outcome_names_everything_and_a_refusal_outweighs_the_rest() {
        let board = Board::new([name("client/portal"), name("secret/a/copy")], false);
        let stuck = board.is_stuck();
        tokio::pin!(stuck);
        for (target, verdict) in
            [open("client/portal", Awaits::Others), after("secret/a/copy", "client/portal")]
        {
            let early = tokio::time::timeout(std::time::Duration::ZERO, &mut stuck).await;
            assert!(early.is_err(), "before {target} was looked at");
            board.stands(&target, verdict.unwrap());
        }
        stuck.await;
        let failure = board.outcome().unwrap_err();
        assert_eq!(failure.exit, Exit::DependencyFailed);
        assert!(failure.message.starts_with("client/portal: waits\nsecret/a/copy: waits\n"), "{failure}");
        assert!(failure.message.contains("ROLLCALL_DEADLINE"), "{failure}");
        board.stands(&name("secret/a/x"), refused("secret/a/x").1.unwrap());
        let failure = board.outcome().unwrap_err();
        assert_eq!(failure.exit, Exit::NeverWorks);
        assert!(failure.message.starts_with("secret/a/x: is another's\nclient/portal"), "{failure}");
        board.stands(&name("client/portal"), Verdict::default());
        board.stands(&name("secret/a/copy"), Verdict::default());
        board.stands(&name("secret/a/x"), Verdict::default());
        assert_eq!(board.outcome(), Ok(()));
    }
}
