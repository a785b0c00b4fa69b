//! The hub is killed, then Kafka, in the middle of a bring-up: it completes all the same, everybody says that they are
//! degraded, and afterwards the roster folded from the topic is complete, with original times.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::documents::{fragment, plain};
use acceptance::{PATIENCE, environment, is, stage, until};
use chassis::bus::{Cluster, lifecycle_topic, read_to_end};
use chassis::clock;
use chassis::wire::News;
use lifecycle::{Component, Kind, Moment, Phase, Roster};
use rollcall::rehearse::{Board, Cast, Follower, Service, Stage};
use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::watch_response::Update;
use rollcall_proto::diagnostics::v1::{GetStatusRequest, GetStatusResponse, Mode, WatchRequest};
use tonic::transport::Endpoint;

/// A chain, so that a bring-up has a middle: `first` is up before anybody is killed. `second` waits for a password that is
/// provided only when both are gone, so its database is made and everything after it comes up without them.
const CHAIN: &str = "
uses: {postgres: {main: {host: postgresql}}}
databases:
  first: {server: main, roles: {app: {name: first_user, password: {secret: first-db, key: password}, ddl: as-owner}}}
  second: {server: main, roles: {app: {name: second_user, password: {secret: second-db, key: password}, ddl: as-owner}}}
  third: {server: main, roles: {app: {name: third_user, password: {secret: third-db, key: password}, ddl: as-owner}}}
secrets:
  first-db: {generate: {password: {kind: password}}}
  second-db: {external: true}
  third-db: {copy: {from: second-db}}
modules:
  first: {needs: [database/first], ready: {tcp: {address: 'first:7001'}}}
  second: {needs: [database/second, module/first], ready: {tcp: {address: 'second:7002'}}}
  third: {needs: [database/third, module/second, module/worker], ready: {tcp: {address: 'third:7003'}}}
  last: {needs: [module/third, module/portal], ready: {tcp: {address: 'last:7004'}}}
";
/// The provisioners: each tells what it makes.
const PROVISIONERS: [Service; 3] = [Service::SecretSyncer, Service::PostgresInit, Service::TopicProvisioner];

/// Follows the hub over all its lives, and remembers when each component was seen to become ready last.
struct Witness {
    board: Board,
    follower: Follower,
    seen: BTreeMap<Component, Moment>,
}

impl Witness {
    fn of(stage: &Stage) -> Witness {
        let follower = Follower::start(stage.url(Service::WaitForDependency));
        Witness { board: Board::new(stage.environment()), follower, seen: BTreeMap::new() }
    }

    async fn until(&mut self, what: &str, mut enough: impl FnMut(&Board) -> bool) {
        let begun = std::time::Instant::now();
        while !enough(&self.board) {
            assert!(begun.elapsed() < PATIENCE, "never {what}:\n{}", self.board.causes().join("\n"));
            if let Some(state) = self.follower.next(Duration::from_millis(200)).await
                && let Some((component, Phase::Ready)) = self.board.hear(state)
            {
                self.seen.insert(component, clock::now());
            }
        }
    }
}

async fn status(stage: &Stage, service: Service) -> Option<GetStatusResponse> {
    let channel = Endpoint::from_shared(stage.url(service)).ok()?.connect().await.ok()?;
    let mut client = DiagnosticsClient::new(channel);
    Some(client.get_status(GetStatusRequest {}).await.ok()?.into_inner())
}

/// The mode a hub tells those who begin to watch.
async fn hubs_mode(stage: &Stage) -> Option<Mode> {
    let hub = Endpoint::from_shared(stage.url(Service::WaitForDependency)).ok()?.connect().await.ok()?;
    let mut updates = HubClient::new(hub).watch(WatchRequest::default()).await.ok()?.into_inner();
    while let Some(response) = updates.message().await.ok()? {
        if let Some(Update::CaughtUp(caught_up)) = response.update {
            return Some(caught_up.mode());
        }
    }
    None
}

/// The fold of everything the topic holds.
async fn roster(stage: &Stage) -> Option<Roster> {
    let topic = lifecycle_topic(&stage.environment().identity().name);
    let cluster = Cluster::new(stage.kafka().unwrap().brokers());
    let kept = read_to_end(&cluster, &topic, PATIENCE).await.ok()?;
    let mut roster = Roster::new();
    for record in kept {
        if let Some(Ok(News::Event(event))) = record.value.map(|value| News::read(&record.key, &value)) {
            roster.hear(record.offset, event);
        }
    }
    Some(roster)
}

