//! What a role can come to be: itself, what it is a member of, and what it can make itself a member of. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::facts::{Role, Shared};

/// From this version on CREATEROLE gives power over a role only with its ADMIN OPTION.
pub(super) const ADMIN_NEEDED: u32 = 160_000;
/// It has no members that anybody chose, so nobody can be made one.
const UNGRANTABLE: &str = "pg_database_owner";

/// How a role comes to be another, one step of it; of two ways that are as short the first is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Hop {
    /// It has its privileges.
    Inherits(String),
    /// It may SET ROLE to it.
    Acts(String),
    /// It has the ADMIN OPTION, so it can grant it to itself.
    Admin(String),
    /// CREATEROLE lets it grant this to itself: before version 16 every role that is no superuser.
    CreateRole(String),
}

/// The steps that lead to a role, in words; empty for the role itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Path(Vec<Hop>);

impl Path {
    fn then(&self, hop: Hop) -> Path {
        let mut hops = self.0.clone();
        hops.push(hop);
        Path(hops)
    }

    /// Whether nothing has to be granted first.
    pub(super) fn is_given(&self) -> bool {
        self.0.iter().all(|hop| matches!(hop, Hop::Inherits(_) | Hop::Acts(_)))
    }

    /// The words, beginning with a space; nothing for the role itself.
    pub(super) fn words(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|hop| match hop {
                Hop::Inherits(role) => format!("is a member of `{role}`"),
                Hop::Acts(role) => format!("may SET ROLE `{role}`"),
                Hop::Admin(role) => format!("can grant itself `{role}` (ADMIN OPTION)"),
                Hop::CreateRole(role) => format!("can grant itself `{role}` (CREATEROLE before version 16)"),
            })
            .collect();
        words.join(", which ")
    }
}

/// How far a role's reach is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Whose attributes it can use: only what it may SET ROLE to.
    Becomes,
    /// Whose privileges it can use.
    Uses,
    /// Whose privileges it can use without granting itself anything.
    Has,
    /// Whose privileges it has the moment it logs in, after having granted itself what it can.
    Enters,
}

/// Every role that `from` can come to be, each with the shortest way there.
pub(super) fn reach<'a>(shared: &'a Shared, from: &'a Role, depth: Depth) -> BTreeMap<&'a str, Path> {
    let mut found: BTreeMap<&str, Path> = BTreeMap::new();
    // Whether attributes count too: after only inheriting they do not, and such a state may be reached later than the other.
    let mut seen: BTreeSet<(&str, bool)> = BTreeSet::new();
    let mut queue = VecDeque::from([(from, true, Path::default())]);
    while let Some((role, whole, path)) = queue.pop_front() {
        if !seen.insert((&role.name, whole)) {
            continue;
        }
        if whole || depth != Depth::Becomes {
            found.entry(&role.name).or_insert_with(|| path.clone());
        }
        let mut next: Vec<(Hop, &'a Role, bool)> = Vec::new();
        let mut go = |name: &'a str, whole: bool, hop: Hop| {
            next.extend(shared.role(name).map(|role| (hop, role, whole)));
        };
        for membership in shared.memberships.iter().filter(|membership| membership.member == role.name) {
            let name = membership.role.as_str();
            if membership.inherit {
                go(name, false, Hop::Inherits(name.to_owned()));
            }
            if membership.set && whole && depth != Depth::Enters {
                go(name, true, Hop::Acts(name.to_owned()));
            }
            if membership.admin && depth != Depth::Has {
                go(name, true, Hop::Admin(name.to_owned()));
            }
        }
        if whole && depth != Depth::Has && role.createrole && !role.superuser && shared.version < ADMIN_NEEDED
        {
            for other in shared.roles.iter().filter(|other| !other.superuser && other.name != UNGRANTABLE) {
                go(&other.name, true, Hop::CreateRole(other.name.clone()));
            }
        }
        next.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        queue.extend(next.into_iter().map(|(hop, role, whole)| (role, whole, path.then(hop))));
    }
    found
}
