//! The hub over gRPC. Reading is open; registering and announcing are, away from loopback, for callers that are known.

use std::collections::BTreeSet;
use std::sync::Arc;

use chassis::wire::{self, Fragment};
use lifecycle::{Component, Kind};
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::hub_server::Hub;
use tonic::{Request, Response, Status};

use super::callers::{Gate, Writer};
use super::core::Core;
use super::decide::Instance;
use super::watchers::Subscription;

/// More fragments, components or unmet needs in one message are refused.
const MANY: usize = 1_024;

/// The gRPC service.
pub(super) struct HubService {
    core: Arc<Core>,
    gate: Option<Gate>,
}

impl HubService {
    /// Serves the hub. Without a gate only loopback may write.
    pub(super) fn new(core: Arc<Core>, gate: Option<Gate>) -> Self {
        HubService { core, gate }
    }

    async fn writer<T>(&self, request: &Request<T>) -> Result<Writer, Status> {
        Writer::of(self.gate.as_ref(), request.metadata(), request.remote_addr()).await
    }

    /// Why a writer may not hand in a fragment, if it may not: its namespace, or that of the one whose place it would take.
    fn refused(&self, writer: &Writer, fragment: &Fragment) -> Option<String> {
        let what = format!("fragment {}", fragment.name);
        let own = fragment.document().ok().map(|document| document.fragment.namespace);
        let known = self.core.namespace_of_fragment(&fragment.name);
        let known = known.and_then(|namespace| writer.refused(&what, Some(&namespace)));
        // One that does not read is refused for that, and has no namespace.
        known.or_else(|| own.and_then(|namespace| writer.refused(&what, Some(&namespace))))
    }
}

#[tonic::async_trait]
impl Hub for HubService {
    type WatchStream = Subscription;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let writer = self.writer(&request).await?;
        let request = request.into_inner();
        bounded(request.fragments.len())?;
        let (mut fragments, mut rejected) = (Vec::new(), Vec::new());
        for fragment in request.fragments {
            let name = fragment.name.clone();
            match Fragment::try_from(fragment) {
                Ok(fragment) => match self.refused(&writer, &fragment) {
                    None => fragments.push(fragment),
                    Some(reason) => rejected.push(pb::RejectedFragment { name, reason }),
                },
                Err(error) => rejected.push(pb::RejectedFragment { name, reason: error.to_string() }),
            }
        }
        let (generation, refused) = self.core.register(fragments);
        rejected.extend(refused.into_iter().map(|r| pb::RejectedFragment { name: r.name, reason: r.reason }));
        Ok(Response::new(pb::RegisterResponse { generation, rejected }))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Subscription>, Status> {
        let request = request.into_inner();
        bounded(request.components.len())?;
        let components =
            request.components.iter().map(|text| component(text)).collect::<Result<BTreeSet<_>, _>>()?;
        let components = (!components.is_empty()).then_some(components);
        Ok(Response::new(self.core.watch(&request.module, components.as_ref())))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let explained = self.core.explain(&component(&request.into_inner().component)?);
        let link = |(state, waits_for): &(wire::ComponentState, Option<Component>)| pb::ExplainLink {
            state: Some(state.into()),
            waits_for: waits_for.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        Ok(Response::new(pb::ExplainResponse {
            chain: explained.chain.iter().map(link).collect(),
            text: explained.text,
            also_unblocks: explained.also_unblocks.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn announce(
        &self,
        request: Request<pb::AnnounceRequest>,
    ) -> Result<Response<pb::AnnounceResponse>, Status> {
        let writer = self.writer(&request).await?;
        let request = request.into_inner();
        bounded(request.unmet.len())?;
        let module = component(&request.component)?;
        if module.kind() != Kind::Module {
            return Err(Status::invalid_argument(
                "component: only modules are announced; provisioners tell what they make on the bus",
            ));
        }
        let namespace = self.core.namespace_of_module(module.name());
        if let Some(why) = writer.refused(&module.to_string(), namespace.as_deref()) {
            return Err(Status::permission_denied(why));
        }
        let wrong = |error: wire::WireError| Status::invalid_argument(error.to_string());
        let now = chassis::clock::now();
        let mut unmet = Vec::with_capacity(request.unmet.len());
        for need in request.unmet {
            unmet.push((component(&need.component)?, wire::evidence_from(need.evidence).map_err(wrong)?));
        }
        let report = Instance {
            phase: wire::phase_from(request.phase).map_err(wrong)?,
            since: wire::moment(request.since.as_ref(), "since").unwrap_or(now),
            reason: request.reason,
            unmet,
            attempts: request.attempts,
            heard: now,
        };
        let generation = self.core.announce(&module, &request.source, report);
        Ok(Response::new(pb::AnnounceResponse { generation }))
    }
}

fn component(text: &str) -> Result<Component, Status> {
    text.parse().map_err(|error: lifecycle::ComponentError| Status::invalid_argument(error.to_string()))
}

fn bounded(count: usize) -> Result<(), Status> {
    if count > MANY {
        Err(Status::invalid_argument(format!("{count} at once; at most {MANY}")))
    } else {
        Ok(())
    }
}
