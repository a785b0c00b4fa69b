//! What an earlier life left on the bus, and what may be made of it.

use super::*;

fn bring_up(generation: u64) -> BringUp {
    let fragments_hash = both().bring_up.unwrap().fragments_hash;
    BringUp { environment: identity(), generation, started: Moment(1), fragments_hash }
}

#[test]
fn what_was_registered_outranks_what_an_earlier_life_left() {
    let mut hub = hub();
    let new = fragment("base", BASE);
    hub.register(vec![new.clone()], Moment(1));
    let old = fragment("base", &BASE.replace("http://keycloak/", "http://keycloak.old/"));
    assert_eq!(hub.recall(old.clone(), Moment(2)), (None, Vec::new()));
    assert_eq!(hub.fragments().collect::<Vec<_>>(), [&new]);
    hub.recall(fragment("registry", REGISTRY), Moment(3));
    assert!(hub.graph().declares(&component("module/registry")), "what nobody registered is recalled");

    let mut known = super::hub();
    known.recall(new.clone(), Moment(1));
    known.register(vec![new.clone()], Moment(2));
    known.recall(old, Moment(3));
    assert_eq!(known.fragments().collect::<Vec<_>>(), [&new], "also when it was known already");
}

#[test]
fn what_moves_from_one_fragment_to_another_moves_whatever_their_names() {
    let (with, without) = ("modules: {web: {}}", "modules: {other: {}}");
    for (from, to) in [("a", "b"), ("b", "a")] {
        let mut hub = hub();
        hub.register(vec![fragment(from, with)], Moment(1));
        let mut batch = vec![fragment(from, without), fragment(to, with)];
        batch.sort_by(|a, b| a.name.cmp(&b.name));
        let (refused, effects) = hub.register(batch, Moment(2));
        assert_eq!(refused, []);
        assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Keep(_))).count(), 2);
        assert!(
            hub.graph().declares(&component("module/web"))
                && hub.graph().declares(&component("module/other"))
        );
    }
    let mut hub = hub();
    hub.register(vec![fragment("a", with)], Moment(1));
    let (refused, _) = hub.register(vec![fragment("b", with), fragment("c", without)], Moment(2));
    assert_eq!(refused.len(), 1, "a clash stays one, and is told once");

    let (refused, _) = hub.register(vec![fragment("a", without), fragment("c", with)], Moment(3));
    assert_eq!(refused, [], "two may change places");

    let third = "modules: {third: {}}";
    hub.register(vec![fragment("e", third)], Moment(4));
    let clash = fragment("d", third);
    let swap = vec![fragment("a", with), clash, fragment("c", without)];
    let (refused, _) = hub.register(swap, Moment(5));
    assert_eq!(
        refused.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["d"],
        "also beside one that clashes"
    );
}

#[test]
fn what_changed_together_is_recalled_though_the_bus_tells_it_one_by_one() {
    let declares = |module: &str| format!("modules: {{{module}: {{}}}}");
    let (x, y) = (declares("x"), declares("y"));
    for log in [vec![("a", &x), ("c", &y), ("a", &y), ("c", &x)], vec![("c", &x), ("a", &x), ("c", &y)]] {
        let mut hub = hub();
        for (name, body) in &log {
            hub.recall(fragment(name, body), Moment(1));
        }
        for (name, body) in log.iter().rev().take(2) {
            assert!(hub.fragments().any(|known| *known == fragment(name, body)), "{name} of {log:?}");
        }
        assert_eq!(hub.registered().count(), 0, "nothing of it has to be told to the bus");
    }
}

#[test]
fn only_the_hubs_own_word_about_this_bring_up_counts_as_having_been_ready() {
    for (source, generation, settled, wanted) in [
        ("hub/0", 5, true, Some(Phase::Degraded)),
        ("hub/0", 5, false, None),
        ("hub/0", 4, true, None),
        ("hub/0", 6, true, None),
        ("hubris/0", 5, true, None),
        ("topic-provisioner/1", 5, true, None),
    ] {
        for word in [Phase::Ready, Phase::Degraded] {
            let mut hub = both();
            hub.recall_bring_up(bring_up(5));
            let event = Event { source: source.to_owned(), ..said("module/keycloak", word, generation, 2) };
            hub.hear(1, event, Moment(3));
            look(&mut hub, "module/keycloak", false, 4);
            if settled {
                hub.settle(Moment(5));
            }
            assert_eq!(
                phase(&hub, "module/keycloak"),
                wanted,
                "{source} {generation} settled: {settled} {word}"
            );
        }
    }
}

#[test]
fn a_word_makes_nothing_ready_that_cannot_be_looked_at() {
    let mut hub = hub();
    hub.register(vec![fragment("quiet", "modules: {quiet: {}}")], Moment(1));
    hub.settle(Moment(1));
    hub.hear(1, said("module/quiet", Phase::Ready, 1, 2), Moment(2));
    assert_eq!(phase(&hub, "module/quiet"), None);
}

#[test]
fn an_absurd_bring_up_changes_nothing() {
    let mut hub = both();
    for generation in [u64::MAX, u64::MAX - 1, 1 << 32] {
        hub.recall_bring_up(bring_up(generation));
        assert_eq!(hub.generation(), 1);
    }
    hub.bring_up = Some(bring_up(u64::MAX));
    look(&mut hub, "module/keycloak", true, 2);
    look(&mut hub, "module/registry", true, 3);
    hub.register(vec![fragment("audit", "modules: {audit: {}}")], Moment(4));
    assert_eq!(hub.generation(), u64::MAX, "and nothing overflows");
}
