//! Against a real kube-apiserver: what names in a Role allow and what they do not, who owns which key, and what happens when
//! the server refuses or goes away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use chassis::grpc::PodReference;
use kubernetes::{Cluster, Error, Name, Resource, Tokens};
use serde_json::{Value, json};
use support::{PATIENCE, Server, eventually, keys, secret};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long one watch lasts.
const LASTS: Duration = Duration::from_secs(100);

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

// One server for all of them: starting one takes longer than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_used_as_it_should() {
    let server = Server::start().await;
    names_in_a_role_are_enough_and_nothing_else_is_allowed(&server).await;
    each_manager_owns_what_it_applied(&server).await;
    what_is_refused_is_said_without_a_value(&server).await;
    a_namespace_may_be_missing_or_end(&server).await;
    only_the_one_that_was_seen_is_deleted(&server).await;
    a_token_is_its_bearers_for_its_audience(&server).await;
    a_pod_is_told(&server).await;
    many_watches_leave_room_for_calls_and_for_one_another(&server).await;
    a_watch_ends_with_the_server_and_begins_anew(&server).await;
    server.stop().await;
}

async fn names_in_a_role_are_enough_and_nothing_else_is_allowed(server: &Server) {
    server.namespace("named").await;
    let syncer = server.somebody("syncer", "named", &["db"], &["get", "watch", "create", "patch"]).await;
    let (db, other) = (secret("named", "db"), secret("named", "other"));
    let desired = keys(&[("password", "hunter2")]);
    let applied = eventually(async || syncer.apply(&db, "rollcall/db", &desired, false).await).await;
    assert!(applied.created, "a create by apply is judged by its name");
    assert!(!syncer.apply(&db, "rollcall/db", &desired, false).await.unwrap().created);
    assert_eq!(syncer.get(&db).await.unwrap().unwrap().data, desired.data);

    for (verb, refused) in [
        ("get", syncer.get(&other).await.map(drop)),
        ("patch", syncer.apply(&other, "rollcall/other", &desired, false).await.map(drop)),
        ("delete", syncer.delete(&db, "any", None).await),
        ("watch", syncer.follow(&other, LASTS, |_| {}).await),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Forbidden { verb: tried, .. } if tried == verb), "{verb}: {error:?}");
        assert!(error.to_string().contains("resourceNames"), "{error}");
    }

    // A ConfigMap is another resource with the same rights here, so it works; in another namespace nothing does.
    let mut map = db.clone();
    map.resource = Resource::ConfigMap;
    assert!(syncer.apply(&map, "rollcall/db", &keys(&[("host", "h")]), false).await.unwrap().created);
    let error = syncer.get(&secret("default", "db")).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");

    // Of an object that is not there yet nothing is told at first, so the second wake is its making.
    server.admin.delete(&db, &syncer.get(&db).await.unwrap().unwrap().uid, None).await.unwrap();
    let woken = Arc::new(Notify::new());
    let following = followed(&syncer, &db, &woken);
    tokio::time::timeout(PATIENCE, woken.notified()).await.expect("it is followed");
    let quiet = tokio::time::timeout(Duration::from_millis(300), woken.notified()).await;
    assert!(quiet.is_err(), "nothing has changed");
    server.admin.apply(&db, "somebody", &keys(&[("more", "x")]), false).await.unwrap();
    tokio::time::timeout(PATIENCE, woken.notified()).await.expect("a change wakes");
    following.abort();
}

async fn each_manager_owns_what_it_applied(server: &Server) {
    server.namespace("owned").await;
    let (db, admin) = (secret("owned", "db"), &server.admin);
    admin.apply(&db, "a", &keys(&[("one", "1"), ("two", "2")]), false).await.unwrap();
    let object = admin.apply(&db, "a", &keys(&[("one", "1")]), false).await.unwrap().object;
    assert_eq!(object.data.keys().collect::<Vec<_>>(), ["one"], "what is not applied any more is removed");
    assert_eq!(object.applied["a"], ["one"]);

    let error = admin.apply(&db, "b", &keys(&[("one", "other")]), false).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { held, .. } if held.contains("data.one") && held.contains("\"a\"")),
        "{error:?}"
    );
    assert!(!error.is_transient() && !error.to_string().contains("other"), "{error}");
    let unchanged = admin.get(&db).await.unwrap().unwrap();
    assert_eq!(unchanged.data["one"].expose_text(), Some("1"), "a conflict changes nothing");

    // Of one mind is no conflict, and by force it is taken over.
    admin.apply(&db, "b", &keys(&[("one", "1")]), false).await.unwrap();
    let taken = admin.apply(&db, "c", &keys(&[("one", "new")]), true).await.unwrap().object;
    assert_eq!(taken.data["one"].expose_text(), Some("new"));

    let stale = kubernetes::Desired { version: Some(object.version), ..keys(&[("three", "3")]) };
    let error = admin.apply(&db, "a", &stale, false).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)) && error.is_transient(), "{error:?}");

    let last = admin.get(&db).await.unwrap().unwrap();
    admin.delete(&db, &last.uid, None).await.unwrap();
    let gone = (Some(last.uid), Some(last.version));
    let stale = kubernetes::Desired { uid: gone.0, version: gone.1, ..keys(&[("three", "3")]) };
    let error = admin.apply(&db, "a", &stale, false).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "what is gone is not made again: {error:?}");
    assert!(admin.get(&db).await.unwrap().is_none());
}

