//! Whatever a document asks of secret-syncer, as one kind of target: an object in the store, a client of Keycloak, or the keys
//! that a module's pods refer to.

use std::fmt;

use chassis::converge::{self, Fault, Note, Plan, Reconcile, Standing};
use lifecycle::{Component, Evidence};

use crate::keycloak::{self, KeycloakTarget};
use crate::world::{self, Backend, InStore, Target};
use crate::{plan, referenced, spec};

/// What makes any of them.
#[derive(Debug)]
pub enum Maker<B> {
    /// An object in the store.
    Object(Target<B>),
    /// A client of Keycloak.
    Client(KeycloakTarget<InStore<B>>),
    /// What looks at the keys that pods refer to.
    Keys {
        /// Where objects are.
        store: B,
        /// Where workloads are.
        cluster: Option<kubernetes::Cluster>,
    },
}

/// What should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// An object.
    Object(Box<spec::Spec>),
    /// A client.
    Client(Box<keycloak::Spec>),
    /// The keys of a module.
    Keys(Box<referenced::Spec>),
}

/// What is.
#[derive(Debug)]
pub enum World {
    /// Of an object.
    Object(Box<plan::World>),
    /// Of a client.
    Client(Box<keycloak::World>),
    /// Of a module's keys.
    Keys(Box<referenced::World>),
}

/// One change.
#[derive(Debug)]
pub enum Step {
    /// Of an object.
    Object(plan::Step),
    /// Of a client.
    Client(Box<keycloak::Step>),
}

/// What goes wrong with any of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// With an object.
    #[error(transparent)]
    Object(#[from] world::Error),
    /// With a client.
    #[error(transparent)]
    Client(#[from] keycloak::Error),
    /// A target was given what belongs to another.
    #[error("{0}: its target does not fit; this is a fault of Rollcall")]
    Mixed(Component),
}

impl Spec {
    fn component(&self) -> &Component {
        match self {
            Spec::Object(spec) => &spec.object,
            Spec::Client(spec) => &spec.component,
            Spec::Keys(spec) => &spec.module,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Object(step) => step.fmt(f),
            Step::Client(step) => step.fmt(f),
        }
    }
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        match self {
            Step::Object(step) => step.component(),
            Step::Client(step) => step.component(),
        }
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Object(error) => error.is_transient(),
            Error::Client(error) => error.is_transient(),
            Error::Mixed(_) => false,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Object(error) => error.code(),
            Error::Client(error) => error.code(),
            Error::Mixed(_) => String::new(),
        }
    }
}

type OfClient<B> = KeycloakTarget<InStore<B>>;

impl<B: Backend> Reconcile for Maker<B> {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        vec![spec.component().clone()]
    }

    fn only(spec: &Spec, _: &Component) -> Spec {
        spec.clone()
    }

    fn reports_only(spec: &Spec, component: &Component) -> bool {
        match spec {
            Spec::Object(spec) => Target::<B>::reports_only(spec, component),
            Spec::Client(spec) => OfClient::<B>::reports_only(spec, component),
            // Nothing is ever done to it.
            Spec::Keys(_) => false,
        }
    }

    fn nothing(spec: &Spec) -> World {
        match spec {
            Spec::Object(spec) => World::Object(Box::new(Target::<B>::nothing(spec))),
            Spec::Client(spec) => World::Client(Box::new(OfClient::<B>::nothing(spec))),
            Spec::Keys(_) => World::Keys(Box::default()),
        }
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        match (self, spec) {
            (Maker::Object(target), Spec::Object(spec)) => {
                Ok(World::Object(Box::new(target.observe(spec).await?)))
            }
            (Maker::Client(target), Spec::Client(spec)) => {
                Ok(World::Client(Box::new(target.observe(spec).await?)))
            }
            (Maker::Keys { store, cluster }, Spec::Keys(spec)) => {
                Ok(World::Keys(Box::new(referenced::observe(store, cluster.as_ref(), spec).await?)))
            }
            _ => Err(Error::Mixed(spec.component().clone())),
        }
    }

    fn plan(spec: &Spec, world: &World) -> Plan<Step> {
        match (spec, world) {
            (Spec::Object(spec), World::Object(world)) => of(Target::<B>::plan(spec, world), Step::Object),
            (Spec::Client(spec), World::Client(world)) => {
                of(OfClient::<B>::plan(spec, world), |step| Step::Client(Box::new(step)))
            }
            (Spec::Keys(spec), World::Keys(world)) => referenced::plan::plan(spec, world),
            _ => Plan {
                refusals: vec![Note::new(spec.component(), Error::Mixed(spec.component().clone()))],
                ..Plan::default()
            },
        }
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        match (self, spec, step) {
            (Maker::Object(target), Spec::Object(spec), Step::Object(step)) => {
                Ok(target.apply(spec, step).await?)
            }
            (Maker::Client(target), Spec::Client(spec), Step::Client(step)) => {
                Ok(target.apply(spec, step).await?)
            }
            _ => Err(Error::Mixed(spec.component().clone())),
        }
    }

    fn evidence(spec: &Spec, world: &World, component: &Component) -> Evidence {
        match (spec, world) {
            (Spec::Object(spec), World::Object(world)) => Target::<B>::evidence(spec, world, component),
            (Spec::Client(spec), World::Client(world)) => OfClient::<B>::evidence(spec, world, component),
            (Spec::Keys(_), World::Keys(_)) => referenced::evidence(),
            _ => Evidence::default(),
        }
    }

    fn told(&self, component: &Component, standing: &Standing) {
        match self {
            Maker::Object(target) => target.told(component, standing),
            Maker::Client(target) => target.told(component, standing),
            Maker::Keys { .. } => {}
        }
    }

    fn left(&self, component: &Component) {
        match self {
            Maker::Object(target) => target.left(component),
            Maker::Client(target) => target.left(component),
            Maker::Keys { .. } => {}
        }
    }

    fn unseen(&self, spec: &Spec, error: &Error) {
        if let (Maker::Object(target), Spec::Object(spec), Error::Object(error)) = (self, spec, error) {
            target.unseen(spec, error);
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
