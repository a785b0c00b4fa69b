//! What the hub decides, told as sequences of what it hears and sees.

use proptest::prelude::*;

use super::*;
use crate::hub::explain::explanation;
use crate::probe::State as Found;

const UID: &str = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";
pub(super) const BASE: &str = "
kafka: {main: {brokers: ['k:9092']}}
topics: {events: {kafka: main, partitions: 1}}
modules: {keycloak: {ready: {http: {url: 'http://keycloak/'}}}}
";
pub(super) const REGISTRY: &str = "
uses: {modules: {keycloak: {ready: {http: {url: 'http://keycloak/realms/staff'}}}}}
modules: {registry: {needs: [topic/events, module/keycloak], ready: {http: {url: 'http://registry/'}}}}
";

fn identity() -> Identity {
    Identity { name: "dev".to_owned(), uid: UID.parse().unwrap() }
}

pub(super) fn fragment(name: &str, text: &str) -> Fragment {
    let text = format!(
        "rollcall: v1\nenvironment: {{name: dev, uid: {UID}}}\nfragment: {{name: {name}, namespace: dev}}\n{text}"
    );
    (&chassis::documents::parse(name, &text).unwrap()).try_into().unwrap()
}

pub(super) fn hub() -> State {
    State::new(identity(), "hub/1")
}

fn both() -> State {
    let mut hub = hub();
    let (refused, _) =
        hub.register(vec![fragment("base", BASE), fragment("registry", REGISTRY)], Moment(1_000));
    assert_eq!(refused, []);
    hub
}

fn component(text: &str) -> Component {
    text.parse().unwrap()
}

fn look(hub: &mut State, name: &str, passes: bool, now: u64) -> Vec<Effect> {
    look_as(hub, name, None, passes, now)
}

fn look_as(hub: &mut State, name: &str, fragment: Option<&str>, passes: bool, now: u64) -> Vec<Effect> {
    let sight = Sight { component: component(name), fragment: fragment.map(str::to_owned) };
    let probe = hub.sights()[&sight].clone().unwrap();
    let seen = if passes {
        Ok(Evidence::level("ok"))
    } else {
        Err(NotYet::new(Found::Refused, "connection refused"))
    };
    hub.looked(&sight.component, &probe, &seen, Moment(now))
}

fn said(name: &str, phase: Phase, generation: u64, since: u64) -> Event {
    Event {
        environment: identity().uid,
        component: component(name),
        phase,
        since: Moment(since),
        generation,
        evidence: Evidence::default(),
        reason: if phase == Phase::Failed { "NOT_ENOUGH_REPLICAS".to_owned() } else { String::new() },
        attempts: if phase == Phase::Failed { 4 } else { 0 },
        source: "topic-provisioner/1".to_owned(),
        time: Moment(since),
    }
}

fn waiting(unmet: &[&str], now: u64) -> Instance {
    Instance {
        phase: Phase::Waiting,
        since: Moment(now),
        reason: String::new(),
        unmet: unmet.iter().map(|name| (component(name), Evidence::default())).collect(),
        attempts: 1,
        heard: Moment(now),
    }
}

fn phase(hub: &State, name: &str) -> Option<Phase> {
    hub.state(&component(name), "").phase
}

fn says(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .filter_map(|e| {
            if let Effect::Say { component, phase, .. } = e {
                Some(format!("{component} {phase}"))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_fragment_that_clashes_or_does_not_read_is_refused_and_blinds_nobody() {
    let mut hub = both();
    let foreign = Fragment {
        environment: Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(9) },
        ..fragment("x", "")
    };
    let newer = Fragment { schema: "v2".to_owned(), ..fragment("newer", "") };
    let broken = Fragment { text: "{}".to_owned(), ..fragment("broken", "") };
    let clash = fragment("clash", "modules: {registry: {}}");
    let right = fragment("right", "modules: {audit: {}}");
    let (refused, _) = hub.register(vec![foreign, newer, broken, clash, right], Moment(2_000));
    let reasons: Vec<String> = refused.iter().map(|r| format!("{}: {}", r.name, r.reason)).collect();
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
    for (i, words) in [
        "x: it belongs to environment",
        "newer: schema",
        "broken: document",
        "clash: modules.registry: module/registry is declared twice",
    ]
    .iter()
    .enumerate()
    {
        assert!(reasons[i].starts_with(words), "{}", reasons[i]);
    }
    assert!(
        hub.graph().declares(&component("module/registry"))
            && hub.graph().declares(&component("module/audit"))
    );
}

#[test]
fn a_generation_begins_with_a_new_union_and_takes_in_what_comes_while_it_is_under_way() {
    let mut hub = hub();
    assert_eq!(hub.generation(), 0);
    hub.register(vec![fragment("base", BASE)], Moment(1));
    assert_eq!(hub.generation(), 1);
    hub.register(vec![fragment("registry", REGISTRY)], Moment(2));
    assert_eq!(hub.generation(), 1, "keycloak is not ready yet: it is under way");
    look(&mut hub, "module/keycloak", true, 3);
    look(&mut hub, "module/registry", true, 4);
    hub.register(vec![fragment("registry", REGISTRY)], Moment(5));
    assert_eq!(hub.generation(), 1, "nothing new");
    let (_, effects) = hub.register(vec![fragment("audit", "modules: {audit: {}}")], Moment(6));
    assert_eq!(hub.generation(), 2);
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Begin(b) if b.generation == 2 && b.started == Moment(6)))
    );
    hub.register(vec![fragment("more", "modules: {more: {}}")], Moment(7));
    assert_eq!(hub.generation(), 2);
}

