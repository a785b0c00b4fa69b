//! What the text of each kind of setting means; nothing when it means nothing.

use std::time::Duration;

use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use super::LogFormat;

pub(super) const HTTP: &str = "an address such as http://host:port";
pub(super) const UID: &str = "a uid such as 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";
pub(super) const DURATION: &str = "a duration above zero, such as 30s or 15m";

/// A uid; the nil one names nobody.
pub(super) fn uid(value: &str) -> Option<Uuid> {
    value.parse().ok().filter(|uid: &Uuid| !uid.is_nil())
}

pub(super) fn http_uri(value: &str) -> Option<String> {
    let uri: http::Uri = value.parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()))
        .then(|| value.to_owned())
}

pub(super) fn host_and_port(value: &str) -> Option<String> {
    let (host, port) = value.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| value.to_owned())
}

pub(super) fn log_filter(value: &str) -> Option<String> {
    EnvFilter::try_new(value).ok().map(|_| value.to_owned())
}

pub(super) fn log_format(value: &str) -> Option<LogFormat> {
    match value {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

pub(super) fn on_or_off(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

pub(super) fn duration(value: &str) -> Option<Duration> {
    humantime::parse_duration(value).ok().filter(|duration| !duration.is_zero())
}
