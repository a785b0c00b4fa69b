//! A database from outside: what it was made with, who may connect, its bounds, and as whom its roles act.

use std::collections::BTreeSet;

use lifecycle::document::{Ddl, Locale, LocaleProvider};

use super::{Change, Decision, roles, settings};
use crate::spec::{DatabaseSpec, ServerSpec};
use crate::world::facts::{DatabaseFacts, TextFacts, World};

/// Encoding and locale: those of a new one must be possible, and those of one that is there are never changed.
pub(super) fn made_with(
    decision: &mut Decision,
    database: &DatabaseSpec,
    exists: Option<&DatabaseFacts>,
    world: &World,
) {
    let name = &database.name;
    let since = database.locale.as_ref().map_or(0, |locale| match locale.provider {
        LocaleProvider::Libc => 0,
        LocaleProvider::Icu => 15,
        LocaleProvider::Builtin if locale.name == "PG_UNICODE_FAST" => 18,
        LocaleProvider::Builtin => 17,
    });
    let Some(facts) = exists else {
        if world.shared.version < since * 10_000 {
            decision.refusals.push(format!(
                "the locale of database `{name}` needs PostgreSQL {since}, and the server has {}; use another one, or a newer server",
                world.shared.version / 10_000
            ));
        }
        return;
    };
    let text = &facts.text;
    let as_it_is = "it stays as it is: only a new database can have another one, filled from a dump";
    if text.encoding != database.encoding {
        decision.drift.push(format!(
            "database `{name}` has encoding {}, and the document says {}; {as_it_is}",
            text.encoding, database.encoding
        ));
    }
    if let Some(locale) = &database.locale
        && !fits(locale, text)
    {
        decision.drift.push(format!(
            "database `{name}` has locale {}, and the document says {}; {as_it_is}",
            told(text),
            locale.name
        ));
    }
    if let (Some(made), Some(provided)) = (&text.version, &text.provided)
        && made != provided
    {
        decision.drift.push(format!(
            "database `{name}` was made with version {made} of its collation, and the server's system now has {provided}: indexes over \
             text may miss rows; run in it REINDEX DATABASE \"{name}\", then ALTER DATABASE \"{name}\" REFRESH COLLATION VERSION"
        ));
    }
}

fn fits(locale: &Locale, text: &TextFacts) -> bool {
    let provider = match locale.provider {
        LocaleProvider::Libc => "c",
        LocaleProvider::Icu => "i",
        LocaleProvider::Builtin => "b",
    };
    let ctype = locale.ctype.as_ref().unwrap_or(&locale.name);
    text.provider == provider
        && match locale.provider {
            LocaleProvider::Libc => same(&locale.name, &text.collate) && same(ctype, &text.ctype),
            _ => text.locale.as_ref().is_some_and(|is| same(&locale.name, is)),
        }
}

/// Whether two names mean one locale: systems write `en_US.UTF-8` as `en_US.utf8`, and ICU `en_US` as `en-US`.
fn same(a: &str, b: &str) -> bool {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    plain(a) == plain(b)
}

fn told(text: &TextFacts) -> String {
    let provider = match text.provider.as_str() {
        "i" => "icu",
        "b" => "builtin",
        _ => "libc",
    };
    match &text.locale {
        Some(locale) => format!("{locale} ({provider})"),
        None if text.collate == text.ctype => format!("{} ({provider})", text.collate),
        None => format!("{}, ctype {} ({provider})", text.collate, text.ctype),
    }
}

/// What the roles of a database, and those let in beside them, may do with the database itself, as `grantee=PRIVILEGE`.
fn admission(database: &DatabaseSpec) -> BTreeSet<String> {
    let accounts = database.accounts().into_iter().flat_map(|account| may_work(&account.login.role));
    let connects = database.readers.iter().chain(&database.connect_also);
    accounts.chain(connects.map(|role| format!("{role}=CONNECT"))).collect()
}

fn may_work(role: &str) -> [String; 2] {
    [format!("{role}=CONNECT"), format!("{role}=TEMPORARY")]
}

