//! The `Timeline` service, and the exporter's own account.

use std::time::Duration;

use chassis::bus::Mode;
use chassis::diagnostics::Account;
use chassis::wire::{self, ComponentState};
use lifecycle::document::Identity;
use lifecycle::{Entry, Moment};
use rollcall_proto::diagnostics::v1::timeline_server::Timeline;
use rollcall_proto::diagnostics::v1::{
    GetStatusResponse, GetTimelineRequest, GetTimelineResponse, Mode as WireMode, TimelineEntry,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::fold::Story;
use crate::series::Shared;

/// Answers from the fold.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) shared: Shared,
    pub(crate) identity: Identity,
    pub(crate) mode: watch::Receiver<Mode>,
    pub(crate) started: Moment,
}

#[tonic::async_trait]
impl Timeline for Teller {
    async fn get_timeline(
        &self,
        request: Request<GetTimelineRequest>,
    ) -> Result<Response<GetTimelineResponse>, Status> {
        let asked = request.into_inner().generation;
        let story = self.shared.with(|fold| fold.story(if asked == 0 { fold.latest() } else { asked }));
        let story = story.ok_or_else(|| {
            Status::not_found(if asked == 0 {
                format!(
                    "there is no news of {} yet: nothing was announced, or the bus is not there",
                    self.identity.name
                )
            } else {
                format!("nothing is known of generation {asked} of {}", self.identity.name)
            })
        })?;
        Ok(Response::new(response(&self.identity, &story)))
    }
}

impl Account for Teller {
    fn status(&self) -> GetStatusResponse {
        let (components, generation) = self.shared.with(|fold| {
            let states = fold.roster().iter().map(|event| (&ComponentState::from(event)).into()).collect();
            (states, fold.latest())
        });
        let mode: WireMode = (&*self.mode.borrow()).into();
        GetStatusResponse {
            service: "telemetry-exporter".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Some(wire::environment(&self.identity)),
            mode: mode.into(),
            generation,
            started: Some(wire::timestamp(self.started)),
            components,
        }
    }
}

fn response(identity: &Identity, story: &Story) -> GetTimelineResponse {
    GetTimelineResponse {
        environment: Some(wire::environment(identity)),
        generation: story.generation,
        started: Some(wire::timestamp(story.started)),
        entries: story.entries.iter().map(entry).collect(),
        critical_path: story.critical_path.iter().map(ToString::to_string).collect(),
        duration: duration(story.duration),
        complete: story.complete,
    }
}

fn entry(entry: &Entry) -> TimelineEntry {
    TimelineEntry {
        component: entry.component.to_string(),
        phase: wire::phase(entry.phase).into(),
        first: Some(wire::timestamp(entry.first)),
        ready: entry.ready.map(wire::timestamp),
        waited: duration(entry.waited),
        worked: duration(entry.worked),
        attempts: entry.attempts,
        reason: entry.reason.clone(),
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}
