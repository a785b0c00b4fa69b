//! The cluster that is measured on: namespaces, rights, what is copied, and when each copy was seen to have a value.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use acceptance::cluster::{Cluster, User};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// So many objects are made at once.
const AT_ONCE: usize = 8;

/// The name of a namespace.
pub(crate) fn namespace(number: usize) -> String {
    format!("n{number:04}")
}

/// Makes one Secret of a name in each namespace, some others say.
pub(crate) async fn fill(cluster: &Cluster, secrets: impl Iterator<Item = (String, String)>) {
    stream::iter(secrets)
        .for_each_concurrent(AT_ONCE, |(namespace, name)| async move {
            cluster.secret(&namespace, &name, &[("password", "first"), ("user", "somebody")]).await;
        })
        .await;
}

/// Lets a user get and update Secrets in these namespaces, and watch them.
pub(crate) async fn permit(cluster: &Cluster, user: &str, namespaces: &[String]) {
    let group = "rbac.authorization.k8s.io";
    let rules =
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "update"]}]);
    let metadata = json!({"name": "copier"});
    cluster
        .apply(json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": rules}))
        .await;
    let binding = |namespace: &String| {
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "copier", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "copier"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        })
    };
    stream::iter(namespaces)
        .for_each_concurrent(AT_ONCE, |namespace| cluster.apply(binding(namespace)))
        .await;
}

/// Sees when copies of a name, wherever they are, get a value.
pub(crate) struct Observer {
    seen: mpsc::UnboundedReceiver<(Instant, String, String)>,
    watching: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Observer {
    /// Sees every Secret of this name.
    pub(crate) fn of(name: &str, admin: &User) -> Observer {
        let (tell, seen) = mpsc::unbounded_channel();
        let (api, name): (Api<Secret>, _) = (Api::all(admin.client()), name.to_owned());
        let watching = tokio::spawn(async move {
            loop {
                let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(290);
                let Ok(events) = api.watch(&params, "").await else { continue };
                let mut events = std::pin::pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    let (WatchEvent::Added(secret) | WatchEvent::Modified(secret)) = event else { continue };
                    let value = secret.data.as_ref().and_then(|data| data.get("password"));
                    let text = value.map(|value| String::from_utf8_lossy(&value.0).into_owned());
                    let namespace = secret.metadata.namespace.unwrap_or_default();
                    let _ = tell.send((Instant::now(), namespace, text.unwrap_or_default()));
                }
            }
        });
        Observer { seen, watching }
    }

    /// Waits until the copies in these namespaces have been seen with the value; when the last one was.
    pub(crate) async fn all(&mut self, namespaces: &[String], value: &str, within: Duration) -> Instant {
        let mut open: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
        let looking = async {
            loop {
                let (at, namespace, seen) = self.seen.recv().await.unwrap();
                if seen == value && open.remove(namespace.as_str()) && open.is_empty() {
                    return at;
                }
            }
        };
        tokio::time::timeout(within, looking).await.unwrap_or_else(|_| panic!("{value}: not seen {open:?}"))
    }
}

/// How many requests about Secrets the API server has answered, watches not counted.
pub(crate) async fn requests(admin: &User) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = admin.client().request_text(request).await.unwrap();
    let is_it = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"secrets\"")
            && !line.contains("verb=\"WATCH\"")
    };
    text.lines().filter(is_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
