//! The hub in this process, over real gRPC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what does not hold fails the test"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::hub::HubUpdate;
use chassis::wire::Fragment;
use common::*;
use lifecycle::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

#[tokio::test]
async fn a_watcher_hears_the_state_then_the_mark_then_every_change() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let address = closed_port().await;
    let client = hub.client("test/1");
    let mut registered =
        client.register(vec![fragment("web", &format!("modules: {{web: {}}}", module(&address)))]);
    let answer = timeout(LONG, registered.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!((answer.generation, answer.rejected), (1, Vec::new()));

    let mut updates = client.watch("", &[component("module/web")]);
    assert!(matches!(updates.recv().await.unwrap(), HubUpdate::State(_)));
    assert!(matches!(
        until(&mut updates, |u| matches!(u, HubUpdate::CaughtUp { .. })).await,
        HubUpdate::CaughtUp { generation: 1, .. }
    ));
    let listener = TcpListener::bind(&address).await.unwrap();
    let ready = until_phase(&mut updates, "module/web", Phase::Ready).await;
    assert!(ready.observable && ready.event_id.is_some(), "{ready:?}");
    drop(listener);
    let degraded = until_phase(&mut updates, "module/web", Phase::Degraded).await;
    assert!(degraded.evidence.error.contains("refused"), "{degraded:?}");
    assert!(degraded.since >= ready.since);
    hub.stop().await;
}

#[tokio::test]
async fn without_polling_an_announcement_brings_the_look_that_decides() {
    let hub = Hub::start("127.0.0.1:0", false).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = hub.client("test/1");
    client.register(vec![fragment("web", &format!("modules: {{web: {}}}", module(&address)))]);
    assert_eq!(client.flush(LONG).await, 0);
    let mut updates = client.watch("", &[]);
    until(&mut updates, |u| matches!(u, HubUpdate::CaughtUp { .. })).await;
    let seen = until_none(&mut updates).await;
    assert!(seen.is_none(), "it looked without a reason: {seen:?}");
    client.announce(report("module/web", Phase::Working, &[]));
    until_phase(&mut updates, "module/web", Phase::Ready).await;
    hub.stop().await;
}

async fn until_none(updates: &mut Receiver<HubUpdate>) -> Option<HubUpdate> {
    timeout(Duration::from_millis(300), updates.recv()).await.ok().flatten()
}

#[tokio::test]
async fn an_announcement_never_decides_that_a_module_is_ready() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let client = hub.client("test/1");
    client.register(vec![fragment(
        "web",
        &format!("modules: {{web: {}, bare: {{}}}}", module(&closed_port().await)),
    )]);
    let mut updates = client.watch("", &[]);
    for name in ["module/web", "module/bare"] {
        client.announce(report(name, Phase::Ready, &[]));
        until_phase(&mut updates, name, Phase::Working).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_rejected_with_the_reason_and_the_rest_is_taken() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let client = hub.client("test/1");
    let other = lifecycle::document::Identity { name: "other".to_owned(), uid: uuid::Uuid::from_u128(7) };
    let foreign = Fragment { environment: other, ..fragment("foreign", "") };
    let mut registered = client.register(vec![foreign, fragment("web", "modules: {web: {}}")]);
    let answer = timeout(LONG, registered.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(answer.rejected.len(), 1);
    assert!(answer.rejected[0].1.contains("belongs to environment other"), "{:?}", answer.rejected);
    let explained = client.explain(&component("module/web")).await.unwrap();
    assert!(explained.text.starts_with("module/web not heard of yet"), "{}", explained.text);
    hub.stop().await;
}

#[tokio::test]
async fn the_explanation_reaches_the_root() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let client = hub.client("waiter/1");
    let address = closed_port().await;
    let text = format!(
        "modules: {{keycloak: {}, registry: {{needs: [module/keycloak]}}, portal: {{needs: [module/registry]}}, lost: {{needs: [module/none]}}}}",
        module(&address)
    );
    client.register(vec![fragment("all", &text)]);
    let mut updates = client.watch("", &[]);
    client.announce(report("module/keycloak", Phase::Working, &[]));
    client.announce(report("module/registry", Phase::Waiting, &[("module/keycloak", "refused")]));
    client.announce(report("module/lost", Phase::Waiting, &[("module/none", "")]));
    let mut states = BTreeMap::new();
    until(&mut updates, |update| {
        if let HubUpdate::State(state) = update {
            states.insert(state.component.to_string(), state.clone());
        }
        let phase = |name: &str| states.get(name).and_then(|state| state.phase);
        phase("module/lost") == Some(Phase::Waiting)
            && phase("module/registry") == Some(Phase::Waiting)
            && phase("module/keycloak") == Some(Phase::Working)
            && states["module/keycloak"].evidence.error.contains("refused")
    })
    .await;
    let explained = client.explain(&component("module/registry")).await.unwrap();
    assert!(
        explained.text.contains("for module/keycloak ← module/keycloak working for"),
        "{}",
        explained.text
    );
    assert!(explained.text.contains("refused"), "{}", explained.text);
    assert_eq!(explained.also_unblocks, [component("module/portal")]);
    let lost = client.explain(&component("module/lost")).await.unwrap();
    assert!(
        lost.text
            .ends_with("wait for nobody: no fragment declares module/none; declare it, or correct the need"),
        "{}",
        lost.text
    );
    hub.stop().await;
}

#[tokio::test]
async fn clients_find_a_hub_that_came_back_and_tell_it_everything_again() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = hub.client("test/1");
    client.register(vec![fragment("web", &format!("modules: {{web: {}}}", module(&address)))]);
    let mut updates = client.watch("", &[component("module/web")]);
    until_phase(&mut updates, "module/web", Phase::Ready).await;
    let address = hub.stop().await;
    until(&mut updates, |u| matches!(u, HubUpdate::Lost(_))).await;
    let again = Hub::start(&address, true).await;
    until_phase(&mut updates, "module/web", Phase::Ready).await;
    again.stop().await;
}

#[tokio::test]
async fn metrics_and_diagnostics_tell_what_is_observed() {
    use rollcall_proto::diagnostics::v1::GetStatusRequest;
    use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
    let hub = Hub::start("127.0.0.1:0", true).await;
    let client = hub.client("test/1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    client.register(vec![fragment("web", &format!("modules: {{web: {}}}", module(&address)))]);
    let mut updates = client.watch("", &[]);
    until_phase(&mut updates, "module/web", Phase::Ready).await;

    let channel = chassis::grpc::channel(&hub.uri()).unwrap();
    let status = DiagnosticsClient::new(channel).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (status.service.as_str(), status.generation, status.components.len()),
        ("wait-for-dependency", 1, 1)
    );

    let mut stream = tokio::net::TcpStream::connect(hub.serving.servers.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    for line in [
        "rollcall_probes_total{component=\"module/web\",result=\"passed\"}",
        "rollcall_probe_duration_seconds_bucket{",
        "rollcall_watchers 1",
        "rollcall_component_phase{component=\"module/web\",phase=\"ready\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    hub.stop().await;
}
