//! The README says what is so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;

use acceptance::{environment, root};
use chassis::settings::KEYS;
use lifecycle::Graph;

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The texts between the fences of the blocks of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
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
fn the_sample_documents_are_right_one_by_one_and_together() {
    let samples = blocks(&readme(), "yaml");
    assert_eq!(samples.len(), 3);
    let environment = environment(&samples);
    assert_eq!(Graph::of(&environment).check(&environment), vec![]);
}

#[test]
fn the_sample_of_postgres_init_is_right() {
    let text = std::fs::read_to_string(root().join("services/postgres-init/README.md")).unwrap();
    let samples = blocks(&text, "yaml");
    assert_eq!(samples.len(), 1);
    let head = "rollcall: v1
environment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
fragment: {name: registry, namespace: dev}
uses: {postgres: {main: {host: postgresql}}}
secrets: {registry-db: {external: true}, superset-db: {external: true}}
";
    environment(&[format!("{head}{}", samples[0])]);
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
