//! Laws of planning, over a store in memory: whatever is there, and wherever a run is cut off.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod memory;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use chassis::SecretValue;
use chassis::converge::{Reconcile, Standing, Told, converge};
use chassis::metrics::Metrics;
use chassis::provision::Known;
use lifecycle::Component;
use lifecycle::document::{Generator, Password, SourceGone};
use proptest::prelude::*;
use secret_syncer::plan::Step;
use secret_syncer::spec::{Followed, Generated, Origin, Owner, Part, Place, Recipe, Source, Spec, Wanted};
use secret_syncer::world::{Claim, Contents, Mark};
use secret_syncer::{Backend, Nowhere, Progress, Target};
use uuid::Uuid;

use memory::{Image, Memory};

fn target_name() -> Component {
    "secret/app/target".parse().unwrap()
}

fn source_name() -> Component {
    "secret/base/source".parse().unwrap()
}

fn owner(environment: u128) -> Owner {
    Owner {
        environment: Uuid::from_u128(environment),
        name: format!("env{environment}"),
        fragment: "app".to_owned(),
    }
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn keys() -> impl Strategy<Value = BTreeMap<String, SecretValue>> {
    let value = prop::sample::select(vec!["", "one", "two"]).prop_map(SecretValue::new);
    prop::collection::btree_map(key(), value, 0..4)
}

fn mark() -> impl Strategy<Value = Option<Result<Mark, String>>> {
    let noted = prop::collection::btree_map(key(), prop::sample::select(vec!["one", "two"]), 0..4);
    let fragment = prop::sample::select(vec!["app", "app", "app", "other"]);
    let mark =
        (1..3_u128, fragment, any::<bool>(), noted).prop_map(|(environment, fragment, copy, noted)| {
            let owner = Owner { fragment: fragment.to_owned(), ..owner(environment) };
            let mut mark = Mark::new(&Claim {
                owner,
                sources: copy.then(|| source_name().to_string()).into_iter().collect(),
            });
            // What is generated notes no key.
            let noted = if copy { noted } else { BTreeMap::new() };
            for (key, value) in &noted {
                mark.note(key, &SecretValue::new(*value));
            }
            Ok(mark)
        });
    prop_oneof![
        2 => Just(None),
        5 => mark.prop_map(Some),
        1 => Just(Some(Err("cut off".to_owned()))),
    ]
}

fn contents() -> impl Strategy<Value = Option<Contents>> {
    prop::option::of((keys(), mark()).prop_map(|(keys, mark)| Contents { keys, mark, ..Contents::default() }))
}

fn generate() -> impl Strategy<Value = Origin> {
    let password = |length: u16| Generator::Password(Password { length });
    let keys = prop::collection::btree_map(key(), (24..40_u16).prop_map(password), 1..4);
    (keys, 0..3_u32, any::<bool>()).prop_map(|(keys, serial, keeps)| {
        let previous =
            keys.keys().filter(|_| keeps).map(|key| (key.clone(), format!("{key}-previous"))).collect();
        Origin::Generated(Generated {
            keys,
            kind: None,
            authorities: BTreeMap::new(),
            protects: Vec::new(),
            serial,
            previous,
            escrow: None,
        })
    })
}

fn same(key: String) -> Recipe {
    Recipe::Same(Place { source: Source::Object(source_name()), key })
}

fn text(keys: Vec<String>) -> Recipe {
    let value = |key| Part::Value { place: Place { source: Source::Object(source_name()), key }, url: true };
    Recipe::Text(keys.into_iter().flat_map(|key| [Part::Text("/".to_owned()), value(key)]).collect())
}

fn follow() -> impl Strategy<Value = Origin> {
    let recipe =
        prop_oneof![3 => key().prop_map(same), 1 => prop::collection::vec(key(), 1..3).prop_map(text)];
    let wanted = prop_oneof![
        Just(Wanted::All(Source::Object(source_name()))),
        prop::collection::btree_map(key(), recipe, 1..4).prop_map(Wanted::Keys),
    ];
    let gone = prop_oneof![Just(SourceGone::Retain), Just(SourceGone::Delete)];
    (wanted, gone, prop::bool::weighted(0.2)).prop_map(|(wanted, source_gone, takeover)| {
        Origin::Followed(Followed { wanted, kind: None, source_gone, takeover })
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let origin = prop_oneof![
        1 => Just(Origin::External),
        1 => generate(),
        2 => follow(),
    ];
    (origin, prop::collection::btree_set(key(), 0..3)).prop_map(|(origin, required)| Spec {
        object: target_name(),
        owner: owner(1),
        origin,
        required,
        report_only: false,
    })
}

fn takes_over(spec: &Spec) -> bool {
    matches!(&spec.origin, Origin::Followed(followed) if followed.takeover)
}

fn over(store: &Memory) -> Target<&Memory> {
    let progress = Progress::new(&Metrics::new("secret-syncer"), Known::default());
    Target::new(store, Arc::new(Nowhere), progress)
}

fn store(target: Option<Contents>, source: Option<Contents>) -> Memory {
    let entries = [(target_name(), target), (source_name(), source)];
    let objects = entries.into_iter().filter_map(|(name, contents)| Some((name, contents?))).collect();
    Memory { objects: Mutex::new(objects), ..Memory::default() }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// Whether a Secret is somebody else's: it has keys and no mark, or a mark that is not ours.
fn strange(there: Option<&Image>, mark: Option<&Result<Mark, String>>, claim: &Claim) -> bool {
    match mark {
        None => there.is_some_and(|image| !image.keys.is_empty()),
        Some(mark) => !mark.as_ref().is_ok_and(|mark| mark.is_of(claim)),
    }
}

/// One of several instances that work at once: it looks, then makes a step each time it has its turn.
struct Instance<'a> {
    spec: Spec,
    target: Target<&'a Memory>,
    steps: Option<VecDeque<Step>>,
}

impl Instance<'_> {
    async fn turn(&mut self) {
        let Some(steps) = &mut self.steps else {
            let world = self.target.observe(&self.spec).await.unwrap();
            self.steps = Some(Target::<&Memory>::plan(&self.spec, &world).steps.into());
            return;
        };
        match steps.pop_front() {
            Some(step) if self.target.apply(&self.spec, &step).await.is_ok() => {}
            _ => self.steps = None,
        }
    }
}

async fn standing(store: &Memory, spec: &Spec) -> Standing {
    let last = Mutex::new(None);
    let tell = |told: Told<'_, _>| {
        if let Told::Standing(_, standing) = told {
            *last.lock().unwrap() = Some(standing);
        }
    };
    converge(&over(store), spec, &spec.object, &tell).await.unwrap();
    last.into_inner().unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_a_run_nothing_is_left_to_do_and_a_second_run_changes_nothing(
        spec in spec(), target in contents(), source in contents(),
    ) {
        let store = store(target, source);
        run(async {
            let first = standing(&store, &spec).await;
            prop_assert!(!matches!(&first, Standing::Failed { .. }), "{first:?}");
            let once = store.image();
            let looking = over(&store);
            let plan = Target::<&Memory>::plan(&spec, &looking.observe(&spec).await.unwrap());
            prop_assert!(plan.steps.is_empty(), "{plan}");
            standing(&store, &spec).await;
            prop_assert_eq!(store.image(), once);
            Ok(())
        })?;
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is(spec in spec(), target in contents(), source in contents()) {
        let mark = target.as_ref().and_then(|contents| contents.mark.clone());
        let store = store(target, source);
        let before = store.image();
        run(async {
            let standing = standing(&store, &spec).await;
            let after = store.image();
            prop_assert_eq!(after.get(&source_name()), before.get(&source_name()), "a source is never written");
            if matches!(standing, Standing::Refused(_)) {
                prop_assert_eq!(&after, &before, "a refusal touches nothing");
            }
            let claim = Claim { owner: owner(1), sources: BTreeSet::new() };
            if strange(before.get(&target_name()), mark.as_ref(), &claim) && !(takes_over(&spec) && mark.is_none()) {
                prop_assert_eq!(after.get(&target_name()), before.get(&target_name()), "not even marked");
            }
            for (key, value) in before.get(&target_name()).into_iter().flat_map(|image| &image.keys) {
                let ours = matches!(&mark, Some(Ok(mark)) if mark.is_of(&claim) && mark.notes(key));
                let may_change = match &spec.origin {
                    Origin::External => false,
                    // Rotated, never lost: unless nobody asked to keep it.
                    Origin::Generated(generated) => generated.serial > 0 && mark.is_some(),
                    Origin::Followed(_) => ours || takes_over(&spec),
                };
                if !may_change {
                    prop_assert_eq!(after[&target_name()].keys.get(key), Some(value), "key {}", key);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_ready_secret_is_what_the_spec_says(spec in spec(), target in contents(), source in contents()) {
        let store = store(target, source);
        run(async {
            if !matches!(standing(&store, &spec).await, Standing::Ready { .. }) {
                return Ok(());
            }
            let image = store.image();
            let has = |secret: Component, key: &str| {
                image.get(&secret).and_then(|image| image.keys.get(key)).filter(|value| !value.is_empty())
            };
            prop_assert!(spec.required.iter().all(|key| has(target_name(), key).is_some()), "what documents read is there");
            match &spec.origin {
                Origin::External => {}
                Origin::Generated(generated) => prop_assert!(generated.keys.keys().all(|key| has(target_name(), key).is_some())),
                // What it follows is gone: it stays as it was.
                Origin::Followed(_) if !image.contains_key(&source_name()) => {}
                Origin::Followed(Followed { wanted: Wanted::All(_), .. }) => for key in image[&source_name()].keys.keys() {
                    prop_assert_eq!(image[&target_name()].keys.get(key), image[&source_name()].keys.get(key));
                },
                Origin::Followed(Followed { wanted: Wanted::Keys(keys), .. }) => for (new, recipe) in keys {
                    prop_assert!(has(target_name(), new).is_some());
                    if let Recipe::Same(place) = recipe {
                        prop_assert_eq!(has(target_name(), new), has(source_name(), &place.key));
                    }
                },
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_run_cut_off_anywhere_is_finished_by_the_next(
        spec in spec(), target in contents(), source in contents(), steps in 0..5_usize,
    ) {
        let (cut, whole) = (store(target.clone(), source.clone()), store(target, source));
        run(async {
            let looking = over(&cut);
            let plan = Target::<&Memory>::plan(&spec, &looking.observe(&spec).await.unwrap());
            for step in plan.steps.iter().take(steps) {
                looking.apply(&spec, step).await.unwrap();
            }
            let (a, b) = (standing(&cut, &spec).await, standing(&whole, &spec).await);
            prop_assert_eq!(std::mem::discriminant(&a), std::mem::discriminant(&b));
            let names = |store: &Memory| -> BTreeMap<Component, Vec<String>> {
                store.image().into_iter().map(|(secret, image)| (secret, image.keys.into_keys().collect())).collect()
            };
            prop_assert_eq!(names(&cut), names(&whole));
            Ok(())
        })?;
    }

    #[test]
    fn what_is_generated_is_marked_or_was_complete_beforehand(
        origin in generate(), target in contents(), source in contents(),
    ) {
        let spec = Spec { object: target_name(), owner: owner(1), origin, required: BTreeSet::new(), report_only: false };
        let claim = Claim { owner: owner(1), sources: BTreeSet::new() };
        let mark = target.as_ref().and_then(|contents| contents.mark.clone());
        let store = store(target, source);
        let before = store.image();
        run(async {
            let strange = strange(before.get(&target_name()), mark.as_ref(), &claim);
            match standing(&store, &spec).await {
                Standing::Ready { changed, .. } if strange => prop_assert!(mark.is_none() && !changed),
                Standing::Ready { .. } => {
                    let contents = (&store).read(&target_name()).await.unwrap().unwrap();
                    prop_assert!(contents.mark.unwrap().unwrap().is_of(&claim));
                }
                Standing::Refused(text) => match &mark {
                    Some(Ok(mark)) if !mark.is_of(&claim) => prop_assert!(text.starts_with("belongs to "), "{text}"),
                    None => prop_assert!(text.contains("add the missing keys yourself"), "{text}"),
                    Some(_) => {}
                },
                other => prop_assert!(false, "{other:?}"),
            }
            Ok(())
        })?;
    }

    #[test]
    fn of_many_that_generate_at_once_all_agree_or_one_owns_it(
        origin in generate(), target in contents(), rival in 1..3_u128, turns in prop::collection::vec(0..2_usize, 0..24),
    ) {
        // That a rotation is made once is another law.
        let Origin::Generated(generated) = origin else { unreachable!() };
        let origin = Origin::Generated(Generated { serial: 0, ..generated });
        let store = store(target, None);
        let instance = |environment: u128| Instance {
            spec: Spec { object: target_name(), owner: owner(environment), origin: origin.clone(), required: BTreeSet::new(), report_only: false },
            target: over(&store),
            steps: None,
        };
        let mut instances = [instance(1), instance(rival)];
        run(async {
            let mut seen = store.image();
            for turn in turns {
                instances[turn].turn().await;
                let now = store.image();
                for (key, value) in seen.get(&target_name()).into_iter().flat_map(|image| &image.keys) {
                    prop_assert_eq!(now[&target_name()].keys.get(key), Some(value), "key {} was written again", key);
                }
                seen = now;
            }
            let mut ready = 0;
            for instance in &instances {
                let standing = standing(&store, &instance.spec).await;
                prop_assert!(matches!(standing, Standing::Ready { .. } | Standing::Refused(_)), "{standing:?}");
                ready += usize::from(matches!(standing, Standing::Ready { .. }));
            }
            let marked = (&store).read(&target_name()).await.unwrap().is_some_and(|contents| contents.mark.is_some());
            match (rival, marked) {
                (1, _) | (_, false) => prop_assert!(ready != 1, "instances of one owner, or users of what is nobody's, agree"),
                _ => prop_assert!(ready < 2, "two environments share what one of them made"),
            }
            Ok(())
        })?;
    }
}
