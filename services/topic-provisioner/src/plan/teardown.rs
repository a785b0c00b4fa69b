//! Deciding what a teardown takes away of a cluster: topics whose record says that they are this environment's and were made, that
//! are to go by their document, and that nobody reads. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifecycle::Component;
use lifecycle::document::OnDelete;
use uuid::Uuid;

use super::World;
use super::ownership::{Claim, Standing, State, standing};
use crate::spec::TopicSpec;

/// Who reads topics now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readers {
    /// The consumer group and its members, for people, by topic.
    pub of: BTreeMap<String, BTreeSet<String>>,
    /// Members of consumer groups of which it cannot be told what they read, as while a group rebalances: it may be anything.
    pub unclear: BTreeSet<String>,
}

/// What is decided about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not there, or not this environment's and not worth a word.
    Nothing,
    /// It is deleted, and then its record.
    Delete,
    /// It is gone; its record goes too.
    Forget,
    /// It stays; says why.
    Retained(String),
    /// It will not be deleted; says why, and what to do.
    Refused(String),
    /// Nobody declares it, so it stays; says what would delete it.
    Orphan(String),
    /// It is somebody else's.
    Foreign(String),
}

/// A topic that a teardown is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The component.
    pub component: Component,
    /// Its name on the cluster.
    pub name: String,
    /// The fragment that declares it; none where nobody does.
    pub fragment: Option<String>,
    /// What its document says.
    pub wish: Wish,
}

/// What is to become of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It goes.
    Delete,
    /// It stays by its document.
    Retain,
    /// It stays because its fragment is in mode `report`.
    Report,
    /// Nobody declares it, and that it goes was not said.
    Orphan,
}

impl Subject {
    /// A declared topic.
    pub fn declared(component: &Component, topic: &TopicSpec) -> Self {
        let wish = match (topic.report_only, topic.on_delete) {
            (true, _) => Wish::Report,
            (false, OnDelete::Retain) => Wish::Retain,
            (false, OnDelete::Delete) => Wish::Delete,
        };
        Subject {
            component: component.clone(),
            name: topic.name.clone(),
            fragment: Some(topic.fragment.clone()),
            wish,
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wish::Delete => "goes",
            Wish::Retain => "stays with its record, for its document does not say `on_delete: delete`",
            Wish::Report => "stays, for its fragment is in mode report",
            Wish::Orphan => {
                "no document here declares it; where no other does, `--orphan` with its name deletes it, if the fragment that declares its \
                 cluster says `on_delete: delete`"
            }
        })
    }
}

/// The topics that records say are this environment's and that are not among the `declared` ones, by their names.
pub fn undeclared(world: &World, environment: Uuid, declared: &BTreeSet<String>) -> Vec<String> {
    let own = |claims: &[Claim]| matches!(standing(claims, environment), Standing::Ours(_));
    let own = world.claims.iter().filter(|(name, claims)| !declared.contains(*name) && own(claims));
    own.map(|(name, _)| name.clone()).collect()
}

/// What becomes of one topic.
pub fn decide(subject: &Subject, world: &World, readers: &Readers, environment: Uuid) -> Verdict {
    let name = &subject.name;
    let there = world.topics.get(name);
    let claims = world.claims.get(name).map_or(&[][..], Vec::as_slice);
    let claim = match standing(claims, environment) {
        Standing::Ours(claim) => claim,
        Standing::Nobody if there.is_some() => {
            return Verdict::Foreign(format!(
                "topic `{name}` carries no record of this environment and is not touched"
            ));
        }
        Standing::Nobody => return Verdict::Nothing,
        Standing::Theirs { owner, .. } => {
            return Verdict::Foreign(format!(
                "topic `{name}` belongs to environment `{}` ({}) and is not touched",
                owner.name, owner.environment
            ));
        }
        Standing::Ambiguous(_) => {
            return Verdict::Refused(format!(
                "the records of topic `{name}` contradict each other or cannot be read, so whose it is cannot be told; see topic \
                 `rollcall.ownership`"
            ));
        }
    };
    match subject.wish {
        Wish::Delete => {}
        Wish::Orphan => {
            return Verdict::Orphan(format!(
                "topic `{name}` of fragment `{}`: {}",
                claim.fragment, subject.wish
            ));
        }
        Wish::Retain | Wish::Report => return Verdict::Retained(format!("topic `{name}` {}", subject.wish)),
    }
    if let Some(fragment) = subject.fragment.as_ref().filter(|fragment| **fragment != claim.fragment) {
        return Verdict::Refused(format!(
            "topic `{name}` was made by fragment `{}` of this environment and not by `{fragment}`, which declares it here; tear it down \
             with that one's document",
            claim.fragment
        ));
    }
    let Some(topic) = there else { return Verdict::Forget };
    if claim.state != State::Made {
        return Verdict::Refused(format!(
            "topic `{name}` is there and was never recorded as made, so it may be somebody else's; run `topic-provisioner apply`, which \
             finishes it or says whose it is, and then this"
        ));
    }
    if let Some(trouble) = &topic.trouble {
        return Verdict::Refused(format!("the cluster says of topic `{name}`: {trouble}; mend that first"));
    }
    match readers.of.get(name).filter(|readers| !readers.is_empty()) {
        None if !readers.unclear.is_empty() => {
            let unclear: Vec<&str> = readers.unclear.iter().map(String::as_str).collect();
            Verdict::Refused(format!(
                "topic `{name}` may be being read by {}, of which the cluster does not tell what they read: run this again when their \
                 group has settled, or stop them",
                unclear.join(", ")
            ))
        }
        None => Verdict::Delete,
        Some(readers) => {
            let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
            Verdict::Refused(format!(
                "topic `{name}` is being read by {}: stop them first",
                readers.join(", ")
            ))
        }
    }
}

