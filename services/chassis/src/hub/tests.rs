//! The client against a hub in this process that is stopped, forgets and comes back.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use lifecycle::Kind;
use rollcall_proto::diagnostics::v1::hub_server::{Hub, HubServer};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};

use super::*;

/// What the fake hub was told.
#[derive(Default)]
struct Told {
    registered: Mutex<Vec<pb::RegisterRequest>>,
    announced: Mutex<Vec<pb::AnnounceRequest>>,
    watched: Mutex<Vec<pb::WatchRequest>>,
    tokens: Mutex<Vec<Option<String>>>,
    refusals: AtomicU64,
    /// The component that nobody may speak for.
    denied: Mutex<String>,
}

struct FakeHub {
    generation: u64,
    told: Arc<Told>,
    news: broadcast::Sender<pb::WatchResponse>,
}

#[tonic::async_trait]
impl Hub for FakeHub {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        if self.told.refusals.load(Ordering::SeqCst) > 0 {
            self.told.refusals.fetch_sub(1, Ordering::SeqCst);
            return Err(Status::unavailable("not yet"));
        }
        let token = request.metadata().get("authorization").map(|v| v.to_str().unwrap().to_owned());
        self.told.tokens.lock().unwrap().push(token);
        self.told.registered.lock().unwrap().push(request.into_inner());
        let rejected =
            vec![pb::RejectedFragment { name: "x".to_owned(), reason: "declared twice".to_owned() }];
        Ok(Response::new(pb::RegisterResponse { generation: self.generation, rejected }))
    }

    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.told.watched.lock().unwrap().push(request.into_inner());
        let mut news = self.news.subscribe();
        let (sender, receiver) = mpsc::channel(8);
        let first = pb::CaughtUp { generation: self.generation, mode: pb::Mode::Direct.into() };
        let first = pb::WatchResponse { update: Some(pb::watch_response::Update::CaughtUp(first)) };
        tokio::spawn(async move {
            let _ = sender.send(Ok(first)).await;
            while let Ok(update) = news.recv().await {
                let _ = sender.send(Ok(update)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let state =
            pb::ComponentState { component: request.into_inner().component, ..pb::ComponentState::default() };
        Ok(Response::new(pb::ExplainResponse {
            chain: vec![pb::ExplainLink { state: Some(state), waits_for: "topic/t".to_owned() }],
            text: "it waits".to_owned(),
            also_unblocks: vec!["module/b".to_owned()],
        }))
    }

    async fn announce(
        &self,
        request: Request<pb::AnnounceRequest>,
    ) -> Result<Response<pb::AnnounceResponse>, Status> {
        let request = request.into_inner();
        let denied = self.told.denied.lock().unwrap().clone() == request.component;
        self.told.announced.lock().unwrap().push(request);
        if denied {
            return Err(Status::permission_denied("is of another namespace"));
        }
        Ok(Response::new(pb::AnnounceResponse { generation: self.generation }))
    }
}

struct Running {
    address: SocketAddr,
    told: Arc<Told>,
    news: broadcast::Sender<pb::WatchResponse>,
    runtime: Option<Runtime>,
}

impl Running {
    async fn start(address: &str, generation: u64) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let wanted = address.to_owned();
        // The port of one that was killed is free a little later.
        let bind = async move {
            loop {
                match TcpListener::bind(&wanted).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = soon("a port", runtime.spawn(bind)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, news) = (Arc::new(Told::default()), broadcast::Sender::new(8));
        let hub = FakeHub { generation, told: Arc::clone(&told), news: news.clone() };
        runtime.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(HubServer::new(hub));
            server.serve_with_incoming(TcpIncoming::from(listener)).await
        });
        Running { address, told, news, runtime: Some(runtime) }
    }

    fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends as if killed: a runtime that is gone takes its connections with it.
    fn kill(self) -> String {
        self.address.to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn heard(updates: &mut mpsc::Receiver<HubUpdate>) -> HubUpdate {
    soon("an update", updates.recv()).await.expect("the watch goes on")
}

fn module(name: &str) -> Component {
    Component::new(Kind::Module, name)
}

fn fragment() -> Fragment {
    let document: lifecycle::document::Document = serde_json::from_value(serde_json::json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": "11111111-1111-4111-8111-111111111111"},
        "fragment": {"name": "base", "namespace": "dev"},
    }))
    .unwrap();
    Fragment::try_from(&document).unwrap()
}

fn announcement(phase: Phase) -> Announcement {
    Announcement {
        component: module("a"),
        phase,
        reason: "for topic/t".to_owned(),
        unmet: vec![("topic/t".parse().unwrap(), Evidence::default())],
        attempts: 1,
        since: Moment(5),
    }
}

#[tokio::test]
async fn a_registration_is_tried_until_it_succeeds() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    hub.told.refusals.store(3, Ordering::SeqCst);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "planted\n").unwrap();
    let client = HubClient::with_token(&hub.uri(), "test/1", Some(token.path().to_owned())).unwrap();
    let mut answer = client.register(vec![fragment()]);
    let answer = soon("the answer", answer.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    assert_eq!(answer.generation, 4);
    assert_eq!(answer.rejected, [("x".to_owned(), "declared twice".to_owned())]);
    assert_eq!(*client.generation().borrow(), 4);
    assert_eq!(hub.told.registered.lock().unwrap()[0].fragments, [(&fragment()).into()]);
    assert_eq!(*hub.told.tokens.lock().unwrap(), [Some("Bearer planted".to_owned())]);
}

