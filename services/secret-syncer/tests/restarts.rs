//! Laws of restart sets, over a workload in memory: whatever changes when, and whenever a process ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle::Component;
use lifecycle::document::{Workload, WorkloadKind};
use lifecycle::manifests::Wanted;
use proptest::prelude::*;
use secret_syncer::restart::plan::{
    BURST, Decision, Memory, Noted, Outcome, PER, Pods, There, Values, World, due, plan,
};
use secret_syncer::restart::spec::{Mode, Spec};

const WINDOW: u64 = 30_000;
const BEGINNING: u64 = 1_000_000;

fn object() -> Component {
    "secret/dev/db".parse().unwrap()
}

fn spec(name: &str, mode: Mode) -> Spec {
    let workload =
        Workload { kind: WorkloadKind::Deployment, namespace: "dev".to_owned(), name: name.to_owned() };
    Spec { workload, objects: [(object(), mode)].into(), window: Duration::from_millis(WINDOW) }
}

/// A workload with its pods, an object, what is noted of both, and a process that looks.
struct Model {
    spec: Spec,
    now: u64,
    keys: BTreeMap<String, u32>,
    changes: u32,
    /// What the pods really have.
    pods: BTreeMap<String, u32>,
    template: u32,
    annotation: Option<String>,
    is_ready: bool,
    noted: Option<Noted>,
    memory: Memory,
    /// When it was restarted by us.
    rolled: Vec<u64>,
    outcomes: Vec<Outcome>,
    /// No memory was lost since the last restart.
    remembers: bool,
}

