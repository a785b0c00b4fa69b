//! What planning says, in tables, and its laws over a model of a cluster: whatever is there, wherever a run is cut off.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;

use lifecycle::Component;
use lifecycle::document::{Identity, Replication};
use proptest::prelude::*;
use topic_provisioner::plan::ownership::{Claim, Standing, State};
use topic_provisioner::plan::{Action, Partition, Plan, Setting, Step, Topic, World, plan, standing};
use topic_provisioner::spec::{Connection, Spec, TopicSpec};
use uuid::Uuid;

const US: Uuid = Uuid::from_u128(1);

fn wanted(partitions: u32, replication: Replication, config: &[(&str, &str)]) -> TopicSpec {
    TopicSpec {
        name: "dev.x".to_owned(),
        partitions,
        replication,
        config: config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        fragment: "f".to_owned(),
        report_only: false,
        on_delete: lifecycle::document::OnDelete::Retain,
    }
}

fn spec(topics: impl IntoIterator<Item = TopicSpec>, expect_brokers: u16) -> Spec {
    let component =
        |topic: &TopicSpec| format!("topic/{}", topic.name.trim_start_matches("dev.")).parse().unwrap();
    Spec {
        cluster: "kafka/main".parse().unwrap(),
        environment: Identity { name: "dev".to_owned(), uid: US },
        connection: Connection { brokers: vec!["k:1".to_owned()], expect_brokers, tls: None },
        topics: topics.into_iter().map(|topic| (component(&topic), topic)).collect(),
    }
}

fn topic(partitions: u32, replicas: i32, config: &BTreeMap<String, String>) -> Topic {
    let partition = |id: u32| Partition {
        id: id.try_into().unwrap(),
        leader: Some(1),
        replicas: (1..=replicas).collect(),
        in_sync: (1..=replicas).collect(),
    };
    let own = |(key, value): (&String, &String)| (key.clone(), Setting { value: value.clone(), own: true });
    let mut settings: BTreeMap<String, Setting> =
        [("min.insync.replicas".to_owned(), Setting { value: "1".to_owned(), own: false })].into();
    settings.extend(config.iter().map(own));
    Topic {
        partitions: (0..partitions).map(partition).collect(),
        trouble: None,
        settings: Some(Ok(settings)),
    }
}

fn claim(environment: u128, state: State, hash: &str, offset: u64) -> Claim {
    Claim {
        environment: Uuid::from_u128(environment),
        name: if environment == 1 { "dev".to_owned() } else { format!("env{environment}") },
        fragment: "f".to_owned(),
        hash: hash.to_owned(),
        state,
        offset,
    }
}

fn world(brokers: usize, topics: &[(&str, Topic)], claims: &[Claim]) -> World {
    World {
        cluster_id: "c".to_owned(),
        brokers,
        topics: topics.iter().map(|(name, topic)| ((*name).to_owned(), topic.clone())).collect(),
        claims: [("dev.x".to_owned(), claims.to_vec())].into(),
    }
}

fn ours(topic: &TopicSpec) -> [Claim; 1] {
    [claim(1, State::Made, &topic.hash(), 5)]
}

/// A plan as its lines, without the component.
fn lines(topic: &TopicSpec, expect_brokers: u16, world: &World) -> String {
    let plan: Plan = plan(&spec([topic.clone()], expect_brokers), world);
    plan.to_string().replace("topic/x: ", "")
}

