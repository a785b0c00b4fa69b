//! Makes one change. The caller holds the lock and has decided.

use postgres::Session;
use sqlx::AssertSqlSafe;

use super::facts::World;
use super::{Error, PostgresTarget};
use crate::ident::{Ident, Literal};
use crate::plan::{Change, DEFAULTS, Step};
use crate::scram;
use crate::spec::{Login, ServerSpec};

/// What no role of ours ever has.
const POWERLESS: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

/// Keeps a statement that holds a verifier out of the server's log, of its statistics too. Only a superuser may.
const QUIET: &str = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic'; \
     SET LOCAL log_min_duration_statement = -1; SET LOCAL log_min_duration_sample = -1; \
     SET LOCAL pg_stat_statements.track_utility = off";

/// What is being changed, and with which connection.
struct Work<'a> {
    spec: &'a ServerSpec,
    world: &'a World,
    step: &'a Step,
    session: &'a mut Session,
}

impl PostgresTarget {
    pub(super) async fn change(
        &self,
        spec: &ServerSpec,
        world: &World,
        session: &mut Session,
        step: &Step,
    ) -> Result<(), Error> {
        let mut work = Work { spec, world, step, session };
        match &step.change {
            // Made with the session itself.
            Change::Registry => Ok(()),
            Change::Observer { role } => self.make_login(&mut work, role, "observer").await,
            Change::Login { role } => self.make_login(&mut work, role, "role").await,
            Change::OpenRegistry { role } => {
                work.run(format!("GRANT CONNECT ON DATABASE rollcall TO {}", Ident::new(role)?)).await
            }
            Change::Owner { role } => work.make_owner(role).await,
            Change::Attributes { role, set } => {
                work.run(format!("ALTER ROLE {} {}", Ident::new(role)?, set.join(" "))).await
            }
            Change::Password { role } => {
                let verifier = self.verifier(spec, role).await?;
                work.quietly(vec![format!(
                    "ALTER ROLE {} PASSWORD {}",
                    Ident::new(role)?,
                    Literal::new(&verifier)?
                )])
                .await
            }
            // A lone statement: CREATE DATABASE refuses to be part of a transaction. Nobody may connect until it is sealed.
            Change::Database { name } => {
                let (name, owner) = (Ident::new(name)?, work.owner()?);
                work.run(format!(
                    "CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false"
                ))
                .await
            }
            Change::Seal { name } => work.seal(name).await,
            Change::ActAsOwner { role, owner } => work.act_as_owner(role, owner).await,
            Change::NotAsOwner { role, owner } => {
                let (role, owner, database) = (Ident::new(role)?, Ident::new(owner)?, work.database()?);
                work.run(format!(
                    "REVOKE {owner} FROM {role}; ALTER ROLE {role} IN DATABASE {database} RESET role"
                ))
                .await
            }
            Change::Admit { role, name } => {
                let (role, name) = (Ident::new(role)?, Ident::new(name)?);
                work.run(format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {role}")).await
            }
            Change::Finish { name } => work.finish(name).await,
            Change::ClosePublic { .. } | Change::Extension { .. } | Change::Privileges { .. } => {
                self.change_inside(&work).await
            }
        }
    }

    /// Makes a role that logs in, with its record, in one transaction: it is never half-made.
    async fn make_login(&self, work: &mut Work<'_>, role: &str, kind: &str) -> Result<(), Error> {
        let verifier = self.verifier(work.spec, role).await?;
        let name = Ident::new(role)?;
        let statements = vec![
            format!("CREATE ROLE {name} LOGIN {POWERLESS} PASSWORD {}", Literal::new(&verifier)?),
            format!("COMMENT ON ROLE {name} IS {}", Literal::new(&work.mark())?),
            work.record(kind, role)?,
        ];
        work.quietly(statements).await
    }

    async fn verifier(&self, spec: &ServerSpec, role: &str) -> Result<String, Error> {
        let logins = spec.databases.iter().map(|database| &database.app).chain(&spec.observer);
        let login: &Login = logins.into_iter().find(|login| login.role == role).ok_or_else(|| {
            Error::Refused(format!("no document says where the password of role `{role}` is"))
        })?;
        let value = self.password(&login.password).await?;
        scram::verifier(value.expose_text().unwrap_or_default()).map_err(|why| {
            Error::Refused(format!("{} key `{}` {why}", login.password.secret, login.password.key))
        })
    }

    /// What is changed inside a database, over a connection to it; the lock stays with the other one.
    async fn change_inside(&self, work: &Work<'_>) -> Result<(), Error> {
        let Some(database) = work.spec.database(&work.step.component) else { return Ok(()) };
        let mut inside = self.open(work.spec, &database.name).await?;
        match &work.step.change {
            Change::ClosePublic { owner } => {
                let owner = Ident::new(owner)?;
                inside
                    .execute(format!(
                        "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO {owner}"
                    ))
                    .await?;
            }
            Change::Extension { name } => {
                let name = Ident::new(name)?;
                inside.execute("SET search_path = public").await?;
                inside.execute(format!("CREATE EXTENSION IF NOT EXISTS {name} CASCADE")).await?;
            }
            Change::Privileges { role, owner } => privileges(&mut inside, role, owner).await?,
            _ => {}
        }
        inside.close().await;
        Ok(())
    }
}

impl Work<'_> {
    async fn run(&mut self, sql: String) -> Result<(), Error> {
        Ok(self.session.execute(sql).await?)
    }

