//! The checked-in code is what the `.proto` files say. Write it anew with `ROLLCALL_WRITE=1 cargo test -p rollcall-proto`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;

const FILES: [&str; 7] = [
    "rollcall/lifecycle/v1/lifecycle.proto",
    "rollcall/lifecycle/v1/ownership.proto",
    "rollcall/diagnostics/v1/diagnostics.proto",
    "rollcall/diagnostics/v1/hub.proto",
    "rollcall/diagnostics/v1/provisioner.proto",
    "rollcall/diagnostics/v1/timeline.proto",
    "rollcall/provisioning/v1/provisioning.proto",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generate(out: &Path) {
    let descriptors = protox::compile(FILES, [root()]).unwrap();
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .btree_map(".")
        // It holds a credential.
        .skip_debug([".rollcall.provisioning.v1.RoleVerifier"])
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .unwrap();
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn checked_in_code_is_what_the_proto_files_say() {
    let checked_in = root().join("src/gen");
    if std::env::var_os("ROLLCALL_WRITE").is_some() {
        generate(&checked_in);
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    let (want, have) = (contents(fresh.path()), contents(&checked_in));
    for (file, bytes) in &want {
        assert!(
            have.get(file) == Some(bytes),
            "proto/src/gen/{file} is stale; run `ROLLCALL_WRITE=1 cargo test -p rollcall-proto`"
        );
    }
    assert_eq!(want.len(), have.len(), "proto/src/gen holds files that no .proto file makes");
}

#[test]
fn every_proto_file_is_compiled() {
    let mut found = Vec::new();
    let mut folders = vec![root().join("rollcall")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    let mut listed = FILES.map(str::to_owned).to_vec();
    listed.sort();
    assert_eq!(found, listed);
}
