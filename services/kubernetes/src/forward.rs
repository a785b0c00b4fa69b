//! Speaking with a pod through the API server, as `kubectl port-forward` does, but without a port of this machine.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{ListParams, ObjectList};
use kube::core::request::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::{Refusal, judged_plain};
use crate::{Cluster, Error};

/// A connection to a pod is made within this, by way of the API server and of the pod's node.
const CONNECT: Duration = Duration::from_secs(10);

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
    /// It has ended, for good: it was evicted, say.
    pub ended: bool,
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

    /// A connection to a port of a pod. The right to `create` pods/portforward is needed. What the pod's node says when it does
    /// not reach the port is the error of whoever reads.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn Stream>, Error> {
        let what = format!("port {port} of pod {namespace}/{pod}");
        let pods: Api<core::Pod> = Api::namespaced(self.watching.upgrading()?, namespace);
        let unreachable = |reason: String| Error::Unreachable { what: what.clone(), reason };
        let mut forwarder = tokio::time::timeout(CONNECT, pods.portforward(pod, &[port]))
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|error| judged_plain(&what, Refusal::of(&error)))?;
        match (forwarder.take_stream(port), forwarder.take_error(port)) {
            (Some(stream), Some(said)) => Ok(Box::new(Forwarded { stream, said: Some(said.boxed()) })),
            _ => Err(unreachable("it is not forwarded".to_owned())),
        }
    }
}

/// A forwarded port that fails with what the node says of it.
struct Forwarded<S> {
    stream: S,
    /// What the node says, until it has said it or will say nothing any more.
    said: Option<BoxFuture<'static, Option<String>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Forwarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the bytes: the node says it once and leaves the connection as it is.
        if let Some(said) = &mut self.said
            && let Poll::Ready(reason) = said.poll_unpin(context)
        {
            self.said = None;
            if let Some(reason) = reason {
                return Poll::Ready(Err(io::Error::other(format!("the pod's node says: {}", reason.trim()))));
            }
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Forwarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn pod(pod: core::Pod) -> Option<Pod> {
    let status = pod.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    let ports = containers.into_iter().flat_map(|container| container.ports.unwrap_or_default());
    Some(Pod {
        name: pod.metadata.name?,
        labels: pod.metadata.labels.unwrap_or_default(),
        ended: status.phase.is_some_and(|phase| phase == "Failed" || phase == "Succeeded"),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        ports: ports
            .filter_map(|port| Some((port.name?, u16::try_from(port.container_port).ok()?)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future::{pending, ready};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_the_node_says_is_why_nothing_comes() {
        let (near, mut far) = tokio::io::duplex(64);
        let said = ready(Some("connection refused\n".to_owned())).boxed();
        let mut refused = Forwarded { stream: near, said: Some(said) };
        let error = refused.read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "the pod's node says: connection refused");
        // What comes all the same comes.
        far.write_all(b"x").await.unwrap();
        assert_eq!(refused.read_u8().await.unwrap(), b'x');

        for said in [pending().boxed(), ready(None).boxed()] {
            let (near, mut far) = tokio::io::duplex(64);
            let mut forwarded = Forwarded { stream: near, said: Some(said) };
            far.write_all(b"hello").await.unwrap();
            forwarded.write_all(b"there").await.unwrap();
            let mut heard = [0; 5];
            forwarded.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"there");
            drop(far);
            assert_eq!(forwarded.read(&mut heard).await.unwrap(), 0);
        }
    }

    #[test]
    fn a_pod_that_has_ended_is_known() {
        for (phase, ended) in [("Running", false), ("Pending", false), ("Failed", true), ("Succeeded", true)]
        {
            let json = serde_json::json!({"metadata": {"name": "hub"}, "status": {"phase": phase}});
            let found = pod(serde_json::from_value(json).unwrap()).unwrap();
            assert_eq!(found.ended, ended, "{phase}");
        }
    }
}
