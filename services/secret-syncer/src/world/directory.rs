//! Secrets as folders: `<root>/<namespace>/<secret>/<key>`, one file per key.
//!
//! A value is written to a temporary file beside its place, made durable, and then linked or renamed into place in one
//! operation, so nobody ever reads half of it. Whoever writes holds the folder's lock; that two instances agree on a
//! generated value does not rest on the lock but on the operating system, which lets one of them create the file.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use chassis::SecretValue;
use lifecycle::Component;
use tokio::time::Instant;

use super::{Backend, Claim, Contents, Error, Mark, Wakes};

/// The file that holds a Secret's mark. Names that begin with a dot are never keys.
const MARK: &str = ".rollcall";
/// How temporary files begin and end.
const TEMPORARY: (&str, &str) = (".rollcall-", ".tmp");
/// As Kubernetes limits a Secret.
const VALUE_MAX: u64 = 1024 * 1024;
/// How long another writer may take.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// A store that is a directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The store at `root`. It is made when it is first written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Directory { root: root.into() }
    }

    fn folder(&self, secret: &Component) -> Folder {
        let path = self.root.join(secret.namespace().unwrap_or_default()).join(secret.name());
        Folder { secret: secret.clone(), path }
    }

    /// Does the work on a thread that may block, while the folder is locked.
    async fn locked<T: Send + 'static>(
        &self,
        secret: &Component,
        work: impl FnOnce(&Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder(secret);
        let lock = folder.lock().await?;
        blocking(&folder.clone(), move || {
            folder.sweep()?;
            let done = work(&folder);
            drop(lock);
            done
        })
        .await
    }
}

impl Backend for Directory {
    async fn read(&self, secret: &Component) -> Result<Option<Contents>, Error> {
        let folder = self.folder(secret);
        blocking(&folder.clone(), move || folder.read()).await
    }

    async fn create(
        &self,
        secret: &Component,
        claim: &Claim,
        key: &str,
        value: SecretValue,
    ) -> Result<(), Error> {
        let (claim, key) = (claim.clone(), key.to_owned());
        self.locked(secret, move |folder| {
            folder.own_mark(&claim)?;
            folder.create(&key, &value).map(drop)
        })
        .await
    }

    async fn claim(&self, secret: &Component, claim: &Claim) -> Result<(), Error> {
        let claim = claim.clone();
        self.locked(secret, move |folder| match folder.mark()? {
            Some(Ok(mark)) if mark.is_of(&claim) => folder.write_mark(&mark.under(&claim)),
            None if folder.read()?.is_none_or(|contents| contents.keys.is_empty()) => {
                folder.write_mark(&Mark::new(&claim))
            }
            _ => Err(Error::Changed(folder.secret.clone())),
        })
        .await
    }

    async fn set(
        &self,
        secret: &Component,
        claim: &Claim,
        key: &str,
        value: SecretValue,
    ) -> Result<(), Error> {
        let (claim, key) = (claim.clone(), key.to_owned());
        self.locked(secret, move |folder| {
            let mut mark = folder.own_mark(&claim)?;
            if mark.notes(&key) {
                folder.replace(&key, &value)?;
                mark.note(&key, &value);
                return folder.write_mark(&mark);
            }
            // Noted first: were it written first, a crash in between would leave a key that seems to be somebody else's.
            mark.note(&key, &value);
            folder.write_mark(&mark)?;
            if folder.create(&key, &value)? {
                return Ok(());
            }
            mark.forget(&key);
            folder.write_mark(&mark)?;
            Err(Error::Changed(folder.secret.clone()))
        })
        .await
    }

    async fn remove(&self, secret: &Component, claim: &Claim, key: &str) -> Result<(), Error> {
        let (claim, key) = (claim.clone(), key.to_owned());
        self.locked(secret, move |folder| {
            let mut mark = folder.own_mark(&claim)?;
            if !mark.notes(&key) {
                return Ok(());
            }
            let file = folder.file(&key)?;
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(folder.error("remove", &file)(error))
                }
                _ => folder.sync(),
            }?;
            mark.forget(&key);
            folder.write_mark(&mark)
        })
        .await
    }

    fn watch(&self) -> Result<Wakes, Error> {
        make_folder(&self.root).map_err(|error| Error::store(&self.root, "make", error))?;
        Wakes::of(&self.root)
    }
}

/// One Secret's folder. Everything here blocks.
#[derive(Debug, Clone)]
struct Folder {
    secret: Component,
    path: PathBuf,
}

impl Folder {
    fn error(&self, doing: &'static str, place: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let (secret, place) = (self.secret.to_string(), place.display().to_string());
        move |source| Error::Io { secret, doing, place, source }
    }

