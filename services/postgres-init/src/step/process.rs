//! Runs a command: passes signals to it and its output on, and keeps the end of what it printed, without secrets.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::warn;
use zeroize::Zeroizing;

use super::group::{Group, stops};

/// How much of the output is looked through for secrets, and how much of it is kept.
const SEEN: usize = 64 * 1024;
const KEPT: usize = 4 * 1024;
/// Values shorter than this are words that anything prints.
const SECRET_MIN: usize = 4;
/// How long a command has for its end when it is asked to stop, and what it printed to be read. With what is left of it and what is to be
/// written down that is well below the 30 s that a pod has.
const STOPS: Duration = Duration::from_secs(12);
const PRINTED: Duration = Duration::from_secs(1);
/// The same of one that ended by itself.
const PRINTED_LATE: Duration = Duration::from_secs(5);
/// What stands in for a secret.
const HIDDEN: &str = "[secret]";

/// Signals that a person or a kubelet sends to a process to have it do something.
const PASSED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub exit: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// The end of what it printed, without secrets.
    pub output: String,
    /// It was asked to stop: whoever asked does not wait for long.
    pub stopped: bool,
}

impl Ended {
    /// Its exit code as a shell tells it: 128 and the signal's number where a signal ended it.
    pub fn code(&self) -> u8 {
        let code = self.exit.or_else(|| self.signal.map(|signal| 128 + signal)).unwrap_or(1);
        u8::try_from(code).unwrap_or(1)
    }
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn take(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let over = self.0.len().saturating_sub(SEEN);
        self.0.drain(..over);
    }
}

/// Secrets that may not be written down.
#[derive(Default)]
pub struct Secrets {
    values: Vec<Zeroizing<String>>,
    /// Not all are known, so nothing is safe to write down.
    unknown: bool,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.values.len())
    }
}

impl Secrets {
    /// Adds a value. One that is too short to be told from a word is left out.
    pub fn add(&mut self, value: &str) {
        let value = value.trim_end_matches(['\r', '\n']);
        if value.len() >= SECRET_MIN {
            self.values.push(Zeroizing::new(value.to_owned()));
            // The longest first: one may hold another.
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// Adds what variables hold whose names say that it is a secret, and those named in `also`.
    pub fn add_variables(&mut self, also: &[String]) {
        const SAY: [&str; 7] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PWD", "AUTH"];
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().to_uppercase();
            let says = SAY.iter().any(|word| name.contains(word)) && name != "PWD" && name != "OLDPWD";
            if says || also.iter().any(|named| named.to_uppercase() == name) {
                self.add(&value.to_string_lossy());
            }
        }
    }

    /// Some could not be read.
    pub fn are_unknown(&mut self) {
        self.unknown = true;
    }

    /// A text without them; none of it where not all are known.
    pub fn hide(&self, text: &str) -> String {
        if self.unknown {
            return "(not all secrets were known, so this was not written down)".to_owned();
        }
        self.values.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), HIDDEN))
    }
}

/// Runs a command to its end, in a process group of its own. It gets our variables, and our standard input unless that is a terminal,
/// which only the group in front may read. When this is dropped all of the group is killed. Where the command was stopped or did not end
/// well, what is left of the group is ended too: whoever repeats it meets nobody.
pub async fn run(command: &[String], secrets: &Secrets) -> io::Result<Ended> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command"));
    };
    // Before it starts: what is sent between would end us and not reach it.
    let mut signals = Vec::new();
    for one in PASSED {
        signals.push((one, signal(SignalKind::from_raw(one as i32))?));
    }
    let input = if io::stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() };
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (group, stopped, asked) = (Group::led_by(&child), AtomicBool::new(false), Notify::new());
    let tail = Arc::new(Mutex::new(Tail::default()));
    let out = pass(child.stdout.take(), io::stdout, Arc::clone(&tail));
    let err = pass(child.stderr.take(), io::stderr, Arc::clone(&tail));
    let (signalled, is_stopped, asked) = (&group, &stopped, &asked);
    let passing = async {
        let each = signals.into_iter().map(|(one, mut stream)| async move {
            while stream.recv().await.is_some() {
                if stops(one) {
                    is_stopped.store(true, Ordering::Relaxed);
                    asked.notify_one();
                }
                signalled.pass(one);
            }
        });
        futures_util::future::join_all(each).await;
        std::future::pending::<()>().await;
    };
    let ending = async {
        // What it printed is all there when both ends are closed; a grandchild may hold them for longer than it lives.
        let status = child.wait().await?;
        Ok::<_, io::Error>(status)
    };
    let overdue = async {
        asked.notified().await;
        tokio::time::sleep(STOPS).await;
    };
    let printing = async { tokio::join!(out, err) };
    tokio::pin!(printing);
    let (mut printed, mut killed) = (false, false);
    let status = {
        tokio::pin!(ending, passing, overdue);
        loop {
            tokio::select! {
                status = &mut ending => break status?,
                _ = &mut printing, if !printed => printed = true,
                () = &mut passing => {}
                () = &mut overdue, if !killed => {
                    warn!("{program} was asked to stop {STOPS:?} ago and goes on, so it is killed");
                    group.kill();
                    killed = true;
                }
            }
        }
    };
    let stopped = stopped.load(Ordering::Relaxed);
    if stopped || !status.success() {
        group.end().await;
    } else {
        if group.is_there() {
            warn!(
                "{program} has ended and left processes behind, which go on; what is to be written down is how it ended"
            );
        }
        group.leave();
    }
    if !printed {
        let _ = tokio::time::timeout(if stopped { PRINTED } else { PRINTED_LATE }, printing).await;
    }
    let mut tail = std::mem::take(&mut tail.lock().unwrap_or_else(PoisonError::into_inner).0);
    let text = secrets.hide(&String::from_utf8_lossy(tail.make_contiguous()));
    let from = text.ceil_char_boundary(text.len().saturating_sub(KEPT));
    // A text of the database's cannot hold it.
    let output = text[from..].replace('\0', "");
    Ok(Ended { exit: status.code(), signal: status.signal(), output, stopped })
}

/// Passes what is printed on, and keeps its end. A reader that is gone does not keep the command from going on.
async fn pass<W: io::Write + Send + 'static>(
    from: Option<impl AsyncRead + Unpin>,
    to: fn() -> W,
    tail: Arc<Mutex<Tail>>,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                let bytes = buffer[..read].to_vec();
                tail.lock().unwrap_or_else(PoisonError::into_inner).take(&bytes);
                // A reader that is slow may hold the command up, and nothing else.
                let written = tokio::task::spawn_blocking(move || {
                    let mut to = to();
                    to.write_all(&bytes).and_then(|()| to.flush())
                });
                let _ = written.await;
            }
        }
    }
}
