//! What should be: every Secret and ConfigMap that the documents declare, and where its values come from.
//!
//! Pure: names and lengths come from documents, values never do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifecycle::document::{
    self, ConfigMap, Copy, Declared, Document, Environment, Generator, Mode, Secret, SecretRef, SourceGone,
    Template,
};
use lifecycle::{Component, Kind};
use uuid::Uuid;

#[cfg(test)]
pub(crate) mod tests;

/// One declared Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The object, its namespace spelled out.
    pub object: Component,
    /// Who declares it.
    pub owner: Owner,
    /// Where its values come from.
    pub origin: Origin,
    /// The keys that documents read of it.
    pub required: BTreeSet<String>,
    /// Its fragment is in mode `report`.
    pub report_only: bool,
}

/// Who an object belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The environment's uid.
    pub environment: Uuid,
    /// The environment's name, for people.
    pub name: String,
    /// The fragment that declares the object.
    pub fragment: String,
}

/// Where an object's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Somebody else makes it.
    External,
    /// Made once, never overwritten.
    Generated(Generated),
    /// It follows something else.
    Followed(Followed),
}

/// What is made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// How keys are made: a generator stands under its own key, and may write more.
    pub keys: BTreeMap<String, Generator>,
    /// The authorities by which certificates are signed, by the generator's own key.
    pub authorities: BTreeMap<String, Authority>,
    /// The Kubernetes type; `Opaque` when none.
    pub kind: Option<String>,
    /// What would be locked out by another value.
    pub protects: Vec<Component>,
    /// How often its values are to have been rotated.
    pub serial: u32,
    /// Under which keys old values are kept.
    pub previous: BTreeMap<String, String>,
    /// For whom a copy of the values is sealed: an age recipient.
    pub escrow: Option<String>,
}

/// Who signs certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The Secret that holds its certificate and its private key.
    pub secret: Component,
    /// How often it is to have been rotated; what it signed before then would count as signed anew.
    pub serial: u32,
}

/// What follows something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Which keys, and what they are made of.
    pub wanted: Wanted,
    /// The Kubernetes type; its source's when none.
    pub kind: Option<String>,
    /// What becomes of it when its source is deleted.
    pub source_gone: SourceGone,
    /// Keys that somebody else wrote are overwritten.
    pub takeover: bool,
}

/// Which keys something that follows has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of a source, by their own names.
    All(Source),
    /// These.
    Keys(BTreeMap<String, Recipe>),
}

/// What one key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// A value as it is.
    Same(Place),
    /// Text with values in it.
    Text(Vec<Part>),
    /// Certificates, one after the other.
    Bundle(Vec<Place>),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// A value.
    Value {
        /// Where it is.
        place: Place,
        /// It is percent-encoded.
        url: bool,
    },
}

impl Part {
    fn place(&self) -> Option<&Place> {
        match self {
            Part::Value { place, .. } => Some(place),
            Part::Text(_) => None,
        }
    }
}

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In what.
    pub source: Source,
    /// Under which key.
    pub key: String,
}

/// What values are read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A Secret or ConfigMap.
    Object(Component),
    /// An identity provider's client, by its component.
    Client(Component),
    /// A secret in Vault.
    Vault {
        /// The fragment whose Vault it is.
        fragment: String,
        /// The server's name in it.
        server: String,
        /// The path below its mount.
        path: String,
    },
    /// A sops file.
    Sops(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Object(component) | Source::Client(component) => component.fmt(f),
            Source::Vault { server, path, .. } => write!(f, "`{path}` of Vault `{server}`"),
            Source::Sops(file) => write!(f, "the sops file {file}"),
        }
    }
}

impl Recipe {
    /// The values it is made of.
    pub fn places(&self) -> Vec<&Place> {
        match self {
            Recipe::Same(place) => vec![place],
            Recipe::Bundle(places) => places.iter().collect(),
            Recipe::Text(parts) => parts.iter().filter_map(Part::place).collect(),
        }
    }
}

