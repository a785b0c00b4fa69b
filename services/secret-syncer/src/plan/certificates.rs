//! Deciding about certificates that are there: whether one is made anew, and what is said of one that is not.

use lifecycle::document::Generator;

use super::{Certificate, Deciding, Signer};

const DAY: i64 = 86_400;

/// What a certificate calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// It is made anew, because of this.
    Renew(String),
    /// People are told this.
    Say(String),
}

impl Deciding<'_> {
    /// What the certificate under a generator's own key calls for; `ours` when it was made by us, and may be made anew.
    pub(super) fn due(&self, own: &str, generator: &Generator, ours: bool) -> Vec<Due> {
        let Some(state) = self.world.certificates.get(own) else { return Vec::new() };
        let now = self.world.now;
        // What stands well is not to be refused or open for something that can still wait.
        let is_fixed = self.world.there.as_ref().is_some_and(|there| there.immutable);
        let renews = ours && generator.renews() && !is_fixed && !self.spec.report_only;
        let mut due = Vec::new();
        if !state.paired {
            due.push(asked(renews, format!("`{own}` does not belong to the private key beside it")));
        } else if state.ends <= now {
            due.push(asked(
                renews && gains(generator, state, now),
                format!("`{own}` expired on {}", date(state.ends)),
            ));
        } else if is_old(state, now) {
            due.push(asked(
                renews && gains(generator, state, now),
                format!("`{own}` expires on {}", date(state.ends)),
            ));
        }
        if let (Generator::Certificate(leaf), false) = (generator, matches!(due[..], [Due::Renew(_)])) {
            let (ca, ask) =
                (&leaf.ca.secret, "raise `rotate.serial` once whoever verifies it has the new one");
            match state.signer {
                Signer::Previous => due.push(Due::Say(format!("`{own}` is signed by the authority that {ca} held before; {ask}"))),
                Signer::Stranger => due.push(Due::Say(format!(
                    "`{own}` is not signed by the authority that {ca} holds, so whoever trusts that one refuses it; {ask}"
                ))),
                Signer::Present | Signer::Unknown => {}
            }
        }
        due
    }
}

fn asked(renews: bool, why: String) -> Due {
    if renews {
        Due::Renew(why)
    } else {
        Due::Say(format!("{why}; raise `rotate.serial` to have it made anew"))
    }
}

/// Whether two thirds of its time are over: as other issuers do it, so that there is time for two more tries of as long.
fn is_old(state: &Certificate, now: i64) -> bool {
    (state.ends - now).saturating_mul(3) < state.ends - state.begins
}

/// Whether a new one would be good for longer by a third of what is asked for: it ends with its authority, and one that was
/// made anew for ever less time as that end comes near would be a storm.
fn gains(generator: &Generator, state: &Certificate, now: i64) -> bool {
    let Generator::Certificate(leaf) = generator else { return false };
    let wanted = i64::from(leaf.days) * DAY;
    let would_end = state.authority_ends.map_or(now, |ends| ends.min(now.saturating_add(wanted)));
    (would_end - state.ends).saturating_mul(3) >= wanted
}

/// A day, as people write it: 2027-03-14.
fn date(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.date().to_string())
}
