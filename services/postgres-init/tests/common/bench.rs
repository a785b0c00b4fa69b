//! An environment's documents and files in a folder, and postgres-init as it is called.

use std::path::Path;
use std::time::Duration;

use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::{Context, Failure};
use clap::Parser;
use serde_json::{Value, json};

use super::{Db, World};

pub struct Bench {
    pub world: World,
    folder: tempfile::TempDir,
}

impl Bench {
    pub async fn start(version: u16) -> Bench {
        Bench::of(World::start(version).await)
    }

    pub fn of(world: World) -> Bench {
        Bench { world, folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the sources.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(path, text).expect("it is written");
    }

    /// A folder of the sources, as documents name it.
    pub fn source(&self, folder: &str) -> Value {
        json!([{"directory": self.path().join(folder)}])
    }

    /// Writes the document with these sections more.
    pub fn declare(&self, databases: &[Db], more: &[(&str, Value)]) {
        let mut document = self.world.document("dev", databases);
        for (section, value) in more {
            document[*section] = value.clone();
        }
        std::fs::write(self.path().join("dev.json"), document.to_string()).expect("it is written");
    }

    /// From now on the document leads to this port instead of the server's.
    pub fn through(&self, port: u16) {
        let path = self.path().join("dev.json");
        let text = std::fs::read_to_string(&path).expect("a document");
        let mut document: Value = serde_json::from_str(&text).expect("JSON");
        document["postgres"]["main"]["port"] = port.into();
        std::fs::write(path, document.to_string()).expect("it is written");
    }

    pub fn context(&self, shutdown: Shutdown) -> Context {
        let root = self.world.secrets.path().display().to_string();
        let env = [
            ("ROLLCALL_SECRETS_ROOT", root.as_str()),
            ("ROLLCALL_DEADLINE", "60s"),
            ("ROLLCALL_RESYNC", "200ms"),
            ("ROLLCALL_LISTEN", "127.0.0.1:0"),
            ("ROLLCALL_HEALTH_LISTEN", "127.0.0.1:0"),
            ("ROLLCALL_METRICS_LISTEN", "127.0.0.1:0"),
        ];
        let settings = Settings::load(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Context::new("postgres-init", settings.expect("settings"), shutdown)
    }

    /// Runs a command with the document as its last argument.
    pub async fn run(&self, args: &[&str]) -> Result<(), Failure> {
        self.until(args, Shutdown::manual()).await
    }

    pub async fn until(&self, args: &[&str], shutdown: Shutdown) -> Result<(), Failure> {
        let document = self.path().join("dev.json");
        let args = [&["postgres-init"], args, &[document.to_str().expect("a path")]].concat();
        postgres_init::run(postgres_init::Args::parse_from(args), self.context(shutdown)).await
    }

    /// Runs step `seed`, with these arguments and this command of a shell.
    pub async fn step(&self, args: &[&str], script: &str) -> Result<(), Failure> {
        self.step_named("seed", args, script).await
    }

    /// The same with another step.
    pub async fn step_named(&self, name: &str, args: &[&str], script: &str) -> Result<(), Failure> {
        let document = self.path().join("dev.json");
        let document = document.to_str().expect("a path");
        let begin = ["postgres-init", "step", name, "--documents", document];
        let command: &[&str] = if script.is_empty() { &[] } else { &["--", "sh", "-c", script] };
        let args = [&begin[..], args, command].concat();
        postgres_init::run(postgres_init::Args::parse_from(args), self.context(Shutdown::manual())).await
    }

    /// The environment that the document declares.
    pub fn environment(&self) -> lifecycle::document::Environment {
        let text = std::fs::read_to_string(self.path().join("dev.json")).expect("a document");
        super::environment(&serde_json::from_str(&text).expect("JSON"))
    }

    /// How the ledger says things stand, run by run.
    pub async fn ledger(&self) -> String {
        let runs = "SELECT string_agg(component || ' ' || state, ', ' ORDER BY run) FROM rollcall.ledger";
        self.world.ask("rollcall", runs).await
    }
}

/// Asks until it is so; a test that waits in vain ends by its own deadline.
pub async fn until(so: impl AsyncFn() -> bool) {
    let asked = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(3), asked).await.expect("it comes to be so");
}