#[tokio::test]
async fn what_is_denied_is_not_said_again_and_holds_up_nothing() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    "module/a".clone_into(&mut hub.told.denied.lock().unwrap());
    let client = HubClient::new(&hub.uri(), "test/1").unwrap();
    client.announce(announcement(Phase::Waiting));
    client.announce(Announcement { component: module("b"), ..announcement(Phase::Ready) });
    assert_eq!(client.flush(Duration::from_secs(20)).await, 0);
    let said = || -> Vec<(String, i32)> {
        let announced = hub.told.announced.lock().unwrap();
        announced.iter().map(|request| (request.component.clone(), request.phase)).collect()
    };
    let [waiting, working, ready] =
        [Phase::Waiting, Phase::Working, Phase::Ready].map(|phase| i32::from(wire::phase(phase)));
    let once = vec![("module/a".to_owned(), waiting), ("module/b".to_owned(), ready)];
    assert_eq!(said(), once);
    // What is new is said: the hub may know better by now.
    hub.told.denied.lock().unwrap().clear();
    client.announce(announcement(Phase::Working));
    assert_eq!(client.flush(Duration::from_secs(20)).await, 0);
    assert_eq!(said(), [once, vec![("module/a".to_owned(), working)]].concat());
}

#[tokio::test]
async fn a_hub_that_comes_back_is_told_everything_again() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    let client = HubClient::new(&hub.uri(), "test/1").unwrap();
    let mut updates = client.watch("a", &[module("b")]);
    assert_eq!(heard(&mut updates).await, HubUpdate::CaughtUp { generation: 4, mode: Mode::Direct });
    assert_eq!(hub.told.watched.lock().unwrap()[0].components, ["module/b"]);
    client.register(vec![fragment()]);
    client.announce(announcement(Phase::Waiting));
    client.announce(announcement(Phase::Working));
    assert_eq!(client.flush(Duration::from_secs(20)).await, 0);

    let address = hub.kill();
    assert!(matches!(heard(&mut updates).await, HubUpdate::Lost(_)));
    let hub = Running::start(&address, 5).await;
    assert_eq!(heard(&mut updates).await, HubUpdate::CaughtUp { generation: 5, mode: Mode::Direct });
    let mut generation = client.generation();
    soon("the new generation", generation.wait_for(|generation| *generation == 5)).await.unwrap();
    assert_eq!(client.flush(Duration::from_secs(20)).await, 0);
    assert_eq!(hub.told.registered.lock().unwrap()[0].fragments, [(&fragment()).into()]);
    let announced = hub.told.announced.lock().unwrap().clone();
    assert_eq!(announced[0].phase(), wire::phase(Phase::Working));
    assert_eq!(announced[0].unmet[0].component, "topic/t");
}

#[tokio::test]
async fn a_state_that_is_not_understood_stops_nothing() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    let client = HubClient::new(&hub.uri(), "test/1").unwrap();
    let mut updates = client.watch("a", &[]);
    heard(&mut updates).await;
    for component in ["newer/kind", "module/b"] {
        let state = pb::ComponentState { component: component.to_owned(), phase: 77, ..Default::default() };
        let update = Some(pb::watch_response::Update::State(state));
        hub.news.send(pb::WatchResponse { update }).unwrap();
    }
    let HubUpdate::State(state) = heard(&mut updates).await else { panic!("not a state") };
    assert_eq!((state.component, state.phase), (module("b"), None));
}

#[tokio::test]
async fn without_a_hub_it_says_so_and_goes_on_looking() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    let uri = hub.uri();
    let address = hub.kill();
    let client = HubClient::new(&uri, "test/1").unwrap();
    let mut updates = client.watch("a", &[]);
    assert!(matches!(heard(&mut updates).await, HubUpdate::Lost(_)));
    client.announce(announcement(Phase::Waiting));
    assert_eq!(client.flush(Duration::from_millis(20)).await, 1);
    let hub = Running::start(&address, 4).await;
    assert!(matches!(heard(&mut updates).await, HubUpdate::CaughtUp { .. }));
    assert_eq!(client.flush(Duration::from_secs(20)).await, 0);
    // Once because it was due, and perhaps once more because the hub was found again.
    assert!(!hub.told.announced.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_explanation_is_read() {
    let hub = Running::start("127.0.0.1:0", 4).await;
    let client = HubClient::new(&hub.uri(), "test/1").unwrap();
    let explanation = soon("an answer", client.explain(&module("a"))).await.unwrap();
    assert_eq!(explanation.chain[0].0.component, module("a"));
    assert_eq!(explanation.chain[0].1, Some("topic/t".parse().unwrap()));
    assert_eq!((explanation.text.as_str(), &explanation.also_unblocks[..]), ("it waits", &[module("b")][..]));
}

#[tokio::test]
async fn its_background_task_ends_with_it() {
    let client = HubClient::new("http://127.0.0.1:1", "test/1").unwrap();
    let wake = Arc::downgrade(&client.0.wake);
    drop(client);
    soon("the end of the task", async {
        while wake.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(HubClient::new("not an address", "test/1").is_err());
}
