//! Secrets copied from a real Vault, a real Keycloak and files of the real sops, by the real program, into a real API server
//! and into a folder: right in one run, followed for as long as it serves, and no value in anything that it says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use acceptance::cluster::{Cluster, environment, folder};
use acceptance::sources::Sources;
use acceptance::{binary, syncer, text, until};
use serde_json::json;

const UID: u128 = 0x5041;
const LOGIN: &str = "PlantedLogin4mZ8";
const PORTAL: &str = "PlantedPortal7Kc2";
const MAIL: &str = "PlantedMail9Vd5";
const BACKUP: &str = "PlantedBackup3Sp6";

fn document(sources: &Sources) -> String {
    format!(
        "
keycloak: {{main: {{url: '{}', tls: {{mode: disable}}, login: {{realm: staff, client: rollcall, secret: {{secret: login, key: secret}}}}}}}}
vault: {{main: {{url: '{}', tls: {{ca: {{secret: vault, key: ca.crt}}}}, login: {{approle: {{role_id: {}, secret_id: {{secret: vault, key: secret_id}}}}}}}}}}
clients:
  portal: {{keycloak: main, realm: staff, external: true}}
  console: {{keycloak: main, realm: staff, redirect_uris: ['https://console.example/*']}}
secrets:
  login: {{external: true}}
  vault: {{external: true}}
  mail: {{copy: {{from: {{vault: main, path: mail/smtp}}, to: [app, jobs]}}}}
  mail-url: {{template: {{keys: {{url: 'smtp://{{user}}:{{password:url}}@mail'}}, values: {{user: {{secret: mail, key: user}}, password: {{secret: mail, key: password}}}}}}}}
  portal: {{copy: {{from: {{client: portal}}, keys: {{id: client_id, password: secret}}}}}}
  console: {{copy: {{from: {{client: console}}}}}}
  backup: {{copy: {{from: {{sops: backup.yaml}}, keys: {{key: password}}}}}}
modules: {{web: {{needs: [client/portal, client/console, secret/mail-url]}}}}
",
        sources.keycloak.url(),
        sources.vault.url(),
        sources.role_id,
    )
}

/// The stage of the test.
struct Stage {
    cluster: Cluster,
    sources: Sources,
    documents: PathBuf,
}

impl Stage {
    async fn set() -> Stage {
        let cluster = Cluster::start(&[]).await;
        let sources = Sources::start(&cluster.sandbox, LOGIN).await;
        sources.write("mail/smtp", json!({"user": "mailer", "password": MAIL})).await;
        sources.client("portal", PORTAL).await;
        sources.encrypt("backup.yaml", &format!("password: {BACKUP}\n")).await;
        let document = document(&sources);
        let fragments = [("app", document.as_str())];
        let declared = environment(UID, &fragments);
        for namespace in ["app", "jobs"] {
            cluster.namespace(namespace).await;
        }
        cluster.grant(&declared).await;
        let documents = folder(&cluster.dir().join("documents"), UID, &fragments);
        let stage = Stage { cluster, sources, documents };
        for (name, keys) in stage.credentials() {
            let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
            stage.cluster.secret("app", name, &keys).await;
        }
        stage
    }

