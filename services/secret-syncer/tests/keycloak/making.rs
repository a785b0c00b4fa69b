//! Realms, clients, roles and mappings are made as declared and kept so; a second run writes nothing.

use std::sync::Mutex;
use std::time::Instant;

use chassis::converge::{Standing, Told, converge};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Scene, Targets, failed, ready, refused};

const STAFF: &str = "
realms: {staff: {keycloak: main, roles: [clerk, auditor]}}
clients:
  portal:
    keycloak: main
    realm: staff
    truth: cluster
    secret: {secret: portal, key: k}
    redirect_uris: ['https://portal.example/*', 'https://portal.example/done']
    roles: [viewer, editor]
    mappers: {audience: {kind: oidc-audience-mapper, config: {included.client.audience: portal, access.token.claim: 'true'}}}
    service_account_roles: {realm: [clerk], clients: {resolver: [resolve], portal: [viewer]}}
  resolver:
    keycloak: main
    realm: staff
    client_id: resolver
    roles: [resolve]
    service_account_roles: {clients: {portal: [editor], realm-management: [view-users]}}
  page: {keycloak: main, realm: staff, client_id: 'Staff page/ü & co', public: true, redirect_uris: ['https://page.example/']}
";

fn staff(scene: &Scene, more: impl Fn(String) -> String) -> Targets {
    scene.targets(7, ("master", "rollcall"), &more(STAFF.to_owned()))
}

fn same(text: String) -> String {
    text
}

/// The roles that a client's service account has.
async fn granted(scene: &Scene, realm: &str, id: &str) -> Vec<String> {
    let uid = scene.uid(realm, id).await;
    let user = scene.get(&format!("/{realm}/clients/{uid}/service-account-user")).await;
    let path = format!("/{realm}/users/{}/role-mappings", user["id"].as_str().unwrap());
    let all = scene.get(&path).await;
    let names = |holder: &str, roles: &Value| -> Vec<String> {
        let roles = roles.as_array().into_iter().flatten();
        roles.map(|role| format!("{holder}{}", role["name"].as_str().unwrap())).collect()
    };
    let mut found = names("", &all["realmMappings"]);
    for (holder, roles) in all["clientMappings"].as_object().into_iter().flatten() {
        found.extend(names(&format!("{holder}/"), &roles["mappings"]));
    }
    found.retain(|name| !name.starts_with("default-roles"));
    found.sort();
    found
}

/// An account that may make realms, and nothing in those that others made.
pub(crate) async fn everything_is_made(scene: &Scene) {
    scene.account("master", "rollcall", "planted-rollcall", &[("", "create-realm")]).await;
    scene.secret("rollcall", "planted-rollcall");
    scene.secret("portal", "planted-portal-secret");
    let targets = staff(scene, same);
    let all = scene.settled(&targets).await;
    assert!(all.values().all(|standing| matches!(standing, Standing::Ready { .. })), "{all:?}");
    let portal = scene.client("staff", "portal").await;
    assert_eq!(portal["webOrigins"], json!(["+"]));
    assert_eq!(portal["redirectUris"].as_array().unwrap().len(), 2);
    let flags =
        ["standardFlowEnabled", "serviceAccountsEnabled", "directAccessGrantsEnabled", "implicitFlowEnabled"];
    assert_eq!(flags.map(|flag| portal[flag].as_bool().unwrap()), [true, true, false, false]);
    assert_eq!(portal["protocolMappers"][0]["config"]["included.client.audience"], "portal");
    assert_eq!(portal["attributes"]["rollcall.fragment"], "app");
    assert!(scene.logs_in("staff", "portal", "planted-portal-secret").await);
    assert_eq!(granted(scene, "staff", "portal").await, ["clerk", "portal/viewer", "resolver/resolve"]);
    assert_eq!(granted(scene, "staff", "resolver").await, ["portal/editor", "realm-management/view-users"]);
    let page = scene.client("staff", "Staff page/ü & co").await;
    assert_eq!((page["publicClient"].as_bool(), page["secret"].as_str()), (Some(true), None));
    let (target, spec) = targets.get("client/resolver");
    let secret = target.secret_of(spec).await.unwrap().unwrap().secret.unwrap();
    assert!(scene.logs_in("staff", "resolver", secret.expose_text().unwrap()).await);
    let realm = scene.get("/staff").await;
    assert_eq!(realm["attributes"]["rollcall.environment"], uuid::Uuid::from_u128(7).to_string());
}