/// The topics that a member's subscription or assignment names, in the consumer protocol of Kafka (ConsumerProtocolSubscription and
/// ConsumerProtocolAssignment: a version, then an array of topics, with an array of partitions each where it is an assignment).
/// None where it is of another shape.
pub fn topics_of(bytes: &[u8], assignment: bool) -> Option<BTreeSet<String>> {
    let mut rest = bytes.get(2..)?;
    let mut topics = BTreeSet::new();
    for _ in 0..number(&mut rest)? {
        let length = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        topics.insert(String::from_utf8(take(&mut rest, length.into())?.to_vec()).ok()?);
        if assignment {
            let partitions = usize::try_from(number(&mut rest)?).ok()?;
            take(&mut rest, partitions.checked_mul(4)?)?;
        }
    }
    Some(topics)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Topic;

    const US: Uuid = Uuid::from_u128(1);

    fn claim(environment: u128, fragment: &str, state: State) -> Claim {
        Claim {
            environment: Uuid::from_u128(environment),
            name: format!("env{environment}"),
            fragment: fragment.to_owned(),
            hash: String::new(),
            state,
            offset: u64::try_from(environment).unwrap(),
        }
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        prop_oneof![Just(Wish::Delete), Just(Wish::Retain), Just(Wish::Report), Just(Wish::Orphan)]
    }

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Intent), Just(State::Made), Just(State::Unreadable)]
    }

    proptest! {
        #[test]
        fn only_what_is_recorded_as_made_by_us_and_unread_is_deleted(
            wish in wishes(), ours in prop::option::of((states(), any::<bool>())), theirs in prop::option::of(states()),
            there in any::<bool>(), trouble in any::<bool>(), read in any::<bool>(), unclear in any::<bool>(),
        ) {
            let mut world = World::default();
            let own = ours.map(|(state, same)| claim(1, if same { "f" } else { "other" }, state));
            let claims: Vec<Claim> = own.into_iter().chain(theirs.map(|state| claim(2, "f", state))).collect();
            world.claims.insert("x".to_owned(), claims);
            if there {
                let trouble = trouble.then(|| "UnknownTopicOrPartition".to_owned());
                world.topics.insert("x".to_owned(), Topic { trouble, ..Topic::default() });
            }
            let mut readers = Readers::default();
            if read {
                readers.of.insert("x".to_owned(), ["g".to_owned()].into());
            }
            if unclear {
                readers.unclear.insert("h".to_owned());
            }
            let fragment = (wish != Wish::Orphan).then(|| "f".to_owned());
            let subject = Subject { component: "topic/x".parse().unwrap(), name: "x".to_owned(), fragment, wish };
            let verdict = decide(&subject, &world, &readers, US);
            if matches!(verdict, Verdict::Delete | Verdict::Forget) {
                prop_assert!(matches!(ours, Some((State::Made | State::Intent, true))) && wish == Wish::Delete);
                prop_assert_ne!(theirs, Some(State::Made));
            }
            if verdict == Verdict::Delete {
                prop_assert!(there && !trouble && !read && !unclear && matches!(ours, Some((State::Made, _))));
            }
            // After it is done nothing is left to do.
            if verdict == Verdict::Delete {
                world.topics.clear();
                prop_assert_eq!(decide(&subject, &world, &readers, US), Verdict::Forget);
            }
        }

        #[test]
        fn what_is_no_assignment_is_not_read_as_one(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            // It ends, and never reads beyond its end.
            let _ = (topics_of(&bytes, true), topics_of(&bytes, false));
        }
    }

    #[test]
    fn an_assignment_names_its_topics() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (name, partitions) in [("dev.a", 2_u32), ("b", 0)] {
            bytes.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(partitions.to_be_bytes());
            bytes.extend(vec![0; 4 * partitions as usize]);
        }
        assert_eq!(topics_of(&bytes, true), Some(["b".to_owned(), "dev.a".to_owned()].into()));
        assert_eq!(topics_of(&bytes[..bytes.len() - 1], true), None);
    }
}
