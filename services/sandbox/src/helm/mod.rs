//! The real Helm, in each major version that people use, compiled from its Go module.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// A major version of Helm: 3 applies what changed between releases itself, 4 lets the server do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Helm {
    /// The last 3.
    V3,
    /// The newest 4.
    V4,
}

impl Helm {
    /// Every one.
    pub const ALL: [Helm; 2] = [Helm::V3, Helm::V4];

    /// The version that `go.mod` names.
    fn version(self) -> &'static str {
        match self {
            Helm::V3 => "3.22.0",
            Helm::V4 => "4.3.1",
        }
    }

    /// The module: which tool, and the sums of all it is compiled from.
    fn module(self) -> [(&'static str, &'static str); 2] {
        match self {
            Helm::V3 => [("go.mod", include_str!("v3/go.mod")), ("go.sum", include_str!("v3/go.sum"))],
            Helm::V4 => [("go.mod", include_str!("v4/go.mod")), ("go.sum", include_str!("v4/go.sum"))],
        }
    }

    /// What its own build sets. Without these 3 takes itself for one of no version, and every cluster for one of 2020; 4
    /// looks up which Kubernetes it was built for.
    fn variables(self) -> Vec<String> {
        let version = ("internal/version.version", format!("v{}", self.version()));
        let of_kubernetes = ["pkg/chartutil.k8sVersion", "pkg/lint/rules.k8sVersion"].into_iter();
        let of_kubernetes = of_kubernetes.flat_map(|name| [(name, "Major", "1"), (name, "Minor", "34")]);
        match self {
            Helm::V3 => of_kubernetes
                .map(|(name, part, value)| format!("-X helm.sh/helm/v3/{name}{part}={value}"))
                .chain([format!("-X helm.sh/helm/v3/{}={}", version.0, version.1)])
                .collect(),
            Helm::V4 => vec![format!("-X helm.sh/helm/v4/{}={}", version.0, version.1)],
        }
    }
}

impl Sandbox {
    /// The program `helm` of a major version. It is compiled when it is first asked for, which takes minutes.
    pub async fn helm(&self, major: Helm) -> Result<PathBuf, Error> {
        let build = Build {
            entry: format!("helm-{}", major.version()),
            what: "Helm",
            module: &major.module(),
            flags: format!("-s -w {}", major.variables().join(" ")),
            packages: &["tool"],
        };
        Ok(golang::built(self, build).await?.join("helm"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_the_modules() {
        for (major, name) in [(Helm::V3, "v3"), (Helm::V4, "v4")] {
            assert!(major.module()[0].1.contains(&format!("helm.sh/helm/{name} v{}", major.version())));
        }
    }
}
