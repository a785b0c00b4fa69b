//! How this process runs: addresses, deadlines, logs. Never what an environment should be; that is in documents.
//!
//! Settings are environment variables `ROLLCALL_…`, and files in the folder `ROLLCALL_SETTINGS`, each named like a
//! variable (a mounted ConfigMap needs no renaming). A variable wins over a file; an empty value counts as not given.
//! A `ROLLCALL_` name that is not in [`KEYS`] is an error, so a misspelt setting cannot be silently ignored.
//! Values are kept verbatim: `try_parsing` of `config` would turn the text `007123` into the number 7123.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Environment};
use thiserror::Error;
use uuid::Uuid;

mod folder;
mod parse;
#[cfg(test)]
mod tests;

use parse::{DURATION, HTTP, UID, duration, host_and_port, http_uri, log_filter, log_format, on_or_off, uid};

const PREFIX: &str = "ROLLCALL_";

/// One setting, for the manual and for the check of unknown names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The variable's (and file's) name.
    pub name: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

/// Every setting.
pub const KEYS: &[Key] = &[
    key("ROLLCALL_BROKERS", "no bus", "Kafka brokers of the bus, `host:port`, comma-separated"),
    key("ROLLCALL_DEADLINE", "none", "how long a one-shot may take, such as `15m`"),
    key("ROLLCALL_DOCUMENTS", "none", "files or folders with the environment's documents, colon-separated"),
    key(
        "ROLLCALL_ENVIRONMENT_NAME",
        "the namespace",
        "the environment things are made for where variables ask for them; refused beside documents, which say it",
    ),
    key(
        "ROLLCALL_ENVIRONMENT_UID",
        "the namespace's",
        "that environment's uid, as `rollcall init` mints one; refused beside documents",
    ),
    key(
        "ROLLCALL_FRAGMENT",
        "the service account's name",
        "the fragment they are made for, such as the release's name; refused beside documents",
    ),
    key("ROLLCALL_HEALTH_LISTEN", "0.0.0.0:7071", "where `grpc.health.v1` answers, in plaintext"),
    key("ROLLCALL_HUB", "no hub", "the hub's address, `http://host:port`"),
    key(
        "ROLLCALL_HUB_TOKEN_FILE",
        "none",
        "the file with the service-account token that the hub is shown, and `postgres-init serve`",
    ),
    key("ROLLCALL_INSTANCE", "$HOSTNAME, else the process id", "tells instances of one service apart"),
    key("ROLLCALL_LISTEN", "127.0.0.1:7070", "where gRPC answers; port 0 takes a free one"),
    key("ROLLCALL_LOG", "info", "what is logged: directives such as `info,chassis=debug`"),
    key("ROLLCALL_LOG_FORMAT", "text on a terminal, else json", "`text` or `json`"),
    key("ROLLCALL_METRICS_LISTEN", "0.0.0.0:7072", "where Prometheus finds `/metrics`"),
    key("ROLLCALL_OTLP", "$OTEL_EXPORTER_OTLP_ENDPOINT", "where traces go, `http://host:4317`"),
    key("ROLLCALL_POLLING", "on", "`off` stops polling while events flow, to prove that they suffice"),
    key(
        "ROLLCALL_POSTGRES_INIT",
        "none",
        "the address of the environment's `postgres-init serve`, `http://host:port`, which makes what these documents name no administrator for",
    ),
    key("ROLLCALL_RESYNC", "30s", "how often a long-lived service looks at everything again"),
    key("ROLLCALL_SECRETS_DIR", "none", "this namespace's secrets, `<dir>/<secret>/<key>`"),
    key("ROLLCALL_SECRETS_ROOT", "none", "all secrets, `<root>/<namespace>/<secret>/<key>`"),
    key("ROLLCALL_SETTINGS", "none", "a folder of files, each named like one of these variables"),
    key("ROLLCALL_SOPS_DIR", "none", "the folder of sops files that documents name"),
    key("ROLLCALL_SOPS_KEY_FILE", "none", "the file with the age key (`AGE-SECRET-KEY-1…`) that opens them"),
];

/// Those of them that say whose things are made, which documents say themselves where there are any.
pub const SAID_BY_DOCUMENTS: [&str; 3] =
    ["ROLLCALL_ENVIRONMENT_NAME", "ROLLCALL_ENVIRONMENT_UID", "ROLLCALL_FRAGMENT"];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line, with trace ids.
    Json,
}

