//! stub
use chassis::{Context, Failure};
use super::args::WaitArgs;
pub(super) async fn wait(_module: &str, _args: &WaitArgs, _context: &Context) -> Result<(), Failure> {
    Err(Failure::usage("stub"))
}