#[test]
fn a_module_is_ready_when_it_is_seen_and_degraded_after_three_failures() {
    let mut hub = both();
    hub.announce(&component("module/keycloak"), "waiter/1", waiting(&[], 10), Moment(10));
    assert_eq!(phase(&hub, "module/keycloak"), Some(Phase::Waiting));
    assert_eq!(says(&look(&mut hub, "module/keycloak", true, 20)), ["module/keycloak ready"]);
    assert_eq!(says(&look(&mut hub, "module/keycloak", false, 30)), [""; 0]);
    assert_eq!(says(&look(&mut hub, "module/keycloak", false, 40)), [""; 0]);
    assert_eq!(says(&look(&mut hub, "module/keycloak", false, 50)), ["module/keycloak degraded"]);
    assert_eq!(hub.state(&component("module/keycloak"), "").since, Moment(50));
    assert_eq!(says(&look(&mut hub, "module/keycloak", true, 60)), ["module/keycloak ready"]);
}

#[test]
fn the_provisioner_says_first_that_what_it_makes_is_ready() {
    let mut hub = both();
    assert_eq!(says(&look(&mut hub, "topic/events", true, 10)), [""; 0], "seen, but not ours to say");
    assert_eq!(phase(&hub, "topic/events"), Some(Phase::Ready), "those who watch hear of it all the same");
    hub.hear(1, said("topic/events", Phase::Ready, 1, 20), Moment(20));
    assert_eq!(
        hub.state(&component("topic/events"), "").event_id,
        Some(said("topic/events", Phase::Ready, 1, 20).id())
    );
    for _ in 0..2 {
        look(&mut hub, "topic/events", false, 30);
    }
    assert_eq!(says(&look(&mut hub, "topic/events", false, 30)), ["topic/events degraded"]);
}

#[test]
fn forged_and_foreign_news_only_wakes() {
    let mut hub = both();
    let effects = hub.hear(7, said("module/keycloak", Phase::Ready, 9, 99), Moment(5));
    assert_eq!(phase(&hub, "module/keycloak"), None);
    assert!(effects.contains(&Effect::Wake(component("module/keycloak"))));
    assert!(effects.contains(&Effect::Wake(component("module/registry"))), "what needs it is looked at too");
    look(&mut hub, "module/keycloak", false, 6);
    assert_eq!(phase(&hub, "module/keycloak"), None, "nobody who has to know said that it was ready before");
    let foreign = Event { environment: uuid::Uuid::from_u128(9), ..said("kafka/main", Phase::Failed, 1, 1) };
    assert_eq!(hub.hear(8, foreign, Moment(7)), []);
}

#[test]
fn a_fragments_own_view_decides_for_its_modules() {
    let mut hub = both();
    look(&mut hub, "module/keycloak", true, 10);
    let of = |hub: &State, module: &str| hub.state(&component("module/keycloak"), module).phase;
    assert_eq!(of(&hub, "keycloak"), Some(Phase::Ready));
    assert_eq!(of(&hub, "registry"), Some(Phase::Working), "the realm was not seen yet");
    let effects = look_as(&mut hub, "module/keycloak", Some("registry"), true, 20);
    assert_eq!(effects, [Effect::Changed(component("module/keycloak"))]);
    assert_eq!(of(&hub, "registry"), Some(Phase::Ready));
}

