//! Network configs: JSON from strangers.

use std::sync::Arc;

use loom_ir::config::parse;
use loom_ir::diagnostics::Diagnostic;
use loom_passes::{PassError, PipelineOptions, compile};

use super::{affordable, run};

/// Reads a config, compiles it if it is small, and runs what comes out if it costs little.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let network = match parse(text) {
        Ok(network) => network,
        Err(errors) => return check(text, &errors.diagnostics()),
    };
    match compile(&network, &PipelineOptions::default()) {
        Ok(program) if affordable(&program) => run::agree(&Arc::new(program), network.seed),
        Ok(_) => {}
        Err(PassError::Shapes(errors)) => check(text, &errors.diagnostics()),
        Err(PassError::Program { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Every mistake is told in words and points into the text.
fn check(text: &str, diagnostics: &[Diagnostic]) {
    assert!(!diagnostics.is_empty(), "an error without a word");
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        for (span, _) in diagnostic.primary.iter().chain(&diagnostic.secondary) {
            assert!(text.get(span.range()).is_some(), "{span:?} is not in the text: {}", diagnostic.message);
        }
    }
}
