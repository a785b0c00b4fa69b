//! The bus against librdkafka's mock cluster, which knows no admin requests: topics are made beforehand and not checked.

use std::future::Future;

use lifecycle::{Component, Evidence, Kind, Moment, Phase};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use uuid::Uuid;

use super::*;

type Kafka = MockCluster<'static, DefaultProducerContext>;

fn environment() -> Identity {
    Identity { name: "dev".to_owned(), uid: Uuid::from_u128(7) }
}

fn topic() -> String {
    lifecycle_topic("dev")
}

fn kafka() -> Kafka {
    let kafka = MockCluster::new(1).unwrap();
    kafka.create_topic(&topic(), 1, 1).unwrap();
    kafka
}

fn cluster(kafka: &Kafka) -> Cluster {
    // The mock's long poll does not end when news comes.
    Cluster::new(kafka.bootstrap_servers()).with("fetch.wait.max.ms", "50")
}

fn bus(kafka: &Kafka, shutdown: &Shutdown) -> Bus {
    Bus::start(cluster(kafka), environment(), shutdown, Part::Member)
}

pub(crate) fn event(name: &str, phase: Phase, since: u64) -> Event {
    Event {
        environment: environment().uid,
        component: Component::new(Kind::Database, name),
        phase,
        since: Moment(since),
        generation: 1,
        evidence: Evidence::default(),
        reason: String::new(),
        attempts: 0,
        source: "test/1".to_owned(),
        time: Moment(since),
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(30);
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn heard(updates: &mut Subscription) -> BusUpdate {
    soon("an update", updates.next()).await.expect("the bus goes on")
}

async fn heard_event(updates: &mut Subscription) -> Event {
    loop {
        if let BusUpdate::Event { event, .. } = heard(updates).await {
            return event;
        }
    }
}

async fn caught_up(updates: &mut Subscription) -> Vec<BusUpdate> {
    let mut all = Vec::new();
    loop {
        match heard(updates).await {
            BusUpdate::CaughtUp => return all,
            update => all.push(update),
        }
    }
}

async fn write(kafka: &Kafka, key: &str, value: Option<&[u8]>) {
    soon("a record", produce_acked(&cluster(kafka), &topic(), key, value)).await.unwrap();
}

async fn write_event(kafka: &Kafka, event: &Event) {
    let record = News::Event(event.clone()).record("dev").encode_to_vec();
    write(kafka, &event.key(), Some(&record)).await;
}

#[tokio::test]
async fn a_subscriber_hears_the_snapshot_then_news_however_late_it_comes() {
    let (kafka, shutdown) = (kafka(), Shutdown::manual());
    write_event(&kafka, &event("a", Phase::Working, 1)).await;
    write_event(&kafka, &event("a", Phase::Ready, 2)).await;
    let bus = bus(&kafka, &shutdown);
    let mut updates = bus.subscribe();
    assert_eq!(caught_up(&mut updates).await.len(), 2);
    assert_eq!(*bus.mode().borrow(), Mode::Push);

    bus.publish(&News::Event(event("b", Phase::Ready, 3)));
    assert_eq!(heard_event(&mut updates).await, event("b", Phase::Ready, 3));
    bus.tombstone("database/a@1#working");
    assert_eq!(heard(&mut updates).await, BusUpdate::Deleted("database/a@1#working".to_owned()));

    let late = caught_up(&mut bus.subscribe()).await;
    assert_eq!(late.len(), 2, "what was deleted is not said: {late:?}");
    shutdown.trigger();
    assert_eq!(soon("the end", updates.next()).await, None);
}

#[tokio::test]
async fn a_record_that_is_not_understood_stops_nothing() {
    let (kafka, shutdown) = (kafka(), Shutdown::manual());
    let mut newer = News::Event(event("a", Phase::Ready, 1)).record("dev");
    if let Some(rollcall_proto::lifecycle::v1::record::Record::Event(event)) = &mut newer.record {
        event.phase = 77;
    }
    write(&kafka, "database/a@1#ready", Some(&newer.encode_to_vec())).await;
    write(&kafka, "database/a@1#ready", Some(b"nonsense")).await;
    write(&kafka, "database/a@1#ready", Some(b"")).await;
    write_event(&kafka, &event("b", Phase::Ready, 2)).await;
    let heard = caught_up(&mut bus(&kafka, &shutdown).subscribe()).await;
    assert!(
        matches!(&heard[..], [BusUpdate::Event { event, .. }] if event.component.name() == "b"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_topic_of_a_foreign_environment_is_never_written() {
    let (kafka, shutdown) = (kafka(), Shutdown::manual());
    let foreign = Event { environment: Uuid::from_u128(8), ..event("a", Phase::Ready, 1) };
    write_event(&kafka, &foreign).await;
    let bus = bus(&kafka, &shutdown);
    bus.publish(&News::Event(event("b", Phase::Ready, 2)));
    assert_eq!(soon("a refusal", bus.flush(Duration::from_mins(1))).await, 1);
    let mode = bus.mode().borrow().clone();
    assert!(matches!(&mode, Mode::Degraded(why) if why.contains("belongs to environment")), "{mode:?}");
    assert!(matches!(heard(&mut bus.subscribe()).await, BusUpdate::Lost(_)));
    let kept =
        soon("reading", read_to_end(&cluster(&kafka), &topic(), Duration::from_secs(10))).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.key.as_str()).collect::<Vec<_>>(), ["database/a@1#ready"]);
}

#[tokio::test]
async fn what_was_published_while_the_broker_was_away_arrives_once_it_is_back() {
    let (kafka, shutdown) = (kafka(), Shutdown::manual());
    write_event(&kafka, &event("a", Phase::Ready, 1)).await;
    let bus = bus(&kafka, &shutdown);
    let mut updates = bus.subscribe();
    caught_up(&mut updates).await;

    kafka.broker_down(1).unwrap();
    assert!(matches!(heard(&mut updates).await, BusUpdate::Lost(_)));
    assert!(matches!(*bus.mode().borrow(), Mode::Degraded(_)));
    for since in 2..5 {
        bus.publish(&News::Event(event("b", Phase::Ready, since)));
    }
    assert_eq!(bus.unsent(), 1, "one record per key");
    assert_eq!(bus.flush(Duration::from_millis(10)).await, 1);

    kafka.broker_up(1).unwrap();
    assert_eq!(bus.flush(Duration::from_secs(30)).await, 0);
    assert_eq!(heard_event(&mut updates).await.component.name(), "a", "everything is said again");
    assert_eq!(heard_event(&mut updates).await.since, Moment(4));
}

#[tokio::test]
async fn without_a_bus_nothing_happens() {
    let bus = Bus::none();
    bus.publish(&News::Event(event("a", Phase::Ready, 1)));
    assert_eq!(bus.flush(Duration::from_mins(1)).await, 0);
    assert_eq!(*bus.mode().borrow(), Mode::Direct);
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_misses_no_last_word() {
    let fold = Arc::new(Fold::new(Mode::Direct));
    let mut updates = Subscription::new(Arc::clone(&fold));
    let say = |name: &str, since: u64| {
        let event = event(name, Phase::Ready, since);
        fold.apply(&event.key(), since, None, News::Event(event));
    };
    say("a", 1);
    fold.set_link(Link::Live);
    assert_eq!(caught_up(&mut updates).await.len(), 1);

    for since in 2..10_000 {
        say("a", since);
    }
    assert_eq!(heard_event(&mut updates).await.since, Moment(9_999));

    // More deletions than are remembered: everything is said anew.
    for i in 0..2_000 {
        let event = event(&format!("x{i}"), Phase::Ready, i);
        fold.apply(&event.key(), i, None, News::Event(event.clone()));
        fold.delete(&event.key());
    }
    assert!(matches!(heard(&mut updates).await, BusUpdate::Lost(_)));
    let anew = caught_up(&mut updates).await;
    assert!(
        matches!(&anew[..], [BusUpdate::Event { event, .. }] if event.component.name() == "a"),
        "{anew:?}"
    );
}

#[test]
fn debug_output_of_a_cluster_shows_no_password() {
    let cluster = Cluster::new("kafka:9092").with("sasl.password", "planted");
    assert!(!format!("{cluster:?}").contains("planted"));
}

#[tokio::test]
async fn a_member_waits_until_the_topic_is_made() {
    let kafka = MockCluster::<'static, DefaultProducerContext>::new(1).unwrap();
    let shutdown = Shutdown::manual();
    let bus = bus(&kafka, &shutdown);
    let mut mode = bus.mode();
    let missing = |mode: &Mode| matches!(mode, Mode::Degraded(why) if why.contains("does not exist yet"));
    soon("that it is missing", mode.wait_for(missing)).await.unwrap();
    kafka.create_topic(&topic(), 1, 1).unwrap();
    soon("the bus", mode.wait_for(|mode| *mode == Mode::Push)).await.unwrap();
    shutdown.trigger();
}
