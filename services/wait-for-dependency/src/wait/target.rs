//! Ad-hoc targets: what people write after a flag, as probes. Anything that is not understood is refused with the flag's
//! name; nothing is guessed, and no refusal repeats a password.

use lifecycle::document::{ObjectName, SecretKey};
use lifecycle::{Component, Kind};
use url::Url;

use crate::probe::{Grpc, Http, Kafka, Keycloak, Probe, Secret, Tcp};

/// `host:port`.
pub(super) fn tcp(text: &str) -> Result<Probe, String> {
    address(text).map(|address| Probe::Tcp(Tcp { address }))
}

/// `URL[=status]`. A status stands after the last `=`, unless that belongs to the last parameter of the query.
pub(super) fn http(text: &str) -> Result<Probe, String> {
    let (url, status) = split_status(text);
    let url = url_of(url)?;
    Ok(Probe::Http(Http { url, status, json: [].into() }))
}

fn split_status(text: &str) -> (&str, Option<u16>) {
    let Some((url, number)) = text.rsplit_once('=') else { return (text, None) };
    let status = number.parse::<u16>().ok().filter(|status| number.len() == 3 && (100..600).contains(status));
    let last_parameter = url.split_once('?').map(|(_, query)| query.rsplit('&').next().unwrap_or_default());
    // `?code=200` is a parameter with a value; `?code=200=204` has a status after it.
    let is_value = last_parameter.is_some_and(|parameter| !parameter.contains('='));
    if status.is_some() && !is_value { (url, status) } else { (text, None) }
}

/// `host:port[/service]`, or with `http://` or `https://` before it.
pub(super) fn grpc(text: &str) -> Result<Probe, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some((scheme, _)) => {
            return Err(format!("`{scheme}://` is not spoken here; write host:port or https://host:port"));
        }
        None => ("http", text),
    };
    let (place, service) = rest.split_once('/').unwrap_or((rest, ""));
    let url = url_of(&format!("{scheme}://{}", address(place)?))?;
    Ok(Probe::Grpc(Grpc { url, service: service.to_owned() }))
}

/// `URL[/realms/name]`.
pub(super) fn keycloak(text: &str) -> Result<Probe, String> {
    let mut url = url_of(text)?;
    let path = url.path().trim_end_matches('/').to_owned();
    let (base, realm) = match path.rsplit_once("/realms/") {
        Some((base, realm)) if !realm.is_empty() && !realm.contains('/') => (base, realm),
        Some(_) => return Err("write the address up to the realm: http://host/realms/name".to_owned()),
        None => (path.as_str(), "master"),
    };
    let realm = percent_encoding::percent_decode_str(realm).decode_utf8_lossy().into_owned();
    let base = base.to_owned();
    url.set_path(&base);
    url.set_query(None);
    url.set_fragment(None);
    Ok(Probe::Keycloak(Keycloak { url, realm, management: None }))
}

/// `host:port[,host:port…][/topic]`.
pub(super) fn kafka(text: &str) -> Result<Probe, String> {
    if text.contains("://") {
        return Err("write brokers as host:port[,host:port][/topic], without a scheme".to_owned());
    }
    let (brokers, topic) = match text.split_once('/') {
        Some((brokers, topic)) => (brokers, Some(topic)),
        None => (text, None),
    };
    let brokers = brokers.split(',').map(address).collect::<Result<Vec<_>, _>>()?;
    if let Some(topic) = topic {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(fits) {
            return Err(format!("`{topic}` names no topic: letters, digits, `.`, `_` and `-`, at most 249"));
        }
    }
    Ok(Probe::Kafka(Kafka { brokers, expect_brokers: 1, tls: None, topic: topic.map(str::to_owned) }))
}

/// `[namespace/]name:key`.
pub(super) fn secret(text: &str, namespace: Option<&str>) -> Result<Probe, String> {
    let SecretKey { secret, key } = secret_key(text, namespace)?;
    Ok(Probe::Secret(Secret { secret, keys: vec![key] }))
}

