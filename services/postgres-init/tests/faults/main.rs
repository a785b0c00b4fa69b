//! What goes wrong while it works: connections that break around every answer, servers that restart, are full, take no writes or are
//! locked. Each is said with its code, costs time, and the next run completes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod proxy;

use std::sync::Mutex;
use std::time::Duration;

use chassis::converge::{Fault, Standing, Told, converge};
use common::{Db, World};
use lifecycle::Component;
use postgres_init::Step;
use proxy::Proxy;
use serde_json::Value;

const READY: Duration = Duration::from_mins(1);

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// One run, whatever comes of it: each fault with its code, and whether trying again may help.
async fn faults(world: &World, document: &Value) -> Vec<(String, String, bool)> {
    let (target, spec) = world.target(document);
    let told = Mutex::new(Vec::new());
    let tell = |news: Told<'_, Step>| {
        if let Told::Standing(_, Standing::Failed { error, code, transient }) = news {
            told.lock().unwrap().push((error, code, transient));
        }
    };
    let looked = converge(&target, &spec, &spec.component, &tell).await;
    let mut told = told.into_inner().unwrap();
    told.extend(looked.err().map(|error| (error.to_string(), error.code(), error.is_transient())));
    told
}

/// The fault that a run meets.
#[track_caller]
fn only(faults: &[(String, String, bool)], code: &str) -> String {
    let [(text, found, transient)] = faults else { panic!("one fault is expected: {faults:?}") };
    assert!(found == code && *transient, "{faults:?}");
    text.clone()
}

