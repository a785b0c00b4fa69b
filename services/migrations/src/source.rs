//! A set of files as it was at one moment: from a folder, a mounted ConfigMap, or given as bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// All files of a set together; a ConfigMap may hold 1 MiB, MOSIP's master data are 0.5 MiB.
const BYTES: u64 = 64 * 1024 * 1024;
/// Files of a set; the largest of DIGIT's services has 104.
const FILES: usize = 10_000;
/// Folders within folders; more than that is a link that leads back.
const DEPTH: usize = 16;
/// The link that a kubelet exchanges when it brings a new version of a volume.
const VOLUME: &str = "..data";

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refuses.
    #[error("{path}: cannot be read; check that it is there and readable")]
    Unreadable {
        /// Which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A link leads out of the folder.
    #[error("{path}: leads out of {root}, to {target}; put a copy of the file there")]
    Outside {
        /// The link.
        path: PathBuf,
        /// The folder of the set.
        root: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("{0}: neither a file nor a folder; take it away")]
    Special(PathBuf),
    /// A path that is not text cannot be named in a history.
    #[error("{0}: the name is not UTF-8; rename it")]
    Name(PathBuf),
    /// Too large.
    #[error(
        "{0}: more than {BYTES} bytes or {FILES} files below it, or {DEPTH} folders deep; is it the right folder?"
    )]
    TooLarge(PathBuf),
}

/// Files by path, with `/` between folders, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    files: BTreeMap<String, Vec<u8>>,
}

/// A file is not text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: not UTF-8; save the file as UTF-8")]
pub struct NotText {
    /// The line of the first byte that is not text.
    pub line: usize,
}

impl Sources {
    /// Reads all files below a folder. Of a mounted ConfigMap or Secret it reads one version, also while a new one is brought.
    pub fn read(folder: &Path) -> Result<Sources, SourceError> {
        let volume = folder.join(VOLUME);
        let unreadable = |source| SourceError::Unreadable { path: folder.to_owned(), source };
        let chosen = if volume.is_dir() { &volume } else { folder };
        let root = chosen.canonicalize().map_err(unreadable)?;
        let mut reader = Reader { root: root.clone(), files: BTreeMap::new(), bytes: 0 };
        reader.folder(&root, "", DEPTH)?;
        Ok(Sources { files: reader.files })
    }

    /// These files.
    pub fn of<P: Into<String>, B: Into<Vec<u8>>>(files: impl IntoIterator<Item = (P, B)>) -> Sources {
        Sources { files: files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect() }
    }

    /// These and those of another set, whose paths are put below a folder; the empty folder is the top. `Err` is the path of a
    /// file that both have.
    pub fn and(mut self, folder: &str, other: Sources) -> Result<Sources, String> {
        let folder = folder.trim_matches('/');
        for (path, bytes) in other.files {
            let path = if folder.is_empty() { path } else { format!("{folder}/{path}") };
            if self.files.insert(path.clone(), bytes).is_some() {
                return Err(path);
            }
        }
        Ok(self)
    }

    /// SHA-256 of all paths and files.
    pub fn hash(&self) -> String {
        crate::journal::sha256(
            self.files.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes.as_slice()]),
        )
    }

    /// The file with this path.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// The files below a folder, each with its path in that folder. The empty folder is all of them.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let folder = folder.trim_matches('/');
        self.files.iter().filter_map(move |(path, bytes)| {
            let rest = path.strip_prefix(folder)?;
            let rest = if folder.is_empty() { rest } else { rest.strip_prefix('/')? };
            Some((rest, bytes.as_slice()))
        })
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// A file's text, without the byte order mark that some editors put before it.
pub fn text(bytes: &[u8]) -> Result<&str, NotText> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        NotText { line: before.split(|b| *b == b'\n').count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The path that `path` is when it is looked up from the folder `from`; none when that leads out of all folders.
pub fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folder of a path; empty for a file at the top.
pub fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

struct Reader {
    root: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl Reader {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), SourceError> {
        let unreadable = |path: &Path, source| SourceError::Unreadable { path: path.to_owned(), source };
        if depth == 0 {
            return Err(SourceError::TooLarge(self.root.clone()));
        }
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| SourceError::Name(path.clone()))?;
            // What a kubelet keeps for itself.
            if name.starts_with("..") {
                continue;
            }
            let target = path.canonicalize().map_err(|error| unreadable(&path, error))?;
            if !target.starts_with(&self.root) {
                return Err(SourceError::Outside { path, root: self.root.clone(), target });
            }
            let meta = fs::metadata(&target).map_err(|error| unreadable(&path, error))?;
            let name = format!("{prefix}{name}");
            if meta.is_dir() {
                self.folder(&target, &format!("{name}/"), depth - 1)?;
            } else if meta.is_file() {
                self.bytes += meta.len();
                if self.bytes > BYTES || self.files.len() == FILES {
                    return Err(SourceError::TooLarge(self.root.clone()));
                }
                let bytes = fs::read(&target).map_err(|error| unreadable(&path, error))?;
                self.files.insert(name, bytes);
            } else {
                return Err(SourceError::Special(path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_mounted_config_map_is_read_as_one_version() {
        let root = tempfile::tempdir().unwrap();
        let version = root.path().join("..2026_01_01");
        fs::create_dir_all(version.join("seed")).unwrap();
        fs::write(version.join("V1__a.sql"), "SELECT 1").unwrap();
        fs::write(version.join("seed/V2__b.sql"), "SELECT 2").unwrap();
        symlink("..2026_01_01", root.path().join("..data")).unwrap();
        symlink("..data/V1__a.sql", root.path().join("V1__a.sql")).unwrap();
        symlink("..data/seed", root.path().join("seed")).unwrap();
        let sources = Sources::read(root.path()).unwrap();
        assert_eq!(sources, Sources::of([("V1__a.sql", "SELECT 1"), ("seed/V2__b.sql", "SELECT 2")]));
        assert_eq!(sources.below("seed").map(|(path, _)| path).collect::<Vec<_>>(), ["V2__b.sql"]);
        assert_eq!(sources.below("see").count(), 0);
    }

    #[test]
    fn what_leads_out_of_the_folder_or_in_circles_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("in"), root.path().join("secret"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, "x").unwrap();
        symlink("../secret", inside.join("a.sql")).unwrap();
        assert!(matches!(Sources::read(&inside), Err(SourceError::Outside { .. })));
        fs::remove_file(inside.join("a.sql")).unwrap();
        symlink(".", inside.join("again")).unwrap();
        assert!(matches!(Sources::read(&inside), Err(SourceError::TooLarge(_))));
        assert!(matches!(Sources::read(&root.path().join("none")), Err(SourceError::Unreadable { .. })));
    }

    #[test]
    fn paths_are_looked_up_and_never_lead_out() {
        assert_eq!(resolve("db/ddl", "./a.sql").as_deref(), Some("db/ddl/a.sql"));
        assert_eq!(resolve("db/ddl", "../dml/a.csv").as_deref(), Some("db/dml/a.csv"));
        assert_eq!(resolve("", "../a"), None);
        assert_eq!(text(b"a\nb\xff").unwrap_err().line, 2);
        assert_eq!(text(b"\xef\xbb\xbfa"), Ok("a"));
    }
}
