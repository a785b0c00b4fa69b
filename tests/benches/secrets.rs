//! A change of a Secret until its copies have it, over a real API server: secret-syncer beside a copier as people write it,
//! in one run.
//!
//! ```sh
//! cargo bench --package acceptance --bench secrets        # 10 minutes; BENCH_SAMPLES=20 BENCH_RUNS=1 for a quick look
//! ```
//!
//! The clock runs from when the API server has acknowledged the source's change until a watch sees the last copy with the
//! new value. The copier gets and updates one copy after the other; *limited* is with client-go's usual limit (5 requests a
//! second, 10 at once), *free* without. All hear of the change by a watch. One works at a time:
//! - one: one copy. The three take turns, with a pause in which the limit's bucket fills again.
//! - wide: 1,000 namespaces (`BENCH_WIDE`). The limited copier has only `BENCH_LIMITED` (100), because with all it would take 400 s.
//! - failing: the same when the right to write one of them is withdrawn: the time until the others have it.
//!
//! Beside it requests about Secrets per change as the API server counts them (the change itself and watches are not), and
//! the process's resident memory, after a pause, with as many Secrets in the cluster that are none of its business.
//! Everything, the API server and its etcd too, shares one machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

#[path = "secrets/copier.rs"]
mod copier;
#[path = "secrets/field.rs"]
mod field;

use std::time::{Duration, Instant};

use acceptance::cluster::{Cluster, User, environment, folder};
use acceptance::measure::{Spread, asked, number, programs, rounded};
use acceptance::syncer::Service;
use acceptance::until;
use copier::Job;
use field::{Observer, fill, namespace, permit, requests};
use lifecycle::document::Environment;
use serde_json::{Map, Value, json};

/// The namespace whose copy cannot be written.
const FAILING: usize = 7;
/// The namespace of the one copy.
const ONE: &str = "one";
/// In it lies what is none of a syncer's business.
const FOREIGN: &str = "foreign";
/// The longest that anything may take.
const WITHIN: Duration = Duration::from_mins(10);
/// Between two changes: the limit's bucket gains more than one change takes.
const PAUSE: Duration = Duration::from_millis(450);
/// Before memory is read.
const SETTLE: Duration = Duration::from_secs(10);
/// What is not changed is looked at so seldom that it is not in the way of counting.
const RESYNC: (&str, &str) = ("ROLLCALL_RESYNC", "10m");

fn main() {
    if asked("secrets") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    // Its own program, as in its image; beside the other one, so that both are made of the same parts.
    let program = programs(&["rollcall", "secret-syncer"]).remove("secret-syncer").unwrap();
    let all: Vec<String> = (0..number("BENCH_WIDE", 1000)).map(namespace).collect();
    let begun = Instant::now();
    let wide = format!(
        "secrets: {{origin: {{external: true}}, spread: {{copy: {{from: wide/origin, to: [{}]}}}}}}",
        all.join(", ")
    );
    let few = [
        ("base", "secrets: {origin: {external: true}}"),
        (ONE, "secrets: {copy: {copy: {from: base/origin}}}"),
    ];
    let wide = [("wide", wide.as_str())];
    let cluster = Cluster::start(&[&environment(7, &few), &environment(8, &wide)]).await;
    cluster.namespace(FOREIGN).await;
    let (syncer, copier) = (cluster.syncer().await, cluster.user("copier").await);
    let namespaces = [all.as_slice(), &["base", "wide", ONE].map(str::to_owned)].concat();
    permit(&cluster, "copier", &namespaces).await;
    fill(&cluster, [("base", "origin"), ("base", "theirs"), (ONE, "theirs")].map(owned).into_iter()).await;
    println!("{} namespaces, made in {:.0} s\n", all.len(), begun.elapsed().as_secs_f64());
    let bench = Bench { cluster, copier, all };

    let serve = async |name: &str, uid: u128, fragments: &[(&str, &str)]| {
        let documents = folder(&bench.cluster.dir().join(name), uid, fragments);
        bench.cluster.serve_by(&program, &["serve"], &syncer, &documents, name, &[RESYNC]).await
    };
    let service = serve("few", 7, &few).await;
    let memory = bench.memory(&service).await;
    let one = bench.one().await;
    service.handle.kill().await.unwrap();

    fill(&bench.cluster, [("wide", "origin")].map(owned).into_iter()).await;
    let service = serve("wide", 8, &wide).await;
    let wide = bench.wide(&service, &environment(8, &wide)).await;
    bench.cluster.stop().await;
    println!("{}", json!({"bench": "secrets", "one": one, "wide": wide, "rss_kib": memory}));
}

