//! Without the rights that a node takes it is said what is missing; and with a cluster that is there already none is needed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::leftovers::Owner;

#[test]
fn what_a_node_may_not_do_is_said_before_anything_is_begun() {
    let temporary = tempfile::tempdir().expect("a directory");
    // Root gives the right away; anybody else never had it.
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin", env!("CARGO_BIN_EXE_sandbox-owner")]);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_sandbox-owner"))
    };
    command.args([env!("CARGO_BIN_EXE_sandbox-supervisor"), "node"]).env_remove("SANDBOX_KUBECONFIG");
    let output = command.env("TMPDIR", temporary.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("Privileges") && said.contains("CAP_NET_ADMIN"),
        "{said}"
    );
}

#[test]
fn a_cluster_that_is_given_is_used_as_it_is() {
    let temporary = tempfile::tempdir().expect("a directory");
    let (kubeconfig, loaded) = (temporary.path().join("kubeconfig"), temporary.path().join("loaded"));
    std::fs::write(&kubeconfig, "{}").expect("written");
    std::fs::create_dir(&loaded).expect("made");
    let (kubeconfig, load) =
        (kubeconfig.display().to_string(), format!("cp --target-directory={}", loaded.display()));
    let variables = [
        ("SANDBOX_KUBECONFIG", kubeconfig.as_str()),
        ("SANDBOX_LOAD_IMAGE", load.as_str()),
        ("SANDBOX_HOST_ADDRESS", "172.18.0.1"),
    ];
    let host = Owner::start(temporary.path(), &variables).ready();
    assert_eq!(host, Ipv4Addr::new(172, 18, 0, 1));
    let archives = std::fs::read_dir(loaded).expect("readable").flatten();
    let begins_well = |path: &Path| {
        let mut archive = std::fs::File::open(path).expect("readable");
        let mut name = [0; 10];
        std::io::Read::read_exact(&mut archive, &mut name).expect("long enough");
        &name == b"oci-layout"
    };
    let found: Vec<bool> = archives.map(|entry| begins_well(&entry.path())).collect();
    assert_eq!(found, [true], "one image archive was handed over");
}