/// That not everybody may connect, and the record.
pub(super) fn seal(
    decision: &mut Decision,
    database: &DatabaseSpec,
    exists: Option<&DatabaseFacts>,
    world: &World,
) {
    let wanted = admission(database);
    let grants = exists.map(|database| &database.grants);
    let open = grants.is_none_or(|grants| grants.iter().any(|grant| grant.starts_with('=')));
    // The record of a database that vanished unfinished names an oid that is gone.
    let recorded = world.database_record(&database.name).is_some() && exists.is_some();
    if recorded && exists.is_some_and(|facts| !facts.open) {
        decision.pending.push(format!(
            "database `{0}` takes no connections: somebody closed it; open it with ALTER DATABASE \"{0}\" ALLOW_CONNECTIONS true",
            database.name
        ));
    }
    if open || !recorded {
        decision.steps.push(Change::Seal { name: database.name.clone() });
    }
    for grant in
        grants.into_iter().flatten().filter(|grant| !grant.starts_with('=') && !wanted.contains(*grant))
    {
        let (role, privilege) = grant.split_once('=').unwrap_or((grant, "ALL"));
        decision.drift.push(format!(
            "database `{0}` is open to more than its login role ({grant}); left alone: where nobody needs it, REVOKE {privilege} ON DATABASE \
             \"{0}\" FROM \"{role}\"",
            database.name
        ));
    }
}

/// How many sessions it takes, and what they begin with.
pub(super) fn bounds(
    decision: &mut Decision,
    spec: &ServerSpec,
    database: &DatabaseSpec,
    exists: Option<&DatabaseFacts>,
    world: &World,
) {
    let name = &database.name;
    if let Some(limit) = database.connection_limit
        && exists.is_none_or(|facts| facts.limit != i32::from(limit))
    {
        decision.steps.push(Change::DatabaseLimit { name: name.clone(), limit });
    }
    let delegated = spec.is_delegated(&database.fragment);
    settings::judge(decision, world, &format!("database `{name}`"), &database.settings, delegated);
    let set = exists.into_iter().flat_map(|facts| &facts.settings).map(String::as_str);
    let settings = settings::differing(&database.settings, set);
    if !settings.is_empty() {
        decision.steps.push(Change::DatabaseSettings { name: name.clone(), settings });
    }
}

/// Whom the login roles act as, what their sessions begin with, and who may connect; the module's own role comes last. An owner
/// may always connect, and so may who acts as one.
pub(super) fn admit(
    decision: &mut Decision,
    database: &DatabaseSpec,
    exists: Option<&DatabaseFacts>,
    world: &World,
) {
    let name = &database.name;
    let may = |wanted: &[String]| {
        exists.is_some_and(|facts| wanted.iter().all(|grant| facts.grants.contains(grant)))
    };
    for role in database.readers.iter().chain(&database.connect_also) {
        if may(&[format!("{role}=CONNECT")]) {
            continue;
        }
        if database.connect_also.contains(role) && world.role(role).is_none() {
            decision.drift.push(format!(
                "role `{role}`, which is to connect to database `{name}` as well, is not there; take it out of `connect_also`, or \
                 have whoever it belongs to make it"
            ));
            continue;
        }
        decision.steps.push(Change::Connect { role: role.clone(), name: name.clone() });
    }
    for account in database.accounts() {
        let role = &account.login.role;
        roles::sessions(decision, world, role, &account.bounds, Some(name));
        act(decision, database, role, account.ddl, exists.is_some(), world);
        if !may(&may_work(role)) {
            decision.steps.push(Change::Admit { role: role.clone(), name: name.clone() });
        }
    }
}

fn act(decision: &mut Decision, database: &DatabaseSpec, role: &str, ddl: Ddl, exists: bool, world: &World) {
    let begins_as_owner = format!("{}={}", database.name, database.owner);
    let (member, acts) = world.role(role).map_or((false, false), |facts| {
        (facts.member_of.contains(&database.owner), facts.acts_as.contains(&begins_as_owner) && exists)
    });
    let change = |make: fn(String, String) -> Change| make(role.to_owned(), database.owner.clone());
    match ddl {
        Ddl::AsOwner if !(member && acts) => {
            decision.steps.push(change(|role, owner| Change::ActAsOwner { role, owner }));
        }
        Ddl::None if member || acts => {
            decision.steps.push(change(|role, owner| Change::NotAsOwner { role, owner }));
        }
        _ => {}
    }
}
