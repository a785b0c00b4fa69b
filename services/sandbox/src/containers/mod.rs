//! The tools with which people make and run images, without an engine behind them: compose and buildx as far as they read
//! their files, and BuildKit's checks of a Dockerfile.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The versions of compose, buildx and BuildKit that `go.mod` names.
const VERSIONS: [(&str, &str); 3] = [
    ("github.com/docker/compose/v5", "5.5.1"),
    ("github.com/docker/buildx", "0.36.1"),
    ("github.com/moby/buildkit", "0.33.0"),
];
/// The module: which tools, and the sums of all they are compiled from.
const MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("go.mod")),
    ("go.sum", include_str!("go.sum")),
    ("dockerfile/main.go", include_str!("dockerfile/main.go")),
];

/// The tools of a sandbox.
pub struct Containers {
    dir: PathBuf,
}

impl Sandbox {
    /// compose, buildx and the checks of a Dockerfile. They are compiled when they are first asked for, which takes minutes.
    pub async fn containers(&self) -> Result<Containers, Error> {
        let versions = VERSIONS.map(|(_, version)| version).join("-");
        let build = Build {
            entry: format!("containers-{versions}"),
            what: "docker compose and buildx",
            module: &MODULE,
            flags: "-s -w".to_owned(),
            packages: &["tool", "./dockerfile"],
        };
        Ok(Containers { dir: golang::built(self, build).await? })
    }
}

impl Containers {
    /// `docker compose`; `config` reads a file as `up` would.
    pub fn compose(&self) -> PathBuf {
        self.dir.join("cmd")
    }

    /// `docker buildx`; `bake --print` says what would be built.
    pub fn buildx(&self) -> PathBuf {
        self.dir.join("buildx")
    }

    /// Checks the Dockerfile on its standard input as `docker buildx build --check` would, for a platform: prints what is
    /// wrong, and ends with 1 if anything is.
    pub fn dockerfile(&self) -> PathBuf {
        self.dir.join("dockerfile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_the_modules() {
        for (module, version) in VERSIONS {
            assert!(MODULE[0].1.contains(&format!("{module} v{version}")), "{module}");
        }
    }
}
