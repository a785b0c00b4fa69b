//! An environment for scenarios over a cluster: one of everything that secret-syncer makes.

use std::collections::BTreeMap;

use chassis::converge::Standing;
use lifecycle::document::Environment;

use crate::cluster::{Cluster, environment};

/// What makes originals, and generates.
pub const BASE: (&str, &str) = (
    "base",
    "
secrets:
  origin: {external: true}
  db: {generate: {password: {kind: password}, tls.key: {kind: private-key, algorithm: ecdsa-p256, public: tls.pub}}}
  ca: {generate: {ca.crt: {kind: ca, common_name: dev, private: ca.key}}}
configmaps:
  global: {external: true}
",
);

/// What follows them.
pub const APP: (&str, &str) = (
    "app",
    "
secrets:
  whole: {copy: {from: base/origin, to: [app, two]}}
  renamed: {copy: {from: base/origin, keys: {new: user}}}
  url: {template: {keys: {url: 'pg://{user}:{password:url}@{host}/d'}, values: {user: {secret: base/origin, key: user}, password: {secret: base/db, key: password}, host: {configmap: base/global, key: host}}}}
  short: {copy: {from: base/origin, source_gone: delete, to: [three]}}
  web: {type: kubernetes.io/tls, generate: {tls.crt: {kind: certificate, ca: {secret: base/ca}, names: [web], private: tls.key, bundle: ca.crt}}}
configmaps:
  global: {copy: {from: base/global}}
  trust: {bundle: {ca.crt: [{secret: base/ca, key: ca.crt}]}}
",
);

/// Both.
pub fn dev() -> Environment {
    environment(7, &[BASE, APP])
}

/// A cluster with what others make for the environment.
pub async fn cluster() -> Cluster {
    let cluster = Cluster::start(&[&dev()]).await;
    cluster.secret("base", "origin", &[("user", "ann"), ("password", "o'ne")]).await;
    cluster.configmap("base", "global", &[("host", "pg.local"), ("empty", "")]).await;
    cluster
}

/// A value, which must be there.
pub async fn text(cluster: &Cluster, component: &str, key: &str) -> String {
    let keys = cluster.keys(component).await.unwrap_or_else(|| panic!("{component} is not there"));
    keys.get(key).cloned().unwrap_or_else(|| panic!("{component} has no {key}"))
}

/// Everything is as it should be.
#[track_caller]
pub fn ready(all: &BTreeMap<String, Standing>) {
    let open: Vec<_> =
        all.iter().filter(|(_, standing)| !matches!(standing, Standing::Ready { .. })).collect();
    assert!(open.is_empty(), "{open:#?}");
}

/// It is refused, or failed for good, in these words among others.
#[track_caller]
pub fn refused(standing: &Standing, says: &str) {
    let text = match standing {
        Standing::Refused(text) => text,
        Standing::Failed { error, transient: false, .. } => error,
        other => panic!("{other:?}"),
    };
    assert!(text.contains(says), "{text}");
}
