//! Makes one change. The caller holds the lock and has decided.

mod inside;
mod statements;
mod verifier;

use postgres::Session;

use super::facts::{Kind, Password, World};
use super::hold::Hold;
use super::{Error, PostgresTarget};
use crate::adopt::stored;
use crate::ident::{Ident, Literal};
use crate::plan::{Change, Step};
use crate::scram;
use crate::spec::ServerSpec;

/// What no role of ours ever has.
const POWERLESS: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

/// Keeps a statement that holds a verifier out of the server's log, of its statistics too. Only a superuser may.
const QUIET: &str = "SELECT set_config('log_statement', 'none', true), set_config('log_min_error_statement', 'panic', true), \
     set_config('log_min_duration_statement', '-1', true), set_config('log_min_duration_sample', '-1', true), \
     set_config('pg_stat_statements.track_utility', 'off', true)";

/// What is being changed, and with which connection.
struct Work<'a> {
    spec: &'a ServerSpec,
    world: &'a World,
    step: &'a Step,
    session: &'a mut Session,
}

impl PostgresTarget {
    pub(super) async fn change(&self, hold: &mut Hold<'_>, step: &Step) -> Result<(), Error> {
        let Hold { spec, session, world, inside, .. } = hold;
        let (spec, world) = (*spec, &*world);
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
            Change::Group { role } => work.make_group(role).await,
            Change::RoleLimit { role, limit } => {
                work.run(format!("ALTER ROLE {} CONNECTION LIMIT {limit}", Ident::new(role)?)).await
            }
            Change::RoleSettings { role, database, settings } => {
                let on = match database {
                    Some(name) => format!("ROLE {} IN DATABASE {}", Ident::new(role)?, Ident::new(name)?),
                    None => format!("ROLE {}", Ident::new(role)?),
                };
                work.run(statements::set(&on, settings)?).await
            }
            Change::DatabaseLimit { name, limit } => {
                work.run(format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", Ident::new(name)?)).await
            }
            Change::DatabaseSettings { name, settings } => {
                work.run(statements::set(&format!("DATABASE {}", Ident::new(name)?), settings)?).await
            }
            Change::Connect { role, name } => {
                let (role, name) = (Ident::new(role)?, Ident::new(name)?);
                work.run(format!("GRANT CONNECT ON DATABASE {name} TO {role}")).await
            }
            Change::Join { role, group } => {
                // It reads as a member, and need not act as one.
                let options =
                    if work.world.shared.version < 160_000 { "" } else { " WITH INHERIT TRUE, SET FALSE" };
                work.run(format!("GRANT {} TO {}{options}", Ident::new(group)?, Ident::new(role)?)).await
            }
            Change::Leave { role, group } => {
                let left = work.leave(role, group).await?;
                work.run(left).await
            }
            Change::FinishRole { role } => work.finish_role(role).await,
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
            Change::Database { .. } => {
                let Some(database) = spec.database(&step.component) else { return Ok(()) };
                let made = statements::create_database(database, world.shared.version)?;
                work.run(made).await
            }
            Change::Seal { name } => work.seal(name).await,
            Change::ActAsOwner { role, owner } => work.act_as_owner(role, owner).await,
            Change::NotAsOwner { role, owner } => {
                let left = work.leave(role, owner).await?;
                let (role, database) = (Ident::new(role)?, work.database()?);
                work.run(format!("ALTER ROLE {role} IN DATABASE {database} RESET role; {left}")).await
            }
            Change::Admit { role, name } => {
                let (role, name) = (Ident::new(role)?, Ident::new(name)?);
                work.run(format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {role}")).await
            }
            Change::Finish { name } => work.finish(name).await,
            Change::Renamed { kind, from, to, oid } => {
                let set = format!("name = {}", Literal::new(to)?);
                work.correct(*kind, from, &set, &format!("oid = {oid}")).await
            }
            Change::Reassign { kind, name, from } => {
                let set = format!("component = {}", Literal::new(&step.component.to_string())?);
                work.correct(*kind, name, &set, &format!("component = {}", Literal::new(from)?)).await
            }
            Change::ClosePublic { .. }
            | Change::Schema { .. }
            | Change::Extension(_)
            | Change::Update { .. }
            | Change::Privileges { .. } => {
                let Some(database) = spec.database(&step.component) else { return Ok(()) };
                let inside = match inside {
                    Some(inside) => inside,
                    None => inside.insert(self.open(spec, &database.name).await?),
                };
                inside::change(inside, database, world, &step.change).await
            }
        }
    }

    /// Makes a role that logs in, with its record, in one transaction: it is never half-made.
    async fn make_login(&self, work: &mut Work<'_>, role: &str, kind: &str) -> Result<(), Error> {
        let name = Ident::new(role)?;
        // Nobody can log in as one without a password; whoever asked for it sees to that.
        let password = if work.world.passwords.get(role) == Some(&Password::Delegated) {
            "NULL".to_owned()
        } else {
            Literal::new(&self.verifier(work.spec, role).await?)?.to_string()
        };
        let statements = vec![
            format!("CREATE ROLE {name} LOGIN {POWERLESS} PASSWORD {password}"),
            format!("COMMENT ON ROLE {name} IS {}", Literal::new(&work.mark())?),
            work.record(kind, role)?,
        ];
        work.quietly(statements).await
    }

    async fn verifier(&self, spec: &ServerSpec, role: &str) -> Result<String, Error> {
        let mut logins = spec.logins().into_iter();
        let (login, _) = logins.find(|(login, _)| login.role == role).ok_or_else(|| {
            Error::Refused(format!("no document says where the password of role `{role}` is"))
        })?;
        let value = self.password(&login.password).await?;
        scram::verifier(value.expose_text().unwrap_or_default()).map_err(|why| {
            Error::Refused(format!("{} key `{}` {why}", login.password.secret, login.password.key))
        })
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

    /// Makes a group that nobody logs in as, with its record, in one transaction.
    async fn make_group(&mut self, role: &str) -> Result<(), Error> {
        let (name, mark, record) = (Ident::new(role)?, self.mark(), self.record("role", role)?);
        self.run(format!(
            "CREATE ROLE {name} NOLOGIN {POWERLESS}; COMMENT ON ROLE {name} IS {}; {record}",
            Literal::new(&mark)?
        ))
        .await
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
        // What was adopted keeps the comment that somebody gave it.
        let adopted = self.world.database_record(database).is_some_and(|record| record.adopted.is_some());
        let comment = if adopted {
            String::new()
        } else {
            format!("COMMENT ON DATABASE {name} IS {}; ", Literal::new(&mark)?)
        };
        self.run(format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; {comment}{record}; ALTER DATABASE {name} ALLOW_CONNECTIONS true"
        ))
        .await
    }

    /// What ends that a role is a member of a group. Since version 16 each who granted it did so apart from the others.
    async fn leave(&mut self, role: &str, group: &str) -> Result<String, Error> {
        let revoke = format!("REVOKE {} FROM {}", Ident::new(group)?, Ident::new(role)?);
        if self.world.shared.version < 160_000 {
            return Ok(revoke);
        }
        let grantors: Vec<String> = {
            let (connection, within) = self.session.parts();
            let query = sqlx::query_scalar(
                "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.grantor \
                 WHERE m.roleid = (SELECT oid FROM pg_roles WHERE rolname = $1) \
                 AND m.member = (SELECT oid FROM pg_roles WHERE rolname = $2)",
            );
            within.judge(query.bind(group).bind(role).fetch_all(connection)).await?
        };
        let each: Result<Vec<String>, Error> = grantors
            .iter()
            .map(|grantor| Ok(format!("{revoke} GRANTED BY {}", Ident::new(grantor)?)))
            .collect();
        Ok(each?.join("; "))
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

    /// Changes the ownership record that has this name, if it still is as it was seen.
    async fn correct(&mut self, kind: Kind, name: &str, set: &str, seen: &str) -> Result<(), Error> {
        self.run(format!(
            "UPDATE rollcall.owned SET {set} WHERE kind = {} AND name = {} AND environment_uid = {} AND {seen}",
            Literal::new(stored(kind))?,
            Literal::new(name)?,
            Literal::new(&self.spec.environment.uid.to_string())?,
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

    async fn finish_role(&mut self, role: &str) -> Result<(), Error> {
        let Some(spec) = self.spec.role(&self.step.component) else { return Ok(()) };
        let (hash, role) = (spec.hash(), Literal::new(role)?);
        self.run(format!(
            "UPDATE rollcall.owned SET spec_hash = {}, login = {role}, finished_at = now() \
             WHERE kind = 'role' AND name = {role} AND environment_uid = {}",
            Literal::new(&hash)?,
            Literal::new(&self.spec.environment.uid.to_string())?,
        ))
        .await
    }

    fn database(&self) -> Result<Ident, Error> {
        Ok(Ident::new(self.spec.database(&self.step.component).map_or("", |database| &database.name))?)
    }

    fn fragment(&self) -> &str {
        self.spec.fragment_of(&self.step.component)
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
            "INSERT INTO rollcall.owned AS o (kind, name, environment_uid, environment_name, fragment, component, oid, \
             system_identifier) VALUES ({}, {name}, {}, {}, {}, {}, {oid}, {}) ON CONFLICT (kind, name) DO UPDATE SET \
             oid = excluded.oid, environment_name = excluded.environment_name, component = excluded.component, \
             system_identifier = excluded.system_identifier \
             WHERE o.environment_uid = excluded.environment_uid AND o.fragment = excluded.fragment",
            Literal::new(kind)?,
            Literal::new(&uid)?,
            Literal::new(&environment.name)?,
            Literal::new(self.fragment())?,
            Literal::new(&component)?,
            optional(self.world.shared.system_identifier.as_deref())?,
        ))
    }
}

/// A text literal, or NULL.
pub(super) fn optional(text: Option<&str>) -> Result<String, Error> {
    Ok(match text {
        Some(text) => Literal::new(text)?.to_string(),
        None => "NULL".to_owned(),
    })
}
