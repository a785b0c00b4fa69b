//! Deciding: what a cluster lacks of the topics that documents declare, and what must not be done to it.

pub mod ownership;
pub mod teardown;

use std::collections::BTreeMap;
use std::fmt;

use chassis::converge::{self, Note};
use lifecycle::Component;
use lifecycle::document::Replication;
use uuid::Uuid;

use crate::spec::{Spec, TopicSpec};
use ownership::{Claim, Standing, State};

/// What `replication: auto` takes at most.
const AUTO_REPLICATION: usize = 3;

/// What is on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The cluster's id.
    pub cluster_id: String,
    /// How many brokers are there.
    pub brokers: usize,
    /// Every topic, by its name.
    pub topics: BTreeMap<String, Topic>,
    /// Who claims which topic.
    pub claims: BTreeMap<String, Vec<Claim>>,
}

impl World {
    /// The same, of one topic only.
    #[must_use]
    pub fn only(&self, topic: &str) -> World {
        World {
            cluster_id: self.cluster_id.clone(),
            brokers: self.brokers,
            topics: self
                .topics
                .get_key_value(topic)
                .map(|(name, topic)| (name.clone(), topic.clone()))
                .into_iter()
                .collect(),
            claims: self
                .claims
                .get_key_value(topic)
                .map(|(name, claims)| (name.clone(), claims.clone()))
                .into_iter()
                .collect(),
        }
    }
}

/// One topic as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topic {
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What the cluster says is wrong with it: then its partitions may not be all there are.
    pub trouble: Option<String>,
    /// Its settings, or why they cannot be read. Only looked at where a document asks for the topic.
    pub settings: Option<Result<BTreeMap<String, Setting>, String>>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// Its number.
    pub id: i32,
    /// The broker that leads it.
    pub leader: Option<i32>,
    /// The brokers that are to hold it.
    pub replicas: Vec<i32>,
    /// Those that hold all of it.
    pub in_sync: Vec<i32>,
}

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// It was set on this topic; the cluster's own otherwise.
    pub own: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The topic's component.
    pub topic: Component,
    /// The topic's name on the cluster.
    pub name: String,
    /// The change.
    pub action: Action,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Creates the topic. All that a plan creates are created together.
    Create {
        /// How many partitions.
        partitions: u32,
        /// How many replicas each.
        replication: usize,
        /// Its configuration.
        config: BTreeMap<String, String>,
    },
    /// Adds partitions.
    AddPartitions {
        /// How many it has.
        from: usize,
        /// How many it gets.
        to: u32,
    },
    /// Records that the topic is made, and by which wish.
    Record,
    /// Takes back a claim that came after another environment's.
    Withdraw {
        /// The other environment's name.
        owner: String,
    },
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        &self.topic
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.action {
            Action::Create { partitions, replication, config } => {
                write!(f, "create topic `{name}`: partitions {partitions}, replicas {replication}")?;
                config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))
            }
            Action::AddPartitions { from, to } => {
                write!(f, "add partitions to topic `{name}`: {from} → {to}")
            }
            Action::Record => write!(f, "record that topic `{name}` is this environment's"),
            Action::Withdraw { owner } => {
                write!(
                    f,
                    "withdraw the claim to topic `{name}`, which came after that of environment `{owner}`"
                )
            }
        }
    }
}

/// A plan for a cluster.
pub type Plan = converge::Plan<Step>;

/// Decides.
pub fn plan(spec: &Spec, world: &World) -> Plan {
    let mut plan = Plan::default();
    for (component, topic) in &spec.topics {
        Deciding { spec, world, component, topic, plan: &mut plan }.decide();
    }
    plan
}

/// Whose the topic is, as the environment sees it.
pub fn standing(world: &World, topic: &str, environment: Uuid) -> Standing {
    ownership::standing(world.claims.get(topic).map_or(&[], Vec::as_slice), environment)
}

struct Deciding<'a> {
    spec: &'a Spec,
    world: &'a World,
    component: &'a Component,
    topic: &'a TopicSpec,
    plan: &'a mut Plan,
}

