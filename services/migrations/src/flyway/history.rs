//! A history table as it was read: what has run, what is left, and what of it is not as the files say. Pure.

use std::collections::BTreeMap;

use super::Settings;
use super::resolve::{Kind, Migration};
use super::version::Version;
use crate::journal::may_repeat;
use crate::problem::Problem;
use crate::script::known;

/// A row of a history table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The order in which it was written.
    pub installed_rank: i32,
    /// None for repeatable migrations.
    pub version: Option<String>,
    /// The description.
    pub description: String,
    /// `SQL`, `BASELINE`, `SCHEMA`, `DELETE`, `JDBC`, …
    pub kind: String,
    /// The file's path in its location.
    pub script: String,
    /// The checksum.
    pub checksum: Option<i32>,
    /// Whether it ran to its end.
    pub success: bool,
    /// It was begun and has not ended: a run was cut in the middle of it.
    pub cut: bool,
}

/// The row that Flyway writes for a baseline.
pub(crate) fn baseline_row(version: &Version) -> Row {
    Row {
        installed_rank: 1,
        version: Some(version.to_string()),
        description: "<< Flyway Baseline >>".to_owned(),
        kind: "BASELINE".to_owned(),
        script: "<< Flyway Baseline >>".to_owned(),
        checksum: None,
        success: true,
        cut: false,
    }
}

/// A history, read.
pub(super) struct History<'a> {
    /// What has run, without what was undone or deleted.
    versions: BTreeMap<Version, &'a Row>,
    /// The last run of each repeatable migration, by description.
    repeatable: BTreeMap<&'a str, &'a Row>,
    baseline: Option<Version>,
    last: Option<Version>,
}

impl<'a> History<'a> {
    pub(super) fn read(rows: &'a [Row], migrations: &[Migration], problems: &mut Vec<Problem>) -> Self {
        let mut history =
            History { versions: BTreeMap::new(), repeatable: BTreeMap::new(), baseline: None, last: None };
        for row in rows {
            if row.cut && migrations.iter().any(|migration| may_run_again(row, migration)) {
                continue;
            }
            if !row.success {
                problems.push(Problem::refused(&row.script, None, failed(row)));
            }
            let Some(version) = &row.version else {
                if row.kind == "DELETE" {
                    history.repeatable.remove(row.description.as_str());
                } else if row.kind != "SCHEMA" {
                    history.repeatable.insert(&row.description, row);
                }
                continue;
            };
            let version = match Version::parse(version) {
                Ok(version) => version,
                Err(error) => {
                    problems.push(Problem::refused(&row.script, None, format!("in the history: {error}")));
                    continue;
                }
            };
            if matches!(row.kind.as_str(), "DELETE" | "UNDO_SQL") {
                history.versions.remove(&version);
                continue;
            }
            if matches!(row.kind.as_str(), "BASELINE" | "INIT" | "SQL_BASELINE") {
                history.baseline = history.baseline.max(Some(version.clone()));
            }
            history.versions.insert(version, row);
        }
        history.last = history.versions.keys().next_back().cloned();
        history
    }

    /// What has run must be what the files say.
    pub(super) fn validate(
        &self,
        migrations: &[Migration],
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) {
        let versioned: BTreeMap<&Version, &Migration> = migrations
            .iter()
            .filter_map(|m| if let Kind::Versioned(version) = &m.kind { Some((version, m)) } else { None })
            .collect();
        let newest = versioned.keys().next_back().copied();
        for (version, row) in &self.versions {
            if Some(version) <= self.baseline.as_ref()
                || matches!(row.kind.as_str(), "SCHEMA" | "BASELINE" | "INIT")
            {
                continue;
            }
            match versioned.get(version) {
                Some(migration) => problems.extend(differs(row, migration)),
                None if Some(version) > newest => problems.push(Problem::warned(
                    &row.script,
                    None,
                    format!("version {version} has run and is newer than all files: these are older than the database"),
                )),
                None => problems.extend(missing(row, settings)),
            }
        }
        for (description, row) in &self.repeatable {
            if !migrations.iter().any(|m| m.kind == Kind::Repeatable && m.description == *description) {
                problems.extend(missing(row, settings));
            }
        }
    }

