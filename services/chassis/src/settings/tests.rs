//! What settings accept, and how they refuse.

use super::*;

fn load(env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn nothing_given_means_the_defaults() {
    let settings = load(&[("HOSTNAME", "pod-0"), ("PATH", "/bin")]).unwrap();
    let expected = Settings {
        documents: Vec::new(),
        environment_name: None,
        environment_uid: None,
        fragment: None,
        hub: None,
        hub_token_file: None,
        brokers: Vec::new(),
        secrets_dir: None,
        secrets_root: None,
        sops_dir: None,
        sops_key_file: None,
        listen: "127.0.0.1:7070".parse().unwrap(),
        health_listen: "0.0.0.0:7071".parse().unwrap(),
        metrics_listen: "0.0.0.0:7072".parse().unwrap(),
        log: "info".into(),
        log_format: LogFormat::Auto,
        otlp: None,
        postgres_init: None,
        polling: true,
        resync: Duration::from_secs(30),
        deadline: None,
        instance: "pod-0".into(),
    };
    assert_eq!(settings, expected);
}

#[test]
fn every_key_is_read() {
    let settings = load(&[
        ("ROLLCALL_DOCUMENTS", "/a:/b"),
        ("ROLLCALL_HUB", "http://hub:7070"),
        ("ROLLCALL_HUB_TOKEN_FILE", "/var/run/token"),
        ("ROLLCALL_BROKERS", "a:9092, b:9092"),
        ("ROLLCALL_SECRETS_ROOT", "/secrets"),
        ("ROLLCALL_LISTEN", "0.0.0.0:0"),
        ("ROLLCALL_HEALTH_LISTEN", "127.0.0.1:1"),
        ("ROLLCALL_METRICS_LISTEN", "[::1]:2"),
        ("ROLLCALL_LOG", "warn,chassis=debug"),
        ("ROLLCALL_LOG_FORMAT", "json"),
        ("ROLLCALL_OTLP", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ignored:4317"),
        ("ROLLCALL_POLLING", "off"),
        ("ROLLCALL_RESYNC", "5s"),
        ("ROLLCALL_DEADLINE", "15m"),
        ("ROLLCALL_INSTANCE", "007123"),
    ])
    .unwrap();
    assert_eq!(settings.documents, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(settings.hub.as_deref(), Some("http://hub:7070"));
    assert_eq!(settings.hub_token_file, Some(PathBuf::from("/var/run/token")));
    assert_eq!(settings.brokers, ["a:9092", "b:9092"]);
    assert_eq!(settings.secrets_root, Some(PathBuf::from("/secrets")));
    assert_eq!(settings.listen, "0.0.0.0:0".parse().unwrap());
    assert_eq!(settings.health_listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(settings.metrics_listen, "[::1]:2".parse().unwrap());
    assert_eq!(settings.log, "warn,chassis=debug");
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.otlp.as_deref(), Some("http://collector:4317"));
    assert!(!settings.polling);
    assert_eq!(settings.resync, Duration::from_secs(5));
    assert_eq!(settings.deadline, Some(Duration::from_mins(15)));
    assert_eq!(settings.instance, "007123", "values stay as they were written");
}

#[test]
fn whose_things_are_made_is_said_here_or_in_documents() {
    let said = [
        ("ROLLCALL_ENVIRONMENT_NAME", "dev"),
        ("ROLLCALL_ENVIRONMENT_UID", "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"),
        ("ROLLCALL_FRAGMENT", "registry"),
    ];
    assert_eq!(said.map(|(name, _)| name), SAID_BY_DOCUMENTS);
    let settings = load(&said).unwrap();
    assert_eq!(settings.environment_name.as_deref(), Some("dev"));
    assert_eq!(settings.environment_uid.map(|uid| uid.to_string()).as_deref(), Some(said[1].1));
    assert_eq!(settings.fragment.as_deref(), Some("registry"));
    for one in said {
        let error = load(&[one, ("ROLLCALL_DOCUMENTS", "/a")]).unwrap_err().to_string();
        assert!(error.contains(one.0) && error.contains("ROLLCALL_DOCUMENTS"), "{error}");
    }
}

#[test]
fn the_standard_otlp_variable_is_honoured() {
    let settings = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")]).unwrap();
    assert_eq!(settings.otlp.as_deref(), Some("http://collector:4317"));
}

#[test]
fn a_refusal_names_the_key() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("ROLLCALL_HUBB", "http://hub")], "ROLLCALL_HUBB: no such setting"),
        (&[("ROLLCALL_HUB", "hub:7070")], "ROLLCALL_HUB: `hub:7070` is not an address"),
        (&[("ROLLCALL_HUB", "http://")], "ROLLCALL_HUB"),
        (&[("ROLLCALL_ENVIRONMENT_UID", "mine")], "ROLLCALL_ENVIRONMENT_UID: `mine` is not a uid"),
        (&[("ROLLCALL_ENVIRONMENT_UID", "00000000-0000-0000-0000-000000000000")], "ROLLCALL_ENVIRONMENT_UID"),
        (&[("ROLLCALL_BROKERS", "a:9092,b")], "ROLLCALL_BROKERS: `b` is not host:port"),
        (&[("ROLLCALL_LISTEN", "localhost")], "ROLLCALL_LISTEN"),
        (&[("ROLLCALL_LOG", "chassis=loud")], "ROLLCALL_LOG"),
        (&[("ROLLCALL_LOG_FORMAT", "xml")], "ROLLCALL_LOG_FORMAT"),
        (&[("ROLLCALL_POLLING", "yes")], "ROLLCALL_POLLING"),
        (&[("ROLLCALL_RESYNC", "0s")], "ROLLCALL_RESYNC"),
        (&[("ROLLCALL_DEADLINE", "soon")], "ROLLCALL_DEADLINE"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[("ROLLCALL_SETTINGS", "/no/such/folder")], "ROLLCALL_SETTINGS: /no/such/folder"),
        (&[("ROLLCALL_SECRETS_DIR", "/a"), ("ROLLCALL_SECRETS_ROOT", "/b")], "exclude each other"),
    ];
    for (env, expected) in table {
        let error = load(env).unwrap_err().to_string();
        assert!(error.contains(expected), "{env:?}: {error}");
    }
}

