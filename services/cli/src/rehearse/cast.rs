//! Everything that plays in a rehearsal: the five services, a stand-in for each module and endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle::Kind;
use sandbox::Handle;

use super::stage::{Error, Service, Stage};

/// The processes of a rehearsal by name: `postgres-init`, `module/registry`, `endpoint/smtp`.
#[derive(Default)]
pub struct Cast {
    players: BTreeMap<String, Handle>,
}

impl Cast {
    /// Starts the services.
    pub async fn services(&mut self, stage: &Stage, services: &[Service]) -> Result<(), Error> {
        for service in services {
            self.players.insert(service.name().to_owned(), stage.start_service(*service).await?);
        }
        Ok(())
    }

    /// Starts a stand-in for every endpoint and, but for `without`, every module. `delay` says how long each one's start
    /// takes.
    pub async fn stand_ins(
        &mut self,
        stage: &Stage,
        without: Option<&str>,
        mut delay: impl FnMut() -> Duration,
    ) -> Result<(), Error> {
        for endpoint in stage.environment().endpoints() {
            let handle = stage.start_endpoint(endpoint.component.name()).await?;
            self.players.insert(endpoint.component.to_string(), handle);
        }
        for module in stage.environment().modules() {
            debug_assert_eq!(module.component.kind(), Kind::Module);
            let name = module.component.name();
            if without != Some(name) {
                self.players.insert(module.component.to_string(), stage.start_module(name, delay()).await?);
            }
        }
        Ok(())
    }

    /// One player.
    pub fn player(&self, name: &str) -> Option<&Handle> {
        self.players.get(name)
    }

    /// All players.
    pub fn players(&self) -> impl Iterator<Item = (&String, &Handle)> {
        self.players.iter()
    }
}
