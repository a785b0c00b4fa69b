//! What an environment's databases cost: made, and looked at again when all is as it should be; by postgres-init, and by what the
//! old script of OpenG2P does with psql, on the same server in one run.
//!
//! ```sh
//! cargo bench --package acceptance --bench provisioning                    # two minutes; needs psql
//! BENCH_TENANTS=10 BENCH_FLEET=50 cargo bench --package acceptance --bench provisioning   # a quick look
//! ```
//!
//! - psql: for each tenant one process of the script after another, as its chart's Jobs do: wait for the server, make the
//!   database, its extension, its role with its password, grants.
//! - one by one: a process of postgres-init for each tenant, one after another, with a document of that tenant alone.
//! - together: one process of postgres-init with all tenants in its document.
//!
//! The server is PostgreSQL 16 (`BENCH_POSTGRES`): psql lists no databases of a server much newer than itself, on which the script
//! relies. Each tenant has one extension. Beside the wall-clock time: statements that the server ran (pg_stat_statements), CPU time of
//! the server with all its processes, and of the clients' main processes the largest resident set. At the end, a fleet of
//! databases without extensions, which are not looked into: its statements do not grow with their number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

#[path = "provisioning/server.rs"]
mod server;

use std::path::PathBuf;
use std::time::Instant;

use acceptance::measure::{asked, in_path, number, programs, rounded};
use serde_json::{Value, json};
use server::{Ran, Side};

/// What the script does for one tenant (init-db.sh of `openg2p/postgres-init` 1.2.0), call by call.
const SCRIPT: &str = r#"
set -e
export PGPASSWORD="$DB_ADMIN_PASSWORD"
p() { psql -X -q -h "$DB_HOST" -p "$DB_PORT" -U postgres "$@"; }
until p -c '\q' 2>/dev/null; do sleep 1; done
p -lqt | cut -d '|' -f 1 | grep -qw "$DB_NAME" || p -c "CREATE DATABASE \"$DB_NAME\""
p -d "$DB_NAME" -c "CREATE EXTENSION IF NOT EXISTS \"pgcrypto\"" 2>/dev/null
if [ "$(p -tAc "SELECT 1 FROM pg_roles WHERE rolname = '$DB_USER'")" = 1 ]; then
  p -c "ALTER USER \"$DB_USER\" WITH PASSWORD '$DB_USER_PASSWORD' CREATEDB CREATEROLE REPLICATION"
else
  p -c "CREATE USER \"$DB_USER\" WITH PASSWORD '$DB_USER_PASSWORD' CREATEDB CREATEROLE REPLICATION"
fi
p -c "GRANT ALL PRIVILEGES ON DATABASE \"$DB_NAME\" TO \"$DB_USER\""
p -d "$DB_NAME" -c "GRANT CREATE ON SCHEMA public TO \"$DB_USER\""
p -d "$DB_NAME" -c "GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO \"$DB_USER\""
p -d "$DB_NAME" -c "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL PRIVILEGES ON TABLES TO \"$DB_USER\""
"#;

fn main() {
    if asked("provisioning") {
        assert!(in_path("psql"), "psql is missing; on Debian: apt-get install postgresql-client");
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}

async fn bench() {
    let program = programs(&["postgres-init"]).remove("postgres-init").unwrap();
    let (tenants, fleet) = (number("BENCH_TENANTS", 40_usize), number("BENCH_FLEET", 300_usize));
    let side = Side::start(program, number("BENCH_POSTGRES", 16_u16)).await;
    println!("{tenants} tenants; a fleet of {fleet}");
    println!(
        "{:26}{:>9}{:>13}{:>13}{:>17}{:>9}",
        "", "s", "tenants/s", "statements", "server CPU ms", "RSS MiB"
    );
    let mut rows = Vec::new();
    for (what, cold) in [("made", true), ("again", false)] {
        let psql = measure(&side, &format!("{what}: psql"), tenants, || script(&side, tenants)).await;
        let alone =
            measure(&side, &format!("{what}: one by one"), tenants, || one_by_one(&side, tenants)).await;
        let all = document(&side, "together", tenants, true);
        let together = measure(&side, &format!("{what}: together"), tenants, || side.apply(&all)).await;
        let ratio = |ours: &Value| {
            let part = |key: &str| rounded(psql[key].as_f64().unwrap() / ours[key].as_f64().unwrap());
            json!({"time": part("seconds"), "statements": part("statements"), "cpu": part("cpu_ms")})
        };
        let (one, many) = (ratio(&alone), ratio(&together));
        println!("{:26}psql / one by one: {one}\n{:26}psql / together:   {many}", "", "");
        rows.push(
            json!({"what": what, "cold": cold, "psql": psql, "one_by_one": alone, "together": together,
                         "ratios": {"one_by_one": one, "together": many}}),
        );
    }
    let all = document(&side, "fleet", fleet, false);
    let made = measure(&side, "fleet: made", fleet, || side.apply(&all)).await;
    let again = measure(&side, "fleet: again", fleet, || side.apply(&all)).await;
    println!(
        "{}",
        json!({"bench": "provisioning", "tenants": tenants, "rows": rows,
               "fleet": {"databases": fleet, "made": made, "again": again}})
    );
    side.stop().await;
}

/// Runs it once; what the server and the clients needed.
async fn measure<F: Future<Output = f64>>(
    side: &Side,
    what: &str,
    tenants: usize,
    run: impl FnOnce() -> F,
) -> Value {
    let before = side.before().await;
    let begun = Instant::now();
    let peak = run().await;
    let seconds = begun.elapsed().as_secs_f64();
    let Ran { statements, cpu_ms } = side.since(before).await;
    let per_second = f64::from(u32::try_from(tenants).unwrap()) / seconds;
    println!("{what:26}{seconds:>9.3}{per_second:>13.1}{statements:>13}{cpu_ms:>17}{peak:>9.1}");
    json!({"seconds": rounded(seconds), "tenants_per_second": rounded(per_second), "statements": statements,
           "cpu_ms": cpu_ms, "peak_rss_mib": rounded(peak)})
}

async fn script(side: &Side, tenants: usize) -> f64 {
    let mut peak = 0_f64;
    for i in 0..tenants {
        peak = peak.max(side.script(SCRIPT, &format!("old{i}"), &format!("old{i}_user")).await);
    }
    peak
}

async fn one_by_one(side: &Side, tenants: usize) -> f64 {
    let mut peak = 0_f64;
    for i in 0..tenants {
        let own = document(side, &format!("alone{i}x"), 1, true);
        peak = peak.max(side.apply(&own).await);
    }
    peak
}

/// A document of so many databases, whose names begin so, in a file.
fn document(side: &Side, name: &str, tenants: usize, extension: bool) -> PathBuf {
    let databases = (0..tenants).map(|i| {
        let name = format!("{name}{i}");
        side.secret(&name);
        let app = json!({"name": format!("{name}_user"), "password": {"secret": name, "key": "password"}, "ddl": "as-owner"});
        let extensions: &[&str] = if extension { &["pgcrypto"] } else { &[] };
        (name, json!({"server": "main", "roles": {"app": app}, "extensions": extensions}))
    });
    let databases: serde_json::Map<String, Value> = databases.collect();
    side.write(name, &databases)
}
