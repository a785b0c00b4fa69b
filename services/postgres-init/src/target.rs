//! Whatever documents ask of postgres-init, as one kind of target: a server with its databases and roles, or a migration.

use std::collections::BTreeSet;
use std::fmt;

use chassis::converge::{self, Fault, Making, Note, Plan, Reconcile};
use chassis::provision::Change;
use lifecycle::{Component, Evidence};

use crate::migrate::{self, MigrationSpec, MigrationTarget};
use crate::spec::ServerSpec;
use crate::world::{self, PostgresTarget};

/// What makes either of them.
#[derive(Debug)]
pub enum Maker {
    /// A server.
    Server(PostgresTarget),
    /// A migration.
    Migration(MigrationTarget),
}

/// What should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A server.
    Server(Box<ServerSpec>),
    /// A migration.
    Migration(Box<MigrationSpec>),
}

/// What is.
#[derive(Debug)]
pub enum World {
    /// Of a server.
    Server(Box<world::facts::World>),
    /// Of a migration.
    Migration(Box<migrate::plan::World>),
}

/// One change.
#[derive(Debug)]
pub enum Step {
    /// Of a server.
    Server(crate::plan::Step),
    /// Of a migration.
    Migration(migrate::plan::Step),
}

/// What goes wrong with either of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// With a server.
    #[error(transparent)]
    Server(#[from] world::Error),
    /// With a migration.
    #[error(transparent)]
    Migration(#[from] migrate::Error),
    /// A target was given what belongs to another.
    #[error("{0}: its target does not fit; this is a fault of Rollcall")]
    Mixed(Component),
}

impl Spec {
    /// What it is about.
    pub fn component(&self) -> &Component {
        match self {
            Spec::Server(spec) => &spec.component,
            Spec::Migration(spec) => &spec.component,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Server(step) => step.fmt(f),
            Step::Migration(step) => step.fmt(f),
        }
    }
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        match self {
            Step::Server(step) => step.component(),
            Step::Migration(step) => step.component(),
        }
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Server(error) => error.is_transient(),
            Error::Migration(error) => error.is_transient(),
            Error::Mixed(_) => false,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Server(error) => error.code(),
            Error::Migration(error) => error.code(),
            Error::Mixed(_) => String::new(),
        }
    }
}

impl Reconcile for Maker {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        match spec {
            Spec::Server(spec) => PostgresTarget::components(spec),
            Spec::Migration(spec) => MigrationTarget::components(spec),
        }
    }

    fn only(spec: &Spec, component: &Component) -> Spec {
        match spec {
            Spec::Server(spec) => Spec::Server(Box::new(spec.only(component))),
            Spec::Migration(_) => spec.clone(),
        }
    }

    fn reports_only(spec: &Spec, component: &Component) -> bool {
        match spec {
            Spec::Server(spec) => PostgresTarget::reports_only(spec, component),
            Spec::Migration(spec) => MigrationTarget::reports_only(spec, component),
        }
    }

    fn leaves(spec: &Spec, world: &World, component: &Component) -> Option<&'static str> {
        match (spec, world) {
            (Spec::Server(spec), World::Server(world)) => PostgresTarget::leaves(spec, world, component),
            _ => None,
        }
    }

    fn nothing(spec: &Spec) -> World {
        match spec {
            Spec::Server(spec) => World::Server(Box::new(PostgresTarget::nothing(spec))),
            Spec::Migration(spec) => World::Migration(Box::new(MigrationTarget::nothing(spec))),
        }
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        match (self, spec) {
            (Maker::Server(target), Spec::Server(spec)) => {
                Ok(World::Server(Box::new(target.observe(spec).await?)))
            }
            (Maker::Migration(target), Spec::Migration(spec)) => {
                Ok(World::Migration(Box::new(target.observe(spec).await?)))
            }
            _ => Err(Error::Mixed(spec.component().clone())),
        }
    }

    fn begins(&self) -> u64 {
        match self {
            Maker::Server(target) => target.begins(),
            Maker::Migration(target) => target.begins(),
        }
    }

    fn plan(spec: &Spec, world: &World) -> Plan<Step> {
        match (spec, world) {
            (Spec::Server(spec), World::Server(world)) => of(PostgresTarget::plan(spec, world), Step::Server),
            (Spec::Migration(spec), World::Migration(world)) => {
                of(MigrationTarget::plan(spec, world), Step::Migration)
            }
            _ => Plan {
                refusals: vec![Note::new(spec.component(), Error::Mixed(spec.component().clone()))],
                ..Plan::default()
            },
        }
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        match (self, spec, step) {
            (Maker::Server(target), Spec::Server(spec), Step::Server(step)) => {
                Ok(target.apply(spec, step).await?)
            }
            (Maker::Migration(target), Spec::Migration(spec), Step::Migration(step)) => {
                Ok(target.apply(spec, step).await?)
            }
            _ => Err(Error::Mixed(spec.component().clone())),
        }
    }

    async fn history(
        &self,
        spec: &Spec,
        components: &BTreeSet<Component>,
        limit: usize,
    ) -> Result<Option<Vec<Change>>, Error> {
        match (self, spec) {
            (Maker::Server(target), Spec::Server(spec)) => {
                Ok(target.history(spec, components, limit).await?)
            }
            (Maker::Migration(target), Spec::Migration(spec)) => {
                Ok(target.history(spec, components, limit).await?)
            }
            _ => Err(Error::Mixed(spec.component().clone())),
        }
    }

    async fn make(
        &self,
        spec: &Spec,
        steps: &[Step],
        tell: &(dyn Fn(Making<'_>) + Sync),
    ) -> Result<(), (usize, Error)> {
        match (self, spec) {
            (Maker::Server(target), Spec::Server(spec)) => {
                let own = |step: &Step| match step {
                    Step::Server(step) => Some(step.clone()),
                    Step::Migration(_) => None,
                };
                let steps: Option<Vec<_>> = steps.iter().map(own).collect();
                let steps = steps.ok_or_else(|| (0, Error::Mixed(spec.component.clone())))?;
                Ok(target.make(spec, &steps, tell).await.map_err(|(place, error)| (place, error.into()))?)
            }
            (Maker::Migration(target), Spec::Migration(spec)) => {
                let own = |step: &Step| match step {
                    Step::Migration(step) => Some(step.clone()),
                    Step::Server(_) => None,
                };
                let steps: Option<Vec<_>> = steps.iter().map(own).collect();
                let steps = steps.ok_or_else(|| (0, Error::Mixed(spec.component.clone())))?;
                Ok(target.make(spec, &steps, tell).await.map_err(|(place, error)| (place, error.into()))?)
            }
            _ => Err((0, Error::Mixed(spec.component().clone()))),
        }
    }

    fn evidence(spec: &Spec, world: &World, component: &Component) -> Evidence {
        match (spec, world) {
            (Spec::Server(spec), World::Server(world)) => PostgresTarget::evidence(spec, world, component),
            (Spec::Migration(spec), World::Migration(world)) => {
                MigrationTarget::evidence(spec, world, component)
            }
            _ => Evidence::default(),
        }
    }
}

fn of<S, T>(plan: Plan<S>, step: impl Fn(S) -> T) -> Plan<T> {
    Plan {
        steps: plan.steps.into_iter().map(step).collect(),
        refusals: plan.refusals,
        drift: plan.drift,
        pending: plan.pending,
    }
}
