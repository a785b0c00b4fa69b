//! What is held while one component is changed: its lock, what was seen and decided under it, and a way into its database.

use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::clock;
use chassis::converge::{Fault, Making, Plan, span};
use chassis::exit::chain;
use chassis::provision::Change;
use lifecycle::Component;
use postgres::Session;
use tracing::{Instrument, warn};

use super::facts::World;
use super::{Error, PostgresTarget, TRIES, history, look, registry};
use crate::plan::{self, Step};
use crate::spec::ServerSpec;

/// The lock on a component. What was decided under it stays right for as long as it is held: nobody else of ours changes that
/// component meanwhile, and each change of a plan is idempotent.
pub(super) struct Hold<'a> {
    pub(super) spec: &'a ServerSpec,
    key: registry::Key<'a>,
    /// In database `rollcall`; it has the lock.
    pub(super) session: Session,
    pub(super) world: World,
    plan: Plan<Step>,
    /// In the component's own database, once something inside was changed.
    pub(super) inside: Option<Session>,
    /// What was changed, or tried.
    changes: Vec<Change>,
}

impl PostgresTarget {
    /// Makes the changes of one component under one lock, looking once.
    pub(super) async fn make_held(
        &self,
        spec: &ServerSpec,
        steps: &[Step],
        tell: &(dyn Fn(Making<'_>) + Sync),
    ) -> Result<(), (usize, Error)> {
        let Some(first) = steps.first() else { return Ok(()) };
        let spec = spec.only(&first.component);
        let mut hold = None;
        for (place, step) in steps.iter().enumerate() {
            tell(Making::Begins(place));
            let made = self.try_held(&spec, &mut hold, step).instrument(span(step)).await;
            tell(Making::ended(place, &made));
            if let Err(error) = made {
                if let Some(hold) = hold.filter(|_| error.is_an_answer()) {
                    // What went wrong first is what is told.
                    let _ = self.let_go(hold).await;
                }
                return Err((place, error));
            }
        }
        match hold {
            Some(hold) => self.let_go(hold).await.map_err(|error| (steps.len() - 1, error)),
            None => Ok(()),
        }
    }

    /// Tries a change until nobody else changes the same thing meanwhile. Who lost such a race looks again before the next try.
    async fn try_held<'a>(
        &self,
        spec: &'a ServerSpec,
        hold: &mut Option<Hold<'a>>,
        step: &Step,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        for _ in 1..TRIES {
            match self.once_held(spec, hold, step).await {
                Err(error) if error.is_race() => {
                    // Without the lock while it waits; of what is tried again only the last try is history.
                    if let Some(mut hold) = hold.take() {
                        hold.changes.pop();
                        self.let_go(hold).await?;
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                other => return other,
            }
        }
        self.once_held(spec, hold, step).await
    }

    async fn once_held<'a>(
        &self,
        spec: &'a ServerSpec,
        hold: &mut Option<Hold<'a>>,
        step: &Step,
    ) -> Result<(), Error> {
        let hold = match hold {
            Some(hold) => hold,
            None => hold.insert(self.hold(spec, &step.component).await?),
        };
        if let Some(note) = hold.plan.refusals.first() {
            Err(Error::Refused(note.text.clone()))
        } else if let Some(note) = hold.plan.pending.first() {
            Err(Error::Pending(note.text.clone()))
        } else if hold.plan.steps.contains(step) || step.change.is_inside() {
            // What is inside was not looked at again: these changes do no harm where they are made already.
            let made = self.change(hold, step).await;
            hold.changes.push(Change {
                time: clock::now(),
                component: step.component.clone(),
                step: step.to_string(),
                error: made.as_ref().err().map(|error| chain(error)),
                code: made.as_ref().err().map(Fault::code).unwrap_or_default(),
                source: self.source.clone(),
            });
            made
        } else {
            Ok(())
        }
    }

    async fn hold<'a>(&self, spec: &'a ServerSpec, component: &Component) -> Result<Hold<'a>, Error> {
        let mut session = self.registry(spec).await?;
        let key = registry::Key::of(spec, component);
        registry::lock(&mut session, key).await?;
        let world = self.look(spec, &mut session, look::Depth::Shared).await?;
        let plan = plan::plan(spec, &world);
        Ok(Hold { spec, key, session, world, plan, inside: None, changes: Vec::new() })
    }

    async fn let_go(&self, hold: Hold<'_>) -> Result<(), Error> {
        let Hold { spec, key, mut session, inside, changes, .. } = hold;
        if let Some(inside) = inside {
            inside.close().await;
        }
        if let Err(error) = history::write(&mut session, spec, &self.source, &changes).await {
            // What was made is made, whether it can be told later or not; a session that is lost is told by the lock.
            warn!("what was done is not in the history of {}: {}", spec.component, chain(&error));
        }
        registry::unlock(&mut session, key).await?;
        self.keep(session);
        Ok(())
    }
}
