//! When an answer that refuses is believed: rules are rolled out, tokens renewed and services replaced, so one answer is no answer.

use std::time::Duration;

use chassis::settings::Settings;
use tokio::time::Instant;
use tonic::{Code, Status};

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

    /// Whether, by what is answered `now`, asking again changes nothing until somebody changes a document or a rule.
    pub(crate) fn is_hopeless(&mut self, status: &Status, now: Instant) -> bool {
        let code = status.code();
        match code {
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
            assert!(!conviction.is_hopeless(&denied, begun));
        }
        // Somebody else answers meanwhile.
        let later = begun + long;
        assert!(!conviction.is_hopeless(&Status::unavailable("starts"), later));
        assert!(!conviction.is_hopeless(&denied, later));
        assert!(!conviction.is_hopeless(&denied, later));
        assert!(conviction.is_hopeless(&denied, later + long));
        assert!(Conviction::new(&settings).is_hopeless(&Status::invalid_argument("no document"), begun));
    }
}
