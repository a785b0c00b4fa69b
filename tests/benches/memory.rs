//! Idle memory of each service, of waiters and of a stand-in, and the size of the programs.
//!
//! ```sh
//! cargo bench --package acceptance --bench memory                      # about a minute, after building
//! BENCH_PROFILE=dist cargo bench --package acceptance --bench memory   # as in images; building takes long (fat LTO)
//! ```
//!
//! Each service runs as its own program, as in its image, and has brought a small environment up (one database, one topic,
//! Secrets). Then nothing happens, and after [`SETTLE`] its memory is read from `/proc/<pid>/smaps_rollup` and `status`:
//! - RSS: what is resident, the program's own pages included.
//! - PSS: RSS, but a page that n processes share counts 1/n; programs of one file share, so this depends on who else runs.
//! - anonymous: heap and stacks: what one more process of the kind costs at least, and what stays under memory pressure.
//!
//! Beside it threads, and the CPU time that the process used per second while nothing happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::measure::{asked, profile, programs, rounded};
use acceptance::{documents, environment, follow, is};
use lifecycle::Phase;
use rollcall::rehearse::{Service, Setting, Stage};
use sandbox::{Handle, ProcessSpec};
use serde_json::{Value, json};

/// Between everything being ready and the reading.
const SETTLE: Duration = Duration::from_secs(20);
/// Nobody listens here: the port of `tcpmux`, which nothing has used for decades.
const NOWHERE: &str = "127.0.0.1:1";

fn main() {
    if asked("memory") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    let names = Service::ALL.map(Service::name);
    let begun = Instant::now();
    let programs = programs(&[&names[..], &["rollcall"]].concat());
    println!("profile {}, built in {:.0} s", profile(), begun.elapsed().as_secs_f64());
    let size = |name: &str| std::fs::metadata(&programs[name]).unwrap().len();

    let environment = environment(&[documents::plain()]);
    let stage = Stage::set(&environment, Setting::new(&programs["rollcall"])).await.unwrap();
    stage.start_kafka().await.unwrap();
    let mut running: BTreeMap<String, Handle> = BTreeMap::new();
    for service in Service::ALL {
        let spec = service_of(&stage, service, &programs[service.name()]);
        running.insert(service.name().to_owned(), stage.sandbox().spawn(spec).await.unwrap());
    }
    let stand_in = stage.start_module("worker", Duration::ZERO).await.unwrap();
    running.insert("stand-in".to_owned(), stand_in);
    // `portal` needs `web`, which never starts.
    let waiter = &programs[Service::WaitForDependency.name()];
    let documents = stage.documents().display().to_string();
    for (name, args, hub) in [
        ("waiter with hub", vec!["wait", "--module", "portal", &documents], true),
        ("waiter without", vec!["wait", "--module", "portal", &documents], false),
        ("waiter ad hoc", vec!["wait", "--tcp", NOWHERE], false),
    ] {
        let mut spec = stage.process(&name.replace(' ', "-"));
        spec.program.clone_from(waiter);
        if !hub {
            spec.env.remove("ROLLCALL_HUB");
        }
        spec.env.remove("ROLLCALL_BROKERS");
        running.insert(name.to_owned(), stage.sandbox().spawn(spec.args(args)).await.unwrap());
    }
    let ready = ["database/shop", "topic/shop.orders", "module/worker"];
    follow(&stage, |board| ready.iter().all(|component| is(board, component, Phase::Ready))).await;
    tokio::time::sleep(SETTLE).await;

    println!(
        "{:22}{:>9}{:>9}{:>11}{:>9}{:>11}{:>11}",
        "KiB", "RSS", "PSS", "anonymous", "threads", "CPU ms/s", "program"
    );
    let before: BTreeMap<&String, f64> = running.iter().map(|(name, handle)| (name, cpu(handle))).collect();
    let since = Instant::now();
    tokio::time::sleep(SETTLE).await;
    let mut result = serde_json::Map::new();
    for (name, handle) in &running {
        let program = match name.as_str() {
            "stand-in" => "rollcall",
            waiter if waiter.starts_with("waiter") => Service::WaitForDependency.name(),
            service => service,
        };
        let cpu = (cpu(handle) - before[name]) * 1000.0 / since.elapsed().as_secs_f64();
        result.insert(name.clone(), line(name, handle, cpu, size(program) / 1024));
    }
    println!("{:22}{:61}{:11}", "rollcall (all in one)", "", size("rollcall") / 1024);
    println!(
        "{}",
        json!({"bench": "memory", "unit": "KiB", "profile": profile(), "rollcall_program": size("rollcall") / 1024, "processes": result})
    );
    stage.strike().await.unwrap();
}

/// As the stage would start it, but from its own program.
fn service_of(stage: &Stage, service: Service, program: &Path) -> ProcessSpec {
    let ports = stage.ports(service);
    let mut spec = stage.process(service.name());
    program.clone_into(&mut spec.program);
    spec.args(["serve".to_owned(), stage.documents().display().to_string()])
        .env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", ports.grpc))
        .env("ROLLCALL_HEALTH_LISTEN", format!("127.0.0.1:{}", ports.health))
        .env("ROLLCALL_METRICS_LISTEN", format!("127.0.0.1:{}", ports.metrics))
}

/// Prints a process's line and gives it as JSON.
fn line(name: &str, handle: &Handle, cpu: f64, program: u64) -> Value {
    let rollup = proc(handle, "smaps_rollup");
    let [rss, pss, anonymous] = ["Rss", "Pss", "Anonymous"].map(|key| field(&rollup, key));
    let status = proc(handle, "status");
    let threads = field(&status, "Threads");
    println!("{name:22}{rss:9}{pss:9}{anonymous:11}{threads:9}{cpu:11.2}{program:11}");
    json!({
        "vm_rss": field(&status, "VmRSS"), "rss": rss, "pss": pss, "anonymous": anonymous,
        "threads": threads, "cpu_ms_per_s": rounded(cpu), "program": program,
    })
}

fn proc(handle: &Handle, file: &str) -> String {
    let pid = handle
        .pid()
        .unwrap_or_else(|| panic!("{} does not run; see {}", handle.name(), handle.log().display()));
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// A number of `smaps_rollup` or `status`, KiB where it is memory.
fn field(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {key}"))
}

/// Seconds of CPU time so far, all threads: what the scheduler counts in nanoseconds, for `stat` counts only hundredths.
fn cpu(handle: &Handle) -> f64 {
    let pid = handle.pid().unwrap_or_else(|| panic!("{} does not run", handle.name()));
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = |task: std::io::Result<std::fs::DirEntry>| -> u64 {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(nanos).sum()).as_secs_f64()
}
