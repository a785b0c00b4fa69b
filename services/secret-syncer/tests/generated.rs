//! What is generated, in a real directory: once, marked as ours, agreed on by all, and nothing of anybody else's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[allow(dead_code, reason = "each file of tests uses some of it")]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use chassis::converge::Standing;
use lifecycle::document::{Environment, Source};
use support::{Child, environment, mode, names, ready, refusal, spawn, standings, standings_of, write};

const GENERATED: &str = "secrets: {db: {generate: {password: {kind: password, length: 40}}}}";
const TWO: &str = "secrets: {db: {generate: {password: {kind: password}, user: {kind: password}}}}";

fn read(root: &Path, path: &str) -> String {
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn a_value_is_generated_once_and_only_its_owner_may_read_it() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    ready(&standings(&store, GENERATED)["secret/app/db"], true);
    let file = store.join("app/db/password");
    let value = std::fs::read_to_string(&file).unwrap();
    assert_eq!(value.len(), 40);
    assert_eq!((mode(&file), mode(&store), mode(&store.join("app/db"))), (0o600, 0o700, 0o700));

    ready(&standings(&store, GENERATED)["secret/app/db"], false);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), value);
    assert_eq!(names(&store.join("app/db")), [".rollcall", "password"], "no temporary file is left");
    let mark = std::fs::read_to_string(store.join("app/db/.rollcall")).unwrap();
    assert!(mark.contains("00000000-0000-0000-0000-000000000007") && mark.contains(r#""fragment": "app""#));
    assert!(!mark.contains(&value) && !mark.contains("source"), "{mark}");
    assert_eq!(mode(&store.join("app/db/.rollcall")), 0o600);
}

#[test]
fn a_value_somebody_put_there_is_kept_and_an_empty_one_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "app/db/password", "theirs\n");
    ready(&standings(root.path(), GENERATED)["secret/app/db"], false);
    write(root.path(), "app/db/password", "");
    let standings = standings(root.path(), GENERATED);
    let text = refusal(&standings["secret/app/db"]);
    assert!(
        text.contains("`password`") && text.contains("is empty") && text.contains("never overwritten"),
        "{text}"
    );
    assert_eq!(std::fs::read(root.path().join("app/db/password")).unwrap(), b"");
    assert_eq!(names(&root.path().join("app/db")), ["password"], "it is not marked");
}

#[test]
fn what_somebody_made_beforehand_is_used_whole_or_refused_and_never_added_to() {
    let root = tempfile::tempdir().unwrap();
    let standing = || standings(root.path(), TWO).remove("secret/app/db").unwrap();
    write(root.path(), "app/db/.hidden", "x");
    write(root.path(), "app/db/user", "theirs");
    let refused = standing();
    let text = refusal(&refused);
    assert!(text.contains("no key `password`") && !text.contains("`user`"), "{text}");
    assert!(text.contains("add the missing keys yourself, or remove it"), "{text}");
    assert_eq!(names(&root.path().join("app/db")), [".hidden", "user"]);
    write(root.path(), "app/db/password", "theirs too");
    ready(&standing(), false);
    assert_eq!(names(&root.path().join("app/db")), [".hidden", "password", "user"]);
    // Files that begin with a dot are no keys: this one is empty.
    std::fs::remove_file(root.path().join("app/db/password")).unwrap();
    std::fs::remove_file(root.path().join("app/db/user")).unwrap();
    ready(&standing(), true);
    assert_eq!(names(&root.path().join("app/db")), [".hidden", ".rollcall", "password", "user"]);
}

#[test]
fn what_was_marked_or_begun_is_finished_and_what_is_asked_for_later_is_added() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join("app/db").join(name);
    ready(&standings(root.path(), GENERATED)["secret/app/db"], true);
    let mark = read(root.path(), "app/db/.rollcall");
    // Cut off after it was marked, and before it was noted that it was generated.
    std::fs::remove_file(file("password")).unwrap();
    std::fs::remove_dir_all(root.path().join("app/.generated")).unwrap();
    ready(&standings(root.path(), GENERATED)["secret/app/db"], true);
    let password = read(root.path(), "app/db/password");
    ready(&standings(root.path(), TWO)["secret/app/db"], true);
    assert_eq!(read(root.path(), "app/db/password"), password);
    assert_eq!(read(root.path(), "app/db/user").len(), 32);
    assert_eq!(read(root.path(), "app/db/.rollcall"), mark, "it is marked once");
    write(root.path(), "app/db/user", "");
    let refused = standings(root.path(), TWO);
    assert!(refusal(&refused["secret/app/db"]).contains("key `user` exists but is empty"));
}

