//! The exit code says how a process ended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::ExitCode;

use chassis::run::run_with;
use chassis::{Context, Exit, Failure, telemetry};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn env() -> Vec<(String, String)> {
    vec![("ROLLCALL_INSTANCE".to_owned(), "one".to_owned())]
}

/// `ExitCode` cannot be compared, only shown.
fn same(left: ExitCode, right: Exit) -> bool {
    format!("{left:?}") == format!("{:?}", ExitCode::from(right))
}

// One test in a process of its own: signals, the panic hook and the logs belong to the whole process.
#[test]
fn the_exit_code_says_how_it_ended() {
    // First: the process's traces end with the first run.
    let with_trace = env().into_iter().chain([("TRACEPARENT".to_owned(), PARENT.to_owned())]);
    let traced = run_with("test", with_trace, async |_| match telemetry::traceparent() {
        Some(own) if own.contains("4bf92f3577b34da6a3ce929d0e0e4736") => Ok(()),
        other => Err(Failure::internal(format_args!("{other:?}"))),
    });
    assert!(same(traced, Exit::Done));

    let done = run_with("test", env(), async |context: Context| {
        assert_eq!(context.source(), "test/one");
        Ok(())
    });
    assert!(same(done, Exit::Done));

    let failed = run_with("test", env(), async |_| Err(Failure::new(Exit::DependencyFailed, "no kafka")));
    assert!(same(failed, Exit::DependencyFailed));

    let misspelt = [("ROLLCALL_HUBB".to_owned(), "x".to_owned())];
    assert!(same(run_with("test", misspelt, async |_| Ok(())), Exit::Usage));

    assert!(same(run_with("test", env(), async |_| panic!("in the work")), Exit::Internal));
    let in_a_task = run_with("test", env(), async |context: Context| {
        tokio::spawn(async { panic!("in a task that nobody awaits") });
        context.shutdown.requested().await;
        Ok(())
    });
    assert!(same(in_a_task, Exit::Internal));
}
