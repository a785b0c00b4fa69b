//! Certificates in a store: who signs them, what those who trust are given, and how those stand that are there.

use std::collections::{BTreeMap, BTreeSet};

use chassis::SecretValue;
use lifecycle::Component;
use lifecycle::document::{Ca, Certificate, Generator};

use super::values::Sources;
use super::{Backend, Contents, Error, Refreshed, Target};
use crate::generate::{self, CaMaterial, TrustError};
use crate::plan::{self, Rotation, Step};
use crate::spec::{Authority, Generated, Origin, Source, Spec};

impl<B: Backend> Target<B> {
    /// What signs a generator's certificate, if it makes one.
    pub(super) async fn authority(
        &self,
        spec: &Spec,
        step: &Step,
        own: &str,
        generator: &Generator,
    ) -> Result<Option<CaMaterial>, Error> {
        let Some((ca, authority)) = generator.ca().zip(authority_of(spec, own)) else { return Ok(None) };
        let version = step.version.as_deref();
        let read = self.backend.read_for(&authority.secret, &step.object, version).await?;
        let keys = read.unwrap_or_default().keys;
        let value = |key: &String| {
            let from = Source::Object(authority.secret.clone());
            keys.get(key).cloned().ok_or_else(|| Error::SourceGone { from, key: key.clone() })
        };
        Ok(Some(CaMaterial { certificate: value(&ca.certificate)?, private: value(&ca.private)? }))
    }

    /// Puts behind a new authority's certificate those of before that it keeps.
    pub(super) async fn succeed(
        &self,
        spec: &Spec,
        own: &str,
        rotation: &Rotation,
        values: &mut BTreeMap<String, SecretValue>,
    ) -> Result<(), Error> {
        let Generator::Ca(Ca { keep, .. }) = &rotation.generator else { return Ok(()) };
        let contents = self.backend.read(&spec.object).await?.unwrap_or_default();
        let (Some(before), Some(new)) = (contents.keys.get(own), values.get_mut(own)) else { return Ok(()) };
        // By a rotation that a crash cut short; it has signed nothing.
        let is_rotated = matches!(&contents.mark, Some(Ok(mark)) if mark.times(own) >= rotation.serial);
        // What cannot be read nobody trusts any more.
        if let Ok(all) = generate::succession(Some(new), before, usize::from(is_rotated), usize::from(*keep))
        {
            *new = all;
        }
        Ok(())
    }

    /// What those who trust are given now, by key.
    pub(super) async fn trusted(
        &self,
        spec: &Spec,
        step: &Step,
        generators: &BTreeMap<String, Generator>,
    ) -> Result<BTreeMap<String, Refreshed>, Error> {
        let mut trusted = BTreeMap::new();
        if generators.is_empty() {
            return Ok(trusted);
        }
        let held = self.backend.read(&spec.object).await?.unwrap_or_default().keys;
        for (own, generator) in generators {
            let Some(key) = generator.trust(own) else { continue };
            let value = match generator {
                Generator::Ca(Ca { keep, .. }) => {
                    let Some(held) = held.get(own) else { continue };
                    generate::succession(None, held, 0, 1 + usize::from(*keep))
                }
                _ => match self.authority(spec, step, own, generator).await? {
                    Some(authority) => generate::bundle(&[authority.certificate]),
                    None => continue,
                },
            };
            let value = value.map_err(|error| unmade(spec, own, error))?;
            trusted.insert(key.clone(), Refreshed { before: held.get(key).cloned(), value });
        }
        Ok(trusted)
    }
}

fn unmade(spec: &Spec, key: &str, error: TrustError) -> Error {
    Error::Unmade { object: spec.object.clone(), key: key.to_owned(), reason: error.to_string() }
}

fn authority_of<'a>(spec: &'a Spec, own: &str) -> Option<&'a Authority> {
    match &spec.origin {
        Origin::Generated(generated) => generated.authorities.get(own),
        Origin::External | Origin::Followed(_) => None,
    }
}

/// What an authority's Secret holds under a key.
fn held<'a>(sources: &'a Sources, authority: &Authority, key: &str) -> Option<&'a SecretValue> {
    sources.get(&Source::Object(authority.secret.clone()))?.as_ref()?.keys.get(key)
}

/// How the certificates stand that an object holds, by the key of what makes them.
pub(super) fn states(
    spec: &Spec,
    contents: &Contents,
    sources: &Sources,
) -> BTreeMap<String, plan::Certificate> {
    let Origin::Generated(generated) = &spec.origin else { return BTreeMap::new() };
    let state = |(own, generator): (&String, &Generator)| {
        Some((own.clone(), state(generated, own, generator, contents, sources)?))
    };
    generated.keys.iter().filter_map(state).collect()
}

fn state(
    generated: &Generated,
    own: &str,
    generator: &Generator,
    contents: &Contents,
    sources: &Sources,
) -> Option<plan::Certificate> {
    let certificate = contents.keys.get(own)?;
    match generator {
        Generator::Ca(Ca { keep, .. }) => Some(plan::Certificate {
            condition: generate::state(certificate, None),
            outdated: generate::spare(certificate, *keep) > 0,
        }),
        Generator::Certificate(Certificate { ca, bundle, .. }) => {
            let authority = held(sources, generated.authorities.get(own)?, &ca.certificate);
            let beside = bundle.as_ref().and_then(|key| contents.keys.get(key));
            let outdated = beside.zip(authority).is_some_and(|(beside, authority)| {
                generate::bundle(std::slice::from_ref(authority)).is_ok()
                    && !generate::is_trust(beside, authority)
            });
            Some(plan::Certificate { condition: generate::state(certificate, authority), outdated })
        }
        Generator::Password(_) | Generator::Hmac(_) | Generator::PrivateKey(_) => None,
    }
}

/// The authorities whose rotation is asked for and was not made yet. One that is not marked was made by somebody else, who
/// rotates it as he likes.
pub(super) fn unrotated(spec: &Spec, sources: &Sources) -> BTreeSet<Component> {
    let Origin::Generated(generated) = &spec.origin else { return BTreeSet::new() };
    let is_due = |(own, authority): &(&String, &Authority)| {
        let ca = generated.keys.get(*own).and_then(Generator::ca);
        let contents = sources.get(&Source::Object(authority.secret.clone())).and_then(Option::as_ref);
        let Some((ca, contents)) = ca.zip(contents) else { return false };
        let times = |mark: &super::Mark| mark.times(&ca.certificate).min(mark.times(&ca.private));
        matches!(&contents.mark, Some(Ok(mark)) if times(mark) < authority.serial)
    };
    generated.authorities.iter().filter(is_due).map(|(_, authority)| authority.secret.clone()).collect()
}
