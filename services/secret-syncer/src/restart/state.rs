//! What is known of workloads and of what their pods have, and what is decided about them: fingerprints, never values.

use std::collections::BTreeMap;

use lifecycle::Component;
use lifecycle::document::Workload;
use lifecycle::manifests::Wanted;
use serde::{Deserialize, Serialize};

use crate::plan::Fingerprint;

/// The values of some objects, by key.
pub type Values = BTreeMap<Component, BTreeMap<String, Fingerprint>>;

/// What is, of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The workload; none when there is none.
    pub there: Option<There>,
    /// The values of the objects that are there, used or not.
    pub values: Values,
    /// What is noted of it.
    pub noted: Option<Noted>,
    /// Identifies the [`Roll`] that would be the next one.
    pub due: Option<Fingerprint>,
}

/// A workload that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Which one it is, among all that ever had its name.
    pub uid: String,
    /// Identifies the template of its pods as it is.
    pub template: Fingerprint,
    /// The [`World::due`] for which its pods were restarted last.
    pub restarted: Option<Fingerprint>,
    /// How its pods stand.
    pub pods: Pods,
    /// Which keys of which objects its pods use.
    pub uses: BTreeMap<Component, Vec<Wanted>>,
}

/// How a workload's pods stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pods {
    /// All are up to date and ready.
    Ready,
    /// There are to be none.
    None,
    /// Not all are ready, as the text says.
    Unready(String),
    /// They cannot be replaced by a change of their template, as the text says.
    Held(String),
}

/// What is noted of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Which one it was.
    pub uid: String,
    /// How often it was restarted.
    pub rolls: u64,
    /// The values that its pods have.
    pub values: Values,
    /// What it was said to lack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Announced>,
}

/// What was said of a workload that is not restarted by us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The values that there were.
    pub values: Values,
    /// The template of its pods when these were first seen.
    pub template: Fingerprint,
}

/// One restart of one workload: what the annotation on its pods is made of, so that two processes, or one that ended before it
/// could note it, make one restart of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Roll {
    /// Which restart of it this is, from 1.
    pub number: u64,
    /// The values that its pods get.
    pub values: Values,
}

/// What a process remembers of a workload whose pods do not have the present values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Since when, in milliseconds.
    pub since: u64,
    /// The present values.
    pub values: Values,
    /// The template when these values were first seen: pods of another were started afterwards.
    pub template: Fingerprint,
    /// How often it had been restarted.
    pub rolls: u64,
    /// It was said that its restart has to wait.
    pub delayed: bool,
}

/// What a process remembers of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// The workloads whose pods do not have the present values.
    pub pending: BTreeMap<Workload, Pending>,
    /// When restarts were begun lately.
    pub begun: Vec<u64>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The workload is restarted.
    Rolled,
    /// It is said that it should be.
    Announced,
    /// It would be, but has to become ready first.
    Delayed,
    /// Somebody else has restarted it.
    Superseded,
    /// It could not be restarted.
    Failed,
}

impl Outcome {
    /// As it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Rolled => "rolled",
            Outcome::Announced => "announced",
            Outcome::Delayed => "delayed",
            Outcome::Superseded => "superseded",
            Outcome::Failed => "failed",
        }
    }
}

/// What is done about one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// It is restarted for [`World::due`]. Only if that succeeds, `note` holds.
    pub roll: bool,
    /// It was restarted for that already, by another process: that counts as well.
    pub elsewhere: bool,
    /// What is to be noted, where it is not noted yet.
    pub note: Option<Noted>,
    /// What is to be remembered; for one that is restarted, if that fails.
    pub pending: Option<Pending>,
    /// What became of a change just now.
    pub outcome: Option<Outcome>,
    /// What is to be said of it, by object.
    pub says: BTreeMap<Component, String>,
}
