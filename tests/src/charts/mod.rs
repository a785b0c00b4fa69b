//! The project's charts, rendered by the real Helm.

pub mod described;
pub mod foreign;
pub mod matrix;
pub mod readme;
pub mod schema;
pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifecycle::document::Environment;
use sandbox::{Helm, Sandbox};
use serde_json::{Map, Value, json};

use crate::root;

/// Helm, and the charts with what they depend on.
pub struct Charts {
    helm: PathBuf,
    dir: PathBuf,
    source: PathBuf,
}

impl Charts {
    /// Every chart, put together in a folder of the sandbox; with Helm 3, as most people have it.
    pub async fn of(sandbox: &Sandbox) -> Charts {
        Charts::with(sandbox, Helm::V3).await
    }

    /// Every chart, put together by this Helm in a folder of the sandbox.
    pub async fn with(sandbox: &Sandbox, helm: Helm) -> Charts {
        Charts::put(sandbox, helm, &root(), &format!("charts-{helm:?}")).await
    }

    /// Every chart of this state of the repository, put together in a folder of the sandbox that is called so.
    pub async fn from(sandbox: &Sandbox, source: &Path, folder: &str) -> Charts {
        Charts::put(sandbox, Helm::V3, source, folder).await
    }

    async fn put(sandbox: &Sandbox, helm: Helm, source: &Path, folder: &str) -> Charts {
        let (helm, source) = (sandbox.helm(helm).await.unwrap(), source.join("charts"));
        let charts = Charts { helm, dir: sandbox.dir().join(folder), source };
        for name in charts.names() {
            copy(&charts.source.join(&name), &charts.dir.join(&name));
        }
        for name in charts.names() {
            let built = charts.run(&["dependency", "build", "--skip-refresh", &name]);
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        }
        charts
    }

    /// The charts' names; the library is among them.
    pub fn names(&self) -> Vec<String> {
        let charts = std::fs::read_dir(&self.source).unwrap().map(|entry| entry.unwrap());
        let charts = charts.filter(|entry| entry.path().join("Chart.yaml").is_file());
        let mut names: Vec<String> =
            charts.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs Helm in the folder of the charts, away from whatever its user has set.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.helm);
        command.args(args).current_dir(&self.dir).env_clear().env("HOME", &self.dir);
        command.output().unwrap()
    }

    /// Puts a chart that is not ours beside them: the files of a folder, and what it depends on.
    pub fn add(&self, name: &str, folder: &Path) {
        copy(folder, &self.dir.join(name));
        let built = self.run(&["dependency", "build", "--skip-refresh", name]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// Runs Helm over a cluster, as a kubeconfig's user.
    pub fn over(&self, kubeconfig: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(&self.helm);
        command.args(args).current_dir(&self.dir).env_clear();
        command.env("HOME", &self.dir).env("KUBECONFIG", kubeconfig).output().unwrap()
    }

    /// Writes values to a file that Helm can be given.
    pub fn values(&self, name: &str, values: &Value) -> String {
        let file = self.dir.join(format!("{name}.json"));
        std::fs::write(&file, values.to_string()).unwrap();
        file.display().to_string()
    }

    /// Renders a chart as release `syncer` in namespace `rollcall`.
    pub fn template(&self, chart: &str, values: &Value) -> Output {
        self.template_as("syncer", chart, values, &[])
    }

    /// Renders a chart as this release in namespace `rollcall`, with these arguments besides.
    pub fn template_as(&self, release: &str, chart: &str, values: &Value, more: &[&str]) -> Output {
        let file = self.values(&format!("{chart}-values"), values);
        let args = ["template", release, chart, "--namespace", "rollcall", "--values", &file];
        self.run(&[&args, more].concat())
    }

    /// The manifests of a chart.
    pub fn render(&self, chart: &str, values: &Value) -> Vec<Value> {
        manifests(&self.template(chart, values))
    }

    /// The manifests of a chart as this release, with these arguments besides.
    pub fn render_as(&self, release: &str, chart: &str, values: &Value, more: &[&str]) -> Vec<Value> {
        manifests(&self.template_as(release, chart, values, more))
    }
}

/// The manifests that Helm printed.
pub fn manifests(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8_lossy(&output.stdout)).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// An environment's fragments, as values of a chart.
pub fn fragments(environment: &Environment) -> Value {
    let fragments: Map<String, Value> = environment
        .sources()
        .map(|source| {
            let name = source.document.fragment.name.clone();
            (name, serde_json::to_value(&source.document).unwrap())
        })
        .collect();
    json!(fragments)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}
