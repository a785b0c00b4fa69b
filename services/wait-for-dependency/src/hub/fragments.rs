//! The union of registered fragments. A fragment that does not read, belongs to another environment or clashes with what is
//! there is refused with the reason, and blinds nobody: what was there before stays.

use std::collections::{BTreeMap, BTreeSet};

use chassis::wire::Fragment;
use lifecycle::document::{Document, Environment, Identity, Problem, Source};
use lifecycle::sha256_hex;

/// A fragment that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The fragment's name.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// A fragment that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The fragment.
    pub fragment: Fragment,
    /// It was not known yet, or was another.
    pub is_new: bool,
}

/// Fragments that were taken, and their union.
#[derive(Debug, Default)]
pub struct Union {
    fragments: BTreeMap<String, (Fragment, Document)>,
    environment: Option<Environment>,
}

impl Union {
    /// Takes fragments, each in place of an earlier one of its name. What cannot be taken comes back with the reason; the
    /// others are taken all the same.
    pub fn take(&mut self, fragments: Vec<Fragment>, identity: &Identity) -> (Vec<Taken>, Vec<Refusal>) {
        let (mut read, mut refused) = (Vec::new(), Vec::new());
        for fragment in fragments {
            match document(&fragment, identity) {
                Ok(document) => read.push((fragment, document)),
                Err(reason) => refused.push(Refusal { name: fragment.name, reason }),
            }
        }
        // Together first: two may have changed places. Then without those that something is wrong with; then one by one,
        // and the refused again while others are taken, for what one declares another may just have given up.
        let mut taken: Vec<Taken> = Vec::new();
        match self.adopt(&read) {
            Ok(all) => return (all, refused),
            Err(problems) => {
                let named = |name: &str| problems.iter().any(|problem| problem.file == file(name));
                let (wrong, sound): (Vec<_>, Vec<_>) = read.into_iter().partition(|(f, _)| named(&f.name));
                read = wrong;
                match self.adopt(&sound) {
                    Ok(some) => taken = some,
                    Err(_) => read.extend(sound),
                }
            }
        }
        loop {
            let (mut again, before) = (Vec::new(), taken.len());
            for candidate in read {
                match self.adopt(std::slice::from_ref(&candidate)) {
                    Ok(news) => taken.extend(news),
                    Err(problems) => again.push((candidate, told(&problems))),
                }
            }
            // What a later one of its name replaced is not tried again.
            let replaced = |name: &str| taken.iter().any(|taken| taken.fragment.name == name);
            let done = taken.len() == before;
            let (past, again): (Vec<_>, Vec<_>) =
                again.into_iter().partition(|((fragment, _), _)| done || replaced(&fragment.name));
            refused.extend(past.into_iter().map(|((f, _), reason)| Refusal { name: f.name, reason }));
            if again.is_empty() {
                return (taken, refused);
            }
            read = again.into_iter().map(|(candidate, _)| candidate).collect();
        }
    }

    /// Takes these together, or none of them; then what is wrong with them.
    fn adopt(&mut self, new: &[(Fragment, Document)]) -> Result<Vec<Taken>, Vec<Problem>> {
        let mut fragments = self.fragments.clone();
        let mut taken = Vec::new();
        for (fragment, document) in new {
            let mut fragment = fragment.clone();
            let known = fragments.get(&fragment.name).map(|(known, _)| known);
            if let Some(known) = known.filter(|known| known.hash == fragment.hash) {
                // Whoever registers what is mounted makes it no less so.
                fragment.mounted_by = fragment.mounted_by.or_else(|| known.mounted_by.clone());
            }
            let is_new = known.is_none_or(|known| *known != fragment);
            fragments.insert(fragment.name.clone(), (fragment.clone(), document.clone()));
            taken.push(Taken { fragment, is_new });
        }
        if taken.iter().all(|taken| !taken.is_new) {
            return Ok(taken);
        }
        let documents = fragments.values().map(|(_, document)| document);
        let sources = documents.map(|d| Source { file: file(&d.fragment.name), document: d.clone() });
        let mut merged = Environment::merge(sources);
        if !merged.problems.is_empty() {
            // Whatever is wrong came with these: without them nothing was.
            let own: Vec<String> = new.iter().map(|(fragment, _)| file(&fragment.name)).collect();
            merged.problems.retain(|problem| own.contains(&problem.file));
            return Err(merged.problems);
        }
        self.environment = merged.environment;
        self.fragments = fragments;
        Ok(taken)
    }

    /// Forgets these fragments together; false where the others could not stand without them, and then none is.
    pub fn forget(&mut self, names: &BTreeSet<String>) -> bool {
        let mut fragments = self.fragments.clone();
        fragments.retain(|name, _| !names.contains(name));
        let documents = fragments.values().map(|(_, document)| document);
        let sources = documents.map(|d| Source { file: file(&d.fragment.name), document: d.clone() });
        let merged = Environment::merge(sources);
        if !merged.problems.is_empty() {
            return false;
        }
        self.environment = merged.environment;
        self.fragments = fragments;
        true
    }

    /// The union; none before the first fragment.
    pub fn environment(&self) -> Option<&Environment> {
        self.environment.as_ref()
    }

    /// The fragment of this name.
    pub fn get(&self, name: &str) -> Option<&Fragment> {
        self.fragments.get(name).map(|(fragment, _)| fragment)
    }

    /// Learns that somebody had mounted this very fragment, if nobody is known who has.
    pub fn was_mounted(&mut self, fragment: &Fragment) {
        if let Some((known, _)) = self.fragments.get_mut(&fragment.name)
            && known.hash == fragment.hash
            && known.mounted_by.is_none()
        {
            known.mounted_by.clone_from(&fragment.mounted_by);
        }
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

    /// A fragment's namespace.
    pub fn namespace_of(&self, name: &str) -> Option<&str> {
        Some(&self.fragments.get(name)?.1.fragment.namespace)
    }

    /// The fragment that declares a module.
    pub fn fragment_of(&self, module: &str) -> Option<&str> {
        let declares = |document: &Document| document.modules.contains_key(module);
        self.fragments.iter().find(|(_, (_, document))| declares(document)).map(|(name, _)| name.as_str())
    }
}

/// The document that a fragment carries, if it is one of this environment.
fn document(fragment: &Fragment, identity: &Identity) -> Result<Document, String> {
    if fragment.environment.uid != identity.uid {
        return Err(format!(
            "it belongs to environment {} ({}), this hub serves {} ({}); check environment.uid and the hub's address",
            fragment.environment.name, fragment.environment.uid, identity.name, identity.uid
        ));
    }
    let document = fragment.document().map_err(|error| error.to_string())?;
    if document.environment == *identity {
        Ok(document)
    } else {
        Err(format!(
            "it calls the environment `{}`, this hub serves `{}`",
            document.environment.name, identity.name
        ))
    }
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect::<Vec<_>>().join("; ")
}

/// What a registered fragment is called where files are named.
fn file(name: &str) -> String {
    format!("fragment {name}")
}
