//! The door: who calls is known, and has a place among the calls of its account, before anything of what it sends is read.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use chassis::grpc::{Callers, Writer};
use http_body::{Frame, SizeHint};
use lifecycle::document::Environment;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::limits::{Limit, Place};
use super::rights::refused_caller;

/// So many calls for databases and roles a service account may have open: one for each pod of as many modules that start at once.
const CALLS: usize = 16;
/// So many steps of one may be claimed, or wait, at once.
const STEPS: usize = 8;
/// So many of an account whom no rule lets ask any more: of runs that were granted while one did.
const GOING_ON: usize = 2;
/// How the calls for steps end, as paths.
const STEP: &str = "/RunStep";

/// Who was let in.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) writer: Writer,
    /// Kept for as long as the call is worked on, and its answer is not taken. None for who is on this machine.
    pub(super) place: Option<Arc<Place>>,
    /// No rule lets it ask for anything: it may only have a run go on.
    pub(super) stranger: bool,
}

/// What stands at the door.
#[derive(Debug)]
struct Keeper {
    /// Who is known; without any only loopback.
    callers: Option<Callers>,
    calls: Limit,
    steps: Limit,
    going_on: Limit,
    /// The documents whose rules say who may ask.
    mounted: Environment,
}

/// A service behind the door.
#[derive(Debug, Clone)]
pub(super) struct Door<S> {
    inner: S,
    keeper: Arc<Keeper>,
}

impl<S> Door<S> {
    /// Lets in whom `callers` knows and a rule of the mounted documents lets ask for anything; without any callers only loopback.
    pub(super) fn new(inner: S, callers: Option<Callers>, mounted: Environment) -> Self {
        let keeper = Keeper {
            callers,
            calls: Limit::new("calls", CALLS),
            steps: Limit::new("steps", STEPS),
            going_on: Limit::new("steps", GOING_ON),
            mounted,
        };
        Door { inner, keeper: Arc::new(keeper) }
    }
}

impl Keeper {
    async fn admit(&self, request: &Request<()>, is_step: bool) -> Result<Admitted, Status> {
        let writer = Writer::of(self.callers.as_ref(), request.metadata(), request.remote_addr()).await?;
        let Some(identity) = writer.identity() else {
            return Ok(Admitted { writer, place: None, stranger: false });
        };
        let refused = refused_caller(&self.mounted, identity, !writer.is_tenant());
        let stranger = refused.is_some();
        let limit = match (refused, is_step) {
            (None, false) => &self.calls,
            (None, true) => &self.steps,
            (Some(_), true) => &self.going_on,
            (Some(why), false) => return Err(Status::permission_denied(why)),
        };
        let place = limit.enter(&format!("{}/{}", identity.namespace, identity.account))?;
        Ok(Admitted { writer, place: Some(Arc::new(place)), stranger })
    }
}

impl<S: NamedService> NamedService for Door<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Door<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that was polled ready must be the one that is called.
        let unpolled = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, unpolled);
        let keeper = Arc::clone(&self.keeper);
        Box::pin(async move {
            let head = Request::from_parts(
                MetadataMap::from_headers(request.headers().clone()),
                request.extensions().clone(),
                (),
            );
            let is_step = request.uri().path().ends_with(STEP);
            match keeper.admit(&head, is_step).await {
                Ok(admitted) => {
                    let place = admitted.place.clone();
                    request.extensions_mut().insert(admitted);
                    let answer = inner.call(request).await?;
                    Ok(answer.map(|body| Body::new(Untaken { body, _place: place })))
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// An answer: who does not take it keeps its place, whatever becomes of the call.
struct Untaken {
    body: Body,
    _place: Option<Arc<Place>>,
}

impl http_body::Body for Untaken {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use chassis::grpc::{Identity, Verify};
    use lifecycle::document::Source;
    use tonic::Code;
    use tonic::transport::server::TcpConnectInfo;

    use super::*;

    /// Ends every call at once, with an answer that is there to be taken.
    #[derive(Clone)]
    struct Answers;

    struct Answer;

    impl http_body::Body for Answer {
        type Data = <Body as http_body::Body>::Data;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
            Poll::Pending
        }
    }

    impl Service<http::Request<Body>> for Answers {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            assert!(request.extensions().get::<Admitted>().is_some());
            std::future::ready(Ok(http::Response::new(Body::new(Answer))))
        }
    }

    fn request(method: &str, token: Option<&str>) -> http::Request<Body> {
        let address = "10.0.0.7:1".parse().ok();
        let builder = http::Request::builder()
            .uri(format!("/rollcall.provisioning.v1.Delegation/{method}"))
            .extension(TcpConnectInfo { local_addr: None, remote_addr: address });
        let builder = match token {
            Some(token) => builder.header("authorization", format!("Bearer {token}")),
            None => builder,
        };
        builder.body(Body::empty()).unwrap()
    }

    fn code(answer: &http::Response<Body>) -> Option<Code> {
        Status::from_header_map(answer.headers()).map(|status| status.code())
    }

    fn mounted() -> Environment {
        let document = serde_json::json!({
            "rollcall": "v1", "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-00000000000a"},
            "fragment": {"name": "base", "namespace": "dev"},
            "postgres": {"main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}},
                "delegate": [{"namespaces": ["bank", "shop"]}]}},
        });
        let source = Source { file: "a".to_owned(), document: serde_json::from_value(document).unwrap() };
        Environment::merge([source]).environment.unwrap()
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_keeps_its_place_and_nobody_elses() {
        let verify: Verify = Arc::new(|namespace| {
            let account = "web".to_owned();
            Box::pin(async { Ok(Identity { namespace, account, pod: None, expires: SystemTime::now() }) })
        });
        let mut door = Door::new(Answers, Some(Callers { verify, home: "dev".to_owned() }), mounted());
        let mut call = async |method, token| door.call(request(method, token)).await.unwrap();
        assert_eq!(code(&call("Provision", None).await), Some(Code::Unauthenticated));
        let mut answers = Vec::new();
        for _ in 0..CALLS {
            answers.push(call("Provision", Some("bank")).await);
        }
        assert!(answers.iter().all(|answer| code(answer).is_none()));
        assert_eq!(code(&call("Provision", Some("bank")).await), Some(Code::ResourceExhausted));
        assert_eq!(code(&call("RunStep", Some("bank")).await), None);
        assert_eq!(code(&call("Provision", Some("shop")).await), None);
        answers.pop();
        assert_eq!(code(&call("Provision", Some("bank")).await), None);
        // Whom no rule names has no place, unless for a run that it was granted once.
        assert_eq!(code(&call("Provision", Some("inn")).await), Some(Code::PermissionDenied));
        for wanted in [None, None, Some(Code::ResourceExhausted)] {
            let answer = call("RunStep", Some("inn")).await;
            assert_eq!(code(&answer), wanted);
            answers.push(answer);
        }
    }
}
