//! The daemons of a node: what each is started with.

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::network::Network;
use super::settings::{self, DOMAIN, NAME, VOLUME_PLUGINS};
use crate::kubernetes::access::{Access, MASTERS};
use crate::kubernetes::binary::Programs;
use crate::protocol::Place;
use crate::{Error, ProcessSpec, kubernetes, pki};

/// Where the API server listens, on all addresses of the node.
pub(super) const API_PORT: u16 = 6443;
/// etcd's ports, in the node.
const ETCD: (u16, u16) = (2379, 2380);
/// The group of the components' certificates; Kubernetes knows them by their names.
const COMPONENTS: &str = "sandbox";

/// A part of a node that can be stopped, killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// What keeps the cluster's objects.
    Etcd,
    /// kube-apiserver. Told to stop it first waits for its clients, who do not leave: kill it to have it gone.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// What runs containers. They live on while it is down.
    Containerd,
    /// The kubelet. Pods live on while it is down; nobody probes them, and for five minutes the node passes for ready.
    Kubelet,
    /// kube-proxy. Services go on as they were while it is down.
    KubeProxy,
    /// CoreDNS.
    Dns,
}

impl Daemon {
    /// All of them, in the order in which they are started.
    pub const ALL: [Daemon; 8] = [
        Daemon::Etcd,
        Daemon::Containerd,
        Daemon::ApiServer,
        Daemon::ControllerManager,
        Daemon::Scheduler,
        Daemon::Kubelet,
        Daemon::KubeProxy,
        Daemon::Dns,
    ];

    /// What its program calls itself; its log is named so too.
    pub fn name(self) -> &'static str {
        match self {
            Daemon::Etcd => "etcd",
            Daemon::ApiServer => "kube-apiserver",
            Daemon::ControllerManager => "kube-controller-manager",
            Daemon::Scheduler => "kube-scheduler",
            Daemon::Containerd => "containerd",
            Daemon::Kubelet => "kubelet",
            Daemon::KubeProxy => "kube-proxy",
            Daemon::Dns => "coredns",
        }
    }
}

/// What they are made from.
pub(super) struct Plan<'a> {
    pub(super) dir: &'a Path,
    /// Where pods' control groups are, from the root of each hierarchy.
    pub(super) group: &'a Path,
    pub(super) place: Place,
    pub(super) network: &'a Network,
    pub(super) access: &'a Access,
    pub(super) programs: &'a Programs,
    pub(super) dns: &'a Path,
    /// The folder of the network plugins.
    pub(super) plugins: &'a Path,
}

