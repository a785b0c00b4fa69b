//! Requests that are written by hand, with whichever token.
#![allow(unreachable_pub, reason = "a part of the test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use chassis::wire::Fragment;
use futures_util::{Stream, stream};
use lifecycle::document::Document;
use rollcall_proto::lifecycle::v1 as wire;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::delegation_client::DelegationClient;
use rollcall_proto::provisioning::v1::provision_response::Update;
use rollcall_proto::provisioning::v1::run_step_request::Request as Said;
use rollcall_proto::provisioning::v1::run_step_response::Response as Told;
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::place::Place;

pub type Stub = DelegationClient<Channel>;

/// Over a connection of its own.
pub fn stub(place: &Place) -> Stub {
    DelegationClient::new(chassis::grpc::channel(&place.address()).unwrap())
}

pub fn fragment(document: &Value) -> wire::Fragment {
    let document: Document = serde_json::from_value(document.clone()).unwrap();
    (&Fragment::try_from(&document).unwrap()).into()
}

pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub fn asks(document: &Value, verifiers: &[(&str, &str)]) -> pb::ProvisionRequest {
    let verifiers = verifiers
        .iter()
        .map(|(role, verifier)| pb::RoleVerifier { role: (*role).into(), verifier: (*verifier).into() });
    let fragment = Some(fragment(document));
    pb::ProvisionRequest { fragment, verifiers: verifiers.collect(), source: "by-hand/1".into() }
}

/// Asks for a fragment, and gives its roles these verifiers. Ok when everything is settled.
pub async fn provision(
    place: &Place,
    token: &str,
    document: &Value,
    verifiers: &[(&str, &str)],
) -> Result<(), Status> {
    let mut updates = stub(place).provision(with(token, asks(document, verifiers))).await?.into_inner();
    while let Some(update) = updates.message().await? {
        if let Some(Update::Settled(_)) = update.update {
            return Ok(());
        }
    }
    panic!("it ended without a word")
}

pub fn begin(document: &Value, name: &str) -> Said {
    Said::Begin(pb::BeginStep {
        fragment: Some(fragment(document)),
        name: name.into(),
        inputs: "0".repeat(64),
        source: "by-hand/1".into(),
        ..pb::BeginStep::default()
    })
}

/// A stream of a claim.
pub struct Claim {
    said: mpsc::Sender<pb::RunStepRequest>,
    told: Streaming<pb::RunStepResponse>,
}

impl Claim {
    /// Opens one, and says this first; or nothing at all.
    pub async fn open(stub: &mut Stub, token: &str, first: Option<Said>) -> Result<Claim, Status> {
        let (said, heard) = mpsc::channel(4);
        if first.is_some() {
            said.send(pb::RunStepRequest { request: first }).await.unwrap();
        }
        let told = stub.run_step(with(token, receiving(heard))).await?.into_inner();
        Ok(Claim { said, told })
    }

    pub async fn say(&self, request: Said) {
        self.said.send(pb::RunStepRequest { request: Some(request) }).await.unwrap();
    }

    /// The next response; the one that ends it is an error.
    pub async fn next(&mut self) -> Result<Told, Status> {
        let response = self.told.message().await?.expect("it is told how it ends");
        Ok(response.response.expect("a response that is known"))
    }
}

fn receiving(receiver: mpsc::Receiver<pb::RunStepRequest>) -> impl Stream<Item = pb::RunStepRequest> + Send {
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}
