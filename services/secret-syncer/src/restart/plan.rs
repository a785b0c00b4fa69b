//! Deciding: which workloads are restarted now, which later, and what is noted of the values that their pods have.
//!
//! What a workload's pods have is known by what was noted when they were last restarted, or when the workload was first looked
//! at; so a process that starts, or takes over from another, restarts nothing. A value that was not there before is noted
//! and restarts nothing either: a pod that needs it waited for it.

use std::collections::BTreeMap;

use lifecycle::Component;
use lifecycle::document::Workload;
use lifecycle::manifests::Wanted;

use super::spec::{Mode, Spec};
use crate::plan::Fingerprint;

pub use super::state::{
    Announced, Decision, Memory, Noted, Outcome, Pending, Pods, Roll, There, Values, World,
};

/// So many workloads of a namespace are restarted within [`PER`] at most: what they all use must not stop them all at once.
pub const BURST: usize = 5;
/// See [`BURST`], in milliseconds.
pub const PER: u64 = 30_000;

/// Decides about every workload of a namespace, `now` in milliseconds. At most [`BURST`] are restarted within [`PER`], those
/// that have waited longest first.
pub fn plan(
    specs: &[Spec],
    worlds: &BTreeMap<Workload, World>,
    memory: &Memory,
    now: u64,
) -> BTreeMap<Workload, Decision> {
    let lately = memory.begun.iter().filter(|begun| now.saturating_sub(**begun) < PER).count();
    let mut free = BURST.saturating_sub(lately);
    let mut order: Vec<&Spec> = specs.iter().collect();
    let since = |spec: &Spec| memory.pending.get(&spec.workload).map_or(u64::MAX, |pending| pending.since);
    order.sort_by_key(|spec| (since(spec), spec.workload.clone()));
    let mut decisions = BTreeMap::new();
    for spec in order {
        let Some(world) = worlds.get(&spec.workload) else { continue };
        let decision = decide(spec, world, memory.pending.get(&spec.workload), now, free > 0);
        free = free.saturating_sub(usize::from(decision.roll || decision.elsewhere));
        decisions.insert(spec.workload.clone(), decision);
    }
    decisions
}

/// The next restart of a workload, if it is one that was looked at before.
pub fn due(spec: &Spec, world: &World) -> Option<Roll> {
    let there = world.there.as_ref()?;
    let noted = world.noted.as_ref().filter(|noted| noted.uid == there.uid)?;
    Some(Roll { number: noted.rolls + 1, values: used(spec, there, &world.values) })
}

/// Decides about one workload; `may` says whether it may be restarted now.
fn decide(spec: &Spec, world: &World, pending: Option<&Pending>, now: u64, may: bool) -> Decision {
    let mut decision = Decision::default();
    let Some(there) = &world.there else {
        decision
            .say(spec.objects.keys(), &format!("{} does not exist, so it is not restarted", spec.workload));
        return decision;
    };
    let unused = spec.objects.keys().filter(|object| !there.uses.contains_key(*object));
    decision.say(
        unused,
        &format!("{} does not use it, so it is not restarted for it; correct `restart`", spec.workload),
    );
    let values = used(spec, there, &world.values);
    let Some(noted) = world.noted.as_ref().filter(|noted| noted.uid == there.uid) else {
        // Seen for the first time: its pods are taken to have what there is.
        let rolls = world.noted.as_ref().map_or(0, |noted| noted.rolls);
        decision.note = Some(Noted { uid: there.uid.clone(), rolls, values, announced: None });
        return decision;
    };
    let open = Open { spec, there, noted, values: &values };
    let changed = open.changed();
    if changed.is_empty() || there.pods == Pods::None {
        open.settles(&mut decision, noted.rolls);
    } else if world.due.is_some() && there.restarted == world.due {
        // By a process that ended before it could note it, or by another that is about to.
        open.settles(&mut decision, noted.rolls + 1);
        decision.elsewhere = true;
    } else {
        let pending = open.remembered(pending, now);
        if there.pods == Pods::Ready && pending.template != there.template {
            open.settles(&mut decision, noted.rolls);
            decision.outcome = Some(Outcome::Superseded);
        } else {
            open.decide(&changed, pending, now, may, &mut decision);
        }
    }
    decision.note = decision.note.filter(|note| note != noted);
    decision
}

impl Decision {
    fn say<'a>(&mut self, objects: impl IntoIterator<Item = &'a Component>, text: &str) {
        self.says.extend(objects.into_iter().map(|object| (object.clone(), text.to_owned())));
    }
}

/// A workload that is there and was looked at before.
struct Open<'a> {
    spec: &'a Spec,
    there: &'a There,
    noted: &'a Noted,
    values: &'a Values,
}

