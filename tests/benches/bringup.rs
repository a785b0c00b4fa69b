//! OpenG2P brought up on this machine: how long it takes over what it must take, and next to it the same without events and
//! one module after the other.
//!
//! ```sh
//! cargo bench --package acceptance --bench bringup        # 2 to 3 minutes; BENCH_RUNS=1 for a quick look
//! ```
//!
//! The clock runs from the first process (Postgres answers already, the services do not) until every module's stand-in
//! answers its health check; a look at the file system every 5 ms sees that, not Rollcall. Runs:
//! - rehearsal: all documents, Kafka starts with everything else, stand-ins that start as fast as they can. Two bounds:
//!   - `path`: over the critical path as telemetry-exporter tells it, the start of the server at its beginning (Kafka's is
//!     measured in the same run; Postgres answers already) and what each component worked: a thing, from its provisioner's
//!     beginning with it until it was there; a module, from its release until the hub saw it answer. That work was done on
//!     a machine that started some 50 other processes at the time, so this ratio holds waiting and waking against
//!     working; it cannot see what they cost each other.
//!   - `alone`: what the path's server and modules take when nothing else runs: Kafka started alone (in the push run), each
//!     module with its waiter alone (in the sequential run). Secrets, databases and topics count nothing. Nothing could be
//!     faster on this machine, and with few cores not even that can be reached: 50 processes do not start in the time of 5.
//! - push, direct, sequential: the documents without topics and Kafka; each stand-in takes [`START`] longer, as modules do.
//!   Their bound is the longest chain of modules times that: what the documents themselves demand. Push has Kafka running
//!   before the clock starts; direct has neither hub nor Kafka and everybody polls; sequential is direct with a module started
//!   when the one before it answers, as a script does that waits for each (endpoints and provisioners at once).
//!
//! `cores` is how many cores were busy on the whole machine meanwhile: near all of them, the machine is what is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

#[path = "bringup/run.rs"]
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use acceptance::measure::{Spread, asked, number, rollcall, rounded};
use lifecycle::document::{Environment, Source};
use lifecycle::{Component, Graph, Kind};
use run::{How, Run};
use serde_json::{Value, json};

/// How long a module's start takes where it is to take long.
const START: Duration = Duration::from_secs(1);

fn main() {
    if asked("bringup") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    let program = rollcall();
    let all = chassis::documents::load_complete(&[acceptance::openg2p()]).unwrap();
    let bare = without_topics(&all);
    let chain = chain(&bare);
    let runs = number("BENCH_RUNS", 3_usize);
    println!("OpenG2P: {} modules, the longest chain has {chain}; {runs} runs", all.modules().count());

    let sequential = run::run(How::Sequential, &bare, &program, START).await;
    let (mut rehearsals, mut pushed, mut polled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        rehearsals.push(run::run(How::Rehearsal, &all, &program, Duration::ZERO).await);
        pushed.push(run::run(How::Push, &bare, &program, START).await);
        polled.push(run::run(How::Direct, &bare, &program, START).await);
    }

    let alone =
        Alone { kafka: median(pushed.iter().filter_map(|run| run.kafka)), modules: &sequential.modules };
    let mut results: Vec<Value> = rehearsals.iter().map(|run| rehearsal(run, &alone)).collect();
    let bound = START * u32::try_from(chain).unwrap();
    println!("\nmodules that take {} s to start: at least {} s", START.as_secs(), bound.as_secs());
    println!("{:12}{:>10}{:>10}{:>8}", "", "median s", "to bound", "cores");
    let mut compared = serde_json::Map::new();
    for (name, runs) in
        [("push", &pushed[..]), ("direct", &polled), ("sequential", std::slice::from_ref(&sequential))]
    {
        let (took, cores) = (median(runs.iter().map(|run| run.took)), cores(runs));
        let to_bound = took.as_secs_f64() / bound.as_secs_f64();
        println!("{name:12}{:10.2}{to_bound:10.3}{cores:8.2}", took.as_secs_f64());
        let each: Vec<f64> = runs.iter().map(|run| rounded(run.took.as_secs_f64())).collect();
        let line = json!({"runs": each, "median": rounded(took.as_secs_f64()), "to_bound": rounded(to_bound), "cores": rounded(cores)});
        compared.insert(name.to_owned(), line);
    }
    let ratios = ["path_ratio", "alone_ratio"].map(|key| {
        results.sort_by(|a, b| a[key].as_f64().unwrap().total_cmp(&b[key].as_f64().unwrap()));
        (key, results[results.len() / 2][key].clone())
    });
    println!("rehearsal, median: {} times its path, {} times its path alone", ratios[0].1, ratios[1].1);
    println!(
        "{}",
        json!({"bench": "bringup", "unit": "s", "rehearsal": results, "rehearsal_median": BTreeMap::from(ratios), "bound": bound.as_secs(), "kafka_alone": rounded(alone.kafka.as_secs_f64()), "compared": compared})
    );
}

