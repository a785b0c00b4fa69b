//! The API of Kubernetes comes up for real, and again after it was killed.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use sandbox::{Options, Sandbox, Supervisor};

const READY: Duration = Duration::from_mins(2);

#[tokio::test]
async fn the_api_server_serves_and_serves_again_after_a_kill() {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    let sandbox = Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts");
    let kubernetes = sandbox.kubernetes().await.expect("made");
    kubernetes.ready(READY).await.expect("ready");
    let (url, admin) = (kubernetes.url(), kubernetes.admin().expect("written"));
    assert!(std::fs::read_to_string(admin).expect("readable").contains(&url));
    kubernetes.kill().await.expect("killed");
    kubernetes.start().await.expect("started");
    kubernetes.ready(READY).await.expect("ready again");
    sandbox.stop().await.expect("ends");
}
