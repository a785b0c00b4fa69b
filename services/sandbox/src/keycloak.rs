//! A real Keycloak, built once for its kind of database and started from that build.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::api::Api;
use crate::tools::{self, Tool};
use crate::{Error, Handle, ProcessSpec, Sandbox, cache, ports};

const VERSION: &str = "26.7.3";
/// How long the build after the download may take.
const BUILD: Duration = Duration::from_mins(5);
/// How long an orderly stop may take before it becomes a kill.
const STOP: Duration = Duration::from_secs(15);

/// A database for Keycloak on a PostgreSQL server.
#[derive(Clone)]
pub struct KeycloakDatabase {
    /// `jdbc:postgresql://host:port/name`.
    pub url: String,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: String,
}

/// What kind of Keycloak.
#[derive(Clone, Default)]
pub struct KeycloakOptions {
    /// Its database; without one it keeps its data in files.
    pub db: Option<KeycloakDatabase>,
    /// The first administrator; `admin` when not given.
    pub admin_user: Option<String>,
    /// The administrator's password; a random one when not given.
    pub admin_password: Option<String>,
    /// Features to switch on that are off by default, by Keycloak's names; each choice is built and cached by itself.
    pub features: Vec<String>,
    /// Realms to import, each a file as Keycloak exports it.
    pub realms: Vec<PathBuf>,
    /// The address of this machine where it listens, such as [`crate::Node::host`] for pods; loopback when not given.
    pub host: Option<Ipv4Addr>,
    /// The clients' port; a free one when not given.
    pub http_port: Option<u16>,
    /// The port of health checks; a free one when not given.
    pub management_port: Option<u16>,
}

/// A Keycloak of a sandbox.
pub struct Keycloak {
    handle: Handle,
    host: Ipv4Addr,
    http_port: u16,
    management_port: u16,
    admin: (String, String),
}

impl Sandbox {
    /// Starts a Keycloak; [`Keycloak::ready`] waits until it has made its tables and imported its realms.
    pub async fn keycloak(&self, options: KeycloakOptions) -> Result<Keycloak, Error> {
        tools::ensure(self, &[Tool::Java]).await?;
        let db = if options.db.is_some() { "postgres" } else { "dev-file" };
        let built = built(self, db, &options.features).await?;
        let host = options.host.unwrap_or(Ipv4Addr::LOCALHOST);
        let http_port = ports::or_free(options.http_port)?;
        let management_port = ports::or_free(options.management_port)?;
        let admin = (
            options.admin_user.unwrap_or_else(|| "admin".to_owned()),
            options.admin_password.unwrap_or_else(|| Uuid::new_v4().simple().to_string()),
        );
        let home = self.new_dir("keycloak")?;
        furnish(&home, &built, &options.realms)?;
        let name = home.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut spec = java(&name, &home)?
            .args(["start", "--optimized", "--import-realm", "--cache=local", "--http-enabled=true"])
            .args(["--hostname-strict=false", "--log-level=info,io.smallrye.health:error"])
            .args([format!("--http-host={host}")])
            .args([format!("--http-port={http_port}"), format!("--http-management-port={management_port}")])
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", &admin.0)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", &admin.1);
        if let Some(db) = options.db {
            spec = spec
                .env("KC_DB_URL", db.url)
                .env("KC_DB_USERNAME", db.user)
                .env("KC_DB_PASSWORD", db.password);
        }
        Ok(Keycloak { handle: self.spawn(spec).await?, host, http_port, management_port, admin })
    }
}

impl Keycloak {
    /// Where clients find it, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.http_port)
    }

    /// Where `/health/ready` is, without a slash at the end.
    pub fn management_url(&self) -> String {
        format!("http://{}:{}", self.host, self.management_port)
    }

    /// The first administrator.
    pub fn admin_user(&self) -> &str {
        &self.admin.0
    }

    /// The administrator's password.
    pub fn admin_password(&self) -> &str {
        &self.admin.1
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        self.handle.log()
    }

    /// Its process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until its health check says that it is ready.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let health = Api::plain((self.host, self.management_port).into());
        self.handle.until("ready", within, async || health.succeeds("/health/ready").await).await
    }

    /// An orderly stop.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop(STOP).await
    }

    /// `kill -9`.
    pub async fn kill(&self) -> Result<(), Error> {
        self.handle.kill().await
    }

    /// Starts it again after `stop` or `kill`: same ports, same data.
    pub async fn start(&self) -> Result<(), Error> {
        self.handle.start().await
    }
}

/// The distribution after `kc.sh build` for one kind of database and some features. Building takes longer than starting and would otherwise
/// happen at each start.
async fn built(sandbox: &Sandbox, db: &str, features: &[String]) -> Result<PathBuf, Error> {
    let name = [&[format!("keycloak-{VERSION}-{db}")], features].concat().join("-");
    let entry = cache::entry(sandbox, &name, async |dir| {
        let properties = [("keycloak.version", VERSION)];
        cache::maven(sandbox, "keycloak", &properties, "unpack-dependencies", dir).await?;
        sandbox.say("building Keycloak for quick starts");
        let logs = sandbox.new_dir("keycloak-build")?;
        let script = distribution(dir).join("bin/kc.sh");
        let mut build = ProcessSpec::new("kc.sh build", "sh", logs.join("build.log"))
            .args([script.display().to_string(), "build".to_owned(), format!("--db={db}")])
            .args(["--health-enabled=true"]);
        if !features.is_empty() {
            build = build.args([format!("--features={}", features.join(","))]);
        }
        sandbox.run(build, BUILD).await
    })
    .await?;
    Ok(distribution(&entry))
}

fn distribution(dir: &Path) -> PathBuf {
    dir.join(format!("keycloak-{VERSION}"))
}

/// A home of its own for one server: links to the build, which starting only reads, and a data folder to write to.
fn furnish(home: &Path, built: &Path, realms: &[PathBuf]) -> Result<(), Error> {
    let entries = fs::read_dir(built).map_err(|source| Error::io("read", built, source))?;
    for entry in entries.flatten().filter(|entry| entry.file_name() != "data") {
        let link = home.join(entry.file_name());
        symlink(entry.path(), &link).map_err(|source| Error::io("create", &link, source))?;
    }
    let import = home.join("data/import");
    fs::create_dir_all(&import).map_err(|source| Error::io("create", &import, source))?;
    for (number, realm) in realms.iter().enumerate() {
        fs::copy(realm, import.join(format!("{number}.json")))
            .map_err(|source| Error::io("copy", realm, source))?;
    }
    Ok(())
}

/// What `kc.sh` would execute; the script itself would follow the links and take the build for its home.
fn java(name: &str, home: &Path) -> Result<ProcessSpec, Error> {
    let runtime = tools::java_or_missing()?;
    Ok(ProcessSpec::new(name, runtime, home.join("server.log"))
        .dir(home)
        .args(["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"])
        .args(["--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED"])
        .args(["--add-opens=java.base/java.util.concurrent=ALL-UNNAMED"])
        .args(["--add-opens=java.base/java.security=ALL-UNNAMED", "-Dpicocli.disable.closures=true"])
        .args(["-Djava.util.logging.manager=org.jboss.logmanager.LogManager"])
        .args([format!("-Dkc.home.dir={}", home.display())])
        .args([format!("-Djboss.server.config.dir={}", home.join("conf").display())])
        .args(["-cp".to_owned(), home.join("lib/quarkus-run.jar").display().to_string()])
        .args(["io.quarkus.bootstrap.runner.QuarkusEntryPoint"]))
}
