//! Calls to the API server: each with a deadline, none repeated here, and answers judged by code and reason.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::request::Request as Api;
use kube::core::response::Status;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use zeroize::Zeroizing;

use crate::connect::{self, Watching};
use crate::{Desired, Error, Name, Object};

/// One call takes at most this long.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// The largest answer that is read: an object of Kubernetes has at most 1.5 MiB, managed fields come on top.
const ANSWER: usize = 8 * 1024 * 1024;

/// An API server.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    pub(crate) watching: Arc<Watching>,
    /// Where it is.
    pub(crate) address: String,
}

/// What became of an apply.
#[derive(Debug)]
pub struct Applied {
    /// The object as it is now.
    pub object: Object,
    /// It was not there before.
    pub created: bool,
}

impl Cluster {
    /// The API server that KUBECONFIG, `~/.kube/config` or the pod's service account name.
    pub async fn infer() -> Result<Self, Error> {
        Cluster::over(Config::infer().await.map_err(unconfigured)?)
    }

    /// The API server that a context of KUBECONFIG or `~/.kube/config` names, the current one without a name; without any
    /// kubeconfig the one of the pod's service account.
    pub async fn of_context(context: Option<&str>) -> Result<Self, Error> {
        let config = match context {
            None => Config::infer().await.map_err(unconfigured)?,
            Some(context) => {
                let options =
                    KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options).await.map_err(unconfigured)?
            }
        };
        Cluster::over(config)
    }

    /// The namespace that the kubeconfig's context means, or that the pod is in.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// The API server that a kubeconfig's current context names.
    pub async fn of_kubeconfig(file: &Path) -> Result<Self, Error> {
        let kubeconfig = Kubeconfig::read_from(file).map_err(unconfigured)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Cluster::over(config.map_err(unconfigured)?)
    }

    fn over(config: Config) -> Result<Self, Error> {
        if config.accept_invalid_certs {
            return Err(Error::Unconfigured(
                "the kubeconfig says insecure-skip-tls-verify, and Secrets are only ever read from a server that proves who it is; give its certificate-authority".to_owned(),
            ));
        }
        if config.cluster_url.scheme_str() != Some("https") {
            return Err(Error::Unconfigured(format!(
                "{} is no https address, and Secrets and tokens do not travel in the clear",
                config.cluster_url
            )));
        }
        let address = config.cluster_url.to_string();
        let client = connect::calling(config.clone())?;
        Ok(Cluster { client, watching: Arc::new(Watching::new(config)), address })
    }

    /// Reads a Secret or ConfigMap; none when it is not there.
    pub async fn get(&self, name: &Name) -> Result<Option<Object>, Error> {
        let request = api(name).get(&name.name, &GetParams::default());
        match self.call("get", name, built(name, request)?).await {
            Ok((_, bytes)) => read(name, &bytes).map(Some),
            Err(Refusal::Status(status)) if is_missing(&status) => Ok(None),
            Err(refusal) => Err(judged("get", name, refusal)),
        }
    }

    /// Applies a Secret or ConfigMap under a field manager's name: it is made, or those of its fields that this manager applied are made
    /// as `desired` says. Fields of somebody else are taken over only with `force`.
    pub async fn apply(
        &self,
        name: &Name,
        manager: &str,
        desired: &Desired,
        force: bool,
    ) -> Result<Applied, Error> {
        let params = PatchParams {
            force,
            field_manager: Some(manager.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let request = built(name, api(name).patch(&name.name, &params, &Patch::Apply(desired.body(name))))?;
        match self.call("patch", name, request).await {
            Ok((code, bytes)) => {
                Ok(Applied { object: read(name, &bytes)?, created: code == StatusCode::CREATED })
            }
            Err(refusal) => Err(judged("patch", name, refusal)),
        }
    }

    /// Deletes exactly this one of all that ever had its name, and in this state only, if one is given. One that is gone already
    /// is gone.
    pub async fn delete(&self, name: &Name, uid: &str, version: Option<&str>) -> Result<(), Error> {
        let resource_version = version.map(str::to_owned);
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let request = built(name, api(name).delete(&name.name, &params))?;
        match self.call("delete", name, request).await {
            Ok(_) => Ok(()),
            Err(Refusal::Status(status)) if is_missing(&status) => Ok(()),
            Err(refusal) => Err(judged("delete", name, refusal)),
        }
    }

    /// Makes an object that is neither Secret nor ConfigMap and holds no value, or asks for a review, and reads the answer.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        object: &Value,
    ) -> Result<T, Error> {
        let request = http::Request::post(path)
            .header(CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .map_err(|error| Error::Unaskable { what: what.to_owned(), reason: error.to_string() })?;
        self.plain(what, request).await
    }

    /// A call about something that is neither Secret nor ConfigMap and holds no value.
    pub(crate) async fn plain<T: DeserializeOwned>(
        &self,
        what: &str,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, Error> {
        match self.send(request).await {
            Ok((_, bytes)) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Unreadable { what: what.to_owned(), reason: error.to_string() }),
            Err(refusal) => Err(judged_plain(what, refusal)),
        }
    }

    pub(crate) async fn call(
        &self,
        verb: &'static str,
        name: &Name,
        request: http::Request<Vec<u8>>,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Refusal> {
        tracing::trace!(verb, object = %name, "asks the API server");
        self.send(request).await
    }

    /// Not by the client's own `request`: it would write an answer that it cannot read into the log. And the client logs nothing:
    /// each connection that fails would be an error there, and whoever calls decides whether it is one.
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Refusal> {
        let answered = async {
            let response =
                self.client.send(request.map(Body::from)).await.map_err(|error| Refusal::of(&error))?;
            let (status, after) = (response.status(), patience(response.headers()));
            // Its outermost layers say this in plain text.
            if let code @ (408 | 429 | 500..) = status.as_u16() {
                return Err(Refusal::Busy { code, after });
            }
            let bytes = collected(response.into_body()).await?;
            if status.is_success() {
                return Ok((status, bytes));
            }
            // Whoever stands in between may answer too, in words of his own: that says nothing about the object.
            Err(match serde_json::from_slice::<Status>(&bytes) {
                Ok(said) if !said.reason.is_empty() || said.code == status.as_u16() => {
                    Refusal::Status(Box::new(said))
                }
                _ => Refusal::Lost(format!("what answers {status} is no API server")),
            })
        };
        tokio::time::timeout(REQUEST, answered.with_subscriber(Dispatch::none()))
            .await
            .unwrap_or_else(|_| Err(Refusal::Lost(format!("no answer within {REQUEST:?}"))))
    }
}

/// How much patience an answer asks for. A date in place of seconds is not what an API server says.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

// A client holds credentials.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster(…)")
    }
}

