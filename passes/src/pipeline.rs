//! The passes in order, run one by one with a check after each.
//!
//! | pass | from | to |
//! |---|---|---|
//! | `infer-shapes` | network | network with all sizes |
//! | `lower` | network | graph |
//! | `simplify`, `fold`, `cse`, `dce` | graph | graph |
//! | `schedule` | graph | program |
//! | `fuse`, `collapse`, `plan` | program | program |
//!
//! Graphs and programs are verified after every pass; the manager can show the result of any and stop after any. Passes run
//! in LN1's floating-point environment, whatever the caller's is; who is shown a result sees it in the caller's.

use std::fmt;

use loom_fp_env::FpEnv;
use loom_ir::config::Network;
use loom_ir::graph::{self, Graph};
use loom_ir::kernel::{self, Program, Verified};

use crate::shapes::{ShapeErrors, ShapedNetwork, infer_shapes};
use crate::{collapse, fuse, lower, plan, schedule, simplify};

/// The names of all passes, in order.
pub const PASSES: &[&str] =
    &["infer-shapes", "lower", "simplify", "fold", "cse", "dce", "schedule", "fuse", "collapse", "plan"];

/// What a pass gave.
#[derive(Debug, Clone)]
pub enum Ir {
    /// Layers with shapes.
    Network(ShapedNetwork),
    /// Tensor operations.
    Graph(Graph),
    /// Kernels.
    Program(Program),
}

impl fmt::Display for Ir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ir::Network(network) => network.fmt(f),
            Ir::Graph(graph) => graph.fmt(f),
            Ir::Program(program) => program.fmt(f),
        }
    }
}

/// How the pipeline runs.
#[derive(Debug, Clone, Default)]
pub struct PipelineOptions {
    /// Stop after the pass of this name.
    pub stop_after: Option<String>,
    /// Leave these passes out: `simplify`, `fold`, `cse`, `dce`, `fuse` and `collapse` may be. For tests that compare.
    pub skip: Vec<String>,
}

/// Why a network could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The user's sizes.
    #[error("{0}")]
    Shapes(#[from] ShapeErrors),
    /// A pass made a graph that is wrong: a defect of Loom.
    #[error("internal error after `{pass}`, please report it: {source}")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// What's wrong.
        source: graph::VerifyError,
    },
    /// A program over a limit, or wrong.
    #[error("after `{pass}`: {source}")]
    Program {
        /// The pass.
        pass: &'static str,
        /// What's wrong.
        source: kernel::verify::VerifyError,
    },
    /// Not a pass.
    #[error("there is no pass `{0}`; the passes are {list}", list = PASSES.join(", "))]
    UnknownPass(String),
}

/// Runs the passes; `observe` sees what each gave. Returns what the last one gave.
pub fn run(network: &Network, options: &PipelineOptions, observe: &mut dyn FnMut(&str, &Ir)) -> Result<Ir, PassError> {
    check_names(options)?;
    let shaped = Ir::Network(FpEnv::run(|| infer_shapes(network))?);
    observe(PASSES[0], &shaped);
    continue_after(0, shaped, options, observe)
}

/// Runs the passes that follow on a graph.
pub fn run_graph(graph: Graph, options: &PipelineOptions, observe: &mut dyn FnMut(&str, &Ir)) -> Result<Ir, PassError> {
    check_names(options)?;
    continue_after(1, Ir::Graph(graph), options, observe)
}

/// Runs one pass alone and checks what it gave. An [`Ir`] that the pass does not take comes back as it is.
pub fn run_pass(name: &str, ir: Ir) -> Result<Ir, PassError> {
    let unknown = || PassError::UnknownPass(name.to_string());
    let &pass = PASSES.iter().find(|pass| **pass == name).ok_or_else(unknown)?;
    apply_checked(pass, ir)
}

fn check_names(options: &PipelineOptions) -> Result<(), PassError> {
    let unknown = options.stop_after.iter().chain(&options.skip).find(|name| !PASSES.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(PassError::UnknownPass(name.clone())))
}

fn continue_after(
    done: usize,
    mut ir: Ir,
    options: &PipelineOptions,
    observe: &mut dyn FnMut(&str, &Ir),
) -> Result<Ir, PassError> {
    let stops = |name: &str| options.stop_after.as_deref() == Some(name);
    if stops(PASSES[done]) {
        return Ok(ir);
    }
    for &name in &PASSES[done + 1..] {
        if !options.skip.iter().any(|skipped| skipped == name) {
            ir = apply_checked(name, ir)?;
            observe(name, &ir);
        }
        if stops(name) {
            break;
        }
    }
    Ok(ir)
}

fn apply_checked(name: &'static str, ir: Ir) -> Result<Ir, PassError> {
    FpEnv::run(|| {
        let ir = apply(name, ir);
        check(name, &ir)?;
        Ok(ir)
    })
}

fn apply(name: &'static str, ir: Ir) -> Ir {
    match (name, ir) {
        ("lower", Ir::Network(network)) => Ir::Graph(lower::lower(&network)),
        ("simplify", Ir::Graph(graph)) => Ir::Graph(simplify::simplify_identities(graph)),
        ("fold", Ir::Graph(graph)) => Ir::Graph(simplify::fold_constants(graph)),
        ("cse", Ir::Graph(graph)) => Ir::Graph(simplify::eliminate_common(graph)),
        ("dce", Ir::Graph(graph)) => Ir::Graph(simplify::eliminate_dead(graph)),
        ("schedule", Ir::Graph(graph)) => Ir::Program(schedule::schedule(&graph)),
        ("fuse", Ir::Program(program)) => Ir::Program(fuse::fuse(program)),
        ("collapse", Ir::Program(program)) => Ir::Program(collapse::collapse(program)),
        ("plan", Ir::Program(program)) => Ir::Program(plan::plan(program)),
        // A pass that was left out leaves its form to the next; `lower` and `schedule` are never left out.
        (_, ir) => ir,
    }
}

fn check(pass: &'static str, ir: &Ir) -> Result<(), PassError> {
    match ir {
        Ir::Network(_) => Ok(()),
        Ir::Graph(graph) => graph::verify(graph).map_err(|source| PassError::Graph { pass, source }),
        Ir::Program(program) => kernel::verify::check(program).map_err(|source| PassError::Program { pass, source }),
    }
}

/// Compiles a network to a planned program.
pub fn compile(network: &Network, options: &PipelineOptions) -> Result<Verified, PassError> {
    let mut options = options.clone();
    options.stop_after = None;
    verified(run(network, &options, &mut |_, _| {})?)
}

/// Compiles a graph to a planned program.
pub fn compile_graph(graph: Graph, options: &PipelineOptions) -> Result<Verified, PassError> {
    let mut options = options.clone();
    options.stop_after = None;
    verified(run_graph(graph, &options, &mut |_, _| {})?)
}

fn verified(ir: Ir) -> Result<Verified, PassError> {
    match ir {
        Ir::Program(program) => kernel::verify(program).map_err(|source| PassError::Program { pass: "plan", source }),
        Ir::Network(_) | Ir::Graph(_) => unreachable!("all passes ran"),
    }
}
