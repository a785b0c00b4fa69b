//! Secrets and ConfigMaps for whoever only reads them: one `get` by name, and no API server asked before the first.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chassis::SecretValue;
use chassis::secret::{SecretError, SecretReader};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lifecycle::{Component, Kind};
use tokio::sync::OnceCell;

use crate::{Cluster, Error, Name, Resource};

/// How long one read may take, the connection included: shorter than a probe's look, so that what is late is said to be the API
/// server and not what the look was for.
const READ: Duration = Duration::from_secs(2);
/// What a pod with a service account has.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Reads from the API server that [`Cluster::infer`] finds; none when neither KUBECONFIG, nor `~/.kube/config`, nor a service
/// account names one. Looks whether those files are there and nothing else: the client is made for the first read.
pub fn reader() -> Option<Arc<dyn SecretReader>> {
    let given = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    let home = || std::env::home_dir().is_some_and(|home| home.join(".kube/config").is_file());
    (given || home() || Path::new(TOKEN).is_file()).then(|| Arc::new(Inferred::default()) as _)
}

/// An API server that is found when it is needed.
#[derive(Debug, Default)]
struct Inferred(OnceCell<Cluster>);

impl Inferred {
    async fn cluster(&self) -> Result<&Cluster, Error> {
        self.0.get_or_try_init(Cluster::infer).await
    }
}

impl SecretReader for Inferred {
    fn read<'a>(
        &'a self,
        object: &'a Component,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, SecretValue>>, SecretError>> {
        async move {
            match self.cluster().await {
                Ok(cluster) => cluster.read(object).await,
                Err(error) => Err(SecretError::Refused {
                    secret: object.clone(),
                    problem: format!("{error}; or set ROLLCALL_SECRETS_DIR or ROLLCALL_SECRETS_ROOT"),
                }),
            }
        }
        .boxed()
    }

    fn place(&self) -> String {
        self.0.get().map_or_else(|| "the cluster".to_owned(), SecretReader::place)
    }

    fn namespace(&self) -> BoxFuture<'_, Option<String>> {
        async { self.cluster().await.ok()?.namespace().await }.boxed()
    }
}

impl SecretReader for Cluster {
    /// The right to `get` the object by name is needed, and no other.
    fn read<'a>(
        &'a self,
        object: &'a Component,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, SecretValue>>, SecretError>> {
        async move {
            let Some(name) = name_of(object) else {
                return Err(SecretError::Refused {
                    secret: object.clone(),
                    problem: "it is no Secret or ConfigMap with a namespace".to_owned(),
                });
            };
            match tokio::time::timeout(READ, self.get(&name)).await {
                Ok(Ok(found)) => Ok(found.map(|object| object.data)),
                Ok(Err(error)) => Err(judged(object, &name, &error)),
                Err(_) => Err(SecretError::Unavailable {
                    secret: object.clone(),
                    problem: format!("the API server has not answered within {READ:?}"),
                }),
            }
        }
        .boxed()
    }

    fn place(&self) -> String {
        format!("the cluster at {}", self.address)
    }

    fn namespace(&self) -> BoxFuture<'_, Option<String>> {
        std::future::ready(Some(self.default_namespace().to_owned())).boxed()
    }
}

fn name_of(object: &Component) -> Option<Name> {
    let resource = match object.kind() {
        Kind::Secret => Resource::Secret,
        Kind::ConfigMap => Resource::ConfigMap,
        _ => return None,
    };
    Some(Name { resource, namespace: object.namespace()?.to_owned(), name: object.name().to_owned() })
}

fn judged(object: &Component, name: &Name, error: &Error) -> SecretError {
    let secret = object.clone();
    if let Error::Forbidden { verb, .. } = error {
        let (namespace, resource) = (&name.namespace, name.resource.plural());
        let remedy = format!(
            "a Role in namespace {namespace} must allow `{verb}` on {resource} with resourceNames [{}]",
            name.name
        );
        return SecretError::Forbidden { secret, remedy };
    }
    // Both name the object.
    let said = error.to_string();
    let problem = said.strip_prefix(&format!("{name}: ")).unwrap_or(&said).to_owned();
    if error.is_transient() {
        SecretError::Unavailable { secret, problem }
    } else {
        SecretError::Refused { secret, problem }
    }
}