impl Open<'_> {
    /// The objects of which a value that was there before is another now.
    fn changed(&self) -> Vec<&Component> {
        let is_changed = |object: &Component, keys: &BTreeMap<String, Fingerprint>| {
            let before = self.noted.values.get(object);
            before
                .is_some_and(|before| keys.iter().any(|(key, now)| before.get(key).is_some_and(|b| b != now)))
        };
        self.values
            .iter()
            .filter(|(object, keys)| is_changed(object, keys))
            .map(|(object, _)| object)
            .collect()
    }

    /// Its pods have the present values.
    fn settles(&self, decision: &mut Decision, rolls: u64) {
        let mut values = self.before();
        for (object, keys) in self.values {
            values.entry(object.clone()).or_default().extend(keys.clone());
        }
        decision.note = Some(Noted { rolls, values, announced: None, ..self.noted.clone() });
    }

    /// What its pods have of what they still use, and what was not there before: of what is gone, the last that there was.
    /// What is noted of objects that these documents do not name is for other documents' process to say.
    fn before(&self) -> Values {
        let mut values = self.values.clone();
        for (object, before) in &self.noted.values {
            let wanted = self.there.uses.get(object).map(Vec::as_slice).unwrap_or_default();
            let is_kept = |key: &str| {
                !self.spec.objects.contains_key(object) || wanted.iter().any(|wanted| wanted.has(key))
            };
            let kept = before.iter().filter(|(key, _)| is_kept(key));
            values.entry(object.clone()).or_default().extend(kept.map(|(k, v)| (k.clone(), v.clone())));
        }
        values
    }

    /// What was said of the present values, as far as these documents name the objects.
    fn is_said(&self, values: &Values) -> bool {
        self.noted
            .announced
            .as_ref()
            .is_some_and(|said| values.iter().all(|(object, keys)| said.values.get(object) == Some(keys)))
    }

    /// Since when its pods lack the present values, and what its template was when those were first seen.
    fn remembered(&self, pending: Option<&Pending>, now: u64) -> Pending {
        let fresh = Pending {
            since: now,
            values: self.values.clone(),
            template: self.there.template.clone(),
            rolls: self.noted.rolls,
            delayed: false,
        };
        if let Some(announced) = self.noted.announced.as_ref().filter(|_| self.is_said(self.values)) {
            return Pending { since: 0, template: announced.template.clone(), ..fresh };
        }
        match pending.filter(|pending| pending.rolls == self.noted.rolls) {
            Some(same) if same.values == *self.values => same.clone(),
            // What was announced is over: this is another change.
            Some(other) if self.is_said(&other.values) => fresh,
            Some(other) => Pending { since: other.since, delayed: other.delayed, ..fresh },
            None => fresh,
        }
    }

    fn decide(
        &self,
        changed: &[&Component],
        mut pending: Pending,
        now: u64,
        may: bool,
        decision: &mut Decision,
    ) {
        let workload = &self.spec.workload;
        let window = u64::try_from(self.spec.window.as_millis()).unwrap_or(u64::MAX);
        let rolls = changed.iter().any(|object| self.spec.objects.get(*object) == Some(&Mode::Roll));
        decision.note = Some(Noted { values: self.before(), ..self.noted.clone() });
        if now < pending.since.saturating_add(window) {
            let wait = format!(
                "it changed, and {workload} uses it; what else changes within {:?} is treated with it",
                self.spec.window
            );
            decision.say(changed.iter().copied(), &wait);
        } else if !rolls {
            let would = if changed.iter().all(|object| self.spec.objects.get(*object) == Some(&Mode::Report))
            {
                format!("mode is report; would restart {workload}, whose pods have the old value")
            } else {
                format!(
                    "it changed, and the pods of {workload} have the old value; restart it when that suits you"
                )
            };
            self.announces(&pending, changed, &would, decision);
        } else {
            match &self.there.pods {
                Pods::Held(why) => {
                    let text = format!(
                        "it changed, and {workload} cannot be restarted for it: {why}; replace its pods yourself"
                    );
                    self.announces(&pending, changed, &text, decision);
                }
                Pods::Unready(why) => {
                    decision.outcome = (!pending.delayed).then_some(Outcome::Delayed);
                    pending.delayed = true;
                    let text = format!(
                        "it changed; {workload} is restarted for it as soon as its pods are ready: {why}"
                    );
                    decision.say(changed.iter().copied(), &text);
                }
                Pods::Ready | Pods::None if may => {
                    self.settles(decision, self.noted.rolls + 1);
                    decision.roll = true;
                    decision.outcome = Some(Outcome::Rolled);
                }
                Pods::Ready | Pods::None => {
                    let text = format!(
                        "it changed; {workload} is restarted for it in its turn: {BURST} of a namespace within {} s",
                        PER / 1000
                    );
                    decision.say(changed.iter().copied(), &text);
                }
            }
        }
        decision.pending = Some(pending);
    }

    fn announces(&self, pending: &Pending, changed: &[&Component], text: &str, decision: &mut Decision) {
        decision.outcome = (!self.is_said(self.values)).then_some(Outcome::Announced);
        let mut values = self.noted.announced.as_ref().map(|said| said.values.clone()).unwrap_or_default();
        values.extend(self.values.clone());
        let announced = Announced { values, template: pending.template.clone() };
        decision.note = decision.note.take().map(|note| Noted { announced: Some(announced), ..note });
        decision.say(changed.iter().copied(), text);
    }
}

/// The values that a workload's pods use of those that are there.
fn used(spec: &Spec, there: &There, values: &Values) -> Values {
    let of = |(object, wanted): (&Component, &Vec<Wanted>)| {
        let keys = values.get(object).filter(|_| spec.objects.contains_key(object))?;
        let keys = keys.iter().filter(|(key, _)| wanted.iter().any(|wanted| wanted.has(key)));
        Some((object.clone(), keys.map(|(key, value)| (key.clone(), value.clone())).collect()))
    };
    there.uses.iter().filter_map(of).collect()
}
