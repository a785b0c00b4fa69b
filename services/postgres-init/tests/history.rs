//! What was done is kept on the server: by whom, when, what and what failed; for each environment its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use chassis::converge::Reconcile;
use chassis::provision::Change;
use common::{Db, World, standings};
use serde_json::Value;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

async fn history(world: &World, document: &Value, components: &[&str], limit: usize) -> Vec<Change> {
    let (target, spec) = world.target(document);
    let components: BTreeSet<_> = components.iter().map(|name| name.parse().unwrap()).collect();
    target.history(&spec, &components, limit).await.unwrap().expect("it is kept")
}

#[tokio::test]
async fn every_change_is_kept_and_nobody_elses_is_shown() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let document = world.document("dev", &[Db::new("registry"), Db::new("pbms").without_ddl()]);
        let (target, spec) = world.target(&document);
        standings(&target.of("postgres-init/first".to_owned()), &spec).await;
        world.settle(&world.document("other", &[Db::new("elsewhere")])).await;
        let made = history(&world, &document, &[], 1000).await;
        assert!(made.iter().all(|change| change.source == "postgres-init/first" && change.error.is_none()));
        assert!(made.is_sorted_by_key(|change| std::cmp::Reverse(change.time)), "{made:?}");
        let steps: Vec<&str> = made.iter().map(|change| change.step.as_str()).collect();
        for step in [
            "make database `registry`",
            "make role `pbms_user`, which logs in",
            "record that database `pbms` is finished",
        ] {
            assert_eq!(steps.iter().filter(|made| **made == step).count(), 1, "{step}: {steps:#?}");
        }
        assert!(
            !format!("{made:?}").contains("elsewhere") && !format!("{made:?}").contains("password-of"),
            "{made:?}"
        );

        // What nothing had to be done about leaves no trace; what is repaired, and what fails, does.
        world.settle(&document).await;
        assert_eq!(history(&world, &document, &[], 1000).await, made);
        world.run("postgres", "ALTER ROLE registry_user CREATEDB").await;
        world.settle(&document).await;
        let latest = history(&world, &document, &["database/registry"], 1).await;
        assert_eq!(latest[0].step, "set NOCREATEDB on role `registry_user`");
        if version == 14 {
            // What fails by a lock takes its time, and is the same everywhere.
            world.stop().await;
            continue;
        }
        world.run("postgres", "ALTER ROLE registry_user CREATEDB").await;
        let mut holder = world.login("postgres", world.server.password(), "postgres").await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        holder.execute("ALTER ROLE registry_user CONNECTION LIMIT 5").await.unwrap();
        world.converge(&document).await;
        holder.close().await;
        let failed = &history(&world, &document, &["database/registry"], 1).await[0];
        assert!(
            failed.code == "55P03" && failed.error.as_ref().unwrap().contains("lock timeout"),
            "{failed:?}"
        );
        world.stop().await;
    }
}
