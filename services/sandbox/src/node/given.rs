//! A cluster that is there already, used instead of one that the sandbox makes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::link::Link;
use crate::{Error, Handle, ProcessSpec};

/// Names the kubeconfig of an administrator of a cluster to use.
const KUBECONFIG: &str = "SANDBOX_KUBECONFIG";
/// A command that gets the path of an image archive as its last argument and brings it to the nodes of that cluster, such
/// as `kind load image-archive`.
const LOAD: &str = "SANDBOX_LOAD_IMAGE";
/// The address at which pods of that cluster reach this machine.
const HOST: &str = "SANDBOX_HOST_ADDRESS";
/// How long loading an image may take.
const LOADING: Duration = Duration::from_mins(5);

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) kubeconfig: PathBuf,
    load: Option<String>,
    host: Option<String>,
}

impl Given {
    /// What the environment says, if it names a cluster; `get` reads one variable of it.
    pub(super) fn from(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let Some(kubeconfig) = set(KUBECONFIG).map(PathBuf::from) else { return Ok(None) };
        std::fs::metadata(&kubeconfig).map_err(|source| {
            Error::io("find the kubeconfig that SANDBOX_KUBECONFIG names,", &kubeconfig, source)
        })?;
        Ok(Some(Self { kubeconfig, load: set(LOAD), host: set(HOST) }))
    }

    pub(super) fn host(&self) -> Result<Ipv4Addr, Error> {
        let parsed = self.host.as_ref().and_then(|text| text.trim().parse().ok());
        parsed.ok_or_else(|| lacking("the IPv4 address at which its pods reach this machine", HOST))
    }

    pub(super) async fn load(&self, link: Arc<Link>, log: PathBuf, archive: &Path) -> Result<(), Error> {
        let words = self.load.as_deref().unwrap_or_default();
        let mut words = words.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or_else(|| {
            lacking("a command that takes an image archive, such as `kind load image-archive`,", LOAD)
        })?;
        let spec = ProcessSpec::new("loading an image", program, log)
            .args(words)
            .args([archive.display().to_string()])
            .env("KUBECONFIG", self.kubeconfig.display().to_string());
        Handle::start_new(link, spec).await?.succeeded(LOADING).await
    }
}

/// What only a cluster of the sandbox itself has.
pub(super) fn only_own(what: &'static str) -> Error {
    Error::Given { what, remedy: format!("unset {KUBECONFIG}, and the sandbox makes a cluster of its own") }
}

fn lacking(what: &'static str, variable: &str) -> Error {
    Error::Given { what, remedy: format!("set {variable}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Given>, Error> {
        let get =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Given::from(get)
    }

    #[test]
    fn a_cluster_is_given_by_its_kubeconfig() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a name");
        assert_eq!(of(&[]).expect("none"), None);
        assert_eq!(of(&[(KUBECONFIG, "")]).expect("none"), None);
        let error = of(&[(KUBECONFIG, "/no/such/file")]).expect_err("it is not there").to_string();
        assert!(error.contains(KUBECONFIG) && error.contains("/no/such/file"), "{error}");
        let bare = of(&[(KUBECONFIG, path)]).expect("read").expect("one");
        assert!(bare.host().expect_err("not set").to_string().contains(HOST));
        let full = of(&[(KUBECONFIG, path), (HOST, "172.18.0.1")]).expect("read").expect("one");
        assert_eq!(full.host().expect("set"), Ipv4Addr::new(172, 18, 0, 1));
    }
}
