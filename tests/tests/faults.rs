//! One thing is broken at a time. Somebody notices, ends or waits with one message that names the cause, the component and
//! what to do; `rollcall explain` reaches the root; neighbours that do not need the broken thing come up. The README's
//! table says the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::documents::{fragment, plain};
use acceptance::{catalog, environment, follow, is, stage, text, until};
use lifecycle::Phase;
use rollcall::rehearse::{Cast, Service, Stage};

/// A neighbour with a database of its own on the same server, whose password somebody else provides.
const CRM: &str = "
uses: {postgres: {main: {host: postgresql}}}
databases: {crm: {server: main, roles: {app: {name: crm_user, password: {secret: crm-db, key: password}, ddl: as-owner}}}}
secrets: {crm-db: {external: true}}
modules: {crm: {needs: [database/crm], ready: {tcp: {address: 'crm:7001'}}}}
";

struct Play {
    stage: Stage,
    cast: Cast,
}

impl Play {
    /// The small environment, its neighbour and one more fragment, in which something is broken before anybody starts.
    async fn begin(more: &[String], broken: impl AsyncFnOnce(&Stage)) -> Play {
        let texts = [&[plain(), fragment("crm", CRM)], more].concat();
        let stage = stage(&environment(&texts), |_| {}).await;
        broken(&stage).await;
        let mut cast = Cast::default();
        cast.services(&stage, &Service::ALL).await.unwrap();
        cast.stand_ins(&stage, None, || std::time::Duration::ZERO).await.unwrap();
        stage.start_kafka().await.unwrap();
        Play { stage, cast }
    }

    /// These come up.
    async fn ready(&self, modules: &[&str]) {
        follow(&self.stage, |board| modules.iter().all(|module| is(board, module, Phase::Ready))).await;
    }

