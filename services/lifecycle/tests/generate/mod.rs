//! Generators of sound environments and of lifecycle events.

use std::collections::BTreeMap;

use lifecycle::document::{Document, Source};
use lifecycle::{Component, Event, Evidence, Kind, Moment, Phase};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

/// A document as read from a file named like its fragment.
pub(crate) fn source(document: Document) -> Source {
    Source { file: format!("{}.yaml", document.fragment.name), document }
}

/// One to four fragments of one environment that pass every check: each names its things after itself, and needs only
/// things of its own or of earlier fragments.
pub(crate) fn environments() -> impl Strategy<Value = Vec<Document>> {
    let templates = prop::sample::select(vec!["{name}", "{environment}_{name}", "{namespace}-{name}"]);
    let sizes = prop::collection::vec((0..3usize, 0..3usize, 0..3usize, any::<bool>()), 1..4);
    (templates, sizes).prop_map(|(template, sizes)| {
        sizes.iter().enumerate().map(|(i, size)| fragment(template, i, *size, &sizes)).collect()
    })
}

type Size = (usize, usize, usize, bool);

fn fragment(template: &str, i: usize, (databases, topics, modules, runtime): Size, all: &[Size]) -> Document {
    let own = |kind: &str, n: usize| format!("{kind}{i}x{n}");
    let mut document = json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": Uuid::from_u128(7)},
        "fragment": {"name": format!("f{i}"), "namespace": format!("ns{}", i % 2)},
        "naming": {"database": template, "role": template, "topic": "{environment}.{name}"},
        "secrets": {}, "databases": {}, "topics": {}, "modules": {},
    });
    let servers = json!({"main": {"host": "pg", "tls": {"mode": "disable"}}});
    let clusters = json!({"main": {"brokers": ["kafka:9092"]}});
    if i == 0 {
        document["postgres"] = servers;
        document["kafka"] = clusters;
    } else {
        document["uses"] = json!({"postgres": servers, "kafka": clusters});
    }
    for n in 0..databases {
        document["secrets"][own("secret", n)] = json!({"generate": {"password": {"kind": "password"}}});
        document["databases"][own("db", n)] = json!({
            "server": "main",
            "roles": {"app": {
                "name": own("user", n),
                "password": {"secret": own("secret", n), "key": "password"},
                "ddl": if runtime { "as-owner" } else { "none" },
            }},
            "extensions": if runtime { vec!["pg_trgm"] } else { vec![] },
        });
    }
    for n in 0..topics {
        let replication = if runtime { json!("auto") } else { json!(3) };
        document["topics"][own("topic", n)] = json!({"kafka": "main", "partitions": n + 1, "replication": replication, "config": {"retention.ms": "1000"}});
    }
    for n in 0..modules {
        let mut needs: Vec<Value> =
            (0..databases).map(|d| json!(format!("database/{}", own("db", d)))).collect();
        needs.extend(
            (0..topics).map(|t| json!({"component": format!("topic/{}", own("topic", t)), "within": "15m"})),
        );
        if i > 0 && all[i - 1].2 > 0 {
            let when = if runtime { "runtime" } else { "start" };
            needs.push(json!({"component": format!("module/module{}x0", i - 1), "when": when, "on_restart": "report"}));
        }
        document["modules"][own("module", n)] = json!({"needs": needs, "ready": {"http": {"url": "http://module:8080/health", "json": {"/status": "UP"}}}});
    }
    serde_json::from_value(document).unwrap()
}

/// Events of one generation about a few modules.
pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0..6u8, 0..6usize, 0..50u64, 0..3u32).prop_map(|(name, phase, since, attempts)| Event {
        environment: Uuid::nil(),
        component: Component::new(Kind::Module, format!("m{name}")),
        phase: Phase::ALL[phase],
        since: Moment(since),
        generation: 1,
        evidence: Evidence { incarnation: BTreeMap::new(), ..Evidence::default() },
        reason: format!("r{since}"),
        attempts,
        source: String::new(),
        time: Moment(since),
    });
    prop::collection::vec(one, 0..30)
}