impl Owner {
    /// Whether both are the same owner: names are for people, and an environment may be given another.
    pub fn is(&self, other: &Owner) -> bool {
        self.environment == other.environment && self.fragment == other.fragment
    }
}

impl Spec {
    /// What it follows.
    pub fn sources(&self) -> BTreeSet<Source> {
        match &self.origin {
            Origin::Followed(followed) => match &followed.wanted {
                Wanted::All(source) => [source.clone()].into(),
                Wanted::Keys(keys) => {
                    keys.values().flat_map(Recipe::places).map(|place| place.source.clone()).collect()
                }
            },
            Origin::External | Origin::Generated(_) => BTreeSet::new(),
        }
    }

    /// Everything that is read to make it: what it follows, and the authorities that sign its certificates.
    pub fn reads(&self) -> BTreeSet<Source> {
        let mut reads = self.sources();
        if let Origin::Generated(generated) = &self.origin {
            let authorities = generated.authorities.values();
            reads.extend(authorities.map(|authority| Source::Object(authority.secret.clone())));
        }
        reads
    }

    /// The Secrets and ConfigMaps that are read to make it.
    pub fn read_objects(&self) -> impl Iterator<Item = Component> {
        self.reads().into_iter().filter_map(|source| match source {
            Source::Object(component) => Some(component),
            _ => None,
        })
    }
}

/// The Secrets and ConfigMaps that an environment's documents declare; what follows stands after what it follows.
pub fn specs(environment: &Environment) -> Vec<Spec> {
    let (read, serials) = (keys_read(environment), serials(environment));
    let identity = environment.identity();
    let spec = |object: &Component, source: &document::Source, origin: Origin| Spec {
        owner: Owner {
            environment: identity.uid,
            name: identity.name.clone(),
            fragment: source.document.fragment.name.clone(),
        },
        required: read.get(object).cloned().unwrap_or_default(),
        origin,
        report_only: source.document.policy.mode == Mode::Report,
        object: object.clone(),
    };
    let secrets = environment.secrets().map(|declared| {
        let origin = secret(&declared, &serials).unwrap_or(Origin::External);
        spec(&declared.component, declared.source, origin)
    });
    let configmaps = environment.configmaps().map(|declared| {
        let origin = configmap(&declared).unwrap_or(Origin::External);
        spec(&declared.component, declared.source, origin)
    });
    let mut specs: Vec<Spec> = secrets.chain(configmaps).collect();
    let sources: BTreeMap<Component, Vec<Component>> =
        specs.iter().map(|spec| (spec.object.clone(), spec.read_objects().collect())).collect();
    specs.sort_by_cached_key(|spec| (depth(&sources, &spec.object, sources.len()), spec.object.clone()));
    specs
}

/// Where a Secret's values come from; none when somebody else makes it.
fn secret(declared: &Declared<'_, Secret>, serials: &BTreeMap<Component, u32>) -> Option<Origin> {
    let (secret, namespace) = (declared.spec, declared.namespace());
    if let Some(copy) = &secret.copy {
        return Some(copied(copy, Kind::Secret, &declared.source.document));
    }
    if let Some(template) = &secret.template {
        let followed = Followed {
            wanted: Wanted::Keys(texts(template, namespace)),
            kind: Some(secret.kind.clone().unwrap_or_else(|| "Opaque".to_owned())),
            source_gone: SourceGone::Retain,
            takeover: false,
        };
        return Some(Origin::Followed(followed));
    }
    let authority = |(key, generator): (&String, &Generator)| {
        let secret = generator.needs()?.secret(namespace);
        let serial = serials.get(&secret).copied().unwrap_or_default();
        Some((key.clone(), Authority { secret, serial }))
    };
    (!secret.external).then(|| {
        Origin::Generated(Generated {
            keys: secret.generate.clone(),
            authorities: secret.generate.iter().filter_map(authority).collect(),
            kind: secret.kind.clone(),
            protects: secret.protects.iter().map(|what| what.clone().in_namespace(namespace)).collect(),
            serial: secret.rotate.as_ref().map_or(0, |rotate| rotate.serial),
            previous: secret.rotate.as_ref().map(|rotate| rotate.previous.clone()).unwrap_or_default(),
            escrow: secret.escrow.clone(),
        })
    })
}

