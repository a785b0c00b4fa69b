//! Against a real kube-apiserver: a Secret is read by who may `get` it by name and nothing else, and each way in which it cannot
//! be read is told apart, without a value.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::secret::{SecretError, SecretStore};
use kubernetes::{Cluster, Name, Resource};
use lifecycle::Component;
use serde_json::json;
use support::{Server, eventually, keys, secret};
use tokio::net::TcpListener;

const PLANTED: &str = "hunter2-planted";

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

// One server for all of them: starting one takes longer than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_read_by_name_and_what_keeps_one_from_it_is_told_apart() {
    let server = Server::start().await;
    the_right_to_get_it_by_name_suffices(&server).await;
    what_is_not_there_may_still_come(&server).await;
    what_no_role_allows_names_the_rule(&server).await;
    credentials_that_are_not_accepted_may_be_renewed(&server).await;
    a_server_that_is_away_is_asked_again(&server).await;
    server.stop().await;
}

async fn the_right_to_get_it_by_name_suffices(server: &Server) {
    server.namespace("read").await;
    let db = secret("read", "db");
    server.admin.apply(&db, "a", &keys(&[("password", PLANTED), ("user", "app")]), false).await.unwrap();
    let map = Name { resource: Resource::ConfigMap, ..db };
    server.admin.apply(&map, "a", &keys(&[("host", "pg")]), false).await.unwrap();
    let store = store(server.somebody("reader", "read", &["db"], &["get"]).await);
    assert_eq!(format!("{store:?}"), "Reader(Cluster(…))");

    let db = component("secret/read/db");
    let value = eventually(async || store.password(&db, "password").await).await;
    assert_eq!(value.expose_text(), Some(PLANTED));
    let all = store.contents(&db, &[]).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["password", "user"]);
    assert!(!format!("{all:?}").contains(PLANTED));
    let host = store.read(&component("configmap/read/db"), "host").await.unwrap();
    assert_eq!(host.expose_text(), Some("pg"), "of one name, and another object");
}

