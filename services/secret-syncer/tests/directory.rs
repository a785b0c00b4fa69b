//! The store that is a real directory: copies, crashes, foreign hands, permissions, following.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[allow(dead_code, reason = "each file of tests uses some of it")]
mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use chassis::converge::Standing;
use lifecycle::Component;
use secret_syncer::Directory;
use support::{
    Target, environment, failure, mode, names, pending, ready, refusal, run, spawn, standing, standings,
    standings_of, targets, write,
};

const GENERATED: &str = "secrets: {db: {generate: {password: {kind: password, length: 40}}}}";
const COPIED: &str = "secrets: {copy: {copy: {from: base/origin, keys: {new: old}}}}";
const ALL: &str = "secrets: {copy: {copy: {from: base/origin}}}";

#[test]
fn an_external_secret_is_waited_for_by_namespace_name_and_key() {
    let root = tempfile::tempdir().unwrap();
    let document = "
postgres: {main: {host: h, admin: {user: u, password: {secret: base/pg, key: admin}}}}
secrets: {base/pg: {external: true}}";
    let standing = || standings(root.path(), document).remove("secret/base/pg").unwrap();
    let text = pending(&standing()).to_owned();
    assert!(text.contains("secret/base/pg does not exist") && text.contains("`admin`"), "{text}");
    write(root.path(), "base/pg/other", "x");
    let text = pending(&standing()).to_owned();
    assert!(text.contains("secret/base/pg has no key `admin`"), "{text}");
    write(root.path(), "base/pg/admin", "");
    assert!(pending(&standing()).contains("is empty"));
    write(root.path(), "base/pg/admin", "x");
    ready(&standing(), false);
    assert!(!root.path().join("base/pg/.rollcall").exists());
}

#[test]
fn a_copy_follows_its_source_and_drift_is_corrected() {
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("app/copy/new");
    let standing = || standings(root.path(), COPIED).remove("secret/app/copy").unwrap();
    assert!(pending(&standing()).contains("secret/base/origin does not exist"));
    assert!(!root.path().join("app").exists(), "nothing is made before there is something to copy");
    write(root.path(), "base/origin/other", "x");
    assert!(pending(&standing()).contains("secret/base/origin has no key `old`"));
    write(root.path(), "base/origin/old", "one");
    ready(&standing(), true);
    assert_eq!((std::fs::read_to_string(&copy).unwrap().as_str(), mode(&copy)), ("one", 0o600));
    ready(&standing(), false);
    // A writer that truncates first is seen with an empty file: that is not followed.
    write(root.path(), "base/origin/old", "");
    assert!(pending(&standing()).contains("is empty"));
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "one");
    write(root.path(), "base/origin/old", "two");
    ready(&standing(), true);
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "two");
    write(root.path(), "app/copy/new", "meddled");
    ready(&standing(), true);
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "two");
    std::fs::remove_dir_all(root.path().join("base")).unwrap();
    ready(&standing(), false);
    assert_eq!(
        std::fs::read_to_string(&copy).unwrap(),
        "two",
        "a source that went away takes nothing with it"
    );
    let mark = std::fs::read_to_string(root.path().join("app/copy/.rollcall")).unwrap();
    assert!(mark.contains("secret/base/origin") && !mark.contains("two"), "{mark}");
    assert_eq!(mode(&root.path().join("app/copy/.rollcall")), 0o600);
}

#[test]
fn a_key_no_longer_asked_for_goes_only_if_it_is_still_as_we_wrote_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "base/origin/a", "1");
    write(root.path(), "base/origin/b", "2");
    ready(&standings(root.path(), ALL)["secret/app/copy"], true);
    write(root.path(), "app/copy/own", "somebody's");
    write(root.path(), "app/copy/b", "changed");
    let only = |key: &str| format!("secrets: {{copy: {{copy: {{from: base/origin, keys: {{c: {key}}}}}}}}}");
    ready(&standings(root.path(), &only("a"))["secret/app/copy"], true);
    assert!(!root.path().join("app/copy/a").exists());
    assert_eq!(std::fs::read_to_string(root.path().join("app/copy/b")).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(root.path().join("app/copy/own")).unwrap(), "somebody's");
    assert_eq!(std::fs::read_to_string(root.path().join("app/copy/c")).unwrap(), "1");
    ready(&standings(root.path(), &only("a"))["secret/app/copy"], false);
}

