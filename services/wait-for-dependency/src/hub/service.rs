//! The hub over gRPC. Reading is open; registering and announcing are for those that `callers` lets in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chassis::grpc::{Callers, Writer};
use chassis::wire::{self, Fragment};
use futures_util::StreamExt;
use lifecycle::{Component, Kind};
use prost::Message;
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::hub_server::Hub;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::core::Core;
use super::decide::Instance;
use super::watchers::Subscription;

/// More fragments, components or unmet needs in one message are refused.
const MANY: usize = 1_024;

/// A report that is larger, in bytes, is refused: what modules say of themselves is kept.
const LARGE: usize = 64 * 1024;

/// So many may watch of whom nobody knows who they are; what is left of the server's limit is for those that show a token, as
/// waiters of modules do: strangers cannot take their places.
const STRANGERS: usize = 256;

/// A hub that is long in learning who watches, because the API server takes calls and does not answer, say, lets it watch all
/// the same: as a stranger, and long before the call has to be answered.
const KNOWING: Duration = Duration::from_secs(1);

/// The gRPC service.
pub(super) struct HubService {
    core: Arc<Core>,
    callers: Option<Callers>,
    strangers: Arc<Semaphore>,
}

impl HubService {
    /// Serves the hub. Where no callers are known only loopback may write.
    pub(super) fn new(core: Arc<Core>, callers: Option<Callers>) -> Self {
        HubService { core, callers, strangers: Arc::new(Semaphore::new(STRANGERS)) }
    }

    async fn writer<T>(&self, request: &Request<T>) -> Result<Writer, Status> {
        Writer::of(self.callers.as_ref(), request.metadata(), request.remote_addr()).await
    }

    /// Why a writer may not hand in a fragment, if it may not. Documents say where the hub looks, and with which Secrets: in a
    /// cluster only those do that lie in its own namespace, and what a tenant's waiter carries must be one of them.
    fn refused(&self, writer: &Writer, fragment: &Fragment) -> Option<String> {
        if !writer.is_tenant() || self.core.knows(fragment) {
            return None;
        }
        Some(format!(
            "fragment {} is not, or not like this, among the documents of this hub, which takes them from its own namespace only; give them to the hub's chart",
            fragment.name
        ))
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
            match Fragment::try_from(fragment).map(|fragment| Fragment { mounted_by: None, ..fragment }) {
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
        // Whoever cannot be known, because the API server is away, say, is a stranger too.
        let place = match tokio::time::timeout(KNOWING, self.writer(&request)).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) | Err(_) => Some(Arc::clone(&self.strangers).try_acquire_owned().map_err(|_| {
                Status::resource_exhausted(format!(
                    "{STRANGERS} watch without a token that this hub knows, which is as many as may; show one, or try again"
                ))
            })?),
        };
        let request = request.into_inner();
        bounded(request.components.len())?;
        let components =
            request.components.iter().map(|text| component(text)).collect::<Result<BTreeSet<_>, _>>()?;
        let components = (!components.is_empty()).then_some(components);
        let watched = self.core.watch(&request.module, &request.source, components.as_ref());
        Ok(Response::new(match place {
            None => watched,
            Some(place) => Box::pin(watched.inspect(move |_| {
                // Held for as long as the stream is.
                let _ = &place;
            })),
        }))
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
        if request.encoded_len() > LARGE {
            return Err(Status::invalid_argument(format!("more than {LARGE} bytes; say it shorter")));
        }
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
        if let Some(pod) = writer.pod() {
            self.core.is_pod(&module, &request.source, pod.clone());
        }
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
    use chassis::grpc::{Identity, PodReference, Verify};
    use chassis::metrics::Metrics;
    use chassis::secret::SecretStore;
    use lifecycle::document::Identity as EnvironmentIdentity;
    use tonic::Code;
    use tonic::transport::server::TcpConnectInfo;

    use super::super::meters::Meters;
    use super::super::prober::Rhythm;
    use super::super::state::State;
    use super::*;

    /// A hub that knows tokens of the form `namespace/pod`.
    fn service() -> HubService {
        service_of(Arc::new(|token| {
            Box::pin(async move {
                let (namespace, name) = token.split_once('/').unwrap();
                let of = |text: &str| text.to_owned();
                let pod = PodReference { namespace: of(namespace), name: of(name), uid: of("1") };
                let expires = std::time::SystemTime::now();
                Ok(Identity { namespace: of(namespace), account: of("default"), pod: Some(pod), expires })
            })
        }))
    }

