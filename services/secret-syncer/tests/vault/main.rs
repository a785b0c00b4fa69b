//! A real Vault, over TLS: what is read from it, how it is logged in to, and what happens when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod faults;
mod kubernetes;
mod logins;
mod reading;
mod support;

/// The process that supervises the tests' servers: this very program.
#[test]
#[ignore = "started by the sandbox, not by the test runner"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}