    /// What somebody else makes: that with which Rollcall logs in.
    fn credentials(&self) -> [(&'static str, Vec<(&'static str, String)>); 2] {
        let ca = std::fs::read_to_string(self.sources.vault.authority()).unwrap();
        let vault = vec![("ca.crt", ca), ("secret_id", self.sources.secret_id.clone())];
        [("login", vec![("secret", LOGIN.to_owned())]), ("vault", vault)]
    }

    /// Where sops files are, for the program's environment.
    fn sops(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.display().to_string();
        [
            ("ROLLCALL_SOPS_DIR", text(&self.sources.sops)),
            ("ROLLCALL_SOPS_KEY_FILE", text(&self.sources.sops_key())),
        ]
    }

    /// The copies, each a Secret of the cluster with its keys.
    async fn copies(&self) -> BTreeMap<&'static str, BTreeMap<String, String>> {
        let mut copies = BTreeMap::new();
        for name in ["app/mail", "jobs/mail", "app/mail-url", "app/portal", "app/console", "app/backup"] {
            copies.insert(name, self.cluster.keys(&format!("secret/{name}")).await.unwrap_or_default());
        }
        copies
    }

    async fn value(&self, secret: &str, key: &str) -> String {
        let keys = self.cluster.keys(&format!("secret/{secret}")).await.unwrap_or_default();
        keys.get(key).cloned().unwrap_or_default()
    }

    /// Runs `change` and waits until a key of a copy has another value; which objects were written since, and the value.
    async fn followed(
        &self,
        copy: &str,
        key: &str,
        change: impl AsyncFnOnce(),
    ) -> (BTreeSet<String>, String) {
        let (before, old) = (self.cluster.versions().await, self.value(copy, key).await);
        change().await;
        until("it is followed", async || self.value(copy, key).await != old).await;
        (self.written(&before).await, self.value(copy, key).await)
    }

    async fn written(&self, before: &BTreeMap<String, String>) -> BTreeSet<String> {
        let now = self.cluster.versions().await.into_iter();
        now.filter(|(name, version)| before.get(name) != Some(version)).map(|(name, _)| name).collect()
    }
}

fn say_nothing(output: &Output, what: &str) {
    let said = text(output);
    assert!(said.contains("TRACE"), "{what} says little: {said}");
    for planted in [LOGIN, PORTAL, MAIL, BACKUP] {
        assert!(!said.contains(planted), "{what} says {planted}");
    }
}

async fn one_run_copies_from_each_source_and_a_second_writes_nothing(stage: &Stage) {
    let user = stage.cluster.syncer().await;
    let apply = || {
        let mut program = stage.cluster.program(&user, &stage.documents, &["apply"]);
        let output = program.envs(stage.sops()).env("ROLLCALL_LOG", "trace").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        say_nothing(&output, "apply");
    };
    apply();
    let copies = stage.copies().await;
    let map = |keys: &[(&str, &str)]| -> BTreeMap<String, String> {
        keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    for mail in ["app/mail", "jobs/mail"] {
        assert_eq!(copies[mail], map(&[("user", "mailer"), ("password", MAIL)]));
    }
    assert_eq!(copies["app/mail-url"]["url"], format!("smtp://mailer:{MAIL}@mail"));
    assert_eq!(copies["app/portal"], map(&[("id", "portal"), ("password", PORTAL)]));
    assert_eq!(copies["app/backup"], map(&[("key", BACKUP)]));
    assert_eq!(copies["app/console"]["client_id"], "console");
    assert!(copies["app/console"]["secret"].len() >= 32, "Keycloak made it");
    let before = stage.cluster.versions().await;
    apply();
    assert_eq!(stage.written(&before).await, BTreeSet::new());
}

/// The same into a folder, and a module's waiter that finds its clients there by what was copied.
async fn a_folder_gets_the_same_and_a_waiter_sees_its_clients_by_it(stage: &Stage) {
    let root = tempfile::tempdir().unwrap();
    let app = root.path().join("app");
    let run = |service: &str, args: &[&str]| {
        let mut program = Command::new(binary());
        program.arg(service).args(args).arg(&stage.documents).env_clear().envs(stage.sops());
        program.env("ROLLCALL_SECRETS_ROOT", root.path()).env("ROLLCALL_LOG", "trace");
        program.env("ROLLCALL_DEADLINE", "60s").output().unwrap()
    };
    let wait = |timeout: &str| run("wait-for-dependency", &["wait", "--module", "web", "--timeout", timeout]);
    for (name, keys) in stage.credentials() {
        std::fs::create_dir_all(app.join(name)).unwrap();
        for (key, value) in keys {
            std::fs::write(app.join(name).join(key), value).unwrap();
        }
    }
    let output = run("secret-syncer", &["apply"]);
    assert!(output.status.success(), "{}", text(&output));
    say_nothing(&output, "apply into a folder");
    for (copy, keys) in stage.copies().await {
        for (key, value) in keys {
            let held = std::fs::read_to_string(root.path().join(copy).join(&key)).unwrap();
            assert_eq!(held, value, "{copy} {key}");
        }
    }
    let output = wait("2m");
    assert!(output.status.success(), "{}", text(&output));
    say_nothing(&output, "the waiter");
    std::fs::write(app.join("portal/password"), "another").unwrap();
    let output = wait("20s");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("does not let client `portal` in") && said.contains("invalid_client"), "{said}");
    assert!(!said.contains("client `console`"), "{said}");
    std::fs::write(app.join("portal/password"), PORTAL).unwrap();
    stage.sources.remove("portal").await;
    assert_eq!(wait("5s").status.code(), Some(124), "a client that is gone is not there");
    stage.sources.client("portal", PORTAL).await;
    assert!(wait("2m").status.success(), "and is, once it is made again");
}

