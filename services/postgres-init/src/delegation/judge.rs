//! Whether a fragment is accepted beside those that were. Pure: it is allowed, it joins, and it puts nobody out.

use chassis::exit::chain;
use chassis::grpc::Identity;
use lifecycle::document::{Document, Environment};

use super::{rules, union};
use crate::world::Error;
use crate::world::delegated::Kept;

/// Why a fragment is not accepted.
#[derive(Debug)]
pub(crate) enum Denied {
    /// It may not have this.
    Never(String),
    /// It contradicts what is there.
    Clash(String),
    /// Nobody can tell just now.
    Later(String),
}

impl From<Error> for Denied {
    /// Only what was decided about the caller is final; what the server's own administrator is denied is put right there.
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(why) => Denied::Never(why),
            Error::Ident(error) => Denied::Never(chain(&error)),
            error => Denied::Later(chain(&error)),
        }
    }
}

/// Judges a fragment, or a new version of one, by what joins the mounted documents of those that were accepted. What was left out lends
/// no rights: the name of a database in it may be another's. Whoever asks by `caller` has only what rules let that account ask for.
///
/// # Errors
/// Why not.
pub(super) fn judge(
    mounted: &Environment,
    kept: &[Kept],
    asked: &Document,
    caller: Option<&Identity>,
) -> Result<(), Denied> {
    let fragment = &asked.fragment;
    if let Some(other) =
        kept.iter().find(|kept| kept.fragment == fragment.name && kept.namespace != fragment.namespace)
    {
        return Err(Denied::Never(format!(
            "fragment `{}` is of namespace {}, not of {}; give it another name",
            fragment.name, other.namespace, fragment.namespace
        )));
    }
    let before = union::join(mounted, kept);
    let documents = &before.documents;
    let refused = rules::refusals(mounted, documents, documents, asked, caller);
    if !refused.is_empty() {
        return Err(Denied::Never(refused.join("\n")));
    }
    let with = union::with(&before.environment, mounted, documents, documents, asked);
    with.map_err(|why| Denied::Clash(why.join("\n")))?;
    // As it will be: it joins, and puts nobody out.
    let with = with_version(kept, asked);
    let mut after = union::join(mounted, &with);
    if let Some(why) = after.left.remove(&fragment.name) {
        return Err(Denied::Clash(why.join("\n")));
    }
    let put_out = documents.iter().filter_map(|document| after.left.remove(&document.fragment.name));
    let put_out: Vec<String> = put_out.flatten().collect();
    if put_out.is_empty() {
        return Ok(());
    }
    Err(Denied::Clash(format!(
        "this version of fragment `{}` would put out what was accepted before: {}",
        fragment.name,
        put_out.join("\n")
    )))
}

/// What stands there once this is accepted: in the place of an earlier version, or after all others.
pub(super) fn with_version(kept: &[Kept], asked: &Document) -> Vec<Kept> {
    let fragment = &asked.fragment;
    let mut with = kept.to_vec();
    match with.iter_mut().find(|kept| kept.fragment == fragment.name) {
        Some(kept) => kept.document = Some(asked.clone()),
        None => with.push(Kept {
            fragment: fragment.name.clone(),
            namespace: fragment.namespace.clone(),
            document: Some(asked.clone()),
            by: String::new(),
            accepted: i64::MAX,
            first: i64::MAX,
        }),
    }
    with
}
