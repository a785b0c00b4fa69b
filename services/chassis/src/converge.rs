//! observe → plan → apply → verify: the one shape of everything that makes something true.
//!
//! Deciding is apart from doing: [`Reconcile::plan`] has no `self`, so it has no client and can do no I/O.
//! Verifying is observing and planning again, expecting nothing left.

mod reported;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::{StreamExt, TryStreamExt};
use lifecycle::{Component, Evidence};
use tracing::Instrument;

use crate::provision::Change;
use reported::Reported;

/// One idempotent change to one component: applying it twice is applying it once.
pub trait Step: fmt::Display + Send + Sync {
    /// The component it belongs to.
    fn component(&self) -> &Component;
}

/// Whether trying again may help, and which code the peer gave.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// Trying again may help.
    fn is_transient(&self) -> bool;
    /// The error's code in the peer's terms, for example an SQLSTATE; empty when there is none.
    fn code(&self) -> String;
}

/// One component and what is said about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The component.
    pub component: Component,
    /// What is said.
    pub text: String,
    /// What has to come first, where something is pending.
    pub awaits: Awaits,
}

/// What something that is pending waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaits {
    /// What may come at any time: a server, a value, the end of a deletion.
    #[default]
    Time,
    /// Another component, which may be made in the same run.
    Component(Component),
    /// What only somebody else makes and has not made, although everything that it lives in is there.
    Others,
}

impl Note {
    /// A note about a component.
    pub fn new(component: &Component, text: impl fmt::Display) -> Self {
        Note { component: component.clone(), text: text.to_string(), awaits: Awaits::Time }
    }

    /// The same, and this has to come first.
    #[must_use]
    pub fn awaiting(self, awaits: Awaits) -> Self {
        Note { awaits, ..self }
    }
}

/// What would be done, what will not be done, and what cannot be decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<S> {
    /// Changes, in the order they are made.
    pub steps: Vec<S>,
    /// What will not be done, and why: a foreign owner, shrinking. Blocks its component, not the neighbours.
    pub refusals: Vec<Note>,
    /// What differs and is left alone.
    pub drift: Vec<Note>,
    /// What cannot be decided yet, and what it waits for.
    pub pending: Vec<Note>,
}

impl<S> Default for Plan<S> {
    fn default() -> Self {
        Plan { steps: Vec::new(), refusals: Vec::new(), drift: Vec::new(), pending: Vec::new() }
    }
}

impl<S: Step> Plan<S> {
    /// Whether nothing would be done, nothing is refused and nothing is undecided. Drift may be there.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.refusals.is_empty() && self.pending.is_empty()
    }
}

impl<S: Step> fmt::Display for Plan<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "+ {}: {step}", step.component())?;
        }
        for (mark, notes) in [('!', &self.refusals), ('~', &self.drift), ('?', &self.pending)] {
            for note in notes {
                writeln!(f, "{mark} {}: {}", note.component, note.text)?;
            }
        }
        if self.is_settled() && self.drift.is_empty() { writeln!(f, "= nothing to do") } else { Ok(()) }
    }
}

/// Something that can be looked at and changed: the type that holds the client.
pub trait Reconcile: Send + Sync {
    /// What should be.
    type Spec: Send + Sync;
    /// What is.
    type World: Send + Sync;
    /// One change.
    type Step: Step;
    /// What can go wrong while looking or changing.
    type Error: Fault;

