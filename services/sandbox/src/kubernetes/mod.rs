//! A real Kubernetes API: kube-apiserver with RBAC, and the etcd it keeps its objects in. No node, no controller: objects,
//! watches, admission and authorization are real, and no pod ever runs.

mod binary;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::pki::{self, Authority};
use crate::{Error, Handle, ProcessSpec, Sandbox, ports};

/// How long one answer of the health check may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Who issues service-account tokens, and whom they are for unless a request says otherwise.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// A Kubernetes API of a sandbox.
pub struct Kubernetes {
    apiserver: Handle,
    port: u16,
    dir: PathBuf,
    authority: Authority,
    connector: TlsConnector,
}

impl Sandbox {
    /// Makes an empty cluster and starts it; [`Kubernetes::ready`] waits until it serves. The programs are compiled when they
    /// are first asked for, which takes minutes.
    pub async fn kubernetes(&self) -> Result<Kubernetes, Error> {
        let program = binary::program(self).await?;
        let dir = self.new_dir("kubernetes")?;
        let authority = Authority::new(&dir)?;
        authority.token_key()?;
        authority.serving("apiserver")?;
        let [client, peer, port] = ports::free(3)?[..] else { return Err(Error::Ended) };
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let process = |part: &str| {
            ProcessSpec::new(format!("{name} {part}"), &program, dir.join(format!("{part}.log")))
                .dir(&dir)
                .args([part])
        };
        self.spawn(etcd(process("etcd"), &dir, client, peer)).await?;
        let spec = apiserver(process("kube-apiserver"), &dir, client, port);
        let apiserver = self.spawn(spec).await?;
        let connector = TlsConnector::from(Arc::new(authority.trusting()?));
        Ok(Kubernetes { apiserver, port, dir, authority, connector })
    }
}

impl Kubernetes {
    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate authority of its serving certificate, a PEM file.
    fn authority(&self) -> PathBuf {
        self.dir.join(pki::AUTHORITY)
    }

    /// Writes a kubeconfig for somebody with a client certificate: a user and a group. Names are used for file names too.
    pub fn kubeconfig(&self, user: &str, group: &str) -> Result<PathBuf, Error> {
        let (certificate, key) = self.authority.client(user, group)?;
        self.write_kubeconfig(user, &json!({"client-certificate": certificate, "client-key": key}))
    }

    /// Writes a kubeconfig for somebody who may do everything.
    pub fn admin(&self) -> Result<PathBuf, Error> {
        self.kubeconfig("admin", MASTERS)
    }

    /// Writes a kubeconfig for the bearer of a token, such as a service account's; it is read from the file again and again.
    pub fn kubeconfig_of_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        let file = self.dir.join(format!("{name}.token"));
        fs::write(&file, token).map_err(|source| Error::io("write", &file, source))?;
        self.write_kubeconfig(name, &json!({"tokenFile": file}))
    }

    fn write_kubeconfig(&self, name: &str, user: &serde_json::Value) -> Result<PathBuf, Error> {
        // YAML reads JSON.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url(), "certificate-authority": self.authority()}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": name, "namespace": "default"}}],
        });
        let file = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&file, config.to_string()).map_err(|source| Error::io("write", &file, source))?;
        Ok(file)
    }

    /// Waits until the API server says that it is ready.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let answers = async || {
            tokio::time::timeout(ANSWER, self.answers()).await.is_ok_and(|answer| answer.unwrap_or(false))
        };
        self.apiserver.until("ready", within, answers).await
    }

    /// `kill -9` for the API server; etcd goes on.
    pub async fn kill(&self) -> Result<(), Error> {
        self.apiserver.kill().await
    }

    /// Starts the API server again after a kill: same port, same objects.
    pub async fn start(&self) -> Result<(), Error> {
        self.apiserver.start().await
    }

    async fn answers(&self) -> std::io::Result<bool> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let mut stream = self
            .connector
            .connect(ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)), stream)
            .await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok(&status[9..] == b"200")
    }
}

fn etcd(spec: ProcessSpec, dir: &Path, client: u16, peer: u16) -> ProcessSpec {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    spec.args([
        "--name=sandbox".to_owned(),
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=sandbox={peer}"),
    ])
    // Nothing here outlives the machine.
    .args(["--unsafe-no-fsync", "--log-level=warn"])
}

fn apiserver(spec: ProcessSpec, dir: &Path, etcd: u16, port: u16) -> ProcessSpec {
    let file = |name: &str| dir.join(name).display().to_string();
    spec.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file(pki::AUTHORITY)),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-key-file={}", file(pki::TOKEN_PUBLIC)),
        format!("--service-account-signing-key-file={}", file(pki::TOKEN_KEY)),
    ])
    .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
    .args(["--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC"])
    // No controller makes service accounts here, and that admission would refuse every pod without one.
    .args(["--disable-admission-plugins=ServiceAccount"])
}