#[derive(Debug, Clone)]
enum Happening {
    Changes(&'static str),
    Vanishes(&'static str),
    /// Time passes, and the process looks.
    Look(u64),
    /// The process ends after it restarted and before it noted anything.
    LookAndDie(u64),
    Dies,
    Unready,
    Ready,
    /// Somebody else changes the template.
    Upgrade,
}

impl Model {
    fn new(mode: Mode) -> Model {
        let keys: BTreeMap<String, u32> = [("password".to_owned(), 0)].into();
        let mut model = Model {
            spec: spec("web", mode),
            now: BEGINNING,
            pods: keys.clone(),
            keys,
            changes: 0,
            template: 0,
            annotation: None,
            is_ready: true,
            noted: None,
            memory: Memory::default(),
            rolled: Vec::new(),
            outcomes: Vec::new(),
            remembers: true,
        };
        model.look(false);
        model
    }

    fn world(&self) -> World {
        let values = self.keys.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
        let there = There {
            uid: "u".to_owned(),
            template: format!("{} {:?}", self.template, self.annotation),
            restarted: self.annotation.clone(),
            pods: if self.is_ready { Pods::Ready } else { Pods::Unready("0 of 1 pods are ready".to_owned()) },
            uses: [(object(), vec![Wanted::All])].into(),
        };
        let values: Values = [(object(), values)].into();
        let mut world = World { there: Some(there), values, noted: self.noted.clone(), due: None };
        world.due = due(&self.spec, &world).map(|roll| format!("{roll:?}"));
        world
    }

    fn look(&mut self, dies: bool) -> Decision {
        let world = self.world();
        let worlds = [(self.spec.workload.clone(), world.clone())].into();
        let decided = plan(std::slice::from_ref(&self.spec), &worlds, &self.memory, self.now);
        let decision = decided[&self.spec.workload].clone();
        if decision.roll {
            assert!(self.is_ready, "restarted while it is not ready");
            if let Some(last) = self.rolled.last().filter(|_| self.remembers) {
                assert!(self.now - last >= WINDOW, "restarted twice within a window");
            }
            self.rolled.push(self.now);
            self.remembers = true;
            self.annotation = world.due;
            self.restarts();
            self.memory.begun.push(self.now);
        }
        self.outcomes.extend(decision.outcome);
        if dies {
            self.dies();
            return decision;
        }
        if let Some(note) = &decision.note {
            self.noted = Some(note.clone());
        }
        self.memory.pending.clear();
        if let Some(pending) = decision.pending.clone().filter(|_| !decision.roll) {
            self.memory.pending.insert(self.spec.workload.clone(), pending);
        }
        decision
    }

    fn dies(&mut self) {
        self.memory = Memory::default();
        self.remembers = false;
    }

    fn restarts(&mut self) {
        self.pods = self.keys.clone();
        self.is_ready = false;
    }

    fn happens(&mut self, what: &Happening) {
        match what {
            Happening::Changes(key) => {
                self.changes += 1;
                self.keys.insert((*key).to_owned(), self.changes);
            }
            Happening::Vanishes(key) => drop(self.keys.remove(*key)),
            Happening::Look(after) => {
                self.now += after;
                self.look(false);
                let again = self.look(false);
                assert!(
                    !again.roll && again.note.is_none() && again.outcome.is_none(),
                    "twice is once: {again:?}"
                );
            }
            Happening::LookAndDie(after) => {
                self.now += after;
                self.look(true);
            }
            Happening::Dies => self.dies(),
            Happening::Unready => self.is_ready = false,
            Happening::Ready => self.is_ready = true,
            Happening::Upgrade => {
                self.template += 1;
                self.restarts();
            }
        }
    }

    fn all(&mut self, all: &[Happening]) {
        for what in all {
            self.happens(what);
        }
    }

    /// Whether the pods have another value than there is, of the key that was there when they were first looked at. One that
    /// came and changed before anybody looked is taken to be what they have.
    fn lacks(&self) -> bool {
        self.keys
            .get("password")
            .is_some_and(|value| self.pods.get("password").is_some_and(|has| has != value))
    }

    /// Nothing happens any more but that pods become ready.
    fn calms(&mut self) {
        for _ in 0..4 {
            self.is_ready = true;
            self.look(false);
            self.now += WINDOW;
            self.look(false);
        }
    }
}

fn happening(changes: bool) -> impl Strategy<Value = Happening> {
    let key = prop::sample::select(vec!["password", "token"]);
    let after = || prop::sample::select(vec![0, 1, WINDOW / 3, WINDOW - 1, WINDOW, 3 * WINDOW]);
    let change = if changes { 4 } else { 0 };
    prop_oneof![
        change => key.clone().prop_map(Happening::Changes),
        change / 4 => key.prop_map(Happening::Vanishes),
        5 => after().prop_map(Happening::Look),
        1 => after().prop_map(Happening::LookAndDie),
        1 => Just(Happening::Dies),
        1 => Just(Happening::Unready),
        3 => Just(Happening::Ready),
        1 => Just(Happening::Upgrade),
    ]
}

proptest! {
    #[test]
    fn what_changed_reaches_the_pods_and_then_it_is_quiet(all in prop::collection::vec(happening(true), 0..40)) {
        let mut model = Model::new(Mode::Roll);
        model.all(&all);
        model.calms();
        prop_assert!(!model.lacks());
        let rolls = model.rolled.len();
        model.dies();
        model.calms();
        prop_assert_eq!(model.rolled.len(), rolls);
        prop_assert!(rolls <= usize::try_from(model.changes).unwrap(), "each change is one restart at most");
    }

    #[test]
    fn nothing_is_restarted_when_nothing_changed(all in prop::collection::vec(happening(false), 0..40)) {
        let mut model = Model::new(Mode::Roll);
        model.all(&all);
        model.calms();
        prop_assert!(model.rolled.is_empty() && model.outcomes.is_empty(), "{:?}", model.outcomes);
    }

    #[test]
    fn what_is_only_announced_is_never_restarted(all in prop::collection::vec(happening(true), 0..40), report in any::<bool>()) {
        let mut model = Model::new(if report { Mode::Report } else { Mode::Announce });
        model.all(&all);
        model.calms();
        prop_assert!(model.rolled.is_empty());
        let said = model.look(false).says;
        prop_assert!(!model.lacks() || said.contains_key(&object()), "it is said for as long as it is so");
        let announced = model.outcomes.iter().filter(|outcome| **outcome == Outcome::Announced).count();
        // A process that ends before it could note that it said so says it once more.
        let deaths = all.iter().filter(|what| matches!(what, Happening::LookAndDie(_))).count();
        prop_assert!(announced <= usize::try_from(model.changes).unwrap() + deaths);
    }
}

#[test]
fn a_storm_is_a_drizzle() {
    let specs: Vec<Spec> = (0..3 * BURST).map(|n| spec(&format!("web-{n}"), Mode::Roll)).collect();
    let mut models: Vec<Model> = specs.iter().map(|_| Model::new(Mode::Roll)).collect();
    let mut memory = Memory::default();
    let mut now = BEGINNING;
    let mut begun: Vec<u64> = Vec::new();
    for model in &mut models {
        model.happens(&Happening::Changes("password"));
    }
    for _ in 0..40 {
        let worlds = specs.iter().zip(&models).map(|(spec, model)| (spec.workload.clone(), model.world()));
        let decisions = plan(&specs, &worlds.collect(), &memory, now);
        for (spec, model) in specs.iter().zip(&mut models) {
            let decision = &decisions[&spec.workload];
            model.noted = decision.note.clone().or_else(|| model.noted.take());
            memory.pending.remove(&spec.workload);
            if decision.roll {
                begun.push(now);
                model.annotation = model.world().due;
            } else if let Some(pending) = &decision.pending {
                memory.pending.insert(spec.workload.clone(), pending.clone());
            }
        }
        memory.begun.clone_from(&begun);
        now += PER / 5;
    }
    assert_eq!(begun.len(), specs.len(), "each is restarted once");
    for start in &begun {
        let within = begun.iter().filter(|at| (*start..start + PER).contains(at)).count();
        assert!(within <= BURST, "{within} at once");
    }
}

#[test]
fn who_does_not_use_it_or_does_not_exist_is_said_and_left_alone() {
    let model = Model::new(Mode::Roll);
    let decided = |change: &dyn Fn(&mut World)| {
        let mut world = model.world();
        change(&mut world);
        let worlds = [(model.spec.workload.clone(), world)].into();
        plan(std::slice::from_ref(&model.spec), &worlds, &Memory::default(), 0)[&model.spec.workload].clone()
    };
    let gone = decided(&|world| world.there = None);
    assert!(!gone.roll && gone.says[&object()].contains("deployment/dev/web does not exist"));
    let unused = decided(&|world| {
        world.there.as_mut().unwrap().uses.clear();
        world.values.get_mut(&object()).unwrap().insert("password".to_owned(), "other".to_owned());
    });
    assert!(!unused.roll && unused.says[&object()].contains("does not use it"), "{unused:?}");
    // Of what it uses, only the keys that it uses.
    let other = decided(&|world| {
        let there = world.there.as_mut().unwrap();
        there.uses = [(object(), vec![Wanted::Keys(["user".to_owned()].into())])].into();
        world.values.get_mut(&object()).unwrap().insert("password".to_owned(), "other".to_owned());
    });
    assert!(other.pending.is_none() && other.says.is_empty(), "{other:?}");
    // Made anew, its pods are new too.
    let anew = decided(&|world| {
        world.there.as_mut().unwrap().uid = "another".to_owned();
        world.values.get_mut(&object()).unwrap().insert("password".to_owned(), "other".to_owned());
    });
    assert!(anew.pending.is_none() && anew.note.unwrap().uid == "another");
}

#[test]
fn pods_that_cannot_be_replaced_are_said() {
    let mut model = Model::new(Mode::Roll);
    model.happens(&Happening::Changes("password"));
    model.look(false);
    model.now += WINDOW;
    let mut world = model.world();
    world.there.as_mut().unwrap().pods = Pods::Held("it is paused".to_owned());
    let worlds = [(model.spec.workload.clone(), world)].into();
    let decision = plan(std::slice::from_ref(&model.spec), &worlds, &model.memory, model.now)
        [&model.spec.workload]
        .clone();
    assert!(!decision.roll && decision.outcome == Some(Outcome::Announced));
    assert!(decision.says[&object()].contains("it is paused; replace its pods yourself"), "{decision:?}");
}
