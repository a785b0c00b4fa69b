//! What sessions begin with: which settings differ, and which cannot be made.

use std::collections::BTreeMap;

use lifecycle::document::setting_items;

use super::Decision;
use crate::world::facts::World;

/// The wanted settings that are not set so, among those that are, as `name=value`. Others are nobody's business.
pub(super) fn differing<'a>(
    wanted: &BTreeMap<String, String>,
    set: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    // The server keeps some names as `TimeZone`.
    let set: BTreeMap<String, &str> = set
        .filter_map(|setting| setting.split_once('='))
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let same = |name: &str, value: &str| {
        set.get(name).is_some_and(|is| setting_items(name, is) == setting_items(name, value))
    };
    wanted
        .iter()
        .filter(|(name, value)| !same(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Refuses settings that the server does not know, or that cannot be made for a role or a database.
/// Of what a module asked for itself only what every role may set is made.
pub(super) fn judge(
    decision: &mut Decision,
    world: &World,
    of: &str,
    wanted: &BTreeMap<String, String>,
    delegated: bool,
) {
    for name in wanted.keys() {
        let facts = world.shared.settings.iter().find(|setting| setting.name == *name);
        let may = facts.is_some_and(|facts| facts.may);
        let why = match facts.and_then(|facts| facts.context.as_deref()) {
            None if !name.contains('.') => {
                "the server knows no such setting; correct its name, or take it out".to_owned()
            }
            Some("user") => continue,
            Some("superuser") | None if delegated => {
                "a module that asks for its own databases may have only what every role may set; take it out"
                    .to_owned()
            }
            // A name with a dot may belong to what a session loads: then nobody knows yet what it opens.
            Some("superuser") | None if may => continue,
            Some("superuser") | None if world.shared.version < 150_000 => {
                "only a superuser can make it; take it out, or provision as one".to_owned()
            }
            Some("superuser") | None => format!(
                "only who was granted it can make it; run as a superuser GRANT SET ON PARAMETER {name} TO the role that provisions, or \
                 take it out"
            ),
            Some(context) => {
                format!(
                    "the server takes it for itself as a whole only (its context is {context}); take it out"
                )
            }
        };
        decision.refusals.push(format!("setting `{name}` of {of}: {why}"));
    }
}
