//! What each set of variables becomes.

use std::os::unix::ffi::OsStringExt;

use lifecycle::document::{Extension, Identity};
use proptest::prelude::*;

use super::*;
use crate::spec::specs;

const GIVEN: [(&str, &str); 7] = [
    ("POSTGRES_HOST", "commons-postgresql"),
    ("POSTGRES_PORT", "5432"),
    ("POSTGRES_USER", "postgres"),
    ("POSTGRES_PASSWORD", "planted-admin"),
    ("DB_NAME", "registry"),
    ("DB_USER", "registry_user"),
    ("DB_PASSWORD", "planted-app"),
];

fn owner() -> Owner {
    let uid = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06".parse().unwrap();
    Owner {
        environment: Identity { name: "openg2p".to_owned(), uid },
        namespace: "openg2p".to_owned(),
        fragment: "registry-postgres-init".to_owned(),
    }
}

/// All that is required, with these instead or besides.
fn variables(more: &[(&str, &str)]) -> Option<Variables> {
    let kept = GIVEN.iter().filter(|(name, _)| !more.iter().any(|(other, _)| name == other));
    Variables::of(kept.chain(more).map(|(name, value)| (name.into(), value.into())))
}

fn asked(more: &[(&str, &str)]) -> Result<Asked, VariablesError> {
    variables(more).unwrap().asked(&owner())
}

fn invalid(more: &[(&str, &str)]) -> (&'static str, String) {
    match asked(more).unwrap_err() {
        VariablesError::Invalid { name, problem } => (name, problem),
        missing @ VariablesError::Missing(_) => panic!("{missing}"),
    }
}

#[test]
fn they_are_one_document_that_is_right() {
    let asked = asked(&[("DB_EXTENSIONS", "pg_trgm, unaccent"), ("HOME", "/root")]).unwrap();
    assert!(asked.prefers_tls, "as psql does");
    let specs = specs(&asked.environment);
    let server = &specs[&"postgres/main".parse().unwrap()];
    assert_eq!((server.connection.host.as_str(), server.connection.port), ("commons-postgresql", 5432));
    assert_eq!(
        (server.admin.role.as_str(), server.admin.password.key.as_str()),
        ("postgres", "POSTGRES_PASSWORD")
    );
    assert_eq!(server.environment, owner().environment);
    let database = &server.databases[0];
    assert_eq!(
        (database.name.as_str(), database.owner.as_str(), database.app.role.as_str()),
        ("registry", "registry_owner", "registry_user")
    );
    assert_eq!(database.ddl, Ddl::AsOwner, "modules of OpenG2P migrate themselves");
    assert_eq!(database.extensions, ["pg_trgm", "unaccent"].map(Extension::new));
    assert_eq!(database.fragment, "registry-postgres-init");
}

#[test]
fn what_is_missing_is_named_and_nothing_at_all_is_nothing() {
    for (name, _) in GIVEN {
        let error = asked(&[(name, "")]).unwrap_err();
        assert_eq!(error, VariablesError::Missing(vec![name]), "empty counts as not given");
        assert!(error.to_string().starts_with(&format!("{name} not given")), "{error}");
    }
    let env = |pairs: &[(&str, &str)]| Variables::of(pairs.iter().map(|(n, v)| (n.into(), v.into())));
    let all_but = env(&[("DB_EXTENSIONS", "pg_trgm")]).unwrap().asked(&owner()).unwrap_err();
    assert_eq!(all_but, VariablesError::Missing(REQUIRED.to_vec()));
    for nothing in [
        &[][..],
        &[("DB_EXTENSIONS", "")],
        &[("PGSSLMODE", "require"), ("PATH", "/bin")],
        // A Service named `postgres`.
        &[("POSTGRES_PORT", "tcp://10.0.0.1:5432"), ("POSTGRES_SERVICE_HOST", "10.0.0.1")],
    ] {
        assert!(env(nothing).is_none(), "{nothing:?}");
    }
    let linked = asked(&[("POSTGRES_PORT", "tcp://10.0.0.1:5432")]).unwrap_err();
    assert_eq!(linked, VariablesError::Missing(vec!["POSTGRES_PORT"]));
}

#[test]
fn what_cannot_be_used_is_named_with_its_variable() {
    for (name, value, says) in [
        ("POSTGRES_PORT", "0", "not a port"),
        ("POSTGRES_PORT", "65536", "not a port"),
        ("POSTGRES_PORT", "5432 ", "not a port"),
        ("DB_NAME", "postgres", "reserved"),
        ("DB_NAME", "rollcall", "reserved"),
        ("DB_NAME", "my db", "letters, digits"),
        ("DB_NAME", "{environment}", "letters, digits"),
        ("DB_USER", "{namespace}_user", "letters, digits"),
        ("DB_USER", "pg_monitor", "reserved"),
        ("DB_USER", "x\"; DROP", "letters, digits"),
        ("DB_USER", "registry_owner", "same role"),
        ("DB_EXTENSIONS", "pg_trgm;x", "no extension"),
        ("PGSSLMODE", "allow", "none of"),
        ("PGSSLROOTCERT", "/ca.crt", "PGSSLMODE"),
    ] {
        let (named, problem) = invalid(&[(name, value)]);
        assert!(named == name && problem.contains(says), "{name}={value}: {named}: {problem}");
    }
    let long = "x".repeat(64);
    assert_eq!(invalid(&[("DB_NAME", &long)]).0, "DB_NAME");
    assert_eq!(invalid(&[("DB_USER", &long)]).0, "DB_USER");
    let mut env: Vec<(OsString, OsString)> = GIVEN.iter().map(|(n, v)| (n.into(), v.into())).collect();
    env[6].1 = OsString::from_vec(vec![b'x', 0xff]);
    let error = Variables::of(env).unwrap().asked(&owner()).unwrap_err();
    assert_eq!(error, VariablesError::invalid("DB_PASSWORD", "is not UTF-8 text"));
}

