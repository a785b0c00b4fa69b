//! Certificates in a store: who signs them, and how those stand that are there.

use std::collections::BTreeMap;

use lifecycle::document::{Certificate, Generator};

use super::values::Sources;
use super::{Backend, Contents, Error, Target};
use crate::generate::{self, CaMaterial};
use crate::plan;
use crate::spec::{Generated, Origin, Source, Spec};

impl<B: Backend> Target<B> {
    /// What signs a generator's certificate, if it makes one.
    pub(super) async fn authority(
        &self,
        spec: &Spec,
        own: &str,
        generator: &Generator,
    ) -> Result<Option<CaMaterial>, Error> {
        let Origin::Generated(generated) = &spec.origin else { return Ok(None) };
        let Some((ca, authority)) = generator.ca().zip(generated.authorities.get(own)) else {
            return Ok(None);
        };
        let keys = self.backend.read(&authority.secret).await?.unwrap_or_default().keys;
        let value = |key: &String| {
            let from = Source::Object(authority.secret.clone());
            keys.get(key).cloned().ok_or_else(|| Error::SourceGone { from, key: key.clone() })
        };
        let previous = authority.previous.as_ref().and_then(|key| keys.get(key).cloned());
        Ok(Some(CaMaterial { certificate: value(&ca.certificate)?, private: value(&ca.private)?, previous }))
    }
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
        Generator::Ca(ca) => {
            generate::state(certificate, contents.keys.get(&ca.private)?, Some(certificate), None)
        }
        Generator::Certificate(Certificate { ca, private, .. }) => {
            let authority = generated.authorities.get(own)?;
            let held = sources.get(&Source::Object(authority.secret.clone()));
            let held = |key: &String| held?.as_ref()?.keys.get(key);
            let previous = authority.previous.as_ref().and_then(held);
            generate::state(certificate, contents.keys.get(private)?, held(&ca.certificate), previous)
        }
        Generator::Password(_) | Generator::Hmac(_) | Generator::PrivateKey(_) => None,
    }
}
