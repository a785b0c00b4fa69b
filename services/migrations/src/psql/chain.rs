//! Upgrades and rollbacks from one version to another, by files that are named for both.

use std::collections::{BTreeMap, VecDeque};

use crate::source::Sources;

/// Which way files lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// `1.1_to_1.2_upgrade.sql` leads from 1.1 to 1.2.
    Upgrade,
    /// `1.1_to_1.2_rollback.sql` leads from 1.2 back to 1.1.
    Rollback,
}

/// One file of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The version before it.
    pub from: String,
    /// The version after it.
    pub to: String,
    /// The file's path in the sources.
    pub file: String,
}

/// The files of a folder that lead this way.
pub fn links(sources: &Sources, folder: &str, direction: Direction) -> Vec<Link> {
    let folder = folder.trim_matches('/');
    let suffix = match direction {
        Direction::Upgrade => "_upgrade.sql",
        Direction::Rollback => "_rollback.sql",
    };
    let link = |path: &str| {
        let (from, to) = path.strip_suffix(suffix)?.split_once("_to_")?;
        let file = if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
        let (from, to) = if direction == Direction::Upgrade { (from, to) } else { (to, from) };
        Some(Link { from: from.to_owned(), to: to.to_owned(), file })
    };
    sources.below(folder).filter(|(path, _)| !path.contains('/')).filter_map(|(path, _)| link(path)).collect()
}

/// The fewest files that lead from one version to another; of several ways the one whose files come first by name.
pub fn chain<'a>(links: &'a [Link], from: &str, to: &str) -> Option<Vec<&'a Link>> {
    let mut reached: BTreeMap<&str, Option<&Link>> = [(from, None)].into();
    let mut next = VecDeque::from([from]);
    while let Some(version) = next.pop_front() {
        if version == to {
            break;
        }
        for link in links.iter().filter(|link| link.from == version) {
            if !reached.contains_key(link.to.as_str()) {
                reached.insert(&link.to, Some(link));
                next.push_back(&link.to);
            }
        }
    }
    let (mut files, mut version) = (Vec::new(), to);
    while let Some(link) = reached.get(version)? {
        files.push(*link);
        version = &link.from;
    }
    files.reverse();
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(links: Option<Vec<&Link>>) -> Option<Vec<&str>> {
        links.map(|links| links.iter().map(|link| link.file.as_str()).collect())
    }

    #[test]
    fn chains_lead_over_the_fewest_files_and_back() {
        let names = [
            "1.1.5.5_to_1.2.0.1-B1",
            "1.2.0.1-B1_to_1.2.0.1",
            "1.2.0.1_to_1.2.1.0",
            "1.2.1.0_to_1.3.0",
            "1.2.0.1_to_1.3.0",
        ];
        let both =
            names.iter().flat_map(|name| ["upgrade", "rollback"].map(|way| format!("sql/{name}_{way}.sql")));
        let sources = Sources::of(
            both.chain(["sql/README.md".to_owned(), "sql/old/1_to_2_upgrade.sql".to_owned()])
                .map(|f| (f, "")),
        );
        let up = links(&sources, "sql/", Direction::Upgrade);
        assert_eq!(up.len(), 5);
        assert_eq!(
            files(chain(&up, "1.2.0.1-B1", "1.3.0")).unwrap(),
            ["sql/1.2.0.1-B1_to_1.2.0.1_upgrade.sql", "sql/1.2.0.1_to_1.3.0_upgrade.sql"]
        );
        assert_eq!(files(chain(&up, "1.3.0", "1.3.0")).unwrap(), [""; 0]);
        assert_eq!(chain(&up, "1.3.0", "1.2.0.1"), None);
        assert_eq!(chain(&up, "0.9", "1.3.0"), None);
        let down = links(&sources, "sql", Direction::Rollback);
        assert_eq!(files(chain(&down, "1.3.0", "1.2.0.1")).unwrap(), ["sql/1.2.0.1_to_1.3.0_rollback.sql"]);
    }
}