    /// The components a spec is about.
    fn components(spec: &Self::Spec) -> Vec<Component>;
    /// The part of a spec that is about one of its components.
    fn only(spec: &Self::Spec, component: &Component) -> Self::Spec;
    /// Whether the component's fragment is in mode `report`: what would be done is said and not done.
    fn reports_only(spec: &Self::Spec, component: &Component) -> bool;
    /// Whether what stands of a component makes that it is only reported on, although its fragment is in mode `enforce`; and
    /// the words with which its report begins.
    fn leaves(_spec: &Self::Spec, _world: &Self::World, _component: &Component) -> Option<&'static str> {
        None
    }
    /// What is there when nothing is there yet: the world of a plan made without asking anybody.
    fn nothing(spec: &Self::Spec) -> Self::World;
    /// Looks, and only looks.
    fn observe(&self, spec: &Self::Spec) -> impl Future<Output = Result<Self::World, Self::Error>> + Send;
    /// Decides. No I/O: there is no `self`.
    fn plan(spec: &Self::Spec, world: &Self::World) -> Plan<Self::Step>;
    /// Makes one change.
    fn apply(
        &self,
        spec: &Self::Spec,
        step: &Self::Step,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Makes changes to one component, in this order, and tells of each when it begins and when it has ended. The first that
    /// fails is the last; the error comes with its place. Who can hold on to something between the changes, such as a lock, does
    /// this by itself.
    fn make(
        &self,
        spec: &Self::Spec,
        steps: &[Self::Step],
        tell: &(dyn Fn(Making<'_>) + Sync),
    ) -> impl Future<Output = Result<(), (usize, Self::Error)>> + Send {
        async move {
            for (place, step) in steps.iter().enumerate() {
                tell(Making::Begins(place));
                let made = self.apply(spec, step).instrument(span(step)).await;
                tell(Making::ended(place, &made));
                made.map_err(|error| (place, error))?;
            }
            Ok(())
        }
    }
    /// With which of the components it begins, counted around; always the same for one instance. Where those that make the same
    /// things at once wait for each other's locks, each says another number.
    fn begins(&self) -> u64 {
        0
    }
    /// What was seen of a component that is as it should be.
    fn evidence(spec: &Self::Spec, world: &Self::World, component: &Component) -> Evidence;
    /// The changes that are kept somewhere that outlives this process: those to `components`, or to all of the spec when that is
    /// empty; the latest `limit`. None where nothing of that kind is kept.
    fn history(
        &self,
        _spec: &Self::Spec,
        _components: &BTreeSet<Component>,
        _limit: usize,
    ) -> impl Future<Output = Result<Option<Vec<Change>>, Self::Error>> + Send {
        std::future::ready(Ok(None))
    }
    /// Hears how a component stands after a pass, for what is counted.
    fn told(&self, _component: &Component, _standing: &Standing) {}
    /// Hears that a pass could not even look, for what is counted.
    fn unseen(&self, _spec: &Self::Spec, _error: &Self::Error) {}
    /// Hears that a component is not asked for any more and was left as it is, for what is counted.
    fn left(&self, _component: &Component) {}
}

/// How far [`Reconcile::make`] is with the steps it was given, by their places.
#[derive(Debug, Clone, Copy)]
pub enum Making<'a> {
    /// This one is being made.
    Begins(usize),
    /// This one was made; or it failed so.
    Ended(usize, Option<&'a dyn Fault>),
}

impl<'a> Making<'a> {
    /// What came of the step in this place.
    pub fn ended<E: Fault>(place: usize, made: &'a Result<(), E>) -> Self {
        Making::Ended(place, made.as_ref().err().map(|error| error as &dyn Fault))
    }
}

/// What a change is traced as: in a one-shot a part of its trace, while serving the beginning of one.
pub fn span(step: &impl Step) -> tracing::Span {
    tracing::info_span!("apply", component = %step.component(), step = %step)
}

/// How one component stands after [`converge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is as it should be. `changed` says whether this run had to do something.
    Ready {
        /// This run changed something.
        changed: bool,
        /// What was seen.
        evidence: Evidence,
    },
    /// It waits for something, or was still moving; try again.
    Pending(Note),
    /// It is only reported on, its fragment being in mode `report` or what stands being left; this is what would be done.
    Reported(String),
    /// It was refused.
    Refused(String),
    /// A change failed.
    Failed {
        /// The step and the error with its causes.
        error: String,
        /// The error's code in the peer's terms.
        code: String,
        /// Trying again may help.
        transient: bool,
    },
}

/// What would be done: the plan, with the steps and refusals of components that are only reported on told as what is pending: whoever
/// only asks for a report has not failed by what it says.
pub fn decide<R: Reconcile>(spec: &R::Spec, world: &R::World) -> Plan<R::Step> {
    let mut plan = R::plan(spec, world);
    let (mut steps, mut refusals) = (Vec::new(), Vec::new());
    for step in plan.steps {
        match Reported::of::<R>(spec, world, step.component()) {
            Some(reported) => plan.pending.push(Note::new(step.component(), reported.steps(&[&step]))),
            None => steps.push(step),
        }
    }
    for note in plan.refusals {
        match Reported::of::<R>(spec, world, &note.component) {
            Some(reported) => plan.pending.push(Note::new(&note.component, reported.refusals(&[&note.text]))),
            None => refusals.push(note),
        }
    }
    Plan { steps, refusals, ..plan }
}

/// What [`converge`] tells while it works.
#[derive(Debug)]
pub enum Told<'a, S> {
    /// This is seen, and nothing is done about it.
    Drift(&'a Note),
    /// This step is being made.
    Step(&'a S),
    /// This step was made; or it failed so.
    Tried(&'a S, Option<&'a dyn Fault>),
    /// This is how a component stands, now that nothing more is done about it.
    Standing(Component, Standing),
}

/// How many components are worked on side by side: more of a server's work at once makes each slower.
const SIDE_BY_SIDE: usize = 4;

/// Makes the world as the spec says, once, and tells how each component stands as soon as that is known. The steps of
/// `first` come before all others; the other components are worked on side by side. A component's failed step keeps its
/// later steps from being made; its neighbours go on. Fails only when the world cannot be observed.
pub async fn converge<R: Reconcile>(
    target: &R,
    spec: &R::Spec,
    first: &Component,
    tell: &(impl Fn(Told<'_, R::Step>) + Sync),
) -> Result<(), R::Error> {
    let world = target.observe(spec).await?;
    let mut plan = R::plan(spec, &world);
    plan.drift.iter().for_each(|note| tell(Told::Drift(note)));
    let mut work: BTreeMap<Component, Vec<R::Step>> = BTreeMap::new();
    for step in std::mem::take(&mut plan.steps) {
        work.entry(step.component().clone()).or_default().push(step);
    }
    for component in R::components(spec) {
        let waiting = plan.refusals.iter().chain(&plan.pending).any(|note| note.component == component);
        if waiting && work.contains_key(&component) {
            // Refused or undecided as a whole: none of its steps is made.
            work.remove(&component);
        }
        if !work.contains_key(&component) {
            tell(Told::Standing(component.clone(), standing::<R>(spec, &world, &plan, &component, false)));
        }
    }
    if let Some(steps) = work.remove(first) {
        make(target, spec, &world, first, &steps, tell).await?;
    }
    futures_util::stream::iter(around(work.into_iter().collect(), target.begins()))
        .map(|(component, steps)| {
            let world = &world;
            async move { make(target, spec, world, &component, &steps, tell).await }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect::<()>()
        .await
}

/// Makes one component's steps, verifies it, and tells how it stands.
async fn make<R: Reconcile>(
    target: &R,
    spec: &R::Spec,
    world: &R::World,
    component: &Component,
    steps: &[R::Step],
    tell: &(impl Fn(Told<'_, R::Step>) + Sync),
) -> Result<(), R::Error> {
    if let Some(reported) = Reported::of::<R>(spec, world, component) {
        tell(Told::Standing(component.clone(), Standing::Reported(reported.steps(steps))));
        return Ok(());
    }
    let making = |making: Making<'_>| match making {
        Making::Begins(place) => steps.get(place).into_iter().for_each(|step| tell(Told::Step(step))),
        Making::Ended(place, failed) => {
            steps.get(place).into_iter().for_each(|step| tell(Told::Tried(step, failed)));
        }
    };
    if let Err((place, error)) = target.make(spec, steps, &making).await {
        let step = steps.get(place).map(|step| format!("{step}: ")).unwrap_or_default();
        let failed = Standing::Failed {
            error: format!("{step}{}", crate::exit::chain(&error)),
            code: error.code(),
            transient: error.is_transient(),
        };
        tell(Told::Standing(component.clone(), failed));
        return Ok(());
    }
    let only = R::only(spec, component);
    let world = target.observe(&only).await?;
    let rest = R::plan(&only, &world);
    tell(Told::Standing(component.clone(), standing::<R>(&only, &world, &rest, component, true)));
    Ok(())
}

/// How a component stands in a world, by the plan for it.
fn standing<R: Reconcile>(
    spec: &R::Spec,
    world: &R::World,
    plan: &Plan<R::Step>,
    component: &Component,
    changed: bool,
) -> Standing {
    let find = |notes: &[Note]| notes.iter().find(|note| note.component == *component).cloned();
    if let Some(note) = find(&plan.refusals) {
        let Some(reported) = Reported::of::<R>(spec, world, component) else {
            return Standing::Refused(note.text);
        };
        let all = plan.refusals.iter().filter(|note| note.component == *component);
        let all: Vec<&String> = all.map(|note| &note.text).collect();
        Standing::Reported(reported.refusals(&all))
    } else if let Some(note) = find(&plan.pending) {
        Standing::Pending(note)
    } else if let Some(step) = plan.steps.iter().find(|step| step.component() == component) {
        Standing::Pending(Note::new(component, format_args!("still to do after this run: {step}")))
    } else {
        Standing::Ready { changed, evidence: R::evidence(spec, world, component) }
    }
}

/// The same, counted around from another place.
fn around<T>(mut all: Vec<T>, begins: u64) -> Vec<T> {
    if let Some(place) = begins.checked_rem(all.len() as u64) {
        all.rotate_left(usize::try_from(place).unwrap_or_default());
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_are_worked_on_wherever_it_begins() {
        assert_eq!(super::around(vec!['a', 'b', 'c'], 0), ['a', 'b', 'c']);
        assert_eq!(super::around(vec!['a', 'b', 'c'], 7), ['b', 'c', 'a']);
        assert_eq!(super::around(vec!['a', 'b', 'c'], u64::MAX).len(), 3);
        assert!(super::around(Vec::<char>::new(), 7).is_empty());
    }
}
