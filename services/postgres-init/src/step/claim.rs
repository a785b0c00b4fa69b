//! The claim on a step while its command runs: a lock that lives with its session, watched, and taken again where the session is lost.

use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::exit::chain;
use lifecycle::Component;
use postgres::Session;
use tokio::time::Instant;
use tracing::warn;

use super::spec::StepSpec;
use crate::spec::ServerSpec;
use crate::world::ledger::{self, Run, State};
use crate::world::{Error, PostgresTarget, delegated};

/// How often it is looked whether the session still lives.
const EVERY: Duration = Duration::from_secs(5);

/// A run that has begun and that nobody holds is left to whoever began it for so long: who lost the server or the way to it holds it
/// again by then.
const GRACE: Duration = Duration::from_secs(15);

/// A run that nobody holds, and since when that is seen.
#[derive(Debug, Default)]
pub(crate) struct Left(Option<(i64, Instant)>);

impl Left {
    /// Why the last run is not judged yet by whoever could take its lock `now`; none when it may be.
    pub(crate) fn waits(&mut self, last: Option<&Run>, now: Instant) -> Option<String> {
        let run = last.filter(|run| run.state == State::Running)?;
        let since = self.0.filter(|(number, _)| *number == run.number).map_or(now, |(_, since)| since);
        self.0 = Some((run.number, since));
        (now.duration_since(since) < GRACE).then(|| {
            format!(
                "run {} was begun by {}, and nobody holds it just now; it is left to that one for {} s",
                run.number,
                run.by,
                GRACE.as_secs()
            )
        })
    }

    /// Somebody holds it.
    pub(crate) fn is_held(&mut self) {
        self.0 = None;
    }
}

/// The last run of a step; where it was another fragment's, whether that stands as accepted.
pub(crate) async fn last(session: &mut Session, spec: &StepSpec) -> Result<Option<Run>, Error> {
    let last = ledger::latest(session, &spec.server, &spec.component, spec.database.as_deref()).await?;
    let Some(mut run) = last else { return Ok(None) };
    if run.fragment != spec.fragment {
        run.accepted = delegated::namespaces(&spec.server, session).await?.contains_key(&run.fragment);
    }
    Ok(Some(run))
}

/// Whether what a step that never ran works on may be older than the ledger.
pub(crate) async fn older(session: &mut Session, spec: &StepSpec) -> Result<bool, Error> {
    ledger::older(session, &spec.server, spec.database.as_deref()).await
}

/// What becomes of a claim that was lost.
pub(crate) enum Regained {
    /// It is ours again.
    Ours,
    /// How it ended is written down already.
    Ended,
    /// Somebody else has begun a run since, of this number.
    Anothers(i64),
    /// Somebody else holds the lock, and it may be our own old session; to be tried again.
    Held,
}

/// Whether the run of this number may go on over a new session: nobody else has begun one, and the lock can be had.
pub(crate) async fn regain(
    session: &mut Session,
    server: &ServerSpec,
    component: &Component,
    number: i64,
) -> Result<Regained, Error> {
    let taken = ledger::try_lock(session, server, component).await?;
    let last = ledger::latest(session, server, component, None).await?;
    Ok(match last {
        Some(run) if run.number != number => Regained::Anothers(run.number),
        Some(run) if taken && run.state == State::Running => Regained::Ours,
        Some(run) if run.state != State::Running => Regained::Ended,
        _ => Regained::Held,
    })
}

/// Watches the session that holds the lock, and takes the lock again where it is lost. Ends only when the run is another's business.
pub(super) async fn watch(session: &mut Session, target: &PostgresTarget, spec: &StepSpec, number: i64) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Err(error) = session.execute("SELECT 1").await else { continue };
        warn!(component = %spec.component, run = number, "the session that holds its lock is lost, the lock is taken again: {error}");
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match again(session, target, spec, number).await {
                Ok(Regained::Ours) => break,
                Ok(Regained::Anothers(other)) => {
                    warn!(component = %spec.component, run = number, "run {other} has begun since");
                    return;
                }
                // Only a person writes that for us.
                Ok(Regained::Ended) => return,
                Ok(Regained::Held) => {}
                Err(error) => tracing::debug!(component = %spec.component, "{}", chain(&error)),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
        warn!(component = %spec.component, run = number, "the lock is held again");
    }
}

async fn again(
    session: &mut Session,
    target: &PostgresTarget,
    spec: &StepSpec,
    number: i64,
) -> Result<Regained, Error> {
    let mut new = target.registry(&spec.server).await?;
    let regained = regain(&mut new, &spec.server, &spec.component, number).await?;
    if matches!(regained, Regained::Ours) {
        *session = new;
    }
    Ok(regained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nobody_holds_is_left_for_a_while_and_then_judged() {
        let run = |number, state| Run {
            number,
            fragment: "base".to_owned(),
            accepted: false,
            state,
            hash: String::new(),
            inputs: String::new(),
            same_database: true,
            by: "somebody".to_owned(),
            started: "then".to_owned(),
            exit: None,
            output: String::new(),
        };
        let (mut left, begun) = (Left::default(), Instant::now());
        assert_eq!(left.waits(None, begun), None);
        assert_eq!(left.waits(Some(&run(1, State::Failed)), begun), None);
        let running = run(1, State::Running);
        assert!(left.waits(Some(&running), begun).is_some_and(|why| why.contains("somebody")));
        assert_eq!(left.waits(Some(&running), begun + GRACE), None);
        // Another run, and one that was held again, are left anew.
        assert!(left.waits(Some(&run(2, State::Running)), begun + GRACE).is_some());
        left.is_held();
        assert!(left.waits(Some(&running), begun + GRACE).is_some());
    }
}
