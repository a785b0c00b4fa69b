//! Clients of a real Keycloak: read with the least role that works, made as declared, left alone where they are not ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod answers;
mod ending;
mod faults;
mod making;
mod reading;
mod support;

use support::Scene;

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

// One server for all of them: starting one takes longer than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_read_made_and_left_alone_as_they_should() {
    let scene = Scene::start().await;
    reading::the_scene(&scene).await;
    reading::the_least_role_that_works(&scene).await;
    reading::a_client_that_is_not_there(&scene).await;
    ending::a_missing_client_ends_a_run_soon_and_after_the_rest(&scene);
    ending::a_deadline_or_a_service_waits_for_it(&scene).await;
    ending::what_waits_for_a_refused_client_ends_too(&scene);
    reading::rotation_is_followed(&scene).await;
    making::everything_is_made(&scene).await;
    making::a_second_run_writes_nothing(&scene).await;
    making::what_is_declared_otherwise_is_changed(&scene).await;
    making::what_is_anothers_is_left_alone(&scene).await;
    making::what_is_there_is_kept_or_taken_over(&scene).await;
    making::each_right_that_is_missing_is_named(&scene).await;
    making::many_at_once(&scene).await;
    making::what_keycloak_refuses_is_told(&scene).await;
    faults::who_is_not_let_in_is_told_and_let_in_later(&scene).await;
    faults::a_token_that_is_revoked_is_replaced(&scene).await;
    faults::two_at_once_agree(&scene).await;
    faults::killed_midway(&scene).await;
    ending::a_teardown_deletes_what_was_made_and_nothing_else(&scene).await;
    scene.stop().await;
}