#[test]
fn what_was_generated_once_and_is_gone_is_never_made_anew_without_a_word() {
    let root = tempfile::tempdir().unwrap();
    ready(&standings(root.path(), TWO)["secret/app/db"], true);
    let standing = || standings(root.path(), TWO).remove("secret/app/db").unwrap();
    let user = read(root.path(), "app/db/user");
    std::fs::remove_file(root.path().join("app/db/password")).unwrap();
    let text = refusal(&standing()).to_owned();
    assert!(text.contains("`password` was generated once and is gone") && !text.contains("`user`"), "{text}");
    assert!(text.contains("secret-syncer forget secret/app/db"), "{text}");
    std::fs::remove_dir_all(root.path().join("app/db")).unwrap();
    assert!(refusal(&standing()).contains("`password`, `user` was generated once"), "the whole Secret");
    // Restored, as from a backup.
    write(root.path(), "app/db/user", &user);
    write(root.path(), "app/db/password", "the old one, restored");
    ready(&standing(), false);
}

#[test]
fn a_rotation_is_made_once_and_keeps_the_old_value() {
    let root = tempfile::tempdir().unwrap();
    let document = |serial: u32| {
        format!(
            "secrets: {{db: {{generate: {{password: {{kind: password}}, user: {{kind: password}}}}, rotate: {{serial: {serial}, previous: {{password: password-previous}}}}}}}}"
        )
    };
    let all = || ["password", "user"].map(|key| read(root.path(), &format!("app/db/{key}")));
    ready(&standings(root.path(), TWO)["secret/app/db"], true);
    let first = all();
    ready(&standings(root.path(), &document(1))["secret/app/db"], true);
    let second = all();
    assert!(first[0] != second[0] && first[1] != second[1]);
    assert_eq!(read(root.path(), "app/db/password-previous"), first[0]);
    ready(&standings(root.path(), &document(1))["secret/app/db"], false);
    assert_eq!(all(), second);
    // Two rotations asked for at once are one.
    ready(&standings(root.path(), &document(3))["secret/app/db"], true);
    assert_eq!(read(root.path(), "app/db/password-previous"), second[0]);
    // A document that asks for an older state asks for nothing.
    ready(&standings(root.path(), &document(2))["secret/app/db"], false);
    // What is made after a rotation counts as rotated.
    let fresh = tempfile::tempdir().unwrap();
    ready(&standings(fresh.path(), &document(3))["secret/app/db"], true);
    ready(&standings(fresh.path(), &document(3))["secret/app/db"], false);
    assert!(!fresh.path().join("app/db/password-previous").exists());
}

#[test]
fn two_environments_or_fragments_never_share_what_one_of_them_made() {
    let root = tempfile::tempdir().unwrap();
    ready(&standings(root.path(), GENERATED)["secret/app/db"], true);
    let (password, mark) = (read(root.path(), "app/db/password"), read(root.path(), "app/db/.rollcall"));
    for document in [GENERATED, TWO] {
        let all = standings_of(root.path(), &environment("other", 9, document));
        let text = refusal(&all["secret/app/db"]);
        assert!(
            text.contains("environment `dev` (00000000-0000-0000-0000-000000000007), fragment `app`"),
            "{text}"
        );
        let all = standings_of(root.path(), &neighbour(document));
        let text = refusal(&all["secret/app/db"]);
        assert!(text.contains("fragment `app` of this environment, not to `neighbour`"), "{text}");
    }
    assert_eq!(names(&root.path().join("app/db")), [".rollcall", "password"]);
    assert_eq!(read(root.path(), "app/db/password"), password);
    assert_eq!(read(root.path(), "app/db/.rollcall"), mark);
    // The same environment under another name.
    ready(&standings_of(root.path(), &environment("renamed", 7, GENERATED))["secret/app/db"], true);
    assert!(read(root.path(), "app/db/.rollcall").contains("renamed"));
    assert_eq!(read(root.path(), "app/db/password"), password);
    write(root.path(), "app/db/.rollcall", "{");
    assert!(refusal(&standings(root.path(), GENERATED)["secret/app/db"]).contains("cannot be read"));
}

