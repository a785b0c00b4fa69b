//! One bring-up, measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::PATIENCE;
use lifecycle::Graph;
use lifecycle::document::Environment;
use rollcall::command::timeline;
use rollcall::rehearse::{Cast, KafkaStart, Service, Setting, Stage};
use rollcall_proto::diagnostics::v1::GetTimelineResponse;

use super::{answered, answering};

/// How often it is looked who answers.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As `rollcall rehearse` does.
    Rehearsal,
    /// With a hub, and a bus that is there already.
    Push,
    /// Without hub and bus.
    Direct,
    /// As `Direct`, one module after the other.
    Sequential,
}

#[derive(Clone)]
pub(crate) struct Run {
    /// Until every module answered.
    pub(crate) took: Duration,
    /// How many cores of the machine were busy meanwhile.
    pub(crate) cores: f64,
    /// How long Kafka took to answer.
    pub(crate) kafka: Option<Duration>,
    /// What the exporter tells.
    pub(crate) story: Option<GetTimelineResponse>,
    /// How long each module took from its waiter's start to its answer, without the delay it was given. In a sequential run
    /// only.
    pub(crate) modules: BTreeMap<String, Duration>,
}

/// Sets a stage, brings everything up, strikes the stage.
pub(crate) async fn run(how: How, environment: &Environment, program: &Path, delay: Duration) -> Run {
    let bus = matches!(how, How::Rehearsal | How::Push);
    let setting = Setting { bus, kafka: KafkaStart::Later, ..Setting::new(program) };
    let stage = Stage::set(environment, setting).await.unwrap();
    let mut kafka = None;
    if how == How::Push {
        kafka = Some(kafka_start(&stage).await);
    }
    let (mut cast, mut modules) = (Cast::default(), BTreeMap::new());
    let (begun, busy) = (Instant::now(), busy());
    let services = if bus { &Service::ALL[..] } else { &[Service::SecretSyncer, Service::PostgresInit] };
    match how {
        How::Sequential => {
            cast.services(&stage, services).await.unwrap();
            modules = one_by_one(&stage, delay).await;
        }
        How::Rehearsal => {
            let everybody = async {
                cast.services(&stage, services).await.unwrap();
                cast.stand_ins(&stage, None, || delay).await.unwrap();
                everybody_answers(&stage).await;
                begun.elapsed()
            };
            // Kafka may come after the last module that does not need it.
            let (took, started) = tokio::join!(everybody, kafka_start(&stage));
            kafka = Some(started);
            assert!(took >= started, "some module needs Kafka");
        }
        How::Push | How::Direct => {
            cast.services(&stage, services).await.unwrap();
            cast.stand_ins(&stage, None, || delay).await.unwrap();
            everybody_answers(&stage).await;
        }
    }
    let took = begun.elapsed();
    let cores = (self::busy() - busy) / took.as_secs_f64();
    let story = if how == How::Rehearsal { Some(story(&stage).await) } else { None };
    stage.strike().await.unwrap();
    Run { took, cores, kafka, story, modules }
}

async fn kafka_start(stage: &Stage) -> Duration {
    let begun = Instant::now();
    stage.start_kafka().await.unwrap();
    begun.elapsed()
}

async fn one_by_one(stage: &Stage, delay: Duration) -> BTreeMap<String, Duration> {
    for endpoint in stage.environment().endpoints() {
        stage.start_endpoint(endpoint.component.name()).await.unwrap();
    }
    let expected = answering(stage.environment());
    let order = Graph::of(stage.environment()).order().unwrap();
    let mut took = BTreeMap::new();
    for component in
        order.into_iter().flatten().filter(|component| component.kind() == lifecycle::Kind::Module)
    {
        let name = component.name();
        let begun = Instant::now();
        stage.start_module(name, delay).await.unwrap();
        if expected.contains(name) {
            until(stage, |stage| answered(&marks(stage)).contains(name)).await;
            took.insert(name.to_owned(), begun.elapsed().saturating_sub(delay));
        }
    }
    took
}

async fn everybody_answers(stage: &Stage) {
    let expected = answering(stage.environment());
    until(stage, |stage| answered(&marks(stage)).is_superset(&expected)).await;
}

/// Where stand-ins leave their marks.
fn marks(stage: &Stage) -> std::path::PathBuf {
    stage.documents().with_file_name("answered")
}

async fn until(stage: &Stage, holds: impl Fn(&Stage) -> bool) {
    let looking = async {
        while !holds(stage) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, looking).await.is_ok();
    let missing =
        || answering(stage.environment()).difference(&answered(&marks(stage))).cloned().collect::<Vec<_>>();
    assert!(in_time, "not up within {} s: {:?}", PATIENCE.as_secs(), missing());
}

/// The exporter's story, once it has heard of everything.
async fn story(stage: &Stage) -> GetTimelineResponse {
    let asking = async {
        loop {
            match timeline::ask(&stage.url(Service::TelemetryExporter), 0).await {
                Ok(story) if story.complete => return story,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the exporter has not heard of everything")
}

/// Seconds of work that all cores have done since the machine started: user, nice, system, irq, softirq of `/proc/stat`, which
/// counts hundredths.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields = text.lines().next().unwrap().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.map(|field| field.parse().unwrap()).collect();
    (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100.0
}
