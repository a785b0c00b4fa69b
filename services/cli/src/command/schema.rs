//! `rollcall schema`: the JSON Schema of documents.

use chassis::Failure;

/// Prints the JSON Schema of documents, generated from the types that read them.
pub fn run() -> Result<(), Failure> {
    let schema = lifecycle::document::Document::json_schema();
    crate::output::line(&serde_json::to_string_pretty(&schema).map_err(Failure::internal)?)
}
