//! The tool that checks workflows of GitHub, compiled from its Go module.

use std::path::PathBuf;

use crate::golang::{self, Build};
use crate::{Error, Sandbox};

/// The version of actionlint that `go.mod` names.
const VERSION: &str = "1.7.12";
/// The module: which tool, and the sums of all it is compiled from.
const MODULE: [(&str, &str); 2] = [("go.mod", include_str!("go.mod")), ("go.sum", include_str!("go.sum"))];

impl Sandbox {
    /// The program `actionlint`. It is compiled when it is first asked for.
    pub async fn actionlint(&self) -> Result<PathBuf, Error> {
        let build = Build {
            entry: format!("actionlint-{VERSION}"),
            what: "actionlint",
            module: &MODULE,
            flags: "-s -w".to_owned(),
            packages: &["tool"],
        };
        Ok(golang::built(self, build).await?.join("actionlint"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_modules() {
        assert!(MODULE[0].1.contains(&format!("github.com/rhysd/actionlint v{VERSION} ")));
    }
}
