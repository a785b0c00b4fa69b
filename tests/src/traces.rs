//! What an environment leaves behind for others to read: files, and the processes that were there; and whether a text
//! gives a secret value away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A run of letters and digits, in every form it could have taken.
pub struct Forms(Vec<(&'static str, String)>);

impl Forms {
    /// The forms of a run.
    pub fn of(run: &str) -> Forms {
        let hex = hex(run.as_bytes());
        let debug = run.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        let mut forms = vec![
            ("itself", run.to_owned()),
            ("hexadecimal", hex),
            ("bytes", debug),
            ("reversed", run.chars().rev().collect()),
        ];
        // In base64 it depends on how many bytes stand before; the edges depend on their neighbours.
        forms.extend(["", "x", "xx"].map(|before| {
            let encoded = STANDARD.encode(format!("{before}{run}"));
            ("base64", encoded[4..encoded.len() - 4].to_owned())
        }));
        Forms(forms)
    }

    /// In which form a text holds it, if it does.
    pub fn within(&self, text: &str) -> Option<&'static str> {
        self.0.iter().find(|(_, form)| text.contains(form)).map(|(name, _)| *name)
    }
}

/// Every file below a folder, as text, but for some folders.
pub fn files(folder: &Path, without: &[PathBuf]) -> BTreeMap<String, String> {
    let (mut found, mut folders): (BTreeMap<String, String>, Vec<PathBuf>) =
        (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // Servers remove files and folders as they like.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                folders.extend(Some(path).filter(|path| !without.contains(path)));
            } else if kind.is_ok_and(|kind| kind.is_file())
                && !path.extension().is_some_and(|e| e == "index" || e == "timeindex")
            {
                let bytes = std::fs::read(&path).unwrap_or_default();
                found.insert(path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    found
}

/// Command lines and environments of all processes that descend from this one, seen from now on.
pub struct Processes {
    stop: mpsc::Sender<()>,
    looking: JoinHandle<[BTreeSet<String>; 2]>,
}

impl Processes {
    /// Looks until the end, all the time.
    pub fn watch() -> Processes {
        let (stop, stopped) = mpsc::channel();
        let looking = std::thread::spawn(move || {
            let mut seen = <[BTreeSet<String>; 2]>::default();
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                for process in descendants() {
                    for (texts, file) in seen.iter_mut().zip(["cmdline", "environ"]) {
                        // One that has just ended has none.
                        let text = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
                        texts.insert(String::from_utf8_lossy(&text).into_owned());
                    }
                }
            }
            seen
        });
        Processes { stop, looking }
    }

    /// What was seen: command lines, environments.
    pub fn end(self) -> [BTreeSet<String>; 2] {
        drop(self.stop);
        self.looking.join().unwrap()
    }
}

/// The processes that descend from this one.
fn descendants() -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Its name stands in parentheses and may hold anything; then come its state and its parent.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (process, parent)));
    }
    let mut ours = BTreeSet::from([std::process::id()]);
    loop {
        let before = ours.len();
        ours.extend(
            parents.iter().filter(|(_, parent)| ours.contains(parent)).map(|(p, _)| *p).collect::<Vec<_>>(),
        );
        if ours.len() == before {
            return ours;
        }
    }
}

/// Bytes as lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_every_form() {
        let value = "PLANTEDshopDbA7f3Kq9vX2";
        let found = |text: &str| Forms::of(value).within(text);
        let (hex, debug) = (hex(value.as_bytes()), value.as_bytes());
        assert_eq!(found(&format!("a{value}b")), Some("itself"));
        assert_eq!(found(&hex), Some("hexadecimal"));
        assert_eq!(found(&format!("{debug:?}")), Some("bytes"));
        for before in ["", "a", "ab", "abc", "user:"] {
            let encoded = STANDARD.encode(format!("{before}{value}!?"));
            assert_eq!(found(&encoded), Some("base64"), "{encoded}");
        }
        assert_eq!(found("PLANTEDshopDb"), None);
    }
}
