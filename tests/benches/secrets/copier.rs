//! What people run: a controller that hears of a change of its source and then, for one copy after the other, gets it and
//! updates it, with the limit that clients of Kubernetes have unless told otherwise, or without.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// client-go's `DefaultQPS` and `DefaultBurst` (k8s.io/client-go/rest/config.go).
const RATE: f64 = 5.0;
const BURST: f64 = 10.0;
/// client-go's workqueue tries again after 5 ms, then twice as long each time; this is the longest here.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));

/// A copier. It ends when it is dropped.
pub(crate) struct Copier(JoinHandle<()>);

impl Drop for Copier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Copies one source to several namespaces under the same name.
pub(crate) struct Job {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) targets: Vec<String>,
    pub(crate) limited: bool,
}

impl Job {
    /// Copies now and whenever the source changes.
    pub(crate) fn start(self) -> Copier {
        Copier(tokio::spawn(async move {
            let limit = self.limited.then(|| Arc::new(Mutex::new((BURST, Instant::now()))));
            loop {
                let source: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
                let params =
                    WatchParams::default().fields(&format!("metadata.name={}", self.name)).timeout(290);
                let Ok(events) = source.watch(&params, "").await else { continue };
                let mut events = std::pin::pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) = event {
                        self.copy(secret.data.unwrap_or_default(), limit.as_deref()).await;
                    }
                }
            }
        }))
    }

    async fn copy(&self, data: BTreeMap<String, ByteString>, limit: Option<&Mutex<(f64, Instant)>>) {
        let mut queue: Vec<(Instant, Duration, &String)> =
            self.targets.iter().map(|target| (Instant::now(), AGAIN.0, target)).collect();
        let mut given_up = 0;
        while !queue.is_empty() {
            let mut later = Vec::new();
            for (when, delay, target) in queue {
                tokio::time::sleep_until(when).await;
                if self.update(target, &data, limit).await.is_err() && given_up < 5 {
                    // For good after some tries: its source's next change is to be heard too.
                    given_up += 1;
                    later.push((Instant::now() + delay, AGAIN.1.min(delay * 2), target));
                }
            }
            queue = later;
        }
    }

    async fn update(
        &self,
        namespace: &str,
        data: &BTreeMap<String, ByteString>,
        limit: Option<&Mutex<(f64, Instant)>>,
    ) -> Result<(), kube::Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        turn(limit).await;
        let mut secret = api.get(&self.name).await?;
        if secret.data.as_ref() != Some(data) {
            secret.data = Some(data.clone());
            turn(limit).await;
            api.replace(&self.name, &PostParams::default(), &secret).await?;
        }
        Ok(())
    }
}

/// Takes a token out of the bucket, which fills at [`RATE`] up to [`BURST`].
async fn turn(limit: Option<&Mutex<(f64, Instant)>>) {
    let Some(limit) = limit else { return };
    let mut bucket = limit.lock().await;
    bucket.0 = (bucket.0 + bucket.1.elapsed().as_secs_f64() * RATE).min(BURST) - 1.0;
    bucket.1 = Instant::now();
    if bucket.0 < 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(-bucket.0 / RATE)).await;
    }
}
