//! The environment as it is when accepted fragments join the mounted ones. Pure: no accepted fragment ever puts out a mounted one.

use std::collections::BTreeMap;

use lifecycle::document::{Document, Environment, Source};

use super::rules;
use crate::world::delegated::Kept;

/// How an accepted fragment is called beside files.
pub(crate) fn source(document: &Document) -> Source {
    let fragment = &document.fragment;
    Source {
        file: format!("fragment `{}` of namespace {}", fragment.name, fragment.namespace),
        document: document.clone(),
    }
}

/// What became of the accepted fragments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined<'a> {
    /// The mounted fragments, and those that joined them.
    pub(crate) environment: Environment,
    /// Those that joined.
    pub(crate) documents: Vec<&'a Document>,
    /// Why the others did not, by their names.
    pub(crate) left: BTreeMap<String, Vec<String>>,
}

/// The mounted fragments with those of the accepted, the oldest first, that still may have what they declare.
pub(crate) fn join<'a>(mounted: &Environment, accepted: &'a [Kept]) -> Joined<'a> {
    let mut left = BTreeMap::new();
    let mut candidates: Vec<&Document> = Vec::new();
    for kept in accepted {
        let Some(document) = &kept.document else {
            let why = format!(
                "fragment `{}` of namespace {}: this version does not understand what was accepted",
                kept.fragment, kept.namespace
            );
            left.insert(kept.fragment.clone(), vec![why]);
            continue;
        };
        candidates.push(document);
    }
    // Roles may read databases of younger fragments and of each other, so all may until one of them does not join.
    loop {
        let mut documents: Vec<&Document> = Vec::new();
        let mut environment = mounted.clone();
        for document in &candidates {
            match with(&environment, mounted, &documents, &candidates, document) {
                Ok(with) => {
                    environment = with;
                    documents.push(document);
                }
                Err(why) => {
                    left.insert(document.fragment.name.clone(), why);
                }
            }
        }
        if documents.len() == candidates.len() {
            return Joined { environment, documents, left };
        }
        candidates = documents;
    }
}

/// The environment with one fragment more, in the place of an earlier version of it; why it may not join. What `accepted` have counts
/// against its bounds, and its roles may read of what `readable` declare.
pub(crate) fn with(
    environment: &Environment,
    mounted: &Environment,
    accepted: &[&Document],
    readable: &[&Document],
    asked: &Document,
) -> Result<Environment, Vec<String>> {
    let name = &asked.fragment.name;
    let own = source(asked);
    if let Some(other) = mounted.sources().find(|source| source.document.fragment.name == *name) {
        return Err(vec![format!("{}: {} declares a fragment of this name already", own.file, other.file)]);
    }
    let refusals = rules::refusals(mounted, accepted, readable, asked, None);
    if !refusals.is_empty() {
        return Err(refusals.into_iter().map(|why| format!("{}: {why}", own.file)).collect());
    }
    let identity = environment.identity();
    if asked.environment != *identity || asked.naming != *environment.naming() {
        return Err(vec![format!(
            "{}: it is of another environment, or names things in another way, than the documents here (environment `{}`, {})",
            own.file, identity.name, identity.uid
        )]);
    }
    let others = environment.sources().filter(|source| source.document.fragment.name != *name).cloned();
    let merged = Environment::merge(others.chain([own]));
    match merged.environment {
        Some(environment) if merged.problems.is_empty() => Ok(environment),
        _ => Err(merged.problems.iter().map(ToString::to_string).collect()),
    }
}
