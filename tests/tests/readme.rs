//! The README says what is so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;

use acceptance::{environment, root};
use chassis::settings::KEYS;
use lifecycle::Graph;

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The text between the fences of the first block of this language.
fn block(text: &str, language: &str) -> String {
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_table_of_settings_is_the_services_own() {
    let mut table = "| variable | default | meaning |\n|---|---|---|\n".to_owned();
    for key in KEYS {
        writeln!(table, "| `{}` | {} | {} |", key.name, key.default, key.meaning).unwrap();
    }
    assert!(readme().contains(&table), "the README's table of settings should be:\n{table}");
}

#[test]
fn the_sample_document_is_right() {
    let environment = environment(&[block(&readme(), "yaml")]);
    assert_eq!(Graph::of(&environment).check(&environment), vec![]);
}

#[test]
fn every_folder_of_the_map_exists() {
    let text = readme();
    let (_, map) = text.split_once("## Map of the code").unwrap();
    let mut found = 0;
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap();
        for name in cell.split('`').filter(|part| part.ends_with('/')) {
            let folder = root().join(name);
            let service = root().join("services").join(name);
            assert!(folder.is_dir() || service.is_dir(), "{name} does not exist");
            found += 1;
        }
    }
    assert!(found > 10);
}