#[test]
fn an_empty_value_counts_as_not_given() {
    assert_eq!(load(&[("ROLLCALL_HUB", "")]).unwrap().hub, None);
}

#[test]
fn service_links_of_kubernetes_are_not_settings() {
    let settings = load(&[
        ("ROLLCALL_HUB_SERVICE_HOST", "10.0.0.1"),
        ("ROLLCALL_HUB_SERVICE_PORT", "7070"),
        ("ROLLCALL_HUB_SERVICE_PORT_GRPC", "7070"),
        ("ROLLCALL_HUB_PORT", "tcp://10.0.0.1:7070"),
        ("ROLLCALL_HUB_PORT_7070_TCP_ADDR", "10.0.0.1"),
        ("ROLLCALL_HUB", "http://rollcall-hub:7070"),
    ]);
    assert_eq!(settings.unwrap().hub.as_deref(), Some("http://rollcall-hub:7070"));
    // Without the Service it is a misspelt setting.
    assert!(load(&[("ROLLCALL_HUB_PORT", "7070")]).is_err());
}

#[test]
fn a_variable_wins_over_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ROLLCALL_INSTANCE", "007123\n");
    write("ROLLCALL_RESYNC", "7s\n");
    std::fs::create_dir(folder.path().join("..data")).unwrap();
    let path = folder.path().to_str().unwrap();

    let settings = load(&[("ROLLCALL_SETTINGS", path), ("ROLLCALL_RESYNC", "9s")]).unwrap();
    assert_eq!((settings.instance.as_str(), settings.resync), ("007123", Duration::from_secs(9)));

    write("resync", "7s");
    let error = load(&[("ROLLCALL_SETTINGS", path)]).unwrap_err().to_string();
    assert!(error.starts_with("resync: no such setting"), "{error}");
}

#[test]
fn the_table_of_keys_is_sorted() {
    assert!(KEYS.is_sorted_by_key(|key| key.name));
}
