//! The real Helm, compiled from its Go module.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The version of Helm that `go.mod` names.
const VERSION: &str = "3.22.0";
/// The module: which tool, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 2] = [("go.mod", include_str!("go.mod")), ("go.sum", include_str!("go.sum"))];

impl Sandbox {
    /// The program `helm`. It is compiled when it is first asked for, which takes minutes.
    pub async fn helm(&self) -> Result<PathBuf, Error> {
        // Without these it takes itself for one of no version, and every cluster for one of 2020.
        let variables = [
            ("internal/version.version", format!("v{VERSION}")),
            ("pkg/chartutil.k8sVersionMajor", "1".to_owned()),
            ("pkg/chartutil.k8sVersionMinor", "34".to_owned()),
            ("pkg/lint/rules.k8sVersionMajor", "1".to_owned()),
            ("pkg/lint/rules.k8sVersionMinor", "34".to_owned()),
        ];
        let set = variables.map(|(name, value)| format!("-X helm.sh/helm/v3/{name}={value}"));
        let build = Build {
            entry: format!("helm-{VERSION}"),
            what: "Helm",
            module: &MODULE,
            flags: format!("-s -w {}", set.join(" ")),
            packages: &["tool"],
        };
        Ok(golang::built(self, build).await?.join("helm"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_modules() {
        assert!(MODULE[0].1.contains(&format!("helm.sh/helm/v3 v{VERSION}")));
    }
}
