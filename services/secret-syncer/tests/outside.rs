//! The binary with what lies outside its store: a sops file as a source, a sealed copy for an age key, and a teardown that
//! needs neither.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use age::x25519::Identity;
use chassis::SecretValue;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sops/fixtures")
}

/// Runs the program over a store in `dir`, with these secrets in the document and these variables.
fn run(dir: &Path, arguments: &[&str], secrets: &str, env: &[(&str, PathBuf)]) -> Output {
    let head = "rollcall: v1\nenvironment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}\n";
    let document = dir.join("app.yaml");
    std::fs::write(&document, format!("{head}fragment: {{name: app, namespace: app}}\nsecrets: {secrets}\n"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_secret-syncer"));
    command.args(arguments).arg(document).env_clear().stdin(Stdio::null());
    command.env("ROLLCALL_SECRETS_ROOT", dir.join("store")).env("ROLLCALL_DEADLINE", "20s");
    command.envs(env.iter().map(|(name, value)| (*name, value))).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const COPY: &str = "{mail: {copy: {from: {sops: flat.yaml}, keys: {smtp-password: password}}}}";

#[test]
fn a_sops_file_is_copied_and_its_copy_taken_down_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let key = fixtures().join("identity.txt");
    let identity = SecretValue::new(std::fs::read(&key).unwrap());
    let file = std::fs::read_to_string(fixtures().join("flat.yaml")).unwrap();
    let values = secret_syncer::sops::open(&file, &identity).unwrap();

    let unnamed = run(dir.path(), &["apply"], COPY, &[("ROLLCALL_SOPS_DIR", fixtures())]);
    assert_eq!(unnamed.status.code(), Some(65), "{}", text(&unnamed));
    assert!(text(&unnamed).contains("ROLLCALL_SOPS_KEY_FILE"), "{}", text(&unnamed));

    let sops = [("ROLLCALL_SOPS_DIR", fixtures()), ("ROLLCALL_SOPS_KEY_FILE", key)];
    let applied = run(dir.path(), &["apply"], COPY, &sops);
    assert!(applied.status.success(), "{}", text(&applied));
    let copy = dir.path().join("store/app/mail/smtp-password");
    assert_eq!(std::fs::read(&copy).unwrap(), values["password"].expose());

    let said = run(dir.path(), &["teardown"], COPY, &[]);
    assert!(said.status.success() && copy.exists(), "{}", text(&said));
    assert!(text(&said).contains("- secret/app/mail: delete it, because its environment"), "{}", text(&said));
    let done = run(dir.path(), &["teardown", "--yes"], COPY, &[]);
    assert!(done.status.success() && !copy.exists(), "{}", text(&done));
}

#[test]
fn a_source_that_is_no_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("flat.yaml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let key = fixtures().join("identity.txt");
    let sops = [("ROLLCALL_SOPS_DIR", dir.path().to_owned()), ("ROLLCALL_SOPS_KEY_FILE", key)];
    let planned = run(dir.path(), &["plan"], COPY, &sops);
    assert_eq!(planned.status.code(), Some(75), "{}", text(&planned));
    assert!(text(&planned).contains("no file of at most 1 MiB"), "{}", text(&planned));
}

#[test]
fn what_is_generated_can_be_restored_by_whoever_holds_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    let secrets =
        format!("{{db: {{escrow: {}, generate: {{password: {{kind: password}}}}}}}}", identity.to_public());
    let applied = run(dir.path(), &["apply"], &secrets, &[]);
    assert!(applied.status.success(), "{}", text(&applied));
    let value = std::fs::read_to_string(dir.path().join("store/app/db/password")).unwrap();
    let record = std::fs::read_to_string(dir.path().join("store/app/.generated/db/.rollcall")).unwrap();
    assert!(!record.contains(&value));
    let record: Value = serde_json::from_str(&record).unwrap();
    let sealed = record["escrow"]["sealed"].as_str().unwrap();
    let opened: Value = serde_json::from_slice(&age::decrypt(&identity, sealed.as_bytes()).unwrap()).unwrap();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &value);
    assert_eq!(
        (opened["secret"].as_str(), &opened["keys"]["password"]),
        (Some("secret/app/db"), &encoded.into())
    );
}