    /// Makes the folder where it is absent, and locks it against other writers.
    async fn lock(&self) -> Result<File, Error> {
        make_folder(&self.path).map_err(self.error("make", &self.path))?;
        let folder = File::open(&self.path).map_err(self.error("open", &self.path))?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(folder),
                Err(TryLockError::Error(error)) => return Err(self.error("lock", &self.path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let (secret, place) = (self.secret.clone(), self.path.display().to_string());
                    return Err(Error::Locked { secret, place, seconds: LOCK_DEADLINE.as_secs() });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Removes what a crashed writer left: under the lock nobody's temporary file is in use.
    fn sweep(&self) -> Result<(), Error> {
        for entry in std::fs::read_dir(&self.path).map_err(self.error("list", &self.path))? {
            let entry = entry.map_err(self.error("list", &self.path))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1) {
                std::fs::remove_file(entry.path()).map_err(self.error("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<Contents>, Error> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error("list", &self.path)(error)),
        };
        let mut contents = Contents::default();
        for entry in entries {
            let entry = entry.map_err(self.error("list", &self.path))?;
            let Some(key) = entry.file_name().to_str().filter(|name| is_key(name)).map(str::to_owned) else {
                continue;
            };
            if let Some((value, modified)) = self.read_key(&entry.path())? {
                contents.keys.insert(key, value);
                contents.modified = contents.modified.max(modified);
            }
        }
        // Last: it is written before any key, so who sees a key sees the mark it was made under.
        contents.mark = self.mark()?;
        Ok(Some(contents))
    }

    /// A key's value and when it was changed; none when it is no file. Links are followed: a Secret that Kubernetes
    /// mounts is made of them.
    #[allow(clippy::type_complexity)]
    fn read_key(&self, path: &Path) -> Result<Option<(Result<SecretValue, &'static str>, u64)>, Error> {
        let about = match std::fs::metadata(path) {
            Ok(about) if about.is_file() => about,
            Ok(_) => return Ok(None),
            // It went away since the folder was listed, or a link leads nowhere.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error("read", path)(error)),
        };
        let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error("read", path)(error)),
        };
        // With room for all of it, so that growing leaves no copies in memory.
        let room = usize::try_from(about.len().min(VALUE_MAX)).unwrap_or(0) + 1;
        let mut bytes = Vec::with_capacity(room);
        file.take(VALUE_MAX + 1).read_to_end(&mut bytes).map_err(self.error("read", path))?;
        let value = match bytes.len() as u64 {
            0 => Err("is empty"),
            length if length > VALUE_MAX => Err("is larger than 1 MiB"),
            _ => Ok(SecretValue::new(bytes)),
        };
        Ok(Some((value, modified)))
    }

    fn mark(&self) -> Result<Option<Result<Mark, String>>, Error> {
        let path = self.path.join(MARK);
        match std::fs::read(&path) {
            Ok(json) => Ok(Some(Mark::parse(&json))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", &path)(error)),
        }
    }

    /// The mark, if it is of the claim's owner.
    fn own_mark(&self, claim: &Claim) -> Result<Mark, Error> {
        match self.mark()? {
            Some(Ok(mark)) if mark.is_of(claim) => Ok(mark.under(claim)),
            _ => Err(Error::Changed(self.secret.clone())),
        }
    }

    fn write_mark(&self, mark: &Mark) -> Result<(), Error> {
        let path = self.path.join(MARK);
        let json = mark.json().map_err(|error| self.error("write", &path)(error.into()))?;
        self.persist(&path, &json, true).map(drop)
    }

    fn file(&self, key: &str) -> Result<PathBuf, Error> {
        if is_key(key) {
            Ok(self.path.join(key))
        } else {
            Err(Error::KeyName { secret: self.secret.clone(), key: key.to_owned() })
        }
    }

    /// Creates a key; false when it is there already.
    fn create(&self, key: &str, value: &SecretValue) -> Result<bool, Error> {
        let file = self.file(key)?;
        let created = self.persist(&file, value.expose(), false)?;
        if !created && !file.is_file() {
            let (secret, place) = (self.secret.clone(), file.display().to_string());
            return Err(Error::InTheWay { secret, key: key.to_owned(), place });
        }
        Ok(created)
    }

    fn replace(&self, key: &str, value: &SecretValue) -> Result<(), Error> {
        self.persist(&self.file(key)?, value.expose(), true).map(drop)
    }

    /// Puts a file into place in one operation; false when something is there and must not be replaced.
    fn persist(&self, path: &Path, bytes: &[u8], replace: bool) -> Result<bool, Error> {
        // Such files are created with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY.0)
            .suffix(TEMPORARY.1)
            .tempfile_in(&self.path)
            .map_err(self.error("write into", &self.path))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(self.error("write", path))?;
        let put = if replace { file.persist(path) } else { file.persist_noclobber(path) };
        match put {
            Ok(_) => self.sync().map(|()| true),
            Err(error) if !replace && error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.error("write", path)(error.error)),
        }
    }

    /// Makes what was put into or removed from the folder durable.
    fn sync(&self) -> Result<(), Error> {
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(self.error("write", &self.path))
    }
}

/// Whether a file's name may be a key of a Secret.
fn is_key(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Makes a folder and those above it where they are absent, for this user only.
fn make_folder(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { Ok(()) } else { DirBuilder::new().recursive(true).mode(0o700).create(path) }
}

async fn blocking<T: Send + 'static>(
    folder: &Folder,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(folder.error("work on", &folder.path)(std::io::Error::other(error))),
    }
}
