//! A teardown as a process: killed wherever it stands it leaves what the next run finishes, and two at once are as good as one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Db, World};
use postgres::Session;
use serde_json::json;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// A server with an environment that may go, and its document in a file.
struct Scene {
    world: World,
    document: serde_json::Value,
    file: tempfile::NamedTempFile,
}

impl Scene {
    async fn new() -> Scene {
        let world = World::start(16).await;
        let mut document = world.document("gone", &[Db::new("a"), Db::new("b")]);
        document["policy"] = json!({"on_delete": "delete"});
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), document.to_string()).unwrap();
        Scene { world, document, file }
    }

    fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_postgres-init"))
            .arg("teardown")
            .args(args)
            .arg(self.file.path())
            .env("ROLLCALL_SECRETS_ROOT", self.world.secrets.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    async fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        ended(self.start(args)).await
    }

    async fn until(&self, holds: &'static str) {
        let waits = async {
            while self.world.ask("rollcall", holds).await != "true" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waits).await.expect(holds);
    }

    /// Somebody who holds what this statement holds until they leave.
    async fn holder(&self, statement: &str) -> Session {
        let password = self.world.server.password();
        let mut session = self.world.login("postgres", password, "rollcall").await.unwrap();
        session.execute("BEGIN").await.unwrap();
        session.execute(statement).await.unwrap();
        session
    }

    async fn left(&self) -> String {
        let count = "SELECT ((SELECT count(*) FROM rollcall.owned) + (SELECT count(*) FROM pg_database WHERE datname IN ('a', 'b')) \
                     + (SELECT count(*) FROM pg_roles WHERE rolname ~ '^[ab]_' OR rolname ~ 'gone'))::text";
        self.world.ask("rollcall", count).await
    }
}

async fn ended(child: Child) -> (Option<i32>, String) {
    let wait = tokio::task::spawn_blocking(move || child.wait_with_output());
    let Output { status, stdout, stderr } =
        tokio::time::timeout(Duration::from_mins(2), wait).await.expect("it ends").unwrap().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

const YES: [&str; 3] = ["--yes", "--environment", "gone"];

#[tokio::test]
async fn killed_wherever_it_stands_the_next_run_finishes() {
    let scene = Scene::new().await;
    // What the run waits for when it is killed, and how the server looks at that moment.
    let moments = [
        (
            "COMMENT ON DATABASE a IS 'held'",
            "SELECT (EXISTS (SELECT FROM pg_database WHERE datname = 'a' AND NOT datallowconn) AND EXISTS (SELECT FROM pg_stat_activity \
             WHERE query LIKE 'DROP DATABASE%' AND wait_event_type = 'Lock'))::text",
        ),
        (
            "LOCK TABLE rollcall.owned IN SHARE MODE",
            // The door was closed by the run before; the lock would hold its record.
            "SELECT (NOT EXISTS (SELECT FROM pg_database WHERE datname = 'a'))::text",
        ),
        (
            "COMMENT ON ROLE a_user IS 'held'",
            "SELECT (NOT EXISTS (SELECT FROM pg_database WHERE datname IN ('a', 'b')) AND EXISTS (SELECT FROM pg_stat_activity \
             WHERE query LIKE 'DROP ROLE%' AND wait_event_type = 'Lock'))::text",
        ),
    ];
    scene.world.settle(&scene.document).await;
    let (_, said) = scene.run(&[]).await;
    assert!(said.contains("drop database `a`") && said.contains("nothing was done"), "{said}");
    let (code, said) = scene.run(&["--yes"]).await;
    assert!(code == Some(2) && said.contains("--environment gone"), "{said}");
    for (holds, until) in moments {
        let holder = scene.holder(holds).await;
        let mut child = scene.start(&YES);
        scene.until(until).await;
        child.kill().unwrap();
        child.wait().unwrap();
        holder.close().await;
    }
    let (code, text) = scene.run(&YES).await;
    assert_eq!((code, scene.left().await.as_str()), (Some(0), "0"), "{text}");
    let (code, text) = scene.run(&YES).await;
    assert!(code == Some(0) && text.contains("0 removed"), "{text}");
    scene.world.stop().await;
}

#[tokio::test]
async fn two_at_once_are_as_good_as_one() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        scene.world.settle(&scene.document).await;
        let children = [scene.start(&YES), scene.start(&YES), scene.start(&YES)];
        for child in children {
            let (code, text) = ended(child).await;
            assert_eq!(code, Some(0), "{text}");
        }
        assert_eq!(scene.left().await, "0");
    }
    scene.world.stop().await;
}