pub(crate) async fn a_second_run_writes_nothing(scene: &Scene) {
    scene.record_changes("staff").await;
    let before = scene.changes("staff").await;
    for standing in scene.once(&staff(scene, same)).await.values() {
        ready(standing, false);
    }
    assert_eq!(scene.changes("staff").await, before);
}

/// What is declared otherwise is changed, once, and what nobody declares stays.
pub(crate) async fn what_is_declared_otherwise_is_changed(scene: &Scene) {
    let uid = scene.uid("staff", "portal").await;
    let by_hand = json!({"description": "by hand", "attributes": {"by.hand": "kept"}, "rootUrl": "https://root.example"});
    scene.put(&format!("/staff/clients/{uid}"), by_hand).await;
    let moved = |text: String| {
        text.replace("'https://portal.example/done'", "'https://other.example/'")
            .replace(
                "    roles: [viewer, editor]",
                "    roles: [viewer, editor, owner]\n    direct_access: true",
            )
            .replace("audience: portal", "audience: resolver")
    };
    let before = scene.changes("staff").await.len();
    let all = scene.once(&staff(scene, moved)).await;
    ready(&all["client/portal"], true);
    ready(&all["client/resolver"], false);
    let mut did = scene.changes("staff").await;
    did.truncate(did.len() - before);
    assert_eq!(did.len(), 3, "one setting, one mapper, one role: {did:?}");
    let portal = scene.client("staff", "portal").await;
    assert_eq!(portal["redirectUris"].as_array().unwrap().len(), 2);
    assert!(portal["redirectUris"].as_array().unwrap().contains(&json!("https://other.example/")));
    assert_eq!(
        (portal["description"].as_str(), portal["rootUrl"].as_str()),
        (Some("by hand"), Some("https://root.example"))
    );
    assert_eq!(
        (&portal["attributes"]["by.hand"], &portal["directAccessGrantsEnabled"]),
        (&json!("kept"), &json!(true))
    );
    let mapper = &portal["protocolMappers"][0];
    assert_eq!(mapper["config"]["included.client.audience"], "resolver");
    assert!(scene.logs_in("staff", "portal", "planted-portal-secret").await, "its secret stays");
    // A secret that changes in the cluster is written, and only that.
    scene.secret("portal", "planted-portal-second");
    let before = scene.changes("staff").await.len();
    ready(&scene.once(&staff(scene, moved)).await["client/portal"], true);
    assert_eq!(scene.changes("staff").await.len(), before + 1);
    assert!(scene.logs_in("staff", "portal", "planted-portal-second").await);
    assert_eq!(scene.client("staff", "portal").await["attributes"]["by.hand"], "kept");
    // One that was public gets a secret.
    let uid_of_page = scene.uid("staff", "Staff page/ü & co").await;
    let confidential = staff(scene, |text| moved(text).replace("public: true", "service_account: true"));
    ready(&scene.once(&confidential).await["client/page"], true);
    let (target, spec) = confidential.get("client/page");
    let secret = target.secret_of(spec).await.unwrap().unwrap().secret.expect("a secret");
    assert!(scene.logs_in("staff", "Staff%20page%2F%C3%BC%20%26%20co", secret.expose_text().unwrap()).await);
    assert_eq!(scene.uid("staff", "Staff page/ü & co").await, uid_of_page);
    // And back: what somebody changed in Keycloak is changed back.
    ready(&scene.once(&staff(scene, same)).await["client/portal"], true);
    let role = format!("/staff/clients/{uid}/roles/viewer");
    assert_eq!(scene.admin(Method::DELETE, &role, None).await.0, 204);
    ready(&scene.once(&staff(scene, same)).await["client/portal"], true);
    assert_eq!(granted(scene, "staff", "portal").await, ["clerk", "portal/viewer", "resolver/resolve"]);
    let roles = scene.get(&format!("/staff/clients/{uid}/roles")).await;
    assert_eq!(roles.as_array().unwrap().len(), 3, "a role that is not declared any more stays: {roles}");
}

