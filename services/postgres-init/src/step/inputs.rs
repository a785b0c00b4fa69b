//! What goes into a step, as a hash: when it is another one, the step was done with something else.

use std::path::PathBuf;

use lifecycle::sha256_hex;

/// Why inputs cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// A file cannot be read.
    #[error("--input {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// A variable is not there.
    #[error("--env {0}: there is no such variable; name one that the command gets")]
    NoVariable(String),
}

/// The command with its arguments, these files' contents and these variables' values.
pub(super) fn hash(
    command: &[String],
    files: &[PathBuf],
    variables: &[String],
) -> Result<String, InputError> {
    let mut facts: Vec<String> = vec!["step inputs v1".to_owned(), command.len().to_string()];
    facts.extend(command.iter().cloned());
    for path in files {
        let bytes =
            std::fs::read(path).map_err(|error| InputError::Unreadable { path: path.clone(), error })?;
        facts.push(format!("file {}", path.display()));
        facts.push(migrations::journal::sha256([bytes.as_slice()]));
    }
    for name in variables {
        let value = std::env::var_os(name).ok_or_else(|| InputError::NoVariable(name.clone()))?;
        facts.push(format!("variable {name}"));
        facts.push(value.to_string_lossy().into_owned());
    }
    let facts: Vec<&str> = facts.iter().map(String::as_str).collect();
    Ok(sha256_hex(&facts))
}
