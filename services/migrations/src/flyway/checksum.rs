//! Flyway's checksum of a file: CRC-32 over its lines without what ends them, as a signed number.

use crc::{CRC_32_ISO_HDLC, Crc};

/// `java.util.zip.CRC32`.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The checksum of a text. A byte order mark before the first line does not count; `\n`, `\r` and `\r\n` end a line.
pub fn checksum(text: &str) -> i32 {
    let mut digest = CRC.digest();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.split(['\n', '\r']) {
        digest.update(line.as_bytes());
    }
    digest.finalize().cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_that_of_java() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum("123456789"), 0xcbf4_3926_u32.cast_signed());
        assert_eq!(checksum(""), 0);
    }

    proptest! {
        #[test]
        fn neither_ends_of_lines_nor_the_mark_count(lines in proptest::collection::vec("[a-zä ;]{0,10}", 0..5)) {
            let unix = checksum(&lines.join("\n"));
            prop_assert_eq!(unix, checksum(&lines.join("\r\n")));
            prop_assert_eq!(unix, checksum(&format!("\u{feff}{}\n", lines.join("\r"))));
            prop_assert_eq!(unix, checksum(&lines.concat()));
        }
    }
}
