//! What `converge` and `record` say before and after what they do, as they are typed: what is refused, what is not done, what is mistaken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use chassis::exit::Exit;
use common::{Db, World};
use old::Commands;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
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