    /// One transaction whose statements the server does not log. The settings come first and by themselves: what is
    /// sent together is logged together.
    async fn quietly(&mut self, statements: Vec<String>) -> Result<(), Error> {
        self.session.execute("BEGIN").await?;
        if self.world.shared.superuser {
            self.session.execute(QUIET).await?;
        }
        for statement in statements {
            self.session.execute(statement).await?;
        }
        Ok(self.session.execute("COMMIT").await?)
    }

    /// Makes a role that owns, with its record, in one transaction.
    async fn make_owner(&mut self, role: &str) -> Result<(), Error> {
        let name = Ident::new(role)?;
        // Who is no superuser can only make a database for a role that it may act as.
        let hold = match (self.world.shared.superuser, self.world.shared.version) {
            (true, _) => String::new(),
            (false, ..160_000) => format!("GRANT {name} TO CURRENT_USER; "),
            (false, _) => format!("GRANT {name} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE; "),
        };
        let (mark, record) = (self.mark(), self.record("role", role)?);
        self.run(format!(
            "CREATE ROLE {name} NOLOGIN {POWERLESS}; {hold}COMMENT ON ROLE {name} IS {}; {record}",
            Literal::new(&mark)?
        ))
        .await
    }

    async fn seal(&mut self, database: &str) -> Result<(), Error> {
        let name = Ident::new(database)?;
        let (mark, record) = (self.mark(), self.record("database", database)?);
        self.run(format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; COMMENT ON DATABASE {name} IS {}; {record}; ALTER DATABASE {name} ALLOW_CONNECTIONS true",
            Literal::new(&mark)?
        ))
        .await
    }

    async fn act_as_owner(&mut self, role: &str, owner: &str) -> Result<(), Error> {
        let options = if self.world.shared.version < 160_000 { "" } else { " WITH INHERIT TRUE, SET TRUE" };
        let (role, database, acts) = (Ident::new(role)?, self.database()?, Literal::new(owner)?);
        let owner = Ident::new(owner)?;
        self.run(format!(
            "GRANT {owner} TO {role}{options}; ALTER ROLE {role} IN DATABASE {database} SET role = {acts}"
        ))
        .await
    }

    async fn finish(&mut self, database: &str) -> Result<(), Error> {
        let Some(spec) = self.spec.database(&self.step.component) else { return Ok(()) };
        let hash = spec.hash();
        self.run(format!(
            "UPDATE rollcall.owned SET spec_hash = {}, login = {}, finished_at = now() \
             WHERE kind = 'database' AND name = {} AND environment_uid = {}",
            Literal::new(&hash)?,
            Literal::new(&spec.app.role)?,
            Literal::new(database)?,
            Literal::new(&self.spec.environment.uid.to_string())?,
        ))
        .await
    }

    fn owner(&self) -> Result<Ident, Error> {
        Ok(Ident::new(self.spec.database(&self.step.component).map_or("", |database| &database.owner))?)
    }

    fn database(&self) -> Result<Ident, Error> {
        Ok(Ident::new(self.spec.database(&self.step.component).map_or("", |database| &database.name))?)
    }

    fn fragment(&self) -> &str {
        self.spec.database(&self.step.component).map_or(&self.spec.fragment, |database| &database.fragment)
    }

    /// The comment on what we make: a hint for people, never believed.
    fn mark(&self) -> String {
        let environment = &self.spec.environment;
        format!(
            "Rollcall: {} of fragment {}, environment {} ({})",
            self.step.component,
            self.fragment(),
            environment.name,
            environment.uid
        )
    }

    /// Writes the ownership record of something that exists by now, with what identifies it.
    fn record(&self, kind: &str, name: &str) -> Result<String, Error> {
        let environment = &self.spec.environment;
        let (component, uid) = (self.step.component.to_string(), environment.uid.to_string());
        let name = Literal::new(name)?;
        let oid = if kind == "database" {
            format!("(SELECT oid FROM pg_database WHERE datname = {name})")
        } else {
            format!("(SELECT oid FROM pg_roles WHERE rolname = {name})")
        };
        Ok(format!(
            "INSERT INTO rollcall.owned AS o (kind, name, environment_uid, environment_name, fragment, component, oid) \
             VALUES ({}, {name}, {}, {}, {}, {}, {oid}) ON CONFLICT (kind, name) DO UPDATE SET oid = excluded.oid, \
             environment_name = excluded.environment_name, component = excluded.component \
             WHERE o.environment_uid = excluded.environment_uid AND o.fragment = excluded.fragment",
            Literal::new(kind)?,
            Literal::new(&uid)?,
            Literal::new(&environment.name)?,
            Literal::new(self.fragment())?,
            Literal::new(&component)?,
        ))
    }
}

