//! Vault comes up for real, over TLS that is verified, and again after it was killed, with the same data.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use sandbox::{Options, Sandbox, Supervisor};

const READY: Duration = Duration::from_mins(2);

#[tokio::test]
async fn the_vault_opens_and_opens_again_after_a_kill() {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    let sandbox = Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts");
    let vault = sandbox.vault().await.expect("made");
    vault.ready(READY).await.expect("ready");
    let token = vault.root_token().expect("written");
    assert!(vault.authority().is_file() && vault.url().starts_with("https://127.0.0.1:"));
    vault.kill().await.expect("killed");
    vault.start().await.expect("started");
    vault.ready(READY).await.expect("ready again");
    assert_eq!(vault.root_token().expect("still there"), token, "it is the same vault");
    vault.stop().await.expect("stopped");
    sandbox.stop().await.expect("ends");
}
