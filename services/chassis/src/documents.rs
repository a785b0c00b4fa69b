//! Reading documents: YAML and JSON files, one document each, strictly, with errors that name file and key.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use lifecycle::Graph;
use lifecycle::document::{Document, Environment, Merged, Problem, Source};

use crate::Failure;

/// Reads the documents at `paths`: files, or folders whose `.yaml`, `.yml` and `.json` files are read. A file that does
/// not parse or check is refused whole, and only it; what the others declare is merged.
pub fn load(paths: &[PathBuf]) -> Merged {
    let mut problems = Vec::new();
    let mut sources = Vec::new();
    for path in paths {
        for file in files(path, &mut problems) {
            match read(&file) {
                Ok(document) => sources.push(Source { file: file.display().to_string(), document }),
                Err(found) => problems.extend(found),
            }
        }
    }
    let mut merged = Environment::merge(sources);
    merged.problems.extend(problems);
    merged.problems.sort();
    merged
}

/// Reads documents and refuses anything that is wrong in them or between them: what `rollcall check` does.
pub fn load_complete(paths: &[PathBuf]) -> Result<Environment, Failure> {
    let Merged { environment, mut problems } = load(paths);
    if let Some(environment) = &environment {
        problems.extend(Graph::of(environment).check(environment));
    }
    match environment {
        Some(environment) if problems.is_empty() => Ok(environment),
        _ => Err(refusal(&problems)),
    }
}

/// Reads documents and goes on with those that are right. The problems of the others come along; it fails when no
/// document is left.
pub fn load_partial(paths: &[PathBuf]) -> Result<(Environment, Vec<Problem>), Failure> {
    let Merged { environment, problems } = load(paths);
    match environment {
        Some(environment) => Ok((environment, problems)),
        None => Err(refusal(&problems)),
    }
}

/// One message for invalid documents: exit code 2.
pub fn refusal(problems: &[Problem]) -> Failure {
    if problems.is_empty() {
        return Failure::usage("no documents: name files or folders, or set ROLLCALL_DOCUMENTS");
    }
    Failure::usage(problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))
}

/// Parses the text of one document that was read from `file`.
pub fn parse(file: &str, text: &str) -> Result<Document, Vec<Problem>> {
    let problem = |key: String, message: String| Problem { file: file.to_owned(), key, message };
    // Duplicate keys are errors here; figment would silently keep the last. Only `true` and `false` are booleans, so that
    // a key named `on` stays what it is.
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options)
        // In the words for whoever wrote the document, not for whoever called the library.
        .map_err(|error| {
            vec![problem(String::new(), error.render_with_formatter(&serde_saphyr::UserMessageFormatter))]
        })?;
    let Value::Dict(_, dict) = value else {
        return Err(vec![problem(
            String::new(),
            "is not a map; a document begins with `rollcall: v1`".to_owned(),
        )]);
    };
    let parsed = Parsed { file: file.to_owned(), dict };
    Figment::from(parsed)
        .extract()
        .map_err(|error| error.into_iter().map(|e| problem(e.path.join("."), e.kind.to_string())).collect())
}

fn read(file: &Path) -> Result<Document, Vec<Problem>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        vec![Problem { file: name.clone(), key: String::new(), message: format!("cannot be read: {error}") }]
    })?;
    parse(&name, &text)
}

/// The files a path stands for, in the order of their names.
fn files(path: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut problem = |message: String| {
        problems.push(Problem { file: path.display().to_string(), key: String::new(), message });
        Vec::new()
    };
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return problem(format!("cannot be read: {error}")),
    };
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        // A mounted ConfigMap keeps its old and new contents in folders that begin with a dot.
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known))
        })
        .collect();
    found.sort();
    if found.is_empty() {
        return problem("holds no .yaml, .yml or .json file".to_owned());
    }
    found
}

/// A parsed file as figment sees it, so that its errors carry the key.
struct Parsed {
    file: String,
    dict: Dict,
}

impl Provider for Parsed {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.file.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "
rollcall: v1
environment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
fragment: {name: base, namespace: dev}
";

    fn problem(more: &str) -> String {
        let found = parse("base.yaml", &format!("{BASE}{more}")).unwrap_err();
        found.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn yaml_and_json_give_the_same_document() {
        let yaml =
            parse("a", &format!("{BASE}modules: {{web: {{ready: {{tcp: {{address: 'h:1'}}}}}}}}\n")).unwrap();
        let json = parse("b", &yaml.canonical_json().unwrap()).unwrap();
        assert_eq!(yaml, json);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_key() {
        for (more, says) in [
            ("datbases: {}", "datbases"),
            ("modules: {web: {redy: {}}}", "base.yaml: modules.web"),
            ("topics: {t: {kafka: main, partitions: many}}", "topics.t.partitions"),
            (
                "topics: {t: {kafka: main, partitions: 1, config: {retention.ms: 5}}}",
                "topics.t.config.retention.ms",
            ),
            ("modules: {web: {}}\nmodules: {api: {}}", "duplicate"),
            ("modules: {web: {}, web: {}}", "duplicate"),
            ("modules: {web: {needs: [databse/x]}}", "`databse`"),
            ("modules: {web: {needs: [{component: module/x, wihtin: 1m}]}}", "wihtin"),
            ("modules: {web: [", "base.yaml"),
            ("---\nrollcall: v1\n", "base.yaml"),
        ] {
            let text = problem(more);
            assert!(text.contains(says), "{more}: {text}");
        }
    }

    #[test]
    fn a_key_named_on_stays_a_key() {
        assert!(problem("on: {}").contains("`on`"));
    }

    #[test]
    fn a_broken_file_is_refused_and_only_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("good.yaml"), BASE).unwrap();
        std::fs::write(dir.path().join("bad.yaml"), "rollcall: [").unwrap();
        let merged = load(&[dir.path().to_owned()]);
        assert_eq!(merged.environment.unwrap().sources().count(), 1);
        assert_eq!(merged.problems.len(), 1);
        assert!(merged.problems[0].file.ends_with("bad.yaml"));
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load_partial(&[]).unwrap_err().message.contains("no documents"));
        assert!(load_partial(&[dir.path().to_owned()]).unwrap_err().message.contains("holds no .yaml"));
        assert!(
            load_partial(&[dir.path().join("none.yaml")]).unwrap_err().message.contains("cannot be read")
        );
    }
}
