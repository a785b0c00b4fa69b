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

/// In which form a text holds a run of letters and digits, if it does.
pub fn found(text: &str, run: &str) -> Option<&'static str> {
    let hex: String = run.bytes().map(|byte| format!("{byte:02x}")).collect();
    let debug = run.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    // In base64 it depends on what stands before; the edges depend on their neighbours.
    let base64 = ["", "x", "xx"].map(|before| {
        let encoded = STANDARD.encode(format!("{before}{run}"));
        encoded[4..encoded.len() - 4].to_owned()
    });
    let backwards = || run.chars().rev().collect::<String>();
    [("itself", run), ("hexadecimal", &hex), ("bytes", &debug), ("reversed", &backwards())]
        .into_iter()
        .chain(base64.iter().map(|text| ("base64", text.as_str())))
        .find_map(|(form, needle)| text.contains(needle).then_some(form))
}

/// Every file below a folder, as text, but for one folder.
pub fn files(folder: &Path, without: &Path) -> BTreeMap<String, String> {
    let (mut found, mut folders): (BTreeMap<String, String>, Vec<PathBuf>) =
        (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // Servers remove files and folders as they like.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                folders.extend(Some(path).filter(|path| path != without));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_every_form() {
        let value = "PLANTEDshopDbA7f3Kq9vX2";
        let (hex, debug) = (value.bytes().map(|b| format!("{b:02x}")).collect::<String>(), value.as_bytes());
        assert_eq!(found(&format!("a{value}b"), value), Some("itself"));
        assert_eq!(found(&hex, value), Some("hexadecimal"));
        assert_eq!(found(&format!("{debug:?}"), value), Some("bytes"));
        for before in ["", "a", "ab", "abc", "user:"] {
            let encoded = STANDARD.encode(format!("{before}{value}!?"));
            assert_eq!(found(&encoded, value), Some("base64"), "{encoded}");
        }
        assert_eq!(found("PLANTEDshopDb", value), None);
    }
}
