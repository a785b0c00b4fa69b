//! Workloads: what their pods are made from, whether all of them are ready, and how they are replaced.
//!
//! They are changed by a merge patch and not by apply: a patch of what does not exist makes nothing, needs no right to create,
//! and takes nothing away that somebody else wrote.

use kube::api::{GetParams, Patch, PatchParams, ValidationDirective};
use serde_json::{Value, json};

use crate::client::{Refusal, api, built, is_missing, judged};
use crate::{Cluster, Error, Name, Resource};

/// A workload as it is.
#[derive(Clone)]
pub struct Workload {
    /// Which one it is, among all that ever had its name.
    pub uid: String,
    /// Which state of it this is.
    pub version: String,
    /// How its pods stand.
    pub rollout: Rollout,
    /// Its whole text but for its status. May hold values that somebody wrote into it in the clear.
    pub object: Value,
}

/// How a workload's pods stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// All are made from its template as it is, and ready.
    Settled,
    /// There are to be none.
    None,
    /// Not all are there and ready; the text says which.
    Moving(String),
    /// They would not be replaced if its template changed; the text says why.
    Held(&'static str),
}

impl Workload {
    /// What its pods are made from.
    pub fn template(&self) -> &Value {
        &self.object["spec"]["template"]
    }

    /// An annotation of its pods.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.template()["metadata"]["annotations"][name].as_str()
    }
}

// Its text may hold values.
impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload")
            .field("uid", &self.uid)
            .field("version", &self.version)
            .field("rollout", &self.rollout)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads a workload; none when it is not there. The right to `get` it by name suffices.
    pub async fn workload(&self, name: &Name) -> Result<Option<Workload>, Error> {
        let request = api(name).get(&name.name, &GetParams::default());
        match self.call("get", name, built(name, request)?).await {
            Ok((_, bytes)) => match serde_json::from_slice(&bytes) {
                Ok(object) => Ok(Some(read(name.resource, object))),
                Err(error) => {
                    let reason = format!("it is no object ({:?})", error.classify());
                    Err(Error::Unreadable { what: name.to_string(), reason })
                }
            },
            Err(Refusal::Status(status)) if is_missing(&status) => Ok(None),
            Err(refusal) => Err(judged("get", name, refusal)),
        }
    }

    /// Has a workload replace its pods, by an annotation in their template: only in the state that was looked at, so that
    /// neither another of its name nor one that is just being changed is meant. The right to `patch` it by name suffices.
    pub async fn restart(
        &self,
        name: &Name,
        seen: &Workload,
        manager: &str,
        annotation: (&str, &str),
    ) -> Result<(), Error> {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let patch = json!({
            "metadata": {"uid": seen.uid, "resourceVersion": seen.version},
            "spec": {"template": {"metadata": {"annotations": {annotation.0: annotation.1}}}},
        });
        let request = built(name, api(name).patch(&name.name, &params, &Patch::Merge(patch)))?;
        match self.call("patch", name, request).await {
            Ok(_) => Ok(()),
            // Gone since it was looked at.
            Err(Refusal::Status(status)) if is_missing(&status) => Err(Error::Changed(name.clone())),
            Err(refusal) => Err(judged("patch", name, refusal)),
        }
    }
}

fn read(resource: Resource, mut object: Value) -> Workload {
    let rollout = rollout(resource, &object);
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (uid, version) = (text("uid"), text("resourceVersion"));
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    Workload { uid, version, rollout, object }
}

