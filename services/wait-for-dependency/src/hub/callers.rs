//! Who may write to the hub: outside a cluster this very machine; in one, service accounts that show a token, each for its own
//! namespace only. There loopback is nobody: proxies beside the hub and forwarded ports come from it too.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kubernetes::{Cluster, Identity, PodReference, TokenError, Tokens};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Verifies a token: whose it is, or why nobody's.
pub type Verify = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Identity, TokenError>> + Send + Sync>;

/// How callers from elsewhere are known.
#[derive(Clone)]
pub struct Gate {
    /// How tokens are verified.
    pub verify: Verify,
    /// The hub's own namespace: whoever runs there may speak for the whole environment.
    pub home: String,
    /// Where pods are told why they wait; nowhere when absent.
    pub events: Option<Cluster>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Gate {
    /// By the tokens of the cluster that this process is a pod of; none elsewhere, where only loopback may write.
    pub async fn of_pod() -> Option<Gate> {
        // What the kubelet sets in every container.
        std::env::var_os("KUBERNETES_SERVICE_HOST")?;
        match Cluster::infer().await {
            Ok(cluster) => {
                let home = cluster.default_namespace().to_owned();
                let tokens = Arc::new(Tokens::new(cluster.clone()));
                let verify = move |token: String| {
                    let tokens = Arc::clone(&tokens);
                    async move { tokens.identity(&token).await }.boxed()
                };
                Some(Gate { verify: Arc::new(verify), home, events: Some(cluster) })
            }
            Err(error) => {
                tracing::warn!("no token can be verified, so nobody may register and announce: {error}");
                let verify = |_| async { Err(TokenError::Invalid("cannot be verified by this hub")) }.boxed();
                Some(Gate { verify: Arc::new(verify), home: String::new(), events: None })
            }
        }
    }
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Writer {
    /// Somebody on this machine, or in this process.
    Here,
    /// Somebody in the hub's own namespace.
    Home(Identity),
    /// Somebody in another.
    Tenant(Identity),
}

impl Writer {
    /// Who calls, if it may write at all.
    pub(super) async fn of(
        gate: Option<&Gate>,
        metadata: &MetadataMap,
        from: Option<SocketAddr>,
    ) -> Result<Writer, Status> {
        // Without an address it is this very process.
        let Some(from) = from else { return Ok(Writer::Here) };
        let Some(gate) = gate else {
            if from.ip().to_canonical().is_loopback() {
                return Ok(Writer::Here);
            }
            return Err(Status::permission_denied(
                "this hub verifies no tokens, so only loopback may register and announce",
            ));
        };
        let token =
            metadata.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            Status::unauthenticated(
                "show a service-account token: mount one with audience `rollcall` and name its file in ROLLCALL_HUB_TOKEN_FILE",
            )
        })?;
        match (gate.verify)(token.to_owned()).await {
            Ok(identity) if identity.namespace == gate.home => Ok(Writer::Home(identity)),
            Ok(identity) => Ok(Writer::Tenant(identity)),
            Err(error @ TokenError::Invalid(_)) => Err(Status::permission_denied(error.to_string())),
            Err(error @ TokenError::Keys(_)) => Err(Status::unavailable(error.to_string())),
        }
    }

    /// Whether it is somebody in another namespace.
    pub(super) fn is_tenant(&self) -> bool {
        matches!(self, Writer::Tenant(_))
    }

    /// The pod that writes, if its token is of one.
    pub(super) fn pod(&self) -> Option<&PodReference> {
        match self {
            Writer::Here => None,
            Writer::Home(identity) | Writer::Tenant(identity) => identity.pod.as_ref(),
        }
    }

    /// Why it may not speak for what stands in a namespace, if it may not.
    pub(super) fn refused(&self, what: &str, namespace: Option<&str>) -> Option<String> {
        let Writer::Tenant(Identity { namespace: own, account, .. }) = self else { return None };
        match namespace {
            Some(namespace) if namespace == own => None,
            Some(namespace) => Some(format!(
                "{what} is of namespace {namespace}, and service account {own}/{account} may speak for its own namespace only"
            )),
            None => Some(format!(
                "no fragment declares {what}, so nobody knows whether service account {own}/{account} may speak for it"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn gate() -> Gate {
        let verify: Verify = Arc::new(|token| {
            Box::pin(async move {
                let (namespace, account) = token.split_once('/').ok_or(TokenError::Invalid("is none"))?;
                if namespace == "keys" {
                    return Err(TokenError::Keys(String::new()));
                }
                Ok(Identity { namespace: namespace.to_owned(), account: account.to_owned(), pod: None })
            })
        });
        Gate { verify, home: "rollcall".to_owned(), events: None }
    }

    async fn writer(gate: Option<&Gate>, from: &str, token: Option<&str>) -> Result<Writer, Code> {
        let mut metadata = MetadataMap::new();
        if let Some(token) = token {
            metadata.insert("authorization", token.parse().unwrap());
        }
        Writer::of(gate, &metadata, Some(from.parse().unwrap())).await.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn away_from_loopback_only_a_verified_caller_may_write() {
        assert_eq!(writer(None, "127.0.0.1:1", None).await, Ok(Writer::Here));
        assert_eq!(writer(None, "[::ffff:127.0.0.1]:1", None).await, Ok(Writer::Here));
        assert_eq!(writer(None, "10.0.0.7:1", Some("Bearer shop/web")).await, Err(Code::PermissionDenied));
        let gate = gate();
        let far = async |token| writer(Some(&gate), "10.0.0.7:1", token).await;
        assert_eq!(far(None).await, Err(Code::Unauthenticated));
        assert_eq!(far(Some("Basic shop/web")).await, Err(Code::Unauthenticated));
        assert_eq!(far(Some("Bearer wrong")).await, Err(Code::PermissionDenied));
        assert_eq!(far(Some("Bearer keys/web")).await, Err(Code::Unavailable));
        assert!(matches!(far(Some("Bearer shop/web")).await, Ok(Writer::Tenant(_))));
        assert!(matches!(far(Some("Bearer rollcall/apply")).await, Ok(Writer::Home(_))));
        // A proxy of a mesh, or a forwarded port.
        assert_eq!(writer(Some(&gate), "127.0.0.6:1", None).await, Err(Code::Unauthenticated));
    }

    #[test]
    fn a_tenant_speaks_for_its_own_namespace_only() {
        let identity = |namespace: &str| Identity {
            namespace: namespace.to_owned(),
            account: "web".to_owned(),
            pod: None,
        };
        let tenant = Writer::Tenant(identity("shop"));
        assert_eq!(tenant.refused("module/web", Some("shop")), None);
        assert!(tenant.refused("module/pay", Some("bank")).unwrap().contains("is of namespace bank"));
        assert!(tenant.refused("module/new", None).unwrap().contains("no fragment declares module/new"));
        for all in [Writer::Here, Writer::Home(identity("rollcall"))] {
            assert_eq!(all.refused("module/pay", Some("bank")), None);
            assert_eq!(all.refused("module/new", None), None);
        }
    }
}
