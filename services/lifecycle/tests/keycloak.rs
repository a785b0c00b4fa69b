//! What a document may say about Keycloak: each mistake is named with its key, defaults are what they are said to be, and
//! clients need what they stand on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use lifecycle::document::{Client, Document, Environment, Existing, Source, Truth, check_fragment};
use lifecycle::{Component, Graph};
use serde_json::{Value, json};
use uuid::Uuid;

fn document(fragment: &str, more: Value) -> Result<Document, serde_json::Error> {
    let mut whole = json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": Uuid::from_u128(7)},
        "fragment": {"name": fragment, "namespace": fragment},
    });
    let Value::Object(more) = more else { panic!("not a map") };
    whole.as_object_mut().unwrap().extend(more);
    serde_json::from_value(whole)
}

fn server(more: Value) -> Value {
    let mut server = json!({
        "url": "https://id.example", "login": {"client": "rollcall", "secret": {"secret": "login", "key": "s"}},
    });
    let Value::Object(more) = more else { panic!("not a map") };
    server.as_object_mut().unwrap().extend(more);
    json!({"keycloak": {"main": server}})
}

fn client(more: Value) -> Value {
    let mut document = server(json!({}));
    let mut client = json!({"keycloak": "main", "realm": "staff"});
    let Value::Object(more) = more else { panic!("not a map") };
    client.as_object_mut().unwrap().extend(more);
    document["clients"] = json!({"portal": client});
    document
}

#[test]
fn mistakes_are_named_with_their_key() {
    let page = json!(["https://portal.example/*"]);
    for (more, says) in [
        (server(json!({"url": "http://id.example"})), "keycloak.main.url: is not encrypted"),
        (server(json!({"url": "https://a:b@id.example"})), "keycloak.main.url: holds credentials"),
        (
            server(json!({"url": "ldap://id.example"})),
            "keycloak.main.url: `ldap://id.example` is not an http",
        ),
        (server(json!({"tls": {"mode": "disable"}})), "keycloak.main.tls.mode: is `disable`"),
        (
            server(
                json!({"url": "http://k", "tls": {"mode": "disable", "ca": {"secret": "ca", "key": "k"}}}),
            ),
            "keycloak.main.tls.ca: verifies nothing",
        ),
        (
            server(json!({"login": {"realm": "a/b", "client": "x", "secret": {"secret": "s", "key": "k"}}})),
            "keycloak.main.login.realm: `a/b` is no realm",
        ),
        (client(json!({"keycloak": "other"})), "clients.portal.keycloak: `other` is neither under keycloak"),
        (client(json!({"realm": "a%2fb"})), "clients.portal.realm: `a%2fb` is no realm"),
        (client(json!({"client_id": ""})), "clients.portal.client_id: must have 1 to 255"),
        (client(json!({"client_id": "x\ny"})), "clients.portal.client_id: must have"),
        (client(json!({"truth": "cluster"})), "clients.portal.secret: is missing"),
        (client(json!({"secret": {"secret": "s", "key": "k"}})), "clients.portal.secret: has no meaning"),
        (
            client(json!({"public": true, "truth": "cluster", "secret": {"secret": "s", "key": "k"}})),
            "clients.portal.truth: a public client has no secret",
        ),
        (client(json!({"public": true, "service_account": true})), "clients.portal.public: a public client"),
        (
            client(json!({"service_account": false, "service_account_roles": {"realm": ["x"]}})),
            "clients.portal.service_account_roles: are given",
        ),
        (client(json!({"standard_flow": true})), "clients.portal.redirect_uris: is empty"),
        (client(json!({"redirect_uris": ["*"]})), "would hand logins to every site"),
        (client(json!({"redirect_uris": ["javascript:alert(1)"]})), "is a script"),
        (client(json!({"redirect_uris": ["portal.example"]})), "is no address"),
        (client(json!({"redirect_uris": ["https://*.example/"]})), "has a `*` in its host"),
        (client(json!({"redirect_uris": page, "web_origins": ["https://x/path"]})), "is no origin"),
        (client(json!({"roles": ["a", "a"]})), "clients.portal.roles: `a` stands twice"),
        (client(json!({"mappers": {"x": {"kind": "Audience Mapper"}}})), "clients.portal.mappers.x.kind"),
        (client(json!({"mandatory": false})), "clients.portal.mandatory: is for external clients"),
        (client(json!({"external": true, "roles": ["a"]})), "clients.portal: is `external`"),
        (client(json!({"external": true, "existing": "update"})), "clients.portal: is `external`"),
    ] {
        let found: Vec<String> = check_fragment(&document("app", more.clone()).unwrap())
            .into_iter()
            .map(|(key, message)| format!("{key}: {message}"))
            .collect();
        assert!(found.len() == 1 && found[0].contains(says), "{more}: {found:?}, wanted {says}");
    }
    for tls in ["require", "verify-ca", "insecure"] {
        let error = document("app", server(json!({"tls": {"mode": tls}}))).unwrap_err().to_string();
        assert!(error.contains("unknown variant"), "nothing is trusted unverified: {error}");
    }
    assert!(document("app", client(json!({"redirectUris": []}))).is_err());
}

