//! What the daemons of a node read: their settings, and the objects that a cluster begins with.

use std::path::Path;

use serde_json::{Value, json};

use super::network::Network;
use crate::kubernetes::access::Access;
use crate::pki;

/// What the node is called.
pub(super) const NAME: &str = "node";
/// Where CoreDNS says that it is ready.
pub(super) const DNS_READY_PORT: u16 = 8181;
/// What cluster-internal names end with.
pub(super) const DOMAIN: &str = "cluster.local";
/// The image that holds the namespaces of each pod.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// Where containerd answers, in the node.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Where kubelet and controllers look for plugins that nobody has; their default would be made on this machine.
pub(super) const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volume-plugins";

/// containerd's settings.
pub(super) fn runtime(plugins: &Path, networks: &Path) -> String {
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
pub(super) fn pod_network(network: &Network) -> Value {
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

/// The kubelet's settings.
pub(super) fn kubelet(access: &Access, network: &Network, group: &Path, files: u64) -> Value {
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
        // Little, whatever the size of the machine: pods are not to be driven out because others fill its disk.
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "50Mi", "imagefs.available": "50Mi", "nodefs.inodesFree": "1000",
        },
    })
}

/// kube-proxy's settings.
pub(super) fn proxy(kubeconfig: &str, network: &Network) -> Value {
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

/// CoreDNS's settings. What the cluster does not know, nobody knows: answered like that, and not as a server that has failed.
pub(super) fn corefile(kubeconfig: &str, network: &Network) -> String {
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