#[test]
fn what_is_absent_is_created_when_the_cluster_can_hold_it() {
    let auto = Replication::Auto;
    let three = Replication::Factor(3);
    for (brokers, expected, topic, says) in [
        (
            1,
            1,
            wanted(12, auto, &[("retention.ms", "5")]),
            "+ create topic `dev.x`: partitions 12, replicas 1, retention.ms=5",
        ),
        (5, 3, wanted(1, auto, &[]), "+ create topic `dev.x`: partitions 1, replicas 3"),
        (
            2,
            3,
            wanted(1, auto, &[]),
            "? topic `dev.x` asks for as many replicas as fit: the documents expect 3 brokers, the cluster has 2",
        ),
        (
            1,
            1,
            wanted(1, three, &[]),
            "? topic `dev.x` asks for 3 replicas: needs 3 brokers, the cluster has 1; add brokers",
        ),
        (3, 1, wanted(1, three, &[]), "replicas 3"),
        (
            3,
            1,
            wanted(1, Replication::Factor(2), &[("min.insync.replicas", "3")]),
            "! topic `dev.x` asks for min.insync.replicas 3 and has 2 replicas at most",
        ),
        (
            1,
            1,
            wanted(1, auto, &[("min.insync.replicas", "2")]),
            "? topic `dev.x` asks for min.insync.replicas 2: needs 2 brokers, the cluster has 1",
        ),
        (
            9,
            1,
            wanted(1, auto, &[("min.insync.replicas", "4")]),
            "! topic `dev.x` asks for min.insync.replicas 4 and has 3",
        ),
    ] {
        let text = lines(&topic, expected, &world(brokers, &[], &[]));
        assert!(text.contains(says) && text.lines().count() == 1, "{says}\n{text}");
    }
}

#[test]
fn what_is_not_ours_is_refused_and_named() {
    let topic = wanted(1, Replication::Auto, &[]);
    let there = [("dev.x", self::topic(1, 1, &BTreeMap::new()))];
    let theirs = [claim(2, State::Made, "", 5)];
    for (world, says) in [
        (
            world(1, &there, &[]),
            vec!["! topic `dev.x` exists and no record says who made it", "cannot be adopted yet"],
        ),
        (
            world(1, &there, &theirs),
            vec![
                "! topic `dev.x` belongs to environment `env2` (00000000-0000-0000-0000-000000000002), fragment `f`",
                "naming: {topic: \"{environment}.{name}\"}",
            ],
        ),
        (world(1, &[], &theirs), vec!["! topic `dev.x` belongs to environment `env2`"]),
        (
            world(1, &there, &[claim(2, State::Intent, "", 5), claim(1, State::Intent, "", 6)]),
            vec!["+ withdraw the claim to topic `dev.x`, which came after that of environment `env2`"],
        ),
        (
            world(1, &there, &[claim(2, State::Made, "", 5), claim(1, State::Made, "", 6)]),
            vec!["! it cannot be told whose topic `dev.x` is: environment `env2`", "environment `dev`"],
        ),
        (
            world(1, &[("dev_x", there[0].1.clone())], &[]),
            vec!["! topic `dev.x` cannot stand beside the existing topic `dev_x`"],
        ),
    ] {
        let text = lines(&topic, 1, &world);
        assert!(
            says.iter().all(|says| text.contains(says)) && !text.contains("+ create"),
            "{says:?}\n{text}"
        );
    }
}

#[test]
fn what_is_ours_grows_and_never_shrinks() {
    let config: BTreeMap<String, String> = [("retention.ms".to_owned(), "9".to_owned())].into();
    let ask = |partitions, replication| wanted(partitions, replication, &[("retention.ms", "5")]);
    for (asked, there, says) in [
        (ask(6, Replication::Auto), topic(3, 1, &config), vec!["+ add partitions to topic `dev.x`: 3 → 6"]),
        (
            ask(3, Replication::Auto),
            topic(12, 1, &config),
            vec!["~ topic `dev.x` has 12 partitions, 3 are asked for; partitions are never removed"],
        ),
        (
            ask(3, Replication::Factor(3)),
            topic(3, 1, &config),
            vec!["! topic `dev.x` asks for 3 replicas, partition 0 has 1; replication is not changed"],
        ),
        (
            ask(3, Replication::Auto),
            topic(3, 1, &config),
            vec![
                "~ topic `dev.x` has retention.ms=9, 5 is asked for",
                "~ topic `dev.x` has 1 replicas, the cluster has room for 3",
            ],
        ),
        (
            wanted(3, Replication::Auto, &[]),
            topic(3, 3, &config),
            vec!["~ topic `dev.x` has retention.ms=9, which no document asks for"],
        ),
    ] {
        let text = lines(&asked, 1, &world(3, &[("dev.x", there)], &ours(&asked)));
        assert!(says.iter().all(|says| text.contains(says)), "{says:?}\n{text}");
        assert!(!text.contains("record"), "{text}");
    }
}

