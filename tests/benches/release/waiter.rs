//! Who waits: Rollcall's waiter with a hub and without one, and a shell loop.

use std::time::{Duration, Instant};

use acceptance::measure::child;
use rollcall::rehearse::Stage;
use sandbox::ProcessSpec;
use tokio::process::Child;
use tokio::time::timeout;

use super::dependency::{Dependency, Thing};

/// No waiter waits longer; also one whose bench was killed.
const DEADLINE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Push,
    Direct,
    Shell,
}

impl Method {
    pub(crate) const ALL: [Method; 3] = [Method::Push, Method::Direct, Method::Shell];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Push => "push",
            Method::Direct => "direct",
            Method::Shell => "shell",
        }
    }
}

/// One release.
pub(crate) struct Sample {
    pub(crate) latency: Duration,
    /// News brought the look that released, not own polling.
    pub(crate) woken: bool,
}

/// Starts a waiter.
pub(crate) fn start(method: Method, dependency: &Dependency, lane: usize, stage: &Stage) -> Child {
    let spec = match method {
        Method::Push => {
            let documents = stage.documents().display().to_string();
            let kind = if matches!(dependency.thing, Thing::Port { .. }) { "tcp" } else { "login" };
            waiting(stage).args(["--module", &format!("{kind}{lane}"), &documents])
        }
        Method::Direct => direct(stage, &dependency.thing),
        Method::Shell => shell(stage, &dependency.thing),
    };
    child(&spec).spawn().unwrap()
}

fn waiting(stage: &Stage) -> ProcessSpec {
    let timeout = format!("{}s", DEADLINE.as_secs());
    let wait = ["wait-for-dependency", "wait", "--output", "json", "--timeout", timeout.as_str()];
    stage.process("waiter").args(wait).env("ROLLCALL_LOG", "warn")
}

fn direct(stage: &Stage, thing: &Thing) -> ProcessSpec {
    let mut spec = waiting(stage);
    for hub in ["ROLLCALL_HUB", "ROLLCALL_BROKERS"] {
        spec.env.remove(hub);
    }
    match thing {
        Thing::Port { port, .. } => spec.args(["--tcp".to_owned(), format!("127.0.0.1:{port}")]),
        Thing::Role { role, password, .. } => spec
            .args(["--postgres".to_owned(), dsn(stage, role)])
            .env("PGPASSWORD", password.expose_text().unwrap()),
    }
}

fn shell(stage: &Stage, thing: &Thing) -> ProcessSpec {
    let (condition, target, password) = match thing {
        Thing::Port { port, .. } => ("(exec 3<>/dev/tcp/127.0.0.1/$0) 2>/dev/null", port.to_string(), ""),
        Thing::Role { role, password, .. } => (
            "psql --no-psqlrc --no-password --command 'select 1' \"$0\" >/dev/null 2>&1",
            dsn(stage, role),
            password.expose_text().unwrap(),
        ),
    };
    let script =
        format!("until {condition}; do [ $SECONDS -lt {} ] || exit 124; sleep 1; done", DEADLINE.as_secs());
    ProcessSpec::new("shell", "bash", "").args(["-c", &script, &target]).env("PGPASSWORD", password)
}

fn dsn(stage: &Stage, role: &str) -> String {
    let postgres = stage.postgres();
    format!("postgresql://{role}@{}:{}/postgres?sslmode=disable", postgres.host(), postgres.port())
}

/// Waits until the waiter is released.
pub(crate) async fn released(waiter: Child, ready: Instant, dependency: &Dependency) -> Sample {
    let output = timeout(DEADLINE, waiter.wait_with_output()).await.expect("not released at all").unwrap();
    let latency = ready.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "a waiter ended with {}: {said}", output.status);
    // A module also needs the Secret of its database; what matters is what the dependency itself was released by.
    let target = dependency.told.as_ref().map(|(component, _)| component.to_string());
    let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let by = lines
        .filter(|line| target.as_deref().is_none_or(|target| line["target"] == target))
        .find_map(|line| line["released_by"].as_str().map(str::to_owned));
    let by = by.unwrap_or_default();
    assert!(!by.contains("first look"), "it was ready before its time");
    Sample { latency, woken: by.starts_with("woken") }
}
