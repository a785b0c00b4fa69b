//! Who migrations are run as: the login of a database that acts as its owner, so that a file can do no more than the tenant
//! whose file it is. Wherever a script connects, it does so as the tenant, whatever name it says.

use std::time::Duration;

use chassis::SecretValue;
use chassis::secret::SecretStore;
use migrations::Connect;
use postgres::{ErrorKind, Server};
use sqlx::{ConnectOptions, PgConnection};

use super::spec::{Entrance, MigrationSpec};
use crate::world::Error;

/// How long logging in may take.
const LOGIN: Duration = Duration::from_secs(10);

/// Connections to the databases of a migration.
pub(super) struct AsOwner {
    server: Server,
    name: String,
    entrances: Vec<(Entrance, SecretValue)>,
}

impl AsOwner {
    /// Reads the passwords.
    pub(super) async fn of(spec: &MigrationSpec, secrets: &SecretStore) -> Result<AsOwner, Error> {
        let (connection, namespace) = &spec.connection;
        let server = Server::resolve(&spec.server, connection, namespace, secrets).await?;
        let mut entrances = Vec::new();
        for entrance in &spec.databases {
            let key = &entrance.login.password;
            entrances.push((entrance.clone(), secrets.password(&key.secret, &key.key).await?));
        }
        Ok(AsOwner { server, name: format!("rollcall {}", spec.component), entrances })
    }

    /// Logs in to each database, and looks who it is there: why one cannot be worked in yet, if there is one.
    pub(super) async fn obstacle(&self) -> Result<Option<(&Entrance, Obstacle)>, Error> {
        for (entrance, password) in &self.entrances {
            let (role, database) = (&entrance.login.role, &entrance.name);
            let session =
                postgres::Session::open(&self.server, role, Some(password), database, &self.name, LOGIN);
            let mut session = match session.await {
                Ok(session) => session,
                // Until the database is finished its login does not work.
                Err(error)
                    if matches!(
                        error.kind,
                        ErrorKind::Login | ErrorKind::NoDatabase | ErrorKind::NoConnect | ErrorKind::Closed
                    ) || error.code == postgres::UNTOLD =>
                {
                    return Ok(Some((entrance, Obstacle::NotYet(error.to_string()))));
                }
                Err(error) => return Err(error.into()),
            };
            // Each tries a lock, and scripts set what is to hold until their end.
            Box::pin(self.prove(entrance, password, &mut session)).await?;
            let (connection, within) = session.parts();
            let asked = sqlx::query_as(WHO).persistent(false);
            let (powerful, owns, acts): (bool, bool, String) =
                within.judge(asked.fetch_one(connection)).await?;
            session.close().await;
            if powerful {
                let said = format!(
                    "role `{role}` may do more on the server than in its database (a superuser's rights or those over roles): files would run with them; take them from it"
                );
                return Ok(Some((entrance, Obstacle::Never(said))));
            }
            if !owns {
                let said = format!(
                    "role `{role}` acts as `{acts}` in database `{database}`, and not as its owner yet"
                );
                return Ok(Some((entrance, Obstacle::NotYet(said))));
            }
        }
        Ok(None)
    }

    async fn prove(
        &self,
        entrance: &Entrance,
        password: &SecretValue,
        session: &mut postgres::Session,
    ) -> Result<(), Error> {
        let (role, database) = (&entrance.login.role, &entrance.name);
        let other = postgres::Session::open(&self.server, role, Some(password), database, &self.name, LOGIN);
        let mut other = other.await?;
        session.proves_own(&mut other).await?;
        other.close().await;
        Ok(())
    }

    /// A session in the migration's own database.
    pub(super) async fn session(&self) -> Result<postgres::Session, Error> {
        let (entrance, password) = &self.entrances[0];
        let (role, database) = (&entrance.login.role, &entrance.name);
        Ok(postgres::Session::open(&self.server, role, Some(password), database, &self.name, LOGIN).await?)
    }
}

/// Why a database cannot be worked in.
pub(super) enum Obstacle {
    /// It is not finished yet.
    NotYet(String),
    /// It must not be worked in like this.
    Never(String),
}

/// Whether who logs in has powers over the server, whether it acts as the database's owner, and as whom it acts.
const WHO: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname IN (session_user, current_user)
         AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls))
    OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
         AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
              OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))),
  d.datdba = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user), current_user::text
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

impl Connect for AsOwner {
    async fn connect(&self, database: &str, _user: Option<&str>) -> Result<PgConnection, sqlx::Error> {
        let Some((entrance, password)) =
            self.entrances.iter().find(|(entrance, _)| entrance.name == database)
        else {
            return Err(sqlx::Error::Protocol(format!(
                "database `{database}` is none that the documents name for this migration"
            )));
        };
        let role = &entrance.login.role;
        let options = postgres::options(&self.server, role, Some(password), database, &self.name)
            .map_err(|error| sqlx::Error::Protocol(error.said))?;
        options.connect().await
    }
}
