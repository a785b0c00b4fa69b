//! Whose a topic is: the rules over the records of the ownership topic, apart from reading and writing them.
//!
//! Every environment writes its intent before it creates, reads to the end, and creates only if nobody's intent stands
//! before its own. It writes even when it holds a claim already, so that another process of the same environment can tell
//! that it is not alone. A record that says *made* beats any intent: compaction may have moved its offset. What these rules
//! cannot decide is refused.

use std::collections::BTreeMap;

use uuid::Uuid;

/// One record of the ownership topic, or its deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The topic, by its name on the cluster.
    pub topic: String,
    /// The environment's uid.
    pub environment: Uuid,
    /// What it says; none when it was withdrawn.
    pub claim: Option<Claim>,
}

/// An environment's claim to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The environment's uid.
    pub environment: Uuid,
    /// The environment's name, for people.
    pub name: String,
    /// The fragment that declares the topic.
    pub fragment: String,
    /// What was asked for when the record was written.
    pub hash: String,
    /// How far it has come.
    pub state: State,
    /// Where it stands.
    pub offset: u64,
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The topic was seen to be absent and is about to be created.
    Intent,
    /// The topic was made.
    Made,
    /// The record is there and cannot be read: it counts as somebody's.
    Unreadable,
}

/// Whose a topic is, as one environment sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No record speaks of it.
    Nobody,
    /// It is ours.
    Ours(Claim),
    /// It is another's. `withdraw` says that a claim of ours must go.
    Theirs {
        /// The owner's claim.
        owner: Claim,
        /// Ours came too late.
        withdraw: bool,
    },
    /// The records contradict each other, or ours cannot be read.
    Ambiguous(Vec<Claim>),
}

/// What each environment says last of each topic. A claim stands where it was first written since it was last withdrawn:
/// two processes of one environment both write its intent, and the second must not move the first behind a rival's.
pub fn fold(entries: &[Entry]) -> BTreeMap<String, Vec<Claim>> {
    let mut claims: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
    for entry in entries {
        let of_topic = claims.entry(entry.topic.clone()).or_default();
        let earlier = of_topic.iter().position(|claim| claim.environment == entry.environment);
        let first = earlier.map(|at| of_topic.remove(at).offset);
        of_topic.extend(
            entry.claim.clone().map(|claim| Claim { offset: first.unwrap_or(claim.offset), ..claim }),
        );
    }
    claims.retain(|_, claims| !claims.is_empty());
    claims
}

/// Whose a topic with these claims is, as the environment `own` sees it.
pub fn standing(claims: &[Claim], own: Uuid) -> Standing {
    let (ours, others): (Vec<&Claim>, Vec<&Claim>) =
        claims.iter().partition(|claim| claim.environment == own);
    let ours = ours.last().copied();
    let ambiguous = || Standing::Ambiguous(claims.to_vec());
    if ours.is_some_and(|ours| ours.state == State::Unreadable) {
        return ambiguous();
    }
    let theirs = |owner: &Claim| Standing::Theirs { owner: owner.clone(), withdraw: ours.is_some() };
    let made: Vec<&Claim> = others.iter().copied().filter(|claim| claim.state != State::Intent).collect();
    let first = others.iter().copied().min_by_key(|claim| claim.offset);
    match (ours, made.as_slice(), first) {
        (None, [], None) => Standing::Nobody,
        (Some(ours), [], None) => Standing::Ours(ours.clone()),
        (Some(ours), [], Some(first)) if ours.state == State::Made || ours.offset < first.offset => {
            Standing::Ours(ours.clone())
        }
        (Some(ours), [_, ..], _) if ours.state == State::Made => ambiguous(),
        (_, [_, _, ..], _) => ambiguous(),
        (_, [owner], _) => theirs(owner),
        (_, [], Some(first)) => theirs(first),
    }
}

