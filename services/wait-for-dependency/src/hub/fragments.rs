//! The union of registered fragments. A fragment that does not read, belongs to another environment or clashes with what is
//! there is refused with the reason, and blinds nobody: what was there before stays.

use std::collections::BTreeMap;

use chassis::wire::Fragment;
use lifecycle::document::{Document, Environment, Identity, Source};
use lifecycle::sha256_hex;

/// A fragment that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The fragment's name.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Fragments that were taken, and their union.
#[derive(Debug, Default)]
pub struct Union {
    fragments: BTreeMap<String, (Fragment, Document)>,
    environment: Option<Environment>,
}

impl Union {
    /// Takes a fragment, in place of an earlier one of its name. Says whether that changed anything.
    pub fn take(&mut self, fragment: Fragment, identity: &Identity) -> Result<bool, Refusal> {
        let refuse = |reason: String| Refusal { name: fragment.name.clone(), reason };
        if fragment.environment.uid != identity.uid {
            return Err(refuse(format!(
                "it belongs to environment {} ({}), this hub serves {} ({}); check environment.uid and the hub's address",
                fragment.environment.name, fragment.environment.uid, identity.name, identity.uid
            )));
        }
        let document = fragment.document().map_err(|error| refuse(error.to_string()))?;
        if document.environment != *identity {
            return Err(refuse(format!(
                "it calls the environment `{}`, this hub serves `{}`",
                document.environment.name, identity.name
            )));
        }
        if self.fragments.get(&fragment.name).is_some_and(|(known, _)| known.hash == fragment.hash) {
            return Ok(false);
        }
        let others = self.fragments.iter().filter(|(name, _)| **name != fragment.name);
        let documents = others.map(|(_, (_, document))| document).chain([&document]);
        let sources = documents.map(|d| Source { file: file(&d.fragment.name), document: d.clone() });
        let merged = Environment::merge(sources);
        if !merged.problems.is_empty() {
            // Whatever is wrong came with this fragment: without it nothing was.
            let own = file(&fragment.name);
            let wrong: Vec<String> = merged
                .problems
                .iter()
                .filter(|problem| problem.file == own)
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            return Err(refuse(wrong.join("; ")));
        }
        self.environment = merged.environment;
        self.fragments.insert(fragment.name.clone(), (fragment, document));
        Ok(true)
    }

    /// The union; none before the first fragment.
    pub fn environment(&self) -> Option<&Environment> {
        self.environment.as_ref()
    }

    /// The fragments, in the order of their names.
    pub fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.fragments.values().map(|(fragment, _)| fragment)
    }

    /// Whether no fragment was taken.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// What the union consists of, in one hash.
    pub fn hash(&self) -> String {
        let parts: Vec<&str> =
            self.fragments().flat_map(|fragment| [fragment.name.as_str(), fragment.hash.as_str()]).collect();
        sha256_hex(&parts)
    }

    /// The fragment that declares a module.
    pub fn fragment_of(&self, module: &str) -> Option<&str> {
        let declares = |document: &Document| document.modules.contains_key(module);
        self.fragments.iter().find(|(_, (_, document))| declares(document)).map(|(name, _)| name.as_str())
    }
}

/// What a registered fragment is called where files are named.
fn file(name: &str) -> String {
    format!("fragment {name}")
}
