//! An environment of many databases that are all as they should be: two questions about catalogs tell so, whatever their number,
//! and nothing is written. `FLEET=300` says how many; making them is what takes long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Db, World};
use tokio::process::Command;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const FLEET: usize = 80;

/// What prepares a session or proves that it is one, asks nothing about what is there, and is the same for any number of databases.
const PREPARES: [&str; 6] = [
    "SELECT pg_catalog.set_config('lock_timeout'",
    "SELECT pg_catalog.set_config('rollcall.session'",
    "SELECT pg_catalog.current_setting('rollcall.session'",
    "BEGIN",
    "COMMIT",
    "SET search_path",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_made_is_decided_with_two_questions() {
    // The server writes each statement of ours down as it gets it.
    let settings = [("log_statement", "all"), ("log_line_prefix", "%a|")];
    let world = World::with(18, &settings).await;
    let fleet = std::env::var("FLEET").map_or(FLEET, |fleet| fleet.parse().unwrap());
    let databases: Vec<Db> = (0..fleet).map(|i| Db::new(&format!("tenant{i:03}"))).collect();
    let document = world.document("dev", &databases);
    world.settle(&document).await;
    let (written, logged) = (world.written().await, world.log().len());

    let file = world.secrets.path().join("dev.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let applied = Command::new(env!("CARGO_BIN_EXE_postgres-init"))
        .arg("apply")
        .arg(&file)
        .env("ROLLCALL_SECRETS_ROOT", world.secrets.path())
        .env("ROLLCALL_DEADLINE", "60s")
        .output();
    let applied = applied.await.unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));

    let log = world.log();
    let statements: Vec<&str> = log[logged..]
        .lines()
        .filter_map(|line| line.strip_prefix("rollcall postgres-init/dev|LOG:  "))
        .filter_map(|line| match line.strip_prefix("statement: ") {
            Some(simple) => Some(simple),
            None => {
                line.strip_prefix("execute ").and_then(|named| named.split_once(": ")).map(|(_, sql)| sql)
            }
        })
        .collect();
    let (prepares, asks): (Vec<&str>, Vec<&str>) =
        statements.iter().partition(|sql| PREPARES.iter().any(|begin| sql.starts_with(begin)));
    println!("{} statements prepare, {} ask", prepares.len(), asks.len());
    assert!(prepares.len() <= 12, "{prepares:#?}");
    assert!(!asks.is_empty() && asks.len() <= 2, "{asks:#?}");
    assert_eq!(world.written().await, written);
    world.stop().await;
}
