//! The real thing instead of a stand-in: a Keycloak on the database that postgres-init made for it.

use std::path::PathBuf;
use std::time::Duration;

use chassis::secret::SecretStore;
use chassis::{Exit, Failure};
use lifecycle::Kind;
use lifecycle::document::{Environment, KeycloakReady};
use sandbox::{Keycloak, KeycloakDatabase, KeycloakOptions};
use serde_json::json;

use super::stage::Stage;
use super::stand_in::needs_of;

/// How long Keycloak may take: its first start makes its tables.
const START: Duration = Duration::from_mins(5);

/// What the documents say about the module; an error unless it is a Keycloak.
pub(super) fn keycloak_of(environment: &Environment, module: &str) -> Result<KeycloakReady, Failure> {
    let declared = environment.module(module);
    declared.and_then(|m| m.spec.ready.as_ref()?.keycloak.clone()).ok_or_else(|| {
        Failure::usage(format!("--real {module}: no document declares it as a module with `ready: {{keycloak: …}}`; only a Keycloak can be real"))
    })
}

/// Waits for the module's gate as its init container would, then starts Keycloak and waits until it answers.
pub(super) async fn start(stage: &Stage, module: &str) -> Result<Keycloak, Failure> {
    let ready = keycloak_of(stage.environment(), module)?;
    let documents = stage.documents().display().to_string();
    let waiter = stage.process(&format!("module/{module}")).args([
        "wait-for-dependency",
        "wait",
        "--module",
        module,
        documents.as_str(),
    ]);
    stage.sandbox().run(waiter, START).await.map_err(Failure::internal)?;
    let options = KeycloakOptions {
        db: database(stage, module).await?,
        realms: vec![realm(stage, ready.realm.as_deref().unwrap_or("master"))?],
        http_port: stage.stand_in_port(&format!("module/{module}")),
        ..KeycloakOptions::default()
    };
    let keycloak = stage.sandbox().keycloak(options).await.map_err(Failure::internal)?;
    keycloak.ready(START).await.map_err(|error| Failure::new(Exit::DependencyFailed, error))?;
    Ok(keycloak)
}

/// The login of the module's first database.
async fn database(stage: &Stage, module: &str) -> Result<Option<KeycloakDatabase>, Failure> {
    let environment = stage.environment();
    let Some(component) = needs_of(environment, module, Kind::Database).into_iter().next() else {
        return Ok(None);
    };
    let Some(database) = environment.databases().find(|d| d.component == component) else { return Ok(None) };
    let app = &database.spec.roles.app;
    let place = database.source.document.place();
    let name = environment.naming().database(database.spec.physical_base(component.name()), place);
    let user = environment.naming().role(&app.name, place).map_err(Failure::usage)?;
    let store = SecretStore::Root(stage.secrets());
    let password = store
        .password(&database.secret(&app.password.secret), &app.password.key)
        .await
        .map_err(Failure::usage)?;
    Ok(Some(KeycloakDatabase {
        url: format!(
            "jdbc:postgresql://{}:{}/{}",
            stage.postgres().host(),
            stage.postgres().port(),
            name.map_err(Failure::usage)?
        ),
        user,
        password: password.expose_text().unwrap_or_default().to_owned(),
    }))
}

/// A realm file as Keycloak imports it: the realm, and nothing in it.
fn realm(stage: &Stage, realm: &str) -> Result<PathBuf, Failure> {
    let file = stage.sandbox().dir().join(format!("{realm}-realm.json"));
    let text = json!({"realm": realm, "enabled": true}).to_string();
    std::fs::write(&file, text)
        .map_err(|error| Failure::internal(format!("cannot write {}: {error}", file.display())))?;
    Ok(file)
}
