//! The release before this one, its program and its charts: what still runs while an environment is upgraded.
//!
//! Its source is `tests/previous.tar.gz`. A new release puts itself there:
//! `git archive TAG -- Cargo.toml Cargo.lock proto services charts tests ':!services/*/tests' ':!tests/tests' ':!tests/previous.tar.gz' | gzip -9n`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::Alone;
use crate::{binary, programs, programs_of, root};

/// What runs in environments that are about to be upgraded.
pub struct Previous {
    /// Its `rollcall`.
    pub program: PathBuf,
    /// Its source, in which its charts are.
    pub source: PathBuf,
}

impl Previous {
    /// From its source and not from the history, which a clone may lack. Built when it is first asked for,
    /// in the profile of these tests and with what they have compiled already, and kept in the target directory. Nothing may
    /// start today's program meanwhile, and no node has to bear with a compiler beside it: whoever asks starts one later.
    pub fn get(_alone: &Alone) -> Previous {
        let archive = root().join("tests/previous.tar.gz");
        // Where Cargo puts what it builds: target/debug/rollcall.
        let target = binary().parent().unwrap().parent().unwrap();
        let kept = target.join("previous");
        let previous = Previous { program: kept.join("rollcall"), source: kept.join("source") };
        // Copied last, so it tells that all of it is there, and of which release.
        let built = kept.join("source.tar.gz");
        if fs::read(&built).ok() != fs::read(&archive).ok() {
            let _ = fs::remove_dir_all(&kept);
            unpack(&archive, &previous.source);
            {
                let _today = Today;
                let built = programs_of(&previous.source, Some(target), "dev", &["rollcall"]);
                fs::copy(&built["rollcall"], &previous.program).unwrap();
            }
            let partial = kept.join("partial");
            fs::copy(&archive, &partial).unwrap();
            fs::rename(&partial, &built).unwrap();
        }
        previous
    }
}

/// Both are built into one folder under one name: today's is put back, also when the other could not be built.
struct Today;

impl Drop for Today {
    fn drop(&mut self) {
        programs("dev", &["rollcall"]);
    }
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("-xzf").arg(archive).current_dir(into).status().unwrap();
    assert!(unpacked.success(), "{} could not be unpacked", archive.display());
}