/// What things take when nothing else runs.
struct Alone<'a> {
    kafka: Duration,
    modules: &'a BTreeMap<String, Duration>,
}

/// Prints a rehearsal's line and gives it as JSON.
fn rehearsal(run: &Run, alone: &Alone<'_>) -> Value {
    let story = run.story.as_ref().unwrap();
    let worked = |component: &str| {
        let entry = story.entries.iter().find(|entry| entry.component == component);
        entry.and_then(|entry| Duration::try_from(entry.worked?).ok()).unwrap_or_default()
    };
    let (mut path, mut least, mut steps) = (Duration::ZERO, Duration::ZERO, Vec::new());
    for component in &story.critical_path {
        let (kind, name) = component.split_once('/').unwrap();
        let (took, by_itself) = match kind {
            "kafka" => (run.kafka.unwrap(), alone.kafka),
            // It answers before the clock starts.
            "postgres" => (Duration::ZERO, Duration::ZERO),
            "module" => (worked(component), alone.modules.get(name).copied().unwrap_or_default()),
            _ => (worked(component), Duration::ZERO),
        };
        path += took;
        least += by_itself;
        steps.push(format!("{component} {:.2}", took.as_secs_f64()));
    }
    let took = run.took.as_secs_f64();
    let (to_path, to_least) = (took / path.as_secs_f64(), took / least.as_secs_f64());
    println!(
        "rehearsal {took:.2} s; path {:.2} s ({to_path:.3}); path alone {:.2} s ({to_least:.3}); {:.2} cores; {}",
        path.as_secs_f64(),
        least.as_secs_f64(),
        run.cores,
        steps.join(" → ")
    );
    json!({
        "took": rounded(took), "path": rounded(path.as_secs_f64()), "path_ratio": rounded(to_path),
        "alone": rounded(least.as_secs_f64()), "alone_ratio": rounded(to_least), "cores": rounded(run.cores),
        "kafka": run.kafka.map(|kafka| rounded(kafka.as_secs_f64())), "critical_path": steps,
    })
}

fn median(durations: impl Iterator<Item = Duration>) -> Duration {
    Duration::from_secs_f64(Spread::of(durations).quantile(50) / 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "there are few runs")]
fn cores(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.cores).sum::<f64>() / runs.len() as f64
}

/// The same documents where nobody knows of Kafka.
fn without_topics(environment: &Environment) -> Environment {
    let sources = environment.sources().map(|source| {
        let mut document = source.document.clone();
        document.topics.clear();
        document.kafka.clear();
        document.uses.kafka.clear();
        for module in document.modules.values_mut() {
            module.needs.retain(|need| !matches!(need.component.kind(), Kind::Kafka | Kind::Topic));
        }
        Source { file: source.file.clone(), document }
    });
    let merged = Environment::merge(sources);
    assert!(merged.problems.is_empty(), "{:?}", merged.problems);
    merged.environment.unwrap()
}

/// How many modules stand in the longest chain of start needs.
fn chain(environment: &Environment) -> usize {
    let graph = Graph::of(environment);
    let mut longest: BTreeMap<Component, usize> = BTreeMap::new();
    for component in graph.order().unwrap().into_iter().flatten() {
        let below = graph.start_needs(&component).filter_map(|need| longest.get(&need.component)).max();
        let own = usize::from(component.kind() == Kind::Module);
        let length = below.copied().unwrap_or(0) + own;
        longest.insert(component, length);
    }
    longest.into_values().max().unwrap_or(0)
}

/// The names of modules that answer a health check.
fn answering(environment: &Environment) -> BTreeSet<String> {
    let modules = environment.modules().filter(|module| module.spec.ready.is_some());
    modules.map(|module| module.component.name().to_owned()).collect()
}

/// The names of modules whose stand-ins have left their marks in a folder.
fn answered(marks: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(marks) else { return BTreeSet::new() };
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("module-").map(str::to_owned)).collect()
}