async fn collected(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Lost(chassis::exit::chain(&error)))?;
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > ANSWER {
            return Err(Refusal::Lost(format!("the answer is larger than {ANSWER} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A call that did not succeed.
pub(crate) enum Refusal {
    /// The server's own answer.
    Status(Box<Status>),
    /// No time for it now.
    Busy {
        /// The HTTP status.
        code: u16,
        /// How much patience the server asks for.
        after: Option<Duration>,
    },
    /// No answer.
    Lost(String),
}

impl Refusal {
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Refusal::Status(status.clone()),
            other => Refusal::Lost(chassis::exit::chain(other)),
        }
    }
}

pub(crate) fn judged(verb: &'static str, name: &Name, refusal: Refusal) -> Error {
    let status = match refusal {
        Refusal::Status(status) => status,
        other => return judged_plain(&name.to_string(), other),
    };
    let causes = || status.details.iter().flat_map(|details| &details.causes);
    match status.code {
        403 if causes().any(|cause| cause.reason == "NamespaceTerminating") => {
            Error::Terminating { name: name.clone() }
        }
        403 => Error::Forbidden { verb, name: name.clone() },
        404 if is_missing(&status) => Error::NoNamespace { name: name.clone() },
        409 => {
            let held: Vec<String> = causes()
                .filter(|cause| cause.reason == "FieldManagerConflict")
                .map(|cause| format!("{} ({})", cause.field.trim_start_matches('.'), cause.message))
                .collect();
            if held.is_empty() {
                Error::Changed(name.clone())
            } else {
                Error::Conflict { name: name.clone(), held: held.join(", ") }
            }
        }
        _ => judged_plain(&name.to_string(), Refusal::Status(status)),
    }
}

pub(crate) fn judged_plain(what: &str, refusal: Refusal) -> Error {
    let what = what.to_owned();
    match refusal {
        Refusal::Lost(reason) => Error::Unreachable { what, reason },
        Refusal::Busy { code, after } => Error::Busy { what, code, after },
        Refusal::Status(status) => match status.code {
            401 => Error::Unauthenticated { what },
            // In a watch that has begun nothing else can say so.
            code @ (408 | 410 | 429 | 500..) => Error::Busy { what, code, after: None },
            code => Error::Refused { what, code, reason: said(&status) },
        },
    }
}

/// The server's words without what it quotes: an answer to a request with values may quote them.
fn said(status: &Status) -> String {
    let fields: Vec<String> = status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .map(|cause| format!("{} {}", cause.field, cause.reason))
        .collect();
    if fields.is_empty() {
        format!("{} ({})", status.reason, status.code)
    } else {
        format!("{} ({}): {}", status.reason, status.code, fields.join(", "))
    }
}

pub(crate) fn is_missing(status: &Status) -> bool {
    status.code == 404 && status.reason == "NotFound"
}

pub(crate) fn api(name: &Name) -> Api {
    let (root, plural) = (name.resource.root(), name.resource.plural());
    Api::new(format!("{root}/namespaces/{}/{plural}", name.namespace))
}

pub(crate) fn built(
    name: &Name,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<http::Request<Vec<u8>>, Error> {
    request.map_err(|error| Error::Unaskable { what: name.to_string(), reason: error.to_string() })
}

fn read(name: &Name, bytes: &[u8]) -> Result<Object, Error> {
    Object::read(name.resource, bytes).map_err(|reason| unreadable(name, &reason))
}

fn unreadable(name: &Name, reason: &str) -> Error {
    Error::Unreadable { what: name.to_string(), reason: reason.to_owned() }
}

fn unconfigured(error: impl std::error::Error) -> Error {
    Error::Unconfigured(chassis::exit::chain(&error))
}
