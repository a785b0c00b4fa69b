//! Reading the secrets of clients that somebody else makes, with no more power than that takes.

use chassis::converge::{Awaits, Fault, Note, Standing};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Scene, Targets, ready};

const PORTAL: &str = "clients: {portal: {keycloak: main, realm: read, external: true}}";

fn reader(scene: &Scene, account: &str, clients: &str) -> Targets {
    scene.secret(account, &format!("planted-{account}"));
    scene.targets(7, ("read", account), clients)
}

async fn secret(scene: &Scene, targets: &Targets) -> (Option<String>, Option<String>) {
    let (target, spec) = targets.only();
    let seen = target.secret_of(spec).await.unwrap().expect("it is there");
    scene.say(&format!("{seen:?}"));
    assert_eq!(seen.id, spec.id);
    let keys = seen.keys();
    assert_eq!(keys["client_id"].expose_text(), Some(spec.id.as_str()));
    let text = |key| keys.get(key).map(|value| value.expose_text().unwrap().to_owned());
    (text("secret"), text("previous"))
}

pub(crate) async fn the_scene(scene: &Scene) {
    scene.realm("read").await;
    scene.post("/read/clients", json!({"clientId": "portal", "secret": "planted-portal-one"})).await;
    let of = |role: &'static str| ("realm-management", role);
    for (account, roles) in [
        ("view", &[of("view-clients")][..]),
        ("query", &[of("query-clients")]),
        ("users", &[of("manage-users"), of("view-realm"), of("manage-realm"), of("query-clients")]),
        ("nothing", &[]),
    ] {
        scene.account("read", account, &format!("planted-{account}"), roles).await;
    }
}

/// `view-clients` suffices, and each account without it is told so: it never seems that there is no client.
pub(crate) async fn the_least_role_that_works(scene: &Scene) {
    let targets = reader(scene, "view", PORTAL);
    ready(&scene.once(&targets).await["client/portal"], false);
    assert_eq!(secret(scene, &targets).await, (Some("planted-portal-one".to_owned()), None));
    for account in ["query", "users", "nothing"] {
        let error = scene.error(&reader(scene, account, PORTAL)).await;
        let text = error.to_string();
        assert!(!error.is_transient() && text.contains("view-clients") && text.contains(account), "{text}");
        assert!(text.contains("client `portal` in realm `read`") && text.contains("keycloak/main"), "{text}");
    }
    // A role that it is given is used at the next look, without a restart.
    let targets = reader(scene, "nothing", PORTAL);
    scene.error(&targets).await;
    scene.give("read", "nothing", "realm-management", "view-clients").await;
    ready(&scene.once(&targets).await["client/portal"], false);
    // Looking is all it may do.
    let make = "clients: {mine: {keycloak: main, realm: read}}";
    let standing = &scene.once(&reader(scene, "view", make)).await["client/mine"];
    crate::support::failed(standing, "manage-clients");
    assert_eq!(scene.get("/read/clients?clientId=mine").await, json!([]));
}

/// A client that has to be there is waited for, by name; one that need not is no hindrance.
pub(crate) async fn a_client_that_is_not_there(scene: &Scene) {
    let missing = |realm: &str, more: &str| {
        let client = format!("keycloak: main, realm: {realm}, external: true{more}");
        reader(scene, "view", &format!("clients: {{gone: {{{client}}}}}"))
    };
    let targets = missing("read", "");
    let Standing::Pending(note) = &scene.once(&targets).await["client/gone"] else { panic!() };
    let Note { text, awaits, .. } = note;
    assert_eq!(*awaits, Awaits::Others);
    assert!(text.contains("client `gone` of realm `read` does not exist"), "{text}");
    let (target, spec) = targets.only();
    assert_eq!(target.secret_of(spec).await.unwrap(), None);
    let optional = &scene.once(&missing("read", ", mandatory: false")).await["client/gone"];
    let Standing::Ready { evidence, .. } = optional else { panic!("{optional:?}") };
    assert_eq!(evidence.level, "absent");
    let Standing::Pending(note) = &scene.once(&missing("nowhere", "")).await["client/gone"] else { panic!() };
    assert!(note.text.contains("realm `nowhere` does not exist"), "{note:?}");
    scene.post("/read/clients", json!({"clientId": "gone", "publicClient": true})).await;
    ready(&scene.once(&targets).await["client/gone"], false);
    assert_eq!(secret(scene, &targets).await, (None, None), "a public client has no secret");
}

/// A secret made anew is seen by the next look; while Keycloak takes the one before too, both are.
pub(crate) async fn rotation_is_followed(scene: &Scene) {
    let targets = reader(scene, "view", PORTAL);
    let uid = scene.uid("read", "portal").await;
    scene.post(&format!("/read/clients/{uid}/client-secret"), Value::Null).await;
    let (first, previous) = secret(scene, &targets).await;
    let first = first.unwrap();
    assert!(first != "planted-portal-one" && previous.is_none());
    // From now on a secret that is made anew leaves the one before valid for a time.
    let periods = json!({"expiration-period": 86_400, "rotated-expiration-period": 3600, "remaining-rotation-period": 3600});
    let executor = json!({"executor": "secret-rotation", "configuration": periods});
    let profile = json!({"name": "rotation", "executors": [executor]});
    scene.put("/read/client-policies/profiles", json!({"profiles": [profile]})).await;
    let condition = json!({"condition": "client-access-type", "configuration": {"type": ["confidential"]}});
    let policy =
        json!({"name": "rotation", "enabled": true, "conditions": [condition], "profiles": ["rotation"]});
    scene.put("/read/client-policies/policies", json!({"policies": [policy]})).await;
    scene.post(&format!("/read/clients/{uid}/client-secret"), Value::Null).await;
    let (second, previous) = secret(scene, &targets).await;
    assert_eq!(previous, Some(first), "the one before");
    assert_ne!(second, previous);
    let rotated = format!("/read/clients/{uid}/client-secret/rotated");
    assert_eq!(scene.admin(Method::DELETE, &rotated, None).await.0, 204);
    assert_eq!(secret(scene, &targets).await, (second, None), "its time is over");
}