#[test]
fn defaults_are_the_least_that_does_what_is_asked_for() {
    let parsed = |more: Value| -> Client {
        let document = document("app", client(more)).unwrap();
        assert_eq!(check_fragment(&document), []);
        document.clients["portal"].clone()
    };
    let bare = parsed(json!({}));
    assert_eq!((bare.truth, bare.existing, bare.id("portal")), (Truth::Keycloak, Existing::Keep, "portal"));
    assert!(!bare.public && !bare.has_standard_flow() && !bare.has_service_account() && !bare.direct_access);
    assert!(bare.origins().is_empty());
    let page = parsed(json!({"redirect_uris": ["/*"], "client_id": "Staff portal/ü"}));
    assert!(page.has_standard_flow() && !page.has_service_account());
    assert_eq!((page.origins(), page.id("portal")), (vec!["+".to_owned()], "Staff portal/ü"));
    let none = parsed(json!({"redirect_uris": ["app.example:/done"], "web_origins": []}));
    assert!(none.origins().is_empty());
    assert!(parsed(json!({"service_account_roles": {"realm": ["clerk"]}})).has_service_account());
    assert!(parsed(json!({"external": true})).is_mandatory());
    assert!(!parsed(json!({"external": true, "mandatory": false})).is_mandatory());
}

fn merged(documents: Vec<Document>) -> (Option<Environment>, String) {
    let sources = documents
        .into_iter()
        .map(|document| Source { file: format!("{}.yaml", document.fragment.name), document });
    let merged = Environment::merge(sources);
    let mut problems = merged.problems;
    if let Some(environment) = &merged.environment {
        problems.extend(Graph::of(environment).check(environment));
    }
    let says: Vec<String> = problems.iter().map(ToString::to_string).collect();
    (merged.environment, says.join("\n"))
}

/// A fragment with the server, and one with a client there.
fn two() -> (Value, Value) {
    let mut base = server(json!({
        "module": "keycloak", "tls": {"ca": {"secret": "ca", "key": "ca.crt"}},
    }));
    base["secrets"] = json!({"login": {"external": true}, "ca": {"external": true}});
    base["modules"] = json!({"keycloak": {"ready": {"http": {"url": "http://k/health"}}}});
    let app = json!({
        "uses": {"keycloak": ["main"]},
        "secrets": {"portal": {"generate": {"client_secret": {"kind": "password"}}}},
        "realms": {"staff": {"keycloak": "main", "roles": ["clerk"]}},
        "clients": {"portal": {
            "keycloak": "main", "realm": "staff", "truth": "cluster",
            "secret": {"secret": "portal", "key": "client_secret"},
        }},
    });
    (base, app)
}

#[test]
fn a_client_needs_its_secret_and_its_server_with_its_login() {
    let (base, app) = two();
    let (environment, problems) =
        merged(vec![document("base", base).unwrap(), document("app", app).unwrap()]);
    assert_eq!(problems, "");
    let graph = Graph::of(&environment.unwrap());
    let needs: Vec<String> = graph
        .start_needs(&"client/portal".parse::<Component>().unwrap())
        .map(|need| need.component.to_string())
        .collect();
    assert_eq!(needs, ["secret/app/portal", "secret/base/ca", "secret/base/login", "module/keycloak"]);
}

type Change = fn(&mut Value, &mut Value);

