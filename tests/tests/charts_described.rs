//! What is made from a chart's `values.yaml` is what stands beside it. Write it anew with
//! `ROLLCALL_WRITE=1 cargo test -p acceptance --test charts_described`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use acceptance::charts::{described, readme::readme, schema::schema};
use acceptance::root;

/// Every chart, the library among them.
fn charts() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("charts")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("Chart.yaml").is_file()).collect()
}

/// Compares a file with what it should be, or writes it.
fn is(file: &Path, should: &str) {
    if std::env::var_os("ROLLCALL_WRITE").is_some() {
        std::fs::write(file, should).unwrap();
    }
    let is = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        is == should,
        "{} is stale; run `ROLLCALL_WRITE=1 cargo test -p acceptance --test charts_described`",
        file.display()
    );
}

#[test]
fn schemas_are_made_from_values_and_from_the_types_that_read_documents() {
    for chart in charts() {
        let text = serde_json::to_string_pretty(&schema(&chart)).unwrap() + "\n";
        is(&chart.join("values.schema.json"), &text);
    }
}

#[test]
fn readmes_end_with_the_values() {
    for chart in charts() {
        assert_eq!(described::undescribed(&chart), Vec::<String>::new(), "{}", chart.display());
        is(&chart.join("README.md"), &readme(&chart));
    }
}

/// One version for everything: an image's tag is the chart's version, and the library's is told to charts of others.
#[test]
fn everything_has_one_version() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let version =
        metadata.packages.iter().find(|package| *package.name == "rollcall").unwrap().version.to_string();
    for chart in charts() {
        let text = std::fs::read_to_string(chart.join("Chart.yaml")).unwrap();
        let says: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            (&says["version"], &says["appVersion"]),
            (&version.clone().into(), &version.clone().into()),
            "{text}"
        );
        for dependency in says["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], version.as_str());
        }
    }
    let library = std::fs::read_to_string(root().join("charts/common/templates/_kinds.tpl")).unwrap();
    assert!(library.contains(&format!("{{{{- define \"rollcall.version\" -}}}}{version}{{{{- end -}}}}")));
}

/// What a README tells people to write is what the tests try.
#[test]
fn the_documented_lines_are_the_tried_ones() {
    let readme = std::fs::read_to_string(root().join("charts/common/README.md")).unwrap();
    for (file, line) in [
        (
            "own/Chart.yaml",
            "{name: common, alias: rollcall, version: 0.1.0, repository: \"file://../common\"}",
        ),
        ("own/templates/deployment.yaml", "{{- include \"rollcall.wait\" . | nindent 8 }}"),
        ("own/templates/deployment.yaml", "{{- include \"rollcall.sidecar\" . | nindent 8 }}"),
        ("own/templates/deployment.yaml", "{{- include \"rollcall.volumes\" . | nindent 8 }}"),
        ("own/templates/rollcall.yaml", "{{ include \"rollcall.rights\" . }}"),
        ("own/templates/rollcall.yaml", "{{ include \"rollcall.configmap\" . }}"),
        ("digit-service/values.yaml", "  extraInitContainers: |\n    {{- include \"rollcall.wait\" . }}"),
        ("umbrella/values.yaml", "  initContainers: |\n    {{- include \"rollcall.wait\" . }}"),
        ("../tests/charts_waiting.rs", "{{- include \"rollcall.wait\" . | nindent 6 }}"),
    ] {
        let tried = std::fs::read_to_string(root().join("tests/charts").join(file)).unwrap();
        let same = tried.contains(line) || tried.contains(&line.replace('"', "\\\""));
        assert!(readme.contains(line) && same, "{file}: {line}");
    }
}

/// The line that turns a folder of documents into values does.
#[test]
fn a_folder_becomes_values_by_the_line_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("charts/environment/README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("{ echo fragments:")).unwrap();
    let line = line.replace("my-env", "charts/environments/openg2p").replace("> fragments.yaml", "");
    let made = std::process::Command::new("sh").args(["-c", &line]).current_dir(root()).output().unwrap();
    let made: serde_json::Value = serde_saphyr::from_str(&String::from_utf8(made.stdout).unwrap()).unwrap();
    let mut documents = made["fragments"].as_object().unwrap().iter();
    assert_eq!(documents.clone().count(), 6);
    assert!(documents.all(|(name, document)| document["fragment"]["name"] == name.as_str()));
}
