//! Deciding about certificates that are there: what people are told, and what those who trust are given.

use lifecycle::document::Generator;

use super::{Condition, Deciding, Signer};

const DAY: i64 = 86_400;

/// Whose a generated object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// Ours.
    Us,
    /// Somebody's who made it beforehand.
    Others,
}

impl Deciding<'_> {
    /// Says what there is to say of the certificate under a generator's own key. A certificate is never made anew for it: whoever
    /// does not know yet what is to be trusted would be cut off.
    pub(super) fn told(&mut self, own: &str, generator: &Generator, maker: Maker) {
        let Some(certificate) = self.world.certificates.get(own) else { return };
        let Condition::Good { from, until, signer, authority_until } = certificate.condition else {
            if maker == Maker::Us {
                self.drift(format!("`{own}` holds no certificate that can be read; raise `rotate.serial` to have it made anew"));
            }
            return;
        };
        let now = self.world.now;
        let is_signed = matches!(generator, Generator::Certificate(_));
        let ended = authority_until.filter(|ends| is_signed && *ends <= now);
        let advice = match (maker, authority_until) {
            (Maker::Others, _) => "whoever made it must replace it",
            (Maker::Us, Some(_)) if ended.is_some() => {
                "its authority has expired: raise `rotate.serial` of that first, and then of this"
            }
            (Maker::Us, Some(ends)) if is_signed && ends < until.saturating_add(DAY) => {
                "its authority ends then too: raise `rotate.serial` of that first, and then of this"
            }
            (Maker::Us, _) => "raise `rotate.serial` to have it made anew",
        };
        if until <= now {
            self.drift(format!("`{own}` expired on {}; {advice}", date(until)));
        } else if is_old(from, until, now) {
            self.drift(format!("`{own}` expires on {}; {advice}", date(until)));
        } else if from > now {
            self.drift(format!("`{own}` is not good before {}; do the clocks agree?", date(from)));
        }
        let (Generator::Certificate(leaf), Maker::Us) = (generator, maker) else { return };
        let ca = &leaf.ca.secret;
        // What an expired authority signs nobody believes, so signing anew mends nothing.
        if let Some(ends) = ended {
            self.drift(format!(
                "the authority that {ca} has for `{own}` has expired, on {}: raise `rotate.serial` of that first, and then of this",
                date(ends)
            ));
        }
        let advice =
            |otherwise: &'static str| if ended.is_some() { "that one has expired itself" } else { otherwise };
        match signer {
            Signer::Former => self.drift(format!(
                "`{own}` is signed by an authority before the one that {ca} has now; {}",
                advice("raise `rotate.serial` once everybody has the new one's certificate")
            )),
            Signer::Stranger => self.drift(format!(
                "`{own}` is not signed by the authority that {ca} has, so whoever trusts that one refuses it; {}",
                advice("raise `rotate.serial`")
            )),
            Signer::Present | Signer::Unknown => {}
        }
    }

    /// Whether what lies with a certificate for those who trust its authority is written anew.
    pub(super) fn is_outdated(&mut self, own: &str) -> bool {
        let is_outdated = self.world.certificates.get(own).is_some_and(|certificate| certificate.outdated);
        // What stands well otherwise is not to be refused or open for it.
        let is_fixed = self.world.there.as_ref().is_some_and(|there| there.immutable);
        if is_outdated && (is_fixed || self.spec.report_only) {
            let why = if is_fixed { "it is immutable" } else { "mode is report" };
            self.drift(format!("the certificates that lie with `{own}` are not what its authority has now; {why}, so they stay"));
            return false;
        }
        is_outdated
    }
}

/// Whether two thirds of its time are over, which is when other issuers make another: there is time left to try again.
fn is_old(from: i64, until: i64, now: i64) -> bool {
    until.saturating_sub(now).saturating_mul(3) < until.saturating_sub(from)
}

/// A day, as people write it: 2027-03-14.
fn date(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.date().to_string())
}
