//! observe → plan → apply → verify: the one shape of everything that makes something true.
//!
//! Deciding is apart from doing: [`Reconcile::plan`] has no `self`, so it has no client and can do no I/O.
//! Verifying is observing and planning again, expecting nothing left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifecycle::{Component, Evidence};

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
}

impl Note {
    /// A note about a component.
    pub fn new(component: &Component, text: impl fmt::Display) -> Self {
        Note { component: component.clone(), text: text.to_string() }
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
pub trait Reconcile: Sync {
    /// What should be.
    type Spec: Sync;
    /// What is.
    type World: Send + Sync;
    /// One change.
    type Step: Step;
    /// What can go wrong while looking or changing.
    type Error: Fault;

    /// The components a spec is about.
    fn components(spec: &Self::Spec) -> Vec<Component>;
    /// Whether the component's fragment is in mode `report`: what would be done is said and not done.
    fn reports_only(spec: &Self::Spec, component: &Component) -> bool;
    /// What is there when nothing is there yet: the world of a plan made without asking anybody.
    fn nothing(spec: &Self::Spec) -> Self::World;
    /// Looks, and only looks.
    fn observe(&self, spec: &Self::Spec) -> impl Future<Output = Result<Self::World, Self::Error>> + Send;
    /// Decides. No I/O: there is no `self`.
    fn plan(spec: &Self::Spec, world: &Self::World) -> Plan<Self::Step>;
    /// Makes one change.
    fn apply(&self, spec: &Self::Spec, step: &Self::Step) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// What was seen of a component that is as it should be.
    fn evidence(spec: &Self::Spec, world: &Self::World, component: &Component) -> Evidence;
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
    Pending(String),
    /// Its fragment is in mode `report`; this is what would be done.
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

/// What would be done: the plan, with the steps of components in mode `report` told as what is pending.
pub fn decide<R: Reconcile>(spec: &R::Spec, world: &R::World) -> Plan<R::Step> {
    let mut plan = R::plan(spec, world);
    let (reported, steps) = plan.steps.into_iter().partition(|step| R::reports_only(spec, step.component()));
    plan.steps = steps;
    let reported: Vec<R::Step> = reported;
    plan.pending.extend(reported.iter().map(|step| Note::new(step.component(), format!("mode is report; would {step}"))));
    plan
}

/// Makes the world as the spec says, once, and says how each component stands. A component's failed step keeps its later
/// steps from being made; its neighbours go on. Fails only when the world cannot be observed.
pub async fn converge<R: Reconcile>(
    target: &R,
    spec: &R::Spec,
    mut tell: impl FnMut(&R::Step),
) -> Result<BTreeMap<Component, Standing>, R::Error> {
    let plan = R::plan(spec, &target.observe(spec).await?);
    let mut failed = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for step in &plan.steps {
        if failed.contains_key(step.component()) || R::reports_only(spec, step.component()) {
            continue;
        }
        tell(step);
        changed.insert(step.component().clone());
        if let Err(error) = target.apply(spec, step).await {
            let standing = Standing::Failed {
                error: format!("{step}: {}", crate::exit::chain(&error)),
                code: error.code(),
                transient: error.is_transient(),
            };
            failed.insert(step.component().clone(), standing);
        }
    }

    let world = target.observe(spec).await?;
    let rest = R::plan(spec, &world);
    let find = |notes: &[Note], component: &Component| {
        notes.iter().find(|note| note.component == *component).map(|note| note.text.clone())
    };
    let standing = |component: Component| {
        let standing = if let Some(text) = find(&rest.refusals, &component) {
            Standing::Refused(text)
        } else if let Some(failed) = failed.remove(&component) {
            failed
        } else if let Some(text) = find(&rest.pending, &component) {
            Standing::Pending(text)
        } else if let Some(step) = rest.steps.iter().find(|step| *step.component() == component) {
            if R::reports_only(spec, &component) {
                Standing::Reported(format!("mode is report; would {step}"))
            } else {
                Standing::Pending(format!("still to do after this run: {step}"))
            }
        } else {
            Standing::Ready {
                changed: changed.contains(&component),
                evidence: R::evidence(spec, &world, &component),
            }
        };
        (component, standing)
    };
    Ok(R::components(spec).into_iter().map(standing).collect())
}
