//! Sets the password of a role that a module asked for, from a verifier: the password itself is never seen here.

use chassis::clock;
use chassis::provision::Change as Done;
use lifecycle::Component;

use super::super::{Error, PostgresTarget, history, look, registry};
use super::Work;
use crate::ident::{Ident, Literal};
use crate::plan::{Change, Step, ownership};
use crate::scram::Verifier;
use crate::spec::ServerSpec;

impl PostgresTarget {
    /// Gives a login role of a delegated component this verifier.
    ///
    /// # Errors
    /// The role is no login of that component, does not carry the mark of this environment and fragment, or was adopted; and
    /// whatever the server says.
    pub(crate) async fn set_verifier(
        &self,
        spec: &ServerSpec,
        component: &Component,
        role: &str,
        verifier: &Verifier,
    ) -> Result<(), Error> {
        let spec = spec.only(component);
        let mut session = self.registry(&spec).await?;
        let key = registry::Key::of(&spec, component);
        registry::lock(&mut session, key).await?;
        let world = self.look(&spec, &mut session, look::Depth::Shared).await?;
        let own = match (spec.database(component), spec.role(component)) {
            (Some(database), _) => ownership::database(&spec, database, &world),
            (None, Some(reader)) => ownership::reader(&spec, reader, &world),
            (None, None) => return Err(Error::Refused(format!("{component} is not declared"))),
        };
        own.map_err(|obstacle| Error::Refused(obstacle.into_text()))?;
        let is_login = spec.delegated_logins().iter().any(|(login, _)| login == role);
        let record = world.role_record(role).filter(|record| {
            record.environment_uid == spec.environment.uid.to_string()
                && record.fragment == spec.fragment_of(component)
                && world.role(role).is_some_and(|facts| facts.oid == record.oid)
        });
        match record {
            Some(record) if is_login && record.adopted.is_none() => {}
            Some(_) if is_login => {
                return Err(Error::Refused(format!(
                    "role `{role}` was adopted: whoever uses its password still could not log in any more. Write that password into the \
                     module's Secret, or set it with ALTER ROLE once nobody uses the old one"
                )));
            }
            _ => {
                return Err(Error::Refused(format!(
                    "role `{role}` is no login role of {component} that was made for it"
                )));
            }
        }
        let step = Step { component: component.clone(), change: Change::Password { role: role.to_owned() } };
        let mut work = Work { spec: &spec, world: &world, step: &step, session: &mut session };
        let statement =
            format!("ALTER ROLE {} PASSWORD {}", Ident::new(role)?, Literal::new(verifier.expose())?);
        work.quietly(vec![statement]).await?;
        let done = Done {
            time: clock::now(),
            component: component.clone(),
            step: step.to_string(),
            error: None,
            code: String::new(),
            source: self.source.clone(),
        };
        history::write(&mut session, &spec, &self.source, &[done]).await?;
        registry::unlock(&mut session, key).await?;
        self.keep(session);
        Ok(())
    }
}