async fn what_is_not_there_may_still_come(server: &Server) {
    server.namespace("absent").await;
    let store = store(server.somebody("waiter", "absent", &["db"], &["get"]).await);
    let db = component("secret/absent/db");
    let missing = eventually(async || match store.read(&db, "password").await {
        Err(error @ SecretError::Missing { .. }) => Ok(error),
        other => Err(other),
    });
    let missing = missing.await;
    assert!(missing.is_transient(), "{missing}");
    assert!(missing.to_string().contains(&server.kubernetes.url()), "{missing}");

    server.admin.apply(&secret("absent", "db"), "a", &keys(&[("user", PLANTED)]), false).await.unwrap();
    let error = store.read(&db, "password").await.unwrap_err();
    assert!(matches!(&error, SecretError::MissingKey { key, .. } if key == "password"), "{error:?}");
    assert!(error.is_transient() && !format!("{error} {error:?}").contains(PLANTED), "{error:?}");

    let empty = keys(&[("user", PLANTED), ("password", "")]);
    server.admin.apply(&secret("absent", "db"), "a", &empty, false).await.unwrap();
    let error = store.password(&db, "password").await.unwrap_err();
    assert!(matches!(error, SecretError::Empty { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(store.read(&db, "password").await.unwrap().expose(), b"", "what is there can be read");

    // The administrator may look into a namespace that is not there.
    let nowhere = self::store(server.admin.clone()).read(&component("secret/nowhere/db"), "password").await;
    assert!(matches!(nowhere, Err(SecretError::Missing { .. })), "{nowhere:?}");
}

async fn what_no_role_allows_names_the_rule(server: &Server) {
    server.namespace("forbidden").await;
    let store = store(server.somebody("stranger", "forbidden", &["db"], &["get"]).await);
    for (object, rule) in [
        (
            "secret/forbidden/other",
            "a Role in namespace forbidden must allow `get` on secrets with resourceNames [other]",
        ),
        (
            "configmap/forbidden/x",
            "a Role in namespace forbidden must allow `get` on configmaps with resourceNames [x]",
        ),
        (
            "secret/kube-system/db",
            "a Role in namespace kube-system must allow `get` on secrets with resourceNames [db]",
        ),
    ] {
        let error = store.read(&component(object), "password").await.unwrap_err();
        assert!(matches!(error, SecretError::Forbidden { .. }) && !error.is_transient(), "{error:?}");
        assert_eq!(error.to_string(), format!("{object} cannot be read: forbidden; {rule}"));
    }
}

async fn credentials_that_are_not_accepted_may_be_renewed(server: &Server) {
    let db = component("secret/tokens/db");
    let kubeconfig = server.kubernetes.kubeconfig_of_token("nobody", "nonsense").unwrap();
    let unknown = store(Cluster::of_kubeconfig(&kubeconfig).await.unwrap());
    let refused = |error: &SecretError| {
        error.is_transient() && error.to_string().contains("does not accept our credentials")
    };
    let error = unknown.read(&db, "password").await.unwrap_err();
    assert!(refused(&error) && !error.to_string().contains("nonsense"), "{error:?}");

    // A token that was good: it ends with its account, as it would with its time.
    server.namespace("tokens").await;
    server
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gone", "namespace": "tokens"}}))
        .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = server.post("/api/v1/namespaces/tokens/serviceaccounts/gone/token", &request).await;
    let token = answer["status"]["token"].as_str().expect("a token");
    let kubeconfig = server.kubernetes.kubeconfig_of_token("gone", token).unwrap();
    let known = store(Cluster::of_kubeconfig(&kubeconfig).await.unwrap());
    let error = known.read(&db, "password").await.unwrap_err();
    assert!(matches!(error, SecretError::Forbidden { .. }), "it is known, and may nothing: {error:?}");
    server.delete("/api/v1/namespaces/tokens/serviceaccounts/gone").await;
    let error = eventually(async || match known.read(&db, "password").await {
        Err(error @ SecretError::Unavailable { .. }) => Ok(error),
        other => Err(other),
    });
    let error = error.await;
    assert!(refused(&error) && !error.to_string().contains(token), "{error:?}");
}

async fn a_server_that_is_away_is_asked_again(server: &Server) {
    let (store, db) = (store(server.admin.clone()), component("secret/read/db"));
    store.read(&db, "password").await.unwrap();
    server.kubernetes.kill().await.unwrap();
    let error = store.read(&db, "password").await.unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().starts_with("secret/read/db cannot be read now: "), "{error}");
    server.kubernetes.start().await.unwrap();
    server.kubernetes.ready(Duration::from_mins(2)).await.unwrap();
    let value = eventually(async || store.read(&db, "password").await).await;
    assert_eq!(value.expose_text(), Some(PLANTED));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_before_a_look_is() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": format!("https://{}", silent.local_addr().unwrap())}}],
        "users": [{"name": "x", "user": {"token": PLANTED}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "own"}}],
    });
    let file = std::env::temp_dir().join(format!("rollcall-silent-{}.kubeconfig", std::process::id()));
    std::fs::write(&file, config.to_string()).unwrap();
    let cluster = Cluster::of_kubeconfig(&file).await;
    std::fs::remove_file(&file).unwrap();
    let cluster = cluster.unwrap();
    assert_eq!(chassis::secret::SecretReader::namespace(&cluster).await.as_deref(), Some("own"));
    let begun = Instant::now();
    let error = store(cluster).read(&component("secret/own/db"), "password").await.unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("has not answered within 2s"), "{error}");
    assert!(!error.to_string().contains(PLANTED));
    assert!(begun.elapsed() < Duration::from_secs(9), "a look is not a call of 10 s: {:?}", begun.elapsed());
}

fn store(cluster: Cluster) -> SecretStore {
    SecretStore::Reader(Arc::new(cluster))
}

fn component(text: &str) -> Component {
    text.parse().unwrap()
}
