//! Environments of a few fragments, written in a test.

use std::path::{Path, PathBuf};

use lifecycle::document::{Environment, Source};

/// An environment of documents, each a fragment's name and namespace and what it says.
pub fn environment(uid: u128, fragments: &[(&str, &str)]) -> Environment {
    let sources = fragments.iter().map(|(name, more)| {
        let text = fragment(uid, name, more);
        let document = chassis::documents::parse(&format!("{name}.yaml"), &text).unwrap();
        Source { file: format!("{name}.yaml"), document }
    });
    let merged = Environment::merge(sources);
    assert_eq!(merged.problems, []);
    merged.environment.unwrap()
}

/// The same as a folder of files.
pub fn folder(dir: &Path, uid: u128, fragments: &[(&str, &str)]) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    for (name, more) in fragments {
        std::fs::write(dir.join(format!("{name}.yaml")), fragment(uid, name, more)).unwrap();
    }
    dir.to_owned()
}

fn fragment(uid: u128, name: &str, more: &str) -> String {
    let uid = uuid::Uuid::from_u128(uid);
    format!(
        "rollcall: v1\nenvironment: {{name: dev, uid: {uid}}}\nfragment: {{name: {name}, namespace: {name}}}\n{more}\n"
    )
}
