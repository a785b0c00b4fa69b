//! Kubernetes is published as container images only, so its API server and etcd are compiled from their Go modules: once,
//! which takes minutes, and kept.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::tools::{self, Tool};
use crate::{Error, ProcessSpec, Sandbox, cache};

/// The version of Kubernetes that `go.mod` names.
const VERSION: &str = "1.34.4";
/// How long compiling may take: about five minutes on two cores, and the modules have to be fetched.
const BUILD: Duration = Duration::from_mins(40);
/// The program in its folder.
const PROGRAM: &str = "control-plane";
/// The module: what is compiled, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("control-plane/go.mod")),
    ("go.sum", include_str!("control-plane/go.sum")),
    ("main.go", include_str!("control-plane/main.go")),
];
/// What Go needs of the owner's environment to reach its module proxy and to find what it has fetched and compiled before.
const FOR_GO: [&str; 15] = [
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "GONOSUMDB",
    "GOTOOLCHAIN",
    "GOCACHE",
    "GOMODCACHE",
    "GOPATH",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "no_proxy",
];

/// The program that is both the API server and etcd.
pub(super) async fn program(sandbox: &Sandbox) -> Result<PathBuf, Error> {
    let entry = cache::entry(sandbox, &format!("kubernetes-{VERSION}"), async |dir| {
        tools::ensure(sandbox, &[Tool::Go]).await?;
        sandbox.say("compiling Kubernetes, once; this takes minutes");
        let module = sandbox.new_dir("kubernetes-module")?;
        for (name, text) in MODULE {
            let file = module.join(name);
            fs::write(&file, text).map_err(|source| Error::io("write", &file, source))?;
        }
        let mut spec = ProcessSpec::new("go build", "go", module.join("build.log"))
            .dir(&module)
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &flags(), "-o"])
            .args([dir.join(PROGRAM).display().to_string(), ".".to_owned()])
            .env("CGO_ENABLED", "0");
        for name in FOR_GO {
            if let Ok(value) = std::env::var(name) {
                spec = spec.env(name, value);
            }
        }
        sandbox.run(spec, BUILD).await
    })
    .await?;
    Ok(entry.join(PROGRAM))
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
