//! What a process must be allowed to do before it can make a node.

use crate::Error;

/// Who it is and what it may do, as the kernel says.
const STATUS: &str = "/proc/self/status";
/// What is needed besides being root, by number (`linux/capability.h`): the network link; namespaces and mounts.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Says what is missing, before anything was begun.
pub(super) fn check() -> Result<(), Error> {
    let status = std::fs::read_to_string(STATUS).map_err(|source| Error::io("read", STATUS, source))?;
    let missing = missing(nix::unistd::geteuid().is_root(), &status);
    if missing.is_empty() { Ok(()) } else { Err(Error::Privileges { missing: missing.join(", ") }) }
}

fn missing(root: bool, status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    // What cannot be read is not taken for granted.
    let held = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let lacking = CAPABILITIES.into_iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| name);
    (!root).then_some("root").into_iter().chain(lacking).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        for (root, status, expected) in [
            (true, "Name:\tx\nCapEff:\t000001ffffffffff\n", vec![]),
            (true, "CapEff:\t000001fffeffffff\n", vec![]),
            (true, "CapEff:\t00000000a80425fb\n", vec!["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
            (true, "CapEff:\t0000000000201000\n", vec![]),
            (true, "CapEff:\t0000000000200000\n", vec!["CAP_NET_ADMIN"]),
            (false, "CapEff:\t0000000000000000\n", vec!["root", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
            (true, "", vec!["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        ] {
            assert_eq!(missing(root, status), expected, "{status}");
        }
    }
}
