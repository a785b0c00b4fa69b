//! How people and programs reach the API server of a sandbox: its address, its authority, and kubeconfigs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Error;
use crate::api::Api;
use crate::pki::{self, Authority};

/// The group that may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// An API server and the authority that it and its clients are certified by.
pub(crate) struct Access {
    address: SocketAddr,
    dir: PathBuf,
    authority: Authority,
}

impl Access {
    /// To the server that is to listen at this address; certificates and kubeconfigs are written into `dir`.
    pub(crate) fn new(dir: &Path, address: SocketAddr) -> Result<Self, Error> {
        let authority = Authority::new(dir)?;
        authority.token_key()?;
        Ok(Self { address, dir: dir.to_owned(), authority })
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The path of one of the files that certificates, keys and kubeconfigs are in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A client without a certificate: it sees what anybody may see.
    pub(crate) fn anybody(&self) -> Result<Api, Error> {
        Ok(Api::new(self.address, self.authority.trusting()?))
    }

    /// A client that may do everything.
    pub(crate) fn master(&self) -> Result<Api, Error> {
        Ok(Api::new(self.address, self.authority.trusting_as("sandbox", MASTERS)?))
    }

    /// Writes a kubeconfig for somebody with a client certificate: a user and a group. Names are used for file names too.
    pub(crate) fn kubeconfig(&self, user: &str, group: &str) -> Result<PathBuf, Error> {
        let (certificate, key) = self.authority.client(user, group)?;
        self.write(user, &json!({"client-certificate": certificate, "client-key": key}))
    }

    /// Writes a kubeconfig for somebody who may do everything.
    pub(crate) fn admin(&self) -> Result<PathBuf, Error> {
        self.kubeconfig("admin", MASTERS)
    }

    /// Writes a kubeconfig for the bearer of a token, such as a service account's; it is read from the file again and again.
    pub(crate) fn kubeconfig_of_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        let file = self.dir.join(format!("{name}.token"));
        fs::write(&file, token).map_err(|source| Error::io("write", &file, source))?;
        self.write(name, &json!({"tokenFile": file}))
    }

    fn write(&self, name: &str, user: &Value) -> Result<PathBuf, Error> {
        let cluster = json!({"server": self.url(), "certificate-authority": self.file(pki::AUTHORITY)});
        // YAML reads JSON.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": name, "namespace": "default"}}],
        });
        let file = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&file, config.to_string()).map_err(|source| Error::io("write", &file, source))?;
        Ok(file)
    }
}
