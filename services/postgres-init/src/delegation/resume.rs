//! A run that was granted before its stream was lost goes on. Its command runs, so nothing is judged anew that rules may say otherwise by
//! now: only that the run is of the fragment, and that of the caller's namespace.

use std::time::Duration;

use chassis::backoff::Backoff;
use lifecycle::{Component, Kind};
use postgres::Session;
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::run_step_response::Response;
use tonic::Status;

use super::believed::Believed;
use super::judge::Denied;
use super::service::denied;
use super::step::{Call, refused};
use crate::spec::{ServerSpec, specs};
use crate::step::claim::{Regained, regain};
use crate::world::{Error, PostgresTarget, delegated, ledger};

impl Call {
    /// It goes on, or it is told what became of it; none when the caller is gone.
    pub(super) async fn resume(&mut self) -> Result<Option<Response>, Status> {
        let believed = Believed::of(&self.writer);
        let (target, server) = self.server()?;
        let component = Component::new(Kind::Step, &self.begin.name);
        let number = self.begin.resumes;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut said = String::new();
        let mut held = None;
        loop {
            let why = match self.try_again(&target, &server, &component, &mut held).await {
                Ok(Regained::Ours) => match held.take() {
                    Some(session) => return self.granted(session, number).await,
                    None => continue,
                },
                Ok(Regained::Ended) => return Ok(Some(Response::Recorded(pb::StepRecorded {}))),
                Ok(Regained::Anothers(other)) => {
                    let why = format!("the claim on {component} was lost, and run {other} has begun since");
                    return Ok(Some(refused(why)));
                }
                Ok(Regained::Held) => "the stream that was lost holds its lock, or another does".to_owned(),
                Err(error) => match Denied::from(error) {
                    Denied::Later(why) => {
                        held = None;
                        why
                    }
                    refused => return Err(denied(refused)),
                },
            };
            if why != said {
                said.clone_from(&why);
                if self.tell(Response::Waits(pb::StepWaits { why })).await.is_none() {
                    return Ok(None);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.listener.closed() => return Ok(None),
                over = believed.ends() => return Err(over),
            }
        }
    }

    /// The server whose ledger has the run. That it delegates nothing any more does not matter.
    fn server(&self) -> Result<(PostgresTarget, ServerSpec), Status> {
        let step = self.asked.steps.get(&self.begin.name);
        let database = step.and_then(|step| self.asked.databases.get(step.database.as_ref()?));
        let name =
            step.and_then(|step| step.server.as_ref()).or_else(|| database.map(|database| &database.server));
        let component = name.map(|name| Component::new(Kind::Postgres, name));
        let spec = component.and_then(|server| specs(self.accepted.mounted()).remove(&server));
        let Some(spec) = spec else {
            return Err(Status::failed_precondition(format!(
                "no document of this service declares the server of step/{} with `admin`",
                self.begin.name
            )));
        };
        let spec = spec.only(&spec.component);
        let secrets = self.accepted.secrets().only(spec.reads());
        Ok((PostgresTarget::new(secrets).of(self.accepted.source().to_owned()), spec))
    }

    /// Nobody's lock is tried who may not have it.
    async fn try_again(
        &self,
        target: &PostgresTarget,
        server: &ServerSpec,
        component: &Component,
        held: &mut Option<Session>,
    ) -> Result<Regained, Error> {
        let (fragment, number) = (&self.asked.fragment, self.begin.resumes);
        if held.is_none() {
            let mut new = target.registry(server).await?;
            let namespaces = delegated::namespaces(server, &mut new).await?;
            if namespaces.get(&fragment.name) != Some(&fragment.namespace) {
                return Err(Error::Refused(format!(
                    "fragment `{}` does not stand as accepted for namespace {}, so run {number} of {component} is not its own",
                    fragment.name, fragment.namespace
                )));
            }
            *held = Some(new);
        }
        let Some(session) = held else { return Ok(Regained::Held) };
        match ledger::latest(session, server, component, None).await? {
            Some(run) if run.number != number => Ok(Regained::Anothers(run.number)),
            Some(run) if run.fragment == fragment.name => regain(session, server, component, number).await,
            _ => Err(Error::Refused(format!(
                "run {number} of {component} is not of fragment `{}`",
                fragment.name
            ))),
        }
    }
}
