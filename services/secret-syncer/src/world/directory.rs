//! Secrets as folders: `<root>/<namespace>/<secret>/<key>`, one file per key. ConfigMaps are in a folder of their own.
//!
//! A value is written to a temporary file beside its place, made durable, and then linked or renamed into place in one
//! operation, so nobody ever reads half of it. Whoever writes holds the folder's lock; that two instances agree on a
//! generated value does not rest on the lock but on the operating system, which lets one of them create the file.

mod folder;

use std::path::PathBuf;
use std::time::Duration;

use chassis::secret::SecretStore;
use lifecycle::Component;

use folder::{Folder, blocking, make_folder};

use super::{Backend, Change, Claim, Contents, Error, Record, Wakes};

/// The file that holds an object's mark. Names that begin with a dot are never keys.
const MARK: &str = ".rollcall";
/// The folder of a namespace with a folder for each object that was generated once.
const GENERATED: &str = ".generated";
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

    /// Wakes whenever something in the store may have changed.
    pub fn watch(&self) -> Result<Wakes, Error> {
        make_folder(&self.root).map_err(|error| Error::store(&self.root, "make", error))?;
        Wakes::of(&self.root)
    }

    fn folder(&self, object: &Component) -> Folder {
        // Such a store has a folder for everything in a namespace.
        let path = SecretStore::Root(self.root.clone()).folder(object).unwrap_or_else(|| self.root.clone());
        Folder { object: object.clone(), path }
    }

    /// Where it is noted what was generated once: beside the objects, so that it outlives them.
    fn record(&self, object: &Component) -> Folder {
        let path = self.root.join(object.namespace().unwrap_or_default()).join(GENERATED).join(object.name());
        Folder { object: object.clone(), path }
    }

    /// Does the work on a thread that may block, while the folder is locked.
    async fn locked<T: Send + 'static>(
        &self,
        object: &Component,
        work: impl FnOnce(&Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder(object);
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
    async fn read(&self, object: &Component) -> Result<Option<Contents>, Error> {
        let folder = self.folder(object);
        blocking(&folder.clone(), move || folder.read()).await
    }

    async fn write(&self, object: &Component, change: Change) -> Result<(), Error> {
        self.locked(object, move |folder| folder.write(&change)).await
    }

    async fn delete(&self, object: &Component, claim: &Claim, _: Option<&str>) -> Result<(), Error> {
        let claim = claim.clone();
        self.locked(object, move |folder| {
            folder.own_mark(&claim)?;
            // The mark goes last: what a crash leaves is still ours.
            for key in folder.read()?.unwrap_or_default().keys.into_keys() {
                folder.remove(&folder.file(&key)?)?;
            }
            folder.remove(&folder.path.join(MARK))?;
            std::fs::remove_dir(&folder.path).map_err(folder.error("remove", &folder.path))
        })
        .await
    }

    async fn remembered(&self, object: &Component, _: &Claim) -> Result<Record, Error> {
        let record = self.record(object);
        blocking(&record.clone(), move || record.remembered()).await
    }

    async fn remember(&self, object: &Component, _: &Claim, noted: &Record) -> Result<(), Error> {
        let (record, noted) = (self.record(object), noted.clone());
        blocking(&record.clone(), move || {
            if noted.keys.is_empty() {
                return record.remove(&record.path.join(MARK));
            }
            make_folder(&record.path).map_err(record.error("make", &record.path))?;
            let path = record.path.join(MARK);
            let json =
                serde_json::to_vec(&noted).map_err(|error| record.error("write", &path)(error.into()))?;
            record.persist(&path, &json, true).map(drop)
        })
        .await
    }
}
