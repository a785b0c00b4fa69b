//! Sixteen programs make the same tenants, whom one role reads all, at once and are killed at random: in the end all is made, each
//! says so, and nothing is left behind. CI makes a few tenants, which clash the more. A whole server's, with a program built with optimisations:
//!
//! ```sh
//! cargo build --release --package postgres-init
//! CHAOS_TENANTS=50 CHAOS_KILLS=100 CHAOS_PROGRAM=target/release/postgres-init \
//!   cargo test --package postgres-init --test chaos -- --nocapture --test-threads=1
//! ```
//!
//! `CHAOS_SEED` kills as in another run, as far as that goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::bench::until;
use common::{Db, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::process::{Child, Command};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const PROGRAMS: usize = 16;
const TENANTS: usize = 10;
/// How many programs are killed before they are left in peace.
const KILLS: usize = 32;
/// When all must have ended well, on a machine of two processors that does something else besides: with nobody killed, and for each
/// tenant that sixteen programs look at.
const DEADLINE: Duration = Duration::from_mins(2);
const EACH: Duration = Duration::from_secs(10);

/// Locks that somebody holds, and sessions that somebody has.
const HELD: &str = "SELECT ((SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
     + (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rollcall%'))::text";
/// What there is of the tenants, and what of it is not as it should be.
const MADE: &str = "SELECT concat_ws(', ',
  (SELECT count(*) FROM pg_database d WHERE datname LIKE 'tenant%' AND datallowconn AND NOT EXISTS (
     SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0)) || ' databases',
  (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenant%' OR rolname = 'superset_ro') || ' roles',
  (SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'superset_ro') || ' groups',
  (SELECT count(*) FROM rollcall.owned WHERE kind = 'database' AND finished_at IS NOT NULL) || ' finished',
  (SELECT count(*) FROM rollcall.owned o WHERE NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = o.oid AND o.kind = 'database')
     AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = o.oid AND o.kind <> 'database')) || ' of nothing')";

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_killed_at_random_all_converge_on_14() {
    chaos(14, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_killed_at_random_all_converge_on_18() {
    chaos(18, true).await;
}

fn program(world: &World, document: &Path, number: usize, deadline: Duration) -> Child {
    let own = env!("CARGO_BIN_EXE_postgres-init").to_owned();
    Command::new(std::env::var("CHAOS_PROGRAM").unwrap_or(own))
        .arg("apply")
        .arg(document)
        .env("ROLLCALL_SECRETS_ROOT", world.secrets.path())
        .env("ROLLCALL_INSTANCE", number.to_string())
        .env("ROLLCALL_LOG", "warn")
        .env("ROLLCALL_DEADLINE", format!("{}s", deadline.as_secs()))
        .kill_on_drop(true)
        .spawn()
        .expect("it starts")
}

async fn chaos(version: u16, managed: bool) {
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let size = |name, default: usize| number(name).map_or(default, |number| usize::try_from(number).unwrap());
    let (tenants, kills) = (size("CHAOS_TENANTS", TENANTS), size("CHAOS_KILLS", KILLS));
    let seed = number("CHAOS_SEED").unwrap_or_else(|| rand::rng().random());
    let deadline = DEADLINE + EACH * u32::try_from(tenants).unwrap();
    println!("CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Each has four databases in work, a session or two for each, and eight for one question each; who was killed lingers.
    let world = World::with(version, &[("max_connections", "300")]).await;
    let names: Vec<String> = (0..tenants).map(|i| format!("tenant{i:02}")).collect();
    // Each has a group of readers, of which one role of all is a member: its rows are what all programs want to write at once.
    let tenant = |name: &String| {
        let read = Db::new(name).with(json!({"roles": {"readers": {}}}));
        if name.ends_with('7') { read.extension("pg_trgm") } else { read }
    };
    let databases: Vec<Db> = names.iter().map(tenant).collect();
    let mut document = world.document("dev", &databases);
    world.secret("bi", "reads-everything");
    document["roles"] = json!({"superset": {
        "server": "main", "name": "superset_ro", "password": {"secret": "bi", "key": "password"}, "reads": names
    }});
    if managed {
        world.managed(&mut document).await;
    }
    let file = world.secrets.path().join("dev.json");
    std::fs::write(&file, document.to_string()).unwrap();

    let begun = std::time::Instant::now();
    let mut programs: Vec<Child> =
        (0..PROGRAMS).map(|number| program(&world, &file, number, deadline)).collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..250))).await;
        let number = random.random_range(0..PROGRAMS);
        // One that has ended is begun anew too, and finds all done.
        programs[number].kill().await.unwrap();
        programs[number] = program(&world, &file, number, deadline);
    }
    for program in &mut programs {
        let ended = tokio::time::timeout(deadline, program.wait()).await.expect("it ends").unwrap();
        assert!(ended.success(), "{ended}");
    }

    println!("{tenants} tenants on {version}, {kills} killed: all ended well after {:.0?}", begun.elapsed());

    let plan = world.plan(&document).await;
    assert!(plan.is_settled(), "{plan}");
    let made = format!(
        "{tenants} databases, {} roles, {tenants} groups, {tenants} finished, 0 of nothing",
        3 * tenants + 1
    );
    assert_eq!(world.ask("rollcall", MADE).await, made);
    // The server's processes end a moment after their clients.
    until(|| async { world.ask("postgres", HELD).await == "0" }).await;
    world.stop().await;
}
