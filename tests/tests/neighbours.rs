//! Two environments on one Postgres and one Kafka. Naming templates keep them apart; without templates the second is
//! refused for what clashes, told whose it is and what to do, and its other components are made. Nothing of the first
//! changes, and neither can reach into the other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use acceptance::documents::{PLAIN, TEMPLATES, small, uid_text};
use acceptance::{catalog, environment, follow, stage, text, topics};
use chassis::bus::{OWNERSHIP_TOPIC, lifecycle_topic, read_to_end};
use chassis::secret::SecretStore;
use lifecycle::document::Environment;
use postgres::{ErrorKind, Server, Session};
use rollcall::rehearse::{Addresses, Cast, Service, Stage, rewrite, stand_ins};

/// Uids of the environments.
const FIRST: u128 = 0x1001;
const SECOND: u128 = 0x2002;
const THIRD: u128 = 0x3003;
/// How long one process or one answer may take.
const WITHIN: Duration = Duration::from_secs(90);

/// An environment beside a stage's own: documents for the stage's servers, Secrets of its own, and one-shots.
struct Neighbour {
    folder: tempfile::TempDir,
    brokers: String,
}

impl Neighbour {
    fn of(first: &Stage, environment: &Environment) -> Neighbour {
        let names = stand_ins(environment);
        let ports = sandbox::ports::free(names.len()).unwrap();
        let neighbour =
            Neighbour { folder: tempfile::tempdir().unwrap(), brokers: first.kafka().unwrap().brokers() };
        let addresses = Addresses {
            postgres: first.postgres().port(),
            brokers: neighbour.brokers.clone(),
            stand_ins: names.into_iter().zip(ports).collect(),
        };
        std::fs::create_dir(neighbour.folder.path().join("documents")).unwrap();
        for document in rewrite(environment, &addresses) {
            let file = format!("documents/{}.json", document.fragment.name);
            let text = serde_json::to_string(&document).unwrap();
            std::fs::write(neighbour.folder.path().join(file), text).unwrap();
        }
        let admin = format!("secrets/{}/postgresql", environment.identity().name);
        std::fs::create_dir_all(neighbour.folder.path().join(&admin)).unwrap();
        let admin = neighbour.folder.path().join(admin).join("postgres-password");
        std::fs::write(admin, first.postgres().password()).unwrap();
        neighbour
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a one-shot of this environment to its end.
    fn runs(&self, args: &[&str], deadline: &str) -> Output {
        let (documents, secrets) = (self.path("documents"), self.path("secrets"));
        let env = [
            ("ROLLCALL_SECRETS_ROOT", secrets.as_str()),
            ("ROLLCALL_BROKERS", &self.brokers),
            ("ROLLCALL_DEADLINE", deadline),
            ("ROLLCALL_LOG_FORMAT", "text"),
        ];
        acceptance::rollcall(&[args, &[&documents]].concat(), &env)
    }

    /// A one-shot ends with this code; gives what it said.
    fn ends(&self, args: &[&str], code: i32) -> String {
        let output = self.runs(args, "90s");
        let said = text(&output);
        println!("{args:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// Comes up: everything is made, and the gates of its modules open.
    fn comes_up(&self) {
        for provisioner in ["secret-syncer", "postgres-init", "topic-provisioner"] {
            self.ends(&[provisioner, "apply"], 0);
        }
        self.opens("web");
        self.opens("worker");
    }

    fn opens(&self, module: &str) {
        self.ends(&["wait-for-dependency", "wait", "--module", module], 0);
    }
}

/// The first environment, with everything up.
async fn first(environment: &Environment) -> (Stage, Cast) {
    let stage = stage(environment, |_| {}).await;
    let mut cast = Cast::default();
    cast.services(&stage, &Service::ALL).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    (stage, cast)
}

/// Waits until it is all up, then ends its processes: from here on nobody but a neighbour changes anything.
async fn settle(stage: &Stage, cast: Cast) {
    stage.start_kafka().await.unwrap();
    follow(stage, |board| board.missing().is_empty()).await;
    for (_, player) in cast.players() {
        player.stop(WITHIN).await.unwrap();
    }
}

/// Everything that is the first environment's, in lines.
async fn belongings(stage: &Stage, name: &str, database: &str, topic: &str) -> BTreeSet<String> {
    let mut all = catalog::local(stage, database).await;
    let things = "SELECT 'class', c.xmin, c.oid, relname, relowner, relacl, relnatts FROM pg_class c";
    all.extend(catalog::rows(stage, database, things).await);
    all.extend(catalog::rows(stage, database, "SELECT 'row', t.xmin, t.* FROM rehearsal_web t").await);
    let uid = uid_text(FIRST);
    let owned = format!("SELECT 'owned', o.xmin, o.* FROM rollcall.owned o WHERE environment_uid = '{uid}'");
    let owned = catalog::rows(stage, "rollcall", &owned).await;
    assert_eq!(owned.len(), 4, "database, owner, login role, observer: {owned:?}");
    all.extend(owned);
    let topics = topics::all(stage).await;
    for topic in [topic, &lifecycle_topic(name)] {
        all.extend(topics[topic].iter().map(|line| format!("{topic}: {line}")));
    }
    let brokers = stage.kafka().unwrap().brokers();
    let records = read_to_end(&brokers.as_str().into(), OWNERSHIP_TOPIC, WITHIN).await.unwrap();
    let ours: Vec<String> = records
        .iter()
        .filter(|record| record.key.ends_with(&uid))
        .map(|record| format!("{record:?}"))
        .collect();
    assert!(!ours.is_empty(), "no record of ownership");
    all.extend(ours);
    // A neighbour adds rows of its own, and lets its observer into database `rollcall`.
    let shared = catalog::shared(stage).await;
    all.extend(shared.into_iter().filter(|row| !row.starts_with("(pg_database,rollcall,")));
    all.into_iter().collect()
}

fn unchanged(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    assert!(before.len() > 100, "it was looked at: {before:?}");
    let gone: Vec<&String> = before.difference(after).collect();
    assert!(gone.is_empty(), "changed or gone: {gone:#?}");
}

/// The first environment's provisioners find nothing to do.
fn nothing_to_do(stage: &Stage) {
    let (documents, secrets) =
        (stage.documents().display().to_string(), stage.secrets().display().to_string());
    let env = [("ROLLCALL_SECRETS_ROOT", secrets.as_str())];
    let output = acceptance::rollcall(&["plan", "--output", "json", &documents], &env);
    assert!(output.status.success(), "{}", text(&output));
    let plans: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(plans.len() >= 3, "{plans:?}");
    for plan in plans {
        for part in ["steps", "refusals", "pending", "drift"] {
            assert_eq!(plan[part], serde_json::json!([]), "{plan}");
        }
    }
}

/// A login of somebody whose password is in one of the stores.
struct Door<'a> {
    stage: &'a Stage,
    store: SecretStore,
}

impl Door<'_> {
    async fn open(&self, role: &str, secret: &str, database: &str) -> Result<Session, postgres::Error> {
        let server = Server {
            component: "postgres/main".parse().unwrap(),
            host: self.stage.postgres().host().to_owned(),
            port: self.stage.postgres().port(),
            tls: postgres::Encryption::Disable,
            ca: None,
        };
        let password = self.store.password(&secret.parse().unwrap(), "password").await.unwrap();
        Session::open(&server, role, Some(&password), database, "neighbours", WITHIN).await
    }

    async fn opens(&self, role: &str, secret: &str, database: &str) -> Session {
        self.open(role, secret, database)
            .await
            .unwrap_or_else(|error| panic!("{role} in {database}: {error}"))
    }

    async fn refuses(&self, role: &str, secret: &str, database: &str, why: ErrorKind) {
        let error = self.open(role, secret, database).await.expect_err(database);
        assert_eq!(error.kind, why, "{role} in {database}: {error}");
    }
}

#[tokio::test]
async fn templates_keep_environments_apart() {
    let one = environment(&[small("one", FIRST, TEMPLATES)]);
    let (stage, cast) = first(&one).await;
    stage.start_kafka().await.unwrap();
    // Side by side from the first moment on: they race for what belongs to no environment.
    let two = Arc::new(Neighbour::of(&stage, &environment(&[small("two", SECOND, TEMPLATES)])));
    let coming = tokio::task::spawn_blocking({
        let two = Arc::clone(&two);
        move || two.comes_up()
    });
    let (coming, ()) = tokio::join!(coming, settle(&stage, cast));
    coming.unwrap();

    let before = belongings(&stage, "one", "one_shop", "one.shop.orders").await;
    let three = Neighbour::of(&stage, &environment(&[small("three", THIRD, TEMPLATES)]));
    three.comes_up();
    two.comes_up();
    unchanged(&before, &belongings(&stage, "one", "one_shop", "one.shop.orders").await);
    nothing_to_do(&stage);
    let databases = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname";
    let databases = catalog::rows(&stage, "postgres", databases).await;
    assert_eq!(databases, ["(one_shop)", "(postgres)", "(rollcall)", "(three_shop)", "(two_shop)"]);
    let topics: Vec<String> = topics::all(&stage).await.into_keys().collect();
    for name in ["one", "two", "three"] {
        assert!(topics.contains(&format!("{name}.shop.orders")), "{topics:?}");
        assert!(topics.contains(&lifecycle_topic(name)), "{topics:?}");
    }

    let first = Door { stage: &stage, store: SecretStore::Root(stage.secrets()) };
    let second = Door { stage: &stage, store: SecretStore::Root(two.folder.path().join("secrets")) };
    first.opens("one_shop_user", "secret/one/shop-db", "one_shop").await.close().await;
    second.opens("two_shop_user", "secret/two/shop-db", "two_shop").await.close().await;
    for database in ["two_shop", "rollcall"] {
        first.refuses("one_shop_user", "secret/one/shop-db", database, ErrorKind::NoConnect).await;
    }
    second.refuses("two_shop_user", "secret/two/shop-db", "one_shop", ErrorKind::NoConnect).await;
    second.refuses("one_shop_user", "secret/two/shop-db", "one_shop", ErrorKind::Login).await;
    second.refuses("rollcall_observer_two", "secret/two/observer", "one_shop", ErrorKind::NoConnect).await;

    let mut observer = second.opens("rollcall_observer_two", "secret/two/observer", "rollcall").await;
    let (connection, within) = observer.parts();
    let seen = sqlx::query_scalar("SELECT name FROM rollcall.mine ORDER BY name").fetch_all(connection);
    let seen: Vec<String> = within.judge(seen).await.unwrap();
    assert_eq!(seen, ["rollcall_observer_two", "two_shop", "two_shop_owner", "two_shop_user"]);
    for attack in
        ["SELECT * FROM rollcall.owned", "DELETE FROM rollcall.owned", "SET ROLE rollcall_observer_one"]
    {
        let error = observer.execute(attack).await.expect_err(attack);
        assert_eq!(error.code(), "42501", "{attack}: {error}");
    }
    observer.close().await;
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn without_templates_the_second_is_refused_for_what_clashes() {
    let (stage, cast) = first(&environment(&[small("one", FIRST, PLAIN)])).await;
    settle(&stage, cast).await;
    let before = belongings(&stage, "one", "shop", "shop.orders").await;

    let uid = uid_text(SECOND);
    let more = format!(
        "
rollcall: v1
environment: {{name: two, uid: {uid}}}
fragment: {{name: crm, namespace: two}}
naming: {PLAIN}
uses: {{postgres: {{main: {{host: postgresql}}}}, kafka: {{main: {{brokers: ['kafka:9092']}}}}}}
databases: {{crm: {{server: main, roles: {{app: {{name: crm_user, password: {{secret: crm-db, key: password}}}}}}}}}}
secrets: {{crm-db: {{generate: {{password: {{kind: password}}}}}}}}
topics: {{crm.events: {{kafka: main, partitions: 2}}}}
modules: {{crm: {{needs: [database/crm, topic/crm.events], ready: {{tcp: {{address: 'crm:7001'}}}}}}}}
"
    );
    let two = Neighbour::of(&stage, &environment(&[small("two", SECOND, PLAIN), more]));
    two.ends(&["secret-syncer", "apply"], 0);
    let (owner, example) = ("belongs to environment `one`", "{environment}_{name}");
    let said = two.ends(&["postgres-init", "apply"], 65);
    for word in ["database/shop", owner, &uid_text(FIRST), "`two`", &uid, "naming: {database:", example] {
        assert!(said.contains(word), "{word} not in: {said}");
    }
    let said = two.ends(&["topic-provisioner", "apply"], 65);
    for word in ["topic/shop.orders", owner, "naming: {topic: \"{environment}.{name}\"}"] {
        assert!(said.contains(word), "{word} not in: {said}");
    }
    // What does not clash is made and works; what clashes is not released.
    two.opens("crm");
    let output = two.runs(&["wait-for-dependency", "wait", "--module", "web"], "2s");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));

    unchanged(&before, &belongings(&stage, "one", "shop", "shop.orders").await);
    nothing_to_do(&stage);
    stage.strike().await.unwrap();
}
