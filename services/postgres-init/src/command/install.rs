//! `postgres-init install`: this program with everything that it stands on, for the images of others, which need not have its C library,
//! nor any.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chassis::{Exit, Failure};

/// What loads a program and its libraries (ld.so(8)), under one name for every processor.
const LOADER: &str = "ld.so";
/// The program.
const PROGRAM: &str = "postgres-init";
/// For everybody to read and to execute, whoever runs what is installed.
const MODE: u32 = 0o755;

/// Copies this program, its loader and its libraries into a folder, each whole or not at all. There
/// `ld.so --library-path FOLDER FOLDER/postgres-init` runs it whatever else there is.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn install(folder: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: &io::Error| {
        Failure::new(
            Exit::NeverWorks,
            format!("{}: {error}; give a folder that can be written", path.display()),
        )
    };
    let own = std::env::current_exe().map_err(|error| failed(Path::new("/proc/self/exe"), &error))?;
    copy(&own, &folder.join(PROGRAM)).map_err(|error| failed(folder, &error))?;
    let maps = Path::new("/proc/self/maps");
    let maps = fs::read_to_string(maps).map_err(|error| failed(maps, &error))?;
    for library in libraries(&maps) {
        let name = library.file_name().unwrap_or_default();
        let name = if is_loader(&library) { LOADER.as_ref() } else { name };
        copy(&library, &folder.join(name)).map_err(|error| failed(folder, &error))?;
    }
    Ok(())
}

/// The shared libraries among what a process has mapped, the loader with them, from its `/proc/PID/maps` (proc_pid_maps(5)).
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_library = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        // `libc.so.6` as well as `libc.so`.
        format!("{name}.").contains(".so.")
    };
    paths.filter(is_library).map(PathBuf::from).collect()
}

/// `ld-linux-x86-64.so.2`, `ld-linux-aarch64.so.1`.
fn is_loader(library: &Path) -> bool {
    library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    // Beside it: a file that is renamed within a folder is there whole or not at all.
    let beside = to.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::copy(from, &beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))?;
    fs::rename(&beside, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_is_mapped_and_is_one() {
        let maps = "\
55d0 r--p 00000000 fe:01 131 /usr/local/bin/postgres-init
7f10 r--p 00000000 fe:01 402 /usr/lib/x86_64-linux-gnu/libc.so.6
7f11 r-xp 00026000 fe:01 402 /usr/lib/x86_64-linux-gnu/libc.so.6
7f12 rw-p 00000000 00:00 0
7f13 r--p 00000000 fe:01 399 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7f14 r--s 00000000 fe:01 777 /usr/lib/locale/locale-archive
7ffd rw-p 00000000 00:00 0 [stack]
";
        let found: Vec<PathBuf> = libraries(maps).into_iter().collect();
        let names = ["ld-linux-x86-64.so.2", "libc.so.6"];
        assert_eq!(found, names.map(|name| Path::new("/usr/lib/x86_64-linux-gnu").join(name)));
        assert_eq!(found.iter().map(|path| is_loader(path)).collect::<Vec<_>>(), [true, false]);
    }
}
