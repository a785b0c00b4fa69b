//! What a provisioner that serves does when it is asked to over gRPC: `rollcall.diagnostics.v1.Provisioner`.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use lifecycle::document::Environment;
use lifecycle::{Component, ComponentError};
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::provisioner_server::{Provisioner, ProvisionerServer};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::Nudges;
use super::crew::Targets;
use super::history::{Change, History};
use super::passes::Passes;
use crate::announcer::Announcer;
use crate::converge::Reconcile;
use crate::exit::chain;
use crate::grpc::{Callers, Writer};
use crate::wire::{self, ComponentState};

/// More components in one request are refused.
const MANY: usize = 1_024;
/// How many changes are told when nobody says how many, and at most.
const SOME: usize = 100;
const MOST: usize = 1_000;
/// How long a pass is waited for; then it is told how things stand all the same.
const PATIENCE: Duration = Duration::from_mins(10);

/// Who works on what, and what came of it.
pub(super) struct ProvisionerService<R: Reconcile> {
    pub(super) environment: watch::Receiver<Environment>,
    pub(super) targets: Targets<R>,
    pub(super) nudges: Nudges,
    pub(super) passes: Passes,
    pub(super) history: History,
    pub(super) announcer: Announcer,
    /// Who may have something made from elsewhere than loopback; nobody when absent.
    pub(super) callers: Option<Callers>,
}

impl<R> ProvisionerService<R>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: Send + Sync + 'static,
{
    /// The gRPC service.
    pub(super) fn server(self) -> ProvisionerServer<Self> {
        ProvisionerServer::new(self)
    }

    /// Why a caller may not have this made, if it may not.
    fn refused(&self, writer: &Writer, component: &Component) -> Option<String> {
        writer.refused(&component.to_string(), self.environment.borrow().namespace_of(component))
    }

    /// What is asked for, of what there is: each target with its components.
    fn asked(&self, writer: &Writer, wanted: &BTreeSet<Component>) -> Result<Asked, Status> {
        let mut asked = Asked::new();
        for target in self.targets.all() {
            let mut components = R::components(&target.2);
            components.retain(|component| {
                if wanted.is_empty() {
                    self.refused(writer, component).is_none()
                } else {
                    wanted.contains(component)
                }
            });
            if !components.is_empty() {
                asked.push((target.0.clone(), components));
            }
        }
        for component in wanted {
            if let Some(why) = self.refused(writer, component) {
                return Err(Status::permission_denied(why));
            }
            if !asked.iter().any(|(_, components)| components.contains(component)) {
                return Err(Status::not_found(format!(
                    "{component} is not made here; no document here declares it"
                )));
            }
        }
        Ok(asked)
    }
}

/// Targets, each with the components that are asked for.
type Asked = Vec<(Component, Vec<Component>)>;

#[tonic::async_trait]
impl<R> Provisioner for ProvisionerService<R>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: Send + Sync + 'static,
{
    type ConvergeStream = Pin<Box<dyn Stream<Item = Result<pb::ConvergeResponse, Status>> + Send>>;

    async fn converge(
        &self,
        request: Request<pb::ConvergeRequest>,
    ) -> Result<Response<Self::ConvergeStream>, Status> {
        let writer = Writer::of(self.callers.as_ref(), request.metadata(), request.remote_addr()).await?;
        let asked = self.asked(&writer, &components(&request.get_ref().components)?)?;
        let passes = asked.into_iter().map(|(target, components)| {
            let pass = self.passes.of(&target).next();
            self.nudges.one(&target);
            let announcer = self.announcer.clone();
            async move {
                // A target that is not asked for any more is looked at no more.
                let _ = tokio::time::timeout(PATIENCE, pass).await;
                let mut current = announcer.current();
                current.retain(|event| components.contains(&event.component));
                current
            }
        });
        let states = passes
            .collect::<FuturesUnordered<_>>()
            .flat_map(futures_util::stream::iter)
            .map(|event| Ok(pb::ConvergeResponse { state: Some((&ComponentState::from(&event)).into()) }));
        Ok(Response::new(Box::pin(states)))
    }

    async fn history(
        &self,
        request: Request<pb::HistoryRequest>,
    ) -> Result<Response<pb::HistoryResponse>, Status> {
        let request = request.into_inner();
        let wanted = components(&request.components)?;
        let limit = match usize::try_from(request.limit) {
            Ok(0) => SOME,
            Ok(limit) => limit.min(MOST),
            Err(_) => MOST,
        };
        let mut changes = Vec::new();
        for target in self.targets.all() {
            let (name, reconcile, spec) = &*target;
            let kept = reconcile.history(spec, &wanted, limit).await;
            let kept = kept.map_err(|error| Status::unavailable(format!("{name}: {}", chain(&error))))?;
            changes.extend(kept.unwrap_or_else(|| {
                let mut own = self.history.latest();
                let components = R::components(spec);
                own.retain(|change| components.contains(&change.component));
                own
            }));
        }
        changes.retain(|change| wanted.is_empty() || wanted.contains(&change.component));
        changes.sort_by_key(|change| std::cmp::Reverse(change.time));
        changes.truncate(limit);
        Ok(Response::new(pb::HistoryResponse { changes: changes.into_iter().map(told).collect() }))
    }
}

fn components(names: &[String]) -> Result<BTreeSet<Component>, Status> {
    if names.len() > MANY {
        return Err(Status::invalid_argument(format!(
            "{} components at once; {MANY} is the limit",
            names.len()
        )));
    }
    let invalid = |error: ComponentError| Status::invalid_argument(error.to_string());
    names.iter().map(|name| name.parse().map_err(invalid)).collect()
}

fn told(change: Change) -> pb::Change {
    pb::Change {
        time: Some(wire::timestamp(change.time)),
        component: change.component.to_string(),
        step: change.step,
        error: change.error.unwrap_or_default(),
        error_code: change.code,
        source: change.source,
    }
}
