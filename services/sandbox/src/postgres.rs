//! A real PostgreSQL server: scram-sha-256 for everybody, TCP on the loopback interface, nothing durable.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::User;
use uuid::Uuid;

use crate::disk::Disk;
use crate::protocol::Place;
use crate::tools::{self, Tool};
use crate::{Error, Handle, ProcessSpec, Sandbox, cache, ports};

const SUPERUSER: &str = "postgres";
/// Where it always listens.
const LOOPBACK: &str = "127.0.0.1";
/// A line of `pg_hba.conf`: whoever reaches it from elsewhere needs a password too.
const OTHERS: &str = "host all all all scram-sha-256\n";
/// How long `initdb` may take.
const INITDB: Duration = Duration::from_mins(2);
/// How long a script may take.
const PSQL: Duration = Duration::from_mins(5);
/// How long unpacking may take.
const UNPACK: Duration = Duration::from_mins(2);
/// How long a fast shutdown may take before it becomes a kill.
const STOP: Duration = Duration::from_secs(10);

/// What kind of PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The major version, 14 to 18.
    pub version: u16,
    /// The port; a free one when not given.
    pub port: Option<u16>,
    /// Another address of this machine where it listens too, on the same port and for everybody who reaches it, such as
    /// [`crate::Node::host`] for pods.
    pub also: Option<Ipv4Addr>,
    /// Lines of `postgresql.conf`, such as `("log_statement", "all")`.
    pub settings: Vec<(String, String)>,
    /// The size in bytes of a disk of its own, which can be filled; only root can have one made.
    pub disk: Option<u64>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { version: 18, port: None, also: None, settings: Vec::new(), disk: None }
    }
}

/// A PostgreSQL server of a sandbox.
pub struct Postgres {
    handle: Handle,
    port: u16,
    password: String,
    data: PathBuf,
    disk: Option<Disk>,
}

impl Sandbox {
    /// Runs `psql` as a server's superuser, started in a folder, with these arguments after those that say where the server is.
    pub async fn psql(&self, server: &Postgres, folder: &Path, args: &[&str]) -> Result<(), Error> {
        tools::ensure(self, &[Tool::Psql]).await?;
        let port = server.port().to_string();
        let dir = self.new_dir("psql")?;
        let spec = ProcessSpec::new("psql", "psql", dir.join("psql.log"))
            .dir(folder)
            .args(["-X", "-h", server.host(), "-p", &port, "-U", server.superuser()])
            .args(args.iter().copied())
            .env("PGPASSWORD", server.password());
        self.run(spec, PSQL).await
    }

    /// Makes a new cluster and starts its server; [`Postgres::ready`] waits until it answers.
    pub async fn postgres(&self, options: PostgresOptions) -> Result<Postgres, Error> {
        let programs = distribution(self, options.version).await?.join("bin");
        let port = ports::or_free(options.port)?;
        let dir = self.new_dir("postgres")?;
        let password_file = dir.join("password");
        let password = Uuid::new_v4().simple().to_string();
        fs::write(&password_file, &password).map_err(|source| Error::io("write", &password_file, source))?;
        let user = server_user()?;
        own(&dir, &password_file, user)?;
        if user.is_some() {
            reachable(&dir)?;
            reachable(&programs)?;
        }
        let disk = match options.disk {
            Some(bytes) => Some(Disk::mount(self, dir.join("disk"), bytes, user).await?),
            None => None,
        };
        let place = disk.as_ref().map_or(Place::Here, Disk::place);
        let server = |name: &str, program: &str| {
            ProcessSpec::new(name, programs.join(program), dir.join(format!("{program}.log")))
                .dir(&dir)
                .user(user)
                .place(place)
        };
        let its_own = disk.as_ref().map_or(dir.as_path(), Disk::folder).join("data");
        let initdb = server("initdb", "initdb")
            .args([
                "-U",
                SUPERUSER,
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .args([its_own.display().to_string(), format!("--pwfile={}", password_file.display())]);
        // Also while it is made: see `configure`. Older versions cannot be told.
        let initdb = if options.version >= 16 {
            initdb.args(["-c", "dynamic_shared_memory_type=mmap"])
        } else {
            initdb
        };
        self.run(initdb, INITDB).await?;
        fs::remove_file(&password_file).map_err(|source| Error::io("remove", &password_file, source))?;
        let data = disk.as_ref().map_or_else(|| Ok(its_own.clone()), |disk| disk.seen(&its_own))?;
        let addresses = match options.also {
            None => LOOPBACK.to_owned(),
            Some(other) => {
                append(&data.join("pg_hba.conf"), OTHERS)?;
                format!("{LOOPBACK},{other}")
            }
        };
        configure(&data.join("postgresql.conf"), &addresses, port, &options.settings)?;
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let spec = server(&name, "postgres").args(["-D".to_owned(), its_own.display().to_string()]);
        // SIGINT is a fast shutdown; SIGTERM would wait for every client to leave.
        let handle = self.spawn(spec.stop_signal(Signal::SIGINT)).await?;
        Ok(Postgres { handle, port, password, data, disk })
    }
}

impl Postgres {
    /// Where it listens.
    pub fn host(&self) -> &'static str {
        LOOPBACK
    }

    /// Its port, the same after each start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of its superuser.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        self.handle.log()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until it accepts connections, after recovery too.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        self.handle.until("ready", within, async || self.accepts().await).await
    }

