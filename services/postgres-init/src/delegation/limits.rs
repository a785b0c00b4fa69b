//! How much of this service one service account may have at once, so that nobody's calls leave none to others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

/// What may be open at once, counted for each service account.
#[derive(Debug)]
pub(super) struct Limit {
    what: &'static str,
    most: usize,
    open: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One that is open; it is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    whose: String,
    open: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Limit {
    /// So many of `what`, for people, at most.
    pub(super) fn new(what: &'static str, most: usize) -> Self {
        Limit { what, most, open: Arc::default() }
    }

    /// A place for one more.
    ///
    /// # Errors
    /// The account has as many as it may, which changes by itself: `RESOURCE_EXHAUSTED`.
    pub(super) fn enter(&self, whose: &str) -> Result<Place, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(whose.to_owned()).or_default();
        if *count >= self.most {
            let text = format!(
                "service account {whose} has {count} {} open, which is as many as one may; try again",
                self.what
            );
            return Err(Status::resource_exhausted(text));
        }
        *count += 1;
        Ok(Place { whose: whose.to_owned(), open: Arc::clone(&self.open) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_as_many_as_it_may_and_leaves_the_others_theirs() {
        let limit = Limit::new("calls", 2);
        let (first, _second) = (limit.enter("a").unwrap(), limit.enter("a").unwrap());
        assert_eq!(limit.enter("a").unwrap_err().code(), tonic::Code::ResourceExhausted);
        limit.enter("b").unwrap();
        drop(first);
        limit.enter("a").unwrap();
    }
}
