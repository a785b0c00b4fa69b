//! What the tests share: documents, runs, and children of the test binary itself.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::converge::{Fault, Standing, Told, converge};
use chassis::metrics::Metrics;
use chassis::provision::Known;
use lifecycle::Component;
use lifecycle::document::{Environment, Source};
use secret_syncer::{Directory, Error, Nowhere, Progress, Spec};

pub(crate) type Target = secret_syncer::Target<Directory>;

/// What is to be made in a directory.
pub(crate) fn targets(environment: &Environment, root: &Path) -> Vec<(Component, Target, Spec)> {
    let specs = secret_syncer::spec::specs(environment);
    secret_syncer::targets(specs, &Directory::new(root), &(Arc::new(Nowhere) as _), &progress())
}

/// Something that counts, for nobody.
pub(crate) fn progress() -> Progress {
    Progress::new(&Metrics::new("secret-syncer"), Known::default())
}

/// An environment of one fragment `app` in namespace `app`.
pub(crate) fn environment(name: &str, uid: u128, more: &str) -> Environment {
    let uid = uuid::Uuid::from_u128(uid);
    let text = format!(
        "rollcall: v1\nenvironment: {{name: {name}, uid: {uid}}}\nfragment: {{name: app, namespace: app}}\n{more}\n"
    );
    let document = chassis::documents::parse("app.yaml", &text).unwrap();
    let merged = Environment::merge([Source { file: "app.yaml".to_owned(), document }]);
    assert_eq!(merged.problems, []);
    merged.environment.unwrap()
}

/// Writes a file of the store as somebody else would.
pub(crate) fn write(root: &Path, path: &str, value: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value).unwrap();
}

/// Runs to the end.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Makes one Secret once.
pub(crate) async fn standing(target: &Target, spec: &Spec) -> Result<Standing, Error> {
    let last = Mutex::new(None);
    let tell = |told: Told<'_, _>| {
        if let Told::Standing(_, standing) = told {
            *last.lock().unwrap() = Some(standing);
        }
    };
    converge(target, spec, &spec.object, &tell).await?;
    Ok(last.into_inner().unwrap().unwrap())
}

/// Makes everything of an environment once.
pub(crate) fn standings_of(root: &Path, environment: &Environment) -> BTreeMap<String, Standing> {
    run(async {
        let mut all = BTreeMap::new();
        for (_, target, spec) in targets(environment, root) {
            all.insert(spec.object.to_string(), standing(&target, &spec).await.unwrap());
        }
        all
    })
}

/// Makes everything of the environment `dev` once.
pub(crate) fn standings(root: &Path, more: &str) -> BTreeMap<String, Standing> {
    standings_of(root, &environment("dev", 7, more))
}

/// How the first Secret fails: `never` or `later`, and the message with its causes.
pub(crate) fn failure(root: &Path, more: &str) -> String {
    let (_, target, spec) = targets(&environment("dev", 7, more), root).remove(0);
    let when = |transient: bool| if transient { "later" } else { "never" };
    match run(standing(&target, &spec)) {
        Err(error) => format!("{} {}", when(error.is_transient()), chassis::exit::chain(&error)),
        Ok(Standing::Failed { error, transient, .. }) => format!("{} {error}", when(transient)),
        Ok(other) => format!("no failure: {other:?}"),
    }
}

/// A file's permissions.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Why it is refused.
pub(crate) fn refusal(standing: &Standing) -> &str {
    let Standing::Refused(text) = standing else { panic!("not refused: {standing:?}") };
    text
}

/// What it waits for.
pub(crate) fn pending(standing: &Standing) -> &str {
    let Standing::Pending(note) = standing else { panic!("not pending: {standing:?}") };
    &note.text
}

/// It is ready, and this run changed something or did not.
#[track_caller]
pub(crate) fn ready(standing: &Standing, expected: bool) {
    let Standing::Ready { changed, evidence } = standing else { panic!("not ready: {standing:?}") };
    assert_eq!((*changed, evidence.level.as_str()), (expected, "present"));
}

/// What is in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A process of this test binary that plays a role.
pub(crate) struct Child(std::process::Child);

/// Runs this test binary again for one role, as another user where one is given (only root can).
pub(crate) fn spawn(role: &str, root: &Path, user: Option<u32>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env("ROLLCALL_TEST_ROLE", role).env("ROLLCALL_TEST_ROOT", root);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if let Some(user) = user.filter(|_| is_root) {
        command.uid(user).gid(user);
    }
    Child(command.spawn().unwrap())
}

impl Child {
    /// What it said, after it ended well.
    pub(crate) fn said(self) -> Option<String> {
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let said = text.lines().find_map(|line| line.split_once("said: "))?.1;
        output.status.success().then(|| said.to_owned())
    }

    /// Kills it after a while, as the kernel would: without warning.
    pub(crate) fn kill_after(&mut self, time: Duration) {
        run(async { tokio::time::sleep(time).await });
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The role of this process, if it is a child.
pub(crate) fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var("ROLLCALL_TEST_ROLE").ok()?, std::env::var_os("ROLLCALL_TEST_ROOT")?.into()))
}

/// Tells the parent.
pub(crate) fn say(text: &str) {
    println!("\nsaid: {text}");
}
