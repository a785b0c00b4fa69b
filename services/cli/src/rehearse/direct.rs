//! Following a rehearsal without a hub: an ad-hoc waiter waits for every module's health check.

use std::time::Duration;

use chassis::{Exit, Failure};
use lifecycle::document::Ready;

use super::stage::Stage;

/// Waits until every module answers its health check.
pub(super) async fn follow(stage: &Stage, within: Duration) -> Result<(), Failure> {
    // Read as the processes of this stage read them: at its addresses.
    let environment = chassis::documents::load_complete(&[stage.documents()])?;
    let targets = environment.modules().filter_map(|module| module.spec.ready.as_ref()).flat_map(target);
    let waiter = stage.process("everybody").args(["wait-for-dependency", "wait"]).args(targets);
    stage
        .sandbox()
        .run(waiter, within)
        .await
        .map_err(|error| Failure::new(Exit::Deadline, format!("not every module became ready: {error}")))
}

/// The ad-hoc waiter's flag and value for a health check.
fn target(ready: &Ready) -> [String; 2] {
    let pair = |flag: &str, value: String| [flag.to_owned(), value];
    if let Some(http) = &ready.http {
        return pair("--http", http.url.to_string());
    }
    if let Some(grpc) = &ready.grpc {
        let address = grpc.url.authority();
        return pair(
            "--grpc",
            if grpc.service.is_empty() { address.to_owned() } else { format!("{address}/{}", grpc.service) },
        );
    }
    if let Some(keycloak) = &ready.keycloak {
        let realm = keycloak.realm.as_deref().unwrap_or("master");
        return pair("--keycloak", format!("{}/realms/{realm}", keycloak.url.as_str().trim_end_matches('/')));
    }
    pair("--tcp", ready.tcp.as_ref().map(|tcp| tcp.address.clone()).unwrap_or_default())
}
