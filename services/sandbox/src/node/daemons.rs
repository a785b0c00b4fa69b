//! The daemons of a node: what each is started with.

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use super::network::Network;
use crate::kubernetes::access::{Access, MASTERS};
use crate::kubernetes::binary::Programs;
use crate::protocol::Place;
use crate::{Error, ProcessSpec, kubernetes, pki};

/// What the node is called.
pub(super) const NAME: &str = "node";
/// Where the API server listens, on all addresses of the node.
pub(super) const API_PORT: u16 = 6443;
/// Where CoreDNS says that it is ready.
pub(super) const DNS_READY_PORT: u16 = 8181;
/// What cluster-internal names end with.
const DOMAIN: &str = "cluster.local";
/// The image that holds the namespaces of each pod.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// Where containerd answers, in the node.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// etcd's ports, in the node.
const ETCD: (u16, u16) = (2379, 2380);
/// Where kubelet and controllers look for plugins that nobody has; their default would be made on this machine.
const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volume-plugins";
/// The group of the components' certificates; Kubernetes knows them by their names.
const COMPONENTS: &str = "sandbox";

/// A part of a node that can be stopped, killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// What keeps the cluster's objects.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// What runs containers. They live on while it is down.
    Containerd,
    /// The kubelet. Pods live on while it is down; nobody probes them.
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
                let config = self.write("kube-proxy.conf", &proxy(&kubeconfig, self.network).to_string())?;
                Ok(self.part(daemon).args([format!("--config={config}")]))
            }
            Daemon::Dns => {
                let kubeconfig = self.client("system:coredns", COMPONENTS)?;
                let config = self.write("Corefile", &corefile(&kubeconfig, self.network))?;
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
        self.write("networks/10-pods.conflist", &pod_network(self.network).to_string())?;
        let config = self.write("containerd.toml", &runtime(self.plugins, &networks))?;
        Ok(self.process(Daemon::Containerd, Path::new("containerd")).args(["--config".to_owned(), config]))
    }

    fn kubelet(&self) -> Result<ProcessSpec, Error> {
        let node = self.network.node();
        self.access.authority().serving("kubelet", &[NAME.to_owned(), node.to_string()])?;
        let kubeconfig = self.client(&format!("system:node:{NAME}"), "system:nodes")?;
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|error| Error::io("read", "the limit of open files", error.into()))?;
        let config = kubelet(self.access, self.network, self.group, files);
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

/// containerd's settings.
fn runtime(plugins: &Path, networks: &Path) -> String {
    let (plugins, networks) = (plugins.display(), networks.display());
    format!(
        r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Root without CAP_SYS_RESOURCE may not lower a score, and no pod would start.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#
    )
}

/// Each pod has a link of its own to the node, and all that it sends is routed: unlike on a bridge, service addresses are
/// translated back without the kernel's module br_netfilter.
fn pod_network(network: &Network) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(access: &Access, network: &Network, group: &Path, files: u64) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": access.file(pki::AUTHORITY)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": access.file("kubelet.crt"),
        "tlsPrivateKeyFile": access.file("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "failCgroupV1": false,
        "failSwapOn": false,
        "maxOpenFiles": i64::try_from(files).unwrap_or(i64::MAX),
        "volumePluginDir": VOLUME_PLUGINS,
        "clusterDomain": DOMAIN,
        "clusterDNS": [network.dns()],
        // Of what this machine can look up, pods see nothing.
        "resolvConf": "",
        // There is no registry: an image that is thrown away does not come back, however full the disk.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
        },
    })
}

fn proxy(kubeconfig: &str, network: &Network) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": network.pods(),
        // These belong to the whole machine and cannot be set here.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

/// What the cluster does not know, nobody knows: answered like that, and not as a server that has failed.
fn corefile(kubeconfig: &str, network: &Network) -> String {
    let node = network.node();
    format!(
        ".:53 {{
    bind {node}
    ready {node}:{DNS_READY_PORT}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} sandbox
        pods insecure
        ttl 1
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

/// The objects that a new cluster gets, each with the path of its kind: cluster DNS, where every cluster has it, and its
/// rights.
pub(super) fn first_objects(network: &Network) -> Vec<(&'static str, Value)> {
    let rights = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{rights}/v1"), "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    });
    let binding = json!({
        "apiVersion": format!("{rights}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": rights, "kind": "User", "name": "system:coredns"}],
    });
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": network.dns(), "ports": ports},
    });
    let endpoints = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "kube-system", "name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.node()], "conditions": {"ready": true}}],
        "ports": ports,
    });
    vec![
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", role),
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding),
        ("/api/v1/namespaces/kube-system/services", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", endpoints),
    ]
}
