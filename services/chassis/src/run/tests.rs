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
