//! Delegated provisioning: a module asks `postgres-init serve` for what its fragment declares, so that no credential of a server's
//! administrator lies in its namespace.
//!
//! The server's document says who may ask and for what (`delegate`). What was accepted is kept in database `rollcall` and looked
//! after like the documents that are mounted. Passwords stay with the module: it logs in, and where it is not let in it sends a
//! SCRAM verifier.

mod accepted;
mod believed;
pub(crate) mod client;
pub(crate) mod conviction;
mod door;
mod judge;
mod limits;
pub(crate) mod part;
mod resume;
mod rights;
mod rules;
mod service;
mod settle;
mod step;
#[cfg(test)]
mod tests;
mod union;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use chassis::grpc::Callers;
use chassis::provision::Beside;
use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure};
use lifecycle::document::Environment;

use accepted::Accepted;
pub(crate) use accepted::delegated;
pub(crate) use client::{provision, without_made};
use service::DelegationService;

use crate::world::delegated::Kept;

/// What `serve` answers beside the services of every provisioner. `mounted` holds its documents and how their Secrets are read, by
/// the time it begins.
pub(crate) fn beside(
    context: &Context,
    callers: Option<Callers>,
    mounted: Arc<OnceLock<(Environment, SecretStore)>>,
) -> Beside {
    let context = context.clone();
    Beside::new(move |environment, server| {
        let secrets = mounted.get().map_or(SecretStore::None, |(_, secrets)| secrets.clone());
        let accepted = Arc::new(Accepted::new(environment, &secrets, &context.source()));
        let joined = accepted.joined();
        let (keeper, resync, shutdown) =
            (Arc::clone(&accepted), context.settings.resync, context.shutdown.clone());
        tokio::spawn(async move { keeper.keep(resync, shutdown).await });
        let service = DelegationService::server(accepted, callers.clone(), context.shutdown.clone());
        (server.add_service(service), joined)
    })
}

/// Why some of the accepted fragments are not looked after beside these documents, by their names.
pub(crate) fn left(mounted: &Environment, kept: &[Kept]) -> BTreeMap<String, Vec<String>> {
    union::join(mounted, kept).left
}

/// Does something within the deadline of a one-shot, unless it is asked to stop.
pub(crate) async fn within<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let deadline = async {
        match context.settings.deadline {
            Some(deadline) => tokio::time::sleep(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        done = work => done,
        () = deadline => Err(Failure::new(
            Exit::Deadline,
            format!("what was asked for is not ready within {:?}; the log says what it waits for", context.settings.deadline.unwrap_or_default()),
        )),
        () = context.shutdown.requested() => Err(Failure::new(Exit::TryAgain, "asked to stop before what was asked for was ready")),
    }
}
