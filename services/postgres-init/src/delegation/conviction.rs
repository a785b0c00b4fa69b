//! When an answer that refuses is believed: rules are rolled out, tokens renewed and services replaced, so one answer is no answer.

use std::time::Duration;

use chassis::settings::Settings;
use tokio::time::Instant;
use tonic::{Code, Status};

/// Whether a call that was `heard` just ended, and was not refused: its token did, or whoever answered. Versions before this one say
/// `UNAUTHENTICATED` of that.
pub(crate) fn goes_on(status: &Status, heard: bool) -> bool {
    heard && matches!(status.code(), Code::Unavailable | Code::Unauthenticated)
}

/// Answers that must agree.
const ANSWERS: u32 = 3;
/// For how long, in resyncs of whoever serves: by then it has heard of what is new.
const RESYNCS: u32 = 2;

/// The answers that refuse, for as long as they agree.
#[derive(Debug)]
pub(crate) struct Conviction {
    long: Duration,
    same: Option<(Code, Instant, u32)>,
}

impl Conviction {
    /// Where so is run: at most half of its deadline is waited, so that the reason is told before it is over.
    pub(crate) fn new(settings: &Settings) -> Self {
        let long = settings.resync * RESYNCS;
        let long = settings.deadline.map_or(long, |deadline| long.min(deadline / 2));
        Conviction { long, same: None }
    }

    /// Whether, by what is answered `now`, asking again changes nothing until somebody changes a document or a rule. Of a call that was
    /// `heard` before, only a refusal counts.
    pub(crate) fn is_hopeless(&mut self, status: &Status, heard: bool, now: Instant) -> bool {
        let code = status.code();
        match code {
            _ if goes_on(status, heard) => {
                self.same = None;
                return false;
            }
            // What was sent is wrong or too large, whoever reads it.
            Code::InvalidArgument | Code::OutOfRange => return true,
            Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Unauthenticated => {}
            _ => {
                self.same = None;
                return false;
            }
        }
        let (since, answers) = match self.same {
            Some((known, since, answers)) if known == code => (since, answers + 1),
            _ => (now, 1),
        };
        self.same = Some((code, since, answers));
        answers >= ANSWERS && now.duration_since(since) >= self.long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_agree_for_long_enough_convince() {
        let settings = Settings::load(std::iter::empty()).unwrap();
        let long = settings.resync * RESYNCS;
        let (mut conviction, begun) = (Conviction::new(&settings), Instant::now());
        let denied = Status::permission_denied("no rule");
        for _ in 0..5 {
            assert!(!conviction.is_hopeless(&denied, false, begun));
        }
        // Somebody else answers meanwhile.
        let later = begun + long;
        assert!(!conviction.is_hopeless(&Status::unavailable("starts"), false, later));
        assert!(!conviction.is_hopeless(&denied, false, later));
        assert!(!conviction.is_hopeless(&denied, false, later));
        assert!(conviction.is_hopeless(&denied, false, later + long));
        assert!(Conviction::new(&settings).is_hopeless(
            &Status::invalid_argument("no document"),
            false,
            begun
        ));
    }

    #[test]
    fn a_call_that_was_heard_and_ended_with_its_token_was_not_refused() {
        let settings = Settings::load(std::iter::empty()).unwrap();
        let long = settings.resync * RESYNCS;
        let mut conviction = Conviction::new(&settings);
        let (expired, denied) =
            (Status::unauthenticated("has expired"), Status::permission_denied("no rule"));
        let mut now = Instant::now();
        for _ in 0..4 {
            now += long;
            assert!(!conviction.is_hopeless(&expired, true, now));
        }
        // At the door it is one, and a refusal is one wherever it comes.
        let mut hopeless = |status, heard| {
            now += long;
            conviction.is_hopeless(status, heard, now)
        };
        for (status, heard) in [(&expired, false), (&denied, true)] {
            let counted = [hopeless(status, heard), hopeless(status, heard), hopeless(status, heard)];
            assert_eq!(counted, [false, false, true], "{status}");
        }
    }
}