/// The settings of one process. Each field is the key of the same name in [`KEYS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Files or folders with the environment's documents.
    pub documents: Vec<PathBuf>,
    /// The name of the environment that things are made for where no document says it. Never given together with `documents`.
    pub environment_name: Option<String>,
    /// The uid of that environment. Never given together with `documents`.
    pub environment_uid: Option<Uuid>,
    /// The fragment that things are made for where no document says it. Never given together with `documents`.
    pub fragment: Option<String>,
    /// The hub's address, an `http` URI.
    pub hub: Option<String>,
    /// The file with the token that the hub is shown; read for every call.
    pub hub_token_file: Option<PathBuf>,
    /// The bus's brokers, `host:port`; none means that there is no bus.
    pub brokers: Vec<String>,
    /// This namespace's secrets. Never given together with `secrets_root`.
    pub secrets_dir: Option<PathBuf>,
    /// All namespaces' secrets.
    pub secrets_root: Option<PathBuf>,
    /// The folder of sops files.
    pub sops_dir: Option<PathBuf>,
    /// The file with the age key that opens them.
    pub sops_key_file: Option<PathBuf>,
    /// Where gRPC answers.
    pub listen: SocketAddr,
    /// Where health answers.
    pub health_listen: SocketAddr,
    /// Where metrics are read.
    pub metrics_listen: SocketAddr,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// Where traces go, an `http` URI.
    pub otlp: Option<String>,
    /// The address of whoever looks after servers that the documents name no administrator for, an `http` URI.
    pub postgres_init: Option<String>,
    /// Whether waiters and provers poll while events flow.
    pub polling: bool,
    /// How often a long-lived service looks at everything again.
    pub resync: Duration,
    /// How long a one-shot may take.
    pub deadline: Option<Duration>,
    /// Tells instances of one service apart.
    pub instance: String,
}