#[test]
fn what_is_not_ready_is_named_by_partition_and_broker() {
    let asked = wanted(2, Replication::Auto, &[("min.insync.replicas", "2")]);
    let plan_of = |change: &dyn Fn(&mut Topic)| {
        let mut there = topic(2, 3, &asked.config);
        change(&mut there);
        lines(&asked, 3, &world(3, &[("dev.x", there)], &[claim(1, State::Intent, "", 5)]))
    };
    let text = plan_of(&|there| there.partitions[1].leader = None);
    assert_eq!(text, "? topic `dev.x` partition 1 has no leader; its replicas are on brokers 1, 2, 3\n");
    let text = plan_of(&|there| there.partitions[0].in_sync = vec![2]);
    assert_eq!(
        text,
        "? topic `dev.x` partition 0 is in sync on broker 2 only, min.insync.replicas is 2; its replicas are on brokers 1, 2, 3\n"
    );
    let text = plan_of(&|there| there.settings = Some(Err("TopicAuthorizationFailed".to_owned())));
    assert!(
        text.starts_with("? the settings of topic `dev.x` cannot be read (TopicAuthorizationFailed)"),
        "{text}"
    );
    // A topic in trouble tells of fewer partitions than it has: that is no reason to add some.
    let text = plan_of(&|there| {
        there.partitions.clear();
        there.trouble = Some("LeaderNotAvailable".to_owned());
    });
    assert_eq!(text, "? topic `dev.x`: the cluster answers LeaderNotAvailable\n");
    assert_eq!(plan_of(&|_| {}), "+ record that topic `dev.x` is this environment's\n");
}

// The model: what a cluster does with each step.
fn apply(world: &mut World, spec: &Spec, step: &Step) {
    let asked = &spec.topics[&step.topic];
    let offset = 100 + world.claims.values().map(Vec::len).sum::<usize>() as u64;
    let claims = world.claims.entry(step.name.clone()).or_default();
    let earlier = claims.iter().find(|claim| claim.environment == US).map_or(offset, |claim| claim.offset);
    claims.retain(|claim| claim.environment != US);
    if matches!(step.action, Action::Withdraw { .. }) {
        return;
    }
    claims.push(Claim { fragment: asked.fragment.clone(), ..claim(1, State::Made, &asked.hash(), earlier) });
    match &step.action {
        Action::Create { partitions, replication, config } => {
            let made = topic(*partitions, (*replication).try_into().unwrap(), config);
            assert!(world.topics.insert(step.name.clone(), made).is_none(), "created over an existing topic");
        }
        Action::AddPartitions { from, to } => {
            let there = world.topics.get_mut(&step.name).unwrap();
            assert!(there.partitions.len() == *from && *from < *to as usize, "{step}");
            let new = Partition { id: 0, ..there.partitions[0].clone() };
            there.partitions.resize(*to as usize, new);
        }
        Action::Record | Action::Withdraw { .. } => {}
    }
}

fn topics() -> impl Strategy<Value = Vec<TopicSpec>> {
    let replication = prop_oneof![Just(Replication::Auto), (1..4_u16).prop_map(Replication::Factor)];
    let config =
        prop::sample::select(vec![vec![], vec![("min.insync.replicas", "2")], vec![("retention.ms", "5")]]);
    let one = |name: &'static str| {
        (1..4_u32, replication.clone(), config.clone()).prop_map(move |(partitions, replication, config)| {
            TopicSpec { name: name.to_owned(), ..wanted(partitions, replication, &config) }
        })
    };
    (one("dev.x"), one("dev.y.z")).prop_map(|(a, b)| vec![a, b])
}

fn there() -> impl Strategy<Value = Topic> {
    let settings = prop::sample::select(vec!["1", "2"]);
    (1..5_u32, 1..4_i32, any::<bool>(), any::<bool>(), settings).prop_map(
        |(partitions, replicas, led, synced, insync)| {
            let config = [("min.insync.replicas".to_owned(), insync.to_owned())].into();
            let mut topic = topic(partitions, replicas, &config);
            if !led {
                topic.partitions[0].leader = None;
            }
            if !synced {
                topic.partitions[0].in_sync.truncate(1);
            }
            topic
        },
    )
}