impl Deciding<'_> {
    fn note(&self, text: impl fmt::Display) -> Note {
        Note::new(self.component, text)
    }

    fn refuse(&mut self, text: impl fmt::Display) {
        self.plan.refusals.push(self.note(text));
    }

    fn wait(&mut self, text: impl fmt::Display) {
        self.plan.pending.push(self.note(text));
    }

    fn drift(&mut self, text: impl fmt::Display) {
        self.plan.drift.push(self.note(text));
    }

    fn step(&mut self, action: Action) {
        self.plan.steps.push(Step { topic: self.component.clone(), name: self.topic.name.clone(), action });
    }

    fn decide(&mut self) {
        let name = &self.topic.name;
        let seen = self.world.topics.get(name);
        match (standing(self.world, name, self.spec.environment.uid), seen) {
            // Refused as soon as that is done.
            (Standing::Theirs { owner, withdraw: true }, _) => self.step(Action::Withdraw { owner: owner.name }),
            (Standing::Theirs { owner, withdraw: false }, _) => {
                let example = "naming: {topic: \"{environment}.{name}\"}";
                self.refuse(format!(
                    "topic `{name}` belongs to {}; give this environment names of its own, for example with `{example}`",
                    person(&owner)
                ));
            }
            (Standing::Ambiguous(claims), _) => {
                let who: Vec<String> = claims.iter().map(person).collect();
                self.refuse(format!(
                    "it cannot be told whose topic `{name}` is: {}; decide which, and delete the other records from the topic rollcall.ownership",
                    who.join(" and ")
                ));
            }
            (Standing::Nobody, Some(_)) => self.refuse(format!(
                "topic `{name}` exists and no record says who made it; existing topics cannot be adopted yet: give ours another name, or delete the topic if nobody needs it"
            )),
            (Standing::Nobody | Standing::Ours(_), None) => self.absent(),
            (Standing::Ours(claim), Some(seen)) => self.present(&claim, seen),
        }
    }

    /// The topic may be created.
    fn absent(&mut self) {
        let (name, brokers) = (&self.topic.name, self.world.brokers);
        let (world, fold) = (self.world, |name: &str| name.replace('.', "_"));
        if let Some(other) = world.topics.keys().find(|other| fold(other) == fold(name)) {
            return self.refuse(format!(
                "topic `{name}` cannot stand beside the existing topic `{other}`: Kafka takes `.` and `_` for the same; rename ours"
            ));
        }
        let (expected, insync) = (usize::from(self.spec.connection.expect_brokers), self.topic.min_insync());
        let most = match self.topic.replication {
            Replication::Factor(factor) => usize::from(factor),
            Replication::Auto => AUTO_REPLICATION,
        };
        if let Some(insync) = insync.filter(|insync| *insync > most) {
            return self.refuse(format!(
                "topic `{name}` asks for min.insync.replicas {insync} and has {most} replicas at most, so nothing could ever be written; lower the one or raise the other"
            ));
        }
        let replication = match self.topic.replication {
            Replication::Factor(factor) if usize::from(factor) > brokers => {
                return self.wait(format!(
                    "topic `{name}` asks for {factor} replicas: needs {factor} brokers, the cluster has {brokers}; add brokers, or ask for fewer replicas (`auto` takes what there is)"
                ));
            }
            Replication::Factor(factor) => usize::from(factor),
            // What is chosen now stays: with the brokers that happen to be up first it would be too few for ever.
            Replication::Auto if brokers < expected.max(1) => {
                return self.wait(format!(
                    "topic `{name}` asks for as many replicas as fit: the documents expect {expected} brokers, the cluster has {brokers}; start the others, or lower expect_brokers"
                ));
            }
            Replication::Auto => brokers.min(AUTO_REPLICATION),
        };
        if let Some(insync) = insync.filter(|insync| *insync > replication) {
            return self.wait(format!(
                "topic `{name}` asks for min.insync.replicas {insync}: needs {insync} brokers, the cluster has {brokers}; add brokers, or lower it"
            ));
        }
        let (partitions, config) = (self.topic.partitions, self.topic.config.clone());
        self.step(Action::Create { partitions, replication, config });
    }

    /// The topic is ours and is there.
    fn present(&mut self, claim: &Claim, seen: &Topic) {
        let name = &self.topic.name;
        if let Some(trouble) = &seen.trouble {
            return self.wait(format!("topic `{name}`: the cluster answers {trouble}"));
        }
        let fewest =
            seen.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or_default();
        match self.topic.replication {
            Replication::Factor(factor) => {
                let factor = usize::from(factor);
                let other = seen.partitions.iter().find(|partition| partition.replicas.len() != factor);
                if let Some(other) = other {
                    return self.refuse(format!(
                        "topic `{name}` asks for {factor} replicas, partition {} has {}; replication is not changed by Rollcall: reassign its replicas, or ask for what it has",
                        other.id,
                        other.replicas.len()
                    ));
                }
            }
            Replication::Auto => {
                let wanted = self.world.brokers.min(AUTO_REPLICATION);
                if fewest < wanted {
                    self.drift(format!(
                        "topic `{name}` has {fewest} replicas, the cluster has room for {wanted}"
                    ));
                }
            }
        }
        let (has, asked) = (seen.partitions.len(), self.topic.partitions);
        if has > asked as usize {
            self.drift(format!(
                "topic `{name}` has {has} partitions, {asked} are asked for; partitions are never removed"
            ));
        }
        self.settings(seen);
        if self.unready(seen) {
            return;
        }
        let recorded = claim.state == State::Made
            && claim.hash == self.topic.hash()
            && claim.fragment == self.topic.fragment;
        if has < asked as usize {
            self.step(Action::AddPartitions { from: has, to: asked });
        } else if !recorded {
            // The record is the last thing written: what is not ready is not made yet.
            self.step(Action::Record);
        }
    }

    /// Notes what differs from the settings asked for.
    fn settings(&mut self, seen: &Topic) {
        let Some(Ok(settings)) = &seen.settings else { return };
        let name = &self.topic.name;
        for (key, asked) in &self.topic.config {
            match settings.get(key).map(|setting| &setting.value) {
                Some(value) if value == asked => {}
                Some(value) => self.drift(format!(
                    "topic `{name}` has {key}={value}, {asked} is asked for; it is left as it is"
                )),
                None => self.drift(format!(
                    "topic `{name}` does not have {key}, {asked} is asked for; it is left as it is"
                )),
            }
        }
        let own =
            settings.iter().filter(|(key, setting)| setting.own && !self.topic.config.contains_key(*key));
        for (key, setting) in own.collect::<Vec<_>>() {
            self.drift(format!(
                "topic `{name}` has {key}={}, which no document asks for; it is left as it is",
                setting.value
            ));
        }
    }

    /// Notes the first partition that cannot be used; whether there is one.
    fn unready(&mut self, seen: &Topic) -> bool {
        let name = &self.topic.name;
        let needed = match &seen.settings {
            Some(Ok(settings)) => settings
                .get("min.insync.replicas")
                .and_then(|setting| setting.value.parse().ok())
                .unwrap_or(1),
            Some(Err(why)) => {
                self.wait(format!(
                    "the settings of topic `{name}` cannot be read ({why}); let this client describe them"
                ));
                return true;
            }
            None => 1,
        };
        for partition in &seen.partitions {
            let Partition { id, leader, replicas, in_sync } = partition;
            if leader.is_none() {
                self.wait(format!(
                    "topic `{name}` partition {id} has no leader; its replicas are on {}",
                    brokers(replicas)
                ));
                return true;
            }
            if in_sync.len() < needed {
                self.wait(format!(
                    "topic `{name}` partition {id} is in sync on {} only, min.insync.replicas is {needed}; its replicas are on {}",
                    brokers(in_sync),
                    brokers(replicas)
                ));
                return true;
            }
        }
        false
    }
}

fn brokers(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
    match ids.as_slice() {
        [] => "no broker".to_owned(),
        [id] => format!("broker {id}"),
        ids => format!("brokers {}", ids.join(", ")),
    }
}

fn person(claim: &Claim) -> String {
    if claim.state == State::Unreadable {
        return format!("environment {} (its record cannot be read)", claim.environment);
    }
    format!("environment `{}` ({}), fragment `{}`", claim.name, claim.environment, claim.fragment)
}
