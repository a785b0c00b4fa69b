//! The supervisor: parent of every process of a sandbox, so that none outlives the owner, however the owner ends.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::namespaces::{self, Namespaces};
use crate::process::{self, Identity};
use crate::protocol::{Exit, Notice, Place, ProcessSpec, RUN_VARIABLE, Request, Restart};
use crate::record::{self, Child, GRACE, Record};

/// What a process gets from the supervisor's own environment; everything else must be given to it.
const PASSED_ON: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "JAVA_HOME"];
/// Requests and events that may wait for the supervisor's attention.
const QUEUE: usize = 256;
/// How long what was killed with a process may take to be gone before the process counts as ended.
const TREE_GONE: Duration = Duration::from_secs(2);

/// Supervises one sandbox until its owner closes standard input or dies; what `sandbox-supervisor` and the hidden
/// subcommand of `rollcall` run. Only [`crate::Sandbox::start`] executes it with the environment and pipes it needs.
pub fn supervise() -> ExitCode {
    // On a thread of its own, so that a caller inside a runtime may call it too.
    let done = std::thread::spawn(|| -> std::io::Result<()> {
        let run = std::env::var_os(RUN_VARIABLE).map(PathBuf::from).ok_or_else(|| {
            std::io::Error::other(format!("{RUN_VARIABLE} is not set: a sandbox starts this, people do not"))
        })?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(&run))
    });
    match done.join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            let _ = writeln!(std::io::stderr(), "sandbox supervisor: {error}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

enum Event {
    Ended { id: u64, identity: Identity, status: std::io::Result<ExitStatus> },
    Again { id: u64 },
}

struct Service {
    spec: ProcessSpec,
    running: Option<Identity>,
    /// False once its end was asked for: then it is not started again.
    wanted: bool,
    /// What was killed together with the process and must be gone before it counts as ended.
    doomed: Arc<Mutex<Vec<Identity>>>,
}

struct Supervisor<'run> {
    run: &'run Path,
    record: Record,
    services: BTreeMap<u64, Service>,
    events: mpsc::Sender<Event>,
    /// Whether the owner still reads.
    heard: bool,
}

async fn serve(run: &Path) -> std::io::Result<()> {
    // Grandchildren that lose their parent become ours instead of init's, so that none is lost from sight.
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut requests = requests();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child_changed = signal(SignalKind::child())?;
    // What a terminal sends to everybody concerns the owner; having a handler is what keeps these from ending us.
    let _ignored =
        (signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?, signal(SignalKind::quit())?);
    let (events, mut happened) = mpsc::channel(QUEUE);
    let mut record = Record::load(run)?;
    record.supervisor = Identity::own();
    record.save(run)?;
    let mut supervisor = Supervisor { run, record, services: BTreeMap::new(), events, heard: true };
    supervisor.say(&Notice::Ready);
    while supervisor.heard {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => supervisor.obey(request),
                None => break,
            },
            Some(event) = happened.recv() => supervisor.notice(event),
            _ = child_changed.recv() => supervisor.bury_strangers(),
            _ = terminate.recv() => break,
        }
    }
    supervisor.end().await;
    Ok(())
}

