//! A real Kubernetes API: kube-apiserver with RBAC, and the etcd it keeps its objects in. No node, no controller: objects,
//! watches, admission and authorization are real, and no pod ever runs.

pub(crate) mod access;
pub(crate) mod binary;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::access::Access;
use crate::api::Api;
use crate::pki;
use crate::{Error, Handle, ProcessSpec, Sandbox, ports};

/// Who issues service-account tokens, and whom they are for unless a request says otherwise.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A Kubernetes API of a sandbox.
pub struct Kubernetes {
    apiserver: Handle,
    access: Access,
    client: Api,
}

impl Sandbox {
    /// Makes an empty cluster and starts it; [`Kubernetes::ready`] waits until it serves. The programs are compiled when they
    /// are first asked for, which takes minutes.
    pub async fn kubernetes(&self) -> Result<Kubernetes, Error> {
        let program = binary::programs(self).await?.kubernetes;
        let dir = self.new_dir("kubernetes")?;
        let [client, peer, port] = ports::free(3)?[..] else { return Err(Error::Ended) };
        let access = Access::new(&dir, (Ipv4Addr::LOCALHOST, port).into())?;
        access.authority().serving("apiserver", &[])?;
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let process = |part: &str| {
            ProcessSpec::new(format!("{name} {part}"), &program, dir.join(format!("{part}.log")))
                .dir(&dir)
                .args([part])
        };
        self.spawn(etcd(process("etcd"), &dir, client, peer)).await?;
        let spec = apiserver(process("kube-apiserver"), &access, client, port);
        let apiserver = self.spawn(spec).await?;
        let client = access.anybody()?;
        Ok(Kubernetes { apiserver, access, client })
    }
}

impl Kubernetes {
    /// Where clients find it.
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// Writes a kubeconfig for somebody with a client certificate: a user and a group. Names are used for file names too.
    pub fn kubeconfig(&self, user: &str, group: &str) -> Result<PathBuf, Error> {
        self.access.kubeconfig(user, group)
    }

    /// Writes a kubeconfig for somebody who may do everything.
    pub fn admin(&self) -> Result<PathBuf, Error> {
        self.access.admin()
    }

    /// Writes a kubeconfig for the bearer of a token, such as a service account's; it is read from the file again and again.
    pub fn kubeconfig_of_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        self.access.kubeconfig_of_token(name, token)
    }

    /// Waits until the API server says that it is ready.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        self.apiserver.until("ready", within, async || self.client.succeeds("/readyz").await).await
    }

    /// `kill -9` for the API server; etcd goes on.
    pub async fn kill(&self) -> Result<(), Error> {
        self.apiserver.kill().await
    }

    /// Starts the API server again after a kill: same port, same objects.
    pub async fn start(&self) -> Result<(), Error> {
        self.apiserver.start().await
    }
}

/// An etcd of one on two loopback ports, for clients and for peers that never come.
pub(crate) fn etcd(spec: ProcessSpec, dir: &Path, client: u16, peer: u16) -> ProcessSpec {
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

/// What API servers with and without a node have in common.
pub(crate) fn serving(spec: ProcessSpec, access: &Access, etcd: u16, port: u16) -> ProcessSpec {
    let file = |name: &str| access.file(name).display().to_string();
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
}

fn apiserver(spec: ProcessSpec, access: &Access, etcd: u16, port: u16) -> ProcessSpec {
    serving(spec, access, etcd, port)
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ])
        .args(["--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC"])
        // No controller makes service accounts here, and that admission would refuse every pod without one.
        .args(["--disable-admission-plugins=ServiceAccount"])
}
