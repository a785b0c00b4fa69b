//! What the hub knows: fragments, what was said, what was seen, what instances report; and what follows from it. Pure: no
//! I/O, no clock. Each change returns its effects, which the glue carries out.

mod generations;
#[cfg(test)]
mod mounted;
mod registered;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chassis::wire::{BringUp, ComponentState, Forgotten, Fragment};
use lifecycle::document::{Environment, Identity};
use lifecycle::{Component, Cycle, Event, Evidence, Graph, Moment, Phase, Roster};

use crate::definition::{for_hub, views};
use crate::hub::decide::{Instance, Known, Seen, Verdict, decide, may_say};
use crate::hub::fragments::Union;
use crate::probe::{NotYet, Probe};

/// So many instances of one module are remembered.
const INSTANCES: usize = 64;

/// What is looked at: a component, as the hub sees it or as one fragment does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sight {
    /// The component.
    pub component: Component,
    /// The fragment whose own view this is; none for the component's own definition.
    pub fragment: Option<String>,
}

/// What the glue does after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say that the component is in this phase.
    Say {
        /// The component.
        component: Component,
        /// Its phase.
        phase: Phase,
        /// Why.
        reason: String,
        /// What was seen.
        evidence: Evidence,
    },
    /// Keep this fragment on the bus.
    Keep(Fragment),
    /// Keep this fragment on the bus no more, but that it is gone.
    Forget(Forgotten),
    /// Keep on the bus no more that the fragment of this name is gone.
    Remember(String),
    /// A bring-up began, or its union changed.
    Begin(BringUp),
    /// Delete these records: they are of generations long past.
    Retire(Vec<String>),
    /// Look at it now.
    Wake(Component),
    /// Its state changed: tell those who watch it.
    Changed(Component),
    /// What is looked at changed: [`State::sights`] tells anew.
    Redefined,
}

/// What the hub knows.
#[derive(Debug)]
pub struct State {
    identity: Identity,
    source: String,
    union: Union,
    /// Fragments that were registered in this life: what an earlier one left on the bus is older.
    registered: BTreeSet<String>,
    /// What an earlier life left and could not be taken yet, by name.
    refused_recalls: BTreeMap<String, Fragment>,
    /// For which release documents are mounted here; one that nobody names forgets nothing.
    release: Option<String>,
    /// What is mounted here: hashes by name.
    mounted: BTreeMap<String, String>,
    /// Everything that is mounted could be read.
    all_mounted: bool,
    /// What was mounted, here or elsewhere, and is no more, by name.
    forgotten: BTreeMap<String, Forgotten>,
    /// The bus was read, so the generation is the current one.
    settled: bool,
    refused: Vec<String>,
    graph: Graph,
    cycle: Option<Cycle>,
    sights: BTreeMap<Sight, Result<Probe, String>>,
    seen: BTreeMap<Sight, Seen>,
    roster: Roster,
    /// Keys of event records by generation, to retire them one day.
    keys: BTreeMap<u64, BTreeSet<String>>,
    instances: BTreeMap<Component, BTreeMap<String, Instance>>,
    bring_up: Option<BringUp>,
    current: BTreeMap<Component, ComponentState>,
}

impl State {
    /// A hub of this environment that knows nothing yet and calls itself `source`.
    pub fn new(identity: Identity, source: impl Into<String>) -> Self {
        State {
            identity,
            source: source.into(),
            union: Union::default(),
            registered: BTreeSet::new(),
            refused_recalls: BTreeMap::new(),
            release: None,
            mounted: BTreeMap::new(),
            all_mounted: false,
            forgotten: BTreeMap::new(),
            settled: false,
            refused: Vec::new(),
            graph: Graph::default(),
            cycle: None,
            sights: BTreeMap::new(),
            seen: BTreeMap::new(),
            roster: Roster::new(),
            keys: BTreeMap::new(),
            instances: BTreeMap::new(),
            bring_up: None,
            current: BTreeMap::new(),
        }
    }

    /// Mounts documents for this release: what it had mounted in an earlier life and has no more it forgets.
    #[must_use]
    pub fn of_release(self, release: Option<String>) -> Self {
        State { release, ..self }
    }

