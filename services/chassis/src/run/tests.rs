//! How a process ends, and what a long-lived one serves.

use tokio::sync::oneshot;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::grpc::{Server, channel};

fn env() -> Vec<(String, String)> {
    ["LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN"]
        .iter()
        .map(|key| (format!("ROLLCALL_{key}"), "127.0.0.1:0".to_owned()))
        .chain([("ROLLCALL_INSTANCE".to_owned(), "one".to_owned())])
        .collect()
}

/// `ExitCode` cannot be compared, only shown.
fn same(left: ExitCode, right: Exit) -> bool {
    format!("{left:?}") == format!("{:?}", ExitCode::from(right))
}

// One test: signals, the panic hook and the logs belong to the whole process.
#[test]
fn the_exit_code_says_how_it_ended() {
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

    let with_trace =
        env().into_iter().chain([("TRACEPARENT".to_owned(), telemetry::tests::PARENT.to_owned())]);
    let traced = run_with("test", with_trace, async |_| match telemetry::traceparent() {
        Some(own) if own.contains("4bf92f3577b34da6a3ce929d0e0e4736") => Ok(()),
        other => Err(Failure::internal(format_args!("{other:?}"))),
    });
    assert!(same(traced, Exit::Done));
    // So that other tests of this process report their panics as usual.
    let _ = std::panic::take_hook();
}

#[tokio::test]
async fn a_service_says_not_serving_before_it_drains() {
    let shutdown = Shutdown::manual();
    let context = Context::new("test", Settings::load(env()).unwrap(), shutdown.clone());
    let servers = context.serve(Server::new(&context.metrics)).await.unwrap();
    servers.readiness.set_ready(true).await;

    let mut client = HealthClient::new(channel(&format!("http://{}", servers.health)).unwrap());
    let request = HealthCheckRequest { service: "readiness".into() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let (ended, end) = oneshot::channel();
    tokio::spawn(async move {
        servers.ended().await;
        let _ = ended.send(());
    });
    shutdown.trigger();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    tokio::time::timeout(Duration::from_secs(10), end).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_that_ignores_the_shutdown_is_ended_after_the_grace() {
    let shutdown = Shutdown::manual();
    shutdown.trigger();
    let began = tokio::time::Instant::now();
    let ended = bounded(std::future::pending(), &shutdown, &Panics::default()).await;
    assert_eq!(ended.unwrap_err().exit, Exit::TryAgain);
    assert_eq!(began.elapsed(), GRACE);
}

#[tokio::test]
async fn an_address_in_use_names_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::load(env()).unwrap();
    settings.listen = taken.local_addr().unwrap();
    let context = Context::new("test", settings, Shutdown::manual());
    let failure = context.serve(Server::new(&context.metrics)).await.unwrap_err();
    assert!(failure.message.starts_with("ROLLCALL_LISTEN: cannot listen on 127.0.0.1:"), "{failure}");
}
