//! Owns a sandbox until it is killed: the victim of this crate's tests. Its first argument is the supervisor to execute, its
//! second what to run besides processes: nothing for PostgreSQL, `node` for a Kubernetes.

use std::time::Duration;

use sandbox::image::Image;
use sandbox::{Error, Options, PostgresOptions, ProcessSpec, Sandbox, Supervisor};

/// Asks for an end in vain, and has a child in a session of its own.
const STUBBORN: &str = "trap '' TERM INT; setsid sleep 600 & while true; do sleep 600; done";

/// How large the server's disk is.
const DISK: u64 = 128 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let program = std::env::args().nth(1).unwrap_or_default();
    let sandbox = Sandbox::start(Options::new(Supervisor::command(program, [] as [&str; 0]))).await?;
    if std::env::args().nth(2).as_deref() == Some("node") {
        // Said before, for a test that kills in the middle.
        println!("{}", sandbox.dir().display());
        let node = sandbox.node().await?;
        node.ready(Duration::from_mins(3)).await?;
        let program = std::env::current_exe().unwrap_or_default();
        node.load(&[Image::bare("localhost/sandbox-owner:1", &program, "/sandbox-owner")?]).await?;
        println!("{}", node.host()?);
        return std::future::pending().await;
    }
    // Root's has a disk of its own, which has to go too.
    let disk = nix::unistd::geteuid().is_root().then_some(DISK);
    let postgres = sandbox.postgres(PostgresOptions { disk, ..PostgresOptions::default() }).await?;
    let log = sandbox.dir().join("stubborn.log");
    let _stubborn = sandbox.spawn(ProcessSpec::new("stubborn", "sh", log).args(["-c", STUBBORN])).await?;
    postgres.ready(Duration::from_mins(2)).await?;
    println!("{}", sandbox.dir().display());
    std::future::pending().await
}
