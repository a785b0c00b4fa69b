//! A real Vault with its key/value engine, AppRole and Kubernetes logins, and TLS by an authority of its own.
//!
//! It is HashiCorp Vault 1.14, the last under the Mozilla Public License, compiled from its Go module without the plugins
//! of clouds and databases (`server/main.go`). OpenBao, its fork, speaks the same API.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::api::Api;
use crate::golang::{self, Build};
use crate::pki::{self, Authority};
use crate::{Error, Handle, ProcessSpec, Sandbox, ports};

/// The version of Vault that `go.mod` names.
const VERSION: &str = "1.14.1";
/// The module: what is compiled, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("server/go.mod")),
    ("go.sum", include_str!("server/go.sum")),
    ("main.go", include_str!("server/main.go")),
];
/// How long an orderly stop may take before it becomes a kill.
const STOP: Duration = Duration::from_secs(10);

/// A Vault of a sandbox. It opens itself again after each start.
pub struct Vault {
    handle: Handle,
    port: u16,
    dir: PathBuf,
    client: Api,
}

#[derive(Deserialize)]
struct Keys {
    root: String,
}

impl Sandbox {
    /// Makes an empty Vault and starts it; [`Vault::ready`] waits until it is open. The program is compiled when it is first
    /// asked for, which takes minutes.
    pub async fn vault(&self) -> Result<Vault, Error> {
        let build = Build {
            entry: format!("vault-{VERSION}"),
            what: "Vault",
            module: &MODULE,
            flags: "-s -w".to_owned(),
            packages: &["."],
        };
        let program = golang::built(self, build).await?.join("vault");
        let dir = self.new_dir("vault")?;
        let authority = Authority::new(&dir)?;
        authority.serving("server", &[])?;
        let port = ports::or_free(None)?;
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let spec = ProcessSpec::new(name, program, dir.join("server.log"))
            .dir(&dir)
            .args([dir.display().to_string(), format!("127.0.0.1:{port}")]);
        let handle = self.spawn(spec).await?;
        let client = Api::new((Ipv4Addr::LOCALHOST, port).into(), authority.trusting()?);
        Ok(Vault { handle, port, dir, client })
    }
}

impl Vault {
    /// Where clients find it, without a slash at the end.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate authority of its serving certificate, a PEM file.
    pub fn authority(&self) -> PathBuf {
        self.dir.join(pki::AUTHORITY)
    }

    /// The token that may do everything; it is there once the Vault is ready.
    pub fn root_token(&self) -> Result<String, Error> {
        let file = self.dir.join("keys.json");
        let fail = |source| Error::io("read", &file, source);
        let text = fs::read(&file).map_err(fail)?;
        let keys: Keys = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        Ok(keys.root)
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        self.handle.log()
    }

    /// Its process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until its health check says that it is open and active.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        self.handle.until("ready", within, async || self.client.succeeds("/v1/sys/health").await).await
    }

    /// An orderly stop.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop(STOP).await
    }

    /// `kill -9`.
    pub async fn kill(&self) -> Result<(), Error> {
        self.handle.kill().await
    }

    /// Starts it again after `stop` or `kill`: same port, same data.
    pub async fn start(&self) -> Result<(), Error> {
        self.handle.start().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_modules() {
        assert!(MODULE[0].1.contains(&format!("github.com/hashicorp/vault v{VERSION}\n")));
    }
}
