//! Steps on real servers: once however many ask, never twice without a person's word, and no secret is written down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::exit::Exit;
use common::Db;
use common::bench::{Bench, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// A server with a database, and step `seed` that works on it.
async fn bench(version: u16, step: Value) -> Bench {
    let bench = Bench::start(version).await;
    declare(&bench, &step);
    bench.run(&["apply"]).await.unwrap();
    bench
}

fn declare(bench: &Bench, step: &Value) {
    bench.declare(&[Db::new("registry")], &[("steps", json!({"seed": step}))]);
}

/// A command that adds a line to file `ran`.
fn adds(bench: &Bench, then: &str) -> String {
    format!("echo ran >> {}/ran; {then}", bench.path().display())
}

fn ran(bench: &Bench) -> usize {
    std::fs::read_to_string(bench.path().join("ran")).unwrap_or_default().lines().count()
}

/// A child of the command that hears no SIGTERM, and whose number is in file `child`.
fn child(bench: &Bench) -> String {
    let file = bench.path().join("child");
    let file = file.display();
    format!("trap '' TERM; sleep 600 & echo $! > {file}.new; mv {file}.new {file}; trap - TERM")
}

fn child_of(bench: &Bench) -> Option<Pid> {
    let text = std::fs::read_to_string(bench.path().join("child")).ok()?;
    Some(Pid::from_raw(text.trim().parse().unwrap()))
}

/// Whether a process is there and has not ended: one that nobody has buried yet has.
fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn several_at_once_run_it_once_on_14() {
    Box::pin(several_at_once(14)).await;
}

#[tokio::test]
async fn several_at_once_run_it_once_on_18() {
    Box::pin(several_at_once(18)).await;
}

async fn several_at_once(version: u16) {
    let bench = bench(version, json!({"database": "registry"})).await;
    // Whoever runs it ends only when the others have been seen to wait for its lock.
    let go = bench.path().join("go");
    let script = adds(&bench, &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let waited = async {
        until(|| async { ran(&bench) == 1 }).await;
        let sessions = "SELECT (count(*) > 1)::text FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%' AND datname = 'rollcall'";
        until(|| async { bench.world.ask("postgres", sessions).await == "true" }).await;
        std::fs::write(&go, "").unwrap();
    };
    let (a, b, c, ()) =
        tokio::join!(bench.step(&[], &script), bench.step(&[], &script), bench.step(&[], &script), waited);
    assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    assert_eq!(ran(&bench), 1);
    assert_eq!(bench.ledger().await, "step/seed done");

    // Other inputs are a person's affair, and the documents'.
    let other = adds(&bench, "exit 0");
    let refused = bench.step(&[], &other).await.unwrap_err();
    assert_eq!(refused.exit, Exit::NeverWorks);
    assert!(refused.message.contains("--baseline"), "{refused}");
    declare(&bench, &json!({"database": "registry", "on_change": "ignore"}));
    bench.step(&[], &other).await.unwrap();
    assert_eq!(ran(&bench), 1);
    bench.step(&["--again"], &other).await.unwrap();
    assert_eq!(ran(&bench), 2);
    bench.world.stop().await;
}

#[tokio::test]
async fn one_that_fails_or_is_cut_runs_again_only_at_a_persons_word() {
    let bench = bench(18, json!({"server": "main"})).await;
    let failed = bench.step(&[], &adds(&bench, "exit 7")).await.unwrap_err();
    assert_eq!(failed.command, Some(7));
    let refused = bench.step(&[], &adds(&bench, "exit 7")).await.unwrap_err();
    assert_eq!((refused.exit, refused.command), (Exit::NeverWorks, None));
    assert!(refused.message.contains("failed with exit code 7"), "{refused}");
    assert_eq!(ran(&bench), 1);
    let ended = bench.step(&["--again"], &adds(&bench, "kill -TERM $$")).await.unwrap_err();
    assert_eq!(ended.command, Some(143));

    let sleeps = adds(&bench, "sleep 600");
    let cut = until(|| async { ran(&bench) == 3 });
    tokio::select! {
        ended = bench.step(&["--again"], &sleeps) => panic!("{ended:?}"),
        () = cut => {}
    }
    let refused = bench.step(&[], &sleeps).await.unwrap_err();
    assert!(refused.message.contains("nobody has written down how it ended"), "{refused}");
    declare(&bench, &json!({"server": "main", "idempotent": true}));
    bench.step(&[], &adds(&bench, "exit 0")).await.unwrap();
    assert_eq!(ran(&bench), 4);
    assert_eq!(
        bench.ledger().await,
        ["failed", "failed", "running", "done"].map(|s| format!("step/seed {s}")).join(", ")
    );
    bench.world.stop().await;
}

#[tokio::test]
async fn what_was_done_before_there_was_a_ledger_is_not_done_again() {
    let evidence = json!({"database": "registry", "sql": "SELECT count(*) > 0 FROM keys"});
    let bench = bench(14, json!({"database": "registry", "evidence": evidence})).await;
    // Without the table nobody knows: a typo must not generate keys anew.
    let unknown = bench.step(&[], &adds(&bench, "")).await.unwrap_err();
    assert!(
        unknown.message.contains("its evidence cannot be asked") && unknown.message.contains("42P01"),
        "{unknown}"
    );
    bench
        .world
        .run("registry", "SET ROLE registry_owner; CREATE TABLE keys (k int); INSERT INTO keys VALUES (1)")
        .await;
    bench.step(&[], &adds(&bench, "")).await.unwrap();
    assert_eq!((ran(&bench), bench.ledger().await.as_str()), (0, "step/seed baseline"));
    // The question changes nothing.
    let sql = json!({"database": "registry", "sql": "WITH gone AS (DELETE FROM keys RETURNING 1) SELECT true FROM gone"});
    declare(&bench, &json!({"database": "registry", "evidence": sql}));
    bench.world.run("rollcall", "DELETE FROM rollcall.ledger").await;
    let refused = bench.step(&[], &adds(&bench, "")).await.unwrap_err();
    assert!(refused.message.contains("25006"), "{refused}");
    // A person's word does without one.
    declare(&bench, &json!({"database": "registry"}));
    bench.step(&["--baseline"], "").await.unwrap();
    assert_eq!((ran(&bench), bench.ledger().await.as_str()), (0, "step/seed baseline"));
    bench.world.stop().await;
}

#[tokio::test]
async fn no_secret_is_written_down_and_needs_come_first() {
    let bench = Bench::start(18).await;
    bench.file("sql/V1__a.sql", "CREATE TABLE a (x int)");
    let migrations =
        json!({"registry": {"database": "registry", "sources": bench.source("sql"), "native": {}}});
    let steps = json!({"seed": {"server": "main", "needs": ["migration/registry"]}});
    bench.declare(&[Db::new("registry")], &[("migrations", migrations), ("steps", steps)]);
    let secret = bench.world.secrets.path().join("dev/pg/password");
    let script = format!("echo before; cat {}; echo; echo after >&2; exit 3", secret.display());
    let seed = bench.step(&[], &script);
    let apply = bench.run(&["apply"]);
    let (failed, applied) = tokio::join!(seed, apply);
    applied.unwrap();
    assert_eq!(failed.unwrap_err().command, Some(3));
    let order = bench.ledger().await;
    assert!(
        order.find("migration/registry done").unwrap() < order.find("step/seed failed").unwrap(),
        "{order}"
    );
    let output =
        bench.world.ask("rollcall", "SELECT output FROM rollcall.ledger WHERE component = 'step/seed'").await;
    assert!(output.contains("before") && output.contains("after") && output.contains("[secret]"), "{output}");
    let dump = bench.world.ask("rollcall", "SELECT string_agg(l::text, ' ') FROM rollcall.ledger l").await;
    assert!(!dump.contains(bench.world.server.password()), "{dump}");
    assert!(!bench.world.log().contains(bench.world.server.password()));
    bench.world.stop().await;
}

#[tokio::test]
async fn the_lock_is_taken_again_where_its_session_is_lost_and_whoever_lost_it_for_good_stops() {
    const LOCK: &str = "pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 1937007984";
    let bench = bench(16, json!({"database": "registry", "idempotent": true})).await;
    let go = bench.path().join("go");
    let script = adds(&bench, &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let lose = format!("SELECT pg_terminate_backend(l.pid) FROM {LOCK}");
    let cut = async {
        until(|| async { ran(&bench) == 1 }).await;
        bench.world.run("rollcall", &lose).await;
        let held = "SELECT (count(*) = 1)::text FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 1937007984";
        until(|| async { bench.world.ask("rollcall", held).await == "true" }).await;
        std::fs::write(&go, "").unwrap();
    };
    let (done, ()) = tokio::join!(bench.step(&[], &script), cut);
    done.unwrap();
    assert_eq!((ran(&bench), bench.ledger().await.as_str()), (1, "step/seed done"));

    // Somebody else begins it meanwhile: it is ended here, with whatever it has begun.
    std::fs::remove_file(&go).unwrap();
    let script =
        adds(&bench, &format!("{}; until [ -e {} ]; do sleep 0.05; done", child(&bench), go.display()));
    let taken = async {
        until(|| async { ran(&bench) == 2 && child_of(&bench).is_some() }).await;
        let other = "INSERT INTO rollcall.ledger (environment_uid, environment_name, fragment, component, state, hash)
            SELECT environment_uid, environment_name, fragment, component, 'running', hash FROM rollcall.ledger LIMIT 1";
        bench.world.run("rollcall", &format!("{other}; {lose}")).await;
    };
    let (ended, ()) = tokio::join!(bench.step(&["--again"], &script), taken);
    let ended = ended.unwrap_err();
    assert!(ended.exit == Exit::TryAgain && ended.message.contains("was lost"), "{ended}");
    assert_eq!(ran(&bench), 2);
    let child = child_of(&bench).unwrap();
    until(|| async { !lives(child) }).await;
    bench.world.stop().await;
}

#[tokio::test]
async fn whoever_stops_a_step_stops_every_process_of_it() {
    let bench = bench(18, json!({"server": "main"})).await;
    let script = adds(&bench, &format!("{}; wait", child(&bench)));
    let mut step = Command::new(env!("CARGO_BIN_EXE_postgres-init"))
        .args(["step", "seed", "--documents"])
        .arg(bench.path().join("dev.json"))
        .args(["--", "sh", "-c", &script])
        .env("ROLLCALL_SECRETS_ROOT", bench.world.secrets.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until(|| async { child_of(&bench).is_some() }).await;
    let child = child_of(&bench).unwrap();
    // By itself it goes on.
    kill(child, Signal::SIGTERM).unwrap();
    assert!(lives(child));
    kill(Pid::from_raw(step.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(step.wait().await.unwrap().code(), Some(143));
    assert!(!lives(child));
    assert_eq!((ran(&bench), bench.ledger().await.as_str()), (1, "step/seed failed"));
    bench.world.stop().await;
}

#[tokio::test]
async fn what_a_command_that_did_not_end_well_has_begun_is_asked_to_end_before_that_is_written_down() {
    let bench = bench(18, json!({"server": "main"})).await;
    let [ready, ended] = ["ready", "ended"].map(|name| bench.path().join(name));
    let left = format!(
        "sh -c \"trap 'echo > {}; exit' TERM; echo > {}; while :; do sleep 0.05; done\" & until [ -e {} ]; do sleep 0.05; done",
        ended.display(),
        ready.display(),
        ready.display()
    );
    for (then, code) in [("kill -KILL $$", 137), ("exit 3", 3)] {
        let failed = bench.step(&["--again"], &adds(&bench, &format!("{left}; {then}"))).await.unwrap_err();
        assert_eq!(failed.command, Some(code), "{failed}");
        assert!(ended.exists(), "{then}");
        for file in [&ready, &ended] {
            std::fs::remove_file(file).unwrap();
        }
    }
    assert_eq!((ran(&bench), bench.ledger().await.as_str()), (2, "step/seed failed, step/seed failed"));
    bench.world.stop().await;
}

/// A pair of names of steps whose locks have one hash of 32 bits.
const ALIKE: &str = "SELECT concat_ws(' ', 's' || min(n), 's' || max(n)) FROM generate_series(1, 500000) n,
  (SELECT DISTINCT environment_uid FROM rollcall.owned WHERE kind = 'database') e
  GROUP BY hashtext(environment_uid || '/step/s' || n) HAVING count(*) > 1 LIMIT 1";
/// The lock of step `seed` as versions before this one take it.
const BEFORE: &str = "SELECT pg_advisory_lock(1937007984, hashtext(environment_uid || '/step/seed')) FROM rollcall.owned WHERE kind = 'database' LIMIT 1";

#[tokio::test]
async fn different_steps_do_not_wait_for_one_another_and_older_versions_are_waited_for() {
    let bench = bench(18, json!({"server": "main"})).await;
    let alike = bench.world.ask("rollcall", ALIKE).await;
    let (one, other) = alike.split_once(' ').unwrap();
    let steps = json!({"seed": {"server": "main"}, one: {"server": "main"}, other: {"server": "main"}});
    bench.declare(&[Db::new("registry")], &[("steps", steps)]);
    let go = bench.path().join("go");
    let script = adds(&bench, &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let meanwhile = async {
        until(|| async { ran(&bench) == 1 }).await;
        bench.step_named(other, &[], "exit 0").await.unwrap();
        std::fs::write(&go, "").unwrap();
    };
    let (done, ()) = tokio::join!(bench.step_named(one, &[], &script), meanwhile);
    done.unwrap();
    assert_eq!(bench.ledger().await, format!("step/{one} done, step/{other} done"));

    let password = bench.world.server.password().to_owned();
    let mut older = bench.world.login("postgres", &password, "rollcall").await.unwrap();
    older.execute(BEFORE).await.unwrap();
    let freed = async {
        let tries = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE query LIKE '%pg_advisory_unlock($1)' AND datname = 'rollcall'";
        until(|| async { bench.world.ask("postgres", tries).await == "true" }).await;
        assert_eq!(ran(&bench), 1);
        older.close().await;
    };
    let script = adds(&bench, "exit 0");
    let (done, ()) = tokio::join!(bench.step(&[], &script), freed);
    done.unwrap();
    assert_eq!(ran(&bench), 2);
    bench.world.stop().await;
}

#[tokio::test]
async fn a_step_of_another_fragment_is_not_the_one_of_this_name() {
    let row = |fragment: &str| {
        format!(
            "INSERT INTO rollcall.ledger (environment_uid, environment_name, fragment, component, state, hash)
             SELECT environment_uid, environment_name, {fragment}, 'step/first', 'done', '' FROM rollcall.owned WHERE kind = 'database'"
        )
    };
    let bench = bench(16, json!({"server": "main"})).await;
    let steps = json!({"first": {"server": "main"}, "seed": {"server": "main", "needs": ["step/first"]}});
    bench.declare(&[Db::new("registry")], &[("steps", steps)]);
    bench.world.run("postgres", "ALTER SYSTEM SET log_statement = 'all'").await;
    bench.world.run("postgres", "SELECT pg_reload_conf()").await;
    bench.world.run("rollcall", &row("'stranger'")).await;
    let stands = "INSERT INTO rollcall.delegated (environment_uid, fragment, namespace, document, by)
        SELECT environment_uid, 'stranger', 'far', '{}', '' FROM rollcall.owned WHERE kind = 'database'";
    bench.world.run("rollcall", stands).await;
    let own = async {
        // It was asked, and it was not done.
        until(|| async { bench.world.log().matches("asked(component, fragment)").count() > 1 }).await;
        assert_eq!(ran(&bench), 0);
        bench.world.run("rollcall", &row("fragment")).await;
    };
    let script = adds(&bench, "exit 0");
    let (done, ()) = tokio::join!(bench.step(&[], &script), own);
    done.unwrap();
    assert_eq!(
        (ran(&bench), bench.ledger().await.as_str()),
        (1, "step/first done, step/first done, step/seed done")
    );
    // The last run of it decides.
    bench.world.run("rollcall", &row("'stranger'")).await;
    let refused = bench.step_named("first", &[], "exit 0").await.unwrap_err();
    assert!(refused.message.contains("was run by fragment `stranger`"), "{refused}");
    // Once that one is gone, what it ran counts.
    bench.world.run("rollcall", "DELETE FROM rollcall.delegated").await;
    bench.step(&["--again"], &script).await.unwrap();
    assert_eq!(ran(&bench), 2);
    bench.world.stop().await;
}