fn is_ready(roster: &Roster, component: &Component) -> bool {
    roster.get(component).is_some_and(|event| event.phase == Phase::Ready)
}

#[tokio::test]
async fn a_bring_up_completes_without_hub_and_kafka_and_nothing_is_forgotten() {
    let stage = stage(&environment(&[plain(), fragment("chain", CHAIN)]), |_| {}).await;
    let password = stage.secrets().join("shop/second-db/password");
    std::fs::remove_file(&password).unwrap();
    let mut cast = Cast::default();
    cast.services(&stage, &Service::ALL).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    stage.start_kafka().await.unwrap();
    let mut witness = Witness::of(&stage);

    // The middle: what needs Kafka itself is up, and the topic has heard of it.
    let early = ["module/first", "module/portal", "module/worker"];
    witness.until("half", |board| early.iter().all(|module| is(board, module, Phase::Ready))).await;
    let early = early.map(|module| module.parse::<Component>().unwrap());
    until("the topic has heard of half", async || {
        roster(&stage).await.is_some_and(|roster| early.iter().all(|module| is_ready(&roster, module)))
    })
    .await;
    let before = roster(&stage).await.unwrap();
    assert!(witness.board.missing().iter().any(|module| module.name() == "second"), "it is over already");

    cast.player("wait-for-dependency").unwrap().kill().await.unwrap();
    stage.kafka().unwrap().kill().await.unwrap();
    std::fs::write(&password, "Here-1t-is").unwrap();

    // It completes, and everybody says how.
    witness.until("complete", |board| board.missing().is_empty()).await;
    for module in stage.environment().modules() {
        let port = stage.stand_in_port(&module.component.to_string()).unwrap();
        let answer = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        assert!(answer.is_ok(), "{} is said to be ready and does not answer", module.component);
    }
    for service in PROVISIONERS {
        until("a provisioner says that it is degraded", async || {
            status(&stage, service).await.is_some_and(|status| status.mode() == Mode::Degraded)
        })
        .await;
    }
    assert_eq!(hubs_mode(&stage).await, Some(Mode::Degraded));
    let log = std::fs::read_to_string(stage.log("module/second")).unwrap();
    assert!(
        log.contains("the hub is not there; polling meanwhile") && log.contains(r#"mode="degraded""#),
        "{log}"
    );

    // Everything is told that was not, with the times it had.
    let components: Vec<Component> =
        lifecycle::Graph::of(stage.environment()).components().cloned().collect();
    stage.kafka().unwrap().start().await.unwrap();
    until("the roster is complete", async || {
        let roster = roster(&stage).await;
        roster.is_some_and(|roster| components.iter().all(|component| is_ready(&roster, component)))
    })
    .await;
    for service in Service::ALL.into_iter().filter(|service| *service != Service::TelemetryExporter) {
        until("everybody is woken again", async || {
            status(&stage, service).await.is_some_and(|status| status.mode() == Mode::Push)
        })
        .await;
    }
    witness.until("all ready again", |board| board.count().0 == board.count().1).await;

    let after = roster(&stage).await.unwrap();
    for component in &components {
        let (event, seen) = (after.get(component).unwrap(), witness.seen[component]);
        // What provisioners make the hub may see a moment before they say so; their own word is compared below.
        if matches!(component.kind(), Kind::Module | Kind::Postgres | Kind::Kafka) {
            assert!(
                event.since <= seen,
                "{component}: seen at {seen:?}, {:?} became {event:?}",
                before.get(component)
            );
        }
        // What Kafka holds was away with it.
        let was = before.get(component).filter(|event| event.phase == Phase::Ready);
        if let Some(was) = was.filter(|_| !matches!(component.kind(), Kind::Kafka | Kind::Topic)) {
            assert_eq!(event.since, was.since, "{component}: {was:?} became {event:?}");
        }
    }
    for service in [Service::SecretSyncer, Service::PostgresInit] {
        for state in status(&stage, service).await.unwrap().components {
            let component: Component = state.component.parse().unwrap();
            let since = state.since.unwrap();
            let since =
                since.seconds.unsigned_abs() * 1000 + u64::from(since.nanos.unsigned_abs()) / 1_000_000;
            if component.kind() != Kind::Postgres {
                assert_eq!(
                    after.get(&component).unwrap().since,
                    Moment(since),
                    "{component}, of {}",
                    service.name()
                );
            }
        }
    }
    stage.strike().await.unwrap();
}
