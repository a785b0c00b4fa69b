//! `rollcall graph`: what needs what, the implied needs included, in the order things can start.

use std::fmt::Write;

use chassis::Failure;
use clap::{Args, ValueEnum};
use lifecycle::{Component, Graph, When};
use serde_json::json;

use super::Documents;
use crate::output::{line, print};

/// Show what needs what, in the order things can start.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    documents: Documents,
    /// Draw it: `dot` for Graphviz.
    #[arg(long, value_enum, conflicts_with = "output")]
    draw: Option<Drawing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Drawing {
    Dot,
}

/// Prints the graph in layers: each needs only what stands in earlier ones.
pub fn run(args: &GraphArgs) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents.paths)?;
    let graph = Graph::of(&environment);
    let layers = graph.order().map_err(Failure::usage)?;
    if args.draw == Some(Drawing::Dot) {
        return line(&dot(&graph));
    }
    let value = json!({
        "layers": layers,
        "needs": graph.components().map(|c| (c.to_string(), needs(&graph, c))).collect::<serde_json::Map<_, _>>(),
    });
    print(args.documents.output, &value, || text(&graph, &layers))
}

fn needs(graph: &Graph, component: &Component) -> serde_json::Value {
    let edges = graph.needs(component).iter();
    edges.map(|e| json!({"component": e.need.component, "when": e.need.when, "implied": e.implied})).collect()
}

fn text(graph: &Graph, layers: &[Vec<Component>]) -> String {
    let mut text = String::new();
    for (i, layer) in layers.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "layer {}", i + 1);
        for component in layer {
            let needs: Vec<String> = graph
                .needs(component)
                .iter()
                .map(|e| {
                    let runtime = if e.need.when == When::Runtime { " (runtime)" } else { "" };
                    let implied = if e.implied { " (implied)" } else { "" };
                    format!("{}{runtime}{implied}", e.need.component)
                })
                .collect();
            let arrow = if needs.is_empty() { String::new() } else { format!(" ← {}", needs.join(", ")) };
            let _ = writeln!(text, "  {component}{arrow}");
        }
    }
    text
}

fn dot(graph: &Graph) -> String {
    let mut text = "digraph rollcall {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for component in graph.components() {
        let _ = writeln!(text, "  \"{component}\";");
        for edge in graph.needs(component) {
            let style = match (edge.need.when, edge.implied) {
                (When::Runtime, _) => " [style=dotted]",
                (When::Start, true) => " [style=dashed]",
                (When::Start, false) => "",
            };
            let _ = writeln!(text, "  \"{component}\" -> \"{}\"{style};", edge.need.component);
        }
    }
    text + "}"
}
