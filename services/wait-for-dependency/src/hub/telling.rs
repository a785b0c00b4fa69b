//! What pods that wait are told, so that `kubectl describe pod` shows it: the root of it, once for each root, and when it is
//! over. Pure: no I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::grpc::PodReference;
use lifecycle::{Component, Moment, Phase};

use super::explain::explanation;
use super::state::State;

/// Nobody looks at a pod that waits for less than this.
const GRACE: Duration = Duration::from_secs(5);
/// A pod is told something else at most this often: the API server keeps every word for an hour.
const CALM: Duration = Duration::from_secs(30);
/// It takes a walk over the whole environment to find a root: so often for each pod.
const LOOK: Duration = Duration::from_secs(10);
/// So many pods are remembered; more wait in no environment at once.
const PODS: usize = 1_024;

/// Why a pod is told something, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It waits.
    Waiting,
    /// It waits no more.
    Released,
}

impl Reason {
    /// As Events have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Waiting => "WaitingForDependencies",
            Reason::Released => "DependenciesReady",
        }
    }
}

/// What a pod is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which pod.
    pub pod: PodReference,
    /// Why.
    pub reason: Reason,
    /// The text.
    pub text: String,
}

/// The pods that reported, and what they were told.
#[derive(Debug, Default)]
pub struct Telling {
    /// By module and uid of the pod: what a pod calls itself it may call itself otherwise the next time.
    listeners: BTreeMap<(Component, String), Listener>,
    /// What could not be told and has nobody any more who would have it told again.
    again: Vec<Word>,
}

#[derive(Debug)]
struct Listener {
    pod: PodReference,
    /// What it called itself last.
    source: String,
    /// What it was told last, without digits, and when; nothing in it when that was that it waits no more.
    told: Option<(String, Moment)>,
    /// When it was looked for a word last.
    looked: Option<Moment>,
}

impl Telling {
    /// Remembers which pod an instance of a module is.
    pub fn heard(&mut self, module: &Component, source: &str, pod: PodReference) {
        let key = (module.clone(), pod.uid.clone());
        if self.listeners.len() >= PODS && !self.listeners.contains_key(&key) {
            return;
        }
        let new = || Listener { pod, source: String::new(), told: None, looked: None };
        source.clone_into(&mut self.listeners.entry(key).or_insert_with(new).source);
    }

    /// What is to be told now; it counts as told. `lives` says whether an instance still listens: one that does not is forgotten,
    /// as soon as it could be told something else again.
    pub fn due(&mut self, state: &State, lives: impl Fn(&str) -> bool, now: Moment) -> Vec<Word> {
        let mut words = std::mem::take(&mut self.again);
        self.listeners.retain(|(module, _), known| {
            let is_calm = known.told.as_ref().is_none_or(|(_, at)| now.since(*at) >= CALM);
            let mut instances = state.instances(module);
            let instance = instances.find(|(name, _)| **name == known.source).map(|(_, instance)| instance);
            let Some(instance) = instance else { return !is_calm };
            if instance.phase != Phase::Waiting {
                // It was told that it waits, and reads that it does no more.
                if known.told.as_ref().is_some_and(|(told, _)| !told.is_empty()) {
                    let text = format!("everything that {module} needs to start is ready");
                    words.push(Word { pod: known.pod.clone(), reason: Reason::Released, text });
                    known.told = Some((String::new(), now));
                    return true;
                }
                return !is_calm;
            }
            if !lives(&known.source) {
                return !is_calm;
            }
            let is_time = known.looked.is_none_or(|at| now.since(at) >= LOOK);
            if now.since(instance.since) >= GRACE && is_calm && is_time {
                known.looked = Some(now);
                let text = explanation(state, module, now).text;
                // Seconds and attempts change always.
                let root = text.replace(|letter: char| letter.is_ascii_digit(), "");
                if known.told.as_ref().is_none_or(|(told, _)| *told != root) {
                    known.told = Some((root, now));
                    words.push(Word { pod: known.pod.clone(), reason: Reason::Waiting, text });
                }
            }
            true
        });
        words
    }

