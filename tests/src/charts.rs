//! The project's charts, rendered by the real Helm.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifecycle::document::Environment;
use sandbox::Sandbox;
use serde_json::{Map, Value, json};

use crate::root;

/// Helm, and the charts with what they depend on.
pub struct Charts {
    helm: PathBuf,
    dir: PathBuf,
}

impl Charts {
    /// Every chart, put together in a folder of the sandbox.
    pub async fn of(sandbox: &Sandbox) -> Charts {
        let charts = Charts { helm: sandbox.helm().await.unwrap(), dir: sandbox.dir().join("charts") };
        for name in charts.names() {
            copy(&root().join("charts").join(&name), &charts.dir.join(&name));
        }
        for name in charts.names() {
            let built = charts.run(&["dependency", "build", "--skip-refresh", &name]);
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        }
        charts
    }

    /// The charts' names; the library is among them.
    pub fn names(&self) -> Vec<String> {
        let charts = std::fs::read_dir(root().join("charts")).unwrap().map(|entry| entry.unwrap());
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

    /// Renders a chart as release `syncer` in namespace `rollcall`.
    pub fn template(&self, chart: &str, values: &Value) -> Output {
        let file = self.dir.join(format!("{chart}-values.json"));
        std::fs::write(&file, values.to_string()).unwrap();
        self.run(&[
            "template",
            "syncer",
            chart,
            "--namespace",
            "rollcall",
            "--values",
            &file.display().to_string(),
        ])
    }

    /// The manifests of a chart.
    pub fn render(&self, chart: &str, values: &Value) -> Vec<Value> {
        let output = self.template(chart, values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        documents.into_iter().filter(|document| !document.is_null()).collect()
    }
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
