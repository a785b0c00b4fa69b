//! A real Vault, over TLS: what is read from it, how it is logged in to, and what happens when it fails.

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
