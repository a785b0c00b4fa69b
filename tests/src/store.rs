//! What a stage's store of Secrets holds, so that "nothing changed" can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rollcall::rehearse::Stage;

/// Inode, time of change in seconds and nanoseconds, content.
pub type Facts = (u64, i64, i64, Vec<u8>);

/// Every file of the store.
pub fn all(stage: &Stage) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    for file in files(&stage.secrets()) {
        let facts = fs::metadata(&file).unwrap();
        let content = fs::read(&file).unwrap();
        found.insert(file, (facts.ino(), facts.mtime(), facts.mtime_nsec(), content));
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