    /// It could not be told: it is told again, as soon as that is due.
    pub fn untold(&mut self, word: Word) {
        if word.reason == Reason::Released {
            self.again.push(word);
            return;
        }
        for known in self.listeners.values_mut().filter(|known| known.pod == word.pod) {
            (known.told, known.looked) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::wire::Fragment;
    use lifecycle::Evidence;
    use lifecycle::document::Identity;

    use super::*;
    use crate::hub::decide::Instance;
    use crate::probe::{NotYet, Probe, State as Seen, Tcp};

    fn state() -> State {
        let identity = Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(1) };
        let text = format!(
            "rollcall: v1\nenvironment: {{name: dev, uid: {}}}\nfragment: {{name: shop, namespace: shop}}\nmodules: {{web: {{needs: [module/api]}}, api: {{ready: {{tcp: {{address: 'api:80'}}}}}}}}",
            identity.uid
        );
        let fragment = Fragment::try_from(&chassis::documents::parse("shop", &text).unwrap()).unwrap();
        let mut state = State::new(identity, "hub/1");
        let (refused, _) = state.register(vec![fragment], Moment(0));
        assert_eq!(refused, []);
        state
    }

    fn report(state: &mut State, phase: Phase, error: &str, at: u64) {
        let evidence = Evidence { error: error.to_owned(), ..Evidence::default() };
        let unmet = vec![("module/api".parse().unwrap(), evidence)];
        let instance = Instance {
            phase,
            since: Moment(1_000),
            reason: String::new(),
            unmet: if phase == Phase::Waiting { unmet } else { Vec::new() },
            attempts: 0,
            heard: Moment(at),
        };
        state.announce(&web(), "waiter/web-0", instance, Moment(at));
        let (probe, seen) =
            (Probe::Tcp(Tcp { address: "api:80".to_owned() }), NotYet::new(Seen::Refused, error));
        state.looked(&"module/api".parse().unwrap(), &probe, &Err(seen), Moment(at));
    }

    fn web() -> Component {
        "module/web".parse().unwrap()
    }

    fn pod() -> PodReference {
        PodReference { namespace: "shop".to_owned(), name: "web-0".to_owned(), uid: "1".to_owned() }
    }

    /// What a pod is told at a second.
    fn at(telling: &mut Telling, state: &State, second: u64) -> Vec<(Reason, String)> {
        let words = telling.due(state, |_| true, Moment(second * 1_000));
        words.into_iter().map(|word| (word.reason, word.text)).collect()
    }

    #[test]
    fn a_pod_is_told_each_root_once_and_that_it_is_over() {
        let (mut state, mut telling) = (state(), Telling::default());
        report(&mut state, Phase::Waiting, "connection refused", 1_000);
        telling.heard(&web(), "waiter/web-0", pod());
        assert_eq!(at(&mut telling, &state, 2), [], "perhaps it is over in a moment");
        let told = at(&mut telling, &state, 7);
        let [(Reason::Waiting, text)] = &told[..] else { panic!("{told:?}") };
        assert!(text.contains("module/web") && text.contains("connection refused"), "{text}");
        for second in 8..100 {
            telling.heard(&web(), "waiter/web-0", pod());
            assert_eq!(at(&mut telling, &state, second), [], "nothing new");
        }
        report(&mut state, Phase::Waiting, "password authentication failed", 100_000);
        assert_eq!(at(&mut telling, &state, 110).len(), 1);
        report(&mut state, Phase::Waiting, "connection refused", 111_000);
        assert_eq!(at(&mut telling, &state, 121), [], "not a word every second");
        assert_eq!(at(&mut telling, &state, 141).len(), 1);
        telling.untold(Word { pod: pod(), reason: Reason::Waiting, text: String::new() });
        assert_eq!(at(&mut telling, &state, 142).len(), 1, "what could not be told is told again");
        report(&mut state, Phase::Working, "", 150_000);
        let released = "everything that module/web needs to start is ready".to_owned();
        assert_eq!(at(&mut telling, &state, 150), [(Reason::Released, released.clone())]);
        telling.untold(Word { pod: pod(), reason: Reason::Released, text: released.clone() });
        assert_eq!(
            at(&mut telling, &state, 151),
            [(Reason::Released, released)],
            "nor is the last word lost"
        );
        assert_eq!(at(&mut telling, &state, 152), []);
    }

    #[test]
    fn a_pod_that_waits_again_and_again_under_any_name_is_told_no_more_often() {
        let (mut state, mut telling) = (state(), Telling::default());
        let mut told = Vec::new();
        for second in (10..310).step_by(2) {
            let phase = if second % 4 == 2 { Phase::Waiting } else { Phase::Working };
            report(&mut state, phase, "connection refused", second * 1_000);
            telling.heard(&web(), "waiter/web-0", pod());
            told.extend(at(&mut telling, &state, second));
        }
        // That it waits and that it waits no more, in every half minute.
        assert!((2..=20).contains(&told.len()), "{} words: {told:?}", told.len());
        assert!(told.is_sorted_by(|a, b| a.0 != b.0), "one after the other: {told:?}");
        for name in 0..2 * PODS {
            telling.heard(&web(), &format!("waiter/{name}"), pod());
        }
        assert_eq!(telling.listeners.len(), 1, "one pod, whatever it calls itself");
        assert_eq!(at(&mut telling, &state, 1_000), []);
        assert!(telling.listeners.is_empty(), "and in the end it is forgotten");
    }

    #[test]
    fn whoever_waited_a_moment_or_left_is_told_nothing() {
        let (mut state, mut telling) = (state(), Telling::default());
        report(&mut state, Phase::Waiting, "connection refused", 1_000);
        telling.heard(&web(), "waiter/web-0", pod());
        assert_eq!(telling.due(&state, |_| false, Moment(60_000)), [], "it does not listen any more");
        assert_eq!(at(&mut telling, &state, 61), [], "and is forgotten");
        telling.heard(&web(), "waiter/web-0", pod());
        report(&mut state, Phase::Working, "", 3_000);
        assert_eq!(at(&mut telling, &state, 61), [], "it never read that it waits");
        telling.heard(&web(), "another", pod());
        assert_eq!(at(&mut telling, &state, 62), [], "it has said nothing");
    }
}