/// `[namespace/]name:key`, in `namespace` where none is written.
pub(super) fn secret_key(text: &str, namespace: Option<&str>) -> Result<SecretKey, String> {
    let (name, key) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` is not [namespace/]name:key"))?;
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if key.is_empty() || key.starts_with("..") || !is_key(key) {
        return Err(format!("`{key}` is no key of a Secret: letters, digits, `-`, `_` and `.`"));
    }
    let name: ObjectName = name.parse()?;
    let namespace = name.namespace.as_deref().or(namespace).ok_or_else(|| {
        format!("`{text}` says no namespace, and nothing else does: write namespace/name:key")
    })?;
    Ok(SecretKey { secret: Component::namespaced(Kind::Secret, namespace, &name.name), key: key.to_owned() })
}

/// Checks `host:port`.
fn address(text: &str) -> Result<String, String> {
    let wrong = || {
        // What was meant as an address may hold credentials.
        let shown = text.rsplit('@').next().unwrap_or_default();
        format!("`{shown}` is not host:port")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || ":/@[]?#".contains(c)),
    };
    if port_fits && host_fits { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// Checks an http address.
fn url_of(text: &str) -> Result<Url, String> {
    let url: Url =
        text.parse().map_err(|error| format!("is not an address: {error}; write http://host:port/path"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(format!("`{scheme}:` is not an http address; write http://host:port/path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parsed: Result<Probe, String>) -> String {
        parsed.map_or_else(|error| error, |probe| probe.to_string())
    }

    #[test]
    fn what_people_write_is_understood() {
        for (probe, expected) in [
            (tcp("db:5432"), "tcp db:5432"),
            (tcp("[::1]:5432"), "tcp [::1]:5432"),
            (http("http://x/health"), "http://x/health"),
            (http("http://x/health=204"), "http://x/health=204"),
            (http("http://x/?code=200"), "http://x/?code=200"),
            (http("http://x/?code=200=204"), "http://x/?code=200=204"),
            (http("http://x/?a=1&flag=404"), "http://x/?a=1&flag=404"),
            (http("http://u:pw@x/"), "http://x/"),
            (grpc("audit:7070"), "grpc audit:7070"),
            (grpc("https://audit:7070/a.b.C"), "grpc audit:7070/a.b.C"),
            (keycloak("http://kc/auth/realms/staff"), "keycloak http://kc/auth/realms/staff"),
            (keycloak("http://kc:8080"), "keycloak http://kc:8080/realms/master"),
            (kafka("a:9092,b:9092"), "kafka a:9092,b:9092"),
            (kafka("a:9092/dev.events"), "kafka a:9092/dev.events"),
            (secret("db:password", Some("own")), "secret/own/db:password"),
            (secret("infra/db:tls.crt", None), "secret/infra/db:tls.crt"),
        ] {
            assert_eq!(shown(probe), expected);
        }
        let Ok(Probe::Http(http)) = http("http://x/?code=200=204") else { panic!() };
        assert_eq!((http.url.as_str(), http.status), ("http://x/?code=200", Some(204)));
    }

    #[test]
    fn nonsense_is_refused_and_no_password_repeated() {
        for (probe, says) in [
            (tcp("db"), "not host:port"),
            (tcp("db:0"), "not host:port"),
            (tcp("db:99999"), "not host:port"),
            (tcp(":80"), "not host:port"),
            (tcp("http://x:80"), "not host:port"),
            (tcp("user:hunter2@db"), "`db` is not host:port"),
            (http("x/health"), "is not an address"),
            (http("ftp://x"), "not an http address"),
            (grpc("audit"), "not host:port"),
            (grpc("grpc://audit:1"), "`grpc://`"),
            (keycloak("http://kc/realms/"), "not there"),
            (keycloak("http://kc/realms/a/b"), "up to the realm"),
            (kafka("a:9092/"), "names no topic"),
            (kafka("a:9092,b"), "`b` is not host:port"),
            (kafka("kafka://a:9092"), "without a scheme"),
            (secret("db", Some("own")), "[namespace/]name:key"),
            (secret("db:", Some("own")), "no key"),
            (secret("db:../x", Some("own")), "no key"),
            (secret("../x:key", Some("own")), "does not name a Secret"),
            (secret("db:key", None), "no namespace"),
        ] {
            let text = shown(probe);
            assert!(
                text.contains(says) || says == "not there" && text.contains("realms/master"),
                "{says}: {text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