    /// The environment served.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The bring-up under way, or the last; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.bring_up.as_ref().map_or(0, |bring_up| bring_up.generation)
    }

    /// Documents were refused: what is wrong with each, for whoever looks for what they declare.
    pub fn refuse(&mut self, problems: Vec<String>) {
        self.refused = problems;
    }

    /// What is wrong with documents that were refused.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// The graph of the union.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What is looked at, and how, or why not.
    pub fn sights(&self) -> &BTreeMap<Sight, Result<Probe, String>> {
        &self.sights
    }

    /// Instances of a module and what they reported last.
    pub fn instances(&self, module: &Component) -> impl Iterator<Item = (&String, &Instance)> {
        self.instances.get(module).into_iter().flatten()
    }

    /// Hears what somebody says about a component. It wakes looks at it and at what needs it; it never makes ready.
    pub fn hear(&mut self, offset: u64, event: Event, now: Moment) -> Vec<Effect> {
        if event.environment != self.identity.uid {
            return Vec::new();
        }
        self.keys.entry(event.generation).or_default().insert(event.key());
        let component = event.component.clone();
        let (ours, ready) = (event.source == self.source, event.phase == Phase::Ready);
        if !self.roster.hear(offset, event) {
            return Vec::new();
        }
        let sight = Sight { component: component.clone(), fragment: None };
        if !ours && ready && self.seen.get(&sight).is_some_and(|seen| !seen.passed_once) {
            // What was seen of it before it was made is no longer so.
            self.seen.remove(&sight);
        }
        let mut effects = self.review(&component, now);
        if !ours {
            effects.push(Effect::Wake(component.clone()));
            let dependants: Vec<Component> = self.needing(&component).cloned().collect();
            effects.extend(dependants.into_iter().map(Effect::Wake));
            if !effects.contains(&Effect::Changed(component.clone())) {
                effects.push(Effect::Changed(component));
            }
        }
        effects
    }

    /// Hears what an instance of a module reports. It wakes looks at the module and at what the instance lacks.
    pub fn announce(
        &mut self,
        module: &Component,
        source: &str,
        report: Instance,
        now: Moment,
    ) -> Vec<Effect> {
        let wake: Vec<Effect> = std::iter::once(module.clone())
            .chain(report.unmet.iter().map(|(component, _)| component.clone()))
            .map(Effect::Wake)
            .collect();
        let instances = self.instances.entry(module.clone()).or_default();
        instances.insert(source.to_owned(), report);
        if instances.len() > INSTANCES
            && let Some(oldest) = instances.iter().min_by_key(|(_, i)| i.heard).map(|(name, _)| name.clone())
        {
            instances.remove(&oldest);
        }
        let mut effects = self.review(module, now);
        effects.extend(wake);
        effects
    }

    /// Adds a look at a component through a definition, for everybody who sees it like that. One through a definition
    /// that changed meanwhile says nothing.
    pub fn looked(
        &mut self,
        component: &Component,
        probe: &Probe,
        look: &Result<Evidence, NotYet>,
        now: Moment,
    ) -> Vec<Effect> {
        let same = |(sight, definition): &(&Sight, &Result<Probe, String>)| {
            sight.component == *component && definition.as_ref() == Ok(probe)
        };
        let sights: Vec<Sight> = self.sights.iter().filter(same).map(|(sight, _)| sight.clone()).collect();
        sights.into_iter().flat_map(|sight| self.saw(&sight, look.clone(), now)).collect()
    }

    fn saw(&mut self, sight: &Sight, look: Result<Evidence, NotYet>, now: Moment) -> Vec<Effect> {
        let before = self.seen.get(sight);
        let was = before.map(|seen| (seen.passing, seen.evidence.error.clone()));
        let seen = Seen::add(before, look);
        let flipped = was != Some((seen.passing, seen.evidence.error.clone()));
        let passing = seen.passing;
        self.seen.insert(sight.clone(), seen);
        if sight.fragment.is_some() {
            return if flipped { vec![Effect::Changed(sight.component.clone())] } else { Vec::new() };
        }
        let mut effects = self.review(&sight.component, now);
        if flipped && passing {
            // What needs it may be able to start now.
            let dependants: Vec<Component> = self.needing(&sight.component).cloned().collect();
            effects.extend(dependants.into_iter().map(Effect::Wake));
        }
        effects
    }

    /// The state of a component as somebody of `module` sees it: where the module's fragment looks in its own way, that
    /// look decides.
    pub fn state(&self, component: &Component, module: &str) -> ComponentState {
        let mut state = self
            .current
            .get(component)
            .cloned()
            .unwrap_or_else(|| self.compute(component, Moment::default()));
        let fragment = self.union.fragment_of(module);
        let view = fragment.and_then(|fragment| {
            let sight = Sight { component: component.clone(), fragment: Some(fragment.to_owned()) };
            self.sights.contains_key(&sight).then(|| self.seen.get(&sight))
        });
        if let Some(seen) = view {
            state.observable = seen.is_none_or(|seen| !seen.blind);
            match seen {
                Some(seen) if seen.passing => state.phase = Some(Phase::Ready),
                _ if state.phase == Some(Phase::Ready) => state.phase = Some(Phase::Working),
                _ => {}
            }
            if let Some(seen) = seen {
                state.evidence = seen.evidence.clone();
            }
        }
        state
    }

    /// Every declared component.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.graph.components()
    }

    /// Derives everything anew from the union.
    fn redefine(&mut self, now: Moment) -> Vec<Effect> {
        let graph = self.union.environment().map(Graph::of).unwrap_or_default();
        let dropped = std::mem::replace(&mut self.graph, graph);
        let dropped: Vec<Component> =
            dropped.components().filter(|c| !self.graph.declares(c)).cloned().collect();
        self.cycle = self.graph.order().err();
        let before = std::mem::take(&mut self.sights);
        if let Some(environment) = self.union.environment() {
            self.sights = sights(environment, &self.graph);
        }
        // What was seen through another definition was another thing.
        self.seen.retain(|sight, _| before.get(sight) == self.sights.get(sight));
        let mut effects = vec![Effect::Redefined];
        for component in dropped {
            let said = self.roster.get(&component).map(|event| event.phase);
            if said.is_some() && may_say(component.kind(), Phase::Removed, said) {
                let (phase, reason) = (Phase::Removed, "no fragment declares it any more".to_owned());
                effects.push(Effect::Say { component, phase, reason, evidence: Evidence::default() });
            }
        }
        let all: BTreeSet<Component> = self.graph.components().chain(self.current.keys()).cloned().collect();
        for component in all {
            effects.extend(self.review(&component, now));
        }
        effects
    }

    /// Decides a component's state anew, and what follows when it is another.
    fn review(&mut self, component: &Component, now: Moment) -> Vec<Effect> {
        let state = self.compute(component, now);
        let before = self.current.insert(component.clone(), state.clone());
        let telling = |state: &ComponentState| {
            (
                state.phase,
                state.evidence.error.clone(),
                state.reason.clone(),
                state.event_id,
                state.observable,
            )
        };
        if before.as_ref().map(telling) == Some(telling(&state)) {
            return Vec::new();
        }
        // Said before it is told to those who watch, so that they learn the event's id with it.
        let mut effects = Vec::new();
        let said = self.roster.get(component).map(|event| event.phase);
        let changed = before.and_then(|before| before.phase) != state.phase;
        if let Some(phase) = state.phase.filter(|phase| changed && may_say(component.kind(), *phase, said)) {
            let (reason, evidence) = (state.reason, state.evidence);
            effects.push(Effect::Say { component: component.clone(), phase, reason, evidence });
        }
        effects.push(Effect::Changed(component.clone()));
        effects
    }

    fn compute(&self, component: &Component, now: Moment) -> ComponentState {
        let said = self.roster.get(component);
        let instance =
            self.instances.get(component).and_then(|i| i.values().max_by_key(|instance| instance.heard));
        let sight = Sight { component: component.clone(), fragment: None };
        let Verdict { phase, reason, evidence, observable } = decide(Known {
            component,
            declared: self.graph.declares(component),
            cycle: self.cycle.as_ref().filter(|cycle| cycle.0.contains(component)),
            unobservable: self
                .sights
                .get(&sight)
                .and_then(|definition| definition.as_ref().err())
                .map(String::as_str),
            seen: self.seen.get(&sight),
            said,
            said_by_maker: said.is_some_and(|event| self.is_makers(event)),
            instance,
        });
        let known = self.current.get(component).filter(|known| known.phase == phase);
        let said_this = said.filter(|event| Some(event.phase) == phase);
        // What was said about this phase carries its original time; else the time it was first seen.
        let since =
            said_this.map(|event| event.since).or_else(|| known.map(|known| known.since)).unwrap_or(now);
        ComponentState {
            component: component.clone(),
            phase,
            since,
            generation: said.map_or_else(|| self.generation(), |event| event.generation),
            evidence,
            reason,
            attempts: said.map(|event| event.attempts).max(instance.map(|i| i.attempts)).unwrap_or(0),
            source: said_this.map_or_else(|| self.source.clone(), |event| event.source.clone()),
            event_id: said_this.map(Event::id),
            observable,
        }
    }

    /// Who needs the component to start, directly.
    fn needing<'a>(&'a self, component: &'a Component) -> impl Iterator<Item = &'a Component> {
        self.graph
            .components()
            .filter(move |c| self.graph.start_needs(c).any(|need| need.component == *component))
    }
}

/// Everything that is looked at: each declared component, and modules as other fragments look at them.
pub(crate) fn sights(environment: &Environment, graph: &Graph) -> BTreeMap<Sight, Result<Probe, String>> {
    let own = graph.components().map(|component| {
        (Sight { component: component.clone(), fragment: None }, for_hub(environment, component))
    });
    let views = views(environment).map(|(fragment, component, probe)| {
        (Sight { component, fragment: Some(fragment.to_owned()) }, Ok(probe))
    });
    own.chain(views).collect()
}
