//! What a hub forgets of an earlier life: fragments that were mounted then and are not now.

use chassis::wire::{Forgotten, Fragment};
use lifecycle::Moment;

use super::tests::{BASE, REGISTRY, fragment, hub};
use super::{Effect, State};

const OURS: &str = "dev/hub";

fn names(hub: &State) -> Vec<&str> {
    hub.fragments().map(|fragment| fragment.name.as_str()).collect()
}

fn of(release: Option<&str>) -> State {
    hub().of_release(release.map(str::to_owned))
}

fn of_ours() -> State {
    of(Some(OURS))
}

/// What a bus holds.
#[derive(Debug, Clone, Default)]
struct Bus {
    fragments: Vec<Fragment>,
    forgotten: Vec<Forgotten>,
}

impl Bus {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Keep(fragment) => {
                    self.fragments.retain(|known| known.name != fragment.name);
                    self.fragments.push(fragment);
                }
                Effect::Forget(gone) => {
                    self.fragments.retain(|known| known.name != gone.name);
                    self.forgotten.push(gone);
                }
                Effect::Remember(name) => self.forgotten.retain(|gone| gone.name != name),
                _ => {}
            }
        }
    }

    fn tell(&self, hub: &mut State) {
        for fragment in &self.fragments {
            assert_eq!(hub.recall(fragment.clone(), Moment(10)).0, None);
        }
        for gone in &self.forgotten {
            hub.recall_forgotten(gone.clone(), Moment(10));
        }
    }

    /// Another life of a hub with these mounted, which reads the bus before or after, and those registered before both.
    fn life(
        &mut self,
        mut hub: State,
        is_late: bool,
        mounted: &[&Fragment],
        registered: &[&Fragment],
    ) -> State {
        let all = |fragments: &[&Fragment]| fragments.iter().copied().cloned().collect::<Vec<_>>();
        hub.register(all(registered), Moment(5));
        let mut effects = Vec::new();
        if is_late {
            effects.extend(hub.mount(all(mounted), true, Moment(6)).1);
        }
        self.tell(&mut hub);
        effects.extend(hub.settle(Moment(11)));
        if !is_late {
            effects.extend(hub.mount(all(mounted), true, Moment(12)).1);
        }
        self.carry_out(effects);
        // As the glue does once the bus was read.
        let missing = hub.registered().filter(|fragment| !self.fragments.contains(fragment));
        let missing = missing.cloned().map(Effect::Keep).collect();
        self.carry_out(missing);
        hub
    }
}

/// What the bus holds after a first life with these mounted and those registered.
fn after(mounted: &[&Fragment], registered: &[&Fragment]) -> Bus {
    let mut bus = Bus::default();
    bus.life(of_ours(), false, mounted, registered);
    bus
}

fn known() -> (Fragment, Fragment, Fragment) {
    (fragment("base", BASE), fragment("registry", REGISTRY), fragment("other", "modules: {other: {}}"))
}

fn refuses(hub: &mut State, fragment: &Fragment, why: &str) {
    let before = names(hub).len();
    let (refused, effects) = hub.register(vec![fragment.clone()], Moment(20));
    assert!(refused.len() == 1 && refused[0].reason.contains(why), "{refused:?}");
    assert_eq!((names(hub).len(), effects), (before, Vec::new()));
}

#[test]
fn what_is_mounted_no_more_stays_gone_whoever_still_carries_it_and_what_was_registered_stays() {
    let (base, registry, other) = known();
    // A module's waiter registers what the hub has mounted: that makes it no less so.
    let first = after(&[&base, &registry], &[&registry, &other]);
    for is_late in [false, true] {
        for early in [&[][..], &[&registry]] {
            let mut bus = first.clone();
            // The upgrade, and two lives later.
            for _ in 0..3 {
                let mut hub = bus.life(of_ours(), is_late, &[&base], early);
                assert_eq!(names(&hub), ["base", "other"], "late: {is_late}, early: {}", early.len());
                assert!(!hub.graph().declares(&"module/registry".parse().unwrap()));
                refuses(&mut hub, &registry, "forgotten");
                assert_eq!(bus.forgotten.len(), 1);
                assert!(bus.fragments.iter().all(|fragment| fragment.name != "registry"));
            }
        }
    }
}