/// A setting that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// No setting has this name.
    #[error("{name}: no such setting; the settings are {}", names())]
    Unknown {
        /// The unknown name.
        name: String,
    },
    /// The value is not what the key asks for.
    #[error("{name}: `{value}` is not {expected}")]
    Invalid {
        /// The key.
        name: &'static str,
        /// The value as given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("{0} and {1} exclude each other; give one")]
    Exclusive(&'static str, &'static str),
    /// The settings folder cannot be read.
    #[error("ROLLCALL_SETTINGS: {0}")]
    Source(#[from] config::ConfigError),
}

fn names() -> String {
    KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Reads settings from these environment variables, and from the folder they name.
    pub fn load(env: impl IntoIterator<Item = (String, String)>) -> Result<Settings, SettingsError> {
        let env: HashMap<String, String> = env.into_iter().collect();
        let fallback = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        let values = Values::read(&env)?;

        let (secrets_dir, secrets_root) =
            (values.text("ROLLCALL_SECRETS_DIR"), values.text("ROLLCALL_SECRETS_ROOT"));
        if secrets_dir.is_some() && secrets_root.is_some() {
            return Err(SettingsError::Exclusive("ROLLCALL_SECRETS_DIR", "ROLLCALL_SECRETS_ROOT"));
        }
        let documented = values.text("ROLLCALL_DOCUMENTS").is_some();
        if let Some(name) =
            SAID_BY_DOCUMENTS.into_iter().find(|name| documented && values.text(name).is_some())
        {
            return Err(SettingsError::Exclusive("ROLLCALL_DOCUMENTS", name));
        }
        Ok(Settings {
            documents: values.list("ROLLCALL_DOCUMENTS", ':').map(PathBuf::from).collect(),
            environment_name: values.text("ROLLCALL_ENVIRONMENT_NAME"),
            environment_uid: values.parsed("ROLLCALL_ENVIRONMENT_UID", UID, uid)?,
            fragment: values.text("ROLLCALL_FRAGMENT"),
            hub: values.parsed("ROLLCALL_HUB", HTTP, http_uri)?,
            hub_token_file: values.text("ROLLCALL_HUB_TOKEN_FILE").map(PathBuf::from),
            brokers: values
                .list("ROLLCALL_BROKERS", ',')
                .map(|broker| checked("ROLLCALL_BROKERS", &broker, "host:port", host_and_port))
                .collect::<Result<_, _>>()?,
            secrets_dir: secrets_dir.map(PathBuf::from),
            secrets_root: secrets_root.map(PathBuf::from),
            sops_dir: values.text("ROLLCALL_SOPS_DIR").map(PathBuf::from),
            sops_key_file: values.text("ROLLCALL_SOPS_KEY_FILE").map(PathBuf::from),
            listen: values.address("ROLLCALL_LISTEN", ([127, 0, 0, 1], 7070))?,
            health_listen: values.address("ROLLCALL_HEALTH_LISTEN", ([0, 0, 0, 0], 7071))?,
            metrics_listen: values.address("ROLLCALL_METRICS_LISTEN", ([0, 0, 0, 0], 7072))?,
            log: values
                .parsed("ROLLCALL_LOG", "a list of log directives", log_filter)?
                .unwrap_or_else(|| "info".into()),
            log_format: values
                .parsed("ROLLCALL_LOG_FORMAT", "`text` or `json`", log_format)?
                .unwrap_or(LogFormat::Auto),
            otlp: match values.parsed("ROLLCALL_OTLP", HTTP, http_uri)? {
                Some(endpoint) => Some(endpoint),
                // What an OpenTelemetry operator sets for every container.
                None => fallback("OTEL_EXPORTER_OTLP_ENDPOINT")
                    .map(|value| checked("OTEL_EXPORTER_OTLP_ENDPOINT", &value, HTTP, http_uri))
                    .transpose()?,
            },
            postgres_init: values.parsed("ROLLCALL_POSTGRES_INIT", HTTP, http_uri)?,
            polling: values.parsed("ROLLCALL_POLLING", "`on` or `off`", on_or_off)?.unwrap_or(true),
            resync: values.parsed("ROLLCALL_RESYNC", DURATION, duration)?.unwrap_or(Duration::from_secs(30)),
            deadline: values.parsed("ROLLCALL_DEADLINE", DURATION, duration)?,
            instance: values
                .text("ROLLCALL_INSTANCE")
                .or_else(|| fallback("HOSTNAME"))
                .unwrap_or_else(|| std::process::id().to_string()),
        })
    }

    /// Whether a variable of this name belongs to the settings, for those who hand settings on to other processes.
    pub fn owns(name: &str) -> bool {
        KEYS.iter().any(|key| key.name == name)
    }
}

fn checked<T>(
    name: &'static str,
    value: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, SettingsError> {
    parse(value).ok_or_else(|| SettingsError::Invalid { name, value: value.to_owned(), expected })
}

/// Values by the lower-case name without the prefix, which is what `config` keeps.
struct Values(BTreeMap<String, String>);

impl Values {
    fn read(env: &HashMap<String, String>) -> Result<Self, SettingsError> {
        let ours = ours(env);
        let mut sources = Config::builder();
        if let Some(folder) = ours.get("ROLLCALL_SETTINGS").filter(|folder| !folder.is_empty()) {
            let folder = folder::Folder::read(Path::new(folder))?;
            known(folder.names())?;
            sources = sources.add_source(folder);
        }
        known(ours.keys().map(String::as_str))?;
        let variables = Environment::with_prefix("ROLLCALL").ignore_empty(true).source(Some(ours));
        Ok(Values(sources.add_source(variables).build()?.try_deserialize()?))
    }

    fn text(&self, name: &'static str) -> Option<String> {
        self.0.get(&name.strip_prefix(PREFIX)?.to_lowercase()).cloned()
    }

    fn list(&self, name: &'static str, separator: char) -> impl Iterator<Item = String> {
        let items = self.text(name).unwrap_or_default();
        let items: Vec<String> = items
            .split(separator)
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        items.into_iter()
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        self.text(name).map(|value| checked(name, &value, expected, parse)).transpose()
    }

    fn address(
        &self,
        name: &'static str,
        default: impl Into<SocketAddr>,
    ) -> Result<SocketAddr, SettingsError> {
        let address = self.parsed(name, "an address such as 0.0.0.0:7070", |value| value.parse().ok())?;
        Ok(address.unwrap_or_else(|| default.into()))
    }
}

fn known<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), SettingsError> {
    match names.find(|name| !Settings::owns(name)) {
        Some(name) => Err(SettingsError::Unknown { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// The variables meant for us: all that begin with the prefix, but for those that Kubernetes puts into every pod of a
/// namespace that has a Service named `rollcall` or `rollcall-…` ("service links").
fn ours(env: &HashMap<String, String>) -> HashMap<String, String> {
    let services: Vec<&str> = env.keys().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let is_link = |name: &str| {
        services.iter().filter_map(|service| name.strip_prefix(service)).any(|rest| {
            rest.starts_with("_SERVICE_HOST") || rest.starts_with("_SERVICE_PORT") || is_port_link(rest)
        })
    };
    env.iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !is_link(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `_PORT`, `_PORT_7070_TCP` and the like.
fn is_port_link(rest: &str) -> bool {
    rest == "_PORT" || rest.starts_with("_PORT_")
}
