//! Waiters from documents, as processes: alone, and with a hub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what does not hold fails the test"
)]

mod common;

use chassis::hub::HubUpdate;
use common::*;
use lifecycle::Phase;
use tokio::net::TcpListener;

#[tokio::test]
async fn alone_a_waiter_polls_what_its_documents_say_and_names_who_makes_the_rest() {
    let address = closed_port().await;
    let text = format!("modules: {{web: {}, portal: {{needs: [module/web]}}}}", module(&address));
    let mut waiter = Waiter::start("portal", &[("all", &text)], &[], &[]);
    waiter.says("module/web: ").await;
    let _listener = TcpListener::bind(&address).await.unwrap();
    let (code, said) = waiter.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("mode=\"direct\"") && said.contains("released: module/web, by its own polling"),
        "{said}"
    );

    let lost = [("all", "modules: {lost: {needs: [module/none]}}")];
    let (code, said) = Waiter::start("lost", &lost, &[], &["--fail-fast"]).ended().await;
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("wait for nobody: no fragment declares module/none"), "{said}");
    let (code, said) = Waiter::start("lost", &lost, &[], &["--timeout", "200ms"]).ended().await;
    assert_eq!(code, Some(124), "an init container goes on waiting: {said}");
    assert_eq!(Waiter::start("other", &lost, &[], &[]).ended().await.0, Some(2));
    assert_eq!(Waiter::start("free", &[("all", "modules: {free: {}}")], &[], &[]).ended().await.0, Some(0));
}

#[tokio::test]
async fn with_polling_off_the_hub_wakes_the_waiter_and_the_release_says_so() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let address = closed_port().await;
    let text = format!("modules: {{web: {}, portal: {{needs: [module/web]}}}}", module(&address));
    let env = [("ROLLCALL_HUB", &*hub.uri()), ("ROLLCALL_POLLING", "off"), ("ROLLCALL_INSTANCE", "portal-0")];
    let mut waiter = Waiter::start("portal", &[("all", &text)], &env, &[]);
    waiter.says("the hub's stream lives").await;
    let client = hub.client("test/1");
    let mut updates = client.watch("", &[component("module/web")]);
    until(&mut updates, |u| matches!(u, HubUpdate::State(s) if s.evidence.error.contains("refused"))).await;
    let _listener = TcpListener::bind(&address).await.unwrap();
    let (code, said) = waiter.ended().await;
    assert_eq!(code, Some(0), "{said}");
    // Mostly by the event; by news of the refused look before it, when that is still on its way.
    assert!(said.contains("released: module/web, woken by"), "{said}");

    // The hub heard who waited, and that it works now.
    let mut updates = client.watch("", &[component("module/portal")]);
    until_phase(&mut updates, "module/portal", Phase::Working).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_only_the_hub_can_see_is_released_by_what_the_hub_sees() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let address = closed_port().await;
    let client = hub.client("test/1");
    let env = [("ROLLCALL_HUB", &*hub.uri())];
    let mut waiter =
        Waiter::start("portal", &[("portal", "modules: {portal: {needs: [module/web]}}")], &env, &[]);
    waiter
        .says("wait for nobody: no fragment declares module/web; declare it, or correct the need (NOBODY)")
        .await;
    client.register(vec![fragment("web", &format!("modules: {{web: {}}}", module(&address)))]);
    client.announce(report("module/web", Phase::Working, &[]));
    waiter.says("the hub says working").await;
    let _listener = TcpListener::bind(&address).await.unwrap();
    let (code, said) = waiter.ended().await;
    assert_eq!(code, Some(0), "{said}");
    hub.stop().await;
}

#[tokio::test]
async fn a_cycle_closed_by_another_fragment_ends_who_fails_fast_with_the_path() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let (a, b) = (closed_port().await, closed_port().await);
    let needing =
        |address: &str, need: &str| format!("{{needs: [{need}], ready: {{tcp: {{address: '{address}'}}}}}}");
    let first = format!("modules: {{a: {}}}", needing(&a, "module/b"));
    let env = [("ROLLCALL_HUB", &*hub.uri())];
    let mut waiter = Waiter::start("a", &[("a", &first)], &env, &["--fail-fast"]);
    waiter.says("the hub's stream lives").await;
    hub.client("test/1")
        .register(vec![fragment("b", &format!("modules: {{b: {}}}", needing(&b, "module/a")))])
        .wait_for(Option::is_some)
        .await
        .unwrap();
    let (code, said) = waiter.ended().await;
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("module/a → module/b → module/a"), "{said}");
    hub.stop().await;
}

#[tokio::test]
async fn a_lost_hub_is_replaced_by_own_polling() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let address = closed_port().await;
    let text = format!("modules: {{web: {}, portal: {{needs: [module/web]}}}}", module(&address));
    let mut waiter = Waiter::start("portal", &[("all", &text)], &[("ROLLCALL_HUB", &*hub.uri())], &[]);
    waiter.says("the hub's stream lives").await;
    hub.stop().await;
    waiter.says("polling meanwhile").await;
    let _listener = TcpListener::bind(&address).await.unwrap();
    let (code, said) = waiter.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by its own polling"), "{said}");
}

#[tokio::test]
async fn a_module_that_was_ready_before_starts_again_without_what_holds_only_a_first_start() {
    let hub = Hub::start("127.0.0.1:0", true).await;
    let (web, portal) = (closed_port().await, closed_port().await);
    let text = format!(
        "modules: {{web: {}, portal: {{needs: [{{component: module/web, on_restart: report}}], ready: {{tcp: {{address: '{portal}'}}}}}}}}",
        module(&web)
    );
    let env = [("ROLLCALL_HUB", &*hub.uri())];
    let mut first = Waiter::start("portal", &[("all", &text)], &env, &[]);
    first.says("the hub's stream lives").await;
    let (up, _portal) = (TcpListener::bind(&web).await.unwrap(), TcpListener::bind(&portal).await.unwrap());
    assert_eq!(first.ended().await.0, Some(0));
    let mut updates = hub.client("test/1").watch("", &[component("module/portal")]);
    until_phase(&mut updates, "module/portal", Phase::Ready).await;
    drop(up);

    let (code, said) = Waiter::start("portal", &[("all", &text)], &env, &[]).ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was ready before (on_restart: report)"), "{said}");
    hub.stop().await;
}

#[tokio::test]
async fn what_takes_longer_than_its_time_is_reported_and_ends_only_who_fails_fast() {
    let address = closed_port().await;
    let text = format!(
        "modules: {{web: {}, portal: {{needs: [{{component: module/web, within: 200ms}}]}}}}",
        module(&address)
    );
    let mut patient = Waiter::start("portal", &[("all", &text)], &[], &[]);
    patient.says("module/web was to be ready within 200ms; still waiting").await;
    let _listener = TcpListener::bind(&address).await.unwrap();
    assert_eq!(patient.ended().await.0, Some(0));

    let text = text.replace(&address, &closed_port().await);
    let (code, said) = Waiter::start("portal", &[("all", &text)], &[], &["--fail-fast"]).ended().await;
    assert_eq!(code, Some(124), "{said}");
}

#[tokio::test]
async fn a_fragment_that_only_reports_holds_nobody() {
    let text = format!(
        "policy: {{mode: report}}\nmodules: {{web: {}, portal: {{needs: [module/web]}}}}",
        module(&closed_port().await)
    );
    let (code, said) = Waiter::start("portal", &[("all", &text)], &[], &[]).ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("would wait for module/web: refused"), "{said}");
}
