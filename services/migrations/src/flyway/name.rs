//! What a file's name says to Flyway.

use super::version::Version;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// `V1.2__what_it_does.sql`: once.
    Versioned {
        /// Its version.
        version: Version,
        /// Its description.
        description: String,
    },
    /// `R__what_it_does.sql`: again whenever it has changed.
    Repeatable {
        /// Its description.
        description: String,
    },
    /// `B1.2__what_it_does.sql`: instead of everything up to its version, where nothing has run yet.
    Baseline {
        /// Its version.
        version: Version,
        /// Its description.
        description: String,
    },
    /// `U1.2__what_it_does.sql`: what a person may run to undo; never run here.
    Undo,
    /// `….sql.conf`: how another file is run.
    Config,
    /// Named almost as a migration; Flyway leaves it out, and so do we.
    LeftOut,
    /// No migration.
    Other,
}

/// Reads a file's name. `Err` says what is wrong with one that looks like a migration and over which versions of Flyway would
/// stumble.
pub fn parse(path: &str) -> Result<File, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.ends_with(".sql.conf") {
        return Ok(File::Config);
    }
    let Some(stem) = name.strip_suffix(".sql") else {
        let almost = name.to_ascii_lowercase().ends_with(".sql");
        return Ok(if almost { File::LeftOut } else { File::Other });
    };
    if is_callback(stem) {
        return Err(
            "a callback, which is not run here; make it a repeatable migration, or take it away".to_owned()
        );
    }
    let Some((first @ ("R" | "U" | "V" | "B"), rest)) = stem.split_at_checked(1) else {
        return Ok(File::LeftOut);
    };
    let (version, description) = match rest.split_once("__") {
        Some((version, description)) => (version, description.replace('_', " ")),
        None => return Err(wrong(stem)),
    };
    match first {
        "R" if version.is_empty() => Ok(File::Repeatable { description }),
        "R" => Err("a repeatable migration has no version: name it `R__description.sql`".to_owned()),
        "U" => Ok(File::Undo),
        _ => {
            let version = Version::parse(version).map_err(|error| error.to_string())?;
            Ok(if first == "V" {
                File::Versioned { version, description }
            } else {
                File::Baseline { version, description }
            })
        }
    }
}

fn wrong(stem: &str) -> String {
    format!(
        "`{stem}` is no name of a migration: name it `V<version>__<description>.sql` or `R__<description>.sql`"
    )
}

/// `beforeMigrate`, `afterEachMigrate__what.sql` and their like.
fn is_callback(stem: &str) -> bool {
    let event = stem.split("__").next().unwrap_or(stem);
    let then = |prefix| {
        event
            .strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    event == "createSchema" || then("before") || then("after")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_are() {
        let versioned = |version, description: &str| {
            Ok(File::Versioned {
                version: Version::parse(version).unwrap(),
                description: description.to_owned(),
            })
        };
        assert_eq!(parse("main/V20180607185601__eg_enc.sql"), versioned("20180607185601", "eg enc"));
        assert_eq!(parse("V1_2.3__a__b_.sql"), versioned("1.2.3", "a  b "));
        assert_eq!(parse("R__views.sql"), Ok(File::Repeatable { description: "views".to_owned() }));
        assert_eq!(parse("U1__a.sql"), Ok(File::Undo));
        assert_eq!(parse("V1__a.sql.conf"), Ok(File::Config));
        assert_eq!(parse("README.md"), Ok(File::Other));
        assert!(matches!(parse("B7__all.sql"), Ok(File::Baseline { .. })));
        for left_out in ["v1__a.sql", "V1__a.SQL", "x.sql", ".sql", "ä.sql", "1__a.sql"] {
            assert_eq!(parse(left_out), Ok(File::LeftOut), "{left_out}");
        }
        for wrong in ["V1_a.sql", "V1.sql", "V__a.sql", "V1a__b.sql", "R1__a.sql"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for callback in ["beforeMigrate.sql", "afterMigrate__grants.sql", "createSchema.sql"] {
            assert!(parse(callback).unwrap_err().contains("callback"), "{callback}");
        }
    }
}
