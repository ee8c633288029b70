//! From a config's text to a program, with the places of mistakes kept.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use loom_ir::config::{self, Network};
use loom_ir::graph::Graph;
use loom_ir::kernel::{Verified, verify};
use loom_passes::shapes::{ShapeErrors, ShapedNetwork};
use loom_passes::{Ir, PASSES, PassError, PipelineOptions};

use crate::failure::Failure;

/// Which intermediate results are wanted.
#[derive(Debug, Default)]
pub struct Hooks<'a> {
    /// Print what this pass gives, or, with `all`, what each gives.
    pub print_after: Option<&'a str>,
    /// Stop after this pass.
    pub stop_after: Option<&'a str>,
}

/// What the passes gave.
#[derive(Debug)]
pub struct Compiled {
    /// The layers with all sizes.
    pub shaped: Option<ShapedNetwork>,
    /// The last graph before scheduling.
    pub graph: Option<Graph>,
    /// The program, if the passes were not stopped before it was planned.
    pub program: Option<Verified>,
    /// What the last pass gave, where they were stopped.
    pub stopped: Option<Ir>,
    /// How long the passes took.
    pub time: Duration,
}

/// Reads a config.
pub fn parse(path: &Path, text: &str) -> Result<Network, Failure> {
    config::parse(text).map_err(|errors| Failure::Config {
        path: path.to_path_buf(),
        text: text.to_string(),
        diagnostics: errors.diagnostics(),
        left_out: errors.left_out(),
    })
}

/// Mistakes in a network's sizes.
pub fn shape_errors(path: &Path, text: &str, errors: &ShapeErrors) -> Failure {
    let (path, text) = (path.to_path_buf(), text.to_string());
    Failure::Config { path, text, diagnostics: errors.diagnostics(), left_out: 0 }
}

/// Runs the passes.
pub fn compile(path: &Path, text: &str, network: &Network, hooks: &Hooks<'_>) -> Result<Compiled, Failure> {
    if let Some(name) = hooks.print_after.filter(|&name| name != "all" && !PASSES.contains(&name)) {
        return Err(Failure::User(PassError::UnknownPass(name.to_string()).to_string()));
    }
    let begun = Instant::now();
    let options = PipelineOptions { stop_after: hooks.stop_after.map(str::to_string), ..PipelineOptions::default() };
    let (mut shaped, mut graph) = (None, None);
    let mut observe = |pass: &str, ir: &Ir| {
        if hooks.print_after.is_some_and(|name| name == "all" || name == pass) {
            // Whoever read it may have gone; the passes go on all the same.
            let _ = io::stderr().lock().write_all(format!("// after {pass}\n{ir}\n").as_bytes());
        }
        match ir {
            Ir::Network(network) => shaped = Some(network.clone()),
            Ir::Graph(latest) => graph = Some(latest.clone()),
            Ir::Program(_) => {}
        }
    };
    let failed = |error| match error {
        PassError::Shapes(errors) => shape_errors(path, text, &errors),
        PassError::Graph { .. } => Failure::Internal(error.to_string()),
        PassError::Program { .. } => Failure::User(format!("{}: {error}", path.display())),
        PassError::UnknownPass(_) => Failure::User(error.to_string()),
    };
    let last = loom_passes::run(network, &options, &mut observe).map_err(failed)?;
    let mut compiled = Compiled { shaped, graph, program: None, stopped: None, time: begun.elapsed() };
    match last {
        Ir::Program(program) if hooks.stop_after.is_none() => {
            let program = verify(program).map_err(|source| failed(PassError::Program { pass: "plan", source }))?;
            compiled.program = Some(program);
        }
        stopped => compiled.stopped = Some(stopped),
    }
    compiled.time = begun.elapsed();
    Ok(compiled)
}
