//! What makes and runs images outside of tests, read by the tools that would: the Dockerfile, the bake file, the compose
//! file, the workflows. (No engine is here: what they make is made by the sandbox, as the Dockerfile says.)

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

mod compose;
mod publishing;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use acceptance::{binary, root, text};
use cargo_metadata::{MetadataCommand, TargetKind};
use sandbox::{Containers, Options, Sandbox, Supervisor};
use serde_json::Value;

const DOCKERFILE: &str = "docker/Dockerfile";
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap()
}

async fn tools() -> (Sandbox, Containers) {
    let sandbox = sandbox().await;
    let containers = sandbox.containers().await.unwrap();
    (sandbox, containers)
}

/// Runs a tool in the repository, away from whatever its user has set.
fn run(sandbox: &Sandbox, program: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).env_clear().env("HOME", sandbox.dir()).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Every program of the workspace but those that the sandbox's own tests need, and the version of all.
fn programs() -> (BTreeSet<String>, String) {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let of_rollcall = metadata.packages.iter().find(|package| *package.name == "rollcall").unwrap();
    let version = of_rollcall.version.to_string();
    let of_people = metadata.packages.iter().filter(|package| *package.name != "sandbox");
    let targets = of_people.flat_map(|package| &package.targets);
    let programs = targets.filter(|target| target.kind.contains(&TargetKind::Bin));
    (programs.map(|target| target.name.clone()).collect(), version)
}

#[tokio::test]
async fn every_program_has_an_image_for_both_platforms_from_one_compilation() {
    let (sandbox, containers) = tools().await;
    let (programs, version) = programs();
    assert!(programs.len() > 5, "{programs:?}");
    let bake = |env: &[(&str, &str)]| {
        let args = ["bake", "-f", "docker/docker-bake.hcl", "--print"];
        json(&run(&sandbox, &containers.buildx(), &args, env, ""))
    };
    let plan = bake(&[]);
    let targets = plan["target"].as_object().unwrap();
    assert_eq!(targets.keys().cloned().collect::<BTreeSet<_>>(), programs);
    for (name, target) in targets {
        assert_eq!(texts(&target["tags"]), [format!("localhost/rollcall/{name}:{version}")]);
        assert_eq!(texts(&target["platforms"]), PLATFORMS);
        assert_eq!(target["args"]["BIN"], name.as_str());
        assert_eq!((&target["dockerfile"], &target["context"]), (&DOCKERFILE.into(), &".".into()));
        let attested: BTreeSet<&str> = target["attest"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attest| attest["type"].as_str().unwrap())
            .collect();
        assert_eq!(attested, BTreeSet::from(["provenance", "sbom"]));
    }
    // As a release asks for it.
    let given = [
        ("REGISTRY", "registry.local/some"),
        ("VERSION", "7.8.9"),
        ("REVISION", "abc"),
        ("SOURCE", "https://code.local/rollcall"),
    ];
    let published = bake(&given);
    let published = &published["target"]["postgres-init"];
    assert_eq!(texts(&published["tags"]), ["registry.local/some/rollcall/postgres-init:7.8.9"]);
    for (name, value) in given.iter().skip(1) {
        assert_eq!(published["args"][name], *value);
    }
    sandbox.stop().await.unwrap();

    // What the Dockerfile takes from bake it knows, and it compiles all that there is an image of.
    let dockerfile = std::fs::read_to_string(root().join(DOCKERFILE)).unwrap();
    for name in published["args"].as_object().unwrap().keys() {
        assert!(dockerfile.contains(&format!("\nARG {name}=")), "{name}");
    }
    let words: Vec<&str> = dockerfile.split_whitespace().collect();
    let compiled = words.windows(2).filter(|pair| pair[0] == "--package").map(|pair| pair[1].to_owned());
    assert_eq!(compiled.collect::<BTreeSet<_>>(), programs);
    assert_eq!(dockerfile.matches("cargo auditable build").count(), 1);
}

#[tokio::test]
async fn buildkit_has_nothing_to_say_about_the_dockerfile() {
    let (sandbox, containers) = tools().await;
    let dockerfile = std::fs::read_to_string(root().join(DOCKERFILE)).unwrap();
    let check = |platform: &str, text: &str| run(&sandbox, &containers.dockerfile(), &[platform], &[], text);
    for platform in PLATFORMS {
        let checked = check(platform, &dockerfile);
        assert!(checked.status.success(), "{platform}: {}", text(&checked));
        // And it would, if there were something.
        for (right, wrong, said) in [
            ("ARG BIN=rollcall", "ARG BEEN=rollcall", "UndefinedVar"),
            ("AS build", "as build", "FromAsCasing"),
            ("USER 65532:65532", "USERS 65532:65532", "unknown instruction: USERS"),
        ] {
            let checked = check(platform, &dockerfile.replacen(right, wrong, 1));
            assert!(!checked.status.success() && text(&checked).contains(said), "{said}: {}", text(&checked));
        }
    }
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn workflows_are_right_and_run_only_what_is_fixed() {
    let sandbox = sandbox().await;
    let actionlint = sandbox.actionlint().await.unwrap();
    let folder = root().join(".github/workflows");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    // Shell and Python have checkers of their own, which are not everywhere.
    let args = [
        &["-no-color", "-shellcheck=", "-pyflakes="][..],
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    ];
    let checked = run(&sandbox, &actionlint, &args.concat(), &[], "");
    assert!(checked.status.success(), "{}", text(&checked));
    let broken = run(&sandbox, &actionlint, &["-no-color", "-"], &[], "on: push\njobs: {a: {step: []}}\n");
    assert!(
        !broken.status.success() && text(&broken).contains("unexpected key \"step\""),
        "{}",
        text(&broken)
    );
    sandbox.stop().await.unwrap();

    for file in files {
        let workflow = std::fs::read_to_string(&file).unwrap();
        // Those of this repository are of the same commit.
        let used = workflow.lines().filter_map(|line| line.split_once("uses: "));
        for action in used.filter(|(_, action)| !action.starts_with("./")) {
            let (_, commit) = action.1.split_once('@').unwrap();
            let commit = commit.split_whitespace().next().unwrap();
            let fixed = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(fixed, "{}: {} is not fixed by its commit", file.display(), action.1);
        }
        let read: Value = serde_saphyr::from_str(&workflow).unwrap();
        assert!(read["permissions"].is_object(), "{} asks for every right", file.display());
    }
}
