//! Takes topics down: deletes, waits until that is seen, and only then takes the record away.

use std::time::Duration;

use chassis::backoff::Backoff;
use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use super::records::Records;
use super::{Error, KafkaTarget};
use crate::plan::World;
use crate::plan::teardown::{Readers, Subject, Verdict, decide};
use crate::spec::Spec;

/// How long a deleted topic may still be seen.
const GONE: Duration = Duration::from_secs(30);

impl KafkaTarget {
    /// What is on the cluster, and who reads it.
    ///
    /// # Errors
    /// The cluster cannot be asked.
    pub async fn belongings(&self, spec: &Spec) -> Result<(World, Readers), Error> {
        let world = self.look(spec).await?;
        let readers = self.client().await?.readers().await?;
        Ok((world, readers))
    }

    /// Does with a topic what is decided about it now, after looking again; what that was.
    ///
    /// # Errors
    /// The cluster. What was done stays done, and the next run goes on.
    pub async fn take_down(&self, spec: &Spec, subject: &Subject) -> Result<Verdict, Error> {
        let (world, readers) = self.belongings(spec).await?;
        let verdict = decide(subject, &world, &readers, spec.environment.uid);
        let client = self.client().await?;
        match verdict {
            Verdict::Delete => {
                client.delete(&subject.name).await?;
                let begun = Instant::now();
                let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
                while client.topics().await?.topics.contains_key(&subject.name) {
                    if begun.elapsed() > GONE {
                        return Err(client.refused(
                            "wait for the end of",
                            &subject.name,
                            RDKafkaErrorCode::RequestTimedOut,
                        ));
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Records::new(&client)?.withdraw(&spec.environment, &subject.name).await?;
            }
            Verdict::Forget => Records::new(&client)?.withdraw(&spec.environment, &subject.name).await?,
            _ => {}
        }
        Ok(verdict)
    }
}
