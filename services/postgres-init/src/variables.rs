//! The environment variables that OpenG2P's image `openg2p/postgres-init` obeys, as a document: a chart that starts that image
//! without arguments, one Job a database, needs nothing but another image. Pure, but for the two files below it.
//!
//! What its script made carries nobody's mark, so it is reported on and left; what it did besides (an existing role's password
//! written anew at every run, CREATEDB CREATEROLE REPLICATION for every module) is not done.

mod held;
mod owner;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use chassis::SecretValue;
use lifecycle::document::{
    Admin, Database, Ddl, Document, Environment, Extension, FragmentName, LoginRole, Naming, ObjectName,
    OwnerRole, Policy, Postgres, Problem, Roles, Secret, SecretRef, Source, Tls, TlsMode, Uses, Version,
};
use lifecycle::sha256_hex;

pub use held::Held;
pub use owner::{MOUNT, Owner, OwnerError, Said};

/// What the image's script requires (init-db.sh of OpenG2P/postgres-init, in all its versions), empty meaning not given.
pub const REQUIRED: [&str; 7] = [
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
];
/// What it takes besides: names separated by commas, in an earlier version by spaces too.
pub const EXTENSIONS: &str = "DB_EXTENSIONS";
/// What the `psql` in it obeys, which is libpq's: how the connection is protected, and a file with whom to trust.
pub const TLS_MODE: &str = "PGSSLMODE";
/// See [`TLS_MODE`].
pub const TLS_CA: &str = "PGSSLROOTCERT";

/// The name under which the variables are a Secret in messages.
const SECRET: &str = "environment-variables";
/// The server's name in the document.
const SERVER: &str = "main";
/// PostgreSQL cuts longer names off (NAMEDATALEN - 1).
const NAME_MAX: usize = 63;

/// Why the variables cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariablesError {
    /// Some of them are there and these are not.
    #[error("{} not given, or empty: without documents, {} say together which database is to be made", .0.join(", "), REQUIRED.join(", "))]
    Missing(Vec<&'static str>),
    /// One of them cannot be what it is used as.
    #[error("{name}: {problem}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong with it. Never a password.
        problem: String,
    },
}

impl VariablesError {
    fn invalid(name: &'static str, problem: impl Into<String>) -> Self {
        VariablesError::Invalid { name, problem: problem.into() }
    }
}

/// The variables that are there, as they were given. `Debug` shows no value.
#[derive(Clone)]
pub struct Variables(BTreeMap<&'static str, OsString>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the variables ask for.
#[derive(Debug)]
pub struct Asked {
    /// The one document that they are.
    pub environment: Environment,
    /// The connection is encrypted where the server offers it: what `psql` does when nothing is said.
    pub prefers_tls: bool,
    /// The passwords.
    pub held: Held,
    /// The file with whom to trust, which is still to be read into `held` under [`TLS_CA`].
    pub authority: Option<PathBuf>,
}

impl std::fmt::Display for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |name| self.0.get(name).map(|value| value.to_string_lossy()).unwrap_or_default();
        write!(
            f,
            "no documents: environment variables ask for database `{}` with role `{}` on {}:{}",
            text("DB_NAME"),
            text("DB_USER"),
            text("POSTGRES_HOST"),
            text("POSTGRES_PORT")
        )
    }
}

