//! What secret-syncer, as a process over a cluster, says of itself, and that no value is in anything it says or leaves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use rollcall_proto::diagnostics::v1::{ComponentState, GetPlanRequest, GetStatusRequest};
use rollcall_proto::lifecycle::v1::Phase;
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::Cluster;
use crate::traces::{Forms, files};
use crate::{PATIENCE, ask, until};

/// secret-syncer as a process.
pub struct Service {
    /// The process.
    pub handle: sandbox::Handle,
    /// Its log.
    pub log: PathBuf,
    /// The port of gRPC.
    pub grpc: u16,
    /// The port of health.
    pub health: u16,
    /// The port of metrics.
    pub metrics: u16,
}

impl Service {
    /// Waits until it answers.
    pub async fn answers(&self) {
        until("secret-syncer answers", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.grpc)).await.is_ok()
                && tokio::net::TcpStream::connect(("127.0.0.1", self.metrics)).await.is_ok()
        })
        .await;
    }

    /// What it says of every object, by name.
    pub async fn states(&self) -> BTreeMap<String, ComponentState> {
        let mut client = DiagnosticsClient::new(ask::channel(self.grpc).await);
        let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        status.components.into_iter().map(|state| (state.component.clone(), state)).collect()
    }

    /// Waits until it says of an object that it is in a phase, with this in its reason or error.
    pub async fn says(&self, component: &str, phase: Phase, text: &str) {
        let what = format!("{component} is {}: {text}", phase.as_str_name());
        until(&what, async || {
            self.states().await.get(component).is_some_and(|state| {
                let error = state.evidence.as_ref().map(|evidence| evidence.error.clone());
                state.phase == phase as i32
                    && (state.reason.contains(text) || error.unwrap_or_default().contains(text))
            })
        })
        .await;
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        ask::metrics_of(self.metrics).await.1
    }

    /// A sample of its metrics, by its name and labels as they are written there; 0 when there is none.
    pub async fn metric(&self, sample: &str) -> f64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many objects stand so by its metrics, which follow what it says of one object a moment later.
    pub async fn targets(&self, state: &str) -> usize {
        let count = self.metric(&format!("rollcall_secret_targets{{state=\"{state}\"}}")).await;
        format!("{count}").parse().unwrap()
    }

    /// Waits until so many objects stand so.
    pub async fn counts(&self, state: &str, objects: usize) {
        let started = std::time::Instant::now();
        while self.targets(state).await != objects {
            if started.elapsed() > PATIENCE {
                let metrics = self.metrics().await;
                let counts: Vec<&str> =
                    metrics.lines().filter(|line| line.starts_with("rollcall_secret_targets{")).collect();
                panic!("{objects} are not {state}: {counts:#?}\n{}", self.text());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it says that it is live.
    pub async fn is_live(&self) -> bool {
        let mut client = HealthClient::new(ask::channel(self.health).await);
        let request = HealthCheckRequest { service: "liveness".to_owned() };
        client.check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
    }

    /// Its log so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Asserts that planted runs of letters and digits are nowhere but in the data of Secrets and ConfigMaps: not in what the
/// processes say and were started with, not in the files below the cluster's folder but etcd's, not in Events, and not in what
/// objects say besides their data.
pub async fn nowhere(cluster: &Cluster, services: &[&Service], planted: &[&str]) {
    let mut places = files(cluster.dir(), &[]);
    // What servers keep of what they were given is their own; everything else here is ours or a server's log.
    let kept = ["/etcd/", "/keycloak-", "/vault-"];
    let is_log = |place: &str| std::path::Path::new(place).extension().is_some_and(|ending| ending == "log");
    places.retain(|place, _| !kept.iter().any(|part| place.contains(part)) || is_log(place));
    for service in services {
        let mut client = DiagnosticsClient::new(ask::channel(service.grpc).await);
        let name = service.handle.name();
        let status = client.get_status(GetStatusRequest {}).await.unwrap();
        places.insert(format!("status of {name}"), format!("{status:?}"));
        places.insert(format!("plan of {name}"), format!("{:?}", client.get_plan(GetPlanRequest {}).await));
        places.insert(format!("metrics of {name}"), service.metrics().await);
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{}/{file}", service.handle.pid().unwrap());
            let text = std::fs::read(&path).unwrap();
            places.insert(format!("{file} of {name}"), String::from_utf8_lossy(&text).into_owned());
        }
    }
    let admin = cluster.admin();
    let list = async |path: &str| admin.call("GET", path, None).await.unwrap();
    places.insert("Events".to_owned(), list("/api/v1/events").await.to_string());
    let mut data = String::new();
    for kind in ["secrets", "configmaps"] {
        for mut object in list(&format!("/api/v1/{kind}")).await["items"].as_array().unwrap().clone() {
            for held in ["data", "binaryData"] {
                data.push_str(&object[held].to_string());
                object[held] = Value::Null;
            }
            let name = format!("{kind} {}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
            places.insert(name, object.to_string());
        }
    }
    // The search can fail: values are found where they are, and what is searched holds what it must.
    for service in services {
        let log = service.text();
        assert!(
            log.contains("\"TRACE\"") && log.contains("asks the API server"),
            "{}",
            service.log.display()
        );
    }
    assert!(places.values().any(|text| text.contains("rollcall_secret_targets")));
    assert!(places.iter().any(|(place, text)| place.contains("secrets") && text.contains("managedFields")));
    let mut leaks = Vec::new();
    for run in planted {
        let forms = Forms::of(run);
        assert!(forms.within(&data).is_some(), "{run} is not even in the cluster");
        let leaked =
            |(place, text): (&String, &String)| Some(format!("{place}: {run} as {}", forms.within(text)?));
        leaks.extend(places.iter().filter_map(leaked));
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}
