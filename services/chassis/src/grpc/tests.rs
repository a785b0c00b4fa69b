//! The guard alone, with paused time; and real clients against real servers.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::hub_server::{Hub, HubServer};
use rollcall_proto::diagnostics::v1::{
    AnnounceRequest, AnnounceResponse, ExplainRequest, ExplainResponse, GetPlanRequest, GetPlanResponse,
    GetStatusRequest, GetStatusResponse, RegisterRequest, RegisterResponse, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Response as Answer, Status};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Instrument;

use super::*;
use crate::diagnostics::{Account, DiagnosticsService};
use crate::telemetry;

const WATCH: &str = "/rollcall.diagnostics.v1.Hub/Watch";

// ---- the guard alone -------------------------------------------------------------------------------------------------

/// A body that a test feeds frame by frame.
struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn request(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::empty()).unwrap()
}

fn code(response: &Response<Body>) -> Option<Code> {
    response.headers().get(Status::GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

async fn frame(response: &mut Response<Body>) -> Option<Frame<Bytes>> {
    let body = response.body_mut();
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await.transpose().unwrap()
}

fn counted(metrics: &Metrics, method: &str, code: &str) -> bool {
    let line =
        format!("rollcall_rpc_server_duration_seconds_count{{method=\"{method}\",code=\"{code}\"}} 1\n");
    metrics.encode().unwrap().contains(&line)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers_meets_the_deadline() {
    let metrics = Metrics::new("test");
    let guard = GuardLayer::new(&metrics, Duration::from_secs(10), 1);
    let stuck = guard.layer(service_fn(|_| pending::<Result<Response<Body>, Infallible>>()));

    let began = tokio::time::Instant::now();
    let response = stuck.clone().oneshot(request(WATCH)).await.unwrap();
    assert_eq!(code(&response), Some(Code::DeadlineExceeded));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    drop(response);
    assert!(counted(&metrics, WATCH, "DeadlineExceeded"), "{}", metrics.encode().unwrap());

    for (asked, granted) in [("250m", Duration::from_millis(250)), ("60S", Duration::from_secs(10))] {
        let began = tokio::time::Instant::now();
        let mut request = request(WATCH);
        request.headers_mut().insert("grpc-timeout", asked.parse().unwrap());
        let response = stuck.clone().oneshot(request).await.unwrap();
        assert_eq!(code(&response), Some(Code::DeadlineExceeded));
        assert_eq!(began.elapsed(), granted, "asked {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_deadline_and_counts_when_it_ends() {
    let metrics = Metrics::new("test");
    let (feed, source) = mpsc::channel(1);
    let body = Arc::new(Mutex::new(Some(Fed(source))));
    let guard = GuardLayer::new(&metrics, Duration::from_secs(10), 1);
    let service = guard.layer(service_fn(move |_| {
        let body = body.lock().unwrap().take().map(Body::new).unwrap_or_default();
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    }));
    let mut response = service.oneshot(request(WATCH)).await.unwrap();

    tokio::time::advance(Duration::from_hours(1)).await;
    feed.send(Frame::data(Bytes::from_static(b"news"))).await.unwrap();
    assert_eq!(frame(&mut response).await.unwrap().into_data().unwrap(), "news");
    assert!(!counted(&metrics, WATCH, "Ok"), "it is not over");

    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, "0".parse().unwrap());
    feed.send(Frame::trailers(trailers)).await.unwrap();
    assert!(frame(&mut response).await.unwrap().is_trailers());
    drop(response);
    assert!(counted(&metrics, WATCH, "Ok"), "{}", metrics.encode().unwrap());
}

#[tokio::test]
async fn more_than_the_limit_is_turned_away_at_once_and_a_stream_counts() {
    let metrics = Metrics::new("test");
    let guard = GuardLayer::new(&metrics, Duration::from_secs(10), 1);
    let ((_feed, first), (_other, second)) = (mpsc::channel(1), mpsc::channel(1));
    let bodies = Arc::new(Mutex::new(vec![Fed(second), Fed(first)]));
    let service = guard.layer(service_fn(move |_| {
        let body = bodies.lock().unwrap().pop().map(Body::new).unwrap_or_default();
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    }));

    let open = service.clone().oneshot(request(WATCH)).await.unwrap();
    let shed = service.clone().oneshot(request(WATCH)).await.unwrap();
    assert_eq!(code(&shed), Some(Code::ResourceExhausted));
    // What is not of our contract has places of its own, and takes none of ours.
    let beside = service.clone().oneshot(request("/any.Thing/AtAll")).await.unwrap();
    assert_eq!(code(&beside), None);
    let shed = service.clone().oneshot(request("/other.Thing/AtAll")).await.unwrap();
    assert_eq!(code(&shed), Some(Code::ResourceExhausted));
    drop(beside);
    assert!(counted(&metrics, "other", "Cancelled"), "a path of others is no label");

    drop(open);
    assert!(counted(&metrics, WATCH, "Cancelled"), "its caller went away");
    let served = service.oneshot(request(WATCH)).await.unwrap();
    assert_eq!(code(&served), None, "there is room again");
}

// ---- real clients and servers ----------------------------------------------------------------------------------------

/// Says in which trace it was asked, and never answers when asked for a plan.
struct Asked;

impl Account for Asked {
    fn status(&self) -> GetStatusResponse {
        GetStatusResponse { service: telemetry::traceparent().unwrap_or_default(), ..Default::default() }
    }

    fn plan(&self) -> impl Future<Output = Result<GetPlanResponse, Status>> + Send {
        pending()
    }
}

/// A hub that streams what it is fed.
struct FedHub(Mutex<Option<mpsc::Receiver<Result<WatchResponse, Status>>>>);

#[tonic::async_trait]
impl Hub for FedHub {
    async fn register(&self, _: tonic::Request<RegisterRequest>) -> Result<Answer<RegisterResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: tonic::Request<WatchRequest>) -> Result<Answer<Self::WatchStream>, Status> {
        let fed = self.0.lock().unwrap().take().ok_or_else(|| Status::internal("fed once"))?;
        Ok(Answer::new(Box::pin(ReceiverStream::new(fed))))
    }

    async fn explain(&self, _: tonic::Request<ExplainRequest>) -> Result<Answer<ExplainResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn announce(&self, _: tonic::Request<AnnounceRequest>) -> Result<Answer<AnnounceResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

type Feed = mpsc::Sender<Result<WatchResponse, Status>>;

async fn serve(shutdown: &Shutdown) -> (Serving, Metrics, Feed, tonic::transport::Channel) {
    let metrics = Metrics::new("test");
    let (feed, source) = mpsc::channel(1);
    let serving = Server::new(&metrics)
        .add_service(DiagnosticsService::new(Asked))
        .add_service(HubServer::new(FedHub(Mutex::new(Some(source)))))
        .deadline(Duration::from_millis(200))
        .drain(Duration::ZERO)
        .serve(([127, 0, 0, 1], 0).into(), shutdown.clone())
        .await
        .unwrap();
    let channel = channel(&format!("http://{}", serving.address)).unwrap();
    (serving, metrics, feed, channel)
}

/// Waits until the server has counted the call: it does so just after the client has its answer.
async fn eventually_counted(metrics: &Metrics, method: &str, code: &str) {
    let counting = async {
        while !counted(metrics, method, code) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counting).await.unwrap();
}

#[tokio::test]
async fn a_call_meets_the_deadline_and_a_watch_does_not() {
    let shutdown = Shutdown::manual();
    let (_serving, metrics, feed, channel) = serve(&shutdown).await;

    let mut watch =
        HubClient::new(channel.clone()).watch(WatchRequest::default()).await.unwrap().into_inner();
    let refused = DiagnosticsClient::new(channel).get_plan(GetPlanRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    eventually_counted(&metrics, "/rollcall.diagnostics.v1.Diagnostics/GetPlan", "DeadlineExceeded").await;

    // The deadline has passed since the watch began.
    feed.send(Ok(WatchResponse::default())).await.unwrap();
    watch.next().await.unwrap().unwrap();
    drop(feed);
    assert!(watch.next().await.is_none());
    eventually_counted(&metrics, WATCH, "Ok").await;
}

#[tokio::test]
async fn the_trace_of_the_caller_goes_on_in_the_server() {
    let _subscriber = tracing::subscriber::set_default(telemetry::tests::subscriber());
    let shutdown = Shutdown::manual();
    let (_serving, _metrics, _feed, channel) = serve(&shutdown).await;
    let mut client = DiagnosticsClient::with_interceptor(channel, Traced);
    // A test beside this one, without a subscriber, may have been the first to come by the span: it is off then until asked again.
    client.get_status(GetStatusRequest {}).await.unwrap();
    tracing::callsite::rebuild_interest_cache();

    let caller = tracing::info_span!("caller");
    telemetry::continue_from(&caller, telemetry::tests::PARENT);
    let answer = client.get_status(GetStatusRequest {}).instrument(caller).await.unwrap().into_inner();
    assert!(answer.service.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{}", answer.service);

    let own = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(!own.service.is_empty() && !own.service.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test]
async fn reflection_tells_what_is_served_here() {
    use tonic_reflection::pb::{v1, v1alpha};
    let shutdown = Shutdown::manual();
    let (_serving, _metrics, _feed, channel) = serve(&shutdown).await;
    let expected = ["rollcall.diagnostics.v1.Diagnostics", "rollcall.diagnostics.v1.Hub"];

    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in expected {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.ends_with("Timeline")), "not served here: {names:?}");

    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            expected[1].into(),
        )),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    assert!(matches!(
        answer,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test]
async fn a_stream_that_its_service_does_not_end_is_cut_after_the_drain() {
    let shutdown = Shutdown::manual();
    let (serving, _metrics, _feed, channel) = serve(&shutdown).await;
    let _watch = HubClient::new(channel).watch(WatchRequest::default()).await.unwrap();
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(10), serving.task).await.unwrap().unwrap();
}
