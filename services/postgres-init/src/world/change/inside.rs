//! What is changed inside a database, over a connection to it; the lock stays with another one.

use lifecycle::document::Extension;
use postgres::Session;
use sqlx::AssertSqlSafe;

use crate::ident::{Ident, Literal};
use crate::plan::Change;
use crate::spec::{DatabaseSpec, Rights};
use crate::world::Error;
use crate::world::facts::World;
use crate::world::look::wanted_rights;
use crate::world::questions::LACKING;

/// Makes one change inside a database.
pub(super) async fn change(
    inside: &mut Session,
    database: &DatabaseSpec,
    world: &World,
    change: &Change,
) -> Result<(), Error> {
    match change {
        Change::ClosePublic { owner } => {
            let owner = Ident::new(owner)?;
            inside
                .execute(format!(
                    "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO {owner}"
                ))
                .await?;
        }
        Change::Schema { name, owner } => {
            let made = format!(
                "CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}",
                Ident::new(name)?,
                Ident::new(owner)?
            );
            acting(inside, world, std::slice::from_ref(owner), made).await?;
        }
        Change::Extension(extension) => create_extension(inside, extension).await?,
        Change::Update { name, version } => {
            let (name, version) = (Ident::new(name)?, Literal::new(version)?);
            inside.execute(format!("ALTER EXTENSION {name} UPDATE TO {version}")).await?;
        }
        Change::Privileges { role, makers, rights } => {
            privileges(inside, database, world, (role, makers, rights)).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn create_extension(inside: &mut Session, extension: &Extension) -> Result<(), Error> {
    // What it requires comes there too, and so does what says no schema itself.
    let schema = Ident::new(extension.schema.as_deref().unwrap_or("public"))?;
    let mut words = vec![format!(
        "SET LOCAL search_path = {schema}; CREATE EXTENSION IF NOT EXISTS {}",
        Ident::new(&extension.name)?
    )];
    if extension.schema.is_some() {
        words.push(format!("SCHEMA {schema}"));
    }
    if let Some(version) = &extension.version {
        words.push(format!("VERSION {}", Literal::new(version)?));
    }
    Ok(inside.execute(format!("{} CASCADE", words.join(" "))).await?)
}

/// Gives a role its rights with what these make from now on, and with what they have made.
async fn privileges(
    inside: &mut Session,
    database: &DatabaseSpec,
    world: &World,
    (role, makers, rights): (&String, &[String], &'static Rights),
) -> Result<(), Error> {
    let name = Ident::new(role)?;
    let mut statements = Vec::new();
    for maker in makers.iter().filter(|maker| *maker != role) {
        let maker = Ident::new(maker)?;
        statements.extend(rights.iter().map(|(_, objects, privileges)| {
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {maker} GRANT {privileges} ON {objects} TO {name}")
        }));
    }
    let existing: Vec<String> = {
        let (connection, within) = inside.parts();
        let query = sqlx::query_scalar(AssertSqlSafe(LACKING))
            .bind(database.schemas.keys().collect::<Vec<_>>())
            .bind(makers)
            .bind(wanted_rights(&[(role.clone(), rights)]));
        within.judge(query.fetch_all(connection)).await?
    };
    statements.extend(existing);
    acting(inside, world, makers, statements.join("; ")).await
}

/// Runs statements as one transaction in which the administrator may act for these roles. Who is no superuser makes itself a
/// member of those it is none of yet, and ends that before anybody could see it.
async fn acting(inside: &mut Session, world: &World, roles: &[String], sql: String) -> Result<(), Error> {
    let missing: Vec<String> = {
        let (connection, within) = inside.parts();
        let query = sqlx::query_scalar(
            "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1) AND NOT pg_has_role(oid, 'USAGE')",
        );
        within.judge(query.bind(roles).fetch_all(connection)).await?
    };
    let options = if world.shared.version < 160_000 { "" } else { " WITH INHERIT TRUE, SET TRUE" };
    let lent: Result<Vec<Ident>, _> = missing.iter().map(|role| Ident::new(role)).collect();
    let lent = lent?;
    let begin = lent.iter().map(|role| format!("GRANT {role} TO CURRENT_USER{options}"));
    let end = lent.iter().map(|role| format!("REVOKE {role} FROM CURRENT_USER"));
    let statements: Vec<String> = begin.chain([sql]).chain(end).collect();
    Ok(inside.execute(statements.join("; ")).await?)
}
