//! What every service answers, asked by real clients: health, reflection, its own account, metrics; and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use acceptance::documents::{plain, uid_text};
use acceptance::{PATIENCE, ask, environment, follow, stage, until};
use rollcall::rehearse::{Cast, Service, Stage};
use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use rollcall_proto::diagnostics::v1::provisioner_client::ProvisionerClient;
use rollcall_proto::diagnostics::v1::{
    ConvergeRequest, GetPlanRequest, GetStatusRequest, HistoryRequest, Mode,
};
use rollcall_proto::lifecycle::v1::Phase;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

const MAKERS: [Service; 3] = [Service::SecretSyncer, Service::PostgresInit, Service::TopicProvisioner];

#[tokio::test]
async fn every_service_tells_of_itself_and_ends_in_order() {
    let stage = stage(&environment(&[plain()]), |_| {}).await;
    let mut cast = Cast::default();
    cast.services(&stage, &Service::ALL).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    stage.start_kafka().await.unwrap();
    follow(&stage, |board| board.missing().is_empty()).await;
    for service in Service::ALL {
        says_it_is_healthy(&stage, service).await;
        tells_what_it_serves(&stage, service).await;
        tells_who_it_is(&stage, service).await;
        tells_its_plan(&stage, service).await;
        looks_when_it_is_asked_to(&stage, service).await;
        counts(&stage, service).await;
    }
    the_exporter_tells_the_bring_up(&stage).await;
    for service in Service::ALL {
        ends_in_order(&stage, &cast, service).await;
    }
    stage.strike().await.unwrap();
}

