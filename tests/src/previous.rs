//! The release before this one, its program and its charts: what still runs while an environment is upgraded.
//!
//! Its source is `tests/previous.tar.gz`. A new release puts itself there:
//! `git archive TAG -- Cargo.toml Cargo.lock proto services charts tests ':!services/*/tests' ':!tests/tests' ':!tests/previous.tar.gz' | gzip -9n`

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::Alone;
use crate::{binary, programs_of, root};

/// What runs in environments that are about to be upgraded.
pub struct Previous {
    /// Its `rollcall`.
    pub program: PathBuf,
    /// Its source, in which its charts are.
    pub source: PathBuf,
}

impl Previous {
    /// From its source and not from the history, which a clone may lack. Built when it is first asked for, in the profile of these
    /// tests, and kept in the target directory. No node has to bear with a compiler beside it: whoever asks starts one later.
    pub fn get(_alone: &Alone) -> Previous {
        let archive = root().join("tests/previous.tar.gz");
        // Where Cargo puts what it builds: target/debug/rollcall.
        let today = binary().parent().unwrap();
        let kept = today.parent().unwrap().join("previous");
        let previous = Previous { program: kept.join("rollcall"), source: kept.join("source") };
        // Copied last, so it tells that all of it is there, and of which release.
        let built = kept.join("source.tar.gz");
        if fs::read(&built).ok() != fs::read(&archive).ok() {
            let _ = fs::remove_dir_all(&kept);
            unpack(&archive, &previous.source);
            let target = kept.join("target");
            lend(today, &target.join("debug"));
            let programs = programs_of(&previous.source, Some(&target), "dev", &["rollcall"]);
            fs::copy(&programs["rollcall"], &previous.program).unwrap();
            fs::remove_dir_all(&target).unwrap();
            let partial = kept.join("partial");
            fs::copy(&archive, &partial).unwrap();
            fs::rename(&partial, &built).unwrap();
        }
        previous
    }
}

/// Lends what both stand on, compiled, to another target directory. Not what is built from this repository: Cargo calls a crate of the
/// same name and place in another copy of it the same, and would take one for the other.
fn lend(from: &Path, to: &Path) {
    let own = own();
    for folder in [".fingerprint", "build", "deps"] {
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // `lib<crate>-<hash>.rlib`, `<crate>-<hash>.d`, `<package>-<hash>/`
            let Some((stem, _)) = name.rsplit_once('-') else { continue };
            let is_own =
                [stem, stem.trim_start_matches("lib")].iter().any(|one| own.contains(&one.replace('-', "_")));
            let is_test = folder == "deps" && path.extension().is_none();
            if !is_own && !is_test {
                link(&path, &to.join(folder).join(name));
            }
        }
    }
}

/// Our own crates.
fn own() -> BTreeSet<String> {
    let services = fs::read_dir(root().join("services")).unwrap().map(|entry| entry.unwrap().path());
    let members = services.chain([root().join("proto"), root().join("tests")]);
    let name = |member: PathBuf| {
        let manifest = fs::read_to_string(member.join("Cargo.toml")).unwrap();
        let line = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
        line.trim_end_matches('"').replace('-', "_")
    };
    members.map(name).collect()
}

/// One more name for a file, and for each file of a folder.
fn link(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            link(&path, &to.join(path.file_name().unwrap()));
        }
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::hard_link(from, to).unwrap();
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("-xzf").arg(archive).current_dir(into).status().unwrap();
    assert!(unpacked.success(), "{} could not be unpacked", archive.display());
}