fn owned((namespace, name): (&str, &str)) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn one() -> [String; 1] {
    [ONE.to_owned()]
}

struct Bench {
    cluster: Cluster,
    copier: User,
    all: Vec<String>,
}

impl Bench {
    /// Changes a source and waits until the copies have the value: how long that took.
    async fn change(
        &self,
        source: (&str, &str),
        value: &str,
        observer: &mut Observer,
        copies: &[String],
    ) -> Duration {
        self.cluster.secret(source.0, source.1, &[("password", value), ("user", "somebody")]).await;
        let begun = Instant::now();
        observer.all(copies, value, WITHIN).await.saturating_duration_since(begun)
    }

    fn job(&self, namespace: &str, name: &str, targets: &[String], limited: bool) -> Job {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Job { client: self.copier.client(), namespace, name, targets: targets.to_vec(), limited }
    }

    /// Resident memory with more and more Secrets in the cluster.
    async fn memory(&self, service: &Service) -> Value {
        let mut observer = Observer::of("copy", &self.cluster.admin());
        observer.all(&one(), "first", WITHIN).await;
        let (mut there, mut found) = (0, Map::new());
        for count in [0, 1_000, 10_000] {
            fill(&self.cluster, (there..count).map(|i| owned((FOREIGN, &format!("secret-{i}"))))).await;
            there = count;
            // It works meanwhile, as it would.
            self.change(("base", "origin"), &format!("with {count}"), &mut observer, &one()).await;
            tokio::time::sleep(SETTLE).await;
            let (rss, anonymous) = memory(service);
            println!(
                "{count:6} Secrets of others in the cluster: RSS {rss} KiB, of which {anonymous} anonymous"
            );
            found.insert(count.to_string(), json!({"rss": rss, "anonymous": anonymous}));
        }
        Value::Object(found)
    }

