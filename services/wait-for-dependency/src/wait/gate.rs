//! What a module's waiter waits for: the module's start needs with how each is looked at, read from documents.

use std::time::Duration;

use chassis::secret::SecretStore;
use chassis::wire::Fragment;
use chassis::{Context, Failure, documents};
use lifecycle::document::{Declared, Environment, Mode, Module};
use lifecycle::{Component, Gate, Graph, Need};

use super::args::WaitArgs;
use crate::definition::{Definition, for_waiter};

/// One need and how it is looked at from here.
#[derive(Debug)]
pub(crate) struct Item {
    /// The need.
    pub(crate) need: Need,
    /// Its probe, or why only the hub can tell.
    pub(crate) definition: Definition,
}

/// The start needs of a module, the implied ones included.
pub(crate) fn items(environment: &Environment, module: &Declared<'_, Module>) -> Vec<Item> {
    let graph = Graph::of(environment);
    let gate = Gate::new(graph.start_needs(&module.component).cloned());
    let items = gate.unmet().map(|need| Item {
        definition: for_waiter(environment, module.source, &need.component),
        need: need.clone(),
    });
    items.collect()
}

/// A module before its gate.
#[derive(Debug)]
pub(super) struct Gated {
    /// The module.
    pub(super) module: Component,
    /// Its start needs, the implied ones included.
    pub(super) items: Vec<Item>,
    /// What is registered with the hub.
    pub(super) fragments: Vec<Fragment>,
    /// Whether its fragment only reports who would wait.
    pub(super) reports_only: bool,
    /// Where its Secrets are.
    pub(super) secrets: SecretStore,
}

impl Gated {
    /// Reads the documents. A document that is wrong is said and left out, but for the module's own.
    pub(super) fn read(module: &str, args: &WaitArgs, context: &Context) -> Result<Gated, Failure> {
        let paths = if args.documents.is_empty() { &context.settings.documents } else { &args.documents };
        let (environment, problems) = documents::load_partial(paths)?;
        if environment.module(module).is_none() {
            let known: Vec<String> = environment.modules().map(|m| m.component.name().to_owned()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let mut text = format!(
                "--module: no document that could be used declares `{module}`; declared are: {known}"
            );
            for problem in problems {
                text.push('\n');
                text.push_str(&problem.to_string());
            }
            return Err(Failure::usage(text));
        }
        for problem in &problems {
            tracing::warn!("{problem}");
        }
        gated(module, &environment, context)
    }

    /// Which need a component is.
    pub(super) fn index(&self, component: &Component) -> Option<usize> {
        self.items.iter().position(|item| item.need.component == *component)
    }

    /// Names and limits for the board.
    pub(super) fn labels(&self) -> impl Iterator<Item = (String, Option<Duration>)> {
        self.items.iter().map(|item| (item.need.component.to_string(), item.need.within))
    }
}

fn gated(module: &str, environment: &Environment, context: &Context) -> Result<Gated, Failure> {
    let declared = environment.module(module).ok_or_else(|| Failure::internal("the module vanished"))?;
    let document = &declared.source.document;
    let fragments = environment.sources().map(|source| Fragment::try_from(&source.document));
    Ok(Gated {
        items: items(environment, &declared),
        fragments: fragments.collect::<Result<_, _>>().map_err(Failure::internal)?,
        reports_only: document.policy.mode == Mode::Report,
        secrets: context.secrets(&document.fragment.namespace),
        module: declared.component,
    })
}
