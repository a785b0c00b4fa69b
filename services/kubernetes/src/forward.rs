//! Speaking with a pod through the API server, as `kubectl port-forward` does, but without a port of this machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{ListParams, ObjectList};
use kube::core::request::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{Refusal, judged_plain};
use crate::{Cluster, Error};

/// What carries bytes to a pod and back.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A pod, as far as somebody who would speak with it needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It says that it is ready.
    pub ready: bool,
    /// Its ports, by their names.
    pub ports: BTreeMap<String, u16>,
}

impl Cluster {
    /// The pods of a namespace that a label selector chooses and that are not being deleted, by name. The right to `list` pods
    /// is needed.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>, Error> {
        let what = format!("pods in namespace {namespace}");
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
            .list(&ListParams::default().labels(labels))
            .map_err(|error| Error::Unaskable { what: what.clone(), reason: error.to_string() })?;
        let list: ObjectList<core::Pod> = self.plain(&what, request).await?;
        let live = list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut pods: Vec<Pod> = live.filter_map(pod).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// A connection to a port of a pod. The right to `create` pods/portforward is needed.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn Stream>, Error> {
        let what = format!("port {port} of pod {namespace}/{pod}");
        let pods: Api<core::Pod> = Api::namespaced(self.watching.upgrading()?, namespace);
        let mut forwarder =
            pods.portforward(pod, &[port]).await.map_err(|error| judged_plain(&what, Refusal::of(&error)))?;
        match forwarder.take_stream(port) {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(Error::Unreachable { what, reason: "it is not forwarded".to_owned() }),
        }
    }
}

fn pod(pod: core::Pod) -> Option<Pod> {
    let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    let ports = containers.into_iter().flat_map(|container| container.ports.unwrap_or_default());
    Some(Pod {
        name: pod.metadata.name?,
        labels: pod.metadata.labels.unwrap_or_default(),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        ports: ports
            .filter_map(|port| Some((port.name?, u16::try_from(port.container_port).ok()?)))
            .collect(),
    })
}
