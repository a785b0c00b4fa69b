//! A tenant that moves to a newer server the usual way, with `pg_dump -C` and psql: it is noticed, said, bound by hand, and works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use common::{Db, World, refused};
use old::Commands;
use tokio::process::Command;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// Runs a client program as a server's superuser.
async fn client(world: &World, program: &str, args: &[&str]) {
    let ran = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &world.server.port().to_string(), "-U", "postgres"])
        .args(args)
        .env("PGPASSWORD", world.server.password())
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// From 14 to 16: pg_dump dumps no server that is newer than itself, and writes what only servers of its own age understand; Debian's
/// is 15 or newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_with_create_is_noticed_bound_by_hand_and_finished() {
    let (one, other) = (World::start(14).await, World::start(16).await);
    one.has_psql().await;
    let tenant = || Db::new("registry").extension("pg_trgm");
    one.settle(&one.document("dev", &[tenant()])).await;
    let password = "password-of-registry-db";
    let mut module = one.login("registry_user", password, "registry").await.unwrap();
    module.execute("CREATE TABLE people (name text); INSERT INTO people VALUES ('Asha')").await.unwrap();
    module.close().await;
    let dump = one.secrets.path().join("registry.sql");
    let dump = dump.to_str().unwrap();
    client(&one, "pg_dump", &["-C", "--clean", "--if-exists", "-f", dump, "registry"]).await;

    // The environment is made on the other server first, for a dump of a database has no roles.
    let document = other.document("dev", &[tenant()]);
    other.settle(&document).await;
    client(&other, "psql", &["-X", "-v", "ON_ERROR_STOP=1", "-q", "-d", "postgres", "-f", dump]).await;
    let before = other.written().await;
    let text = refused(&other.converge(&document).await, "database/registry");
    for says in [
        "database `registry` is not the one that was recorded",
        "it was restored, cloned or made anew by somebody else",
        "`postgres-init rebind DOCUMENTS --component database/registry`",
    ] {
        assert!(text.contains(says), "`{says}`: {text}");
    }
    assert_eq!(other.written().await, before, "nothing is touched");

    Commands::new(&other, &document)
        .run(&["rebind", "--component", "database/registry", "--yes"])
        .await
        .unwrap();
    other.settle(&document).await;
    let plan = other.plan(&document).await;
    assert!(plan.is_settled() && plan.drift.is_empty(), "{plan}");
    // What it held is there, and belongs to whom it did.
    let mut module = other.login("registry_user", password, "registry").await.unwrap();
    module
        .execute("INSERT INTO people VALUES ('Ravi'); ALTER TABLE people ADD COLUMN born date")
        .await
        .unwrap();
    module.close().await;
    assert_eq!(
        other.ask("registry", "SELECT string_agg(name, ', ' ORDER BY name) FROM people").await,
        "Asha, Ravi"
    );
    one.stop().await;
    other.stop().await;
}
