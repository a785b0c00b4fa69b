//! The programs that servers and downloads need (a Java runtime, Maven, xz, Go, containerd): found, installed, or asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::{Error, ProcessSpec, Sandbox};

/// Kafka 4 and Keycloak 26 run on nothing older.
const JAVA: u32 = 17;
/// The first Go that fetches newer versions of itself, by its minor number.
const GO: u32 = 21;
/// Where Debian's package and all others put the network plugins.
const NETWORK_PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// How long `java -version` may take on a machine that is busy.
const VERSION: Duration = Duration::from_secs(30);
/// How long `apt-get` may take.
const APT: Duration = Duration::from_mins(10);

/// A program that something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A Java runtime, 17 or newer.
    Java,
    /// `mvn`.
    Maven,
    /// `xz`, with which `tar` unpacks PostgreSQL.
    Xz,
    /// `go`, 1.21 or newer: it fetches the version that a module asks for by itself.
    Go,
    /// `containerd` and `ctr`.
    Containerd,
    /// `runc`.
    Runc,
    /// `iptables`, with which kube-proxy works.
    Iptables,
    /// The plugins of the container network interface.
    Cni,
    /// `psql`, which the PostgreSQL of a sandbox comes without.
    Psql,
    /// `pgbouncer`, which Debian puts where only root looks.
    PgBouncer,
}

/// The kind of machine, as far as installing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Whether this process may install.
    pub root: bool,
    /// Whether it is a Debian or Ubuntu with `apt-get`.
    pub apt: bool,
    /// Debian 12 has Java 17 and not 21; all newer ones, and Ubuntu, have 21.
    pub bookworm: bool,
}

/// What to do about what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is missing.
    Go,
    /// These packages are to be installed with `apt-get`.
    Install(Vec<&'static str>),
    /// A person has to install these packages.
    Ask(Vec<&'static str>),
}

/// Decides; looks at nothing but its arguments.
pub fn decide(missing: &[Tool], host: Host) -> Decision {
    let package = |tool: &Tool| match tool {
        Tool::Java if host.bookworm => "openjdk-17-jre-headless",
        Tool::Java => "openjdk-21-jre-headless",
        Tool::Maven => "maven",
        Tool::Xz => "xz-utils",
        Tool::Go if host.bookworm => "-t bookworm-backports golang-go",
        Tool::Go => "golang-go",
        Tool::Containerd => "containerd",
        Tool::Runc => "runc",
        Tool::Iptables => "iptables",
        Tool::Cni => "containernetworking-plugins",
        Tool::Psql => "postgresql-client",
        Tool::PgBouncer => "pgbouncer",
    };
    let packages: Vec<&'static str> = missing.iter().map(package).collect();
    // Debian 12 has a Go of its own, which is too old; whether its backports are to be used is for a person to say.
    let may = host.root && host.apt && !(host.bookworm && missing.contains(&Tool::Go));
    match (packages.is_empty(), may) {
        (true, _) => Decision::Go,
        (false, true) => Decision::Install(packages),
        (false, false) => Decision::Ask(packages),
    }
}

/// Makes sure that these are there: installs what it may, else says what a person has to install.
pub(crate) async fn ensure(sandbox: &Sandbox, needed: &[Tool]) -> Result<(), Error> {
    let missing = missing(needed).await;
    match decide(&missing, host()) {
        Decision::Go => return Ok(()),
        Decision::Ask(packages) => return Err(ask(&missing, &packages)),
        Decision::Install(packages) => install(sandbox, &packages).await?,
    }
    let still = self::missing(needed).await;
    match decide(&still, Host { root: false, ..host() }) {
        Decision::Ask(packages) => Err(ask(&still, &packages)),
        _ => Ok(()),
    }
}

/// The Java to run: the one `JAVA_HOME` names, else the first in `PATH`.
fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| java.is_file()).or_else(|| find("java"))
}

/// [`java`], which [`ensure`] has already seen.
pub(crate) fn java_or_missing() -> Result<PathBuf, Error> {
    java().ok_or_else(|| match decide(&[Tool::Java], Host { root: false, ..host() }) {
        Decision::Ask(packages) | Decision::Install(packages) => ask(&[Tool::Java], &packages),
        Decision::Go => Error::Ended,
    })
}

/// `pgbouncer`: in `PATH`, or where Debian's package puts it.
pub(crate) fn pgbouncer() -> Option<PathBuf> {
    let packaged = Path::new("/usr/sbin/pgbouncer");
    find("pgbouncer").or_else(|| packaged.is_file().then(|| packaged.to_owned()))
}

/// The folder of the network plugins.
pub(crate) fn network_plugins() -> Result<PathBuf, Error> {
    let folder = NETWORK_PLUGINS.iter().map(Path::new).find(|folder| folder.join("ptp").is_file());
    folder.map(Path::to_owned).ok_or_else(|| ask(&[Tool::Cni], &["containernetworking-plugins"]))
}

fn ask(missing: &[Tool], packages: &[&str]) -> Error {
    let missing: Vec<String> = missing.iter().map(|tool| format!("{tool:?}").to_lowercase()).collect();
    Error::MissingTools { missing: missing.join(", "), packages: packages.join(" ") }
}

