//! Nothing outlives a sandbox, whoever is killed; and processes are restarted, ended and reported as asked.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use sandbox::{Error, Event, Handle, Options, ProcessSpec, Restart, Sandbox, Signal, Supervisor};

const SOON: Duration = Duration::from_mins(1);

async fn start() -> Sandbox {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts")
}

async fn shell(sandbox: &Sandbox, name: &str, script: &str, restart: Restart) -> Handle {
    let spec = ProcessSpec::new(name, "sh", sandbox.dir().join(format!("{name}.log")));
    sandbox.spawn(spec.args(["-c", script]).restart(restart)).await.expect("it starts")
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// An owner in a process of its own, ended at the latest with this value.
struct Owner {
    process: Child,
    dir: PathBuf,
}

impl Owner {
    /// Returns once its servers run. Only sandboxes in the same temporary directory see each other's leftovers.
    fn start(temporary: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sandbox-owner"))
            .arg(env!("CARGO_BIN_EXE_sandbox-supervisor"))
            .env("TMPDIR", temporary)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the owner starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says where");
        assert!(!line.is_empty(), "the owner failed");
        Self { process, dir: PathBuf::from(line.trim()) }
    }

    fn pid(&self) -> i32 {
        self.process.id().try_into().expect("a pid")
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

/// A temporary directory through which the servers' user may pass.
fn temporary() -> tempfile::TempDir {
    let all = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().permissions(all).tempdir().expect("a directory")
}

/// Pids of all that work in the directory: by their current directory or by an environment that names it. The current
/// directory tells even when it was removed, and PostgreSQL's backends have nothing else.
fn inhabitants(dir: &Path) -> BTreeSet<i32> {
    let dir = dir.display().to_string();
    let mark = format!("SANDBOX_RUN_DIRECTORY={dir}");
    let lives_there = |pid: &i32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        cwd.display().to_string().starts_with(&dir)
            || environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(lives_there).collect()
}

fn recorded(dir: &Path, who: &str) -> i32 {
    let record = std::fs::read(dir.join("record.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("it is JSON");
    record[who]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

#[tokio::test]
async fn nothing_outlives_a_killed_owner() {
    let temporary = temporary();
    let mut owner = Owner::start(temporary.path());
    // Supervisor, PostgreSQL with several backends, a shell with two children.
    assert!(inhabitants(&owner.dir).len() > 6);
    owner.end();
    eventually("every process is gone", || inhabitants(&owner.dir).is_empty()).await;
    eventually("the directory is gone", || !owner.dir.exists()).await;
}

#[tokio::test]
async fn the_next_start_sweeps_what_outlived_owner_and_supervisor_and_nothing_else() {
    let temporary = temporary();
    let mut neighbour = Owner::start(temporary.path());
    let mut victim = Owner::start(temporary.path());
    let supervisor = recorded(&victim.dir, "supervisor");
    // Stopped first, so that it cannot notice the supervisor's end and tidy up itself.
    kill(Pid::from_raw(victim.pid()), Signal::SIGSTOP).expect("it lives");
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("it lives");
    victim.end();
    eventually("the supervisor is gone", || !inhabitants(&victim.dir).contains(&supervisor)).await;
    assert!(inhabitants(&victim.dir).len() > 5, "the servers are orphans now");
    let mut next = Owner::start(temporary.path());
    assert_eq!(inhabitants(&victim.dir), BTreeSet::new());
    assert!(!victim.dir.exists());
    let neighbours = inhabitants(&neighbour.dir);
    assert!(neighbours.contains(&recorded(&neighbour.dir, "supervisor")) && neighbours.len() > 6);
    next.end();
    neighbour.end();
    eventually("nothing is left", || {
        std::fs::read_dir(&temporary).is_ok_and(|mut left| left.next().is_none())
    })
    .await;
}

#[tokio::test]
async fn an_owner_whose_supervisor_is_killed_learns_it_and_ends_the_rest() {
    let sandbox = start().await;
    let dir = sandbox.dir().to_owned();
    let process = shell(&sandbox, "orphan", "setsid sleep 600 & sleep 600", Restart::Never).await;
    kill(Pid::from_raw(recorded(&dir, "supervisor")), Signal::SIGKILL).expect("it lives");
    assert!(matches!(process.exited(SOON).await, Err(Error::Ended)));
    assert!(inhabitants(&dir).is_empty());
    assert!(!dir.exists());
    assert!(matches!(process.start().await, Err(Error::Ended)));
}

#[tokio::test]
async fn a_terminal_s_interrupt_does_not_end_the_supervisor_and_a_drop_does() {
    let sandbox = start().await;
    let dir = sandbox.dir().to_owned();
    let supervisor = recorded(&dir, "supervisor");
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(Pid::from_raw(supervisor), signal).expect("it lives");
    }
    assert_ne!(nix::unistd::getpgid(Some(Pid::from_raw(supervisor))), nix::unistd::getpgid(None));
    let process = shell(&sandbox, "after", "exit 3", Restart::Never).await;
    assert_eq!(process.exited(SOON).await.expect("it ends").code, Some(3));
    drop(sandbox);
    eventually("the sandbox is gone", || inhabitants(&dir).is_empty() && !dir.exists()).await;
}

#[tokio::test]
async fn what_is_to_run_always_runs_again_until_it_is_stopped() {
    let sandbox = start().await;
    let mut events = sandbox.events();
    let always = Restart::Always { backoff: Duration::from_millis(50) };
    let process = shell(&sandbox, "server", "echo started; sleep 600 & wait", always).await;
    let first = process.pid().expect("it runs");
    process.kill().await.expect("killed");
    eventually("it runs again", || process.starts() == 2).await;
    assert_ne!(process.pid(), Some(first));
    process.signal(Signal::SIGUSR1).expect("signalled");
    eventually("it runs a third time", || process.starts() == 3).await;
    process.stop(SOON).await.expect("stopped");
    assert_eq!(process.pid(), None);
    sandbox.stop().await.expect("ends");
    let mut seen = Vec::new();
    while let Ok(event) = events.recv().await {
        seen.push(match event {
            Event::Started { name, .. } => format!("{name} started"),
            Event::Exited { exit, again, .. } => format!("{exit} again={again}"),
        });
        if seen.len() == 6 {
            break;
        }
    }
    let expected = ["SIGKILL again=true", "SIGUSR1 again=true", "SIGTERM again=false"];
    assert_eq!(seen, expected.map(|end| ["server started".to_owned(), end.to_owned()]).concat());
}

#[tokio::test]
async fn what_waits_for_its_restart_can_be_stopped() {
    let sandbox = start().await;
    let later = Restart::Always { backoff: Duration::from_mins(10) };
    let process = shell(&sandbox, "server", "exit 1", later).await;
    eventually("it has ended", || process.pid().is_none()).await;
    process.stop(SOON).await.expect("stopped");
    assert_eq!(process.exited(SOON).await.expect("it is over").code, Some(1));
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_the_log_keeps_everything() {
    let sandbox = start().await;
    let log = sandbox.dir().join("env.log");
    let spec =
        ProcessSpec::new("env", "sh", &log).args(["-c", "env; echo oops >&2"]).env("GIVEN", "planted-value");
    assert!(!format!("{spec:?}").contains("planted-value"));
    sandbox.run(spec.clone(), SOON).await.expect("success");
    sandbox.run(spec, SOON).await.expect("success");
    let text = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(text.matches("GIVEN=planted-value").count(), 2);
    assert_eq!(text.matches("oops").count(), 2);
    assert!(text.contains("PATH=") && !text.contains("CARGO"), "{text}");
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn failures_are_typed_and_show_the_log() {
    let sandbox = start().await;
    let spec = |name: &str, script: &str| {
        ProcessSpec::new(name, "sh", sandbox.dir().join(format!("{name}.log"))).args(["-c", script])
    };
    let error = sandbox.run(spec("bad", "echo no such table; exit 4"), SOON).await.expect_err("it fails");
    assert!(matches!(error, Error::Died { .. }));
    assert!(
        error.to_string().contains("exit code 4") && error.to_string().contains("no such table"),
        "{error}"
    );
    let brief = Duration::from_millis(200);
    let error =
        sandbox.run(spec("slow", "echo thinking; sleep 600 & wait"), brief).await.expect_err("it is late");
    assert!(matches!(error, Error::Late { .. }) && error.to_string().contains("thinking"), "{error}");
    let missing = ProcessSpec::new("missing", "/no/such/program", sandbox.dir().join("missing.log"));
    assert!(matches!(sandbox.spawn(missing).await, Err(Error::Refused { .. })));
    let nowhere = Options::new(Supervisor::command("/no/such/supervisor", [] as [&str; 0]));
    assert!(matches!(Sandbox::start(nowhere).await, Err(Error::Supervisor { .. })));
    let mute = Options::new(Supervisor::command("true", [] as [&str; 0]));
    assert!(matches!(Sandbox::start(mute).await, Err(Error::Supervisor { .. })));
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn a_kept_directory_stays() {
    let keep = tempfile::tempdir().expect("a directory");
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    let options = Options { keep_dir: Some(keep.path().join("kept")), ..Options::new(supervisor) };
    let sandbox = Sandbox::start(options).await.expect("it starts");
    let process = shell(&sandbox, "hello", "echo hello", Restart::Never).await;
    process.exited(SOON).await.expect("it ends");
    sandbox.stop().await.expect("ends");
    assert_eq!(std::fs::read_to_string(keep.path().join("kept/hello.log")).expect("kept"), "hello\n");
}
