//! Configs and bundles of Loom 0.0.8 from strangers.

use loom_dialect::{OldWeights, Options, Translation, translate};
use loom_ir::config::parse;
use loom_ir::diagnostics::Diagnostic;
use loom_ir::kernel::Program;
use loom_passes::{PassError, PipelineOptions, compile};

/// Translates a file, with the weights in it and without any, and compiles what comes out.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Whether a file is of the dialect can be asked of any.
    let _ = (loom_dialect::says_so(text), loom_dialect::is_bundle(text));
    for weights in [None, Some(OldWeights::new())] {
        match translate(text, weights.as_ref(), &Options::default()) {
            Ok(translation) => compiles(text, &translation),
            Err(errors) => {
                assert!(errors.iter().len() > 0, "an error without a word");
                errors.diagnostics().iter().for_each(|diagnostic| check(text, diagnostic));
            }
        }
    }
}

/// What is translated is a network, whose sizes may be refused, and its weights are that network's.
fn compiles(text: &str, translation: &Translation) {
    translation.notes.iter().for_each(|note| check(text, &note.diagnostic()));
    let config = &translation.config;
    let network = parse(config).unwrap_or_else(|errors| panic!("{errors}\n{config}"));
    match compile(&network, &PipelineOptions::default()) {
        Ok(program) => have_weights(&program, translation),
        Err(PassError::Shapes(errors)) => {
            errors.diagnostics().into_iter().for_each(|diagnostic| check(text, &translation.located(diagnostic)));
        }
        Err(PassError::Program { .. }) => {}
        Err(error) => panic!("{error}\n{config}"),
    }
}

fn have_weights(program: &Program, translation: &Translation) {
    let Some(tensors) = &translation.weights else { return };
    assert_eq!(tensors.len(), program.weights().count(), "{}", translation.config);
    for (_, buffer) in program.weights() {
        let tensor = tensors.iter().find(|tensor| tensor.name == buffer.name);
        assert_eq!(tensor.map(|tensor| tensor.dims.as_slice()), Some(buffer.shape.dims()), "{}", buffer.name);
    }
}

/// Every message is told in words and points into the text.
fn check(text: &str, diagnostic: &Diagnostic) {
    assert!(!diagnostic.message.is_empty());
    for (span, _) in diagnostic.primary.iter().chain(&diagnostic.secondary) {
        assert!(text.get(span.range()).is_some(), "{span:?} is not in the text: {}", diagnostic.message);
    }
}
