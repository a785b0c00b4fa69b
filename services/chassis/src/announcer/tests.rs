//! What announcing keeps, over restarts and generations. The bus itself is tested in its own module.

use lifecycle::{Kind, Moment};
use uuid::Uuid;

use super::*;

fn environment() -> Identity {
    Identity { name: "dev".to_owned(), uid: Uuid::from_u128(7) }
}

fn component() -> Component {
    Component::new(Kind::Database, "registry")
}

fn announcer() -> Announcer {
    Announcer::new(Bus::none(), environment(), "postgres-init/2")
}

fn say(announcer: &Announcer, phase: Phase) {
    announcer.announce(&component(), phase, "", Evidence::default());
}

fn attempt(announcer: &Announcer, phase: Phase) {
    announcer.attempt(&component(), phase, "", Evidence::default());
}

fn now(announcer: &Announcer) -> Event {
    announcer.current().pop().unwrap()
}

fn told(source: &str, phase: Phase, generation: u64) -> Event {
    Event {
        environment: environment().uid,
        component: component(),
        phase,
        since: Moment(1_000),
        generation,
        evidence: Evidence::default(),
        reason: String::new(),
        attempts: 3,
        source: source.to_owned(),
        time: Moment(1_000),
    }
}

fn hear(announcer: &Announcer, event: Event) {
    announcer.0.hear(BusUpdate::Event { offset: 0, event, traceparent: None });
    announcer.0.hear(BusUpdate::CaughtUp);
}

#[test]
fn the_same_phase_again_keeps_its_time() {
    let announcer = announcer();
    say(&announcer, Phase::Waiting);
    let first = now(&announcer);
    announcer.announce(&component(), Phase::Waiting, "for postgres/main", Evidence::default());
    let again = now(&announcer);
    assert_eq!((again.since, again.id()), (first.since, first.id()));
    assert_eq!(again.reason, "for postgres/main");
}

#[test]
fn tries_add_up_until_something_was_ready() {
    let announcer = announcer();
    for phase in [Phase::Working, Phase::Failed, Phase::Working] {
        let tries = if phase == Phase::Working { attempt } else { say };
        tries(&announcer, phase);
    }
    say(&announcer, Phase::Ready);
    assert_eq!(now(&announcer).attempts, 2);
    attempt(&announcer, Phase::Working);
    assert_eq!(now(&announcer).attempts, 1);
}

#[test]
fn each_phase_is_later_than_the_one_before() {
    let announcer = announcer();
    let mut last = Moment(0);
    for phase in Phase::ALL {
        say(&announcer, phase);
        assert!(now(&announcer).since > last, "{phase}");
        last = now(&announcer).since;
    }
}

#[test]
fn a_process_that_comes_back_goes_on_where_its_earlier_life_ended() {
    for heard_first in [true, false] {
        let announcer = announcer();
        let event = told("postgres-init/1", Phase::Working, 0);
        if heard_first {
            hear(&announcer, event.clone());
        }
        attempt(&announcer, Phase::Working);
        if !heard_first {
            hear(&announcer, event);
        }
        let event = now(&announcer);
        assert_eq!((event.since, event.attempts), (Moment(1_000), 4), "heard first: {heard_first}");
        say(&announcer, Phase::Failed);
        assert_eq!(now(&announcer).attempts, 4);
        say(&announcer, Phase::Working);
        assert!(now(&announcer).since > Moment(1_000), "what came between ended it");
    }
}

#[test]
fn what_another_service_or_generation_or_phase_told_is_not_taken_over() {
    for event in [
        told("wait-for-dependency/1", Phase::Working, 0),
        told("postgres-init/1", Phase::Ready, 0),
        told("postgres-init/1", Phase::Working, 9),
    ] {
        let announcer = announcer();
        hear(&announcer, event.clone());
        say(&announcer, Phase::Working);
        assert!(now(&announcer).since > Moment(1_000), "{event:?}");
    }
}

#[test]
fn a_new_generation_keeps_times_and_takes_over_its_own() {
    let announcer = announcer();
    hear(&announcer, told("postgres-init/1", Phase::Working, 9));
    say(&announcer, Phase::Working);
    announcer.set_generation(9);
    let event = now(&announcer);
    assert_eq!((event.generation, event.since, event.attempts), (9, Moment(1_000), 3));
    announcer.set_generation(10);
    assert_eq!((now(&announcer).generation, now(&announcer).since), (10, Moment(1_000)));
}

#[tokio::test]
async fn without_a_bus_there_is_nothing_to_wait_for() {
    let announcer = announcer();
    say(&announcer, Phase::Ready);
    assert_eq!(announcer.flush(Duration::from_mins(1)).await, 0);
}