async fn what_is_refused_is_said_without_a_value(server: &Server) {
    let admin = &server.admin;
    server.namespace("refused").await;
    let tls = kubernetes::Desired {
        r#type: Some("kubernetes.io/tls".to_owned()),
        ..keys(&[("tls.crt", "hunter2")])
    };
    let error = admin.apply(&secret("refused", "tls"), "a", &tls, false).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("data[") && !error.to_string().contains("hunter2"), "{error}");

    server
        .create(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed", "namespace": "refused"},
            "immutable": true, "stringData": {"key": "value"},
        }))
        .await;
    let fixed = secret("refused", "fixed");
    assert!(admin.get(&fixed).await.unwrap().unwrap().immutable);
    let error = admin.apply(&fixed, "a", &keys(&[("key", "hunter2")]), true).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && !format!("{error:?}").contains("hunter2"), "{error:?}");

    let nameless = admin.apply(&secret("refused", "Not_A_Name"), "a", &keys(&[]), false).await.unwrap_err();
    assert!(!nameless.is_transient(), "{nameless:?}");
}

async fn a_namespace_may_be_missing_or_end(server: &Server) {
    let nowhere = secret("nowhere", "db");
    assert!(server.admin.get(&nowhere).await.unwrap().is_none());
    let error = server.admin.apply(&nowhere, "a", &keys(&[("k", "v")]), false).await.unwrap_err();
    assert!(matches!(error, Error::NoNamespace { .. }) && error.is_transient(), "{error:?}");

    server.namespace("ending").await;
    // Without controllers it stays so for ever.
    server.delete("/api/v1/namespaces/ending").await;
    let error =
        server.admin.apply(&secret("ending", "db"), "a", &keys(&[("k", "v")]), false).await.unwrap_err();
    assert!(matches!(error, Error::Terminating { .. }) && error.is_transient(), "{error:?}");
}

async fn only_the_one_that_was_seen_is_deleted(server: &Server) {
    server.namespace("deleted").await;
    let db = secret("deleted", "db");
    let uid = server.admin.apply(&db, "a", &keys(&[("k", "v")]), false).await.unwrap().object.uid;
    let error = server.admin.delete(&db, "00000000-0000-0000-0000-000000000000", None).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error:?}");
    let error = server.admin.delete(&db, &uid, Some("1")).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error:?}");
    assert!(server.admin.get(&db).await.unwrap().is_some());
    server.admin.delete(&db, &uid, None).await.unwrap();
    assert!(server.admin.get(&db).await.unwrap().is_none());
    server.admin.delete(&db, &uid, None).await.expect("what is gone is gone");
}

async fn a_token_is_its_bearers_for_its_audience(server: &Server) {
    server.namespace("tokens").await;
    server
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "waiter", "namespace": "tokens"}}))
        .await;
    let token = async |spec: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = server.post("/api/v1/namespaces/tokens/serviceaccounts/waiter/token", &request).await;
        answer["status"]["token"].as_str().expect("a token").to_owned()
    };
    // Any service account may verify, whatever else it may not.
    let own = token(json!({"expirationSeconds": 600})).await;
    let kubeconfig = server.kubernetes.kubeconfig_of_token("hub", &own).unwrap();
    let tokens = Tokens::new(Cluster::of_kubeconfig(&kubeconfig).await.unwrap());
    let shown = token(json!({"audiences": ["rollcall"], "expirationSeconds": 600})).await;
    let identity = tokens.identity(&shown).await.unwrap();
    assert_eq!((identity.namespace.as_str(), identity.account.as_str()), ("tokens", "waiter"));
    assert_eq!(identity.pod, None, "made for no pod");
    // Whoever has a hub in another namespace can show it to no other hub.
    let here = token(json!({"audiences": ["rollcall/default"], "expirationSeconds": 600})).await;
    assert_eq!(tokens.identity(&here).await.unwrap().namespace, "tokens");
    let there = token(json!({"audiences": ["rollcall/elsewhere"], "expirationSeconds": 600})).await;
    for (wrong, says) in [
        (own.as_str(), "is for somebody else"),
        (there.as_str(), "is for somebody else"),
        (&token(json!({"audiences": ["vault"], "expirationSeconds": 600})).await, "is for somebody else"),
        (
            &token(json!({"audiences": ["rollcall"], "expirationSeconds": 86_400})).await,
            "more than two hours",
        ),
        ("nonsense", "is none"),
    ] {
        let error = tokens.identity(wrong).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    // The bearer of a token nobody knows is told so, and not that the server is away.
    let kubeconfig = server.kubernetes.kubeconfig_of_token("stranger", "nonsense").unwrap();
    let stranger = Cluster::of_kubeconfig(&kubeconfig).await.unwrap();
    let error = stranger.get(&secret("tokens", "db")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }) && error.is_transient(), "{error:?}");
}

