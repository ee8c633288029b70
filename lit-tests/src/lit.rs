//! Golden files: an input, and what each stage must print.
//!
//! ```text
//! What the file shows, in a sentence or two.
//!
//! ==== network
//! {"layers": [...]}
//! ==== after fuse
//! program "" {
//!   ...
//! ```
//!
//! The first section is the input: `network` (a config), `graph` (graph text) or `program` (JSON). A section `values` after
//! it holds the bits of the input's tensors. Each other section names a stage and holds its text:
//!
//! | section | holds |
//! |---|---|
//! | `after PASS` | what the pipeline gave up to that pass |
//! | `pass PASS` | what that pass alone makes of the input |
//! | `error` | the messages about a wrong input, with line, column and the text underlined |
//! | `wgsl` | all kernels as WGSL for the portable target; each is validated and searched for what must not be there |
//! | `wgsl guarded`, `wgsl soft` | the same in the other arithmetics |
//! | `clif` | all kernels as Cranelift IR |
//! | `output` | the bits of the outputs for the `values`: the same with all passes and few, interpreted and on the CPU; the devices' tests run them on the GPU |
//!
//! `BLESS=1` rewrites the sections; the review is the diff.

use std::fmt::Write;
use std::sync::Arc;

use loom_ir::diagnostics::{Diagnostic, Span};
use loom_ir::kernel::Verified;
use loom_passes::{Ir, PassError, PipelineOptions};
use loom_testing::case::Tensors;

use crate::bits::{render, values};

/// A golden file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LitFile {
    /// What the file shows.
    pub preamble: String,
    /// Sections: heading and text, the input first.
    pub sections: Vec<(String, String)>,
}

const MARK: &str = "==== ";
const VALUES: &str = "values";

impl LitFile {
    /// Reads the sections of a file.
    pub fn parse(text: &str) -> Result<LitFile, String> {
        let mut file = LitFile { preamble: String::new(), sections: Vec::new() };
        for line in text.lines() {
            match (line.strip_prefix(MARK), file.sections.last_mut()) {
                (Some(heading), _) => file.sections.push((heading.trim().to_string(), String::new())),
                (None, Some((_, body))) => *body += &format!("{line}\n"),
                (None, None) => file.preamble += &format!("{line}\n"),
            }
        }
        if file.sections.len() < 2 {
            return Err("a golden file has an input and at least one stage".to_string());
        }
        Ok(file)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        self.sections
            .iter()
            .fold(self.preamble.clone(), |text, (heading, body)| format!("{text}{MARK}{heading}\n{body}"))
    }

    /// The same file with every stage's text as it is now.
    pub fn actual(&self) -> Result<LitFile, String> {
        let mut actual = self.clone();
        let (kind, source) = &self.sections[0];
        for (heading, body) in &mut actual.sections[1..] {
            match heading.as_str() {
                VALUES => continue,
                "output" => *body = output(kind, source, &self.values()?)?,
                _ => *body = stage(kind, source, heading)?,
            }
            if !body.ends_with('\n') {
                body.push('\n');
            }
        }
        Ok(actual)
    }

    /// The bits of the input's tensors.
    pub fn values(&self) -> Result<Tensors, String> {
        self.sections.iter().find(|(heading, _)| heading == VALUES).map_or(Ok(Tensors::new()), |(_, body)| values(body))
    }

    /// The program and its values, where the file has an `output` section.
    pub fn runnable(&self) -> Result<Option<(Arc<Verified>, Tensors)>, String> {
        let (kind, source) = &self.sections[0];
        if !self.sections.iter().any(|(heading, _)| heading == "output") {
            return Ok(None);
        }
        Ok(Some((Arc::new(program(kind, source, &PipelineOptions::default())?), self.values()?)))
    }
}

