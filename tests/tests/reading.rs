//! Secrets that only an API server holds: waiters and provisioners read each by name with no right but `get`, wait for what is
//! not there yet, say what keeps them from it, and show no value.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::PATIENCE;
use acceptance::cluster::{Cluster, User, folder};
use acceptance::running::Running;
use chassis::SecretValue;
use postgres::{Server, Session};
use serde_json::json;

const PLANTED: &str = "PLANTEDreadB5x8Qm2Zr7";

#[tokio::test]
async fn a_waiter_is_released_by_a_secret_that_appears_in_the_cluster() {
    let cluster = Cluster::start(&[]).await;
    cluster.namespace("shop").await;
    let waiter = reader(&cluster, "waiter", "shop", &["db"]).await;
    let target = ["wait-for-dependency", "wait", "--secret", "shop/db:password", "--timeout", "5m"];

    let mut waiting = Running::start(&cluster, "waiter", &waiter.kubeconfig, &target);
    waiting.says("secret/shop/db does not exist (looked in the cluster at https://").await;
    let hurried = [&target[..4], &["--timeout", "5s"]].concat();
    for (keys, says) in [
        (&[("user", PLANTED)][..], "secret/shop/db has no key `password`"),
        (&[("user", PLANTED), ("password", "")], "secret/shop/db key `password` is empty"),
    ] {
        cluster.secret("shop", "db", keys).await;
        Running::start(&cluster, "hurried", &waiter.kubeconfig, &hurried).ends(124, says).await;
    }
    cluster.secret("shop", "db", &[("user", PLANTED), ("password", PLANTED)]).await;
    waiting.ends(0, "released: secret/shop/db:password").await;

    // Whoever is away is asked again.
    cluster.server.kill().await.unwrap();
    let mut waiting = Running::start(&cluster, "away", &waiter.kubeconfig, &target);
    waiting.says("secret/shop/db cannot be read now").await;
    cluster.server.start().await.unwrap();
    waiting.ends(0, "released: secret/shop/db:password").await;
    cluster.server.ready(PATIENCE).await.unwrap();

    // A Role may come after who waits; who cannot wait is told.
    let other = ["wait-for-dependency", "wait", "--secret", "shop/other:password", "--timeout", "60s"];
    let rule = "a Role in namespace shop must allow `get` on secrets with resourceNames [other]";
    let hasty =
        Running::start(&cluster, "hasty", &waiter.kubeconfig, &[&other[..], &["--fail-fast"]].concat());
    hasty.ends(65, rule).await;
    cluster.secret("shop", "other", &[("password", PLANTED)]).await;
    let mut waiting = Running::start(&cluster, "forbidden", &waiter.kubeconfig, &other);
    waiting.says(rule).await;
    allow(&cluster, "waiter", "waiter-later", "shop", &["other"]).await;
    waiting.ends(0, "released: secret/shop/other:password").await;

    let bearer = cluster.server.kubeconfig_of_token("bearer", "PLANTEDtoken").unwrap();
    let waiting = Running::start(&cluster, "bearer", &bearer, &hurried);
    waiting.ends(124, "the API server does not accept our credentials").await;
    cluster.stop().await;
}

#[tokio::test]
async fn databases_are_made_and_waited_for_with_passwords_from_the_cluster() {
    let cluster = Cluster::start(&[]).await;
    cluster.namespace("shop").await;
    let postgres = cluster.postgres().await;
    let address = format!("host: {}, port: {}, tls: {{mode: disable}}", postgres.host(), postgres.port());
    let document = format!(
        "
postgres: {{main: {{{address}, admin: {{user: postgres, password: {{secret: pg, key: password}}}}}}}}
databases: {{shop: {{server: main, roles: {{app: {{name: shop_user, password: {{secret: shop-db, key: password}}}}}}}}}}
secrets: {{pg: {{external: true}}, shop-db: {{external: true}}}}
modules: {{web: {{needs: [database/shop]}}}}"
    );
    let documents = folder(&cluster.dir().join("documents"), 9, &[("shop", &document)]);
    let (folder, documents) = (documents.as_path(), documents.to_str().unwrap());
    let apply = ["postgres-init", "apply", documents];

    // A waiter of the module needs its own password and never the administrator's.
    let (module, names) = cluster.printed(folder, ("shop", "module"), &["--module", "web"]).await;
    assert_eq!(names, ["secret/shop/shop-db".to_owned()].into());
    let wait = ["wait-for-dependency", "wait", "--module", "web", documents];
    let mut web = Running::start(&cluster, "web", &module.kubeconfig, &wait);
    web.says("secret/shop/shop-db does not exist").await;
    let refused = Running::start(&cluster, "refused", &module.kubeconfig, &apply);
    refused.ends(65, "`get` on secrets with resourceNames [pg]").await;

    let provisioner =
        cluster.printed(folder, ("shop", "provisioner"), &["--service", "postgres-init"]).await.0;
    let mut making = Running::start(&cluster, "making", &provisioner.kubeconfig, &apply);
    making.says("asks the API server verb=\"get\" object=secret/shop/pg").await;
    cluster.secret("shop", "pg", &[("password", postgres.password())]).await;
    making.says("asks the API server verb=\"get\" object=secret/shop/shop-db").await;
    cluster.secret("shop", "shop-db", &[("password", PLANTED)]).await;
    let said = making.ends(0, "").await;
    assert!(!said.contains(postgres.password()), "the administrator's password is shown");
    web.ends(0, "released: database/shop").await;

    let server = Server {
        component: "postgres/main".parse().unwrap(),
        host: postgres.host().to_owned(),
        port: postgres.port(),
        tls: postgres::Encryption::Disable,
        ca: None,
    };
    let password = SecretValue::new(PLANTED);
    let session = Session::open(&server, "shop_user", Some(&password), "shop", "reading", PATIENCE).await;
    session.unwrap().close().await;
    let plan = ["plan", documents];
    // Who plans looks as each of them does.
    let mut all = None;
    for service in ["secret-syncer", "postgres-init"] {
        all = Some(cluster.printed(folder, ("shop", "person"), &["--service", service]).await.0);
    }
    let all = all.unwrap();
    Running::start(&cluster, "plan", &all.kubeconfig, &plan).ends(0, "").await;
    cluster.stop().await;
}

/// Somebody who may `get` these Secrets of a namespace and nothing else.
async fn reader(cluster: &Cluster, user: &str, namespace: &str, names: &[&str]) -> User {
    allow(cluster, user, user, namespace, names).await;
    cluster.user(user).await
}

/// Lets a user `get` these Secrets, by a Role of this name.
async fn allow(cluster: &Cluster, user: &str, role: &str, namespace: &str, names: &[&str]) {
    let (version, metadata) = ("rbac.authorization.k8s.io/v1", json!({"name": role, "namespace": namespace}));
    let rules =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}]);
    cluster.apply(json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules})).await;
    cluster
        .apply(json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .await;
}