async fn a_pod_is_told(server: &Server) {
    server.namespace("told").await;
    server
        .create(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "registry", "namespace": "told"},
            "spec": {"containers": [{"name": "registry", "image": "localhost/none:1"}]},
        }))
        .await;
    let pod = server.get("/api/v1/namespaces/told/pods/registry").await;
    let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let reference =
        PodReference { namespace: "told".to_owned(), name: "registry".to_owned(), uid: uid.clone() };
    server.admin.tell_pod(&reference, "Waiting", "waits for database/registry", "hub/1").await.unwrap();
    let events = server.get("/api/v1/namespaces/told/events").await;
    let event = &events["items"][0];
    assert_eq!(event["involvedObject"]["uid"], uid.as_str());
    assert_eq!(event["message"], "waits for database/registry");
}

async fn a_watch_ends_with_the_server_and_begins_anew(server: &Server) {
    server.namespace("watched").await;
    let db = secret("watched", "db");
    let woken = Arc::new(Notify::new());
    let following = followed(&server.admin, &db, &woken);
    tokio::time::timeout(PATIENCE, woken.notified()).await.expect("it is followed");
    server.kubernetes.kill().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, following).await.expect("it is noticed").unwrap();
    // How a connection breaks decides whether that is an error; either way the watch is over and its owner looks again.
    if let Err(error) = ended {
        assert!(error.is_transient(), "{error:?}");
    }
    let error = server.admin.get(&db).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error:?}");
    server.kubernetes.start().await.unwrap();
    server.kubernetes.ready(Duration::from_mins(2)).await.unwrap();
    server.admin.apply(&db, "a", &keys(&[("k", "v")]), false).await.unwrap();
    let following = followed(&server.admin, &db, &woken);
    tokio::time::timeout(PATIENCE, woken.notified()).await.expect("it is followed again");
    following.abort();
}

/// More than the streams that an API server allows on a connection by default.
async fn many_watches_leave_room_for_calls_and_for_one_another(server: &Server) {
    server.namespace("many").await;
    let names: Vec<Name> = (0..250).map(|number| secret("many", &format!("s{number}"))).collect();
    let woken: Vec<Arc<Notify>> = names.iter().map(|_| Arc::default()).collect();
    let following: Vec<_> =
        names.iter().zip(&woken).map(|(name, woken)| followed(&server.admin, name, woken)).collect();
    for woken in &woken {
        tokio::time::timeout(PATIENCE, woken.notified()).await.expect("each is followed");
    }
    for name in [&names[0], &names[249]] {
        server.admin.apply(name, "a", &keys(&[("k", "v")]), false).await.unwrap();
        assert!(server.admin.get(name).await.unwrap().is_some());
    }
    for woken in [&woken[0], &woken[249]] {
        tokio::time::timeout(PATIENCE, woken.notified()).await.expect("a change wakes");
    }
    for watch in following {
        watch.abort();
    }
}

/// Follows in the background, and tells of each change.
fn followed(cluster: &Cluster, name: &Name, woken: &Arc<Notify>) -> JoinHandle<Result<(), Error>> {
    let (cluster, name, woken) = (cluster.clone(), name.clone(), Arc::clone(woken));
    tokio::spawn(async move { cluster.follow(&name, LASTS, |_| woken.notify_one()).await })
}

#[tokio::test]
async fn a_server_that_need_not_prove_who_it_is_is_not_used() {
    let file = std::env::temp_dir().join(format!("rollcall-insecure-{}.kubeconfig", std::process::id()));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let error = Cluster::of_kubeconfig(&file).await.unwrap_err();
    assert!(error.to_string().contains("insecure-skip-tls-verify"), "{error}");
    let plain = config.to_string().replace("https:", "http:").replace("true", "false");
    std::fs::write(&file, plain).unwrap();
    let error = Cluster::of_kubeconfig(&file).await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert!(error.to_string().contains("no https address"), "{error}");
}