#[test]
fn what_is_gone_is_there_again_when_it_is_mounted_or_registered_in_another_form() {
    let (base, registry, _) = known();
    let another = fragment("registry", "modules: {registry: {}}");
    for is_late in [false, true] {
        let mut bus = after(&[&base, &registry], &[]);
        bus.life(of_ours(), is_late, &[&base], &[]);
        let mut again = bus.clone();
        let hub = again.life(of_ours(), is_late, &[&base, &registry], &[]);
        assert_eq!((names(&hub), again.forgotten.len()), (vec!["base", "registry"], 0));

        let mut early = bus.clone();
        let hub = early.life(of_ours(), is_late, &[&base], &[&another]);
        assert_eq!((names(&hub), early.forgotten.len()), (vec!["base", "registry"], 0));

        let mut hub = bus.life(of_ours(), is_late, &[&base], &[]);
        let (refused, effects) = hub.register(vec![another.clone()], Moment(20));
        assert_eq!(refused, []);
        bus.carry_out(effects);
        assert_eq!((bus.forgotten.len(), bus.fragments.len()), (0, 2));
        let hub = bus.life(of_ours(), is_late, &[&base], &[]);
        assert_eq!(names(&hub), ["base", "registry"], "it was registered, so nobody forgets it");
    }
}

#[test]
fn what_is_mounted_outweighs_what_others_register() {
    let (base, registry, _) = known();
    let old = fragment("registry", "modules: {registry: {}}");
    for all in [true, false] {
        for release in [Some(OURS), None] {
            let mut hub = of(release);
            hub.settle(Moment(1));
            hub.register(vec![old.clone()], Moment(2));
            hub.mount(vec![base.clone(), registry.clone()], all, Moment(3));
            refuses(&mut hub, &old, "outweighs");
            assert_eq!(hub.register(vec![registry.clone()], Moment(4)), (Vec::new(), Vec::new()));
            assert!(hub.fragments().any(|known| known.hash == registry.hash));
        }
    }
}

#[test]
fn nothing_is_forgotten_where_a_document_could_not_be_read() {
    let (base, registry, _) = known();
    let bus = after(&[&base, &registry], &[]);
    let mut hub = of_ours();
    bus.tell(&mut hub);
    hub.settle(Moment(11));
    hub.mount(vec![base], false, Moment(12));
    assert_eq!(names(&hub), ["base", "registry"]);
}

#[test]
fn only_the_release_that_had_mounted_a_fragment_forgets_it() {
    let (base, registry, other) = known();
    let first = after(&[&base, &registry], &[]);
    for is_late in [false, true] {
        for release in [Some("dev/second"), None] {
            let mut bus = first.clone();
            let hub = bus.life(of(release), is_late, &[&other], &[]);
            assert_eq!(names(&hub), ["base", "other", "registry"], "{release:?} late: {is_late}");
            assert_eq!(bus.forgotten, []);
        }
    }

    // Two have one mounted, and the one that was the last to say so has it no more.
    let mut bus = first;
    let second = bus.life(of(Some("dev/second")), false, &[&registry], &[]);
    let mut ours = bus.life(of_ours(), false, &[&base, &registry], &[]);
    bus.life(of(Some("dev/second")), false, &[&registry], &[]);
    bus.life(of(Some("dev/second")), false, &[], &[]);
    assert_eq!(bus.forgotten.len(), 1);
    assert_eq!(names(&second), names(&ours));
    for gone in bus.forgotten.clone() {
        let mut effects = ours.recall_forgotten(gone, Moment(30));
        effects.extend(ours.deleted("fragment/registry"));
        assert_eq!(names(&ours), ["base", "registry"]);
        bus.carry_out(effects);
        // Who has none of its own hears that it is gone, and that it is there.
        let mut third = of(Some("dev/third"));
        bus.tell(&mut third);
        assert_eq!(names(&third), ["base", "registry"]);
    }
    assert_eq!(bus.forgotten, []);
}
