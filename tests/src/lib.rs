//! Scenario tests over the real components: a stage with real Postgres and Kafka, the real services as processes, and
//! questions asked as a person or a catalog would ask them. Rules about the shape of the code stand beside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness for tests fails by panicking"
)]

pub mod ask;
pub mod catalog;
pub mod charts;
pub mod cluster;
pub mod documents;
pub mod fragments;
pub mod measure;
pub mod node;
pub mod place;
pub mod previous;
pub mod relay;
pub mod rights;
pub mod running;
pub mod sample;
pub mod scene;
pub mod sources;
pub mod store;
pub mod syncer;
pub mod topics;
pub mod traces;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use lifecycle::document::{Environment, Source};
use lifecycle::{Component, Phase};
use rollcall::rehearse::{Board, Follower, Service, Setting, Stage};

/// How long anything in a scenario may take before it counts as never.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The reference documents of OpenG2P.
pub fn openg2p() -> PathBuf {
    root().join("charts/environments/openg2p")
}

/// The `rollcall` binary, built once in the profile of these tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| programs("dev", &["rollcall"]).remove("rollcall").expect("cargo names no executable"))
}

/// Builds the programs of these packages, each named like its package, in a profile and the usual target directory.
pub fn programs(profile: &str, packages: &[&str]) -> BTreeMap<String, PathBuf> {
    programs_of(&root(), None, profile, packages)
}

/// The same of a state of the repository that is kept in this folder, in this target directory instead of its own.
fn programs_of(
    source: &Path,
    target: Option<&Path>,
    profile: &str,
    packages: &[&str],
) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", profile, "--bins", "--message-format", "json"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    if let Some(target) = target {
        cargo.arg("--target-dir").arg(target);
    }
    // What cargo tells this test of its package would make it build anew what looks at such variables.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own)))
    {
        cargo.env_remove(name);
    }
    let output = cargo.current_dir(source).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{packages:?} do not build");
    let text = String::from_utf8(output.stdout).unwrap();
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = |artifact: serde_json::Value| {
        Some((artifact["target"]["name"].as_str()?.to_owned(), artifact["executable"].as_str()?.into()))
    };
    artifacts.filter_map(program).collect()
}

/// Runs `rollcall` to its end, as a person would.
pub fn rollcall(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    for (key, value) in env {
        command.env(key, value);
    }
    command.output().unwrap()
}

/// An output as text: standard output, then standard error.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The environment of some documents' texts, each a fragment; anything wrong in them fails the test.
pub fn environment(texts: &[String]) -> Environment {
    let sources = texts.iter().enumerate().map(|(i, text)| {
        let file = format!("{i}.yaml");
        let document =
            chassis::documents::parse(&file, text).unwrap_or_else(|problems| panic!("{problems:?}"));
        Source { file, document }
    });
    let merged = Environment::merge(sources);
    assert!(merged.problems.is_empty(), "{:?}", merged.problems);
    merged.environment.unwrap()
}

/// A stage for an environment, with this setting.
pub async fn stage(environment: &Environment, change: impl FnOnce(&mut Setting)) -> Stage {
    let mut setting = Setting::new(binary());
    change(&mut setting);
    Stage::set(environment, setting).await.unwrap_or_else(|error| panic!("no stage: {error}"))
}

/// Follows the hub until `enough`, and gives the board. Fails with the causes when it takes too long.
pub async fn follow(stage: &Stage, mut enough: impl FnMut(&Board) -> bool) -> Board {
    let mut board = Board::new(stage.environment());
    let mut follower = Follower::start(stage.url(Service::WaitForDependency));
    let following = async {
        while !enough(&board) {
            if let Some(state) = follower.next(Duration::from_millis(200)).await {
                board.hear(state);
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, following).await.is_ok();
    let modules: Vec<String> = stage
        .environment()
        .modules()
        .map(|module| format!("{} {:?}", module.component, board.phase(&module.component)))
        .collect();
    assert!(
        in_time,
        "not within {} s:\n{}\n{}",
        PATIENCE.as_secs(),
        board.causes().join("\n"),
        modules.join(", ")
    );
    board
}

/// Whether the component is in the phase.
pub fn is(board: &Board, component: &str, phase: Phase) -> bool {
    let component: Component = component.parse().unwrap();
    board.phase(&component) == Some(phase)
}

/// Waits until a condition holds; fails naming it when it takes too long.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, looking).await.is_ok(),
        "not within {} s: {what}",
        PATIENCE.as_secs()
    );
}
