//! Finding the hub and the exporter of an environment in a cluster, and speaking with them through its API server.

use std::collections::{BTreeMap, BTreeSet};

use chassis::{Exit, Failure};
use clap::Args;
use hyper_util::rt::TokioIo;
use kubernetes::{Cluster, Error, Pod};
use tonic::transport::Endpoint;

use crate::client::{PATIENCE, Reached};

/// Whose pods the charts label so.
const LABELS: &str = "app.kubernetes.io/part-of=rollcall,app.kubernetes.io/component";
/// What the labels are called that hold the release and the chart.
const RELEASE: &str = "app.kubernetes.io/instance";
const CHART: &str = "app.kubernetes.io/name";
/// The name of the port for gRPC.
const PORT: &str = "grpc";

/// Where in a cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct InCluster {
    /// Look in this namespace of the cluster that KUBECONFIG or ~/.kube/config names; with --context alone, in the one that it names.
    #[arg(short, long, help_heading = "In a cluster")]
    namespace: Option<String>,
    /// By this context of the kubeconfig; by its current one when absent.
    #[arg(long, help_heading = "In a cluster")]
    context: Option<String>,
    /// Of this release, where a namespace has several.
    #[arg(long, help_heading = "In a cluster")]
    release: Option<String>,
}

/// What people ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The hub.
    Hub,
    /// The exporter.
    Exporter,
}

impl Part {
    fn component(self) -> &'static str {
        match self {
            Part::Hub => "hub",
            Part::Exporter => "telemetry-exporter",
        }
    }

    /// The option that names its address.
    fn option(self) -> &'static str {
        match self {
            Part::Hub => "hub",
            Part::Exporter => "exporter",
        }
    }
}

impl InCluster {
    /// Whether it is to be looked for in a cluster at all.
    pub(crate) fn is_asked(&self) -> bool {
        self.namespace.is_some() || self.context.is_some() || self.release.is_some()
    }

    /// A connection to it: through the API server, by whatever the kubeconfig's user may.
    pub(crate) async fn reach(&self, asked: Part) -> Result<Reached, Failure> {
        let cluster = Cluster::of_context(self.context.as_deref())
            .await
            .map_err(|error| failed(&error, "give a kubeconfig that says where the cluster is"))?;
        let namespace = self.namespace.clone().unwrap_or_else(|| cluster.default_namespace().to_owned());
        let pods = cluster
            .pods(&namespace, &format!("{LABELS}={}", asked.component()))
            .await
            .map_err(|error| failed(&error, "whoever asks must be allowed to list pods there"))?;
        let (pod, port) = chosen(&pods, self.release.as_deref(), asked, &namespace)?;
        let place = format!("pod {namespace}/{pod}");
        // Each connection is made by way of the API server, and made again when it breaks.
        let connect = {
            let (namespace, pod) = (namespace.clone(), pod.clone());
            tower::service_fn(move |_: tonic::transport::Uri| {
                let (cluster, namespace, pod) = (cluster.clone(), namespace.clone(), pod.clone());
                async move { cluster.forward(&namespace, &pod, port).await.map(TokioIo::new) }
            })
        };
        let endpoint = Endpoint::from_static("http://pod")
            .connect_timeout(PATIENCE)
            .http2_keep_alive_interval(PATIENCE)
            .keep_alive_timeout(PATIENCE)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector(connect).await.map_err(|error| {
            let reason = chassis::exit::chain(&error);
            Failure::new(
                Exit::TryAgain,
                format!(
                    "{place} is not reached through the API server: {reason}; does the pod run, and may you create pods/portforward in namespace {namespace}?"
                ),
            )
        })?;
        Ok(Reached { channel, place })
    }
}

fn failed(error: &Error, hint: &str) -> Failure {
    let exit = if error.is_transient() { Exit::TryAgain } else { Exit::Usage };
    Failure::new(exit, format!("{}; {hint}", chassis::exit::chain(error)))
}