    /// One copy.
    async fn one(&self) -> Value {
        let (samples, admin) = (number("BENCH_SAMPLES", 120_usize), self.cluster.admin());
        let mut ours = (Observer::of("copy", &admin), Vec::new(), 0);
        let mut theirs = Observer::of("theirs", &admin);
        let (mut limited, mut free) = (Vec::new(), (Vec::new(), 0));
        let target = &one();
        for sample in 0..samples {
            let value = format!("sample {sample}");
            let before = requests(&admin).await;
            ours.1.push(self.change(("base", "origin"), &value, &mut ours.0, target).await);
            tokio::time::sleep(PAUSE).await;
            ours.2 += requests(&admin).await - before - 1;
            for is_limited in [true, false] {
                let copier = self.job("base", "theirs", target, is_limited).start();
                // Its watch begins with what is there, which it looks at and leaves.
                tokio::time::sleep(PAUSE).await;
                let before = requests(&admin).await;
                let value = format!("{value} {is_limited}");
                let took = self.change(("base", "theirs"), &value, &mut theirs, target).await;
                if is_limited {
                    limited.push(took);
                } else {
                    free.0.push(took);
                    tokio::time::sleep(PAUSE).await;
                    free.1 += requests(&admin).await - before - 1;
                }
                drop(copier);
            }
        }
        println!("\none copy, {samples} samples, in ms");
        println!("{:18}{:>9}{:>9}{:>9}{:>14}", "", "p50", "p99", "max", "requests each");
        let base = Spread::of(ours.1.clone());
        let each = |count: u64| {
            f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(samples).unwrap())
        };
        let mut result = Map::new();
        for (name, taken, requests) in [
            ("secret-syncer", ours.1, each(ours.2)),
            ("copier, limited", limited, each(free.1)),
            ("copier, free", free.0, each(free.1)),
        ] {
            let spread = Spread::of(taken);
            let [p50, p99, max] = [50, 99, 100].map(|hundredths| spread.quantile(hundredths));
            let times = |hundredths| rounded(spread.quantile(hundredths) / base.quantile(hundredths));
            println!(
                "{name:18}{p50:9.1}{p99:9.1}{max:9.1}{requests:14.2}   p50 {} and p99 {} times ours",
                times(50),
                times(99)
            );
            let line = json!({
                "p50": rounded(p50), "p99": rounded(p99), "max": rounded(max), "requests": rounded(requests),
                "p50_to_ours": times(50), "p99_to_ours": times(99),
            });
            result.insert(name.to_owned(), line);
        }
        Value::Object(result)
    }

    /// Takes the right to write one copy away from secret-syncer.
    async fn withdraw(&self, environment: &Environment) {
        let rights = acceptance::rights::of_syncer(environment);
        let is_it = |object: &Value| {
            object["kind"] == "Role" && object["metadata"]["namespace"] == namespace(FAILING).as_str()
        };
        let mut role = rights.into_iter().find(is_it).unwrap();
        for rule in role["rules"].as_array_mut().unwrap() {
            rule["verbs"] = json!(["get", "watch"]);
        }
        self.cluster.apply(role).await;
    }

    /// A thousand copies.
    async fn wide(&self, service: &Service, environment: &Environment) -> Value {
        let (runs, admin) = (number("BENCH_RUNS", 5_usize), self.cluster.admin());
        let few = number("BENCH_LIMITED", 100_usize);
        println!("\n{} copies, the last one, in s; {runs} runs", self.all.len());
        let mut observer = Observer::of("spread", &admin);
        observer.all(&self.all, "first", WITHIN).await;
        until("everything is settled", async || service.targets("synced").await == self.all.len() + 1).await;
        let (mut ours, mut failing, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        let good: Vec<String> =
            self.all.iter().filter(|name| **name != namespace(FAILING)).cloned().collect();
        for run in 0..2 * runs {
            if run == runs {
                self.withdraw(environment).await;
            }
            // Nothing of the last one is remembered any more.
            tokio::time::sleep(PAUSE * 6).await;
            let (targets, taken) = if run < runs { (&self.all, &mut ours) } else { (&good, &mut failing) };
            let before = requests(&admin).await;
            taken.push(self.change(("wide", "origin"), &format!("run {run}"), &mut observer, targets).await);
            until("what can be settled is", async || service.targets("synced").await > good.len()).await;
            if run < runs {
                counted.push(requests(&admin).await - before - 1);
            }
        }
        let (rss, anonymous) = memory(service);
        service.handle.kill().await.unwrap();

        let copies = || self.all.iter().map(|namespace| (namespace.clone(), "theirs-wide".to_owned()));
        fill(&self.cluster, copies().chain([owned(("wide", "theirs-wide"))])).await;
        let mut observer = Observer::of("theirs-wide", &admin);
        let mut free = Vec::new();
        let source = ("wide", "theirs-wide");
        let serial = self.job(source.0, source.1, &self.all, false).start();
        for run in 0..runs.min(2) {
            tokio::time::sleep(PAUSE * 6).await;
            free.push(self.change(source, &format!("free {run}"), &mut observer, &self.all).await);
        }
        let binding = format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/copier",
            namespace(FAILING)
        );
        admin.call("DELETE", &binding, None).await.unwrap();
        let free_failing = self.change(source, "failing", &mut observer, &good).await;
        drop(serial);
        let serial = self.job(source.0, source.1, &good[..few], true).start();
        // Its first look takes a request for each.
        tokio::time::sleep(Duration::from_secs(few as u64 / 5)).await;
        let limited = self.change(source, "limited", &mut observer, &good[..few]).await;
        drop(serial);

        let best = |taken: &[Duration]| taken.iter().min().unwrap().as_secs_f64();
        let seconds =
            |taken: &[Duration]| taken.iter().map(|took| rounded(took.as_secs_f64())).collect::<Vec<_>>();
        let per_copy = |took: f64, copies: usize| took / f64::from(u32::try_from(copies).unwrap());
        let base = best(&ours);
        println!(
            "secret-syncer      best {base:.2} of {:?}; {counted:?} requests; RSS {rss} KiB, of which {anonymous} anonymous",
            seconds(&ours)
        );
        println!("  one failing      best {:.2} of {:?}", best(&failing), seconds(&failing));
        println!(
            "copier, free       best {:.2} of {:?}: {:.1} times ours",
            best(&free),
            seconds(&free),
            best(&free) / base
        );
        println!(
            "  one failing      {:.2}: {:.1} times ours",
            free_failing.as_secs_f64(),
            free_failing.as_secs_f64() / best(&failing)
        );
        let (a, b) = (per_copy(limited.as_secs_f64(), few), per_copy(base, self.all.len()));
        println!(
            "copier, limited    {:.2} for {few} copies: {:.1} times ours for each copy",
            limited.as_secs_f64(),
            a / b
        );
        json!({
            "ours": seconds(&ours), "ours_failing": seconds(&failing), "requests": counted, "rss_kib": rss, "anonymous_kib": anonymous,
            "free": seconds(&free), "free_failing": rounded(free_failing.as_secs_f64()),
            "free_to_ours": rounded(best(&free) / base),
            "limited_copies": few, "limited": rounded(limited.as_secs_f64()), "limited_to_ours_each": rounded(a / b),
        })
    }
}

/// Memory in KiB: what is resident, and of that what is its own (heap and stacks) and no page of the program's file.
fn memory(service: &Service) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.handle.pid().unwrap())).unwrap();
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("RssAnon:"))
}