/// What the owner makes from now on, and what it has made.
async fn privileges(inside: &mut Session, role: &str, owner: &str) -> Result<(), Error> {
    let (name, owned_by) = (Ident::new(role)?, Ident::new(owner)?);
    let existing: Vec<String> = {
        let (connection, within) = inside.parts();
        let query = sqlx::query_scalar(AssertSqlSafe(EXISTING)).bind(owner).bind(name.to_string());
        within.judge(query.fetch_all(connection)).await?
    };
    let defaults = DEFAULTS.iter().map(|(_, objects, privileges)| {
        format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owned_by} GRANT {privileges} ON {objects} TO {name}")
    });
    inside.execute(defaults.chain(existing).collect::<Vec<_>>().join("; ")).await?;
    Ok(())
}

/// Grants on what exists. $1 the owner, $2 the login role, quoted.
const EXISTING: &str = "
SELECT format('GRANT USAGE ON SCHEMA %I TO %s', n.nspname, $2) FROM pg_namespace n
WHERE n.nspname = 'public' OR n.nspowner = (SELECT oid FROM pg_roles WHERE rolname = $1)
UNION ALL
SELECT format(CASE c.relkind WHEN 'S' THEN 'GRANT USAGE, SELECT, UPDATE ON SEQUENCE %I.%I TO %s'
                             ELSE 'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %I.%I TO %s' END, n.nspname, c.relname, $2)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = $1)
  AND n.nspname NOT LIKE 'pg\\_%'";
