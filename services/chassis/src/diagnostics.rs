//! What every service answers about itself: `rollcall.diagnostics.v1.Diagnostics`.

use std::future::{Future, ready};
use std::sync::Arc;

use rollcall_proto::diagnostics::v1::diagnostics_server::{Diagnostics, DiagnosticsServer};
use rollcall_proto::diagnostics::v1::{GetPlanRequest, GetPlanResponse, GetStatusRequest, GetStatusResponse};
use tonic::{Request, Response, Status};

/// A service's account of itself.
pub trait Account: Send + Sync + 'static {
    /// Who this is, in which mode it runs, and the state of each component it is concerned with.
    fn status(&self) -> GetStatusResponse;

    /// What a provisioner would do now. Services that make nothing leave it unimplemented.
    fn plan(&self) -> impl Future<Output = Result<GetPlanResponse, Status>> + Send {
        ready(Err(Status::unimplemented("this service makes nothing")))
    }
}

/// A shared account answers like the account itself, so that a service can go on writing to it.
impl<T: Account> Account for Arc<T> {
    fn status(&self) -> GetStatusResponse {
        T::status(self)
    }

    fn plan(&self) -> impl Future<Output = Result<GetPlanResponse, Status>> + Send {
        T::plan(self)
    }
}

/// Answers `Diagnostics` from an [`Account`].
#[derive(Debug)]
pub struct DiagnosticsService<A>(A);

impl<A: Account> DiagnosticsService<A> {
    /// The gRPC service that answers from `source`.
    #[allow(clippy::new_ret_no_self, reason = "what a caller adds to a server is the server half")]
    pub fn new(source: A) -> DiagnosticsServer<Self> {
        DiagnosticsServer::new(DiagnosticsService(source))
    }
}

#[tonic::async_trait]
impl<A: Account> Diagnostics for DiagnosticsService<A> {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn get_plan(&self, _request: Request<GetPlanRequest>) -> Result<Response<GetPlanResponse>, Status> {
        self.0.plan().await.map(Response::new)
    }
}
