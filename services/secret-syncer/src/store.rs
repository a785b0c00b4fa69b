//! The store that this process was given: a cluster, or a directory.

use std::path::PathBuf;

use chassis::settings::Settings;
use chassis::{Exit, Failure};
use kubernetes::Cluster;
use lifecycle::Component;

use crate::world::{Backend, Change, Claim, Contents, Directory, Error, Kubernetes, Record};

/// A store.
#[derive(Debug, Clone)]
pub enum Store {
    /// Folders and files.
    Directory(Directory),
    /// A cluster.
    Kubernetes(Kubernetes),
}

impl Store {
    /// The directory ROLLCALL_SECRETS_ROOT, if it is set, or else the cluster that a kubeconfig or the pod's service account
    /// names. A `central` one carries only what the target's namespace was given.
    pub async fn open(settings: &Settings, central: bool) -> Result<Self, Failure> {
        if let Some(root) = &settings.secrets_root {
            if central {
                return Err(Failure::usage(
                    "--central is for a cluster: a directory knows neither namespaces' labels nor who may read what; leave out ROLLCALL_SECRETS_ROOT",
                ));
            }
            if root.exists() && !root.is_dir() {
                return Err(Failure::usage(format!(
                    "ROLLCALL_SECRETS_ROOT: {} is no folder",
                    root.display()
                )));
            }
            if !root.exists() {
                tracing::warn!(
                    "ROLLCALL_SECRETS_ROOT: {} is not there yet: nothing was made in it before",
                    root.display()
                );
            }
            return Ok(Store::Directory(Directory::new(root)));
        }
        match Cluster::infer().await {
            // Who is to look at everything more often is to notice a dead watch sooner too.
            Ok(cluster) => {
                let store = Kubernetes::watching(cluster, 4 * settings.resync);
                Ok(Store::Kubernetes(if central { store.central() } else { store }))
            }
            Err(error) => Err(Failure::new(
                Exit::Usage,
                format!(
                    "{error}; or set ROLLCALL_SECRETS_ROOT to a folder that holds <namespace>/<secret>/<key>"
                ),
            )),
        }
    }

    /// A store that holds nothing, for plans that look at none.
    pub fn nothing() -> Self {
        Store::Directory(Directory::new(PathBuf::new()))
    }
}

impl Backend for Store {
    async fn read(&self, object: &Component) -> Result<Option<Contents>, Error> {
        match self {
            Store::Directory(store) => store.read(object).await,
            Store::Kubernetes(store) => store.read(object).await,
        }
    }

    async fn read_for(
        &self,
        source: &Component,
        target: &Component,
        version: Option<&str>,
    ) -> Result<Option<Contents>, Error> {
        match self {
            Store::Directory(store) => store.read_for(source, target, version).await,
            Store::Kubernetes(store) => store.read_for(source, target, version).await,
        }
    }

    async fn given(&self, source: &Component, target: &Component) -> Result<(), Error> {
        match self {
            Store::Directory(store) => store.given(source, target).await,
            Store::Kubernetes(store) => store.given(source, target).await,
        }
    }

    async fn write(&self, object: &Component, change: Change) -> Result<(), Error> {
        match self {
            Store::Directory(store) => store.write(object, change).await,
            Store::Kubernetes(store) => store.write(object, change).await,
        }
    }

    async fn delete(&self, object: &Component, claim: &Claim, version: Option<&str>) -> Result<(), Error> {
        match self {
            Store::Directory(store) => store.delete(object, claim, version).await,
            Store::Kubernetes(store) => store.delete(object, claim, version).await,
        }
    }

    async fn remembered(&self, object: &Component, claim: &Claim) -> Result<Record, Error> {
        match self {
            Store::Directory(store) => store.remembered(object, claim).await,
            Store::Kubernetes(store) => store.remembered(object, claim).await,
        }
    }

    async fn remember(&self, object: &Component, claim: &Claim, record: &Record) -> Result<(), Error> {
        match self {
            Store::Directory(store) => store.remember(object, claim, record).await,
            Store::Kubernetes(store) => store.remember(object, claim, record).await,
        }
    }
}
