//! A provisioner's account of itself over gRPC.

use lifecycle::document::Identity;
use lifecycle::{Component, Moment};
use rollcall_proto::diagnostics::v1::{GetPlanResponse, GetStatusResponse, Mode, PlanLine};
use serde_json::json;
use tonic::Status;

use super::crew::Targets;
use crate::announcer::Announcer;
use crate::converge::{Note, Plan, Reconcile, Step, decide};
use crate::diagnostics::Account;
use crate::exit::chain;
use crate::wire::{self, ComponentState};
use crate::{Context, clock};

/// What a provisioner tells of itself.
pub(super) struct Provisioner<R: Reconcile> {
    service: &'static str,
    identity: Identity,
    started: Moment,
    announcer: Announcer,
    targets: Targets<R>,
}

impl<R: Reconcile> Provisioner<R> {
    pub(super) fn new(
        context: &Context,
        identity: &Identity,
        announcer: Announcer,
        targets: Targets<R>,
    ) -> Self {
        Provisioner {
            service: context.service,
            identity: identity.clone(),
            started: clock::now(),
            announcer,
            targets,
        }
    }
}

impl<R> Account for Provisioner<R>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: Send + Sync + 'static,
{
    fn status(&self) -> GetStatusResponse {
        let mode: Mode = (&*self.announcer.bus().mode().borrow()).into();
        GetStatusResponse {
            service: self.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Some(wire::environment(&self.identity)),
            mode: mode.into(),
            generation: self.announcer.generation(),
            started: Some(wire::timestamp(self.started)),
            components: self
                .announcer
                .current()
                .iter()
                .map(|event| (&ComponentState::from(event)).into())
                .collect(),
        }
    }

    async fn plan(&self) -> Result<GetPlanResponse, Status> {
        let mut response = GetPlanResponse::default();
        for target in self.targets.all() {
            let (name, reconcile, spec) = &*target;
            match reconcile.observe(spec).await {
                Ok(world) => {
                    let plan = decide::<R>(spec, &world);
                    response
                        .steps
                        .extend(plan.steps.iter().map(|step| line(step.component(), &step.to_string())));
                    response.refusals.extend(lines(&plan.refusals));
                    response.drift.extend(lines(&plan.drift));
                    response.pending.extend(lines(&plan.pending));
                }
                // One server that cannot be seen does not hide the others.
                Err(error) => response.pending.push(line(name, &chain(&error))),
            }
        }
        Ok(response)
    }
}

fn line(component: &Component, text: &str) -> PlanLine {
    PlanLine { component: component.to_string(), text: text.to_owned() }
}

fn lines(notes: &[Note]) -> impl Iterator<Item = PlanLine> {
    notes.iter().map(|note| line(&note.component, &note.text))
}

/// A plan as JSON.
pub(super) fn json<S: Step>(target: &Component, plan: &Plan<S>) -> serde_json::Value {
    let notes = |notes: &[Note]| -> Vec<serde_json::Value> {
        notes.iter().map(|note| json!({"component": note.component, "text": note.text})).collect()
    };
    json!({
        "target": target,
        "steps": plan.steps.iter().map(|s| json!({"component": s.component(), "text": s.to_string()})).collect::<Vec<_>>(),
        "refusals": notes(&plan.refusals),
        "drift": notes(&plan.drift),
        "pending": notes(&plan.pending),
    })
}
