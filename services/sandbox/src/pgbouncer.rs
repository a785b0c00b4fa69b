//! A real PgBouncer in front of a PostgreSQL server: the pooler that most installations have.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::postgres::{own, reachable, server_user};
use crate::tools::{self, Tool};
use crate::{Error, Handle, Postgres, ProcessSpec, Sandbox, ports};

/// What kind of PgBouncer.
#[derive(Debug, Clone)]
pub struct PgBouncerOptions {
    /// How long a client keeps a connection: `session`, `transaction` or `statement` (`pool_mode`).
    pub mode: &'static str,
    /// Those who log in besides the server's superuser, each with its password.
    pub users: Vec<(String, String)>,
    /// More lines of its section `[pgbouncer]`, such as `("server_round_robin", "1")`.
    pub settings: Vec<(String, String)>,
}

/// A PgBouncer of a sandbox, on loopback.
pub struct PgBouncer {
    handle: Handle,
    port: u16,
}

impl Sandbox {
    /// Starts a PgBouncer before all databases of a server; [`PgBouncer::ready`] waits until it answers. Installs it if it may.
    pub async fn pgbouncer(&self, server: &Postgres, options: PgBouncerOptions) -> Result<PgBouncer, Error> {
        tools::ensure(self, &[Tool::PgBouncer]).await?;
        let program = tools::pgbouncer().ok_or(Error::Ended)?;
        let port = ports::or_free(None)?;
        let dir = self.new_dir("pgbouncer")?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| Error::io("write", &path, source)).map(|()| path)
        };
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let superuser = (server.superuser().to_owned(), server.password().to_owned());
        let users = std::iter::once(&superuser).chain(&options.users);
        let users: Vec<String> =
            users.map(|(name, password)| format!("{} {}", quoted(name), quoted(password))).collect();
        let users = write("users.txt", users.join("\n"))?;
        let more: Vec<String> =
            options.settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let text = format!(
            "[databases]\n* = host={} port={}\n\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {}\n{}",
            server.host(),
            server.port(),
            Ipv4Addr::LOCALHOST,
            users.display(),
            options.mode,
            more.concat(),
        );
        let settings = write("pgbouncer.ini", text)?;
        // It refuses to run as root, as its server does.
        let user = server_user()?;
        own(&dir, &users, user)?;
        if user.is_some() {
            reachable(&dir)?;
        }
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let spec = ProcessSpec::new(name, program, dir.join("pgbouncer.log"))
            .dir(&dir)
            .user(user)
            .args([settings.display().to_string()])
            // SIGTERM ends it at once; its SIGINT would wait for its clients.
            .stop_signal(Signal::SIGTERM);
        Ok(PgBouncer { handle: self.spawn(spec).await?, port })
    }
}

impl PgBouncer {
    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it takes connections.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let connects =
            async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok();
        self.handle.until("ready", within, connects).await
    }
}