async fn is_settled(world: &World, document: &Value) {
    world.settle(document).await;
    let plan = world.plan(document).await;
    assert!(plan.is_settled() && plan.drift.is_empty(), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_found_out_by_the_next_run_on_14() {
    answers_are_lost(14, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_found_out_by_the_next_run_on_18() {
    answers_are_lost(18, 3).await;
}

/// Every fourth answer from the `first` on, those to COMMITs among them: what is asked around a change has no such period.
async fn answers_are_lost(version: u16, first: usize) {
    let world = World::start(version).await;
    for cut_at in (first..).step_by(4) {
        let database = Db::new(&format!("registry{cut_at}")).extension("pg_trgm");
        let database = if cut_at % 8 == first { database.without_ddl() } else { database };
        let document = world.document(&format!("env{cut_at}"), &[database]);
        let proxy = Proxy::to(world.server.port(), cut_at).await;
        let mut through = document.clone();
        through["postgres"]["main"]["port"] = proxy.port.into();
        let found = faults(&world, &through).await;
        if proxy.answers() < cut_at {
            assert!(cut_at > 30, "a run has more answers than {cut_at}");
            assert!(found.is_empty(), "{found:?}");
            break;
        }
        assert!(found.iter().all(|(_, _, transient)| *transient), "{cut_at}: {found:?}");
        is_settled(&world, &document).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_all_the_while_gets_there_in_the_end() {
    let world = World::start(18).await;
    let databases: Vec<Db> = (0..12).map(|i| Db::new(&format!("registry{i}"))).collect();
    let document = world.document("dev", &databases);
    let mut interrupted = 0;
    for round in 0..3 {
        let restart = async {
            // Not at once: the work has begun, and has made some more.
            let made = "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'registry%'";
            while world.ask("postgres", made).await.parse::<u32>().unwrap() <= round * 3 {}
            world.server.stop().await.unwrap();
            world.server.start().await.unwrap();
            world.server.ready(READY).await.unwrap();
        };
        let (found, ()) = tokio::join!(faults(&world, &document), restart);
        assert!(found.iter().all(|(_, _, transient)| *transient), "{found:?}");
        interrupted += usize::from(!found.is_empty());
    }
    assert!(interrupted > 0, "no run was interrupted");
    is_settled(&world, &document).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_places_is_waited_for() {
    let world = World::with(18, &[("max_connections", "6"), ("superuser_reserved_connections", "3")]).await;
    let document = world.document("dev", &[Db::new("registry")]);
    let mut held = Vec::new();
    let (role, password) = ("postgres", world.server.password());
    while let Ok(session) = world.login(role, password, "postgres").await {
        held.push(session);
    }
    let text = only(&faults(&world, &document).await, "53300");
    assert!(text.contains("max_connections"), "{text}");
    for session in held {
        session.close().await;
    }
    // The server counts a connection until its process has ended.
    while !faults(&world, &document).await.is_empty() {}
    is_settled(&world, &document).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_and_a_server_that_takes_no_writes_are_left_alone() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("registry")]);
    let signal = world.server.data_dir().join("standby.signal");
    world.server.stop().await.unwrap();
    std::fs::write(&signal, "").unwrap();
    world.server.start().await.unwrap();
    world.server.ready(READY).await.unwrap();
    let text = only(&faults(&world, &document).await, "");
    assert!(text.contains("promoted"), "{text}");
    world.ask("postgres", "SELECT pg_promote()::text").await;
    world.run("postgres", "ALTER SYSTEM SET default_transaction_read_only = on").await;
    world.run("postgres", "SELECT pg_reload_conf()").await;
    let read_only = "SELECT current_setting('default_transaction_read_only')";
    while world.ask("postgres", read_only).await != "on" {}
    let found = faults(&world, &document).await;
    assert!(
        !found.is_empty() && found.iter().all(|(_, code, transient)| code == "25006" && *transient),
        "{found:?}"
    );
    let mut session = world.login("postgres", world.server.password(), "postgres").await.unwrap();
    session.execute("SET default_transaction_read_only = off").await.unwrap();
    session.execute("ALTER SYSTEM RESET default_transaction_read_only").await.unwrap();
    session.close().await;
    world.run("postgres", "SELECT pg_reload_conf()").await;
    while world.ask("postgres", read_only).await != "off" {}
    is_settled(&world, &document).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_the_server_cancels_is_tried_again_and_its_timeouts_for_a_role_are_not_ours() {
    for version in [14, 18] {
        let world = World::start(version).await;
        let mut document = world.document("dev", &[Db::new("registry").extension("pg_trgm")]);
        world.managed(&mut document).await;
        world.settle(&document).await;
        // Enough to log in with; a managed server's administrator may have such a one. Ours is longer.
        world.run("postgres", "ALTER ROLE managed SET statement_timeout = '1s'").await;
        world.run("postgres", "ALTER ROLE registry_user CONNECTION LIMIT 5").await;
        document["databases"]["registry"]["roles"]["app"]["connection_limit"] = 7.into();
        let mut holder = world.login("postgres", world.server.password(), "postgres").await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        holder.execute("ALTER ROLE registry_user CONNECTION LIMIT 6").await.unwrap();
        let cancelled = async {
            let waits = "SELECT coalesce(min(pid)::text, '') FROM pg_stat_activity WHERE usename = 'managed' \
                         AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '1200ms'";
            while world.ask("postgres", waits).await.is_empty() {}
            let cancel = "SELECT bool_and(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE usename = 'managed' AND wait_event_type = 'Lock'";
            world.ask("postgres", cancel).await
        };
        let (found, cancelled) = tokio::join!(faults(&world, &document), cancelled);
        assert_eq!(cancelled, "true");
        let text = only(&found, "57014");
        assert!(text.contains("registry_user"), "{text}");
        holder.execute("ROLLBACK").await.unwrap();
        holder.close().await;
        is_settled(&world, &document).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_holds_is_not_waited_for_for_ever() {
    let world = World::start(18).await;
    let document = world.document("dev", &[Db::new("registry"), Db::new("pbms")]);
    world.settle(&document).await;
    for role in ["registry_user", "pbms_user"] {
        world.run("postgres", &format!("ALTER ROLE {role} CREATEDB")).await;
    }
    let mut holder = world.login("postgres", world.server.password(), "postgres").await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("ALTER ROLE registry_user CONNECTION LIMIT 5").await.unwrap();
    let standings = world.converge(&document).await;
    let registry: Component = "database/registry".parse().unwrap();
    let Standing::Failed { error, code, transient } = &standings[&registry] else { panic!("{standings:?}") };
    assert!(*transient && code == "55P03" && error.contains("registry_user"), "{error}");
    assert!(common::is_ready(&standings, "database/pbms"), "a neighbour waits for nobody: {standings:?}");
    holder.execute("ROLLBACK").await.unwrap();
    holder.close().await;
    is_settled(&world, &document).await;
    world.stop().await;
}