/// Another fragment of the environment `dev`, which declares the same.
fn neighbour(more: &str) -> Environment {
    let uid = uuid::Uuid::from_u128(7);
    let head = format!("rollcall: v1\nenvironment: {{name: dev, uid: {uid}}}\n");
    let text = format!("{head}fragment: {{name: neighbour, namespace: app}}\n{more}\n");
    let document = chassis::documents::parse("neighbour.yaml", &text).unwrap();
    Environment::merge([Source { file: "neighbour.yaml".to_owned(), document }]).environment.unwrap()
}

#[test]
fn a_copy_that_becomes_generated_keeps_its_values_and_follows_no_more() {
    const COPIED: &str = "secrets: {db: {copy: {from: base/origin}}}";
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "base/origin/password", "one");
    ready(&standings(root.path(), COPIED)["secret/app/db"], true);
    ready(&standings(root.path(), TWO)["secret/app/db"], true);
    assert_eq!(read(root.path(), "app/db/password"), "one");
    assert!(!read(root.path(), "app/db/.rollcall").contains("secret/base/origin"));
    write(root.path(), "base/origin/password", "two");
    let all = standings(root.path(), COPIED);
    assert!(refusal(&all["secret/app/db"]).contains("was not copied by Rollcall"));
    assert_eq!(read(root.path(), "app/db/password"), "one", "what is generated is never overwritten");
}

#[test]
fn processes_that_generate_at_once_agree() {
    for round in 0..12 {
        let root = tempfile::tempdir().unwrap();
        let children: Vec<Child> = (0..4).map(|_| spawn("generate", root.path(), None)).collect();
        let values: BTreeSet<String> =
            children.into_iter().map(|child| child.said().expect("child ends well")).collect();
        assert_eq!(values.len(), 1, "round {round}: {values:?}");
        let kept = format!("{} {}", read(root.path(), "app/db/password"), read(root.path(), "app/db/user"));
        assert_eq!(values.first(), Some(&kept));
    }
}

#[test]
fn of_environments_that_generate_at_once_one_owns_it() {
    for _ in 0..12 {
        let root = tempfile::tempdir().unwrap();
        let work = |uid: u128| {
            let root = root.path().to_owned();
            let once =
                move || standings_of(&root, &environment("any", uid, TWO)).remove("secret/app/db").unwrap();
            std::thread::spawn(once)
        };
        let workers: Vec<_> = [7, 9, 7, 9].map(|uid| (uid, work(uid))).into();
        let ready = |(uid, standing): (u128, Standing)| match standing {
            Standing::Ready { .. } => Some(uid),
            // Who lost found it taken, or was overtaken and will find it taken.
            Standing::Refused(_) | Standing::Failed { transient: true, .. } => None,
            other => panic!("{other:?}"),
        };
        let owners: BTreeSet<u128> = workers
            .into_iter()
            .map(|(uid, worker)| (uid, worker.join().unwrap()))
            .filter_map(ready)
            .collect();
        assert_eq!(owners.len(), 1);
        assert_eq!(names(&root.path().join("app/db")), [".rollcall", "password", "user"]);
    }
}

/// What a child process does when this test binary is run again by [`spawn`].
#[test]
fn child() {
    let Some((role, root)) = support::role() else { return };
    assert_eq!(role, "generate");
    let all = standings(&root, TWO);
    assert!(matches!(all["secret/app/db"], Standing::Ready { .. }), "{all:?}");
    support::say(&format!("{} {}", read(&root, "app/db/password"), read(&root, "app/db/user")));
}
