//! Measures Loom's scalar library against correctly rounded references.

mod batch;
mod expansions;
mod measure;
mod reference;
mod soft;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use loom_ir::kernel::scalar::{Inst, ScalarFn, UnaryOp};
use loom_ir::numerics::{expand, library::definition};

use crate::expansions::Disagreements;

/// Measures the scalar library over all 2^32 arguments of each function, or a sample of them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The functions to measure, by name; all of them if none is named.
    functions: Vec<String>,
    /// Measure every N-th argument only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    stride: u64,
    /// Threads to use.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Compare the square root's program with the processor's instruction on all 2^32 arguments instead.
    #[arg(long)]
    exhaustive_sqrt: bool,
    /// Compare division's program with the processor's instruction on N million pairs instead.
    #[arg(long, value_name = "N")]
    division: Option<u64>,
    /// Compare the integer programs of float operations with the processor's instructions instead: those of one operand
    /// on all 2^32 arguments, those of two on N million pairs each.
    #[arg(long, value_name = "N")]
    soft: Option<u64>,
    /// Print each function's program instead of measuring it.
    #[arg(long)]
    print: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let mut ops: Vec<UnaryOp> = Vec::new();
    for name in &arguments.functions {
        match UnaryOp::from_name(name).filter(|op| op.is_library()) {
            Some(op) => ops.push(op),
            None => {
                eprintln!("error: the library has no function `{name}`");
                std::process::exit(2);
            }
        }
    }
    if ops.is_empty() {
        ops.extend(UnaryOp::ALL.iter().copied().filter(|op| op.is_library()));
    }
    if arguments.exhaustive_sqrt || arguments.division.is_some() {
        check_expansions(&arguments);
        return;
    }
    if let Some(millions) = arguments.soft {
        if !soft::check(millions, arguments.threads) {
            std::process::exit(1);
        }
        return;
    }
    println!(
        "| function | steps off | at | largest error, ulp | at | not correctly rounded | instructions | constants |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut failed = false;
    for op in ops {
        let Some(function) = definition(op) else { continue };
        if arguments.print {
            println!("{op}{function}");
            continue;
        }
        let report = with_progress(op.name(), (1u64 << 32).div_ceil(arguments.stride), |progress| {
            measure::measure(op, function, arguments.stride, arguments.threads, progress)
        });
        let (instructions, constants) = size(function);
        println!(
            "| {op} | {} | {:e} | {:.3} | {:e} | {:.3} % | {instructions} | {constants} |",
            report.steps,
            report.steps_at,
            report.error,
            report.error_at,
            100.0 * report.wrong as f64 / report.tried as f64,
        );
        failed |= report.broken > 0 || report.steps > 1;
        if report.broken > 0 {
            println!("{op}: {} results are wrong in kind or sign, such as at {:e}", report.broken, report.broken_at);
        }
    }
    if failed {
        std::process::exit(1);
    }
}

/// Exits with 1 where a program and an instruction disagree.
fn check_expansions(arguments: &Arguments) {
    let mut agree = true;
    if arguments.exhaustive_sqrt {
        let blocks = (1 << 32) / batch::LANES as u64;
        let found = with_progress("sqrt", blocks, |progress| {
            expansions::compare(
                expand::sqrt(),
                blocks,
                arguments.threads,
                progress,
                expansions::all_floats,
                |operands, got| expansions::is(got, f32::from_bits(operands[0]).sqrt()),
            )
        });
        agree &= print_disagreements("sqrt", expand::sqrt(), &found);
    }
    if let Some(millions) = arguments.division {
        let blocks = millions * 1_000_000 / batch::LANES as u64;
        let found = with_progress("div", blocks, |progress| {
            expansions::compare(
                expand::div(),
                blocks,
                arguments.threads,
                progress,
                expansions::division_pairs,
                |operands, got| expansions::is(got, f32::from_bits(operands[0]) / f32::from_bits(operands[1])),
            )
        });
        agree &= print_disagreements("div", expand::div(), &found);
    }
    if !agree {
        std::process::exit(1);
    }
}

fn print_disagreements(name: &str, function: &ScalarFn, found: &Disagreements) -> bool {
    let (instructions, constants) = size(function);
    println!("{name}: {} of {} differ ({instructions} instructions, {constants} constants)", found.wrong, found.tried);
    if found.wrong > 0 {
        println!("  such as {:08x?}", found.example);
    }
    found.wrong == 0
}

/// Instructions that compute something (bit casts cost nothing), and constants.
fn size(function: &ScalarFn) -> (usize, usize) {
    let constants = function.insts.iter().filter(|inst| matches!(inst, Inst::Const(..))).count();
    let casts = function.insts.iter().filter(|inst| matches!(inst, Inst::Bitcast(..))).count();
    (function.insts.len() - constants - casts, constants)
}

/// Runs `work` with a progress bar on a terminal.
fn with_progress<T>(name: &'static str, total: u64, work: impl FnOnce(&AtomicU64) -> T) -> T {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} {wide_bar} {percent}% {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    let count = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(count.load(Ordering::Relaxed));
                thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work(&count);
        done.store(true, Ordering::Relaxed);
        result
    });
    bar.finish_and_clear();
    result
}
