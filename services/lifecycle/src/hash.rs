//! One way to hash: SHA-256 as lower-case hexadecimal.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SHA-256 over `parts`, lower-case hexadecimal. A zero byte ends each part but the last, so ("ab", "c") and
/// ("a", "bc") differ.
pub fn sha256_hex(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hasher.update([0]);
        }
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
