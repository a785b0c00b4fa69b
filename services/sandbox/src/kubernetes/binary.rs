//! Kubernetes is published as container images only, so its API server and etcd are compiled from their Go modules: once,
//! which takes minutes, and kept.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The version of Kubernetes that `go.mod` names.
const VERSION: &str = "1.34.4";
/// The program in its folder.
const PROGRAM: &str = "control-plane";
/// The module: what is compiled, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("control-plane/go.mod")),
    ("go.sum", include_str!("control-plane/go.sum")),
    ("main.go", include_str!("control-plane/main.go")),
];

/// The program that is both the API server and etcd.
pub(super) async fn program(sandbox: &Sandbox) -> Result<PathBuf, Error> {
    let build = Build {
        entry: format!("kubernetes-{VERSION}"),
        what: "Kubernetes",
        module: &MODULE,
        flags: flags(),
        packages: &["."],
    };
    Ok(golang::built(sandbox, build).await?.join(PROGRAM))
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
    fn the_version_is_the_modules() {
        assert!(MODULE[0].1.contains(&format!("k8s.io/kubernetes v{VERSION}\n")));
        assert!(flags().contains("gitMinor=34"));
    }
}
