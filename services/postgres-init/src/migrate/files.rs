//! The files of a migration, and what can be told from them without a server.

use std::collections::BTreeSet;

use chassis::secret::{SecretError, SecretStore};
use lifecycle::Component;
use migrations::source::SourceError;
use migrations::{Problem, Sources, flyway, native, psql};

use super::spec::{Dialect, FilesAt, MigrationSpec};

/// Files that were looked for.
pub(super) enum Found {
    /// All are here.
    Here(Sources),
    /// A folder is not here.
    Elsewhere(String),
    /// A ConfigMap is not there yet.
    NotYet(Component, SecretError),
    /// They cannot be used.
    Unfit(String),
}

/// Reads the files.
pub(super) async fn read(spec: &MigrationSpec, secrets: &SecretStore) -> Result<Found, SecretError> {
    let mut all = Sources::default();
    for files in &spec.sources {
        let (set, place) = match &files.place {
            FilesAt::Directory(folder) => match Sources::read(folder) {
                Ok(set) => (set, folder.display().to_string()),
                Err(SourceError::Unreadable { path, source })
                    if source.kind() == std::io::ErrorKind::NotFound && !folder.exists() =>
                {
                    return Ok(Found::Elsewhere(format!("folder {} is not here", path.display())));
                }
                Err(error) => return Ok(Found::Unfit(chassis::exit::chain(&error))),
            },
            FilesAt::ConfigMap(map) => match secrets.contents(map, &[]).await {
                Ok(held) => {
                    let held = held.iter().map(|(key, value)| (key.clone(), value.expose().to_vec()));
                    (Sources::of(held), map.to_string())
                }
                Err(error @ (SecretError::Missing { .. } | SecretError::MissingKey { .. })) => {
                    return Ok(Found::NotYet(map.clone(), error));
                }
                Err(error) => return Err(error),
            },
        };
        all = match all.and(&files.below, set) {
            Ok(all) => all,
            Err(path) => {
                let said = format!(
                    "{path}: is in {place} and in another source too; put one `below` a folder of its own"
                );
                return Ok(Found::Unfit(said));
            }
        };
    }
    if all.is_empty() {
        return Ok(Found::Unfit("its sources hold no file; are they the right ones?".to_owned()));
    }
    Ok(Found::Here(all))
}

/// The dialect with the secrets of its variables.
pub(super) async fn with_secrets(dialect: &Dialect, secrets: &SecretStore) -> Result<Dialect, SecretError> {
    let Dialect::Psql { settings, secrets: keys } = dialect else { return Ok(dialect.clone()) };
    let mut settings = settings.clone();
    for (name, key) in keys {
        let value = secrets.password(&key.secret, &key.key).await?;
        settings.variables =
            settings.variables.with_secret_literal(name, value.expose_text().unwrap_or_default());
    }
    Ok(Dialect::Psql { settings, secrets: keys.clone() })
}

/// Everything that would be refused whatever is in the database, and what is worth knowing. No server is asked.
pub(super) fn problems(spec: &MigrationSpec, dialect: &Dialect, sources: &Sources) -> Vec<Problem> {
    match dialect {
        Dialect::Native(settings) => native::check(sources, settings),
        Dialect::Flyway(settings) => flyway::check(sources, settings),
        Dialect::Psql { settings, .. } => {
            let mut problems = psql::check(sources, settings);
            problems.extend(strangers(spec, sources, settings));
            problems
        }
    }
}

/// Databases that scripts connect to and that no document names for them.
fn strangers(spec: &MigrationSpec, sources: &Sources, settings: &psql::Settings) -> Vec<Problem> {
    let known: BTreeSet<&str> = spec.databases.iter().map(|entrance| entrance.name.as_str()).collect();
    let connects = psql::plan::databases(sources, settings);
    let strange = connects.iter().filter(|database| !known.contains(database.as_str()));
    let said = |database: &String| {
        let text = format!(
            "connects to database `{database}`, which the documents do not name for it; add it under `connects`, or leave out the scripts that make databases and roles: `databases` does that"
        );
        Problem::refused("", None, text)
    };
    strange.map(said).collect()
}

/// What `migrate --check` tells of one migration: everything that would be refused, and what is worth knowing; each in a line.
///
/// # Errors
/// A ConfigMap or Secret that cannot be read.
pub async fn check(
    spec: &MigrationSpec,
    secrets: &SecretStore,
) -> Result<(Vec<String>, Vec<String>), SecretError> {
    let sources = match read(spec, secrets).await? {
        Found::Here(sources) => sources,
        Found::Elsewhere(why) | Found::Unfit(why) => return Ok((vec![why], Vec::new())),
        Found::NotYet(_, error) => return Err(error),
    };
    // What a secret holds decides nothing: a text stands for each.
    let dialect = match &spec.dialect {
        Dialect::Psql { settings, secrets: keys } => {
            let variables =
                keys.keys().fold(settings.variables.clone(), |all, name| all.with_secret_literal(name, "x"));
            Dialect::Psql {
                settings: psql::Settings { variables, ..settings.clone() },
                secrets: keys.clone(),
            }
        }
        other => other.clone(),
    };
    let (refused, warned): (Vec<Problem>, Vec<Problem>) =
        problems(spec, &dialect, &sources).into_iter().partition(Problem::refuses);
    let lines = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
    Ok((lines(refused), lines(warned)))
}
