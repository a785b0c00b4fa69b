//! What documents come to.

use lifecycle::document::{Password, Source as DocumentSource};

use super::*;

const HEAD: &str = "rollcall: v1\nenvironment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}\n";

/// An environment of these fragments, whose documents may leave out what they have in common.
pub(crate) fn environment(fragments: &[&str]) -> Environment {
    let sources = fragments.iter().enumerate().map(|(i, text)| {
        let file = format!("{i}.yaml");
        DocumentSource { document: chassis::documents::parse(&file, &format!("{HEAD}{text}")).unwrap(), file }
    });
    let merged = Environment::merge(sources);
    assert_eq!(merged.problems, []);
    merged.environment.unwrap()
}

fn component(text: &str) -> Component {
    text.parse().unwrap()
}

#[test]
fn an_external_secret_needs_every_key_that_any_document_reads() {
    let environment = environment(&[
            "
fragment: {name: base, namespace: base}
postgres: {main: {host: h, tls: {mode: verify-full, ca: {secret: ca, key: ca.crt}}, admin: {user: u, password: {secret: pg, key: admin}}, observer: {password: {secret: pg, key: observer}}}}
kafka: {main: {brokers: ['k:1'], tls: {ca: {secret: ca, key: kafka.crt}}}}
secrets: {pg: {external: true}, ca: {external: true}, unread: {external: true}}
",
            "
fragment: {name: app, namespace: app}
uses: {postgres: {main: {host: h, tls: {ca: {secret: base/ca, key: other.crt}}}}}
databases: {d: {server: main, roles: {app: {name: d, password: {secret: base/pg, key: d}}}}}
secrets: {mine: {copy: {from: base/pg, keys: {password: copied}}}}
",
        ]);
    let keys = |name: &str| {
        let spec = specs(&environment).into_iter().find(|spec| spec.object == component(name)).unwrap();
        assert_eq!(spec.origin, Origin::External, "{name}");
        spec.required.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(keys("secret/base/pg"), ["admin", "copied", "d", "observer"]);
    assert_eq!(keys("secret/base/ca"), ["ca.crt", "kafka.crt", "other.crt"]);
    assert!(keys("secret/base/unread").is_empty());
}

#[test]
fn a_copy_stands_after_what_it_is_copied_from() {
    let environment = environment(&["
fragment: {name: base, namespace: base}
policy: {mode: report}
secrets:
  a: {copy: {from: b}}
  b: {copy: {from: other/c, keys: {new: old}}}
  other/c: {generate: {old: {kind: password}}}
"]);
    let specs = specs(&environment);
    let names: Vec<String> = specs.iter().map(|spec| spec.object.to_string()).collect();
    assert_eq!(names, ["secret/other/c", "secret/base/b", "secret/base/a"]);
    let Origin::Generated(generated) = &specs[0].origin else { panic!("{:?}", specs[0]) };
    assert_eq!(generated.keys["old"], Generator::Password(Password { length: 32 }));
    let Origin::Followed(followed) = &specs[1].origin else { panic!("{:?}", specs[1]) };
    let place = Place { source: Source::Object(component("secret/other/c")), key: "old".to_owned() };
    assert_eq!(followed.wanted, Wanted::Keys([("new".to_owned(), Recipe::Same(place))].into()));
    assert!(specs.iter().all(|spec| spec.report_only && spec.owner.fragment == "base"));
}

#[test]
fn copies_in_a_circle_do_not_hang() {
    let environment = environment(&["
fragment: {name: base, namespace: base}
secrets: {a: {copy: {from: b}}, b: {copy: {from: a}}}
"]);
    assert_eq!(specs(&environment).len(), 2);
}

#[test]
fn a_copy_to_several_namespaces_is_as_many_objects_and_a_template_follows_all_its_values() {
    let environment = environment(&["
fragment: {name: base, namespace: base}
vault: {main: {url: 'https://vault', login: {kubernetes: {role: r}}}}
configmaps:
  global: {external: true}
  share: {copy: {from: global, to: [a, b], source_gone: delete}}
  trust: {bundle: {ca.crt: [{secret: db, key: ca}]}}
secrets:
  db: {external: true}
  s3: {copy: {from: {vault: main, path: apps/s3}}}
  url: {template: {keys: {url: 'pg://{host}:{password:url}@x'}, values: {host: {configmap: global, key: host}, password: {secret: db, key: password}}}}
"]);
    let specs = specs(&environment);
    let find = |name: &str| specs.iter().find(|spec| spec.object == component(name)).unwrap();
    for namespace in ["a", "b"] {
        let spec = find(&format!("configmap/{namespace}/share"));
        let Origin::Followed(followed) = &spec.origin else { panic!("{spec:?}") };
        assert_eq!(followed.wanted, Wanted::All(Source::Object(component("configmap/base/global"))));
        assert_eq!(followed.source_gone, SourceGone::Delete);
    }
    let sources: Vec<Component> = find("secret/base/url").read_objects().collect();
    assert_eq!(sources, [component("secret/base/db"), component("configmap/base/global")]);
    assert_eq!(
        find("secret/base/s3").sources().iter().next().unwrap().to_string(),
        "`apps/s3` of Vault `main`"
    );
    let keys = &find("secret/base/db").required;
    assert_eq!(keys.iter().collect::<Vec<_>>(), ["ca", "password"]);
    assert_eq!(find("configmap/base/trust").sources().len(), 1);
}
