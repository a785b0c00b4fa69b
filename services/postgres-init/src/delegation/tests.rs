//! Laws of what joins an environment: no mounted fragment is put out, the older one wins, and nothing is more than a rule allows.

use lifecycle::document::{Document, Environment, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::judge::{judge, with_version};
use super::part::part;
use super::union::{Joined, join};
use super::{delegated, rules};
use crate::world::delegated::Kept;

const UID: &str = "00000000-0000-4000-8000-00000000000a";

fn document(name: &str, namespace: &str, more: &Value) -> Document {
    let mut document = json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": UID},
        "fragment": {"name": name, "namespace": namespace},
    });
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn databases(names: &[(usize, usize)]) -> Value {
    let one = |(name, extension): &(usize, usize)| {
        let extensions = [json!([]), json!(["pg_trgm"]), json!(["postgres_fdw"])][*extension].clone();
        let app = json!({"name": format!("user{name}"), "password": {"secret": "db", "key": "k"}, "ddl": "as-owner"});
        (format!("db{name}"), json!({"server": "main", "roles": {"app": app}, "extensions": extensions}))
    };
    Value::Object(names.iter().map(one).collect())
}

fn mounted() -> Environment {
    let base = json!({
        "postgres": {"main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}},
            "delegate": [{"namespaces": ["a", "b"], "databases": 2, "extensions": ["pg_trgm"]}]}},
        "databases": databases(&[(0, 2)]),
    });
    let source = Source { file: "base.yaml".to_owned(), document: document("base", "home", &base) };
    Environment::merge([source]).environment.unwrap()
}

fn uses() -> Value {
    json!({"postgres": {"main": {"host": "db"}}})
}

/// Fragments with names, namespaces and databases of few, so that they clash.
fn accepted() -> impl Strategy<Value = Vec<Kept>> {
    let names = prop::collection::btree_map(0..4usize, 0..3usize, 1..3);
    let one =
        (prop::sample::select(vec!["base", "x", "y", "z"]), prop::sample::select(vec!["a", "b", "c"]), names);
    let kept =
        |(at, (name, namespace, names)): (usize, (&str, &str, std::collections::BTreeMap<usize, usize>))| {
            let names: Vec<(usize, usize)> = names.into_iter().collect();
            let more = json!({"uses": uses(), "databases": databases(&names)});
            Kept {
                fragment: name.to_owned(),
                namespace: namespace.to_owned(),
                document: Some(document(name, namespace, &more)),
                by: "somebody".to_owned(),
                accepted: i64::try_from(at).unwrap(),
                first: i64::try_from(at).unwrap(),
            }
        };
    prop::collection::vec(one, 0..5).prop_map(move |all| {
        let mut seen = std::collections::BTreeSet::new();
        all.into_iter().enumerate().map(kept).filter(|kept| seen.insert(kept.fragment.clone())).collect()
    })
}

proptest! {
    #[test]
    fn what_joins_puts_nothing_out_and_has_no_more_than_is_allowed(kept in accepted()) {
        let mounted = mounted();
        let Joined { environment, left, .. } = join(&mounted, &kept);
        for source in mounted.sources() {
            prop_assert!(environment.sources().any(|one| one == source), "{} was put out", source.file);
        }
        let joined = delegated(&environment, &mounted);
        prop_assert!(joined.len() == kept.len() || !left.is_empty());
        for source in environment.sources().filter(|source| joined.contains(&source.document.fragment.name)) {
            let document = &source.document;
            prop_assert!(["a", "b"].contains(&document.fragment.namespace.as_str()));
            prop_assert!(!document.databases.contains_key("db0"));
            let mut extensions = document.databases.values().flat_map(|database| &database.extensions);
            prop_assert!(extensions.all(|extension| extension.name == "pg_trgm"));
        }
        for namespace in ["a", "b"] {
            let of = |source: &&Source| {
                source.document.fragment.namespace == namespace && joined.contains(&source.document.fragment.name)
            };
            let count: usize = environment.sources().filter(of).map(|source| source.document.databases.len()).sum();
            prop_assert!(count <= 2, "{namespace} has {count}");
        }
        // Whoever was there first stays, whatever comes later.
        for many in 0..kept.len() {
            let before = join(&mounted, &kept[..many]).environment;
            prop_assert!(delegated(&before, &mounted).is_subset(&joined));
        }
        let again = join(&mounted, &kept);
        prop_assert_eq!((again.environment, again.left), (environment, left));
    }
}

/// A version of a fragment: its databases and, of each, whether a role of the fragment reads it.
type Version = (&'static str, &'static str, std::collections::BTreeMap<usize, usize>, Vec<usize>);

fn version((name, namespace, names, reads): &Version) -> Document {
    let names: Vec<(usize, usize)> = names.iter().map(|(name, extension)| (*name, *extension)).collect();
    let mut more = json!({"uses": uses(), "databases": databases(&names)});
    if !reads.is_empty() {
        let reads: Vec<String> = reads.iter().map(|name| format!("db{name}")).collect();
        let password = json!({"secret": "db", "key": "k"});
        more["roles"] =
            json!({format!("{name}_bi"): {"server": "main", "password": password, "reads": reads}});
    }
    document(name, namespace, &more)
}