/// The outputs' bits, of the input compiled in several ways.
fn output(kind: &str, source: &str, values: &Tensors) -> Result<String, String> {
    let skips: &[&[&str]] = match kind {
        "program" => &[&[]],
        _ => &[&["simplify", "fold", "cse", "dce", "fuse", "collapse"], &["fuse"], &[]],
    };
    let programs = skips.iter().map(|skip| {
        let skip = skip.iter().map(ToString::to_string).collect();
        program(kind, source, &PipelineOptions { stop_after: None, skip }).map(Arc::new)
    });
    render(&programs.collect::<Result<Vec<_>, _>>()?, values)
}

fn stage(kind: &str, source: &str, heading: &str) -> Result<String, String> {
    match heading.split_once(' ') {
        Some(("after", pass)) => {
            let options = PipelineOptions { stop_after: Some(pass.to_string()), skip: Vec::new() };
            pipeline(kind, source, &options).map(|ir| ir.to_string())
        }
        Some(("pass", pass)) => {
            let input = match kind {
                "graph" => Ir::Graph(graph(source)?),
                _ => return Err("a single pass is tested on a graph".to_string()),
            };
            // What precedes the pass brings the graph into its form, unchanged.
            let form = match pass {
                "fuse" | "collapse" | "plan" => loom_passes::pipeline::run_pass("schedule", input),
                _ => Ok(input),
            };
            let result = form.and_then(|form| loom_passes::pipeline::run_pass(pass, form));
            result.map(|ir| ir.to_string()).map_err(|error| error.to_string())
        }
        None if heading == "error" => error_text(kind, source),
        _ => crate::stages::render(heading, &program(kind, source, &PipelineOptions::default())?),
    }
}

fn graph(source: &str) -> Result<loom_ir::graph::Graph, String> {
    loom_ir::graph::parse::parse(source).map_err(|error| error.to_string())
}

fn pipeline(kind: &str, source: &str, options: &PipelineOptions) -> Result<Ir, String> {
    let ir = match kind {
        "network" => {
            let network = loom_ir::config::parse(source).map_err(|errors| errors.to_string())?;
            loom_passes::run(&network, options, &mut |_, _| {})
        }
        "graph" => loom_passes::run_graph(graph(source)?, options, &mut |_, _| {}),
        _ => return Err(format!("an input is a network or a graph, not `{kind}`")),
    };
    ir.map_err(|error| error.to_string())
}

fn program(kind: &str, source: &str, options: &PipelineOptions) -> Result<Verified, String> {
    if kind == "program" {
        let program = serde_json::from_str(source).map_err(|error| error.to_string())?;
        return loom_ir::kernel::verify(program).map_err(|error| error.to_string());
    }
    match pipeline(kind, source, options)? {
        Ir::Program(program) => loom_ir::kernel::verify(program).map_err(|error| error.to_string()),
        _ => Err("the pipeline stopped early".to_string()),
    }
}

fn error_text(kind: &str, source: &str) -> Result<String, String> {
    let diagnostics = match kind {
        "graph" => match loom_ir::graph::parse::parse(source) {
            Ok(_) => return Err("the graph has no error".to_string()),
            Err(error) => {
                let diagnostic = Diagnostic::new(error.to_string());
                vec![match error.span() {
                    Some(span) => diagnostic.at(span, ""),
                    None => diagnostic,
                }]
            }
        },
        _ => match loom_ir::config::parse(source) {
            Err(errors) => errors.diagnostics(),
            Ok(network) => match loom_passes::run(&network, &PipelineOptions::default(), &mut |_, _| {}) {
                Ok(_) => return Err("the network has no error".to_string()),
                Err(PassError::Shapes(errors)) => errors.diagnostics(),
                Err(other) => vec![Diagnostic::new(other.to_string())],
            },
        },
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        let _ = writeln!(text, "error: {}", diagnostic.message);
        for (span, label) in diagnostic.primary.iter().chain(&diagnostic.secondary) {
            let _ = writeln!(text, "  {} {label}", place(source, *span));
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(text, "  help: {help}");
        }
    }
    Ok(text)
}

/// `line:column` and the text of a span, its first line.
fn place(source: &str, span: Span) -> String {
    let before = source.get(..span.start).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let text = source.get(span.range()).unwrap_or("").lines().next().unwrap_or("");
    format!("{line}:{column} `{text}`")
}