/// How many records the environment `own` has for a topic since it last withdrew: more than the one that this process
/// wrote means that another process of the same environment is at work.
pub fn written(entries: &[Entry], topic: &str, own: Uuid) -> usize {
    let ours = entries.iter().filter(|entry| entry.topic == topic && entry.environment == own);
    ours.fold(0, |count, entry| if entry.claim.is_some() { count + 1 } else { 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(environment: u128, state: State, offset: u64) -> Claim {
        Claim {
            environment: Uuid::from_u128(environment),
            name: format!("env{environment}"),
            fragment: "f".to_owned(),
            hash: String::new(),
            state,
            offset,
        }
    }

    fn name(standing: &Standing) -> String {
        match standing {
            Standing::Nobody => "nobody".to_owned(),
            Standing::Ours(_) => "ours".to_owned(),
            Standing::Theirs { owner, withdraw: false } => owner.name.clone(),
            Standing::Theirs { owner, withdraw: true } => format!("{}, withdraw", owner.name),
            Standing::Ambiguous(_) => "ambiguous".to_owned(),
        }
    }

    /// Environment, state, offset.
    type Claims = &'static [(u128, State, u64)];

    #[test]
    fn whose_a_topic_is() {
        use State::{Intent, Made, Unreadable};
        let table: &[(Claims, &str)] = &[
            (&[], "nobody"),
            (&[(1, Intent, 5)], "ours"),
            (&[(1, Made, 5)], "ours"),
            (&[(1, Unreadable, 5)], "ambiguous"),
            (&[(2, Intent, 5)], "env2"),
            (&[(2, Made, 5)], "env2"),
            (&[(2, Unreadable, 5)], "env2"),
            (&[(1, Intent, 5), (2, Intent, 6)], "ours"),
            (&[(2, Intent, 5), (1, Intent, 6)], "env2, withdraw"),
            (&[(1, Intent, 5), (2, Made, 6)], "env2, withdraw"),
            (&[(2, Intent, 5), (1, Made, 6)], "ours"),
            (&[(2, Made, 5), (1, Made, 6)], "ambiguous"),
            (&[(2, Made, 5), (3, Made, 6)], "ambiguous"),
            (&[(3, Intent, 4), (2, Intent, 5)], "env3"),
        ];
        for (claims, expected) in table {
            let claims: Vec<Claim> =
                claims.iter().map(|(who, state, offset)| claim(*who, *state, *offset)).collect();
            assert_eq!(name(&standing(&claims, Uuid::from_u128(1))), *expected, "{claims:?}");
        }
    }

    /// The ownership topic, a cluster of one topic `t`, and processes that follow the protocol as `world` does.
    #[derive(Default)]
    struct Cluster {
        log: Vec<Entry>,
        /// Who created the topic: an environment, or 0 for somebody who knows nothing of Rollcall.
        creator: Option<u128>,
    }

    impl Cluster {
        fn write(&mut self, environment: u128, state: Option<State>) {
            let offset = self.log.len() as u64;
            let claim = state.map(|state| claim(environment, state, offset));
            self.log.push(Entry { topic: "t".to_owned(), environment: Uuid::from_u128(environment), claim });
        }

        fn standing(&self, environment: u128) -> Standing {
            let claims = fold(&self.log);
            standing(claims.get("t").map_or(&[], Vec::as_slice), Uuid::from_u128(environment))
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum At {
        Look,
        Intend { held: Option<State> },
        Check { held: bool },
        Create { held: bool },
        Existed,
        Record,
        End,
    }

    /// One step of a process of `environment`: between any two the others may do theirs.
    fn step(cluster: &mut Cluster, environment: u128, at: At) -> At {
        match at {
            At::Look => match (cluster.standing(environment), cluster.creator) {
                (Standing::Nobody, None) => At::Intend { held: None },
                (Standing::Ours(claim), None) => At::Intend { held: Some(claim.state) },
                (Standing::Ours(claim), Some(_)) if claim.state == State::Intent => At::Record,
                (Standing::Theirs { withdraw: true, .. }, _) => {
                    cluster.write(environment, None);
                    At::End
                }
                _ => At::End,
            },
            At::Intend { held } => {
                cluster.write(environment, Some(held.unwrap_or(State::Intent)));
                At::Check { held: held.is_some() }
            }
            At::Check { held } => match cluster.standing(environment) {
                Standing::Ours(_) => At::Create { held },
                Standing::Theirs { withdraw: true, .. } => {
                    cluster.write(environment, None);
                    At::End
                }
                _ => At::End,
            },
            At::Create { held } => match cluster.creator {
                None => {
                    cluster.creator = Some(environment);
                    At::Record
                }
                Some(_) if held => At::Record,
                Some(_) => At::Existed,
            },
            At::Existed => {
                let ours = matches!(cluster.standing(environment), Standing::Ours(_));
                if ours && written(&cluster.log, "t", Uuid::from_u128(environment)) > 1 {
                    At::Record
                } else {
                    cluster.write(environment, None);
                    At::End
                }
            }
            At::Record => {
                cluster.write(environment, Some(State::Made));
                At::End
            }
            At::End => At::End,
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Turn {
        Goes(usize),
        Crashes(usize),
    }

    fn turns(actors: usize) -> impl Strategy<Value = Vec<Turn>> {
        let turn =
            prop_oneof![9 => (0..actors).prop_map(Turn::Goes), 1 => (0..actors).prop_map(Turn::Crashes)];
        prop::collection::vec(turn, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        // Two processes of environment 1, two of environment 2, in any order, with crashes anywhere.
        #[test]
        fn exactly_one_environment_gets_the_topic_and_it_created_it(turns in turns(4)) {
            let (mut cluster, environments, mut at) = (Cluster::default(), [1, 1, 2, 2], [At::Look; 4]);
            for turn in turns {
                match turn {
                    Turn::Goes(i) => at[i] = step(&mut cluster, environments[i], at[i]),
                    Turn::Crashes(i) => at[i] = At::Look,
                }
            }
            for _ in 0..3 {
                for i in 0..4 {
                    while at[i] != At::End {
                        at[i] = step(&mut cluster, environments[i], at[i]);
                    }
                    at[i] = At::Look;
                }
            }
            let owners: Vec<u128> =
                [1, 2].into_iter().filter(|who| matches!(cluster.standing(*who), Standing::Ours(_))).collect();
            prop_assert_eq!(owners.as_slice(), &[cluster.creator.unwrap_or_default()]);
        }

        // Somebody who knows nothing of Rollcall creates the topic while one process is at it.
        #[test]
        fn what_a_stranger_created_meanwhile_is_not_taken(before in 0..6_usize) {
            let (mut cluster, mut at) = (Cluster::default(), At::Look);
            for _ in 0..before {
                at = step(&mut cluster, 1, at);
            }
            let created = cluster.creator.is_some();
            cluster.creator.get_or_insert(0);
            while at != At::End {
                at = step(&mut cluster, 1, at);
            }
            let ours = matches!(cluster.standing(1), Standing::Ours(_));
            prop_assert_eq!(ours, created);
        }
    }

    #[test]
    fn withdrawing_starts_the_count_anew() {
        let mut cluster = Cluster::default();
        for state in [Some(State::Intent), None, Some(State::Intent), Some(State::Made)] {
            cluster.write(1, state);
        }
        assert_eq!(written(&cluster.log, "t", Uuid::from_u128(1)), 2);
        assert_eq!(written(&cluster.log, "t", Uuid::from_u128(2)), 0);
    }
}