    pub(super) fn pending<'m>(
        &self,
        migrations: &'m [Migration],
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Vec<&'m Migration> {
        let target = settings.target.as_deref().and_then(|target| Version::parse(target).ok());
        let within = |version: &Version| target.as_ref().is_none_or(|target| version <= target);
        let untouched = self.versions.is_empty() && self.repeatable.is_empty();
        let all = || migrations.iter().filter(|m| m.version().is_none_or(within));
        let start = all().rfind(|m| untouched && matches!(m.kind, Kind::Baseline(_)));
        let baseline = start.and_then(Migration::version).or(self.baseline.as_ref());
        let mut pending: Vec<&Migration> = start.into_iter().collect();
        for migration in all() {
            match &migration.kind {
                Kind::Versioned(version)
                    if Some(version) <= baseline || self.versions.contains_key(version) => {}
                Kind::Versioned(version) if Some(version) < self.last.as_ref() && !settings.out_of_order => {
                    problems.push(Problem::refused(
                        &migration.file,
                        None,
                        format!(
                            "version {version} has not run, but later ones have; switch `out_of_order` on, or give it a later version"
                        ),
                    ));
                }
                Kind::Versioned(_) => pending.push(migration),
                Kind::Repeatable => {
                    let row = self.repeatable.get(migration.description.as_str());
                    let same = |row: &&Row| {
                        row.checksum == Some(migration.checksum)
                            || row.checksum == Some(migration.raw_checksum)
                    };
                    if !row.is_some_and(same) {
                        pending.push(migration);
                    }
                }
                Kind::Baseline(_) => {}
            }
        }
        pending
    }
}

/// Whether what was cut may simply run again: it is the same file, and what each of its statements has left is looked at, or
/// does not matter.
fn may_run_again(row: &Row, migration: &Migration) -> bool {
    let same = row.script == migration.script && row.checksum == Some(migration.checksum);
    let repeats = || {
        known(&migration.file, &migration.text)
            .is_ok_and(|all| all.iter().all(|known| may_repeat(&known.class)))
    };
    same && repeats()
}

fn failed(row: &Row) -> String {
    if row.cut {
        return format!(
            "the history says that it was begun and has not ended (rank {}): a run was cut in the middle of it, and which of its \
             statements have run is written down nowhere. See which have; undo them and delete the row, or do the rest and set \
             its `success` to true",
            row.installed_rank
        );
    }
    format!(
        "the history says that it failed (rank {}): see what it has left behind, put that right, and delete the row",
        row.installed_rank
    )
}

fn missing(row: &Row, settings: &Settings) -> Option<Problem> {
    let what =
        row.version.as_ref().map_or_else(|| format!("`{}`", row.description), |v| format!("version {v}"));
    let text = format!(
        "{what} has run, but has no file; add the file or its location, or switch `ignore_missing` on"
    );
    (!settings.ignore_missing).then(|| Problem::refused(&row.script, None, text))
}

fn differs(row: &Row, migration: &Migration) -> Option<Problem> {
    let refused = |text| Some(Problem::refused(&migration.file, None, text));
    if row.kind != "SQL" {
        return refused(format!(
            "the history says that it was `{}`, not `SQL`; is it the right history?",
            row.kind
        ));
    }
    if row.checksum != Some(migration.checksum) {
        let recorded = row.checksum.map_or_else(|| "none".to_owned(), |checksum| checksum.to_string());
        return refused(format!(
            "has changed since it ran: the history has checksum {recorded}, the file {}; restore the file and put the change into a new one",
            migration.checksum
        ));
    }
    if row.description != migration.description {
        return refused(format!("the history calls it `{}`; restore the file's name", row.description));
    }
    None
}