async fn rotation_at_each_source_is_followed_and_nothing_else_written(stage: &Stage) {
    let user = stage.cluster.syncer().await;
    let sops = stage.sops();
    let more: Vec<(&str, &str)> = sops.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let more = [&more[..], &[("ROLLCALL_RESYNC", "1s"), ("ROLLCALL_LOG", "trace")]].concat();
    let service = stage.cluster.serve(&user, &stage.documents, "sources", &more).await;
    service.answers().await;
    // Six copies, two that somebody else makes.
    service.counts("synced", 8).await;
    let names = |names: &[&str]| names.iter().map(|name| format!("secrets/{name}")).collect::<BTreeSet<_>>();
    let sources = &stage.sources;

    let values = json!({"user": "mailer", "password": "PlantedMail2Nx8"});
    let (mut written, value) =
        stage.followed("app/mail", "password", async || sources.write("mail/smtp", values).await).await;
    assert_eq!(value, "PlantedMail2Nx8");
    until("what hangs on it follows", async || {
        stage.value("jobs/mail", "password").await == value
            && stage.value("app/mail-url", "url").await == format!("smtp://mailer:{value}@mail")
    })
    .await;
    written.extend(names(&["jobs/mail", "app/mail-url"]));
    assert_eq!(written, names(&["app/mail", "jobs/mail", "app/mail-url"]));

    let (written, portal) =
        stage.followed("app/portal", "password", async || sources.rotate("portal").await).await;
    assert_eq!(written, names(&["app/portal"]));
    let (written, console) =
        stage.followed("app/console", "secret", async || sources.rotate("console").await).await;
    assert_eq!(written, names(&["app/console"]));

    let text = "password: PlantedBackup8Qr1\n";
    let (written, backup) =
        stage.followed("app/backup", "key", async || sources.encrypt("backup.yaml", text).await).await;
    assert_eq!((written, backup.as_str()), (names(&["app/backup"]), "PlantedBackup8Qr1"));

    let planted = [LOGIN, "PlantedMail2Nx8", "PlantedBackup8Qr1", &portal, &console, &sources.secret_id];
    syncer::nowhere(&stage.cluster, &[&service], &planted).await;
    for old in [PORTAL, MAIL, BACKUP] {
        assert!(!service.text().contains(old), "{old}");
    }
    service.handle.stop(std::time::Duration::from_secs(10)).await.unwrap();
}

// One stage for all of them: starting its servers takes longer than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_come_from_everywhere_and_follow() {
    let stage = Stage::set().await;
    one_run_copies_from_each_source_and_a_second_writes_nothing(&stage).await;
    a_folder_gets_the_same_and_a_waiter_sees_its_clients_by_it(&stage).await;
    rotation_at_each_source_is_followed_and_nothing_else_written(&stage).await;
    stage.cluster.stop().await;
}
