//! What goes wrong with a real Keycloak: nothing is lost, every state is named, and all goes on by itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chassis::converge::{Fault, Standing};
use serde_json::json;

use crate::support::{Scene, ready};

const READY: Duration = Duration::from_mins(2);
const ONE: &str = "clients: {portal: {keycloak: main, realm: read, external: true}}";

pub(crate) async fn who_is_not_let_in_is_told_and_let_in_later(scene: &Scene) {
    scene.secret("view", "planted-wrong");
    let targets = scene.targets(7, ("read", "view"), ONE);
    let error = scene.error(&targets).await;
    let text = error.to_string();
    assert!(!error.is_transient() && text.contains("secret/app/view:k"), "{text}");
    assert_eq!(error.code(), "unauthorized_client");
    scene.secret("view", "planted-view");
    ready(&scene.once(&targets).await["client/portal"], false);
    // An account that nobody made, and a realm that nobody made.
    scene.secret("nobody", "planted-nobody");
    let error = scene.error(&scene.targets(7, ("read", "nobody"), ONE)).await;
    assert_eq!((error.is_transient(), error.code().as_str()), (false, "invalid_client"));
    let error = scene.error(&scene.targets(7, ("nowhere", "view"), ONE)).await;
    assert!(error.is_transient() && error.to_string().contains("realm `nowhere`"), "{error}");
    // An address that is Keycloak's, but not where it serves.
    let environment =
        crate::support::environment(7, &format!("{}/auth", scene.keycloak.url()), ("read", "view"), ONE);
    let lost = crate::support::Targets::of(&environment, &scene.store());
    assert!(scene.error(&lost).await.is_transient());
    // A secret that is not there yet, is empty, or cannot be one.
    let unready = scene.targets(7, ("read", "later"), ONE);
    let error = scene.error(&unready).await;
    assert!(error.is_transient() && error.to_string().contains("secret/app/later does not exist"), "{error}");
    scene.secret("later", "");
    assert!(scene.error(&unready).await.is_transient());
    scene.secret("later", "planted-view\n");
    let error = scene.error(&unready).await;
    assert!(!error.is_transient() && error.to_string().contains("line break"), "{error}");
}

/// A token that Keycloak does not take any more is replaced at once, unseen.
pub(crate) async fn a_token_that_is_revoked_is_replaced(scene: &Scene) {
    let targets = scene.targets(7, ("read", "view"), ONE);
    ready(&scene.once(&targets).await["client/portal"], false);
    scene.put("/read/events/config", json!({"eventsEnabled": true})).await;
    let logins = async || {
        let events = scene.get("/read/events?type=CLIENT_LOGIN&client=view").await;
        events.as_array().unwrap().len()
    };
    ready(&scene.once(&targets).await["client/portal"], false);
    assert_eq!(logins().await, 0, "a token is used as long as it is good");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = now() + 1;
    scene.put("/read", json!({"notBefore": until})).await;
    // New tokens are good again from that second on.
    while now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ready(&scene.once(&targets).await["client/portal"], false);
    assert_eq!(logins().await, 1);
}

pub(crate) async fn two_at_once_agree(scene: &Scene) {
    let document = "
realms: {both: {keycloak: main, roles: [x, y]}}
clients: {a: {keycloak: main, realm: both, roles: [r, s], redirect_uris: [/a], service_account_roles: {realm: [x]}}, b: {keycloak: main, realm: both}}";
    let run = || async {
        let targets = scene.targets(7, ("master", "rollcall"), document);
        scene.settled(&targets).await
    };
    let (one, two, three) = tokio::join!(run(), run(), run());
    for standing in one.values().chain(two.values()).chain(three.values()) {
        assert!(matches!(standing, Standing::Ready { .. }), "{standing:?}");
    }
    scene.client("both", "a").await;
}

/// Killed at any moment, and started again: what was begun is finished.
pub(crate) async fn killed_midway(scene: &Scene) {
    let clients: Vec<String> =
        (0..12).map(|i| format!("c{i}: {{keycloak: main, realm: midway, roles: [r, s]}}")).collect();
    let realm = "realms: {midway: {keycloak: main, roles: [x]}}";
    let document = format!("{realm}\nclients: {{{}}}", clients.join(", "));
    let targets = scene.targets(7, ("master", "rollcall"), &document);
    let mut done = 0;
    let mut gone = 0;
    for (number, (target, spec)) in targets.0.values().enumerate() {
        if number == 6 {
            scene.keycloak.kill().await.unwrap();
        }
        match scene.run(target, spec).await {
            Ok(Standing::Ready { .. }) => done += 1,
            Ok(Standing::Failed { transient: true, .. }) => gone += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(error.is_transient() && text.contains(&scene.keycloak.url()), "{text}");
                gone += 1;
            }
        }
    }
    assert_eq!((done, gone), (6, 6));
    scene.keycloak.start().await.unwrap();
    scene.keycloak.ready(READY).await.unwrap();
    let all = scene.settled(&targets).await;
    assert!(all.values().all(|standing| matches!(standing, Standing::Ready { .. })), "{all:?}");
    let changed = all.values().filter(|standing| matches!(standing, Standing::Ready { changed: true, .. }));
    // Keycloak's database of files may lose the last half second at a kill, and that is made again too.
    let changed = changed.count();
    assert!((6..=12).contains(&changed), "{changed} were made again");
    for standing in scene.once(&targets).await.values() {
        ready(standing, false);
    }
}
