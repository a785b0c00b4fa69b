//! `rollcall` over a cluster, as a process that says everything it could say and shows no value.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;
use crate::{binary, until};

/// `rollcall` as a process that says everything it could say.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with these arguments, over the cluster as a kubeconfig's user.
    pub fn start(cluster: &Cluster, name: &str, kubeconfig: &Path, args: &[&str]) -> Running {
        let log = cluster.dir().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(binary());
        command.args(args).env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nonexistent");
        command
            .env("ROLLCALL_LOG", "trace")
            .env("ROLLCALL_LOG_FORMAT", "text")
            .env("ROLLCALL_DEADLINE", "90s");
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    /// What it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it said this.
    pub async fn says(&mut self, text: &str) {
        until(text, async || {
            let said = self.said();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() || said.contains(text), "{ended:?} without saying `{text}`: {said}");
            said.contains(text)
        })
        .await;
    }

    /// Ends with this code after it said `text`, and nowhere shows what was planted; all that it said.
    pub async fn ends(mut self, code: i32, text: &str) -> String {
        until("it ends", async || self.child.try_wait().unwrap().is_some()).await;
        let (ended, said) = (self.child.wait().unwrap().code(), self.said());
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(text), "`{text}` is not said: {said}");
        assert!(!said.contains("PLANTED"), "a value is shown: {said}");
        assert!(!said.contains(" ERROR kube"), "who waits says what for, and nothing on every look: {said}");
        said
    }
}