impl Plan<'_> {
    /// How one of them is started; what it reads is written first.
    pub(super) fn spec(&self, daemon: Daemon) -> Result<ProcessSpec, Error> {
        match daemon {
            Daemon::Etcd => Ok(kubernetes::etcd(self.part(daemon), self.dir, ETCD.0, ETCD.1)),
            Daemon::ApiServer => self.apiserver(),
            Daemon::ControllerManager => self.controller_manager(),
            Daemon::Scheduler => {
                let config = self.client("system:kube-scheduler", COMPONENTS)?;
                Ok(self.part(daemon).args([format!("--kubeconfig={config}"), "--leader-elect=false".into()]))
            }
            Daemon::Containerd => self.containerd(),
            Daemon::Kubelet => self.kubelet(),
            Daemon::KubeProxy => {
                let kubeconfig = self.client("system:kube-proxy", COMPONENTS)?;
                let config =
                    self.write("kube-proxy.conf", &settings::proxy(&kubeconfig, self.network).to_string())?;
                Ok(self.part(daemon).args([format!("--config={config}")]))
            }
            Daemon::Dns => {
                let kubeconfig = self.client("system:coredns", COMPONENTS)?;
                let config = self.write("Corefile", &settings::corefile(&kubeconfig, self.network))?;
                Ok(self.process(daemon, self.dns).args(["-conf".to_owned(), config]))
            }
        }
    }

    fn apiserver(&self) -> Result<ProcessSpec, Error> {
        let network = self.network;
        let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
        let also = [
            format!("kubernetes.default.svc.{DOMAIN}"),
            network.node().to_string(),
            network.api().to_string(),
        ];
        self.access.authority().serving("apiserver", &[service, also].concat())?;
        let (certificate, key) = self.access.authority().client("kubelet-client", MASTERS)?;
        let spec = kubernetes::serving(self.part(Daemon::ApiServer), self.access, ETCD.0, API_PORT);
        Ok(spec.args([
            "--bind-address=0.0.0.0".to_owned(),
            // Where pods find it behind its service. There is no default route to guess it from.
            format!("--advertise-address={}", network.node()),
            format!("--service-cluster-ip-range={}", network.services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--kubelet-certificate-authority={}", self.access.file(pki::AUTHORITY).display()),
            format!("--kubelet-client-certificate={}", certificate.display()),
            format!("--kubelet-client-key={}", key.display()),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]))
    }

    fn controller_manager(&self) -> Result<ProcessSpec, Error> {
        let file = |name: &str| self.access.file(name).display().to_string();
        self.access.authority().key()?;
        let kubeconfig = self.client("system:kube-controller-manager", COMPONENTS)?;
        Ok(self.part(Daemon::ControllerManager).args([
            format!("--kubeconfig={kubeconfig}"),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            // At its usual pace its controllers take six seconds to start, one after another.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
            // Elsewhere an outage of the API server ends it, as it loses its lease, and it begins anew without a memory.
            // This one lives on, and would take that silence for the node's.
            "--node-monitor-grace-period=5m".to_owned(),
            format!("--flex-volume-plugin-dir={VOLUME_PLUGINS}"),
            format!("--service-account-private-key-file={}", file(pki::TOKEN_KEY)),
            format!("--root-ca-file={}", file(pki::AUTHORITY)),
            format!("--cluster-signing-cert-file={}", file(pki::AUTHORITY)),
            format!("--cluster-signing-key-file={}", file(pki::AUTHORITY_KEY)),
        ]))
    }

    fn containerd(&self) -> Result<ProcessSpec, Error> {
        let networks = self.dir.join("networks");
        std::fs::create_dir(&networks).map_err(|source| Error::io("create", &networks, source))?;
        self.write("networks/10-pods.conflist", &settings::pod_network(self.network).to_string())?;
        let config = self.write("containerd.toml", &settings::runtime(self.plugins, &networks))?;
        Ok(self.process(Daemon::Containerd, Path::new("containerd")).args(["--config".to_owned(), config]))
    }

    fn kubelet(&self) -> Result<ProcessSpec, Error> {
        let node = self.network.node();
        self.access.authority().serving("kubelet", &[NAME.to_owned(), node.to_string()])?;
        let kubeconfig = self.client(&format!("system:node:{NAME}"), "system:nodes")?;
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|error| Error::io("read", "the limit of open files", error.into()))?;
        let config = settings::kubelet(self.access, self.network, self.group, files);
        let config = self.write("kubelet.conf", &config.to_string())?;
        Ok(self.part(Daemon::Kubelet).args([
            format!("--config={config}"),
            format!("--kubeconfig={kubeconfig}"),
            format!("--node-ip={node}"),
            format!("--hostname-override={NAME}"),
        ]))
    }

    /// A process of Kubernetes' own.
    fn part(&self, daemon: Daemon) -> ProcessSpec {
        self.process(daemon, &self.programs.kubernetes).args([daemon.name()])
    }

    fn process(&self, daemon: Daemon, program: &Path) -> ProcessSpec {
        let node = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let log = self.dir.join(format!("{}.log", daemon.name()));
        ProcessSpec::new(format!("{node} {}", daemon.name()), program, log).dir(self.dir).place(self.place)
    }

    fn client(&self, user: &str, group: &str) -> Result<String, Error> {
        self.access.kubeconfig(user, group).map(|file| file.display().to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<String, Error> {
        let file: PathBuf = self.dir.join(name);
        std::fs::write(&file, text).map_err(|source| Error::io("write", &file, source))?;
        Ok(file.display().to_string())
    }
}
