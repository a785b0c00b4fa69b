//! One folder: reading and writing its files, each whole or not at all. Everything here blocks.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use chassis::SecretValue;
use lifecycle::Component;
use tokio::time::Instant;

use super::{LOCK_DEADLINE, MARK, TEMPORARY, VALUE_MAX};
use crate::world::{Change, Claim, Contents, Error, Mark, Record, Rotated};

/// One object's folder. Everything here blocks.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) object: Component,
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn error(&self, doing: &'static str, place: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let (object, place) = (self.object.to_string(), place.display().to_string());
        move |source| Error::Io { object, doing, place, source }
    }

    /// Makes the folder where it is absent, and locks it against other writers.
    pub(super) async fn lock(&self) -> Result<File, Error> {
        make_folder(&self.path).map_err(self.error("make", &self.path))?;
        let folder = File::open(&self.path).map_err(self.error("open", &self.path))?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(folder),
                Err(TryLockError::Error(error)) => return Err(self.error("lock", &self.path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let (object, place) = (self.object.clone(), self.path.display().to_string());
                    return Err(Error::Locked { object, place, seconds: LOCK_DEADLINE.as_secs() });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Removes what a crashed writer left: under the lock nobody's temporary file is in use.
    pub(super) fn sweep(&self) -> Result<(), Error> {
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

    pub(super) fn read(&self) -> Result<Option<Contents>, Error> {
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
            if let Some((value, modified)) = self.read_key(&key, &entry.path())? {
                contents.keys.insert(key, value);
                contents.modified = contents.modified.max(modified);
            }
        }
        // Last: it is written before any key, so who sees a key sees the mark it was made under.
        contents.mark = self.mark()?;
        if let Some(Ok(mark)) = &mut contents.mark {
            mark.settle(&contents.keys);
        }
        Ok(Some(contents))
    }

    /// A key's value and when it was changed; none when it is no file. Links are followed: a Secret that Kubernetes
    /// mounts is made of them.
    fn read_key(&self, key: &str, path: &Path) -> Result<Option<(SecretValue, u64)>, Error> {
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
        if bytes.len() as u64 > VALUE_MAX {
            return Err(Error::TooLarge { object: self.object.clone(), key: key.to_owned() });
        }
        Ok(Some((SecretValue::new(bytes), modified)))
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
    pub(super) fn own_mark(&self, claim: &Claim) -> Result<Mark, Error> {
        match self.mark()? {
            Some(Ok(mark)) if mark.is_of(claim) => Ok(mark.under(claim)),
            _ => Err(Error::Changed(self.object.clone())),
        }
    }

    /// Makes a change under the lock, in an order of which a crash at any point leaves what the next run finishes: the mark
    /// notes what is about to be written, so no key of ours ever seems to be a stranger's.
    pub(super) fn write(&self, change: &Change) -> Result<(), Error> {
        let mut mark = self.mark_for(change)?;
        let strange: Vec<&String> = change.set.keys().filter(|key| !mark.notes(key)).collect();
        for key in &strange {
            if !change.force && self.file(key)?.exists() {
                return Err(Error::Changed(self.object.clone()));
            }
        }
        let there = self.read()?.unwrap_or_default().keys;
        mark.settle(&there);
        if change.trust.iter().any(|(key, refreshed)| there.get(key) != refreshed.before.as_ref()) {
            return Err(Error::Changed(self.object.clone()));
        }
        // By a rotation that a crash cut short; or by all of one, if another instance was faster.
        let is_rotated = |(key, rotated): &(&String, &Rotated)| mark.times(key) >= rotated.serial;
        let done: BTreeSet<&String> = change.rotate.iter().filter(is_rotated).map(|(key, _)| key).collect();
        if !done.is_empty() && done.len() == change.rotate.len() {
            return Err(Error::Changed(self.object.clone()));
        }
        let create = change.creates(|key| there.contains_key(key));
        for (key, _) in &create {
            mark.rotated(key, change.serial);
        }
        change.rotate.iter().for_each(|(key, rotated)| mark.rotating(key, &rotated.value, rotated.serial));
        change.set.iter().for_each(|(key, value)| mark.note(key, value));
        self.write_mark(&mark)?;
        for (key, value) in create {
            // Half of a group is what a crash left: with the other half of another pair it would be of no use.
            if there.contains_key(key) {
                self.replace(key, value)?;
            } else {
                self.create(key, value)?;
            }
        }
        for (key, value) in &change.set {
            if change.force || !strange.contains(&key) {
                self.replace(key, value)?;
            } else if !self.create(key, value)? {
                mark.forget(key);
                self.write_mark(&mark)?;
                return Err(Error::Changed(self.object.clone()));
            }
        }
        for (key, refreshed) in &change.trust {
            self.replace(key, &refreshed.value)?;
        }
        if change.rotate.is_empty() && change.remove.is_empty() {
            return Ok(());
        }
        for (key, rotated) in &change.rotate {
            // Then the old value is kept already, and what is there was nobody's yet.
            if let Some(previous) = &rotated.previous
                && !done.contains(key)
                && let Some((old, _)) = self.read_key(key, &self.file(key)?)?
            {
                self.replace(previous, &old)?;
            }
            self.replace(key, &rotated.value)?;
            mark.rotated(key, rotated.serial);
        }
        for key in change.remove.iter().filter(|key| mark.notes(key)).cloned().collect::<Vec<_>>() {
            self.remove(&self.file(&key)?)?;
            mark.forget(&key);
        }
        self.write_mark(&mark)
    }

    /// The mark that a change is made under.
    fn mark_for(&self, change: &Change) -> Result<Mark, Error> {
        match self.mark()? {
            Some(Ok(mark)) if mark.is_of(&change.claim) => Ok(mark.under(&change.claim)),
            None if change.force || self.read()?.is_none_or(|contents| contents.keys.is_empty()) => {
                Ok(Mark::new(&change.claim))
            }
            _ => Err(Error::Changed(self.object.clone())),
        }
    }

    /// Removes a file, if it is there, and makes that durable.
    pub(super) fn remove(&self, file: &Path) -> Result<(), Error> {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error("remove", file)(error)),
            _ => self.sync(),
        }
    }

    /// A record of what was generated; an empty one when there is none.
    pub(super) fn remembered(&self) -> Result<Record, Error> {
        let path = self.path.join(MARK);
        match std::fs::read(&path) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|error| self.error("read", &path)(error.into()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(self.error("read", &path)(error)),
        }
    }

    fn write_mark(&self, mark: &Mark) -> Result<(), Error> {
        let path = self.path.join(MARK);
        let json = mark.json().map_err(|error| self.error("write", &path)(error.into()))?;
        self.persist(&path, &json, true).map(drop)
    }

    pub(super) fn file(&self, key: &str) -> Result<PathBuf, Error> {
        if is_key(key) {
            Ok(self.path.join(key))
        } else {
            Err(Error::KeyName { object: self.object.clone(), key: key.to_owned() })
        }
    }

    /// Creates a key; false when it is there already.
    fn create(&self, key: &str, value: &SecretValue) -> Result<bool, Error> {
        let file = self.file(key)?;
        let created = self.persist(&file, value.expose(), false)?;
        if !created && !file.is_file() {
            let (object, place) = (self.object.clone(), file.display().to_string());
            return Err(Error::InTheWay { object, key: key.to_owned(), place });
        }
        Ok(created)
    }

    fn replace(&self, key: &str, value: &SecretValue) -> Result<(), Error> {
        self.persist(&self.file(key)?, value.expose(), true).map(drop)
    }

    /// Puts a file into place in one operation; false when something is there and must not be replaced.
    pub(super) fn persist(&self, path: &Path, bytes: &[u8], replace: bool) -> Result<bool, Error> {
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
pub(super) fn make_folder(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { Ok(()) } else { DirBuilder::new().recursive(true).mode(0o700).create(path) }
}

pub(super) async fn blocking<T: Send + 'static>(
    folder: &Folder,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(folder.error("work on", &folder.path)(std::io::Error::other(error))),
    }
}