#[test]
fn a_look_at_a_definition_that_changed_says_nothing() {
    let mut hub = both();
    let sight = Sight { component: component("module/registry"), fragment: None };
    let old = hub.sights()[&sight].clone().unwrap();
    let moved = REGISTRY.replace("http://registry/", "http://registry.new/");
    hub.register(vec![fragment("registry", &moved)], Moment(5));
    assert_eq!(hub.looked(&sight.component, &old, &Ok(Evidence::level("ok")), Moment(6)), []);
    assert_eq!(phase(&hub, "module/registry"), None);
}

#[test]
fn a_cycle_closed_by_two_fragments_fails_its_members_with_the_path_until_it_is_opened() {
    let mut hub = hub();
    let a = "modules: {a: {needs: [module/b], ready: {tcp: {address: 'a:1'}}}}";
    let b = "modules: {b: {needs: [module/a], ready: {tcp: {address: 'b:1'}}}}";
    hub.register(vec![fragment("a", a)], Moment(1));
    let (_, effects) = hub.register(vec![fragment("b", b)], Moment(2));
    assert_eq!(says(&effects), ["module/a failed", "module/b failed"]);
    let state = hub.state(&component("module/a"), "");
    assert!(state.reason.contains("module/a → module/b → module/a"), "{}", state.reason);
    assert_eq!(state.evidence.error_code, crate::hub::decide::CYCLE);
    hub.register(vec![fragment("b", "modules: {b: {ready: {tcp: {address: 'b:1'}}}}")], Moment(3));
    assert_ne!(phase(&hub, "module/a"), Some(Phase::Failed));
}

#[test]
fn what_nobody_declares_is_said_to_be_waited_for_in_vain() {
    let mut hub = hub();
    hub.register(vec![fragment("r", "modules: {r: {needs: [module/none]}}")], Moment(1));
    let state = hub.state(&component("module/none"), "r");
    assert_eq!(
        (state.phase, state.evidence.error_code.as_str(), state.observable),
        (None, crate::hub::decide::NOBODY, false)
    );
    hub.announce(&component("module/r"), "waiter/1", waiting(&["module/none"], 1_000), Moment(1_000));
    let text = explanation(&hub, &component("module/r"), Moment(5_000)).text;
    assert_eq!(
        text,
        "module/r waits 4 s for module/none ← wait for nobody: no fragment declares module/none; declare it, or correct the need"
    );
}

#[test]
fn the_explanation_goes_down_to_the_root_and_names_what_else_would_be_freed() {
    let mut hub = both();
    hub.register(vec![fragment("other", "modules: {other: {needs: [topic/events]}}")], Moment(1_000));
    hub.announce(&component("module/registry"), "waiter/1", waiting(&["topic/events"], 1_000), Moment(1_000));
    look(&mut hub, "module/keycloak", true, 2_000);
    hub.hear(1, said("topic/events", Phase::Failed, 1, 15_000), Moment(15_000));
    look(&mut hub, "kafka/main", false, 20_000);
    let explained = explanation(&hub, &component("module/registry"), Moment(413_000));
    assert_eq!(
        explained.text,
        "module/registry waits 412 s for topic/events ← topic/events failed 398 s ago, attempt 4: NOT_ENOUGH_REPLICAS ← \
         kafka/main working for 393 s: refused: connection refused"
    );
    assert_eq!(explained.also_unblocks, [component("module/other")]);
}

#[test]
fn what_a_waiter_reports_as_met_is_not_blamed() {
    let mut hub = hub();
    let text = "
secrets: {s: {external: true}}
modules: {r: {needs: [secret/s, module/k], ready: {tcp: {address: 'r:1'}}}, k: {ready: {tcp: {address: 'k:1'}}}}";
    hub.register(vec![fragment("r", text)], Moment(1));
    hub.announce(&component("module/r"), "waiter/1", waiting(&["module/k"], 1_000), Moment(1_000));
    look(&mut hub, "module/k", false, 1_000);
    let chain = explanation(&hub, &component("module/r"), Moment(2_000)).chain;
    assert_eq!(chain.last().unwrap().0.component, component("module/k"));
}

