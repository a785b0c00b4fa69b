//! Who may have something done over gRPC: outside a cluster this very machine; in one, service accounts that show a token, each for
//! its own namespace only. There loopback is nobody: proxies beside a service and forwarded ports come from it too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Which pod is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, so that a later pod of that name is not meant; from the downward API.
    pub uid: String,
}

/// Who showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The service account's namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
    /// The pod that the token was made for, if for one.
    pub pod: Option<PodReference>,
    /// When the token ends: what goes on for longer asks again.
    pub expires: SystemTime,
}

/// Why it is not known whose a token is. Never holds it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is nobody's, or not for us.
    #[error("the service-account token {0}")]
    Invalid(&'static str),
    /// The issuer's keys cannot be read.
    #[error("the keys of the cluster's token issuer are not known: {0}")]
    Keys(String),
}

/// Verifies a token: whose it is, or why nobody's.
pub type Verify = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Identity, TokenError>> + Send + Sync>;

/// How callers from elsewhere are known.
#[derive(Clone)]
pub struct Callers {
    /// How tokens are verified.
    pub verify: Verify,
    /// This process's own namespace: whoever runs there may speak for the whole environment.
    pub home: String,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Who has something done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// Somebody on this machine, or in this process.
    Here,
    /// Somebody in this process's own namespace.
    Home(Identity),
    /// Somebody in another.
    Tenant(Identity),
}

impl Writer {
    /// Who calls, if it may have anything done at all; over the network or, without an address, from this very process.
    ///
    /// # Errors
    /// Where no callers are known whoever is not on this machine is denied; with one, who shows no token that is believed is not known.
    pub async fn of(
        callers: Option<&Callers>,
        metadata: &MetadataMap,
        from: Option<SocketAddr>,
    ) -> Result<Writer, Status> {
        // Without an address it is this very process.
        let Some(from) = from else { return Ok(Writer::Here) };
        let Some(callers) = callers else {
            if from.ip().to_canonical().is_loopback() {
                return Ok(Writer::Here);
            }
            return Err(Status::permission_denied(
                "no tokens are verified here, so only loopback may do this",
            ));
        };
        let token =
            metadata.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            Status::unauthenticated(
                "show a service-account token with audience `rollcall/<this namespace>` as `authorization: Bearer …`; waiters and one-shots send the one whose file ROLLCALL_HUB_TOKEN_FILE names",
            )
        })?;
        match (callers.verify)(token.to_owned()).await {
            Ok(identity) if identity.namespace == callers.home => Ok(Writer::Home(identity)),
            Ok(identity) => Ok(Writer::Tenant(identity)),
            // Another may be shown the next time: tokens are renewed.
            Err(error @ TokenError::Invalid(_)) => Err(Status::unauthenticated(error.to_string())),
            Err(error @ TokenError::Keys(_)) => Err(Status::unavailable(error.to_string())),
        }
    }

    /// Whether it is somebody in another namespace.
    pub fn is_tenant(&self) -> bool {
        matches!(self, Writer::Tenant(_))
    }

    /// Whose token was shown; none of who is on this machine.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Writer::Here => None,
            Writer::Home(identity) | Writer::Tenant(identity) => Some(identity),
        }
    }

    /// The pod that writes, if its token is of one.
    pub fn pod(&self) -> Option<&PodReference> {
        self.identity()?.pod.as_ref()
    }

    /// Why it may not speak for what stands in a namespace, if it may not.
    pub fn refused(&self, what: &str, namespace: Option<&str>) -> Option<String> {
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

    fn callers() -> Callers {
        let verify: Verify = Arc::new(|token| {
            Box::pin(async move {
                let (namespace, account) = token.split_once('/').ok_or(TokenError::Invalid("is none"))?;
                if namespace == "keys" {
                    return Err(TokenError::Keys(String::new()));
                }
                let (namespace, account) = (namespace.to_owned(), account.to_owned());
                Ok(Identity { namespace, account, pod: None, expires: SystemTime::now() })
            })
        });
        Callers { verify, home: "rollcall".to_owned() }
    }

    async fn writer(callers: Option<&Callers>, from: &str, token: Option<&str>) -> Result<Writer, Code> {
        let mut metadata = MetadataMap::new();
        if let Some(token) = token {
            metadata.insert("authorization", token.parse().unwrap());
        }
        Writer::of(callers, &metadata, Some(from.parse().unwrap())).await.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn away_from_loopback_only_a_verified_caller_may_write() {
        assert_eq!(writer(None, "127.0.0.1:1", None).await, Ok(Writer::Here));
        assert_eq!(writer(None, "[::ffff:127.0.0.1]:1", None).await, Ok(Writer::Here));
        assert_eq!(writer(None, "10.0.0.7:1", Some("Bearer shop/web")).await, Err(Code::PermissionDenied));
        let callers = callers();
        let far = async |token| writer(Some(&callers), "10.0.0.7:1", token).await;
        assert_eq!(far(None).await, Err(Code::Unauthenticated));
        assert_eq!(far(Some("Basic shop/web")).await, Err(Code::Unauthenticated));
        assert_eq!(far(Some("Bearer wrong")).await, Err(Code::Unauthenticated));
        assert_eq!(far(Some("Bearer keys/web")).await, Err(Code::Unavailable));
        assert!(matches!(far(Some("Bearer shop/web")).await, Ok(Writer::Tenant(_))));
        assert!(matches!(far(Some("Bearer rollcall/apply")).await, Ok(Writer::Home(_))));
        // A proxy of a mesh, or a forwarded port.
        assert_eq!(writer(Some(&callers), "127.0.0.6:1", None).await, Err(Code::Unauthenticated));
    }

    #[test]
    fn a_tenant_speaks_for_its_own_namespace_only() {
        let identity = |namespace: &str| Identity {
            namespace: namespace.to_owned(),
            account: "web".to_owned(),
            pod: None,
            expires: SystemTime::now(),
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