fn worlds() -> impl Strategy<Value = World> {
    let state = prop::sample::select(vec![State::Intent, State::Made, State::Unreadable]);
    let claim = (1..4_u128, state).prop_map(|(who, state)| claim(who, state, "", 0));
    let claims = prop::collection::vec(claim, 0..4).prop_map(|mut claims| {
        let mut seen = std::collections::BTreeSet::new();
        claims.retain(|claim| seen.insert(claim.environment));
        (0_u64..).zip(&mut claims).for_each(|(offset, claim)| claim.offset = offset);
        claims
    });
    let names = || prop::sample::select(vec!["dev.x", "dev.y.z", "dev_x", "dev.y_z", "other"]);
    (
        0..5_usize,
        prop::collection::btree_map(names().prop_map(str::to_owned), there(), 0..4),
        prop::collection::btree_map(names().prop_map(str::to_owned), claims, 0..4),
    )
        .prop_map(|(brokers, topics, claims)| World {
            cluster_id: "c".to_owned(),
            brokers,
            topics,
            claims,
        })
}

fn run(world: &mut World, spec: &Spec, steps: usize) -> Plan {
    let plan = plan(spec, world);
    for step in plan.steps.iter().take(steps) {
        apply(world, spec, step);
    }
    plan
}

fn speaks_of(plan: &Plan, component: &Component) -> bool {
    let notes = plan.refusals.iter().chain(&plan.pending);
    notes.map(|note| &note.component).chain(plan.steps.iter().map(|step| &step.topic)).any(|c| c == component)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn twice_is_once_and_what_is_settled_is_as_asked(topics in topics(), mut world in worlds()) {
        let spec = spec(topics, 1);
        // The second finishes what the first could not see yet: a grown topic without a leader elsewhere.
        run(&mut world, &spec, usize::MAX);
        let once = world.clone();
        let second = run(&mut world, &spec, usize::MAX);
        prop_assert!(second.steps.is_empty(), "{second}");
        prop_assert_eq!(&world, &once);
        for (_, asked) in spec.topics.iter().filter(|(component, _)| !speaks_of(&second, component)) {
            prop_assert!(matches!(standing(&world, &asked.name, US), Standing::Ours(_)));
            prop_assert!(world.topics[&asked.name].partitions.len() >= asked.partitions as usize);
            prop_assert!(world.topics[&asked.name].partitions.iter().all(|partition| partition.leader.is_some()));
        }
    }

    #[test]
    fn nothing_of_others_is_touched_and_nothing_of_ours_gets_less(topics in topics(), before in worlds()) {
        let spec = spec(topics, 1);
        let mut world = before.clone();
        let plan = run(&mut world, &spec, usize::MAX);
        for (name, was) in &before.topics {
            let is = &world.topics[name];
            let ours = matches!(standing(&before, name, US), Standing::Ours(_));
            prop_assert!(is == was || ours, "{name}: {plan}");
            prop_assert!(is.partitions.len() >= was.partitions.len());
            prop_assert_eq!(&is.settings, &was.settings);
        }
        let of_others = |world: &World| -> Vec<(String, Claim)> {
            let claims = world.claims.iter().flat_map(|(name, claims)| claims.iter().map(move |claim| (name.clone(), claim.clone())));
            claims.filter(|(_, claim)| claim.environment != US).collect()
        };
        prop_assert_eq!(of_others(&world), of_others(&before));
        for refusal in &plan.refusals {
            let name = &spec.topics[&refusal.component].name;
            prop_assert_eq!(world.topics.get(name), before.topics.get(name), "{}", plan);
        }
    }

    #[test]
    fn a_run_cut_off_anywhere_is_finished_by_the_next(topics in topics(), before in worlds(), steps in 0..4_usize) {
        let spec = spec(topics, 1);
        let (mut cut, mut whole) = (before.clone(), before);
        run(&mut cut, &spec, steps);
        run(&mut cut, &spec, usize::MAX);
        run(&mut whole, &spec, usize::MAX);
        prop_assert_eq!(cut.topics, whole.topics);
    }
}
