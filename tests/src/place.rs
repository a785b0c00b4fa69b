//! Rehearsals as a person runs them, each with a temporary directory of its own: what they leave is seen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use lifecycle::document::Environment;
use serde_json::Value;
use tempfile::TempDir;

use crate::{binary, text, until};

/// How long one rehearsal may take before it counts as never ending.
const FOREVER: Duration = Duration::from_mins(10);

/// Where rehearsals of one test are: their temporary directory is theirs alone, so that what they leave is seen.
pub struct Place {
    folder: TempDir,
}

#[allow(clippy::new_without_default, reason = "making folders is no default")]
impl Place {
    /// An empty one.
    pub fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("acceptance-").tempdir().unwrap();
        // As root, servers run as somebody else and must pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["tmp", "documents"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Place { folder }
    }

    /// A path in it: what is kept is in `keep`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A document of its own.
    pub fn document(&self, text: &str) -> PathBuf {
        let file = self.path("documents").join("base.yaml");
        fs::write(&file, text).unwrap();
        file
    }

    /// Rehearses to the end, which must be a success that leaves nothing behind.
    pub async fn rehearse(&self, args: &[&str], documents: &Path) -> Output {
        let temporary = self.path("tmp");
        let mut command = tokio::process::Command::new(binary());
        command
            .args(["rehearse", "--deadline", "4m"])
            .args(args)
            .arg(documents)
            .env("TMPDIR", &temporary)
            .env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let (output, ()) = tokio::join!(
            tokio::time::timeout(FOREVER, child.wait_with_output()),
            until("a process runs", async || !processes(&temporary).is_empty())
        );
        let output = output.expect("a rehearsal ends").unwrap();
        assert!(output.status.success(), "{args:?}: {}: {}", output.status, text(&output));
        assert_eq!(processes(&temporary), Vec::<String>::new(), "still running");
        let left: Vec<_> =
            fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let left: Vec<_> = left.iter().filter(|name| name.to_string_lossy().contains("sandbox")).collect();
        assert!(left.is_empty(), "{left:?}");
        output
    }

    /// The same, with the folder kept and the story told as JSON.
    pub async fn story(&self, args: &[&str], documents: &Path) -> Value {
        let keep = self.path("keep").display().to_string();
        let args = [&["--output", "json", "--keep", &keep], args].concat();
        serde_json::from_slice(&self.rehearse(&args, documents).await.stdout).unwrap()
    }

    /// The lines of a process's log in the kept folder.
    pub fn log(&self, name: &str) -> Vec<String> {
        let file = format!("keep/rehearsal/logs/{}.log", name.replace('/', "-"));
        let text = fs::read_to_string(self.path(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        text.lines().map(str::to_owned).collect()
    }

    /// The bytes of the first kept file whose path ends so.
    pub fn kept(&self, end: &str) -> Vec<u8> {
        let mut folders = vec![self.path("keep")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.ends_with(end) {
                    return fs::read(path).unwrap();
                } else if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        panic!("no {end} was kept")
    }

    /// When the first line that fits was written; times of one clock, of one width.
    pub fn when(&self, name: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
        let line = self.log(name).into_iter().find(|line| fits(line))?;
        Some(line.split(' ').next().unwrap().to_owned())
    }

    /// Releases, as each module's waiter told them.
    pub fn releases(&self, environment: &Environment) -> Vec<String> {
        let logs = environment.modules().flat_map(|module| self.log(&module.component.to_string()));
        logs.filter(|line| line.contains("released: ")).collect()
    }
}

/// Commands of the processes of sandboxes whose run directory is in this folder.
fn processes(temporary: &Path) -> Vec<String> {
    let mark = format!("SANDBOX_RUN_DIRECTORY={}/", temporary.display());
    let marked = |process: &PathBuf| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
    };
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let command = |process: PathBuf| {
        String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default()).into_owned()
    };
    all.filter(marked).map(command).collect()
}