impl Variables {
    /// Picks them out of a process's variables; none when none of those that name a server or a database is there.
    pub fn of(env: impl IntoIterator<Item = (OsString, OsString)>) -> Option<Variables> {
        let known = || REQUIRED.into_iter().chain([EXTENSIONS, TLS_MODE, TLS_CA]);
        let given = env.into_iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
            known()
                .find(|known| name == *known)
                .filter(|name| !is_link(name, &value))
                .map(|name| (name, value))
        });
        let given: BTreeMap<&'static str, OsString> = given.collect();
        let any = REQUIRED.iter().chain([&EXTENSIONS]).any(|name| given.contains_key(name));
        any.then_some(Variables(given))
    }

    /// What they ask for, for this owner.
    ///
    /// # Errors
    /// Names the variable that is missing or cannot be used.
    pub fn asked(&self, owner: &Owner) -> Result<Asked, VariablesError> {
        let missing: Vec<&'static str> =
            REQUIRED.into_iter().filter(|name| !self.0.contains_key(name)).collect();
        if !missing.is_empty() {
            return Err(VariablesError::Missing(missing));
        }
        let protection = self.protection()?;
        let document = self.document(owner, &protection)?;
        let source = Source { file: SECRET.to_owned(), document };
        let merged = Environment::merge([source]);
        match (merged.environment, merged.problems.first()) {
            (Some(environment), None) => Ok(Asked {
                environment,
                prefers_tls: protection.mode.is_none(),
                held: Held::new(self.passwords()?),
                authority: protection.authority,
            }),
            (_, problem) => Err(named(problem, &self.text("DB_NAME")?.to_lowercase())),
        }
    }

    /// The value of a variable, which must be Unicode: whatever is not would silently become something else.
    fn text(&self, name: &'static str) -> Result<&str, VariablesError> {
        let value = self.0.get(name).map(|value| value.to_str());
        value.unwrap_or(Some("")).ok_or_else(|| VariablesError::invalid(name, "is not UTF-8 text"))
    }

    fn passwords(&self) -> Result<BTreeMap<String, SecretValue>, VariablesError> {
        let each = ["POSTGRES_PASSWORD", "DB_PASSWORD"].into_iter();
        each.map(|name| Ok((name.to_owned(), SecretValue::new(self.text(name)?)))).collect()
    }

    fn protection(&self) -> Result<Protection, VariablesError> {
        let mode = match self.text(TLS_MODE)? {
            "" | "prefer" => None,
            "disable" => Some(TlsMode::Disable),
            "require" => Some(TlsMode::Require),
            "verify-ca" => Some(TlsMode::VerifyCa),
            "verify-full" => Some(TlsMode::VerifyFull),
            other => {
                return Err(VariablesError::invalid(
                    TLS_MODE,
                    format!("`{other}` is none of disable, prefer, require, verify-ca and verify-full"),
                ));
            }
        };
        let authority = Some(self.text(TLS_CA)?).filter(|path| !path.is_empty()).map(PathBuf::from);
        if authority.is_some() && !matches!(mode, Some(TlsMode::VerifyCa | TlsMode::VerifyFull)) {
            return Err(VariablesError::invalid(
                TLS_CA,
                format!("says whom to trust, and {TLS_MODE} does not say to look; set it to verify-full"),
            ));
        }
        Ok(Protection { mode, authority })
    }

    fn document(&self, owner: &Owner, protection: &Protection) -> Result<Document, VariablesError> {
        let port = self.text("POSTGRES_PORT")?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
            VariablesError::invalid("POSTGRES_PORT", format!("`{port}` is not a port, a number up to 65535"))
        })?;
        let (name, user) = (self.literal("DB_NAME")?, self.literal("DB_USER")?);
        let mut extensions: Vec<String> = Vec::new();
        for extension in self.text(EXTENSIONS)?.split([',', ' ', '\t', '\n', '\r']).filter(|e| !e.is_empty())
        {
            if !extensions.iter().any(|known| known == extension) {
                extensions.push(extension.to_owned());
            }
        }
        let admin =
            Admin { user: self.text("POSTGRES_USER")?.to_owned(), password: reference("POSTGRES_PASSWORD") };
        let app = LoginRole {
            name: user,
            password: reference("DB_PASSWORD"),
            ddl: Ddl::AsOwner,
            connection_limit: None,
            settings: BTreeMap::new(),
            replication: false,
            create_db: false,
            bypass_rls: false,
            overlap: None,
        };
        let tls = Tls {
            mode: protection.mode.unwrap_or(TlsMode::Require),
            ca: protection.authority.as_ref().map(|_| reference(TLS_CA)),
        };
        let server = Postgres {
            host: self.text("POSTGRES_HOST")?.to_owned(),
            port,
            tls,
            admin: Some(admin),
            observer: None,
            delegate: Vec::new(),
        };
        let owner_role = Some(OwnerRole { name: owner_role(&name) });
        let roles = Roles { owner: owner_role, app, migrator: None, readers: None };
        let database = Database {
            name: Some(name.clone()),
            extensions: extensions.into_iter().map(Extension::new).collect(),
            ..Database::new(SERVER, roles)
        };
        Ok(Document {
            rollcall: Version::V1,
            environment: owner.environment.clone(),
            fragment: FragmentName { name: owner.fragment.clone(), namespace: owner.namespace.clone() },
            policy: Policy::default(),
            naming: Naming::default(),
            postgres: BTreeMap::from([(SERVER.to_owned(), server)]),
            kafka: BTreeMap::new(),
            vault: BTreeMap::new(),
            keycloak: BTreeMap::new(),
            uses: Uses::default(),
            databases: BTreeMap::from([(name.to_lowercase(), database)]),
            roles: BTreeMap::new(),
            migrations: BTreeMap::new(),
            steps: BTreeMap::new(),
            secrets: BTreeMap::from([(secret(), Secret { external: true, ..Secret::default() })]),
            configmaps: BTreeMap::new(),
            topics: BTreeMap::new(),
            realms: BTreeMap::new(),
            clients: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            modules: BTreeMap::new(),
        })
    }

    /// A name that is no naming template, whatever it holds.
    fn literal(&self, name: &'static str) -> Result<String, VariablesError> {
        let text = self.text(name)?;
        if text.contains(['{', '}']) {
            let problem = format!("the name `{text}` may hold only letters, digits, `-`, `_` and `.`");
            return Err(VariablesError::invalid(name, problem));
        }
        Ok(text.to_owned())
    }
}