#[test]
fn what_others_made_is_refused_and_untouched_and_neighbours_are_made() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "base/origin/old", "one");
    write(root.path(), "app/copy/new", "somebody's");
    let both = format!(
        "{}, db: {{generate: {{password: {{kind: password}}}}}}}}",
        COPIED.trim_end_matches('}').to_owned() + "}}}"
    );
    let all = standings(root.path(), &both);
    assert!(refusal(&all["secret/app/copy"]).contains("was not copied by Rollcall"));
    ready(&all["secret/app/db"], true);
    assert_eq!(std::fs::read_to_string(root.path().join("app/copy/new")).unwrap(), "somebody's");

    // Of another environment.
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "base/origin/old", "one");
    let other = environment("other", 9, COPIED);
    ready(&standings_of(root.path(), &other)["secret/app/copy"], true);
    write(root.path(), "base/origin/old", "two");
    let all = standings(root.path(), COPIED);
    let text = refusal(&all["secret/app/copy"]);
    assert!(
        text.contains("environment `other`") && text.contains("00000000-0000-0000-0000-000000000009"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(root.path().join("app/copy/new")).unwrap(), "one");
    ready(&standings_of(root.path(), &other)["secret/app/copy"], true);

    // Whose mark cannot be read.
    write(root.path(), "app/copy/.rollcall", "{");
    assert!(refusal(&standings(root.path(), COPIED)["secret/app/copy"]).contains("cannot be read"));
}

#[test]
fn odd_names_are_no_keys() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("base/origin");
    for name in [".hidden", "..data", "with space", "ä", "bad\\name", ".rollcall-x.tmp"] {
        write(root.path(), &format!("base/origin/{name}"), "x");
    }
    std::fs::create_dir(origin.join("folder")).unwrap();
    symlink("/nowhere", origin.join("dangling")).unwrap();
    symlink("/dev/zero", origin.join("endless")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(origin.join("pipe")).status().unwrap();
    assert!(fifo.success());
    // As Kubernetes mounts a Secret: a link to a link.
    write(root.path(), "base/origin/..2026/real", "value");
    symlink("..2026/real", origin.join("linked")).unwrap();
    ready(&standings(root.path(), ALL)["secret/app/copy"], true);
    assert_eq!(names(&root.path().join("app/copy")), [".rollcall", "linked"]);
    assert!(!root.path().join("app/copy/linked").is_symlink());
}

#[test]
fn what_cannot_be_a_file_fails_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("app/db/password")).unwrap();
    let Standing::Failed { error, transient: false, .. } =
        &standings(root.path(), GENERATED)["secret/app/db"]
    else {
        panic!("a folder took the place of a key");
    };
    assert!(error.contains("is in the way of key `password`"), "{error}");
    let dotted = "secrets: {db: {generate: {.hidden: {kind: password}}}}";
    let Standing::Failed { error, transient: false, .. } = &standings(root.path(), dotted)["secret/app/db"]
    else {
        panic!("a key that nobody could see was made");
    };
    assert!(error.contains("`.hidden`"), "{error}");
    write(root.path(), "base/origin/old", &"x".repeat(1024 * 1024 + 1));
    let said = failure(root.path(), COPIED);
    assert!(said.starts_with("never") && said.contains("key `old` is larger than 1 MiB"), "{said}");
}

#[test]
fn tasks_that_copy_at_once_agree() {
    for _ in 0..20 {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "base/origin/old", "one");
        let work = || {
            let root = root.path().to_owned();
            std::thread::spawn(move || standings(&root, COPIED).remove("secret/app/copy").unwrap())
        };
        for worker in [work(), work(), work(), work()] {
            let standing = worker.join().unwrap();
            assert!(matches!(standing, Standing::Ready { .. }), "{standing:?}");
        }
        assert_eq!(std::fs::read_to_string(root.path().join("app/copy/new")).unwrap(), "one");
    }
}

