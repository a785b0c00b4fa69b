//! From files to migrations, and everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use super::checksum::checksum;
use super::name::{File, parse};
use super::version::Version;
use super::{Place, Settings, placeholder};
use crate::problem::Problem;
use crate::script::{Manner, known, manner, mixed, within};
use crate::source::{Sources, text};
use crate::statement::{Name, makes, uses};

/// What a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Once, in the order of its version.
    Versioned(Version),
    /// Again whenever it has changed, after all versions.
    Repeatable,
    /// Instead of everything up to its version, where nothing has run yet.
    Baseline(Version),
}

/// A migration that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// What it is.
    pub kind: Kind,
    /// Its description.
    pub description: String,
    /// The file's path in its location: its name in the history.
    pub script: String,
    /// The file's path in the sources, for people.
    pub file: String,
    /// Flyway's checksum.
    pub checksum: i32,
    /// The checksum before placeholders were replaced; older Flyways recorded it for repeatable ones.
    pub raw_checksum: i32,
    /// What is run.
    pub text: String,
    /// How.
    pub manner: Manner,
    /// The line of a statement that cannot run in a transaction beside others that can, where nobody has said that all of them
    /// run without one.
    pub mixed: Option<usize>,
}

impl Migration {
    /// Its version, if it has one.
    pub fn version(&self) -> Option<&Version> {
        match &self.kind {
            Kind::Versioned(version) | Kind::Baseline(version) => Some(version),
            Kind::Repeatable => None,
        }
    }
}

/// The migrations of all locations: versions first, in their order, then repeatable ones by description.
pub fn resolve(
    sources: &Sources,
    settings: &Settings,
    place: &Place,
) -> Result<Vec<Migration>, Vec<Problem>> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let everywhere = [String::new()];
    let locations = if settings.locations.is_empty() { &everywhere[..] } else { &settings.locations };
    for location in locations {
        let location = location.trim_matches('/');
        let configs: BTreeMap<&str, &[u8]> =
            sources.below(location).filter(|(path, _)| matches!(parse(path), Ok(File::Config))).collect();
        if sources.below(location).next().is_none() {
            problems.push(Problem::refused(location, None, "no file is there; check the location"));
        }
        for (script, bytes) in sources.below(location) {
            let file = if location.is_empty() { script.to_owned() } else { format!("{location}/{script}") };
            let (kind, description) = match parse(script) {
                Ok(File::Versioned { version, description }) => (Kind::Versioned(version), description),
                Ok(File::Baseline { version, description }) => (Kind::Baseline(version), description),
                Ok(File::Repeatable { description }) => (Kind::Repeatable, description),
                Ok(File::Undo | File::Config | File::Other | File::LeftOut) => continue,
                Err(text) => {
                    problems.push(Problem::refused(file, None, text));
                    continue;
                }
            };
            let config = configs.get(format!("{script}.conf").as_str()).copied();
            match read(bytes, config, &file, script, settings, place) {
                Ok(Read { text, raw_checksum, checksum, manner, mixed }) => {
                    let checksum = if kind == Kind::Repeatable { checksum } else { raw_checksum };
                    let script = script.to_owned();
                    found.push(Migration {
                        kind,
                        description,
                        script,
                        file,
                        checksum,
                        raw_checksum,
                        text,
                        manner,
                        mixed,
                    });
                }
                Err(refused) => problems.extend(refused),
            }
        }
    }
    found.sort_by(|a, b| {
        (order(&a.kind), &a.description, &a.file).cmp(&(order(&b.kind), &b.description, &b.file))
    });
    problems.extend(found.windows(2).filter_map(|pair| twice(&pair[0], &pair[1])));
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

struct Read {
    text: String,
    raw_checksum: i32,
    checksum: i32,
    manner: Manner,
    mixed: Option<usize>,
}

fn read(
    bytes: &[u8],
    config: Option<&[u8]>,
    file: &str,
    script: &str,
    settings: &Settings,
    place: &Place,
) -> Result<Read, Vec<Problem>> {
    let one = |line, text: String| vec![Problem::refused(file, line, text)];
    let raw = text(bytes).map_err(|error| {
        vec![Problem::refused(file, Some(error.line), "not UTF-8; save the file as UTF-8")]
    })?;
    let config = Config::read(config.unwrap_or_default())
        .map_err(|text| vec![Problem::refused(format!("{file}.conf"), None, text)])?;
    let text = if config.placeholder_replacement.unwrap_or(settings.placeholder_replacement) {
        placeholder::replace(raw, &values(script, settings, place))
            .map_err(|unknown| one(Some(unknown.line), unknown.to_string()))?
    } else {
        raw.to_owned()
    };
    let statements = known(file, &text)?;
    let (manner, mixed) = match config.execute_in_transaction {
        Some(false) => (Manner::Each, None),
        _ => (manner(within(&statements)), mixed(&statements)),
    };
    Ok(Read { raw_checksum: checksum(raw), checksum: checksum(&text), manner, mixed, text })
}

