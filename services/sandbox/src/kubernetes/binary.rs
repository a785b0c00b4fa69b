//! Kubernetes and CoreDNS are published as container images only, so they are compiled from their Go modules: once, which
//! takes minutes, and kept.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The version of Kubernetes that `program/go.mod` names.
const VERSION: &str = "1.34.4";
/// The version of CoreDNS that `dns/go.mod` names.
const DNS_VERSION: &str = "1.13.1";
/// The module: what is compiled, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 4] = [
    ("go.mod", include_str!("program/go.mod")),
    ("go.sum", include_str!("program/go.sum")),
    ("main.go", include_str!("program/main.go")),
    ("pause/main.go", include_str!("program/pause/main.go")),
];
/// The same for CoreDNS, which wants other versions of what both are compiled from.
const DNS_MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("dns/go.mod")),
    ("go.sum", include_str!("dns/go.sum")),
    ("main.go", include_str!("dns/main.go")),
];

/// The compiled programs.
pub(crate) struct Programs {
    /// Every process of a control plane and a node, etcd and kubectl; its first argument says which.
    pub(crate) kubernetes: PathBuf,
    /// Sleeps, holds namespaces, buries orphans; needs no library.
    pub(crate) pause: PathBuf,
}

/// Kubernetes.
pub(crate) async fn programs(sandbox: &Sandbox) -> Result<Programs, Error> {
    let build = Build {
        entry: format!("kubernetes-all-{VERSION}"),
        what: "Kubernetes",
        module: &MODULE,
        flags: flags(),
        packages: &[".", "./pause"],
    };
    let dir = golang::built(sandbox, build).await?;
    Ok(Programs { kubernetes: dir.join("kubernetes"), pause: dir.join("pause") })
}

/// CoreDNS.
pub(crate) async fn dns(sandbox: &Sandbox) -> Result<PathBuf, Error> {
    let build = Build {
        entry: format!("coredns-{DNS_VERSION}"),
        what: "CoreDNS",
        module: &DNS_MODULE,
        flags: "-s -w".to_owned(),
        packages: &["."],
    };
    Ok(golang::built(sandbox, build).await?.join("dns"))
}

/// No symbols, and the version that the server tells, which its own build would have set.
fn flags() -> String {
    let mut parts = VERSION.split('.');
    let mut next = || parts.next().unwrap_or_default();
    let (major, minor) = (next(), next());
    let variables = [
        ("gitVersion", format!("v{VERSION}")),
        ("gitMajor", major.to_owned()),
        ("gitMinor", minor.to_owned()),
    ];
    let set = variables.map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}"));
    format!("-s -w {}", set.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_the_modules() {
        assert!(MODULE[0].1.contains(&format!("k8s.io/kubernetes v{VERSION}\n")));
        assert!(DNS_MODULE[0].1.contains(&format!("github.com/coredns/coredns v{DNS_VERSION}\n")));
        assert!(flags().contains("gitMinor=34"));
    }
}