#[test]
fn a_restart_gives_the_same_state_again() {
    let mut hub = both();
    let mut again = super::State::new(identity(), "hub/2");
    let (_, effects) = hub.register(vec![fragment("audit", "modules: {audit: {}}")], Moment(5));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Keep(f) if f.name == "audit")));
    for kept in
        [fragment("registry", REGISTRY), fragment("audit", "modules: {audit: {}}"), fragment("base", BASE)]
    {
        assert_eq!(again.recall(kept, Moment(9)).0, None);
    }
    again.recall_bring_up(hub.bring_up.clone().unwrap());
    assert_eq!(again.generation(), hub.generation());
    again.hear(4, said("module/keycloak", Phase::Ready, 1, 4), Moment(9));
    look(&mut again, "module/keycloak", true, 10);
    let state = again.state(&component("module/keycloak"), "");
    assert_eq!((state.phase, state.since), (Some(Phase::Ready), Moment(4)), "times are the original ones");
    let (_, effects) = again.register(vec![fragment("base", BASE)], Moment(11));
    assert_eq!((again.generation(), effects), (1, Vec::new()), "the same union is no new bring-up");
}

#[test]
fn generations_before_the_last_ten_are_retired_but_not_the_last_word() {
    let mut hub = both();
    hub.hear(1, said("topic/events", Phase::Waiting, 1, 1), Moment(1));
    hub.hear(2, said("topic/events", Phase::Ready, 1, 2), Moment(2));
    hub.hear(3, said("module/keycloak", Phase::Ready, 1, 2), Moment(2));
    hub.hear(4, said("module/keycloak", Phase::Ready, 2, 3), Moment(3));
    let mut retired = Vec::new();
    for round in 0..11_u64 {
        look(&mut hub, "module/keycloak", true, 10 + round);
        look(&mut hub, "module/registry", true, 10 + round);
        let changed = REGISTRY.replace("http://registry/", &format!("http://registry/{round}"));
        let (_, effects) = hub.register(vec![fragment("registry", &changed)], Moment(10 + round));
        retired.extend(
            effects
                .into_iter()
                .filter_map(|e| if let Effect::Retire(keys) = e { Some(keys) } else { None })
                .flatten(),
        );
    }
    assert_eq!(hub.generation(), 12);
    assert_eq!(retired, ["module/keycloak@1#ready", "topic/events@1#waiting"]);
}

mod recalled;

#[derive(Debug, Clone)]
enum Step {
    Look(usize, bool),
    Hear(usize, usize, u64, u64),
    Announce(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_usize, any::<bool>()).prop_map(|(c, p)| Step::Look(c, p)),
        (0..4_usize, 0..Phase::ALL.len(), 0..4_u64, 0..50_u64)
            .prop_map(|(c, p, g, s)| Step::Hear(c, p, g, s)),
        (0..2_usize, any::<bool>()).prop_map(|(c, w)| Step::Announce(c, w)),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// However news comes, something the hub can look at is ready only if one of its last three looks passed, and the hub
    /// never says first that something is ready which others make.
    #[test]
    fn events_wake_and_probes_decide(steps in steps()) {
        let names = ["module/keycloak", "module/registry", "topic/events", "kafka/main"];
        let mut hub = both();
        let mut looks: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        let mut provisioned = false;
        for (i, step) in steps.into_iter().enumerate() {
            let now = 100 + u64::try_from(i).unwrap();
            let effects = match step {
                Step::Look(c, passes) => {
                    looks.entry(names[c]).or_default().push(passes);
                    look(&mut hub, names[c], passes, now)
                }
                Step::Hear(c, p, generation, since) => {
                    provisioned |= names[c] == "topic/events" && matches!(Phase::ALL[p], Phase::Ready | Phase::Degraded);
                    hub.hear(now, said(names[c], Phase::ALL[p], generation, since), Moment(now))
                }
                Step::Announce(c, works) => {
                    let phase = if works { Phase::Working } else { Phase::Waiting };
                    hub.announce(&component(names[c]), "w/1", Instance { phase, ..waiting(&[], now) }, Moment(now))
                }
            };
            for name in names {
                let passed = looks.get(name).is_some_and(|looks| looks.iter().rev().take(3).any(|passed| *passed));
                prop_assert!(phase(&hub, name) != Some(Phase::Ready) || passed, "{} is ready unseen", name);
                let ever = looks.get(name).is_some_and(|looks| looks.contains(&true));
                let made = crate::hub::decide::made_by_others(component(name).kind());
                prop_assert!(made || ever || phase(&hub, name) != Some(Phase::Degraded), "{} was ready unseen", name);
            }
            for word in says(&effects) {
                prop_assert!(provisioned || !word.starts_with("topic/events"), "{}", word);
            }
        }
    }
}
