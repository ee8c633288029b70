//! Graph texts from strangers.

use std::sync::Arc;

use loom_ir::graph::parse::parse;
use loom_passes::{PassError, PipelineOptions, compile_graph};

use super::{affordable, run};

/// More nodes than this are only read: compiling takes a time that follows from their number.
const MAX_NODES: usize = 64;

/// Reads a graph, prints it, reads that, compiles it if it is small, and runs what comes out if it costs little.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let graph = match parse(text) {
        Ok(graph) => graph,
        Err(error) => {
            let inside = error.span().is_none_or(|span| text.get(span.range()).is_some());
            assert!(inside && !error.to_string().is_empty(), "{error} points outside the text");
            return;
        }
    };
    let printed = graph.to_string();
    let again = parse(&printed).unwrap_or_else(|error| panic!("a printed graph is refused: {error}\n{printed}"));
    assert_eq!(again.to_string(), printed, "text and graph do not round-trip");
    if graph.len() > MAX_NODES {
        return;
    }
    match compile_graph(graph, &PipelineOptions::default()) {
        Ok(program) if affordable(&program) => run::agree(&Arc::new(program), data.len() as u64),
        Ok(_) | Err(PassError::Program { .. }) => {}
        Err(error) => panic!("{error}\n{printed}"),
    }
}