pub(crate) async fn what_is_anothers_is_left_alone(scene: &Scene) {
    let before = scene.changes("staff").await;
    // Another environment that declares the same realm, and one that only wants the client in it.
    let other = scene.targets(8, ("master", "rollcall"), STAFF);
    for standing in scene.once(&other).await.values() {
        refused(standing, "realm `staff` belongs to environment `dev`");
    }
    let client = "clients: {portal: {keycloak: main, realm: staff, existing: update, redirect_uris: ['https://evil.example/']}}";
    let other = scene.targets(8, ("master", "rollcall"), client);
    refused(&scene.once(&other).await["client/portal"], "belongs to environment `dev`");
    // The same environment, another fragment.
    let uid = scene.uid("staff", "resolver").await;
    let mark = |fragment: &str| json!({"attributes": {"rollcall.fragment": fragment}});
    scene.put(&format!("/staff/clients/{uid}"), mark("elsewhere")).await;
    refused(&scene.once(&staff(scene, same)).await["client/resolver"], "belongs to fragment `elsewhere`");
    scene.put(&format!("/staff/clients/{uid}"), json!({"attributes": {"rollcall.environment": "?"}})).await;
    refused(&scene.once(&staff(scene, same)).await["client/resolver"], "cannot be read");
    let mine = json!({"attributes": {"rollcall.environment": uuid::Uuid::from_u128(7).to_string(), "rollcall.fragment": "app"}});
    scene.put(&format!("/staff/clients/{uid}"), mine).await;
    assert_eq!(scene.changes("staff").await.len(), before.len() + 3, "nothing but what was done by hand");
}

/// A client that somebody made by hand: kept as it is, or taken over when the document says so.
pub(crate) async fn what_is_there_is_kept_or_taken_over(scene: &Scene) {
    let by_hand = json!({
        "clientId": "old", "secret": "planted-old", "redirectUris": ["https://old.example/"], "description": "by hand",
    });
    scene.post("/staff/clients", by_hand.clone()).await;
    let old = |more: &str| {
        let client = format!(
            "keycloak: main, realm: staff, redirect_uris: ['https://new.example/'], roles: [r]{more}"
        );
        scene.targets(7, ("master", "rollcall"), &format!("clients: {{old: {{{client}}}}}"))
    };
    let before = scene.changes("staff").await;
    let kept = old("");
    ready(&scene.once(&kept).await["client/old"], false);
    let (target, spec) = kept.only();
    let plan =
        chassis::provision::plans(&[(spec.component.clone(), target.clone(), spec.clone())], false).await;
    assert!(
        plan[0].text.contains("not done: redirect_uris +`https://new.example/` -`https://old.example/`"),
        "{plan:?}"
    );
    assert!(plan[0].text.contains("not done: add role `r`") && plan[0].settled, "{plan:?}");
    scene.secret("old", "planted-another");
    let cluster = ", truth: cluster, secret: {secret: old, key: k}";
    refused(&scene.once(&old(cluster)).await["client/old"], "another secret than the document says");
    assert_eq!(scene.changes("staff").await, before);
    ready(&scene.once(&old(&format!("{cluster}, existing: update"))).await["client/old"], true);
    let taken = scene.client("staff", "old").await;
    assert_eq!(
        (&taken["redirectUris"], &taken["description"]),
        (&json!(["https://new.example/"]), &by_hand["description"])
    );
    assert_eq!(taken["secret"], "planted-another");
    // Ours from now on, whatever `existing` says.
    ready(&scene.once(&old(cluster)).await["client/old"], false);
}