struct Protection {
    /// None for `prefer`, which no document knows.
    mode: Option<TlsMode>,
    authority: Option<PathBuf>,
}

/// Kubernetes puts `POSTGRES_PORT=tcp://…` into every pod of a namespace with a Service named `postgres`; nobody gave that.
fn is_link(name: &str, value: &OsString) -> bool {
    name == "POSTGRES_PORT" && value.to_string_lossy().starts_with("tcp://")
}

/// `<database>_owner`, or where that is too long its beginning and a hash of the whole name.
fn owner_role(database: &str) -> String {
    const END: &str = "_owner";
    if database.len() + END.len() <= NAME_MAX {
        return format!("{database}{END}");
    }
    let hash = &sha256_hex(&[database])[..8];
    let room = database.floor_char_boundary(NAME_MAX - END.len() - hash.len() - 1);
    format!("{}_{hash}{END}", &database[..room])
}

fn reference(key: &str) -> SecretRef {
    SecretRef { secret: secret(), key: key.to_owned() }
}

fn secret() -> ObjectName {
    ObjectName { namespace: None, name: SECRET.to_owned() }
}

/// What is wrong with the document as what is wrong with a variable.
fn named(problem: Option<&Problem>, database: &str) -> VariablesError {
    let (key, message) = problem.map_or(("", "is no document"), |p| (p.key.as_str(), p.message.as_str()));
    let name = match key.strip_prefix(&format!("databases.{database}")) {
        Some(".extensions") => EXTENSIONS,
        Some(".roles" | ".roles.app.name") => "DB_USER",
        None if key == "environment.uid" => "ROLLCALL_ENVIRONMENT_UID",
        None if key == "fragment.name" => "ROLLCALL_FRAGMENT",
        None if key == "environment.name" || key == "fragment.namespace" => "ROLLCALL_ENVIRONMENT_NAME",
        None if key.starts_with("postgres.") => "POSTGRES_HOST",
        _ => "DB_NAME",
    };
    VariablesError::invalid(name, message)
}
