//! A store in memory: the least that keeps the promises of a store.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lifecycle::Component;
use secret_syncer::world::{Change, Claim, Contents, Mark, Record};
use secret_syncer::{Backend, Error};

use super::target_name;

/// A store in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) objects: Mutex<BTreeMap<Component, Contents>>,
    pub(crate) remembered: Mutex<Record>,
}

impl Memory {
    pub(crate) fn change<T>(&self, object: &Component, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(self.objects.lock().unwrap().entry(object.clone()).or_default())
    }

    /// Everything in it, comparable.
    pub(crate) fn image(&self) -> BTreeMap<Component, Image> {
        let image = |contents: &Contents| Image {
            keys: contents.keys.iter().map(|(key, value)| (key.clone(), value.expose().to_vec())).collect(),
            mark: format!("{:?}", contents.mark),
        };
        self.objects
            .lock()
            .unwrap()
            .iter()
            .map(|(secret, contents)| (secret.clone(), image(contents)))
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    pub(crate) keys: BTreeMap<String, Vec<u8>>,
    pub(crate) mark: String,
}

fn own(contents: &Contents, claim: &Claim) -> Result<Mark, Error> {
    match &contents.mark {
        Some(Ok(mark)) if mark.is_of(claim) => Ok(mark.clone().under(claim)),
        _ => Err(Error::Changed(target_name())),
    }
}

impl Backend for &Memory {
    async fn read(&self, object: &Component) -> Result<Option<Contents>, Error> {
        Ok(self.objects.lock().unwrap().get(object).cloned())
    }

    async fn write(&self, object: &Component, change: Change) -> Result<(), Error> {
        self.change(object, |contents| {
            let claim = &change.claim;
            let mut mark = match contents.mark {
                None if change.force || contents.keys.is_empty() => Mark::new(claim),
                _ => own(contents, claim)?,
            };
            let strange = |key: &String| !mark.notes(key) && contents.keys.contains_key(key);
            if !change.force && change.set.keys().any(strange) {
                return Err(Error::Changed(object.clone()));
            }
            for (key, value) in change.create.into_iter().flatten() {
                mark.rotated(&key, change.serial);
                contents.keys.entry(key).or_insert(value);
            }
            for (key, rotated) in change.rotate {
                mark.rotated(&key, rotated.serial);
                let old = contents.keys.insert(key, rotated.value);
                contents.keys.extend(rotated.previous.zip(old));
            }
            contents.keys.extend(change.trust.into_iter().map(|(key, refreshed)| (key, refreshed.value)));
            for (key, value) in change.set {
                mark.note(&key, &value);
                contents.keys.insert(key, value);
            }
            for key in change.remove.iter().filter(|key| mark.notes(key)).cloned().collect::<Vec<_>>() {
                mark.forget(&key);
                contents.keys.remove(&key);
            }
            contents.mark = Some(Ok(mark));
            Ok(())
        })
    }

    async fn delete(&self, object: &Component, claim: &Claim, _: Option<&str>) -> Result<(), Error> {
        self.change(object, |contents| own(contents, claim).map(drop))?;
        self.objects.lock().unwrap().remove(object);
        Ok(())
    }

    async fn remembered(&self, _: &Component, _: &Claim) -> Result<Record, Error> {
        Ok(self.remembered.lock().unwrap().clone())
    }

    async fn remember(&self, _: &Component, _: &Claim, record: &Record) -> Result<(), Error> {
        self.remembered.lock().unwrap().clone_from(record);
        Ok(())
    }
}
