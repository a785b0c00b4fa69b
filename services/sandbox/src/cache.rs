//! What was fetched once and is kept for all later sandboxes: a folder a thing, complete or not there.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tools::{self, Tool};
use crate::{Error, ProcessSpec, Sandbox};

/// How long a download may take; Keycloak's is the largest with 180 MB.
const FETCH: Duration = Duration::from_mins(15);
/// How long another process may take to make the same thing; Kubernetes has to be compiled.
const OTHER: Duration = Duration::from_mins(45);
/// How often a process looks whether another one has finished the same download.
const LOOK: Duration = Duration::from_millis(200);
/// What Maven needs of the owner's environment to reach its repositories.
const FOR_MAVEN: [&str; 9] = [
    "MAVEN_OPTS",
    "MAVEN_ARGS",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "JAVA_TOOL_OPTIONS",
];

/// Where things are kept: for root where every user may read, else in the user's own cache.
pub(crate) fn default_dir() -> PathBuf {
    let from_home = || std::env::home_dir().map(|home| home.join(".cache"));
    let users = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/cache/rollcall");
    }
    users().or_else(from_home).unwrap_or_else(std::env::temp_dir).join("rollcall")
}

/// The folder `name`, made by `make` if it is not there. Of several processes one makes it and the others wait; what a
/// killed one left half-made is thrown away.
pub(crate) async fn entry(
    sandbox: &Sandbox,
    name: &str,
    make: impl AsyncFnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let cache = sandbox.cache_dir();
    let finished = cache.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    fs::create_dir_all(cache).map_err(|source| Error::io("create", cache, source))?;
    let _lock = lock(&cache.join(format!(".{name}.lock"))).await?;
    if finished.is_dir() {
        return Ok(finished);
    }
    let partial = cache.join(format!(".{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|source| Error::io("remove", &partial, source))?;
    }
    fs::create_dir(&partial).map_err(|source| Error::io("create", &partial, source))?;
    make(&partial).await?;
    readable(&partial).map_err(|source| Error::io("open for all users", &partial, source))?;
    readable_parents(cache)?;
    fs::rename(&partial, &finished).map_err(|source| Error::io("finish", &finished, source))?;
    Ok(finished)
}

/// Lets Maven do `goal` for the profile of one server, with its output in a log that an error shows.
pub(crate) async fn maven(
    sandbox: &Sandbox,
    profile: &str,
    properties: &[(&str, &str)],
    goal: &str,
    into: &Path,
) -> Result<(), Error> {
    sandbox.say(&format!("fetching {profile} with Maven"));
    let into = [("outputDirectory", into.to_str().unwrap_or_default()), ("includeScope", "runtime")];
    let properties = [&into, properties].concat();
    sandbox.maven(include_str!("pom.xml"), profile, &properties, &format!("dependency:{goal}")).await
}

impl Sandbox {
    /// Lets Maven do `goal` for a profile of the project `pom`: what plugins of Maven do for tests, with the properties that
    /// they are given. Installs Maven if it may.
    pub async fn maven(
        &self,
        pom: &str,
        profile: &str,
        properties: &[(&str, &str)],
        goal: &str,
    ) -> Result<(), Error> {
        tools::ensure(self, &[Tool::Java, Tool::Maven]).await?;
        // A project folder of its own each time: plugins note in it what they think they need not do again.
        let project = self.new_dir(&format!("maven-{profile}"))?;
        let file = project.join("pom.xml");
        fs::write(&file, pom).map_err(|source| Error::io("write", &file, source))?;
        let mut spec = ProcessSpec::new(format!("mvn {profile}"), "mvn", project.join("maven.log"))
            .args(["-B", "-ntp", "-q", "-Dstyle.color=never", "-f"])
            .args([file.display().to_string(), format!("-P{profile}"), goal.to_owned()])
            .args(properties.iter().map(|(key, value)| format!("-D{key}={value}")));
        for name in FOR_MAVEN {
            if let Ok(value) = std::env::var(name) {
                spec = spec.env(name, value);
            }
        }
        self.run(spec, FETCH).await
    }
}

/// Waits for the exclusive lock on a file. The kernel frees it when its holder ends, however that happens.
async fn lock(path: &Path) -> Result<File, Error> {
    let fail = |source| Error::io("lock", path, source);
    let file = File::create(path).map_err(fail)?;
    let held = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(OTHER, held).await {
        Ok(result) => result.map(|()| file).map_err(fail),
        Err(_) => Err(fail(std::io::Error::other(format!("another process has held it for {OTHER:?}")))),
    }
}

/// Opens what was made to every user, whatever this process's umask: servers started by root run as somebody else.
fn readable(path: &Path) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    let execute = if meta.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
    let wanted = mode | 0o444 | execute;
    if wanted != mode {
        fs::set_permissions(path, Permissions::from_mode(wanted))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            readable(&entry?.path())?;
        }
    }
    Ok(())
}

fn readable_parents(cache: &Path) -> Result<(), Error> {
    let open = || -> std::io::Result<()> {
        let mode = fs::metadata(cache)?.permissions().mode();
        fs::set_permissions(cache, Permissions::from_mode(mode | 0o555))
    };
    open().map_err(|source| Error::io("open for all users", cache, source))
}