#[test]
fn what_leads_nowhere_in_all_documents_together_is_named() {
    let problems = |change: Change| {
        let (mut base, mut app) = two();
        change(&mut base, &mut app);
        merged(vec![document("base", base).unwrap(), document("app", app).unwrap()]).1
    };
    let cases: [(Change, &str); 6] = [
        (
            |base, _| drop(base.as_object_mut().unwrap().remove("keycloak")),
            "app.yaml: uses.keycloak.main: no fragment declares it",
        ),
        (
            |_, app| drop(app.as_object_mut().unwrap().remove("clients")),
            "realms.staff: no client is declared",
        ),
        (
            |_, app| app["clients"]["portal"]["secret"]["key"] = "other".into(),
            "its key `other` is referred to",
        ),
        (
            |base, _| drop(base["secrets"].as_object_mut().unwrap().remove("login")),
            "secret/base/login: is referred to, and no fragment declares it",
        ),
        (
            |base, _| drop(base.as_object_mut().unwrap().remove("modules")),
            "client/portal: needs module/keycloak, which no fragment declares",
        ),
        (
            |base, _| {
                let other = json!({"keycloak": "main", "realm": "staff", "client_id": "portal"});
                base["clients"] = json!({"other": other});
            },
            "client `portal` of realm `staff` on keycloak/main is declared twice",
        ),
    ];
    for (change, says) in cases {
        let found = problems(change);
        assert!(found.contains(says), "{found}\nwanted {says}");
    }
}

/// What a module's waiter reads to look at a client, and what `check` says where it could not look.
fn proof(change: impl FnOnce(&mut Value)) -> (Option<String>, Vec<String>) {
    let (base, mut app) = two();
    app["modules"] = json!({"web": {"needs": ["client/portal"]}});
    change(&mut app);
    let (environment, _) = merged(vec![document("base", base).unwrap(), document("app", app).unwrap()]);
    let environment = environment.unwrap();
    let proof = environment.credential(&"client/portal".parse().unwrap(), "app");
    let graph = Graph::of(&environment);
    let implied = |secret: &Component| {
        graph.start_needs(&"module/web".parse().unwrap()).any(|need| need.component == *secret)
    };
    assert!(proof.as_ref().is_none_or(|key| implied(&key.secret)), "a module needs what it looks with");
    let problems = graph.check(&environment).into_iter().filter(|problem| problem.key == "modules.web.needs");
    (proof.map(|key| key.to_string()), problems.map(|problem| problem.message).collect())
}

#[test]
fn a_client_is_a_need_where_its_secret_is_at_hand() {
    let copied = |copy: Value| {
        move |app: &mut Value| {
            app["clients"]["portal"] = json!({"keycloak": "main", "realm": "staff"});
            app["secrets"]["copied"] = json!({"copy": copy});
        }
    };
    for (proof, expected) in [
        (proof(|_| {}), "secret/app/portal:client_secret"),
        (proof(copied(json!({"from": {"client": "portal"}}))), "secret/app/copied:secret"),
        (
            proof(copied(
                json!({"from": {"client": "portal"}, "keys": {"id": "client_id", "password": "secret"}}),
            )),
            "secret/app/copied:password",
        ),
        (
            proof(|app| {
                app["clients"]["portal"]["secret"] = json!({"secret": "base/origin", "key": "k"});
                app["secrets"]["base/origin"] = json!({"external": true});
                app["secrets"]["copied"] = json!({"copy": {"from": "base/origin"}});
            }),
            "secret/app/copied:k",
        ),
    ] {
        assert_eq!(proof, (Some(expected.to_owned()), vec![]));
    }
    for (change, says) in [
        (copied(json!({"from": {"client": "portal"}, "to": ["elsewhere"]})), "no Secret in namespace app"),
        (
            copied(json!({"from": {"client": "portal"}, "keys": {"id": "client_id"}})),
            "copy: {from: {client: portal}}",
        ),
    ] {
        let (proof, problems) = proof(change);
        assert!(proof.is_none() && problems.len() == 1 && problems[0].contains(says), "{problems:?}");
    }
    let public = |when: &'static str| {
        proof(move |app| {
            app["clients"]["portal"] = json!({"keycloak": "main", "realm": "staff", "public": true});
            app["modules"]["web"]["needs"] = json!([{"component": "client/portal", "when": when}]);
        })
    };
    let (proof, problems) = public("start");
    assert!(proof.is_none() && problems[0].contains("is public"), "{problems:?}");
    assert_eq!(public("runtime"), (None, vec![]), "nobody waits for it");
}
