//! What a chart's `values.yaml` says: each value with its default and the comment above it. READMEs and schemas are made of it.

use std::path::Path;

use serde_json::Value;

/// One value of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its keys, from the outermost.
    pub path: Vec<String>,
    /// What holds when the user says nothing.
    pub default: Value,
    /// The comment above it, on one line.
    pub meaning: String,
    /// Its own values have comments too.
    pub is_group: bool,
}

/// A chart's values as they are when the user says nothing.
pub fn defaults(chart: &Path) -> Value {
    serde_saphyr::from_str(&text(chart)).unwrap()
}

/// The values of a chart that have a comment, in the order of the file.
pub fn described(chart: &Path) -> Vec<Described> {
    let defaults = defaults(chart);
    let mut found: Vec<Described> = Vec::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<String> = Vec::new();
    for line in text(chart).lines() {
        let bare = line.trim_start();
        if let Some(said) = bare.strip_prefix('#') {
            comment.push(said.trim().to_owned());
            continue;
        }
        let said = std::mem::take(&mut comment).join(" ");
        let Some((key, _)) = bare.split_once(':') else { continue };
        let indent = line.len() - bare.len();
        open.retain(|(depth, _)| *depth < indent);
        open.push((indent, key.to_owned()));
        if !said.is_empty() {
            let path: Vec<String> = open.iter().map(|(_, key)| key.clone()).collect();
            let default = path.iter().fold(&defaults, |value, key| &value[key]).clone();
            found.push(Described { path, default, meaning: said, is_group: false });
        }
    }
    let paths: Vec<Vec<String>> = found.iter().map(|value| value.path.clone()).collect();
    for value in &mut found {
        value.is_group = is_within(&paths, &value.path);
    }
    found
}

/// Whether some other path begins with this one.
pub(super) fn is_within(paths: &[Vec<String>], path: &[String]) -> bool {
    paths.iter().any(|inner| inner.len() > path.len() && inner.starts_with(path))
}

/// The values that no comment speaks of, neither their own nor that of what they are part of.
pub fn undescribed(chart: &Path) -> Vec<String> {
    let described: Vec<Vec<String>> =
        described(chart).into_iter().filter(|value| !value.is_group).map(|value| value.path).collect();
    let mut open = vec![(Vec::new(), defaults(chart))];
    let mut missing = Vec::new();
    while let Some((path, value)) = open.pop() {
        if described.iter().any(|known| path.starts_with(known)) {
            continue;
        }
        match value {
            Value::Object(map) if !map.is_empty() => {
                open.extend(map.into_iter().map(|(key, value)| ([path.clone(), vec![key]].concat(), value)));
            }
            _ => missing.push(path.join(".")),
        }
    }
    missing
}

fn text(chart: &Path) -> String {
    std::fs::read_to_string(chart.join("values.yaml")).unwrap()
}