/// The pod that is asked, and its port: of one release and one chart only, a ready one before one that is not, which may still
/// say why. One that has ended says nothing.
fn chosen(
    pods: &[Pod],
    release: Option<&str>,
    asked: Part,
    namespace: &str,
) -> Result<(String, u16), Failure> {
    let label = |pod: &Pod, name: &str| pod.labels.get(name).cloned().unwrap_or_default();
    let of = |pod: &Pod| label(pod, RELEASE);
    let live = || pods.iter().filter(|pod| !pod.ended);
    let releases: BTreeSet<String> = live().map(of).collect();
    let releases: Vec<String> = releases.into_iter().collect();
    let what = asked.component();
    let release = match (release, &releases[..]) {
        (Some(release), _) => release,
        (None, [one]) => one,
        (None, []) => {
            return Err(Failure::usage(format!(
                "no pod of a {what} is in namespace {namespace}; is it installed there (`helm list -n {namespace}`), or in another namespace or context?"
            )));
        }
        (None, several) => {
            return Err(Failure::usage(format!(
                "namespace {namespace} has a {what} of each of the releases {}; say which with --release",
                several.join(", ")
            )));
        }
    };
    let ours = || live().filter(|pod| of(pod) == release);
    // Two charts of one release that both have one: neither is known to be meant.
    let charts: BTreeMap<String, &str> = ours().map(|pod| (label(pod, CHART), pod.name.as_str())).collect();
    if charts.len() > 1 {
        let each: Vec<String> =
            charts.iter().map(|(chart, pod)| format!("pod {pod} of chart {chart}")).collect();
        return Err(Failure::usage(format!(
            "release {release} has more than one {what} in namespace {namespace}: {}; an environment has one, so take the other out, \
             or forward a port to the one that is meant and name it with --{}",
            each.join(", "),
            asked.option(),
        )));
    }
    let Some(pod) = ours().find(|pod| pod.ready).or_else(|| ours().next()) else {
        return Err(Failure::usage(format!(
            "release {release} has no pod of a {what} in namespace {namespace}; there are {}",
            if releases.is_empty() { "none".to_owned() } else { releases.join(", ") }
        )));
    };
    let Some(port) = pod.ports.get(PORT) else {
        return Err(Failure::usage(format!(
            "pod {namespace}/{} has no port called {PORT}; is it of a chart of Rollcall?",
            pod.name
        )));
    };
    Ok((pod.name.clone(), *port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, release: &str, ready: bool) -> Pod {
        Pod {
            name: name.to_owned(),
            labels: [(RELEASE, release), (CHART, "environment")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ended: false,
            ready,
            ports: [("grpc".to_owned(), 7070), ("health".to_owned(), 7071)].into(),
        }
    }

    #[test]
    fn the_one_that_is_meant_is_asked_or_it_is_said_which_there_are() {
        let (a, b, late) = (pod("a", "one", true), pod("b", "two", true), pod("0", "one", false));
        let mut other = pod("z", "one", true);
        other.labels.insert(CHART.to_owned(), "wait-for-dependency".to_owned());
        let evicted = Pod { ended: true, ..pod("0", "gone", true) };
        let named = |name: &str| Ok((name.to_owned(), 7070));
        for (pods, release, found) in [
            (vec![a.clone()], None, named("a")),
            (vec![late.clone(), a.clone()], None, named("a")),
            (vec![late.clone()], None, named("0")),
            (vec![a.clone(), b.clone()], Some("two"), named("b")),
            (vec![a.clone(), b.clone()], None, Err("releases one, two; say which with --release")),
            (vec![a.clone()], Some("two"), Err("there are one")),
            (vec![evicted.clone(), a.clone()], None, named("a")),
            (vec![evicted.clone()], None, Err("no pod of a hub is in namespace shop")),
            (vec![Pod { ended: true, ..late.clone() }, a.clone(), b.clone()], Some("one"), named("a")),
            (
                vec![a.clone(), other.clone()],
                None,
                Err("pod a of chart environment, pod z of chart wait-for-dependency"),
            ),
            (
                vec![a.clone(), b.clone(), other.clone()],
                Some("one"),
                Err("more than one hub in namespace shop"),
            ),
            (vec![a.clone(), b.clone(), other.clone()], Some("two"), named("b")),
            (vec![], Some("two"), Err("there are none")),
            (vec![], None, Err("no pod of a hub is in namespace shop")),
            (vec![Pod { ports: [].into(), ..a.clone() }], None, Err("no port called grpc")),
        ] {
            match (chosen(&pods, release, Part::Hub, "shop"), found) {
                (Ok(is), Ok(should)) => assert_eq!(is, should),
                (Err(is), Err(should)) => assert!(is.message.contains(should), "{}", is.message),
                other => panic!("{other:?}"),
            }
        }
    }
}
