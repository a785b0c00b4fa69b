//! Who may ask. Pure: what no rule lets an account ask for is refused.

use std::collections::BTreeSet;

use chassis::grpc::Identity;
use lifecycle::document::{Delegate, Document, Environment, FragmentName};
use lifecycle::{Component, Kind};

use super::rules::servers;

/// The rules about a fragment on a server, of which the caller may make use; why there are none.
pub(super) fn about<'a>(
    mounted: &'a Environment,
    server: &str,
    asked: &Document,
    caller: Option<&Identity>,
) -> Result<Vec<&'a Delegate>, String> {
    let component = Component::new(Kind::Postgres, server);
    let declared = mounted.postgres().find(|one| one.component == component && one.spec.admin.is_some());
    let Some(declared) = declared else {
        return Err(format!(
            "{component} is not looked after here: no document of this service declares it with `admin`"
        ));
    };
    let fragment = &asked.fragment;
    let rules = rules_about(&declared.spec.delegate, fragment);
    if rules.is_empty() {
        return Err(format!(
            "nothing on {component} is delegated to fragment `{0}` of namespace {1}; who looks after the server may add to its document \
             `delegate: [{{namespaces: [{1}]}}]`",
            fragment.name, fragment.namespace
        ));
    }
    let Some(caller) = caller else { return Ok(rules) };
    let usable = usable(&rules, fragment, caller);
    if usable.is_empty() {
        let own = caller.namespace == fragment.namespace;
        return Err(format!(
            "service account {0}/{1} may not ask for fragment `{2}` on {component}: the rules about it name `accounts` {3}; run the pod \
             that asks with one of those, of namespace {4}, or have who looks after the server write `{4}/{5}` there too",
            caller.namespace,
            caller.account,
            fragment.name,
            named(&rules).into_iter().collect::<Vec<_>>().join(", "),
            fragment.namespace,
            if own { &caller.account } else { "NAME" }
        ));
    }
    Ok(usable)
}

/// Why an account may not ask for a fragment; nothing when it may.
pub(super) fn refused_account(mounted: &Environment, asked: &Document, caller: &Identity) -> Option<String> {
    servers(asked).iter().find_map(|server| about(mounted, server, asked, Some(caller)).err())
}

/// Why there is nothing here that an account could ask for; nothing where there may be. One `at_home` may speak for every namespace.
pub(super) fn refused_caller(mounted: &Environment, caller: &Identity, at_home: bool) -> Option<String> {
    let Identity { namespace, account, .. } = caller;
    let mut accounts = BTreeSet::new();
    for server in mounted.postgres().filter(|server| server.spec.admin.is_some()) {
        let rules = &server.spec.delegate;
        for rule in rules {
            for of in rule.namespaces.iter().filter(|of| at_home || *of == namespace) {
                // Where it names no fragment it is about one that none does.
                let nameless = rule.fragments.is_empty().then(String::new);
                for name in rule.fragments.iter().cloned().chain(nameless) {
                    let fragment = FragmentName { name, namespace: of.clone() };
                    let about = rules_about(rules, &fragment);
                    if !usable(&about, &fragment, caller).is_empty() {
                        return None;
                    }
                    accounts.extend(named(&about));
                }
            }
        }
    }
    let why = if accounts.is_empty() {
        format!(
            "no rule is about namespace {namespace}; who looks after a server may add to its document `delegate: [{{namespaces: \
             [{namespace}]}}]`"
        )
    } else {
        format!(
            "the rules about its namespace name `accounts` {}; run the pod that asks with one of those, or have who looks after the server \
             write `{namespace}/{account}` there too",
            accounts.into_iter().collect::<Vec<_>>().join(", ")
        )
    };
    Some(format!("service account {namespace}/{account} may not ask for anything here: {why}"))
}

fn rules_about<'a>(rules: &'a [Delegate], fragment: &FragmentName) -> Vec<&'a Delegate> {
    rules.iter().filter(|rule| rule.is_about(fragment)).collect()
}

fn named<'a>(rules: &[&'a Delegate]) -> BTreeSet<&'a str> {
    rules.iter().flat_map(|rule| rule.accounts.iter().flatten()).map(String::as_str).collect()
}

/// Which of the rules about a fragment a caller may make use of. Where one of them names accounts only those may ask; one that names none
/// then widens what they may have.
fn usable<'a>(rules: &[&'a Delegate], fragment: &FragmentName, caller: &Identity) -> Vec<&'a Delegate> {
    let is_named = |rule: &&Delegate| rule.accounts.is_some();
    let lets = |rule: &&Delegate| rule.lets_ask(fragment, &caller.namespace, &caller.account);
    let usable: Vec<&Delegate> = rules.iter().copied().filter(lets).collect();
    if rules.iter().any(is_named) && !usable.iter().any(is_named) { Vec::new() } else { usable }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use lifecycle::document::Source;
    use serde_json::{Value, json};

    use super::*;

    fn mounted(rules: &Value) -> Environment {
        let document = json!({
            "rollcall": "v1", "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-00000000000a"},
            "fragment": {"name": "base", "namespace": "dev"},
            "postgres": {"main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}}, "delegate": rules}},
        });
        let source = Source { file: "a".to_owned(), document: serde_json::from_value(document).unwrap() };
        Environment::merge([source]).environment.unwrap()
    }

    #[test]
    fn where_a_rule_names_accounts_one_that_names_none_gives_bounds_and_no_right_to_ask() {
        let open = json!({"namespaces": ["shop"], "extensions": ["pg_trgm"]});
        let web = json!({"namespaces": ["shop"], "accounts": ["web"]});
        let lib = json!({"namespaces": ["shop"], "accounts": ["web"], "fragments": ["lib"]});
        // Who asks for which fragment by which rules; how many of them it has, and whether it is let in at all.
        for (rules, whose, fragment, has, enters) in [
            (json!([open]), "shop/any", "till", 1, true),
            (json!([open, web]), "shop/web", "till", 2, true),
            (json!([open, web]), "shop/any", "till", 0, false),
            (json!([web, open]), "shop/any", "till", 0, false),
            (json!([open, lib]), "shop/any", "lib", 0, true),
            (json!([open, lib]), "shop/any", "till", 1, true),
            (json!([lib]), "shop/any", "lib", 0, false),
            (json!([lib]), "shop/web", "lib", 1, true),
            (json!([open]), "bank/web", "till", 1, false),
            (json!([web]), "dev/web", "till", 0, false),
            (json!([open]), "dev/web", "till", 1, true),
        ] {
            let mounted = mounted(&rules);
            let (namespace, account) = whose.split_once('/').unwrap();
            let caller = Identity {
                namespace: namespace.to_owned(),
                account: account.to_owned(),
                pod: None,
                expires: SystemTime::now(),
            };
            let fragment = FragmentName { name: fragment.to_owned(), namespace: "shop".to_owned() };
            let server = mounted.postgres().next().unwrap();
            let about = rules_about(&server.spec.delegate, &fragment);
            assert_eq!(usable(&about, &fragment, &caller).len(), has, "{whose} {rules}");
            let refused = refused_caller(&mounted, &caller, namespace == "dev");
            assert_eq!(refused.is_none(), enters, "{whose} {rules}: {refused:?}");
        }
    }
}
