//! A folder of files as a source of settings: one file a key, as Kubernetes mounts a ConfigMap.

use std::fs;
use std::path::Path;

use config::{ConfigError, Map, Source, Value, ValueKind};

/// The files of one folder: name and content.
#[derive(Debug, Clone)]
pub(super) struct Folder(Vec<(String, String)>);

impl Folder {
    /// Reads every file but hidden ones (Kubernetes keeps `..data` there).
    pub(super) fn read(folder: &Path) -> Result<Self, ConfigError> {
        let failed = |path: &Path, error: &std::io::Error| {
            ConfigError::Message(format!("{}: {error}", path.display()))
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
            let path = entry.map_err(|error| failed(folder, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            // Editors and YAML blocks end a file with a newline that nobody means.
            files.push((name, text.strip_suffix('\n').unwrap_or(&text).to_owned()));
        }
        Ok(Folder(files))
    }

    /// The files' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Source for Folder {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let origin = "the settings folder".to_owned();
        let filled = self.0.iter().filter(|(_, value)| !value.is_empty());
        Ok(filled
            .map(|(name, value)| {
                let key = name.strip_prefix(super::PREFIX).unwrap_or(name).to_lowercase();
                (key, Value::new(Some(&origin), ValueKind::String(value.clone())))
            })
            .collect())
    }
}
