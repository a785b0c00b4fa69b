//! The end of a chart's README: its values as a table.

use std::path::Path;

use serde_json::Value;

use super::described::described;

/// What the table stands under; everything after it is made.
const HEADING: &str = "## Values\n";

/// The README that a chart should have: what people wrote, and a table of its values.
pub fn readme(chart: &Path) -> String {
    let text = std::fs::read_to_string(chart.join("README.md")).unwrap_or_default();
    let written = text.split(HEADING).next().unwrap_or_default();
    let rows = described(chart).into_iter().map(|value| {
        let default = if value.is_group { String::new() } else { shown(&value.default) };
        format!("| `{}` | {default} | {} |\n", value.path.join("."), value.meaning.replace('|', "\\|"))
    });
    let rows: String = rows.collect();
    format!(
        "{written}{HEADING}\nMade from `values.yaml`.\n\n| value | default | meaning |\n|---|---|---|\n{rows}"
    )
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Null => "none".to_owned(),
        other => format!("`{other}`"),
    }
}
