//! The hub over gRPC. Reading is open; registering and announcing are, away from loopback, for callers that are known.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use chassis::wire::{self, Fragment};
use lifecycle::{Component, Kind};
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::hub_server::Hub;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::core::Core;
use super::decide::Instance;
use super::watchers::Subscription;

/// Verifies a caller's token: who it is, or why it is nobody.
pub type Verify =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// More fragments, components or unmet needs in one message are refused.
const MANY: usize = 1_024;

/// The gRPC service.
pub(super) struct HubService {
    core: Arc<Core>,
    verify: Option<Verify>,
}

impl HubService {
    /// Serves the hub. Without `verify` only loopback may write.
    pub(super) fn new(core: Arc<Core>, verify: Option<Verify>) -> Self {
        HubService { core, verify }
    }

    /// Whether the caller may write.
    async fn may_write(&self, metadata: &MetadataMap, from: Option<SocketAddr>) -> Result<(), Status> {
        // Without an address it is this very process.
        if from.is_none_or(|from| from.ip().to_canonical().is_loopback()) {
            return Ok(());
        }
        let Some(verify) = &self.verify else {
            return Err(Status::permission_denied(
                "this hub verifies no tokens, so only loopback may register and announce",
            ));
        };
        let token =
            metadata.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| Status::unauthenticated("show a service-account token"))?;
        let caller = verify(token.to_owned()).await.map_err(Status::permission_denied)?;
        tracing::debug!(caller, "token verified");
        Ok(())
    }
}

#[tonic::async_trait]
impl Hub for HubService {
    type WatchStream = Subscription;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        self.may_write(request.metadata(), request.remote_addr()).await?;
        let request = request.into_inner();
        bounded(request.fragments.len())?;
        let (mut fragments, mut rejected) = (Vec::new(), Vec::new());
        for fragment in request.fragments {
            let name = fragment.name.clone();
            match Fragment::try_from(fragment) {
                Ok(fragment) => fragments.push(fragment),
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
        self.may_write(request.metadata(), request.remote_addr()).await?;
        let request = request.into_inner();
        bounded(request.unmet.len())?;
        let module = component(&request.component)?;
        if module.kind() != Kind::Module {
            return Err(Status::invalid_argument(
                "component: only modules are announced; provisioners tell what they make on the bus",
            ));
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

#[cfg(test)]
mod tests {
    use chassis::announcer::Announcer;
    use chassis::bus::Bus;
    use chassis::metrics::Metrics;
    use chassis::secret::SecretStore;
    use lifecycle::document::Identity;
    use tonic::Code;

    use super::super::meters::Meters;
    use super::super::prober::Rhythm;
    use super::super::state::State;
    use super::*;

    fn service(verify: Option<Verify>) -> HubService {
        let identity = Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(1) };
        let announcer = Announcer::new(Bus::none(), identity.clone(), "hub/1");
        let rhythm = Rhythm { polling: false, resync: std::time::Duration::from_secs(30) };
        let meters = Meters::new(&Metrics::new("hub"));
        HubService::new(
            Core::new(State::new(identity, "hub/1"), announcer, SecretStore::None, meters, rhythm),
            verify,
        )
    }

    async fn write(service: &HubService, from: &str, token: Option<&str>) -> Option<Code> {
        let mut metadata = MetadataMap::new();
        if let Some(token) = token {
            metadata.insert("authorization", token.parse().unwrap());
        }
        service.may_write(&metadata, Some(from.parse().unwrap())).await.err().map(|status| status.code())
    }

    #[tokio::test]
    async fn away_from_loopback_only_a_verified_caller_may_write() {
        let open = service(None);
        assert_eq!(write(&open, "127.0.0.1:1", None).await, None);
        assert_eq!(write(&open, "[::ffff:127.0.0.1]:1", None).await, None);
        assert_eq!(write(&open, "10.0.0.7:1", Some("Bearer x")).await, Some(Code::PermissionDenied));
        let verify: Verify = Arc::new(|token| {
            Box::pin(async move {
                if token == "right" { Ok("sa/waiter".to_owned()) } else { Err("unknown".to_owned()) }
            })
        });
        let guarded = service(Some(verify));
        assert_eq!(write(&guarded, "10.0.0.7:1", None).await, Some(Code::Unauthenticated));
        assert_eq!(write(&guarded, "10.0.0.7:1", Some("Bearer wrong")).await, Some(Code::PermissionDenied));
        assert_eq!(write(&guarded, "10.0.0.7:1", Some("Bearer right")).await, None);
    }
}