async fn says_it_is_healthy(stage: &Stage, service: Service) {
    let mut client = HealthClient::new(ask::health(stage, service).await);
    for name in ["", "liveness", "readiness"] {
        let answer = client.check(HealthCheckRequest { service: name.to_owned() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?} `{name}`");
    }
    let unknown = client.check(HealthCheckRequest { service: "nobody".to_owned() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound, "{service:?}");
    let mut reflection = Reflection::of(ask::health(stage, service).await).await;
    assert!(reflection.services().await.contains("grpc.health.v1.Health"), "{service:?}");
}

async fn tells_what_it_serves(stage: &Stage, service: Service) {
    let mut reflection = Reflection::of(ask::grpc(stage, service).await).await;
    let services = reflection.services().await;
    let own = |name: &str| format!("rollcall.diagnostics.v1.{name}");
    let serves = |name: &str| services.contains(&own(name));
    assert!(serves("Diagnostics"), "{service:?}: {services:?}");
    assert_eq!(serves("Provisioner"), MAKERS.contains(&service), "{service:?}: {services:?}");
    assert_eq!(serves("Hub"), service == Service::WaitForDependency, "{service:?}: {services:?}");
    assert_eq!(serves("Timeline"), service == Service::TelemetryExporter, "{service:?}: {services:?}");
    // A client without our files can call what is listed.
    for name in services {
        match reflection.ask(MessageRequest::FileContainingSymbol(name.clone())).await {
            MessageResponse::FileDescriptorResponse(files) => {
                assert!(!files.file_descriptor_proto.is_empty(), "{service:?}: {name}");
            }
            other => panic!("{service:?}: {name}: {other:?}"),
        }
    }
}

async fn tells_who_it_is(stage: &Stage, service: Service) {
    let client = DiagnosticsClient::new(ask::grpc(stage, service).await);
    // A fresh start may still be connecting to the bus when all modules are ready.
    until(&format!("{service:?} is in mode push"), async || {
        client.clone().get_status(GetStatusRequest {}).await.unwrap().into_inner().mode() == Mode::Push
    })
    .await;
    let status = client.clone().get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.service, service.name());
    let environment = status.environment.clone().unwrap();
    assert_eq!((environment.name, environment.uid), ("shop".to_owned(), uid_text(0x5109)), "{service:?}");
    assert!(!status.version.is_empty() && status.started.is_some() && status.generation > 0, "{status:?}");
    let concern = match service {
        Service::SecretSyncer => "secret/shop/shop-db",
        Service::TopicProvisioner => "topic/shop.orders",
        Service::PostgresInit => "database/shop",
        Service::WaitForDependency | Service::TelemetryExporter => "module/portal",
    };
    let components: BTreeSet<&str> = status.components.iter().map(|c| c.component.as_str()).collect();
    assert!(components.contains(concern), "{service:?}: {components:?}");
}

async fn tells_its_plan(stage: &Stage, service: Service) {
    let mut client = DiagnosticsClient::new(ask::grpc(stage, service).await);
    let answer = client.get_plan(GetPlanRequest {}).await;
    if MAKERS.contains(&service) {
        let plan = answer.unwrap().into_inner();
        let open = [plan.steps, plan.refusals, plan.drift, plan.pending].concat();
        assert!(open.is_empty(), "{service:?}: {open:?}");
    } else {
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{service:?}");
    }
}

async fn looks_when_it_is_asked_to(stage: &Stage, service: Service) {
    if !MAKERS.contains(&service) {
        return;
    }
    let mut client = ProvisionerClient::new(ask::grpc(stage, service).await);
    let history = client.history(HistoryRequest::default()).await.unwrap().into_inner();
    assert!(history.changes.iter().any(|change| change.error.is_empty()), "{service:?}: {history:?}");
    let mut told = client.converge(ConvergeRequest::default()).await.unwrap().into_inner();
    let mut states = 0;
    while let Some(answer) = told.message().await.unwrap() {
        let seen = answer.state.unwrap();
        assert_eq!(seen.phase(), Phase::Ready, "{service:?}: {seen:?}");
        states += 1;
    }
    assert!(states > 0, "{service:?}");
    // It was looked at, and nothing had to be made.
    let later = client.history(HistoryRequest::default()).await.unwrap().into_inner();
    assert_eq!(later, history, "{service:?}");
    let unknown = ConvergeRequest { components: vec!["database/nobodys".to_owned()] };
    assert_eq!(client.converge(unknown).await.unwrap_err().code(), Code::NotFound, "{service:?}");
}

async fn counts(stage: &Stage, service: Service) {
    let (head, body) = ask::metrics(stage, service).await;
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200 OK"), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    let samples = openmetrics(&body);
    let build = find(&samples, "rollcall_build_info", &[&format!("service=\"{}\"", service.name())]);
    assert_eq!(build, Some(1.0), "{body}");
}

async fn the_exporter_tells_the_bring_up(stage: &Stage) {
    let exporter = async || openmetrics(&ask::metrics(stage, Service::TelemetryExporter).await.1);
    let whose = r#"environment="shop""#;
    until("the exporter has heard of all", async || {
        find(&exporter().await, "rollcall_environment_complete", &[whose]) == Some(1.0)
    })
    .await;
    let samples = exporter().await;
    for component in ["module/portal", "database/shop", "topic/shop.orders", "secret/shop/web-db"] {
        let which = format!("component=\"{component}\"");
        for (phase, value) in [("ready", 1.0), ("waiting", 0.0), ("failed", 0.0)] {
            let labels = [whose, &which, &format!("phase=\"{phase}\"")];
            assert_eq!(
                find(&samples, "rollcall_component_phase", &labels),
                Some(value),
                "{component} {phase}"
            );
        }
        let time = find(&samples, "rollcall_component_time_to_ready_seconds", &[whose, &which]);
        // What was made before the hub began the bring-up took none of its time.
        let least = if component.starts_with("module/") { 0.001 } else { 0.0 };
        assert!(time.is_some_and(|seconds| seconds >= least), "{component}: {time:?}");
    }
}

/// At SIGTERM health says "not serving" while requests still drain; then the process ends with 0.
async fn ends_in_order(stage: &Stage, cast: &Cast, service: Service) {
    // An open stream: gRPC drains until it ends.
    let mut open = Reflection::of(ask::grpc(stage, service).await).await;
    open.services().await;
    let mut health = HealthClient::new(ask::health(stage, service).await);
    let watched = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
    let mut watched = watched.into_inner();
    let mut next = async || watched.message().await.unwrap().map(|answer| answer.status());
    assert_eq!(next().await, Some(ServingStatus::Serving), "{service:?}");
    let handle = cast.player(service.name()).unwrap();
    let refused = async {
        assert_eq!(next().await, Some(ServingStatus::NotServing), "{service:?}");
        drop(open);
    };
    let (stopped, ()) = tokio::join!(handle.stop(PATIENCE), refused);
    stopped.unwrap();
    let exit = handle.exited(PATIENCE).await.unwrap();
    assert!(exit.success(), "{service:?} ended with {exit}");
}

/// A stream of questions about what a server serves.
struct Reflection {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

impl Reflection {
    async fn of(channel: Channel) -> Reflection {
        let (questions, asked) = mpsc::channel(1);
        let mut client = ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(ReceiverStream::new(asked)).await;
        Reflection { questions, answers: answers.unwrap().into_inner() }
    }

    async fn ask(&mut self, question: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        self.questions.send(request).await.unwrap();
        self.answers.message().await.unwrap().unwrap().message_response.unwrap()
    }

    async fn services(&mut self) -> BTreeSet<String> {
        match self.ask(MessageRequest::ListServices(String::new())).await {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// The one sample of this name with all of these labels.
fn find(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> Option<f64> {
    let all = |series: &str| labels.iter().all(|label| series.contains(label));
    let mut found =
        samples.iter().filter(|(series, _)| series.starts_with(&format!("{name}{{")) && all(series));
    let first = found.next().map(|(_, value)| *value);
    assert!(found.next().is_none(), "{name} {labels:?} is there twice");
    first
}

/// Reads OpenMetrics text as a strict scraper would; gives each series' value.
fn openmetrics(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
    let (mut family, mut families, mut samples) = (("", ""), BTreeSet::new(), BTreeMap::new());
    for line in body.lines() {
        let bad = || -> ! { panic!("not OpenMetrics: `{line}` in\n{text}") };
        if let Some(described) = line.strip_prefix("# ") {
            let mut words = described.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some(kind)) => {
                    assert!(families.insert(name), "{name} is declared twice");
                    family = (name, kind);
                }
                (Some("HELP" | "UNIT"), Some(name), Some(_))
                    if name == family.0 || !families.contains(name) => {}
                _ => bad(),
            }
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ') else { bad() };
        let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
        let suffixes: &[&str] = match family.1 {
            "counter" => &["_total", "_created"],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count", "_created"],
            "gauge" | "unknown" => &[""],
            _ => bad(),
        };
        let known = name.strip_prefix(family.0).is_some_and(|suffix| suffixes.contains(&suffix));
        if !known || !labels.is_none_or(labelled) {
            bad();
        }
        let Ok(value) = value.parse::<f64>() else { bad() };
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there twice");
    }
    samples
}

/// Whether this is `name="value",…}` with what must be escaped escaped.
fn labelled(mut rest: &str) -> bool {
    loop {
        let Some((name, value)) = rest.split_once("=\"") else { return rest == "}" };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return false;
        }
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { return false };
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest == "}",
        }
    }
}

#[test]
fn the_reader_of_metrics_is_strict() {
    let good = "# HELP a_seconds A.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds{x=\"\\\"{}\",y=\"\"} 1.5\n# EOF\n";
    assert_eq!(openmetrics(good).into_iter().next().unwrap().1.to_string(), "1.5");
    for (from, to) in
        [("# EOF\n", ""), ("1.5", "one"), ("y=\"\"", "y="), ("a_seconds{", "b{"), ("gauge", "counter")]
    {
        let bad = good.replacen(from, to, 1);
        assert!(std::panic::catch_unwind(|| openmetrics(&bad)).is_err(), "{bad}");
    }
}