#[test]
fn a_process_killed_anywhere_leaves_nothing_half_written() {
    let document = "
secrets:
  db: {generate: {a: {kind: password, length: 1024}, b: {kind: password, length: 1024}, c: {kind: password, length: 1024}}}
  copy: {copy: {from: base/origin}}";
    let (one, two) = ("1".repeat(200_000), "2".repeat(200_000));
    for round in 0..40_u64 {
        let root = tempfile::tempdir().unwrap();
        for key in ["a", "b", "c", "d"] {
            write(root.path(), &format!("base/origin/{key}"), if round % 2 == 0 { &one } else { &two });
        }
        let mut child = spawn("churn", root.path(), None);
        child.kill_after(Duration::from_micros(1_000 + round * 700));
        for (folder, length) in [("app/db", 1024), ("app/copy", 200_000)] {
            for entry in std::fs::read_dir(root.path().join(folder)).into_iter().flatten() {
                let entry = entry.unwrap();
                if !entry.file_name().to_string_lossy().starts_with('.') {
                    assert_eq!(entry.metadata().unwrap().len(), length, "{}", entry.path().display());
                }
            }
        }
        let all = standings(root.path(), document);
        assert!(
            all.values().all(|standing| matches!(standing, Standing::Ready { .. })),
            "round {round}: {all:?}"
        );
        let left = names(&root.path().join("app/copy")).iter().any(|name| name.starts_with(".rollcall-"));
        assert!(!left, "what the killed process left is swept");
    }
}

#[test]
fn a_store_that_may_not_be_read_or_written_says_so_and_will_never_work() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    std::fs::create_dir(&store).unwrap();
    for (mode, what) in [(0o555, "make"), (0o000, "read")] {
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let said = spawn("denied", &store, Some(65_534)).said().expect("child ends well");
        assert!(said.contains("never") && said.contains(what), "{said}");
        assert!(
            said.contains("let this process's user read and write") && said.contains("secret/app/db"),
            "{said}"
        );
    }
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_change_wakes_and_looking_does_not() {
    run(async {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("store");
        let mut wakes = Directory::new(&store).watch().unwrap();
        let soon = Duration::from_secs(5);
        write(&store, "base/origin/old", "one");
        let environment = environment("dev", 7, COPIED);
        loop {
            tokio::time::timeout(soon, wakes.next()).await.expect("the source that appeared wakes");
            let (_, target, spec) = targets(&environment, &store).remove(0);
            let standing = standing(&target, &spec).await.unwrap();
            if matches!(standing, Standing::Ready { .. }) {
                break;
            }
        }
        // It becomes quiet by itself, although every look opens every file.
        let quiet = async {
            while tokio::time::timeout(Duration::from_secs(1), wakes.next()).await.is_ok() {
                let (_, target, spec) = targets(&environment, &store).remove(0);
                standing(&target, &spec).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), quiet).await.expect("looking does not wake");
        write(&store, "base/origin/old", "two");
        tokio::time::timeout(soon, wakes.next()).await.expect("a changed source wakes");
    });
}

#[test]
fn every_secret_is_a_target_of_its_own() {
    let environment = environment("dev", 7, "secrets: {a: {copy: {from: b}}, b: {external: true}}");
    let targets: Vec<(Component, Target, _)> = targets(&environment, Path::new("/nowhere"));
    let names: Vec<String> = targets.iter().map(|(component, ..)| component.to_string()).collect();
    assert_eq!(names, ["secret/app/b", "secret/app/a"]);
}

/// What a child process does when this test binary is run again by [`spawn`].
#[test]
fn child() {
    let Some((role, root)) = support::role() else { return };
    match role.as_str() {
        "churn" => {
            let db = "{a: {kind: password, length: 1024}, b: {kind: password, length: 1024}, c: {kind: password, length: 1024}}";
            standings(
                &root,
                &format!("secrets: {{db: {{generate: {db}}}, copy: {{copy: {{from: base/origin}}}}}}"),
            );
            support::say("done");
        }
        "denied" => {
            let said = support::failure(&root, GENERATED);
            support::say(&said);
        }
        role => panic!("no such role: {role}"),
    }
}
