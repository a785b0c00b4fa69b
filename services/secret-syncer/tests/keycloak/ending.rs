//! How the process ends when a client that others make is not there, and when it goes on looking.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Scene, document};

/// A client of others, a copy of its secret, what is made from that copy, and what has nothing to do with it.
const DOCUMENT: &str = "
clients: {lost: {keycloak: main, realm: read, external: true}}
secrets:
  lost: {copy: {from: {client: lost}}}
  lost-url: {template: {keys: {url: 'https://{secret:url}@x'}, values: {secret: {secret: lost, key: secret}}}}
  other: {generate: {password: {kind: password}}}
  view: {external: true}
";

/// A document in a folder that lasts as long as it is used.
struct Run<'a> {
    scene: &'a Scene,
    dir: TempDir,
}

impl<'a> Run<'a> {
    fn new(scene: &'a Scene, more: &str) -> Run<'a> {
        scene.secret("view", "planted-view");
        Run::of(scene, 8, ("read", "view"), more)
    }

    fn of(scene: &'a Scene, uid: u128, login: (&str, &str), more: &str) -> Run<'a> {
        let dir = tempfile::tempdir().unwrap();
        let text = document(uid, &scene.keycloak.url(), login, more);
        std::fs::write(dir.path().join("app.yaml"), text).unwrap();
        Run { scene, dir }
    }

    fn command(&self, args: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_secret-syncer"));
        program.args(args).arg(self.dir.path().join("app.yaml")).env_clear().stdin(Stdio::null());
        program.env("ROLLCALL_SECRETS_ROOT", self.scene.root()).env("ROLLCALL_LOG", "trace");
        for listen in ["ROLLCALL_LISTEN", "ROLLCALL_HEALTH_LISTEN", "ROLLCALL_METRICS_LISTEN"] {
            program.env(listen, "127.0.0.1:0");
        }
        program.envs(settings.iter().copied());
        program
    }

    fn apply(&self, settings: &[(&str, &str)]) -> (Option<i32>, String) {
        self.one(&["apply"], settings)
    }

    /// One run: how it ended, and what it said.
    fn one(&self, args: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(args, settings).output().unwrap();
        let text = [stdout, stderr].concat();
        let text = String::from_utf8(text).unwrap();
        self.scene.say(&text);
        (status.code(), text)
    }

    fn spawn(&self, command: &str, settings: &[(&str, &str)]) -> Child {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut program = self.command(&[command], settings);
        program.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Waits until what a spawned one says holds this.
    async fn says(&self, text: &str) {
        eventually(text, || std::fs::read_to_string(self.dir.path().join("log")).unwrap().contains(text))
            .await;
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.scene.root().join("app").join(path)).ok()
    }

    async fn remove(&self, client: &str) {
        let uid = self.scene.uid("read", client).await;
        let path = format!("/read/clients/{uid}");
        assert_eq!(self.scene.admin(Method::DELETE, &path, None).await.0, 204);
        for copy in ["lost", "lost-url"] {
            let _ = std::fs::remove_dir_all(self.scene.root().join("app").join(copy));
        }
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_mins(1), looking).await.is_ok(),
        "not within a minute: {what}"
    );
}

fn client() -> serde_json::Value {
    json!({"clientId": "lost", "secret": "planted-lost"})
}

pub(crate) fn a_missing_client_ends_a_run_soon_and_after_the_rest(scene: &Scene) {
    let run = Run::new(scene, DOCUMENT);
    let (code, text) = run.apply(&[]);
    let end = text.lines().rev().take(6).collect::<Vec<_>>().join(" ");
    assert_eq!(code, Some(69), "{end}");
    for says in [
        "client/lost: client `lost` of realm `read` does not exist",
        "mandatory: false",
        "secret/app/lost: client/lost does not exist",
        "secret/app/lost-url: secret/app/lost",
        "ROLLCALL_DEADLINE",
    ] {
        assert!(end.contains(says), "{says}: {end}");
    }
    assert!(run.read("other/password").is_some(), "what does not need it is made");
    assert_eq!(run.read("lost/secret"), None);
    // One that need not be there is no reason to end otherwise.
    let optional = DOCUMENT.replace("external: true}}", "external: true, mandatory: false}}");
    let optional = optional.lines().filter(|line| !line.contains("lost:") || line.contains("clients"));
    let optional: Vec<&str> = optional.filter(|line| !line.contains("lost-url")).collect();
    let (code, text) = Run::new(scene, &optional.join("\n")).apply(&[]);
    assert_eq!(code, Some(0), "{text}");
}

pub(crate) async fn a_deadline_or_a_service_waits_for_it(scene: &Scene) {
    let run = Run::new(scene, DOCUMENT);
    let (code, text) = run.apply(&[("ROLLCALL_DEADLINE", "5s")]);
    assert_eq!(code, Some(124), "{text}");
    assert!(text.contains("client `lost` of realm `read` does not exist"), "{text}");
    let secret = || run.read("lost/secret");

    let mut waits = run.spawn("apply", &[("ROLLCALL_DEADLINE", "2m")]);
    run.says("client `lost` of realm `read` does not exist").await;
    scene.post("/read/clients", client()).await;
    assert!(waits.wait().unwrap().success());
    assert_eq!(secret().as_deref(), Some("planted-lost"));
    assert_eq!(run.read("lost-url/url").as_deref(), Some("https://planted-lost@x"));
    run.remove("lost").await;

    let mut serves = run.spawn("serve", &[("ROLLCALL_RESYNC", "1s")]);
    run.says("client `lost` of realm `read` does not exist").await;
    scene.post("/read/clients", client()).await;
    eventually("it is copied", || secret().as_deref() == Some("planted-lost")).await;
    Command::new("kill").arg(serves.id().to_string()).status().unwrap();
    assert!(serves.wait().unwrap().success());
    scene.say(&std::fs::read_to_string(run.dir.path().join("log")).unwrap());
    run.remove("lost").await;
}

/// A client that is refused keeps nobody waiting for ever either.
pub(crate) fn what_waits_for_a_refused_client_ends_too(scene: &Scene) {
    let made = DOCUMENT.replace("external: true}}", "existing: update}}");
    let (code, text) = Run::new(scene, &made).apply(&[("ROLLCALL_DEADLINE", "2m")]);
    let end = text.lines().rev().take(6).collect::<Vec<_>>().join(" ");
    assert_eq!(code, Some(65), "{end}");
    assert!(
        end.contains("manage-clients") && end.contains("secret/app/lost: client/lost does not exist"),
        "{end}"
    );
}

/// Clients of this environment, made by us, by others, taken over, and one that belongs to another environment.
const REALM: &str = "
clients:
  made: {keycloak: main, realm: leave, redirect_uris: [/a]}
  taken: {keycloak: main, realm: leave, existing: update}
  kept: {keycloak: main, realm: leave}
  others: {keycloak: main, realm: leave, external: true}
secrets:
  leaver: {external: true}
  made: {copy: {from: {client: made}}}
";

pub(crate) async fn a_teardown_deletes_what_was_made_and_nothing_else(scene: &Scene) {
    scene.realm("leave").await;
    let of = |role: &'static str| ("realm-management", role);
    let roles = [of("view-clients"), of("manage-clients")];
    scene.account("leave", "leaver", "planted-leaver", &roles).await;
    scene.secret("leaver", "planted-leaver");
    for id in ["taken", "kept", "others"] {
        scene.post("/leave/clients", json!({"clientId": id})).await;
    }
    let run = |uid: u128| Run::of(scene, uid, ("leave", "leaver"), REALM);
    let ours = run(9);
    let (code, text) = ours.one(&["apply"], &[]);
    assert_eq!(code, Some(0), "{text}");
    let all = scene.get("/leave/clients").await;
    assert!(ours.read("made/secret").is_some());

    let (code, text) = ours.one(&["teardown"], &[]);
    assert!(code == Some(0) && text.contains("= client/made: ") && text.contains("say --clients"), "{text}");
    let (code, text) = ours.one(&["teardown", "--clients"], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("- client/made: delete the client") && text.contains("= client/taken: "), "{text}");
    assert!(!text.contains("client/kept") && !text.contains("client/others"), "{text}");
    assert!(run(10).one(&["teardown", "--clients", "--yes"], &[]).0 == Some(0), "another's");
    assert_eq!(scene.get("/leave/clients").await, all, "nothing was done");

    let (code, text) = ours.one(&["teardown", "--clients", "--yes"], &[]);
    assert_eq!(code, Some(0), "{text}");
    let ids = |clients: &serde_json::Value| -> Vec<String> {
        clients.as_array().unwrap().iter().map(|one| one["clientId"].as_str().unwrap().to_owned()).collect()
    };
    let mut left = ids(&all);
    left.retain(|id| id != "made");
    assert_eq!(ids(&scene.get("/leave/clients").await), left);
    assert_eq!(ours.read("made/secret"), None, "its copy went too");
    let (code, text) = ours.one(&["teardown", "--clients", "--yes"], &[]);
    assert!(code == Some(0) && !text.contains("client/made"), "{text}");
}
