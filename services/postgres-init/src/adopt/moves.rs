//! What changes its owner inside a database, one statement a thing, so that each lock is held for an instant. Pure.

use std::collections::BTreeSet;

use lifecycle::document::Ddl;
use serde::Deserialize;

use crate::ident::{Ident, IdentError};
use crate::spec::DatabaseSpec;

/// What inside a database is not the owner's and should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Things that get another owner.
    pub things: Vec<Thing>,
    /// What the login role may use of others, and the owner may not.
    pub borrowed: Vec<Borrowed>,
    /// What belongs to others than the database's old owner, its login role and superusers, as `kind name of role`.
    pub others: Vec<String>,
    /// The roles that log in to it and whose things who asks may not give away: neither a superuser, nor a member of them.
    pub beyond: Vec<String>,
}

/// A thing, its name as the server quotes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// What it is, in the words of ALTER: `TABLE`, `ROUTINE`, `LARGE OBJECT` and so on.
    pub kind: String,
    /// Its name, quoted.
    pub name: String,
    /// Who owns it.
    pub owner: String,
    /// The sequences that go with a table, quoted.
    pub sequences: Vec<String>,
}

impl Thing {
    /// Whether it uses other things with its owner's rights.
    fn looks(&self) -> bool {
        ["VIEW", "MATERIALIZED VIEW", "ROUTINE"].contains(&self.kind.as_str())
    }
}

/// A privilege on what stays with another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Borrowed {
    /// `TABLE`, `SEQUENCE`, `SCHEMA` or `ROUTINE`.
    pub kind: String,
    /// Its name, quoted.
    pub name: String,
    /// The privileges, with commas between.
    pub privileges: String,
}

/// One statement, or a few that are one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// What it does, for people.
    pub what: String,
    /// The statements.
    pub sql: String,
    /// It undoes an earlier one, so it is also done where one in between failed.
    pub always: bool,
}

/// What is done so that the database and what is in it belong to its owner, in order. Throughout, the login role can do with
/// each thing what it will be able to do in the end: it becomes a member of the owner first, or is granted the thing together
/// with its change. So can every other role that logs in to make or use things. `members` are those who are members already.
pub fn moves(
    database: &DatabaseSpec,
    belongs_to: &str,
    members: &BTreeSet<String>,
    version: u32,
    held: &Held,
) -> Result<Vec<Move>, IdentError> {
    let (owner, app, name) =
        (Ident::new(&database.owner)?, Ident::new(&database.app.role)?, Ident::new(&database.name)?);
    let mut moves = Vec::new();
    let acts = database.ddl == Ddl::AsOwner;
    let any = !held.things.is_empty() || belongs_to != database.owner;
    // Who is no superuser can only give away what is its own, or a role's that it is a member of: for as long as this takes.
    let beyond = held.beyond.iter().filter(|_| any);
    let (mut join, mut leave) = (Vec::new(), Vec::new());
    for role in beyond {
        let name = Ident::new(role)?;
        join.push(Move {
            what: format!("be a member of `{role}`, to give away what it owns"),
            sql: match version {
                ..160_000 => format!("GRANT {name} TO CURRENT_USER"),
                _ => format!("GRANT {name} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE"),
            },
            always: false,
        });
        leave.push(Move {
            what: format!("be no member of `{role}` any more"),
            sql: format!("REVOKE {name} FROM CURRENT_USER"),
            always: true,
        });
    }
    moves.extend(join);
    let accounts = database.accounts();
    let (makers, users): (Vec<_>, Vec<_>) = accounts.iter().partition(|account| account.ddl == Ddl::AsOwner);
    let users =
        users.into_iter().map(|account| Ident::new(&account.login.role)).collect::<Result<Vec<_>, _>>()?;
    for maker in makers.into_iter().map(|account| &account.login.role).filter(|role| !members.contains(*role))
    {
        let role = Ident::new(maker)?;
        // Before version 16 whether privileges are inherited is the member's attribute.
        let (inherit, options) = if version < 160_000 {
            (format!("ALTER ROLE {role} INHERIT; "), "")
        } else {
            (String::new(), " WITH INHERIT TRUE, SET TRUE")
        };
        moves.push(Move {
            what: format!("let role `{maker}` use what `{}` will own", database.owner),
            sql: format!("{inherit}GRANT {owner} TO {role}{options}"),
            always: false,
        });
    }
    if belongs_to != database.owner {
        // Who owned the database could connect by that alone.
        let connect = if acts {
            String::new()
        } else {
            format!("; GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {app}")
        };
        moves.push(Move {
            what: format!("give database `{}` to `{}`, from `{belongs_to}`", database.name, database.owner),
            sql: format!("ALTER DATABASE {name} OWNER TO {owner}{connect}"),
            always: false,
        });
    }
    // A schema must be entered, and what is looked at from a view be readable, before the owner needs it.
    let (schemas, rest): (Vec<&Borrowed>, Vec<&Borrowed>) =
        held.borrowed.iter().filter(|_| acts).partition(|borrowed| borrowed.kind == "SCHEMA");
    let (first, last): (Vec<&Thing>, Vec<&Thing>) = held.things.iter().partition(|thing| !thing.looks());
    let lend = |borrowed: &Borrowed| Move {
        what: format!(
            "let `{}` {} {}, as `{}` may",
            database.owner, borrowed.privileges, borrowed.name, database.app.role
        ),
        sql: format!("GRANT {} ON {} {} TO {owner}", borrowed.privileges, borrowed.kind, borrowed.name),
        always: false,
    };
    let give = |thing: &Thing| Move {
        what: format!(
            "give {} {} to `{}`, from `{}`",
            thing.kind.to_lowercase(),
            thing.name,
            database.owner,
            thing.owner
        ),
        sql: format!(
            "ALTER {} {} OWNER TO {owner}{}",
            thing.kind,
            thing.name,
            users.iter().map(|user| grants(thing, user)).collect::<String>()
        ),
        always: false,
    };
    moves.extend(schemas.into_iter().map(lend));
    moves.extend(first.into_iter().map(give));
    moves.extend(rest.into_iter().map(lend));
    moves.extend(last.into_iter().map(give));
    moves.extend(leave);
    Ok(moves)
}

/// What a role that does not act as the owner is granted with a thing.
fn grants(thing: &Thing, app: &Ident) -> String {
    let sequence = |name: &str| format!("; GRANT USAGE, SELECT, UPDATE ON SEQUENCE {name} TO {app}");
    let own = match thing.kind.as_str() {
        "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE" => {
            format!("; GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {} TO {app}", thing.name)
        }
        "SEQUENCE" => sequence(&thing.name),
        "ROUTINE" => format!("; GRANT EXECUTE ON ROUTINE {} TO {app}", thing.name),
        "SCHEMA" => format!("; GRANT USAGE ON SCHEMA {} TO {app}", thing.name),
        "TYPE" | "DOMAIN" => format!("; GRANT USAGE ON TYPE {} TO {app}", thing.name),
        "LARGE OBJECT" => format!("; GRANT SELECT, UPDATE ON LARGE OBJECT {} TO {app}", thing.name),
        _ => String::new(),
    };
    own + &thing.sequences.iter().map(|name| sequence(name)).collect::<String>()
}