#[test]
fn extensions_are_listed_as_each_version_of_the_script_took_them() {
    for list in
        ["pg_trgm,unaccent", "pg_trgm unaccent", " pg_trgm ,\n unaccent,,", "pg_trgm,unaccent,pg_trgm"]
    {
        let asked = asked(&[("DB_EXTENSIONS", list)]).unwrap();
        let database = asked.environment.databases().next().unwrap().spec.clone();
        assert_eq!(database.extensions, ["pg_trgm", "unaccent"].map(Extension::new), "{list:?}");
    }
    let one = asked(&[("DB_EXTENSIONS", "uuid-ossp")]).unwrap();
    assert_eq!(one.environment.databases().next().unwrap().spec.extensions, [Extension::new("uuid-ossp")]);
}

#[test]
fn protection_is_what_psql_would_make_of_it() {
    for (mode, document) in [
        ("disable", TlsMode::Disable),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ] {
        let asked = asked(&[("PGSSLMODE", mode)]).unwrap();
        assert!(!asked.prefers_tls);
        assert_eq!(asked.environment.postgres().next().unwrap().spec.tls.mode, document);
    }
    assert!(asked(&[("PGSSLMODE", "prefer")]).unwrap().prefers_tls);
    let trusted = asked(&[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "/etc/ca.crt")]).unwrap();
    assert_eq!(trusted.authority, Some(PathBuf::from("/etc/ca.crt")));
    let ca = trusted.environment.postgres().next().unwrap().spec.tls.ca.clone().unwrap();
    assert_eq!(ca.key, "PGSSLROOTCERT");
}

#[test]
fn long_names_have_an_owner_of_their_own() {
    let long = format!("{}_registry", "r".repeat(54));
    assert_eq!(long.len(), 63);
    let other = format!("{}_registri", "r".repeat(54));
    let role = |name: &str| {
        let asked = asked(&[("DB_NAME", name)]).unwrap();
        specs(&asked.environment).into_values().next().unwrap().databases[0].owner.clone()
    };
    assert!(role(&long).len() == 63 && role(&long).ends_with("_owner"));
    assert_ne!(role(&long), role(&other));
}

#[test]
fn no_password_shows() {
    let variables = variables(&[]).unwrap();
    let asked = variables.asked(&owner()).unwrap();
    let shown =
        format!("{variables:?} {variables} {asked:?} {}", serde_json::to_string(&documents(&asked)).unwrap());
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("registry_user"), "{shown}");
}

fn documents(asked: &Asked) -> Vec<Document> {
    asked.environment.sources().map(|source| source.document.clone()).collect()
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("registry".to_owned()),
        Just("postgres".to_owned()),
        Just("5432".to_owned()),
        "[a-zA-Z0-9_.{}-]{1,70}",
        "[^\0]{0,20}",
    ]
}

proptest! {
    /// Every set of variables is a document that is right and says what they say, or an error that names one of them.
    #[test]
    fn each_is_obeyed_or_named(values in prop::collection::vec(value(), 9), good in 0u16..512) {
        let names = REQUIRED.into_iter().chain([EXTENSIONS, TLS_MODE]);
        let env: Vec<(&str, String)> = names
            .enumerate()
            .map(|(i, name)| {
                let known = GIVEN.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
                (name, if good >> i & 1 == 1 { known.to_owned() } else { values[i].clone() })
            })
            .collect();
        let Some(variables) = Variables::of(env.iter().map(|(n, v)| (n.into(), v.into()))) else {
            prop_assert!(env.iter().take(8).all(|(_, value)| value.is_empty() || value.starts_with("tcp://")));
            return Ok(());
        };
        let said = |name: &str| env.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        match variables.asked(&owner()) {
            Ok(asked) => {
                let specs = specs(&asked.environment);
                let server = specs.values().next().unwrap();
                let database = &server.databases[0];
                prop_assert_eq!(&database.name, &said("DB_NAME"));
                prop_assert_eq!(&database.app.role, &said("DB_USER"));
                prop_assert_eq!(&server.admin.role, &said("POSTGRES_USER"));
                prop_assert_eq!(server.connection.port.to_string(), said("POSTGRES_PORT").trim_start_matches(['0', '+']).to_owned());
                let graph = lifecycle::Graph::of(&asked.environment);
                let problems = graph.check(&asked.environment);
                prop_assert!(problems.is_empty(), "{problems:?}");
            }
            Err(VariablesError::Missing(names)) => {
                prop_assert!(!names.is_empty() && names.iter().all(|name| said(name).is_empty() || said(name).starts_with("tcp://")));
            }
            Err(VariablesError::Invalid { name, problem }) => {
                prop_assert!(!said(name).is_empty(), "{name}: {problem}");
            }
        }
    }
}