async fn install(sandbox: &Sandbox, packages: &[&str]) -> Result<(), Error> {
    sandbox.say(&format!("installing {} with apt-get", packages.join(" ")));
    let log = sandbox.dir().join("apt-get.log");
    let apt = |args: &[&str]| {
        ProcessSpec::new("apt-get", "apt-get", &log)
            .args(args.iter().copied())
            .env("DEBIAN_FRONTEND", "noninteractive")
            // As Debian's packages read it: none of their servers is started.
            .env("RUNLEVEL", "1")
    };
    sandbox.run(apt(&["update"]), APT).await?;
    let options = ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"];
    sandbox.run(apt(&[options.as_slice(), packages].concat()), APT).await
}

async fn missing(needed: &[Tool]) -> Vec<Tool> {
    let mut missing = Vec::new();
    for tool in needed {
        let there = match tool {
            Tool::Java => java_version().await.is_some_and(|version| version >= JAVA),
            Tool::Maven => find("mvn").is_some(),
            Tool::Xz => find("xz").is_some() && find("tar").is_some(),
            Tool::Go => go_version().await.is_some_and(|version| version >= GO),
            Tool::Containerd => find("containerd").is_some() && find("ctr").is_some(),
            Tool::Runc => find("runc").is_some(),
            Tool::Iptables => find("iptables-save").is_some(),
            Tool::Cni => network_plugins().is_ok(),
            Tool::Psql => find("psql").is_some(),
            Tool::PgBouncer => pgbouncer().is_some(),
        };
        if !there {
            missing.push(*tool);
        }
    }
    missing
}

async fn java_version() -> Option<u32> {
    let mut command = Command::new(java()?);
    command.arg("-version").kill_on_drop(true);
    let output = tokio::time::timeout(VERSION, command.output()).await.ok()?.ok()?;
    major(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15` is 17, `java version "1.8.0_402"` is 1: too old either way.
fn major(banner: &str) -> Option<u32> {
    banner.split('"').nth(1)?.split(['.', '-', '+', '_']).next()?.parse().ok()
}

async fn go_version() -> Option<u32> {
    let mut command = Command::new(find("go")?);
    command.args(["env", "GOVERSION"]).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION, command.output()).await.ok()?.ok()?;
    go_minor(&String::from_utf8_lossy(&output.stdout))
}

/// `go1.26.8` is 26.
fn go_minor(version: &str) -> Option<u32> {
    version.trim().strip_prefix("go1.")?.split('.').next()?.parse().ok()
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn host() -> Host {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is = |line: &str| release.lines().any(|other| other.replace('"', "") == line);
    Host {
        root: nix::unistd::geteuid().is_root(),
        apt: find("apt-get").is_some() && (is("ID=debian") || is("ID=ubuntu") || is("ID_LIKE=debian")),
        bookworm: is("ID=debian") && is("VERSION_ID=12"),
    }
}

#[cfg(test)]
mod tests {
    use super::Tool::{Cni, Containerd, Go, Iptables, Java, Maven, Runc, Xz};
    use super::*;

    const ROOT: Host = Host { root: true, apt: true, bookworm: true };

    #[test]
    fn what_is_missing_is_installed_by_root_on_debian_and_asked_for_elsewhere() {
        let java_and_maven = vec!["openjdk-17-jre-headless", "maven"];
        let for_nodes = vec!["containerd", "runc", "iptables", "containernetworking-plugins"];
        let newer = vec!["openjdk-21-jre-headless"];
        for (missing, host, expected) in [
            (&[][..], ROOT, Decision::Go),
            (&[], Host { root: false, ..ROOT }, Decision::Go),
            (&[Java, Maven], ROOT, Decision::Install(java_and_maven.clone())),
            (&[Java], Host { bookworm: false, ..ROOT }, Decision::Install(newer)),
            (&[Xz], ROOT, Decision::Install(vec!["xz-utils"])),
            (&[Go], ROOT, Decision::Ask(vec!["-t bookworm-backports golang-go"])),
            (&[Go], Host { bookworm: false, ..ROOT }, Decision::Install(vec!["golang-go"])),
            (&[Containerd, Runc, Iptables, Cni], ROOT, Decision::Install(for_nodes)),
            (&[Java, Maven], Host { root: false, ..ROOT }, Decision::Ask(java_and_maven)),
            (&[Maven], Host { apt: false, ..ROOT }, Decision::Ask(vec!["maven"])),
            (&[Maven], Host { root: false, apt: false, ..ROOT }, Decision::Ask(vec!["maven"])),
        ] {
            assert_eq!(decide(missing, host), expected, "{missing:?} on {host:?}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_banner() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK ..."), Some(17));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("java version \"1.8.0_402\""), Some(1));
        assert_eq!(major("bash: java: command not found"), None);
        assert_eq!(go_minor("go1.26.8\n"), Some(26));
        assert_eq!(go_minor("devel"), None);
    }

    #[test]
    fn the_error_names_the_packages() {
        let error = ask(&[Java, Maven], &["openjdk-17-jre-headless", "maven"]).to_string();
        assert!(
            error.contains("java, maven missing") && error.contains("openjdk-17-jre-headless maven"),
            "{error}"
        );
    }
}
