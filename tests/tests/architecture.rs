//! The shape of the code, as rules that a change cannot break unseen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

const SERVICES: [&str; 5] =
    ["postgres-init", "topic-provisioner", "secret-syncer", "wait-for-dependency", "telemetry-exporter"];
/// The owner's choice of what is visible at the top of the repository.
const TOP: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "README.md", "charts", "docker", "proto", "services", "tests"];
/// The owner's choice of packages; each is really used by some crate of ours.
const CHOSEN: [&str; 10] = [
    "config",
    "figment",
    "opentelemetry",
    "prost",
    "rdkafka",
    "sqlx",
    "tokio",
    "tonic",
    "tower",
    "tracing-opentelemetry",
];
/// No file of ours is longer.
const LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> BTreeMap<String, Package> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    metadata.packages.into_iter().map(|package| (package.name.to_string(), package)).collect()
}

/// What a crate is built with; what only its tests use does not count.
fn knows(package: &Package) -> BTreeSet<String> {
    let built_with = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
    built_with.map(|dependency| dependency.name.clone()).collect()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = ["proto", "services", "tests"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("gen") && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "the walk lost its way");
    found
}

#[test]
fn services_never_know_each_other() {
    let packages = packages();
    for service in SERVICES {
        let known = knows(&packages[service]);
        for other in SERVICES {
            assert!(!known.contains(other), "{service} knows {other}");
        }
    }
}

#[test]
fn only_the_command_line_knows_the_services() {
    for (name, package) in packages() {
        if name != "rollcall" && name != "acceptance" {
            let known: Vec<String> =
                knows(&package).into_iter().filter(|k| SERVICES.contains(&k.as_str())).collect();
            assert!(known.is_empty(), "{name} knows {known:?}");
        }
    }
}

/// Who reads Secrets, or makes them, or looks for a hub in a cluster, may have to ask an API server; nobody else is built with
/// a client for one.
#[test]
fn only_who_must_ask_an_api_server_knows_kubernetes() {
    let who = [
        "postgres-init",
        "topic-provisioner",
        "secret-syncer",
        "wait-for-dependency",
        "rollcall",
        "acceptance",
    ];
    for (name, package) in packages() {
        let known = knows(&package);
        assert_eq!(known.contains("kubernetes"), who.contains(&name.as_str()), "{name}");
        let library = ["kubernetes", "acceptance"].contains(&name.as_str());
        assert!(library || !known.contains("kube"), "{name} speaks to API servers by itself");
    }
    let ours = packages();
    let known: Vec<String> =
        knows(&ours["kubernetes"]).into_iter().filter(|known| ours.contains_key(known)).collect();
    assert_eq!(known, ["chassis", "lifecycle"]);
}

#[test]
fn lifecycle_is_pure() {
    let known = knows(&packages()["lifecycle"]);
    for name in ["chassis", "rollcall-proto", "tokio", "rdkafka", "sqlx", "tonic", "reqwest", "tracing"] {
        assert!(!known.contains(name), "lifecycle knows {name}");
    }
    for file in sources().iter().filter(|f| f.starts_with(root().join("services/lifecycle/src"))) {
        let text = std::fs::read_to_string(file).unwrap();
        for word in ["SystemTime", "Instant::now", "std::net", "std::fs", "async fn"] {
            assert!(!text.contains(word), "{} says `{word}`", file.display());
        }
    }
}

#[test]
fn chassis_knows_no_product() {
    let known = knows(&packages()["chassis"]);
    for name in ["sqlx", "postgres", "kube", "sandbox", "reqwest"] {
        assert!(!known.contains(name), "chassis knows {name}");
    }
    for name in known.iter().filter(|name| packages().contains_key(*name)) {
        assert!(["lifecycle", "rollcall-proto"].contains(&name.as_str()), "chassis knows {name}");
    }
}

#[test]
fn deciding_does_no_io() {
    for provisioner in ["postgres-init", "topic-provisioner", "secret-syncer"] {
        let source = root().join("services").join(provisioner).join("src");
        let file = source.join("plan.rs");
        // postgres-init decides about servers in use too.
        let folders = ["plan", "adopt", "audit"].map(|name| source.join(name));
        let nested = |f: &Path| f.starts_with(&source) && f.ends_with("plan.rs");
        let plans: Vec<PathBuf> = sources()
            .into_iter()
            .filter(|f| *f == file || folders.iter().any(|folder| f.starts_with(folder)) || nested(f))
            .collect();
        assert!(plans.contains(&file), "{} is missing", file.display());
        for plan in plans {
            let text = std::fs::read_to_string(&plan).unwrap();
            for word in ["async ", "sqlx", "rdkafka", "tokio", "std::fs", "SystemTime"] {
                assert!(!text.contains(word), "{} says `{word}`", plan.display());
            }
        }
    }
}

#[test]
fn every_main_is_a_doorway() {
    for main in sources().iter().filter(|f| f.ends_with("src/main.rs")) {
        let lines = std::fs::read_to_string(main).unwrap().lines().count();
        assert!(lines <= 10, "{} has {lines} lines", main.display());
    }
}

#[test]
fn every_file_is_small_and_opens_with_a_sentence() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with a //! sentence", file.display());
        let lines = text.lines().count();
        assert!(lines <= LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn every_chosen_package_is_used() {
    let ours: BTreeSet<String> = packages().values().flat_map(knows).collect();
    let text: String = sources().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for name in CHOSEN {
        assert!(ours.contains(name), "no crate of ours depends on {name}");
        let path = format!("{}::", name.replace('-', "_"));
        assert!(text.contains(&path), "no file of ours uses {path}");
    }
}

#[test]
fn the_top_level_is_the_owners() {
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output().unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let top: BTreeSet<&str> = files
        .lines()
        .filter_map(|file| file.split('/').next())
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(top, TOP.into_iter().collect());
}
