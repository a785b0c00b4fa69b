//! The real tools with which people encrypt files: sops, age and age-keygen, compiled from their Go modules.

use std::path::{Path, PathBuf};

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The version of sops that `go.mod` names.
const VERSION: &str = "3.13.3";
/// The module: which tools, and the sums of all they are compiled from.
const MODULE: [(&str, &str); 2] = [("go.mod", include_str!("go.mod")), ("go.sum", include_str!("go.sum"))];

/// The tools of a sandbox.
pub struct Encryption {
    dir: PathBuf,
}

impl Sandbox {
    /// sops and age. They are compiled when they are first asked for, which takes minutes.
    pub async fn encryption(&self) -> Result<Encryption, Error> {
        let build = Build {
            entry: format!("sops-{VERSION}"),
            what: "sops and age",
            module: &MODULE,
            flags: "-s -w".to_owned(),
            packages: &["tool"],
        };
        Ok(Encryption { dir: golang::built(self, build).await? })
    }
}

impl Encryption {
    /// Where the tools are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `sops`, which encrypts the values of a file.
    pub fn sops(&self) -> PathBuf {
        self.dir.join("sops")
    }

    /// `age`, which encrypts a file.
    pub fn age(&self) -> PathBuf {
        self.dir.join("age")
    }

    /// `age-keygen`, which makes identities.
    pub fn age_keygen(&self) -> PathBuf {
        self.dir.join("age-keygen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_modules() {
        assert!(MODULE[0].1.contains(&format!("github.com/getsops/sops/v3 v{VERSION} ")));
    }
}
