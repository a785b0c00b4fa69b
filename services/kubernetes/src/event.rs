//! Events on a pod: where `kubectl describe pod` shows why it waits.

use chassis::grpc::PodReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Cluster, Error};

impl Cluster {
    /// Writes an Event on a pod. `reason` is one word in UpperCamelCase, `note` at most 1 kB of text for people. The right to
    /// create `events` in the pod's namespace is needed.
    pub async fn tell_pod(
        &self,
        pod: &PodReference,
        reason: &str,
        note: &str,
        reporter: &str,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let note = &note[..note.floor_char_boundary(1024)];
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": pod.namespace, "name": format!("{:.230}.{:x}", pod.name, now.as_nanosecond())},
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "eventTime": MicroTime(now), "type": "Normal", "reason": reason, "action": "Waiting", "note": note,
            "reportingController": "rollcall", "reportingInstance": reporter,
        });
        let what = format!("events in namespace {}", pod.namespace);
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", pod.namespace);
        self.create::<Value>(&what, &path, &event).await.map(drop)
    }
}