/// Where a ConfigMap's values come from; none when somebody else makes it.
fn configmap(declared: &Declared<'_, ConfigMap>) -> Option<Origin> {
    let (configmap, namespace) = (declared.spec, declared.namespace());
    if let Some(copy) = &configmap.copy {
        return Some(copied(copy, Kind::ConfigMap, &declared.source.document));
    }
    let place = |value: &SecretRef| Place {
        source: Source::Object(value.secret.secret(namespace)),
        key: value.key.clone(),
    };
    let bundle = |values: &Vec<SecretRef>| Recipe::Bundle(values.iter().map(place).collect());
    (!configmap.external).then(|| {
        Origin::Followed(Followed {
            wanted: Wanted::Keys(
                configmap.bundle.iter().map(|(key, values)| (key.clone(), bundle(values))).collect(),
            ),
            kind: None,
            source_gone: SourceGone::Retain,
            takeover: false,
        })
    })
}

fn copied(copy: &Copy, kind: Kind, document: &Document) -> Origin {
    let source = match &copy.from {
        document::Origin::Object(name) => Source::Object(name.component(kind, &document.fragment.namespace)),
        document::Origin::Client(name) => Source::Client(Component::new(Kind::Client, name)),
        document::Origin::Vault { server, path } => {
            let fragment = document.fragment.name.clone();
            Source::Vault { fragment, server: server.clone(), path: path.clone() }
        }
        document::Origin::Sops(file) => Source::Sops(file.clone()),
    };
    let same = |old: &String| Recipe::Same(Place { source: source.clone(), key: old.clone() });
    let wanted = if copy.keys.is_empty() {
        Wanted::All(source)
    } else {
        Wanted::Keys(copy.keys.iter().map(|(new, old)| (new.clone(), same(old))).collect())
    };
    Origin::Followed(Followed { wanted, kind: None, source_gone: copy.source_gone, takeover: copy.takeover })
}

fn texts(template: &Template, namespace: &str) -> BTreeMap<String, Recipe> {
    let part = |piece| match piece {
        document::Piece::Text(text) => Some(Part::Text(text)),
        document::Piece::Value { name, url } => {
            let value = template.values.get(&name)?;
            let source = Source::Object(value.component(namespace)?);
            Some(Part::Value { place: Place { source, key: value.key.clone() }, url })
        }
    };
    // A text that cannot be taken apart was refused with its document.
    let recipe = |text: &String| {
        Recipe::Text(document::pieces(text).unwrap_or_default().into_iter().filter_map(part).collect())
    };
    template.keys.iter().map(|(key, text)| (key.clone(), recipe(text))).collect()
}

/// How many steps away from an original an object is, up to `limit`: what follows itself in a circle waits, and `check`
/// calls it a cycle.
fn depth(sources: &BTreeMap<Component, Vec<Component>>, object: &Component, limit: usize) -> usize {
    let mut level: BTreeSet<&Component> = [object].into();
    (0..limit)
        .take_while(|_| {
            level = level.iter().filter_map(|object| sources.get(*object)).flatten().collect();
            !level.is_empty()
        })
        .count()
}

/// How often each generated Secret is to have been rotated.
fn serials(environment: &Environment) -> BTreeMap<Component, u32> {
    let serial =
        |declared: Declared<'_, Secret>| Some((declared.component, declared.spec.rotate.as_ref()?.serial));
    environment.secrets().filter_map(serial).collect()
}

/// The keys of each object that something in the documents reads: logins, certificate authorities, copies by key.
fn keys_read(environment: &Environment) -> BTreeMap<Component, BTreeSet<String>> {
    let mut read: BTreeMap<Component, BTreeSet<String>> = BTreeMap::new();
    for (object, key) in environment.references() {
        read.entry(object).or_default().insert(key);
    }
    read
}
