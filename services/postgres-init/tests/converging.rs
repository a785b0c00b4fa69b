//! What `converge` and `record` say before and after what they do, as they are typed: what is refused, what is not done, what is mistaken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use chassis::exit::Exit;
use common::{Db, World, refused};
use old::{Commands, script};
use serde_json::Value;
use tokio::process::Command;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// What the program prints and ends with.
async fn said(world: &World, document: &Value, args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.json"), document.to_string()).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_postgres-init"))
        .args(args)
        .arg(folder.path())
        .env("ROLLCALL_SECRETS_ROOT", world.secrets.path())
        .output();
    let run = run.await.unwrap();
    (run.status.code(), String::from_utf8(run.stdout).unwrap())
}

/// A database that belongs to its login role, as hand-made ones do.
async fn by_hand(world: &World, name: &str) {
    world.run("postgres", &format!("CREATE ROLE {name}_user LOGIN PASSWORD 'password-of-{name}-db'")).await;
    world.run("postgres", &format!("CREATE DATABASE {name} OWNER {name}_user")).await;
}

#[tokio::test]
async fn who_connects_as_the_owner_is_not_shut_out_before_it_owns_nothing() {
    let world = World::start(18).await;
    by_hand(&world, "x2").await;
    let document = world.document("dev", &[Db::new("x2")]);
    let commands = Commands::new(&world, &document);

    // Nobody marked it: both ways out are named, and the first is gone.
    for text in [
        refused(&world.converge(&document).await, "database/x2"),
        commands.run(&["plan"]).await.unwrap_err().message,
        commands.run(&["converge", "--class", "attributes"]).await.unwrap_err().message,
    ] {
        assert!(text.contains("record DOCUMENTS --component database/x2"), "{text}");
        assert!(text.contains("give this environment names of its own"), "{text}");
    }
    commands.run(&["record", "--component", "database/x2", "--yes"]).await.unwrap();

    let before = world.written().await;
    for args in
        [&["converge", "--class", "public-connect"][..], &["converge", "--class", "public-connect", "--yes"]]
    {
        let failure = commands.run(args).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
        assert!(failure.message.contains("converge ownership first"), "{failure}");
    }
    assert_eq!(world.written().await, before);
    for class in ["ownership", "public-connect", "attributes", "grants"] {
        commands
            .run(&["converge", "--class", class, "--yes"])
            .await
            .unwrap_or_else(|f| panic!("{class}: {f}"));
        world.login("x2_user", "password-of-x2-db", "x2").await.unwrap().close().await;
    }
    world.settle(&document).await;
    assert!(world.plan(&document).await.is_settled());
    world.stop().await;
}

#[tokio::test]
async fn what_was_not_done_does_not_look_done() {
    let world = World::start(18).await;
    for name in ["kept", "shut"] {
        script(&world, name, &format!("password-of-{name}-db")).await;
    }
    world.run("postgres", "CREATE ROLE legacy LOGIN PASSWORD 'x'").await;
    let document = world.document("dev", &[Db::new("kept"), Db::new("shut")]);
    Commands::new(&world, &document).run(&["record", "--yes"]).await.unwrap();
    let legacy = world.login("legacy", "x", "kept").await.unwrap();
    for more in [&[][..], &["--yes"]] {
        let args: Vec<&str> = ["converge", "--class", "public-connect"].iter().chain(more).copied().collect();
        let (exit, text) = said(&world, &document, &args).await;
        assert_eq!(exit, Some(65), "{text}");
        assert!(text.contains("! database/kept: role `legacy` is connected"), "{text}");
        assert!(!text.contains("+ database/kept"), "{text}");
        assert!(text.contains("+ database/shut: close database `shut` to everybody"), "{text}");
    }
    legacy.close().await;

    // Cut by an error in the middle: what is done and what is not are told apart.
    let mut app = world.login("kept_user", "password-of-kept-db", "kept").await.unwrap();
    app.execute("CREATE TABLE people (id int)").await.unwrap();
    app.close().await;
    world.run("kept", "CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'frozen'; END $$").await;
    world.run("kept", "CREATE EVENT TRIGGER frozen ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION frozen()").await;
    let args = ["converge", "--class", "ownership", "--component", "database/kept", "--yes"];
    let (exit, text) = said(&world, &document, &args).await;
    assert_ne!(exit, Some(0), "{text}");
    assert!(text.contains("+ database/kept: let role `kept_user` use what `kept_owner` will own"), "{text}");
    for line in ["give table public.people to `kept_owner`", "record that ownership is converged"] {
        assert!(text.contains(&format!("? database/kept: not done: {line}")), "{line}: {text}");
        assert!(!text.contains(&format!("+ database/kept: {line}")), "{line}: {text}");
    }
    assert!(!text.contains("= "), "{text}");
    world.run("kept", "DROP EVENT TRIGGER frozen").await;
    let (exit, text) = said(&world, &document, &args).await;
    assert!(exit == Some(0) && text.contains("+ database/kept: give table public.people"), "{text}");
    world.stop().await;
}

#[tokio::test]
async fn a_role_that_is_not_there_is_a_mistake_and_nothing_is_touched() {
    let world = World::start(18).await;
    script(&world, "registry", "password-of-registry-db").await;
    world.run("postgres", "CREATE ROLE superset_ro LOGIN PASSWORD 'reads'; CREATE ROLE idle LOGIN").await;
    let document = world.document("dev", &[Db::new("registry")]);
    let commands = Commands::new(&world, &document);
    commands.run(&["record", "--yes"]).await.unwrap();
    let reader = world.login("superset_ro", "reads", "registry").await.unwrap();
    let before = world.written().await;
    for option in ["--connect-also", "--cut-off"] {
        for more in [&[][..], &["--yes"]] {
            let args = ["converge", "--class", "public-connect", option, "superset_rw"];
            let failure = commands.run(&[&args[..], more].concat()).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
            assert!(
                failure.message.contains(&format!("{option} superset_rw: there is no role")),
                "{failure}"
            );
            assert!(failure.message.contains("`superset_ro` (connected now), `idle`"), "{failure}");
        }
    }
    assert_eq!(world.written().await, before);
    let args = ["converge", "--class", "public-connect", "--connect-also", "superset_ro", "--yes"];
    commands.run(&args).await.unwrap();
    reader.close().await;
    world.login("superset_ro", "reads", "registry").await.unwrap().close().await;
    world.stop().await;
}