fn versions() -> impl Strategy<Value = Vec<Version>> {
    let names = prop::collection::btree_map(1..6usize, 0..2usize, 0..3);
    let reads = prop::collection::btree_set(0..6usize, 0..2).prop_map(|reads| reads.into_iter().collect());
    let fragments = vec![("v", "a"), ("w", "a"), ("x", "a"), ("y", "b"), ("z", "b")];
    let one = (prop::sample::select(fragments), names, reads);
    prop::collection::vec(
        one.prop_map(|((name, namespace), names, reads)| (name, namespace, names, reads)),
        1..12,
    )
}

proptest! {
    /// Whatever comes in whatever order, and again: who was let in stays in, and who is let in is in.
    #[test]
    fn what_is_accepted_joins_and_puts_nobody_out(versions in versions()) {
        let mounted = mounted();
        let mut kept: Vec<Kept> = Vec::new();
        for (at, one) in versions.iter().enumerate() {
            let asked = version(one);
            let before = join(&mounted, &kept);
            prop_assert!(before.left.is_empty(), "{:?}", before.left);
            if judge(&mounted, &kept, &asked, None).is_err() {
                continue;
            }
            let mut with = with_version(&kept, &asked);
            for new in with.iter_mut().filter(|kept| kept.first == i64::MAX) {
                new.first = i64::try_from(at).unwrap();
            }
            let after = join(&mounted, &with);
            prop_assert!(after.documents.iter().any(|document| **document == asked));
            prop_assert_eq!(after.documents.len(), with.len());
            // The same once more changes nothing.
            prop_assert!(judge(&mounted, &with, &asked, None).is_ok());
            prop_assert_eq!(&with_version(&with, &asked), &with);
            kept = with;
        }
    }
}

#[test]
fn a_newer_version_of_what_others_read_keeps_its_place() {
    let mounted = mounted();
    let mut kept = Vec::new();
    let versions: [Version; 5] = [
        ("y", "b", [(1, 0)].into(), vec![]),
        ("z", "b", [(2, 0)].into(), vec![1]),
        // A version that changes nothing but an extension; and one that reads its reader.
        ("y", "b", [(1, 1)].into(), vec![]),
        ("y", "b", [(1, 1)].into(), vec![2]),
        ("z", "b", [(2, 0)].into(), vec![1]),
    ];
    for one in &versions {
        let asked = version(one);
        judge(&mounted, &kept, &asked, None).unwrap();
        kept = with_version(&kept, &asked);
    }
    assert_eq!(join(&mounted, &kept).documents.len(), 2);
    // What is read of stays, for its reader would be put out.
    let without = version(&("y", "b", [(3, 0)].into(), vec![]));
    assert!(
        matches!(judge(&mounted, &kept, &without, None), Err(super::judge::Denied::Clash(why)) if why.contains("role/z_bi"))
    );
}

#[test]
fn what_was_left_out_lends_no_rights() {
    let mounted = mounted();
    // It declared a database that is now a mounted one.
    let left = version(&("y", "b", [(0, 0)].into(), vec![]));
    let kept = with_version(&[], &left);
    assert!(join(&mounted, &kept).documents.is_empty());
    let reads = version(&("z", "b", [(2, 0)].into(), vec![0]));
    assert!(
        matches!(judge(&mounted, &kept, &reads, None), Err(super::judge::Denied::Never(why)) if why.contains("database/db0"))
    );
}

#[test]
fn only_what_others_make_travels() {
    let more = json!({
        "postgres": {"own": {"host": "mine", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}}}},
        "uses": {"postgres": {"main": {"host": "db"}}, "kafka": {"main": {"brokers": ["kafka:9092"]}}},
        "databases": {
            "theirs": {"server": "main", "roles": {"app": {"name": "user", "password": {"secret": "db", "key": "k"}}}},
            "mine": {"server": "own", "roles": {"app": {"name": "me", "password": {"secret": "db", "key": "k"}}}},
        },
        "secrets": {"db": {"generate": {"k": {"kind": "password", "length": 32}}}},
        "steps": {"seed": {"database": "theirs"}, "own": {"database": "mine"}, "note": {"server": "main"}},
        "modules": {"shop": {"needs": ["database/theirs"]}},
    });
    let part = part(&document("shop", "a", &more), |_| true);
    let names = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(names(part.databases.keys().collect()), "theirs");
    assert_eq!(names(part.steps.keys().collect()), "note seed");
    assert!(
        part.postgres.is_empty()
            && part.secrets.is_empty()
            && part.modules.is_empty()
            && part.uses.kafka.is_empty()
    );
    assert_eq!(names(rules::servers(&part).iter().collect()), "main");
    assert_eq!(super::part::part(&part, |_| true), part);
}