    fn service_of(verify: Verify) -> HubService {
        let identity = EnvironmentIdentity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(1) };
        let announcer = Announcer::new(Bus::none(), identity.clone(), "hub/1");
        let rhythm = Rhythm { polling: false, resync: std::time::Duration::from_secs(30) };
        let meters = Meters::new(&Metrics::new("hub"));
        let core = Core::new(State::new(identity, "hub/1"), announcer, SecretStore::None, meters, rhythm);
        HubService::new(core, Some(Callers { verify, home: "rollcall".to_owned() }))
    }

    /// A request over the network, by whoever has this token.
    fn by<T>(token: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let remote_addr = Some("10.0.0.7:1".parse().unwrap());
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
        request
    }

    fn fragment(name: &str, namespace: &str, module: &str) -> pb::RegisterRequest {
        let uid = uuid::Uuid::from_u128(1);
        let text = format!(
            "rollcall: v1\nenvironment: {{name: dev, uid: {uid}}}\nfragment: {{name: {name}, namespace: {namespace}}}\nmodules: {{{module}: {{}}}}"
        );
        let fragment = Fragment::try_from(&chassis::documents::parse(name, &text).unwrap()).unwrap();
        pb::RegisterRequest { fragments: vec![(&fragment).into()], source: "waiter/1".to_owned() }
    }

    fn announcement(module: &str) -> pb::AnnounceRequest {
        pb::AnnounceRequest {
            component: format!("module/{module}"),
            phase: rollcall_proto::lifecycle::v1::Phase::Waiting.into(),
            source: "waiter/1".to_owned(),
            ..pb::AnnounceRequest::default()
        }
    }

    #[tokio::test]
    async fn a_tenant_announces_what_is_its_own_and_says_nothing_about_where_the_hub_looks() {
        let hub = service();
        let register = async |token: &str, request| {
            let answer = hub.register(by(token, request)).await.unwrap().into_inner();
            answer.rejected.into_iter().map(|rejected| rejected.reason).collect::<String>()
        };
        let not_ours = "is not, or not like this, among the documents of this hub";
        assert!(register("shop/web-0", fragment("shop", "shop", "web")).await.contains(not_ours));
        assert_eq!(
            register("rollcall/job", fragment("shop", "shop", "web")).await,
            "",
            "the hub's own namespace"
        );
        assert_eq!(register("rollcall/job", fragment("pay", "bank", "pay")).await, "");
        assert_eq!(
            register("shop/web-0", fragment("shop", "shop", "web")).await,
            "",
            "it is known like this"
        );
        // Another of its name, with whatever in it, or another's.
        assert!(register("shop/web-0", fragment("shop", "shop", "other")).await.contains(not_ours));
        assert!(register("shop/web-0", fragment("pay", "shop", "pay")).await.contains(not_ours));

        let announce = async |token: &str, module: &str| {
            hub.announce(by(token, announcement(module))).await.map(drop).map_err(|status| status.code())
        };
        assert_eq!(announce("shop/web-0", "web").await, Ok(()));
        assert_eq!(announce("shop/web-0", "pay").await, Err(Code::PermissionDenied));
        assert_eq!(announce("shop/web-0", "unknown").await, Err(Code::PermissionDenied));
        assert_eq!(announce("rollcall/job", "pay").await, Ok(()));
    }

    #[tokio::test]
    async fn strangers_who_watch_take_no_place_of_those_who_are_known() {
        let hub = service();
        let mut stranger = Request::new(pb::WatchRequest::default());
        let remote_addr = Some("10.0.0.7:1".parse().unwrap());
        stranger.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
        let watch = async |request| {
            hub.watch(request).await.map(Response::into_inner).map_err(|status| status.code())
        };
        let again = |request: &Request<pb::WatchRequest>| {
            let mut again = Request::new(pb::WatchRequest::default());
            *again.extensions_mut() = request.extensions().clone();
            again
        };
        let mut open = Vec::new();
        for _ in 0..STRANGERS {
            open.push(watch(again(&stranger)).await.ok().unwrap());
        }
        assert_eq!(watch(again(&stranger)).await.err(), Some(Code::ResourceExhausted));
        let mut known = watch(by("shop/web-0", pb::WatchRequest::default())).await.ok().unwrap();
        assert!(known.next().await.is_some());
        // A place is free when a stream is no more, and no sooner.
        assert!(open[0].next().await.is_some());
        assert_eq!(watch(again(&stranger)).await.err(), Some(Code::ResourceExhausted));
        open.pop();
        assert!(watch(again(&stranger)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_known_in_time_watches_as_a_stranger_and_does_not_write() {
        let hub = service_of(Arc::new(|_| Box::pin(std::future::pending())));
        // As the server does with every call.
        let answered = Duration::from_secs(10);
        let mut open = Vec::new();
        for _ in 0..STRANGERS {
            let watched = hub.watch(by("shop/web-0", pb::WatchRequest::default()));
            open.push(tokio::time::timeout(answered, watched).await.unwrap().unwrap().into_inner());
        }
        assert!(open[0].next().await.is_some());
        let one_more = hub.watch(by("shop/web-0", pb::WatchRequest::default()));
        let one_more = tokio::time::timeout(answered, one_more).await.unwrap();
        assert_eq!(one_more.err().map(|status| status.code()), Some(Code::ResourceExhausted));
        let registered = hub.register(by("shop/web-0", fragment("shop", "shop", "web")));
        assert!(tokio::time::timeout(answered, registered).await.is_err());
    }
}
