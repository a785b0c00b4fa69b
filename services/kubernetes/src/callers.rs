//! How a process that is a pod knows who calls it: by the tokens of its cluster.

use std::sync::Arc;

use chassis::grpc::{Callers, TokenError};
use chassis::provision::Command;
use futures_util::FutureExt;

use crate::{Cluster, Tokens};

/// The cluster that this process is a pod of, if it is one; with that, how its callers are known. Where the cluster cannot be
/// used nobody is.
pub async fn callers() -> Option<(Callers, Option<Cluster>)> {
    // What the kubelet sets in every container.
    std::env::var_os("KUBERNETES_SERVICE_HOST")?;
    Some(match Cluster::infer().await {
        Ok(cluster) => {
            let home = cluster.default_namespace().to_owned();
            let tokens = Arc::new(Tokens::new(cluster.clone()));
            let verify = move |token: String| {
                let tokens = Arc::clone(&tokens);
                async move { tokens.identity(&token).await }.boxed()
            };
            (Callers { verify: Arc::new(verify), home }, Some(cluster))
        }
        Err(error) => {
            tracing::warn!(
                "no token can be verified, so nobody from elsewhere may have anything done: {error}"
            );
            let verify = |_| async { Err(TokenError::Invalid("cannot be verified here")) }.boxed();
            (Callers { verify: Arc::new(verify), home: String::new() }, None)
        }
    })
}

/// How a provisioner's callers are known, where it has any: while it serves, in a pod.
pub async fn callers_of(command: &Command) -> Option<Callers> {
    if command.serves() { Some(callers().await?.0) } else { None }
}
