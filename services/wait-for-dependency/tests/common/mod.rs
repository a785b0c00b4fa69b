//! A hub in this process, and waiters as processes.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use chassis::Context;
use chassis::hub::{Announcement, HubClient, HubUpdate};
use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::wire::{ComponentState, Fragment};
use lifecycle::{Component, Evidence, Moment, Phase};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use wait_for_dependency::hub::{ServeArgs, Serving, start};

pub(crate) const UID: &str = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct Hub {
    pub(crate) serving: Serving,
    shutdown: Shutdown,
}

impl Hub {
    /// A hub on this address; port 0 takes a free one.
    pub(crate) async fn start(listen: &str, polling: bool) -> Hub {
        let env = [
            ("ROLLCALL_LISTEN", listen),
            ("ROLLCALL_HEALTH_LISTEN", "127.0.0.1:0"),
            ("ROLLCALL_METRICS_LISTEN", "127.0.0.1:0"),
            ("ROLLCALL_POLLING", if polling { "on" } else { "off" }),
            ("ROLLCALL_RESYNC", "300ms"),
        ];
        let settings = Settings::load(env.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        let shutdown = Shutdown::manual();
        let context = Context::new("wait-for-dependency", settings, shutdown.clone());
        let args = ServeArgs {
            documents: Vec::new(),
            environment: Some("dev".to_owned()),
            uid: Some(UID.parse().unwrap()),
            namespace: None,
            release: None,
        };
        Hub { serving: start(args, &context, None, None).await.unwrap(), shutdown }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.serving.servers.grpc)
    }

    pub(crate) fn client(&self, source: &str) -> HubClient {
        HubClient::new(&self.uri(), source).unwrap()
    }

    pub(crate) async fn stop(self) -> String {
        let address = self.serving.servers.grpc.to_string();
        self.shutdown.trigger();
        self.serving.stopped().await;
        address
    }
}

pub(crate) fn fragment(name: &str, text: &str) -> Fragment {
    (&chassis::documents::parse(name, &yaml(name, text)).unwrap()).try_into().unwrap()
}

pub(crate) fn yaml(name: &str, text: &str) -> String {
    format!(
        "rollcall: v1\nenvironment: {{name: dev, uid: {UID}}}\nfragment: {{name: {name}, namespace: dev}}\n{text}"
    )
}

pub(crate) fn module(address: &str) -> String {
    format!("{{ready: {{tcp: {{address: '{address}'}}}}}}")
}

pub(crate) fn component(text: &str) -> Component {
    text.parse().unwrap()
}

pub(crate) async fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Hears updates until one is as wanted.
pub(crate) async fn until(
    updates: &mut Receiver<HubUpdate>,
    mut wanted: impl FnMut(&HubUpdate) -> bool,
) -> HubUpdate {
    let heard = async {
        loop {
            let update = updates.recv().await.expect("the watch ended");
            if wanted(&update) {
                return update;
            }
        }
    };
    timeout(LONG, heard).await.expect("not heard in time")
}

pub(crate) async fn until_phase(
    updates: &mut Receiver<HubUpdate>,
    name: &str,
    phase: Phase,
) -> ComponentState {
    let name = component(name);
    match until(
        updates,
        |u| matches!(u, HubUpdate::State(s) if s.component == name && s.phase == Some(phase)),
    )
    .await
    {
        HubUpdate::State(state) => state,
        _ => unreachable!(),
    }
}

pub(crate) fn report(name: &str, phase: Phase, unmet: &[(&str, &str)]) -> Announcement {
    let unmet = unmet.iter().map(|(name, error)| {
        (component(name), Evidence { error: (*error).to_owned(), ..Evidence::default() })
    });
    Announcement {
        component: component(name),
        phase,
        reason: String::new(),
        unmet: unmet.collect(),
        attempts: 0,
        since: Moment(1),
    }
}

pub(crate) struct Waiter {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    heard: String,
    _documents: tempfile::TempDir,
}

impl Waiter {
    /// A waiter of this module, as a process.
    pub(crate) fn start(
        module: &str,
        documents: &[(&str, &str)],
        env: &[(&str, &str)],
        more: &[&str],
    ) -> Waiter {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in documents {
            std::fs::write(folder.path().join(format!("{name}.yaml")), yaml(name, text)).unwrap();
        }
        let env: BTreeMap<&str, &str> =
            env.iter().copied().chain([("PATH", "/usr/bin:/bin"), ("ROLLCALL_LOG_FORMAT", "text")]).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wait-for-dependency"))
            .args(["wait", "--module", module])
            .arg(folder.path())
            .args(more)
            .env_clear()
            .envs(env)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Waiter { child, said, heard: String::new(), _documents: folder }
    }

    /// Reads until it says `text`.
    pub(crate) async fn says(&mut self, text: &str) {
        let heard = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                self.heard.push_str(&line);
                self.heard.push('\n');
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = timeout(LONG, heard).await.unwrap_or(false);
        assert!(found, "it did not say `{text}`:\n{}", self.heard);
    }

    /// Its exit code and everything it said.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let rest = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                self.heard.push_str(&line);
                self.heard.push('\n');
            }
            self.child.wait().await.unwrap()
        };
        let status = timeout(LONG, rest).await.expect("it did not end");
        (status.code(), self.heard)
    }
}