    /// A fast shutdown: clients are disconnected, data is written.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop(STOP).await
    }

    /// `kill -9` for the server and its backends.
    pub async fn kill(&self) -> Result<(), Error> {
        self.handle.kill().await
    }

    /// Starts it again after `stop` or `kill`: same port, same data.
    pub async fn start(&self) -> Result<(), Error> {
        self.handle.start().await
    }

    /// Fills its disk up, but for so many bytes.
    pub fn fill_disk(&self, but: usize) -> Result<(), Error> {
        self.disk()?.fill(but)
    }

    /// Gives back what [`Postgres::fill_disk`] took.
    pub fn free_disk(&self) -> Result<(), Error> {
        self.disk()?.free()
    }

    fn disk(&self) -> Result<&Disk, Error> {
        self.disk.as_ref().ok_or_else(|| Error::Refused {
            name: "filling a disk".into(),
            reason: "the server has none of its own: give it a size".into(),
        })
    }

    /// What `pg_ctl -w` looks at: the server itself writes its status into line 8 of `postmaster.pid`, under its pid.
    async fn accepts(&self) -> bool {
        let status = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines().map(str::trim);
        let own = lines.next().and_then(|pid| pid.parse().ok()) == self.handle.pid();
        own && lines.nth(6) == Some("ready")
            && tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok()
    }
}

/// The newest release of a major version that is published for this machine.
fn release(version: u16, machine: &str) -> Result<(&'static str, &'static str), Error> {
    match (version, machine) {
        (14, "x86_64") => Ok(("amd64", "14.24.0")),
        (14, "aarch64") => Ok(("arm64v8", "14.23.0")),
        (15, "x86_64") => Ok(("amd64", "15.19.0")),
        (15, "aarch64") => Ok(("arm64v8", "15.19.0")),
        (16, "x86_64") => Ok(("amd64", "16.15.0")),
        (16, "aarch64") => Ok(("arm64v8", "16.15.0")),
        (17, "x86_64") => Ok(("amd64", "17.11.0")),
        (17, "aarch64") => Ok(("arm64v8", "17.11.0")),
        (18, "x86_64") => Ok(("amd64", "18.6.0")),
        (18, "aarch64") => Ok(("arm64v8", "18.4.0")),
        _ => Err(Error::Unavailable {
            what: format!("PostgreSQL {version} for {machine}"),
            possible: "14 to 18 for x86_64 and aarch64".into(),
        }),
    }
}

async fn distribution(sandbox: &Sandbox, version: u16) -> Result<PathBuf, Error> {
    let (machine, release) = release(version, std::env::consts::ARCH)?;
    cache::entry(sandbox, &format!("postgres-{release}"), async |dir| {
        tools::ensure(sandbox, &[Tool::Xz]).await?;
        let jar = sandbox.new_dir("jar")?;
        let properties = [("postgres.machine", machine), ("postgres.version", release)];
        cache::maven(sandbox, "postgres", &properties, "unpack-dependencies", &jar).await?;
        let archive =
            jar.join(format!("postgres-linux-{}.txz", if machine == "amd64" { "x86_64" } else { "arm_64" }));
        let tar = ProcessSpec::new("tar", "tar", jar.join("tar.log"))
            .args(["--no-same-owner".to_owned(), "-xJf".to_owned(), archive.display().to_string()])
            .args(["-C".to_owned(), dir.display().to_string()]);
        sandbox.run(tar, UNPACK).await
    })
    .await
}

/// PostgreSQL refuses to run as root, and `initdb` wants a user that has a name.
pub(crate) fn server_user() -> Result<Option<(u32, u32)>, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name("nobody") {
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        Ok(None) => Err(Error::Refused {
            name: "PostgreSQL".into(),
            reason: "root may not run it and there is no user nobody: add one or run as an ordinary user"
                .into(),
        }),
        Err(error) => Err(Error::io("look up", "user nobody", error.into())),
    }
}

/// Gives the server's folder and password file to its user.
pub(crate) fn own(dir: &Path, password_file: &Path, user: Option<(u32, u32)>) -> Result<(), Error> {
    let secret = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|source| Error::io("set the rights of", path, source))
    };
    secret(password_file, 0o600)?;
    secret(dir, 0o700)?;
    let Some((uid, gid)) = user else { return Ok(()) };
    for path in [dir, password_file] {
        chown(path, Some(uid), Some(gid)).map_err(|source| Error::io("give away", path, source))?;
    }
    Ok(())
}

/// Another user must be able to pass through all that lies above.
pub(crate) fn reachable(path: &Path) -> Result<(), Error> {
    for above in path.ancestors().skip(1) {
        let mode =
            fs::metadata(above).map_err(|source| Error::io("look at", above, source))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Err(Error::Unreachable { directory: above.to_owned() });
        }
    }
    Ok(())
}

/// Appends to what `initdb` wrote; of two lines with one name the last counts, so callers may override all of it.
fn configure(file: &Path, addresses: &str, port: u16, settings: &[(String, String)]) -> Result<(), Error> {
    let ours = [
        ("listen_addresses", addresses),
        ("port", &port.to_string()),
        ("unix_socket_directories", ""),
        // A killed server leaves its segments behind; as files they go with the directory.
        ("dynamic_shared_memory_type", "mmap"),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
    ];
    let line = |(name, value): (&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
    let theirs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let text: String = ours.into_iter().chain(theirs).map(line).collect();
    append(file, &text)
}

fn append(file: &Path, text: &str) -> Result<(), Error> {
    let append = || -> std::io::Result<()> {
        std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(file)?, text.as_bytes())
    };
    append().map_err(|source| Error::io("write", file, source))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_supported_version_has_a_release_on_both_machines() {
        for machine in ["x86_64", "aarch64"] {
            for version in 14..=18 {
                let (_, release) = super::release(version, machine).expect("published");
                assert!(release.starts_with(&format!("{version}.")), "{release}");
            }
        }
        let error = super::release(13, "x86_64").expect_err("too old").to_string();
        assert_eq!(error, "there is no PostgreSQL 13 for x86_64; possible: 14 to 18 for x86_64 and aarch64");
    }
}
