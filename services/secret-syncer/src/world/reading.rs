//! Reading what an object is made from: from memory to see whether anything is to be done, and anew for what is written.

use super::values::Sources;
use super::{Backend, Error, Target};
use crate::spec::{Source, Spec};

impl<B: Backend> Target<B> {
    /// What an object is made from, perhaps as it was a moment ago.
    pub(super) async fn sources(&self, spec: &Spec) -> Result<Sources, Error> {
        let mut sources = Sources::new();
        for source in spec.reads() {
            let contents = match &source {
                Source::Object(object) => {
                    self.backend.given(object, &spec.object).await?;
                    self.backend.read(object).await?
                }
                outside => self.outside.read(outside).await?,
            };
            sources.insert(source, contents);
        }
        Ok(sources)
    }

    /// The same as it may be written to the object that was seen in this version. What is outside is never remembered.
    pub(super) async fn renew(
        &self,
        spec: &Spec,
        version: Option<&str>,
        sources: &mut Sources,
    ) -> Result<(), Error> {
        for (source, contents) in sources {
            if let Source::Object(object) = source {
                *contents = self.backend.read_for(object, &spec.object, version).await?;
            }
        }
        Ok(())
    }
}
