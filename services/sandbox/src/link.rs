//! The owner's end of the pipes to the supervisor: sends requests, keeps each process's last known state.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{broadcast, watch};

use crate::protocol::{Exit, Notice, RUN_VARIABLE, Request};
use crate::{Error, Supervisor, record};

/// How long a supervisor may take to say that it is there.
const HELLO: Duration = Duration::from_secs(20);
/// Events a slow listener may lag behind before it loses the oldest.
const EVENTS: usize = 1024;

/// What happened to a process of the sandbox.
#[derive(Debug, Clone)]
pub enum Event {
    /// It was started, for the first time or again.
    Started {
        /// Its name.
        name: String,
        /// Its new pid.
        pid: i32,
        /// When.
        at: SystemTime,
    },
    /// It ended.
    Exited {
        /// Its name.
        name: String,
        /// The pid it had.
        pid: i32,
        /// How it ended.
        exit: Exit,
        /// When.
        at: SystemTime,
        /// Whether the supervisor will start it again.
        again: bool,
    },
}

/// What is known of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) pid: Option<i32>,
    pub(crate) starts: u64,
    pub(crate) exit: Option<Exit>,
    /// Not running, but about to be started again.
    pub(crate) again: bool,
    pub(crate) refused: Option<String>,
    /// The supervisor is gone, and the process with it.
    pub(crate) lost: bool,
}

struct Known {
    name: String,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct Book {
    known: BTreeMap<u64, Known>,
    ended: bool,
}

pub(crate) struct Link {
    input: Mutex<Option<ChildStdin>>,
    book: Mutex<Book>,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Up,
    Ended,
}

impl Link {
    /// Executes the supervisor for a run directory and waits until it answers.
    pub(crate) async fn open(supervisor: &Supervisor, run: &Path) -> Result<Arc<Self>, Error> {
        let fail = |reason: String| Error::Supervisor { command: supervisor.to_string(), reason };
        let log = run.join("supervisor.log");
        let errors = std::fs::File::create(&log).map_err(|source| Error::io("create", &log, source))?;
        let mut child = Command::new(&supervisor.program)
            .args(&supervisor.args)
            .env(RUN_VARIABLE, run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| fail(error.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail("it has no pipes".into()));
        };
        let link = Arc::new(Self {
            input: Mutex::new(Some(input)),
            book: Mutex::default(),
            next: AtomicU64::new(1),
            events: broadcast::Sender::new(EVENTS),
            phase: watch::Sender::new(Phase::Starting),
        });
        let (reader, run) = (Arc::clone(&link), run.to_owned());
        // A thread, not a task: the supervisor must be able to speak however busy the owner's runtime is.
        std::thread::spawn(move || reader.listen(child, output, &run));
        let mut phase = link.phase.subscribe();
        let answered = tokio::time::timeout(HELLO, phase.wait_for(|phase| *phase != Phase::Starting)).await;
        match answered {
            Ok(Ok(phase)) if *phase == Phase::Up => {}
            Ok(_) => return Err(fail(format!("it ended: {}", crate::error::tail(&log)))),
            Err(_) => {
                link.close();
                return Err(fail(format!("no answer within {HELLO:?}")));
            }
        }
        Ok(link)
    }

    /// Makes a new process known, to be started under this id.
    pub(crate) fn register(&self, name: &str) -> (u64, watch::Receiver<State>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut book = self.book();
        let state = watch::Sender::new(State { lost: book.ended, ..State::default() });
        let receiver = state.subscribe();
        book.known.insert(id, Known { name: name.to_owned(), state });
        (id, receiver)
    }

    pub(crate) fn forget_refusal(&self, id: u64) {
        if let Some(known) = self.book().known.get(&id) {
            known.state.send_modify(|state| state.refused = None);
        }
    }

    pub(crate) fn send(&self, request: &Request) -> Result<(), Error> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(request).map_err(|error| Error::Refused {
            name: "a process".into(),
            reason: format!("it cannot be described: {error}"),
        })?;
        let sent = input.as_mut().map(|pipe| writeln!(pipe, "{line}"));
        sent.is_some_and(|result| result.is_ok()).then_some(()).ok_or(Error::Ended)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Lets the supervisor end everything.
    pub(crate) fn close(&self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until the supervisor has ended; says whether that came true in time.
    pub(crate) async fn ended(&self, within: Duration) -> bool {
        let mut phase = self.phase.subscribe();
        tokio::time::timeout(within, phase.wait_for(|phase| *phase == Phase::Ended)).await.is_ok()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, mut child: Child, output: ChildStdout, run: &Path) {
        for line in BufReader::new(output).lines() {
            let Ok(notice) = line.and_then(|line| Ok(serde_json::from_str(&line)?)) else { break };
            self.hear(notice);
        }
        // Whatever the reason for the silence, there is nobody left to talk to.
        let expected = self.input.lock().unwrap_or_else(PoisonError::into_inner).take().is_none();
        let _ = child.wait();
        if !expected {
            tracing::error!("the sandbox's supervisor was killed: ending what it left");
        }
        if run.exists() {
            // Only a killed supervisor leaves its directory.
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(record::clear(run));
            }
        }
        let mut book = self.book();
        book.ended = true;
        for known in book.known.values() {
            known.state.send_modify(|state| *state = State { pid: None, lost: true, ..state.clone() });
        }
        drop(book);
        self.phase.send_replace(Phase::Ended);
    }

    fn hear(&self, notice: Notice) {
        match notice {
            Notice::Ready => {
                self.phase.send_replace(Phase::Up);
            }
            Notice::Started { id, pid, at } => self.learn(
                id,
                |state| {
                    (state.pid, state.again, state.refused) = (Some(pid), false, None);
                    state.starts += 1;
                },
                |name| Some(Event::Started { name, pid, at }),
            ),
            Notice::Refused { id, error } => {
                self.learn(id, |state| (state.refused, state.again) = (Some(error), false), |_| None);
            }
            Notice::Exited { id, pid, exit, at, again } => self.learn(
                id,
                |state| (state.pid, state.exit, state.again) = (None, Some(exit), again),
                |name| Some(Event::Exited { name, pid, exit, at, again }),
            ),
            Notice::Halted { id } => self.learn(id, |state| state.again = false, |_| None),
        }
    }

    fn learn(&self, id: u64, change: impl FnOnce(&mut State), event: impl FnOnce(String) -> Option<Event>) {
        if let Some(known) = self.book().known.get(&id) {
            known.state.send_modify(change);
            if let Some(event) = event(known.name.clone()) {
                // Nobody has to listen.
                let _ = self.events.send(event);
            }
        }
    }
}
