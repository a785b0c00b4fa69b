//! The binary: one-shot, long-lived, and without a store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DOCUMENT: &str = "
rollcall: v1
environment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
fragment: {name: app, namespace: app}
secrets:
  db: {generate: {password: {kind: password}}}
  copy: {copy: {from: base/origin}}
  base/origin: {external: true}
";

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let document = dir.join("app.yaml");
    std::fs::write(&document, DOCUMENT).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_secret-syncer"));
    command.args(arguments).arg(document).env_clear().stdin(Stdio::null());
    command.env("ROLLCALL_SECRETS_ROOT", dir.join("store")).env("ROLLCALL_RESYNC", "1h");
    for listen in ["ROLLCALL_LISTEN", "ROLLCALL_HEALTH_LISTEN", "ROLLCALL_METRICS_LISTEN"] {
        command.env(listen, "127.0.0.1:0");
    }
    command
}

/// The same over a document of the test's own.
fn over(dir: &Path, document: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = command(dir, arguments);
    std::fs::write(dir.join("app.yaml"), document).unwrap();
    command.env("ROLLCALL_DEADLINE", "20s").output().unwrap()
}

fn write(dir: &Path, path: &str, value: &str) {
    let path = dir.join("store").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value).unwrap();
}

fn read(dir: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(dir.join("store").join(path)).ok()
}

/// Waits for something with a deadline.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let (_held, wait) = std::sync::mpsc::channel::<()>();
    while !holds() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        let _ = wait.recv_timeout(Duration::from_millis(10));
    }
}

fn terminate(child: &mut Child) -> std::process::ExitStatus {
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    child.wait().unwrap()
}

#[test]
fn apply_waits_for_a_source_and_is_woken_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path(), &["apply"]).stderr(Stdio::null()).spawn().unwrap();
    eventually("the generated one is made", || read(dir.path(), "app/db/password").is_some());
    assert!(child.try_wait().unwrap().is_none(), "the copy is waited for");
    write(dir.path(), "base/origin/key", "value");
    assert!(child.wait().unwrap().success());
    assert_eq!(read(dir.path(), "app/copy/key").as_deref(), Some("value"));
}

#[test]
fn serve_follows_without_polling_and_never_tells_a_value() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "base/origin/key", "planted-value-1");
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut child = command(dir.path(), &["serve"])
        .env("ROLLCALL_LOG", "trace")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    eventually("copied", || read(dir.path(), "app/copy/key").as_deref() == Some("planted-value-1"));
    for value in ["planted-value-2", "planted-value-3"] {
        write(dir.path(), "base/origin/key", value);
        eventually("followed", || read(dir.path(), "app/copy/key").as_deref() == Some(value));
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "no core may hold what was read: {core}");
    write(dir.path(), "app/copy/key", "planted-drift");
    eventually("corrected", || read(dir.path(), "app/copy/key").as_deref() == Some("planted-value-3"));
    assert!(terminate(&mut child).success());
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let generated = read(dir.path(), "app/db/password").unwrap();
    assert!(log.contains("renew `key`") && !log.contains("planted") && !log.contains(&generated), "{log}");
}

#[test]
fn plan_touches_nothing_and_offline_needs_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &["plan"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("generate `password`") && !dir.path().join("store").exists(), "{text}");
    let mut offline = command(dir.path(), &["plan", "--offline"]);
    let output = offline.env_remove("ROLLCALL_SECRETS_ROOT").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("generate `password`"));
    let mut lost = command(dir.path(), &["apply"]);
    let output = lost.env_remove("ROLLCALL_SECRETS_ROOT").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("ROLLCALL_SECRETS_ROOT"));
    std::fs::write(dir.path().join("store"), "").unwrap();
    let output = command(dir.path(), &["apply"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("store is no folder"));
}

#[test]
fn what_follows_has_the_new_value_when_a_run_that_made_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let head = DOCUMENT.split_once("secrets:").unwrap().0;
    for serial in 1..=5 {
        // Each is looked at beside the others, so one may look before what it follows is made.
        let document = format!(
            "{head}secrets:
  a: {{generate: {{p: {{kind: password}}}}, rotate: {{serial: {serial}}}}}
  b: {{copy: {{from: a}}}}
  c: {{copy: {{from: b}}}}
  d: {{copy: {{from: c}}}}
  url: {{template: {{keys: {{url: 'x:{{p}}'}}, values: {{p: {{secret: d, key: p}}}}}}}}
"
        );
        let applied = over(dir.path(), &document, &["apply"]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let value = read(dir.path(), "app/a/p").unwrap();
        assert_eq!(read(dir.path(), "app/url/url").unwrap(), format!("x:{value}"), "rotation {serial}");
        let planned = over(dir.path(), &document, &["plan"]);
        let text = String::from_utf8(planned.stdout).unwrap();
        assert!(planned.status.success() && !text.contains("\n+"), "{text}");
    }
}
