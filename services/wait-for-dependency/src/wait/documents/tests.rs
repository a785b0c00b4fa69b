//! What a waiter makes of what it sees and of what the hub says.

use chassis::secret::SecretStore;
use lifecycle::{Component, Kind, Need};

use super::*;
use crate::probe::{Probe, Tcp};
use crate::wait::gate::Item;
use crate::wait::report::Output;

#[test]
fn only_what_the_hub_saw_itself_decides_where_the_waiter_cannot_look() {
    let state = |phase, observable, error: &str| ComponentState {
        component: "module/x".parse().unwrap(),
        phase,
        since: Moment(1),
        generation: 1,
        evidence: Evidence { error: error.to_owned(), ..Evidence::default() },
        reason: String::new(),
        attempts: 0,
        source: String::new(),
        event_id: Some(uuid::Uuid::nil()),
        observable,
    };
    assert!(is_seen_ready(&state(Some(Phase::Ready), true, "")));
    assert!(!is_seen_ready(&state(Some(Phase::Ready), false, "")), "an event alone releases nobody");
    assert!(!is_seen_ready(&state(Some(Phase::Ready), true, "refused")), "nor a look that failed meanwhile");
    assert!(!is_seen_ready(&state(Some(Phase::Degraded), true, "")));
    assert!(!is_seen_ready(&state(None, true, "")));
}

fn component(name: &str) -> Component {
    Component::new(Kind::Database, name)
}

/// A waiter for one database that it can look at itself.
fn waiter(fail_fast: bool) -> Waiter {
    let probe = Probe::Tcp(Tcp { address: "db:1".to_owned() });
    let item = Item { need: Need::start(component("registry")), definition: Ok(probe) };
    let gated = Gated {
        module: Component::new(Kind::Module, "registry"),
        items: vec![item],
        fragments: Vec::new(),
        reports_only: false,
        secrets: SecretStore::None,
    };
    Waiter::new(gated, None, Reporter::new(Output::Text, true), fail_fast)
}

fn said(phase: Phase, observable: bool) -> Arc<ComponentState> {
    Arc::new(ComponentState {
        component: component("registry"),
        phase: Some(phase),
        since: Moment(1),
        generation: 1,
        evidence: Evidence::default(),
        reason: "disk full".to_owned(),
        attempts: 0,
        source: "postgres-init/1".to_owned(),
        event_id: None,
        observable,
    })
}

fn wrong_password(hub: Option<Arc<ComponentState>>) -> Update {
    let seen = NotYet::new(State::Denied, "password authentication failed").code(WRONG_PASSWORD);
    Update { index: 0, seen: Err(seen), cause: Cause::First, hub }
}

#[tokio::test]
async fn a_wrong_password_is_final_only_where_the_hub_saw_the_database_ready() {
    for (hub, is_final) in [
        (None, false),
        (Some(said(Phase::Working, true)), false),
        (Some(said(Phase::Ready, false)), false),
        (Some(said(Phase::Ready, true)), true),
    ] {
        let ended = waiter(false).saw(wrong_password(hub.clone())).await;
        assert_eq!(
            ended.as_ref().err().map(|failure| failure.exit),
            is_final.then_some(Exit::NeverWorks),
            "{hub:?}"
        );
    }
    let ended = waiter(true).saw(wrong_password(None)).await;
    assert_eq!(
        ended.unwrap_err().exit,
        Exit::NeverWorks,
        "without a hub, who fails fast does not wait for it to change"
    );
}

#[tokio::test]
async fn a_waiter_that_only_reports_is_ended_by_nothing() {
    let reporting = || {
        let mut waiter = waiter(true);
        waiter.gated.reports_only = true;
        waiter
    };
    let mut never = reporting();
    let seen = NotYet::new(State::Unhealthy, "ends with a line break").never();
    never.saw(Update { index: 0, seen: Err(seen), cause: Cause::First, hub: None }).await.unwrap();
    assert!(never.is_open(), "looked at once, and reported");
    let mut wrong = reporting();
    wrong.saw(wrong_password(Some(said(Phase::Ready, true)))).await.unwrap();
    assert!(wrong.is_open());
    let mut failed = reporting();
    failed.state(0, said(Phase::Failed, true)).await.unwrap();
    assert!(!failed.is_open(), "not looked at yet");
    failed.nobody[0] = Some(failed.begun);
    failed.alarm(Some(Duration::ZERO)).await.unwrap();
    assert_eq!(failed.next_alarm(Some(Duration::ZERO)), None);
}

#[tokio::test]
async fn a_failed_dependency_ends_only_who_fails_fast() {
    assert!(waiter(false).state(0, said(Phase::Failed, true)).await.is_ok());
    let failure = waiter(true).state(0, said(Phase::Failed, true)).await.unwrap_err();
    assert_eq!(failure.exit, Exit::DependencyFailed);
    assert!(failure.message.contains("the hub says failed: disk full"), "{}", failure.message);
}

#[tokio::test]
async fn what_the_hub_says_releases_nothing_that_can_be_looked_at() {
    let mut waiter = waiter(false);
    waiter.state(0, said(Phase::Ready, true)).await.unwrap();
    assert!(!waiter.is_open());
    let look = Update { index: 0, seen: Ok(Evidence::level("writable")), cause: Cause::Polling, hub: None };
    waiter.saw(look).await.unwrap();
    assert!(waiter.is_open());
}
