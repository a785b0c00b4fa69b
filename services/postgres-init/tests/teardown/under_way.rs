//! A teardown that was begun, or that meets somebody who provisions.

use super::*;

#[tokio::test]
async fn a_teardown_under_way_is_left_to_itself_and_can_be_taken_back_or_finished() {
    let world = World::start(16).await;
    let document = doomed(&world, "gone", &[Db::new("a"), Db::new("b")]);
    world.settle(&document).await;
    // As if the run had been killed after it closed one and after it dropped the other.
    world
        .run(
            "rollcall",
            "ALTER TABLE rollcall.owned ADD COLUMN IF NOT EXISTS leaving_since timestamptz; \
             UPDATE rollcall.owned SET leaving_since = now() WHERE kind = 'database'; ALTER DATABASE gone_a ALLOW_CONNECTIONS false; \
             ALTER DATABASE gone_b ALLOW_CONNECTIONS false",
        )
        .await;
    let written = world.written().await;
    let text = refused(&world.converge(&document).await, "database/a");
    assert!(text.contains("is being torn down") && text.contains("--cancel"), "{text}");
    assert_eq!(world.written().await, written, "apply repairs nothing of it");

    let report = down(&world, &document, How { cancel: true, ..DO }).await;
    assert!(report.outcome().is_ok() && report.removed.is_empty(), "{report}");
    world.settle(&document).await;
    world.login("gone_a_user", "password-of-a-db", "gone_a").await.unwrap().close().await;

    world.run("rollcall", "UPDATE rollcall.owned SET leaving_since = now() WHERE kind = 'database'").await;
    world.run("postgres", "DROP DATABASE gone_b").await;
    goes(&world, &document).await;
    assert_eq!(left(&world).await, "0");
    // What an older release left is not guessed at.
    world.run("rollcall", "DROP TABLE rollcall.history").await;
    let failure = down(&world, &document, DO).await.outcome().unwrap_err();
    assert!(
        failure.exit == chassis::Exit::NeverWorks && failure.message.contains("older release"),
        "{failure}"
    );
    world.stop().await;
}

#[tokio::test]
async fn nothing_goes_while_somebody_provisions_and_all_that_stays_is_named() {
    let world = World::start(18).await;
    let document = doomed(&world, "gone", &[Db::new("a"), Db::new("b")]);
    world.settle(&document).await;
    let before = left(&world).await;
    let mut other = world.login("postgres", world.server.password(), "rollcall").await.unwrap();
    other.execute("SET application_name = 'rollcall postgres-init/gone'").await.unwrap();
    for how in [SAY, DO] {
        let report = down(&world, &document, how).await;
        assert!(report.to_string().contains("! postgres/main: `rollcall postgres-init/gone`"), "{report}");
        assert_eq!(report.outcome().unwrap_err().exit, chassis::Exit::NeverWorks);
    }
    let staying = down(&world, &document, DO).await.staying();
    for component in ["database/a", "database/b"] {
        // What they need is not taken away from them either.
        assert!(staying.contains(&component.parse().unwrap()), "{component}: {staying:?}");
    }
    assert_eq!(left(&world).await, before);
    let cancel = How { cancel: true, ..DO };
    assert!(down(&world, &document, cancel).await.outcome().is_ok());
    other.close().await;
    let provisions =
        "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'rollcall postgres-init/gone'";
    world.comes_to("postgres", provisions, "0").await;
    goes(&world, &document).await;
    assert_eq!(left(&world).await, "0");
    world.stop().await;
}
