//! Where secrets are read: folders of files, or whoever else keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle::{Component, Kind};

use super::{SecretError, SecretReader, SecretValue};

/// The folder of a namespace in which its ConfigMaps are.
const CONFIGMAPS: &str = ".configmaps";

/// Where secrets are read.
#[derive(Debug, Clone)]
pub enum SecretStore {
    /// Nowhere: nothing can be read.
    None,
    /// The folder of this process's own namespace: `<dir>/<secret>/<key>`. A Secret of another namespace is its
    /// neighbour: `<dir>/../<namespace>/<secret>/<key>`.
    Own {
        /// The folder.
        dir: PathBuf,
        /// The namespace it belongs to.
        namespace: String,
    },
    /// The whole store that secret-syncer keeps: `<root>/<namespace>/<secret>/<key>`.
    Root(PathBuf),
    /// No folder: somebody is asked.
    Reader(Arc<dyn SecretReader>),
    /// Another store, of which these objects are read and no others.
    Only(Arc<(SecretStore, BTreeSet<Component>)>),
}

impl SecretStore {
    /// The same store for somebody who reads only these objects. His Role is made from the same list, so that what stands in
    /// no Role is not read anywhere else either.
    #[must_use]
    pub fn only(&self, objects: BTreeSet<Component>) -> SecretStore {
        SecretStore::Only(Arc::new((self.clone(), objects)))
    }

    /// The store behind [`only`](SecretStore::only), where it may be asked for the object.
    fn opened(&self, object: &Component) -> Result<&SecretStore, SecretError> {
        match self {
            SecretStore::Only(narrowed) if narrowed.1.contains(object) => narrowed.0.opened(object),
            SecretStore::Only(_) => Err(SecretError::NotAsked(object.clone())),
            _ => Ok(self),
        }
    }

    /// The folder that is a Secret or ConfigMap; none where nothing is kept in folders. The component must have its namespace
    /// spelled out.
    pub fn folder(&self, object: &Component) -> Option<PathBuf> {
        let namespace = object.namespace()?;
        let folder = match self {
            SecretStore::None | SecretStore::Reader(_) => return None,
            SecretStore::Only(_) => return self.opened(object).ok()?.folder(object),
            SecretStore::Own { dir, namespace: own } if own == namespace => dir.clone(),
            SecretStore::Own { dir, .. } => dir.parent()?.join(namespace),
            SecretStore::Root(root) => root.join(namespace),
        };
        // No Secret's name begins with a dot, and both may have one name.
        let folder = if object.kind() == Kind::ConfigMap { folder.join(CONFIGMAPS) } else { folder };
        Some(folder.join(object.name()))
    }

    /// Reads one key of a Secret as it is, byte for byte.
    pub async fn read(&self, secret: &Component, key: &str) -> Result<SecretValue, SecretError> {
        match self.opened(secret)? {
            SecretStore::Reader(reader) => {
                let mut held = held(&**reader, secret).await?;
                held.remove(key).ok_or_else(|| missing_key(secret, key, reader.place()))
            }
            store => file(&store.place(secret)?, secret, key),
        }
    }

    /// Reads these keys of a Secret, or every key there is when none is named; where it can be done, at one time.
    pub async fn contents(
        &self,
        secret: &Component,
        keys: &[String],
    ) -> Result<BTreeMap<String, SecretValue>, SecretError> {
        let store = self.opened(secret)?;
        if let SecretStore::Reader(reader) = store {
            let mut held = held(&**reader, secret).await?;
            if let Some(key) = keys.iter().find(|key| !held.contains_key(*key)) {
                return Err(missing_key(secret, key, reader.place()));
            }
            held.retain(|key, _| keys.is_empty() || keys.contains(key));
            return Ok(held);
        }
        let folder = store.place(secret)?;
        let every = if keys.is_empty() { files(&folder, secret)? } else { Vec::new() };
        let keys = if keys.is_empty() { &every } else { keys };
        keys.iter().map(|key| Ok((key.clone(), file(&folder, secret, key)?))).collect()
    }