/// How a workload's pods stand, by its controller's account.
fn rollout(resource: Resource, object: &Value) -> Rollout {
    let (spec, status) = (&object["spec"], &object["status"]);
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
    let (wanted, updated, ready, all) = if resource == Resource::DaemonSet {
        let wanted = count("desiredNumberScheduled");
        (wanted, count("updatedNumberScheduled"), count("numberAvailable"), count("currentNumberScheduled"))
    } else {
        // A controller that has not yet looked has not said how many there are.
        let wanted = spec["replicas"].as_u64().unwrap_or(1);
        (wanted, count("updatedReplicas"), count("availableReplicas"), count("replicas"))
    };
    let seen = status["observedGeneration"].as_u64();
    if spec["paused"].as_bool() == Some(true) {
        return Rollout::Held("it is paused");
    }
    if spec["updateStrategy"]["type"].as_str() == Some("OnDelete") {
        return Rollout::Held("its update strategy is OnDelete");
    }
    if seen < object["metadata"]["generation"].as_u64() {
        return Rollout::Moving("its controller has not yet seen its last change".to_owned());
    }
    match (wanted, all) {
        (0, 0) => Rollout::None,
        _ if updated < wanted => Rollout::Moving(format!("{updated} of {wanted} pods are up to date")),
        _ if all > wanted => Rollout::Moving(format!("{} pods too many are still there", all - wanted)),
        _ if ready < wanted => Rollout::Moving(format!("{ready} of {wanted} pods are ready")),
        _ => Rollout::Settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(text: &str) -> Rollout {
        Rollout::Moving(text.to_owned())
    }

    #[test]
    fn pods_stand_as_their_controller_says() {
        let status = |updated: u32, available: u32, all: u32| json!({"observedGeneration": 2, "updatedReplicas": updated, "availableReplicas": available, "replicas": all});
        let two = json!({"replicas": 2});
        for (spec, status, expected) in [
            (two.clone(), status(2, 2, 2), Rollout::Settled),
            (two.clone(), json!({}), moving("its controller has not yet seen its last change")),
            (
                two.clone(),
                json!({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}),
                moving("its controller has not yet seen its last change"),
            ),
            (two.clone(), status(1, 2, 3), moving("1 of 2 pods are up to date")),
            (two.clone(), status(2, 2, 3), moving("1 pods too many are still there")),
            (two.clone(), status(2, 1, 2), moving("1 of 2 pods are ready")),
            (json!({}), status(1, 1, 1), Rollout::Settled),
            (json!({}), status(0, 0, 0), moving("0 of 1 pods are up to date")),
            (json!({"replicas": 0}), status(0, 0, 0), Rollout::None),
            (json!({"replicas": 0}), status(0, 0, 1), moving("1 pods too many are still there")),
            (json!({"replicas": 2, "paused": true}), status(2, 2, 2), Rollout::Held("it is paused")),
            (
                json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}}),
                status(2, 2, 2),
                Rollout::Held("its update strategy is OnDelete"),
            ),
        ] {
            let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
            for resource in [Resource::Deployment, Resource::StatefulSet] {
                assert_eq!(rollout(resource, &object), expected, "{object}");
            }
        }
    }

    #[test]
    fn a_daemonset_counts_nodes() {
        let status = |desired: u32, updated: u32, available: u32| json!({"observedGeneration": 1, "desiredNumberScheduled": desired, "currentNumberScheduled": desired, "updatedNumberScheduled": updated, "numberAvailable": available});
        for (status, expected) in [
            (status(3, 3, 3), Rollout::Settled),
            (status(3, 2, 3), moving("2 of 3 pods are up to date")),
            (status(3, 3, 2), moving("2 of 3 pods are ready")),
            (status(0, 0, 0), Rollout::None),
        ] {
            let object = json!({"metadata": {"generation": 1}, "spec": {}, "status": status});
            assert_eq!(rollout(Resource::DaemonSet, &object), expected, "{object}");
        }
    }

    #[test]
    fn what_stands_in_a_workload_in_the_clear_is_not_shown() {
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"template": {
            "metadata": {"annotations": {"a": "b"}},
            "spec": {"containers": [{"env": [{"name": "P", "value": "hunter2"}]}]},
        }}, "status": {"replicas": 1}});
        let workload = read(Resource::Deployment, object);
        assert_eq!((workload.uid.as_str(), workload.version.as_str()), ("u", "7"));
        assert_eq!(workload.annotation("a"), Some("b"));
        assert!(workload.object.get("status").is_none() && !format!("{workload:?}").contains("hunter2"));
    }
}