fn values(script: &str, settings: &Settings, place: &Place) -> BTreeMap<String, String> {
    let name = script.rsplit('/').next().unwrap_or(script);
    let ours = [
        ("flyway:defaultSchema", place.schema.as_str()),
        ("flyway:database", &place.database),
        ("flyway:user", &place.user),
        ("flyway:table", &settings.table),
        ("flyway:filename", name),
    ];
    let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    ours.chain(settings.placeholders.clone()).collect()
}

/// What a file beside a migration, `….sql.conf`, says of how it is run.
#[derive(Default)]
struct Config {
    execute_in_transaction: Option<bool>,
    placeholder_replacement: Option<bool>,
}

impl Config {
    fn read(bytes: &[u8]) -> Result<Config, String> {
        let mut config = Config::default();
        for line in text(bytes).map_err(|error| error.to_string())?.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let value = match value.trim() {
                "true" => true,
                "false" => false,
                other => return Err(format!("`{other}` is neither `true` nor `false`, in `{line}`")),
            };
            match key.trim() {
                "executeInTransaction" => config.execute_in_transaction = Some(value),
                "placeholderReplacement" => config.placeholder_replacement = Some(value),
                other => return Err(format!("`{other}` is not supported; take it away")),
            }
        }
        Ok(config)
    }
}

/// Baselines before versions before repeatable ones.
fn order(kind: &Kind) -> (u8, Option<&Version>) {
    match kind {
        Kind::Baseline(version) => (0, Some(version)),
        Kind::Versioned(version) => (1, Some(version)),
        Kind::Repeatable => (2, None),
    }
}

fn twice(a: &Migration, b: &Migration) -> Option<Problem> {
    if order(&a.kind) != order(&b.kind) || (a.kind == Kind::Repeatable && a.description != b.description) {
        return None;
    }
    let what = match a.version() {
        Some(version) => format!("version {version}"),
        None => format!("the repeatable migration `{}`", a.description),
    };
    Some(Problem::refused(
        &b.file,
        None,
        format!("{what} is in {} too; rename one, or leave one's location out", a.file),
    ))
}

/// The tables that migrations use and that none of them makes, each with the file and line of its first use: other services'
/// migrations have to run before.
pub fn foreign_tables(migrations: &[Migration]) -> BTreeMap<Name, (String, usize)> {
    let (mut made, mut used) = (BTreeSet::new(), BTreeMap::new());
    for migration in migrations {
        for known in known(&migration.file, &migration.text).unwrap_or_default() {
            let statement = known.statement;
            made.extend(makes(statement.sql).into_iter().map(|name| name.name));
            for name in uses(statement.sql) {
                used.entry(name).or_insert_with(|| (migration.file.clone(), statement.line));
            }
        }
    }
    let servers = |name: &Name| matches!(name.schema.as_deref(), Some("pg_catalog" | "information_schema"));
    used.retain(|name: &Name, _| {
        !made.contains(&name.name) && !servers(name) && !name.name.starts_with("pg_")
    });
    used
}

/// Files that are named almost as migrations are. DIGIT's sets hold some that begin with a small `v`.
pub(super) fn left_out(sources: &Sources, settings: &Settings) -> Vec<Problem> {
    let everywhere = [String::new()];
    let locations = if settings.locations.is_empty() { &everywhere[..] } else { &settings.locations };
    let mut problems = Vec::new();
    for location in locations.iter().map(|location| location.trim_matches('/')) {
        for (path, _) in sources.below(location).filter(|(path, _)| parse(path) == Ok(File::LeftOut)) {
            let file = if location.is_empty() { path.to_owned() } else { format!("{location}/{path}") };
            let text = "is left out, as Flyway does it: migrations are named `V<version>__<description>.sql` or \
                        `R__<description>.sql`, in capitals and small letters as here";
            problems.push(Problem::warned(file, None, text));
        }
    }
    problems
}

/// Timestamps of another length or with day and month exchanged, whose order is not that of the calendar.
pub(super) fn shapes(migrations: &[Migration]) -> Vec<Problem> {
    /// `YYYYMMDDHHMMSS`, how almost all of DIGIT's are written.
    const USUAL: usize = 14;
    let dated = |version: &Version| version.leading().len() >= 12 && version.leading().starts_with("20");
    let versions = || migrations.iter().filter_map(|m| Some((m, m.version().filter(|v| dated(v))?)));
    let mut problems = Vec::new();
    for (migration, version) in versions() {
        let digits = version.leading();
        if digits.len() != USUAL {
            problems.push(Problem::warned(
                &migration.file,
                None,
                format!(
                    "a timestamp of {} digits, which counts as {} than all of {USUAL}; it runs where `out_of_order` is on",
                    digits.len(),
                    if digits.len() < USUAL { "earlier" } else { "later" }
                ),
            ));
        } else if !digits[4..6].parse().is_ok_and(|month: u32| (1..=12).contains(&month)) {
            problems.push(Problem::warned(
                &migration.file,
                None,
                format!("month {} in a timestamp: perhaps year, day, month; it counts as later than the whole year", &digits[4..6]),
            ));
        }
    }
    problems
}