    fn place(&self, secret: &Component) -> Result<PathBuf, SecretError> {
        self.folder(secret).ok_or_else(|| SecretError::NoStore(secret.clone()))
    }

    /// Reads a password. An empty one, one that is not text, and one that ends with a line break (which an editor or
    /// `echo` put there, and which no login would ever match) are refused.
    pub async fn password(&self, secret: &Component, key: &str) -> Result<SecretValue, SecretError> {
        let value = self.read(secret, key).await?;
        let problem = match value.expose_text() {
            None => "is not UTF-8 text, so it cannot be a password; write it anew",
            Some("") => return Err(SecretError::Empty { secret: secret.clone(), key: key.to_owned() }),
            Some(text) if text.ends_with('\n') => {
                "ends with a line break that is hardly part of the password; write it without"
            }
            Some(text) if text.contains('\0') => "holds a zero byte, which no password may; write it anew",
            Some(_) => return Ok(value),
        };
        Err(SecretError::Unfit { secret: secret.clone(), key: key.to_owned(), problem })
    }
}

async fn held(
    reader: &dyn SecretReader,
    secret: &Component,
) -> Result<BTreeMap<String, SecretValue>, SecretError> {
    if secret.namespace().is_none() {
        return Err(SecretError::NoStore(secret.clone()));
    }
    let found = reader.read(secret).await?;
    found.ok_or_else(|| SecretError::Missing { secret: secret.clone(), place: reader.place() })
}

/// The value in a file.
fn file(folder: &Path, secret: &Component, key: &str) -> Result<SecretValue, SecretError> {
    let file = folder.join(key);
    match std::fs::read(&file) {
        Ok(value) => Ok(SecretValue::new(value)),
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_dir() => Err(missing(secret, folder)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(missing_key(secret, key, folder.display().to_string()))
        }
        Err(error) => Err(SecretError::Unreadable {
            secret: secret.clone(),
            key: key.to_owned(),
            place: file.display().to_string(),
            problem: error.to_string(),
        }),
    }
}

