//! The namespaces of a cluster and their labels: for the one process that may see them all.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::request::Request;
use kube::core::{ObjectList, PartialObjectMeta};

use crate::watch::Watched;
use crate::{Cluster, Error};

/// What is asked for, in errors.
const WHAT: &str = "namespaces";

impl Cluster {
    /// The labels of every namespace that is not being deleted, by its name. The right to `list` namespaces is needed.
    pub async fn namespaces(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let request = unaskable(request().list_metadata(&ListParams::default()))?;
        let list: ObjectList<PartialObjectMeta<()>> = self.plain(WHAT, request).await?;
        let live = list.items.into_iter().filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(live
            .filter_map(|found| Some((found.metadata.name?, found.metadata.labels.unwrap_or_default())))
            .collect())
    }

    /// Follows all namespaces as [`follow`](Cluster::follow) follows one object. The right to `watch` namespaces is needed.
    pub async fn follow_namespaces(&self, lasts: Duration, mut changed: impl FnMut()) -> Result<(), Error> {
        let params = WatchParams::default().timeout(u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX));
        let request = unaskable(request().watch_metadata(&params, ""))?;
        self.watch(request, &Watched::Plain(WHAT), lasts, |_| changed()).await
    }
}

fn request() -> Request {
    Request::new("/api/v1/namespaces")
}

fn unaskable<T>(request: Result<T, kube::core::request::Error>) -> Result<T, Error> {
    request.map_err(|error| Error::Unaskable { what: WHAT.to_owned(), reason: error.to_string() })
}
