//! From "the dependency is ready" to "the waiter is released", side by side in one run, for a TCP port and for a Postgres
//! login.
//!
//! ```sh
//! cargo bench --package acceptance --bench release        # 3 minutes; BENCH_SAMPLES=20 for a quick look
//! ```
//!
//! *Ready* is when `listen()` has returned, or when the server has acknowledged `ALTER ROLE … LOGIN`. *Released* is when the
//! waiter's process has ended; that it then would become its command costs everybody alike. Waiters:
//! - push: `wait --module` with a hub. Who makes the dependency tells of it, at once and after it is ready, as in an
//!   environment: a module to the hub over gRPC, a database on Kafka as postgres-init does. Last words to the hub are part of it.
//! - direct: `wait --tcp …` or `--postgres …` without a hub: own polling, 100 ms growing to 1 s with jitter. As
//!   `--interval 1s` is its default, there is no other row for that.
//! - shell: what people write, `until …; do sleep 1; done`, with bash's `/dev/tcp` and with psql.
//!
//! The three take their samples at the same time, [`LANES`] each, so a busy machine is busy for all of them. Each sample's
//! dependency becomes ready 2 to 4 s after its waiter was started (backoff has grown to its end by then), spread evenly.
//! Beside the latencies: how many were woken by news, and not by own polling.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

#[path = "release/dependency.rs"]
mod dependency;
#[path = "release/waiter.rs"]
mod waiter;

use std::sync::Arc;
use std::time::Duration;

use acceptance::measure::{Spread, asked, in_path, number, rollcall, rounded};
use acceptance::{documents, environment};
use dependency::{Dependency, Kind, News};
use rollcall::rehearse::{Service, Setting, Stage};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use waiter::{Method, Sample};

/// So many samples of each kind of waiter are under way at once.
const LANES: usize = 10;

fn main() {
    if asked("release") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    let program = rollcall();
    let environment = environment(&[document()]);
    let stage = Arc::new(Stage::set(&environment, Setting::new(program)).await.unwrap());
    stage.start_kafka().await.unwrap();
    let _hub = stage.start_service(Service::WaitForDependency).await.unwrap();
    for provisioner in [Service::SecretSyncer, Service::PostgresInit] {
        let documents = stage.documents().display().to_string();
        let apply = stage.process(provisioner.name()).args([provisioner.name(), "apply", documents.as_str()]);
        stage.sandbox().run(apply, Duration::from_mins(1)).await.unwrap();
    }
    let news = Arc::new(News::start(&stage).await);
    let samples = number("BENCH_SAMPLES", 200_usize);
    println!("from ready to released, in ms; {samples} samples each, {LANES} at a time");
    println!("{:18}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "p50", "p90", "p99", "max", "woken");
    let tcp = race(Kind::Tcp, samples, &stage, &news).await;
    let login = race(Kind::Login, samples, &stage, &news).await;
    println!("{}", json!({"bench": "release", "unit": "ms", "samples": samples, "tcp": tcp, "login": login}));
    drop(news);
    Arc::into_inner(stage).expect("all lanes have ended").strike().await.unwrap();
}

/// One dependency and one waiter a lane for push; the other methods look at things that no document speaks of.
fn document() -> String {
    let mut text = documents::small("bench", 0xbe, documents::PLAIN);
    text.truncate(text.find("databases:").unwrap());
    let lanes = |line: &dyn Fn(usize) -> String| (0..LANES).map(line).collect::<String>();
    let databases = lanes(&|i| {
        format!(
            "  lane{i}: {{server: main, roles: {{app: {{name: lane{i}, password: {{secret: lane{i}, key: password}}, ddl: as-owner}}}}}}\n"
        )
    });
    let secrets = lanes(&|i| format!("  lane{i}: {{generate: {{password: {{kind: password}}}}}}\n"));
    let modules = lanes(&|i| {
        format!(
            "  port{i}: {{ready: {{tcp: {{address: \"port{i}:1\"}}}}}}\n  tcp{i}: {{needs: [module/port{i}]}}\n  login{i}: {{needs: [database/lane{i}]}}\n"
        )
    });
    format!(
        "{text}databases:\n{databases}secrets:\n  postgresql: {{external: true}}\n  observer: {{generate: {{password: {{kind: password}}}}}}\n{secrets}modules:\n{modules}"
    )
}

/// Takes the samples of all methods at once, prints a line for each and gives them as JSON.
async fn race(kind: Kind, samples: usize, stage: &Arc<Stage>, news: &Arc<News>) -> Value {
    let methods = Method::ALL.into_iter().filter(|method| match (method, kind) {
        (Method::Shell, Kind::Login) => in_path("psql"),
        _ => true,
    });
    let methods: Vec<Method> = methods.collect();
    let mut lanes = JoinSet::new();
    for (i, method) in methods.iter().copied().cycle().take(methods.len() * LANES).enumerate() {
        let (stage, news, number) = (stage.clone(), news.clone(), i / methods.len());
        lanes.spawn(async move {
            tokio::time::sleep(Duration::from_millis(97) * u32::try_from(i).unwrap()).await;
            let dependency = Dependency::new(kind, method, number, &stage).await;
            (method, lane(dependency, method, number, samples, &stage, &news).await)
        });
    }
    let taken: Vec<(Method, Vec<Sample>)> = lanes.join_all().await;
    let of = |method: Method| taken.iter().filter(move |(m, _)| *m == method).flat_map(|(_, taken)| taken);
    let spread = |method: Method| Spread::of(of(method).map(|sample| sample.latency));
    let push = spread(Method::Push);
    let mut result = serde_json::Map::new();
    for method in methods {
        let (found, woken) = (spread(method), of(method).filter(|sample| sample.woken).count());
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|hundredths| found.quantile(hundredths));
        let times = |hundredths| found.quantile(hundredths) / push.quantile(hundredths);
        let label = format!("{} {}", kind.name(), method.name());
        print!("{label:18}{p50:9.1}{p90:9.1}{p99:9.1}{max:9.1}{woken:9}");
        println!("   p50 {:.1} and p99 {:.1} times push's", times(50), times(99));
        let line = json!({
            "samples": found.len(), "woken": woken,
            "p50": rounded(p50), "p90": rounded(p90), "p99": rounded(p99), "max": rounded(max),
            "p50_to_push": rounded(times(50)), "p99_to_push": rounded(times(99)),
        });
        result.insert(method.name().to_owned(), line);
    }
    Value::Object(result)
}

/// One lane's share of the samples, one after the other.
async fn lane(
    mut dependency: Dependency,
    method: Method,
    number: usize,
    samples: usize,
    stage: &Stage,
    news: &News,
) -> Vec<Sample> {
    let mut taken = Vec::new();
    for sample in (number..samples).step_by(LANES) {
        dependency.absent(news).await;
        let waiter = waiter::start(method, &dependency, number, stage);
        tokio::time::sleep(Duration::from_secs_f64(2.0 + 2.0 * phase(sample))).await;
        let ready = dependency.present(news).await;
        taken.push(waiter::released(waiter, ready, &dependency).await);
    }
    taken
}

/// Evenly spread over 0 to 1 in an order without rhythm: multiples of the golden ratio.
#[allow(clippy::cast_precision_loss, reason = "there are never so many samples")]
fn phase(sample: usize) -> f64 {
    (sample as f64 * 0.618_033_988_749_895).fract()
}