/// The keys that have files.
fn files(folder: &Path, secret: &Component) -> Result<Vec<String>, SecretError> {
    let entries = std::fs::read_dir(folder).map_err(|_| missing(secret, folder))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // A mounted Secret keeps its old and new contents in folders that begin with a dot.
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

fn missing(secret: &Component, folder: &Path) -> SecretError {
    SecretError::Missing { secret: secret.clone(), place: folder.display().to_string() }
}

fn missing_key(secret: &Component, key: &str, place: String) -> SecretError {
    SecretError::MissingKey { secret: secret.clone(), key: key.to_owned(), place }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    fn store() -> (tempfile::TempDir, SecretStore) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/db")).unwrap();
        let store = SecretStore::Root(root.path().to_owned());
        (root, store)
    }

    fn secret(text: &str) -> Component {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let (_root, store) = store();
        let error = store.read(&secret("secret/dev/none"), "password").await.unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("secret/dev/none does not exist"),
            "{error}"
        );
        let error = store.read(&secret("secret/dev/db"), "password").await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("no key `password`"), "{error}");
        let error = SecretStore::None.read(&secret("secret/dev/db"), "password").await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("ROLLCALL_SECRETS_DIR"), "{error}");
    }

    #[tokio::test]
    async fn passwords_that_cannot_log_in_are_refused_without_being_shown() {
        let (root, store) = store();
        for (value, says) in [("", "is empty"), ("hunter2\n", "line break"), ("hun\0ter2", "zero byte")] {
            std::fs::write(root.path().join("dev/db/password"), value).unwrap();
            let error = store.password(&secret("secret/dev/db"), "password").await.unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hun"), "{error}");
        }
        std::fs::write(root.path().join("dev/db/password"), "it's \" \\ ok ").unwrap();
        let value = store.password(&secret("secret/dev/db"), "password").await.unwrap();
        assert_eq!(value.expose_text(), Some("it's \" \\ ok "));
    }

    #[test]
    fn another_namespace_is_the_neighbour_folder() {
        let (root, _) = store();
        let own = SecretStore::Own { dir: root.path().join("dev"), namespace: "dev".to_owned() };
        assert_eq!(own.folder(&secret("secret/dev/db")), Some(root.path().join("dev/db")));
        assert_eq!(own.folder(&secret("secret/prod/db")), Some(root.path().join("prod/db")));
        assert_eq!(own.folder(&secret("configmap/prod/db")), Some(root.path().join("prod/.configmaps/db")));
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_not_read_from_any_store() {
        let (root, folders) = store();
        std::fs::create_dir_all(root.path().join("dev/admin")).unwrap();
        for file in ["dev/db/password", "dev/admin/password"] {
            std::fs::write(root.path().join(file), "hunter2").unwrap();
        }
        let (db, admin) = (secret("secret/dev/db"), secret("secret/dev/admin"));
        for whole in [folders, SecretStore::Reader(Arc::new(Holder))] {
            let narrowed = whole.only([db.clone()].into());
            assert!(narrowed.read(&db, "password").await.is_ok());
            assert_eq!(narrowed.contents(&db, &[]).await.unwrap().len(), 1);
            assert_eq!(narrowed.folder(&db), whole.folder(&db));
            for object in [&admin, &secret("configmap/dev/db")] {
                let refused = SecretError::NotAsked(object.clone());
                assert_eq!(narrowed.read(object, "password").await.unwrap_err(), refused);
                assert_eq!(narrowed.contents(object, &[]).await.unwrap_err(), refused);
                assert_eq!(narrowed.folder(object), None);
            }
            // Narrowing again cannot widen.
            assert!(narrowed.only([admin.clone()].into()).read(&admin, "password").await.is_err());
        }
    }

    /// Somebody who holds one Secret.
    #[derive(Debug)]
    struct Holder;

    impl SecretReader for Holder {
        fn read<'a>(
            &'a self,
            object: &'a Component,
        ) -> BoxFuture<'a, Result<Option<BTreeMap<String, SecretValue>>, SecretError>> {
            let held = |value: &str| BTreeMap::from([("password".to_owned(), SecretValue::new(value))]);
            std::future::ready(Ok((object.name() == "db").then(|| held("hunter2\n")))).boxed()
        }

        fn place(&self) -> String {
            "somebody's hands".to_owned()
        }

        fn namespace(&self) -> BoxFuture<'_, Option<String>> {
            std::future::ready(None).boxed()
        }
    }

    #[tokio::test]
    async fn what_somebody_else_holds_is_judged_as_files_are() {
        let store = SecretStore::Reader(Arc::new(Holder));
        let db = secret("secret/dev/db");
        assert_eq!(store.read(&db, "password").await.unwrap().expose_text(), Some("hunter2\n"));
        let all = store.contents(&db, &[]).await.unwrap();
        assert_eq!(all, store.contents(&db, &["password".to_owned()]).await.unwrap());
        assert_eq!(all.len(), 1);
        let missing = store.read(&secret("secret/dev/none"), "password").await.unwrap_err();
        assert!(matches!(&missing, SecretError::Missing { place, .. } if place == "somebody's hands"));
        let keys = ["password".to_owned(), "user".to_owned()];
        let error = store.contents(&db, &keys).await.unwrap_err();
        assert!(matches!(&error, SecretError::MissingKey { key, .. } if key == "user"), "{error}");
        let error = store.password(&db, "password").await.unwrap_err().to_string();
        assert!(error.contains("line break") && !error.contains("hunter2"), "{error}");
        let nameless = store.read(&secret("secret/db"), "password").await.unwrap_err();
        assert!(matches!(nameless, SecretError::NoStore(_)), "whose namespace it is is not guessed");
    }
}