/// Each right that is missing is named, and what needs it not is made.
pub(crate) async fn each_right_that_is_missing_is_named(scene: &Scene) {
    scene.realm("part").await;
    scene.secret("part", "planted-part");
    scene.account("part", "part", "planted-part", &[("realm-management", "manage-clients")]).await;
    let part = |more: &str| scene.targets(7, ("part", "part"), more);
    let plain = part("clients: {a: {keycloak: main, realm: part, roles: [r]}}");
    ready(&scene.once(&plain).await["client/a"], true);
    let granted = part(
        "clients: {a: {keycloak: main, realm: part, roles: [r], service_account_roles: {realm: [offline_access]}}}",
    );
    let give = async |role: &str| scene.give("part", "part", "realm-management", role).await;
    let cannot_look = async |needs: &str| {
        let (target, spec) = granted.only();
        let error = scene.run(target, spec).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{needs}`")), "{error}");
    };
    cannot_look("view-realm").await;
    give("view-realm").await;
    // The service account is made, and from then on its roles are looked at.
    failed(&scene.once(&granted).await["client/a"], "manage-users");
    cannot_look("view-users").await;
    give("view-users").await;
    failed(&scene.once(&granted).await["client/a"], "manage-users");
    give("manage-users").await;
    ready(&scene.once(&granted).await["client/a"], true);
    let roles = part(
        "realms: {part: {keycloak: main, roles: [x]}}\nclients: {a: {keycloak: main, realm: part, roles: [r]}}",
    );
    // `existing` clients of a realm nobody marked may stand in it; its roles need a right of their own.
    failed(&scene.once(&roles).await["client/a"], "manage-realm");
    give("manage-realm").await;
    ready(&scene.once(&roles).await["client/a"], true);
    let new = part("realms: {new: {keycloak: main}}\nclients: {n: {keycloak: main, realm: new}}");
    failed(&scene.once(&new).await["client/n"], "create-realm");
}

/// What Keycloak refuses is told in its words, and is not tried for ever.
pub(crate) async fn what_keycloak_refuses_is_told(scene: &Scene) {
    let client = "clients: {odd: {keycloak: main, realm: staff, redirect_uris: ['https://odd.example/a b']}}";
    let odd = scene.targets(7, ("master", "rollcall"), client);
    let standing = &scene.once(&odd).await["client/odd"];
    let Standing::Failed { error, code, transient: false } = standing else { panic!("{standing:?}") };
    assert!(code == "400" && error.contains("redirect URI is not a valid URI"), "{error}");
}

/// As many as MOSIP has, side by side as a provisioner makes them: each thing is made once.
pub(crate) async fn many_at_once(scene: &Scene) {
    let roles: Vec<String> = (0..80).map(|i| format!("ROLE_{i}")).collect();
    let clients: Vec<String> = (0..27)
        .map(|i| {
            let granted = roles[i..i + 8].join(", ");
            format!("mosip-{i}-client: {{keycloak: main, realm: mosip, service_account_roles: {{realm: [{granted}]}}}}")
        })
        .collect();
    let realm = format!("realms: {{mosip: {{keycloak: main, roles: [{}]}}}}", roles.join(", "));
    let targets =
        scene.targets(7, ("master", "rollcall"), &format!("{realm}\nclients: {{{}}}", clients.join(", ")));
    let run = async |expected: bool| {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for (target, spec) in targets.0.values() {
            let (target, spec) = (target.clone(), spec.clone());
            running.spawn(async move {
                let last = Mutex::new(None);
                let tell = |told: Told<'_, _>| {
                    if let Told::Standing(_, standing) = told {
                        *last.lock().unwrap() = Some(standing);
                    }
                };
                converge(&target, &spec, &spec.component, &tell).await.unwrap();
                last.into_inner().unwrap().unwrap()
            });
        }
        for standing in running.join_all().await {
            ready(&standing, expected);
        }
        started.elapsed()
    };
    let made = run(true).await;
    scene.record_changes("mosip").await;
    let before = scene.changes("mosip").await;
    let again = run(false).await;
    assert_eq!(scene.changes("mosip").await, before);
    eprintln!("27 clients with 8 of 80 roles each: made in {made:?}, looked at again in {again:?}");
}
