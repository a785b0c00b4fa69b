//! Steps on data that is older than the ledger: what was taken over, or restored and bound by hand, is not worked on again without a
//! person's word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::exit::Exit;
use common::Db;
use common::bench::Bench;
use serde_json::json;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// What a truncating loader does.
const LOADS: &str = "echo ran >> ";

fn declare(bench: &Bench) {
    let evidence = json!({"database": "registry", "sql": "SELECT to_regclass('rows') IS NOT NULL"});
    bench.declare(
        &[Db::new("registry"), Db::new("new")],
        &[(
            "steps",
            json!({
                "seed": {"database": "registry"},
                "keys": {"server": "main"},
                "evident": {"database": "registry", "evidence": evidence},
                "unseen": {"database": "registry", "evidence": {"database": "registry", "sql": "SELECT false"}},
                "repeats": {"database": "registry", "idempotent": true},
                "fresh": {"database": "new"},
            }),
        )],
    );
}

async fn is_left_alone(bench: Bench, version: u16) {
    let script = format!("{LOADS}{}/ran", bench.path().display());
    let ran = || std::fs::read_to_string(bench.path().join("ran")).unwrap_or_default().lines().count();
    for (step, says) in [
        ("seed", "database `registry` was taken over or restored"),
        ("keys", "something of this environment on its server was taken over or restored"),
    ] {
        let refused = bench.step_named(step, &[], &script).await.unwrap_err();
        assert_eq!(refused.exit, Exit::NeverWorks, "{version}: {refused}");
        for needle in [says, "--baseline", "--again", "`evidence`"] {
            assert!(refused.message.contains(needle), "{version}: {refused}");
        }
    }
    bench.step_named("evident", &[], &script).await.unwrap();
    assert_eq!((ran(), bench.ledger().await.as_str()), (0, "step/evident baseline"), "{version}");

    bench.step(&["--baseline"], "").await.unwrap();
    bench.step(&[], &script).await.unwrap();
    assert_eq!(ran(), 0, "{version}");
    bench.step_named("keys", &["--again"], &script).await.unwrap();
    for step in ["unseen", "repeats", "fresh"] {
        bench.step_named(step, &[], &script).await.unwrap();
    }
    assert_eq!(ran(), 4, "{version}: {}", bench.ledger().await);
    bench.world.stop().await;
}

#[tokio::test]
async fn what_was_restored_and_bound_by_hand_is_not_loaded_again() {
    for version in [14, 18] {
        let bench = Bench::start(version).await;
        declare(&bench);
        bench.run(&["apply"]).await.unwrap();
        let restore = ["DROP DATABASE registry", "CREATE DATABASE registry OWNER registry_owner"];
        for statement in restore {
            bench.world.run("postgres", statement).await;
        }
        bench.world.run("registry", "CREATE TABLE rows (n int)").await;
        // As an older version made it.
        bench.world.run("rollcall", "ALTER TABLE rollcall.owned DROP COLUMN found_at").await;
        bench.run(&["rebind", "--yes"]).await.unwrap();
        bench.run(&["apply"]).await.unwrap();
        is_left_alone(bench, version).await;
    }
}

#[tokio::test]
async fn what_was_taken_over_is_not_loaded_again() {
    for version in [14, 18] {
        let bench = Bench::start(version).await;
        for statement in [
            "CREATE ROLE registry_user LOGIN PASSWORD 'password-of-registry-db'",
            "CREATE DATABASE registry OWNER registry_user",
        ] {
            bench.world.run("postgres", statement).await;
        }
        bench.world.run("registry", "CREATE TABLE rows (n int)").await;
        declare(&bench);
        bench.run(&["record", "--component", "database/registry", "--yes"]).await.unwrap();
        bench.world.run("rollcall", "ALTER TABLE rollcall.owned DROP COLUMN found_at").await;
        bench.run(&["apply"]).await.unwrap();
        is_left_alone(bench, version).await;
    }
}