    /// `rollcall explain` names the root cause of what keeps the component, by these words in this order.
    async fn explains(&self, component: &str, words: &[&str]) {
        let hub = self.stage.url(Service::WaitForDependency);
        let mut last = String::new();
        let said = tokio::time::timeout(acceptance::PATIENCE, async {
            loop {
                last = text(&acceptance::rollcall(&["explain", component], &[("ROLLCALL_HUB", &hub)]));
                if in_order(&last, words) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        assert!(said.await.is_ok(), "{component}: {words:?} not in:\n{last}");
        println!("{component}: {last}");
    }

    /// A one-shot ends with this code and says these words in this order.
    fn ends(&self, args: &[&str], code: i32, words: &[&str]) {
        let documents = self.stage.documents().display().to_string();
        let secrets = self.stage.secrets().display().to_string();
        Play::ends_with(&[args, &[&documents]].concat(), &[("ROLLCALL_SECRETS_ROOT", &secrets)], code, words);
    }

    fn ends_with(args: &[&str], env: &[(&str, &str)], code: i32, words: &[&str]) {
        // What waits for its deadline is given a short one; what is refused ends by itself.
        let deadline = if [124, 75].contains(&code) { "15s" } else { "60s" };
        let log =
            [("ROLLCALL_DEADLINE", deadline), ("ROLLCALL_LOG", "error"), ("ROLLCALL_LOG_FORMAT", "text")];
        let env = [&log, env].concat();
        let output = acceptance::rollcall(args, &env);
        let said = text(&output);
        println!("{args:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(in_order(&said, words), "{args:?}: {words:?} not in:\n{said}");
    }

    /// What a process has logged.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.stage.log(name)).unwrap_or_default()
    }

    async fn end(self) {
        drop(self.cast);
        self.stage.strike().await.unwrap();
    }
}

fn in_order(text: &str, words: &[&str]) -> bool {
    let mut rest = text;
    words.iter().all(|word| rest.find(word).map(|at| rest = &rest[at + word.len()..]).is_some())
}

#[tokio::test]
async fn a_wrong_administrators_password_is_final_and_holds_up_that_server_alone() {
    let admin = "secret/shop/postgresql".parse().unwrap();
    let right = std::sync::OnceLock::new();
    let play = Play::begin(&[], async |stage| {
        right.set(stage.postgres().password().to_owned()).unwrap();
        stage.write_secret(&admin, "postgres-password", "not-the-one").unwrap();
    })
    .await;
    let words = [
        "postgres/main",
        "role `postgres`",
        "password authentication failed",
        "28P01",
        "into secret/shop/postgresql",
    ];
    play.ends(&["postgres-init", "apply"], 65, &words);
    play.explains(
        "module/portal",
        &[&["module/portal", "module/web", "database/shop failed"], &words[..]].concat(),
    )
    .await;
    play.ready(&["module/worker"]).await;
    play.stage.write_secret(&admin, "postgres-password", right.get().unwrap()).unwrap();
    play.ready(&["module/portal", "module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn a_role_that_somebody_else_made_with_another_password_is_refused() {
    let play = Play::begin(&[], async |stage| {
        catalog::execute(stage, "postgres", "CREATE ROLE crm_user LOGIN PASSWORD 'another'").await;
    })
    .await;
    let words = ["database/crm", "role `crm_user`", "no mark of environment `shop`", "naming: {database:"];
    play.ends(&["postgres-init", "apply"], 65, &words);
    play.explains(
        "module/crm",
        &["module/crm", "database/crm failed", "role `crm_user`", "naming: {database:"],
    )
    .await;
    play.ready(&["module/portal", "module/worker"]).await;
    let role =
        catalog::rows(&play.stage, "postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'crm%'")
            .await;
    assert_eq!(role, ["(crm_user)"], "nothing was made beside it");

    // A module whose own Secret is not what its role has, of a database that is known to be ready.
    let own = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(own.path().join("shop/shop-db")).unwrap();
    std::fs::write(own.path().join("shop/shop-db/password"), "stale").unwrap();
    let (own, hub) = (own.path().display().to_string(), play.stage.url(Service::WaitForDependency));
    let documents = play.stage.documents().display().to_string();
    let env = [("ROLLCALL_SECRETS_ROOT", own.as_str()), ("ROLLCALL_HUB", &hub), ("ROLLCALL_DEADLINE", "")];
    let words = ["will not become ready by itself", "database/shop", "shop_user", "28P01", "password"];
    Play::ends_with(&["wait-for-dependency", "wait", "--module", "web", &documents], &env, 65, &words);
    play.end().await;
}

#[tokio::test]
async fn a_missing_key_is_waited_for() {
    let play = Play::begin(&[], async |stage| {
        let folder = stage.secrets().join("shop/crm-db");
        std::fs::rename(folder.join("password"), folder.join("passwort")).unwrap();
    })
    .await;
    let words = ["secret/shop/crm-db", "has no key `password`", "add the key where it is made"];
    play.ends(&["secret-syncer", "apply"], 124, &words);
    play.ends(&["postgres-init", "apply"], 124, &["database/crm", "secret/shop/crm-db", "password"]);
    play.explains("module/crm", &["module/crm", words[0], words[1], words[2]]).await;
    play.ready(&["module/portal", "module/worker"]).await;
    play.stage.write_secret(&"secret/shop/crm-db".parse().unwrap(), "password", "Here-1t-is").unwrap();
    play.ready(&["module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn more_replicas_than_brokers_are_waited_for() {
    let body = "
uses: {kafka: {main: {brokers: ['kafka:9092']}}}
topics: {audit.log: {kafka: main, partitions: 1, replication: 3}}
modules: {audit: {needs: [topic/audit.log], ready: {tcp: {address: 'audit:7002'}}}}
";
    let play = Play::begin(&[fragment("audit", body)], async |_| {}).await;
    let words = ["topic/audit.log", "asks for 3 replicas", "needs 3 brokers", "has 1", "ask for fewer"];
    play.explains("module/audit", &[&["module/audit"], &words[..]].concat()).await;
    play.ends(&["topic-provisioner", "apply"], 124, &words);
    play.ready(&["module/portal", "module/worker", "module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn a_cycle_fails_its_members_alone() {
    let body = "
modules:
  ping: {needs: [module/pong], ready: {tcp: {address: 'ping:7003'}}}
  pong: {needs: [module/ping], ready: {tcp: {address: 'pong:7004'}}}
  fan: {needs: [module/ping], ready: {tcp: {address: 'fan:7005'}}}
";
    let play = Play::begin(&[fragment("game", body)], async |_| {}).await;
    let words = ["module/ping → module/pong → module/ping", "need each other to start", "when: runtime"];
    play.ends(&["check"], 2, &[&["game.json"], &words[..]].concat());
    play.explains("module/fan", &[&["module/fan", "module/ping failed"], &words[..]].concat()).await;
    play.ready(&["module/portal", "module/worker", "module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn a_need_that_nobody_declares_is_waited_for_and_said_to_be() {
    let body = "modules: {lonely: {needs: [module/nobody], ready: {tcp: {address: 'lonely:7006'}}}}";
    let play = Play::begin(&[fragment("alone", body)], async |_| {}).await;
    play.ends(
        &["check"],
        2,
        &["alone.json", "module/lonely", "needs module/nobody", "no fragment declares", "declare it"],
    );
    let words = ["module/nobody", "no fragment declares", "declare it"];
    play.explains("module/lonely", &[&["module/lonely"], &words[..]].concat()).await;
    play.ends(&["wait-for-dependency", "wait", "--module", "lonely", "--fail-fast"], 70, &words);
    play.ready(&["module/portal", "module/worker", "module/crm"]).await;
    play.end().await;
}

/// A file with this text, named by the first of the words, stands beside the others; `needy` needs what it declares.
async fn refused(text: &str, words: &[&str]) {
    let needy =
        fragment("needy", "modules: {needy: {needs: [module/late], ready: {tcp: {address: 'needy:7007'}}}}");
    let play = Play::begin(&[needy], async |stage| {
        std::fs::write(stage.documents().join(words[0]), text).unwrap();
    })
    .await;
    play.ends(&["check"], 2, words);
    play.ends(&["secret-syncer", "apply"], 2, words);
    play.explains("module/needy", &[&["module/needy", "no fragment declares module/late"], words].concat())
        .await;
    play.ready(&["module/portal", "module/worker", "module/crm"]).await;
    for name in Service::ALL.map(Service::name).into_iter().chain(["module/web"]) {
        assert!(in_order(&play.log(name), words), "{name}: {}", play.log(name));
    }
    play.end().await;
}

#[tokio::test]
async fn a_duplicate_key_is_refused_with_its_file_and_nothing_else() {
    let twice = fragment("late", "modules: {late: {}}\nsecrets: {}\nmodules: {late: {}}");
    refused(&twice, &["twice.yaml", "duplicate mapping key: modules not allowed", "line 7"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_yaml_is_refused_and_nothing_else() {
    refused("rollcall: v1\nmodules: {late: [", &["broken.yaml", "line 2"]).await;
}

#[tokio::test]
async fn a_taken_port_ends_the_service_until_it_is_free() {
    let mut held = None;
    let play = Play::begin(&[], async |stage| {
        let port = stage.ports(Service::PostgresInit).grpc;
        held = Some(std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
    })
    .await;
    play.ready(&["module/worker"]).await;
    let words = [
        "ROLLCALL_LISTEN",
        "cannot listen on 127.0.0.1:",
        "Address already in use",
        "free the address, or set another",
    ];
    until("it says why it ends", async || in_order(&play.log("postgres-init"), &words)).await;
    let documents = play.stage.documents().display().to_string();
    let listen = format!("127.0.0.1:{}", play.stage.ports(Service::PostgresInit).grpc);
    Play::ends_with(&["postgres-init", "serve", &documents], &[("ROLLCALL_LISTEN", &listen)], 1, &words);
    play.explains("module/web", &["module/web", "database/shop not heard of yet", "postgres-init"]).await;
    drop(held);
    play.ready(&["module/portal", "module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn a_postgres_that_is_down_is_waited_for() {
    let password = |stage: &Stage| stage.secrets().join("shop/crm-db/password");
    // Half of what is made there is made.
    let play = Play::begin(&[], async |stage| std::fs::remove_file(password(stage)).unwrap()).await;
    play.ready(&["module/web"]).await;
    play.stage.postgres().kill().await.unwrap();
    std::fs::write(password(&play.stage), "Here-1t-is").unwrap();
    let words = ["postgres/main", "refused", "wait until the server runs", "`host` and `port`"];
    play.ends(&["postgres-init", "apply"], 124, &words);
    // A plan shows what can be seen all the same, and ends with the rest.
    let shown =
        ["secret/shop/crm-db", "nothing to do", "postgres/main cannot be looked at", "kafka/main", "error: "];
    play.ends(&["plan"], 75, &[&shown[..], &["postgres/main cannot be looked at"]].concat());
    play.explains("module/crm", &["module/crm", "database/crm", "postgres/main", "refused"]).await;
    play.ready(&["module/worker"]).await;
    play.stage.postgres().start().await.unwrap();
    play.ready(&["module/portal", "module/crm"]).await;
    play.end().await;
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused_and_left_alone() {
    let facts =
        "SELECT oid, datdba, datacl, datallowconn, datconnlimit FROM pg_database WHERE datname = 'crm'";
    let before = std::sync::OnceLock::new();
    let play = Play::begin(&[], async |stage| {
        catalog::execute(stage, "postgres", "CREATE DATABASE crm").await;
        before.set(catalog::rows(stage, "postgres", facts).await).unwrap();
    })
    .await;
    let words = ["database `crm` exists", "no mark of environment `shop`", "naming: {database:"];
    for command in ["plan", "apply"] {
        play.ends(&["postgres-init", command], 65, &[&["database/crm"], &words[..]].concat());
    }
    play.explains("module/crm", &[&["module/crm", "database/crm failed"], &words[..]].concat()).await;
    play.ready(&["module/portal", "module/worker"]).await;
    assert_eq!(&catalog::rows(&play.stage, "postgres", facts).await, before.get().unwrap());
    play.end().await;
}