/// The owner's requests; the channel ends with the owner.
fn requests() -> mpsc::Receiver<Request> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            // A line cut short is an owner that died while writing.
            let Ok(request) = line.and_then(|line| Ok(serde_json::from_str(&line)?)) else { return };
            if sender.blocking_send(request).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Supervisor<'_> {
    fn say(&mut self, notice: &Notice) {
        let mut out = std::io::stdout().lock();
        let said = serde_json::to_vec(notice).map_err(std::io::Error::from).and_then(|line| {
            out.write_all(&line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
        });
        self.heard &= said.is_ok();
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Start { id, spec } => {
                let running = self.services.get(&id).and_then(|service| service.running);
                if running.is_some() {
                    return self.say(&Notice::Refused { id, error: "it already runs".into() });
                }
                let doomed = Arc::default();
                self.services.insert(id, Service { spec: *spec, running: None, wanted: true, doomed });
                self.start(id);
            }
            Request::Signal { id, pid, signal } => {
                if let (Some(identity), Ok(signal)) = (self.running(id, pid), Signal::try_from(signal)) {
                    identity.signal(signal);
                }
            }
            Request::Kill { id, pid } => {
                if self.running(id, pid).is_some() {
                    self.kill(id);
                }
            }
            Request::Halt { id } => self.halt(id),
        }
    }

    fn running(&self, id: u64, pid: i32) -> Option<Identity> {
        self.services.get(&id)?.running.filter(|identity| identity.pid == pid)
    }

    fn start(&mut self, id: u64) {
        let Some(service) = self.services.get(&id) else { return };
        let spawned = self.namespaces(service.spec.place).and_then(|at| spawn(&service.spec, self.run, at));
        let Some(service) = self.services.get_mut(&id) else { return };
        match spawned {
            Ok((identity, mut child)) => {
                service.running = Some(identity);
                let (events, doomed) = (self.events.clone(), Arc::clone(&service.doomed));
                tokio::spawn(async move {
                    let status = child.wait().await;
                    let doomed = std::mem::take(&mut *doomed.lock().unwrap_or_else(PoisonError::into_inner));
                    process::gone(&doomed, TREE_GONE).await;
                    let _ = events.send(Event::Ended { id, identity, status }).await;
                });
                self.remember();
                self.say(&Notice::Started { id, pid: identity.pid, at: now() });
            }
            Err(error) => {
                service.wanted = false;
                self.say(&Notice::Refused { id, error: error.to_string() });
            }
        }
    }

    fn namespaces(&self, place: Place) -> std::io::Result<Namespaces> {
        match place {
            Place::Here => Ok(Namespaces::Own),
            Place::New => Ok(Namespaces::New),
            Place::Mounts => Ok(Namespaces::Mounts),
            Place::Of { id } => match self.services.get(&id).and_then(|service| service.running) {
                Some(first) => Ok(Namespaces::Of(first.pid)),
                None => Err(std::io::Error::other("the process whose namespaces it belongs in has ended")),
            },
        }
    }

    fn kill(&mut self, id: u64) {
        let Some(service) = self.services.get(&id) else { return };
        let Some(identity) = service.running else { return };
        let family = process::descendants(&[identity.pid]);
        service.doomed.lock().unwrap_or_else(PoisonError::into_inner).extend(&family);
        identity.signal_group(Signal::SIGKILL);
        for member in family {
            member.signal(Signal::SIGKILL);
        }
    }

    fn halt(&mut self, id: u64) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.wanted = false;
        match service.running {
            Some(identity) => Child { identity, stop_signal: service.spec.stop_signal }.stop(),
            None => self.say(&Notice::Halted { id }),
        }
    }

    fn notice(&mut self, event: Event) {
        match event {
            Event::Ended { id, identity, status } => {
                let Some(service) = self.services.get_mut(&id) else { return };
                service.running = None;
                let restart = if service.wanted { service.spec.restart } else { Restart::Never };
                let exit = status.map_or(Exit { code: None, signal: None }, |status| Exit {
                    code: status.code(),
                    signal: status.signal(),
                });
                self.remember();
                let again = matches!(restart, Restart::Always { .. });
                self.say(&Notice::Exited { id, pid: identity.pid, exit, at: now(), again });
                if let Restart::Always { backoff } = restart {
                    let events = self.events.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(backoff).await;
                        let _ = events.send(Event::Again { id }).await;
                    });
                }
            }
            Event::Again { id } => {
                if self.services.get(&id).is_some_and(|service| service.wanted && service.running.is_none()) {
                    self.start(id);
                }
            }
        }
    }

    /// Keeps the record true; without it a sweep would miss the newest children, though not those it finds by mark.
    fn remember(&mut self) {
        let running = |service: &Service| {
            service.running.map(|identity| Child { identity, stop_signal: service.spec.stop_signal })
        };
        self.record.children = self.services.values().filter_map(running).collect();
        if let Err(error) = self.record.save(self.run) {
            let _ = writeln!(std::io::stderr(), "cannot save the record in {}: {error}", self.run.display());
        }
    }

    /// Orphans of our children end as our zombies; those we did not start nobody else waits for.
    fn bury_strangers(&self) {
        let own: Vec<i32> = self.services.values().filter_map(|service| Some(service.running?.pid)).collect();
        let parent = std::process::id();
        for stat in process::all() {
            let pid = stat.identity.pid;
            if stat.zombie && u32::try_from(stat.parent) == Ok(parent) && !own.contains(&pid) {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    async fn end(&mut self) {
        for child in &self.record.children {
            child.stop();
        }
        let own = std::process::id().cast_signed();
        process::end(|| process::descendants(&[own]), GRACE).await;
        record::remove(self.run).await;
    }
}

fn spawn(
    spec: &ProcessSpec,
    run: &Path,
    namespaces: Namespaces,
) -> std::io::Result<(Identity, tokio::process::Child)> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log_file)?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(&spec.env)
        .env(RUN_VARIABLE, run)
        .current_dir(spec.dir.as_deref().unwrap_or(run))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    if let Some((uid, gid)) = spec.user {
        command.uid(uid).gid(gid);
    }
    let runtime = tokio::runtime::Handle::current();
    let child = namespaces::run(namespaces, move || {
        let _entered = runtime.enter();
        command.spawn()
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    // Not waited for yet: even if it has already ended it is there as a zombie.
    let identity =
        pid.and_then(Identity::of).ok_or_else(|| std::io::Error::other("it left no trace in /proc"))?;
    Ok((identity, child))
}

/// The wall clock: people read these times in a timeline.
fn now() -> SystemTime {
    SystemTime::now()
}
