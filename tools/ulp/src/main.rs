//! Measures Loom's scalar library against correctly rounded references.

mod double;
mod expansions;
mod measure;
mod power;
mod reference;
mod soft;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use loom_ir::kernel::scalar::{BinaryOp, Inst, ScalarFn, UnaryOp};
use loom_ir::numerics::expand;
use loom_ir::numerics::library::{binary_definition, definition};
use loom_ir::types::DType;

use crate::expansions::Disagreements;
use crate::measure::Report;

/// Measures the scalar library over all 2^32 arguments of each function, or a sample of them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The functions to measure, by name; all of them if none is named.
    functions: Vec<String>,
    /// Measure every N-th argument only (of functions of one argument).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    stride: u64,
    /// Measure functions of two arguments on N million pairs.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pairs: u64,
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
    /// Measure the functions of f64 instead, each on N million arguments.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    double: Option<u64>,
    /// Print each function's program instead of measuring it.
    #[arg(long)]
    print: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(millions) = arguments.double {
        measure_double(&arguments, millions);
        return;
    }
    let all: Vec<Operation> = (UnaryOp::ALL
        .iter()
        .filter_map(|&op| Some(Operation::Unary(op, definition(op, DType::F32)?))))
    .chain(BinaryOp::ALL.iter().filter_map(|&op| Some(Operation::Binary(op, binary_definition(op, DType::F32)?))))
    .collect();
    let mut operations = Vec::new();
    for name in &arguments.functions {
        match all.iter().find(|operation| operation.name() == name) {
            Some(&operation) => operations.push(operation),
            None => {
                eprintln!("error: the library has no function `{name}`");
                std::process::exit(2);
            }
        }
    }
    if operations.is_empty() {
        operations = all;
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
    if arguments.print {
        for operation in operations {
            println!("{}{}", operation.name(), operation.program());
        }
        return;
    }
    println!(
        "| function | steps off | at | largest error, ulp | at | not correctly rounded | instructions | constants |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut good = true;
    for operation in operations {
        let (name, program) = (operation.name(), operation.program());
        good &= match operation {
            Operation::Unary(op, _) => {
                let report = with_progress(name, (1u64 << 32).div_ceil(arguments.stride), |progress| {
                    measure::measure(op, program, arguments.stride, arguments.threads, progress)
                });
                print_report(name, program, &report, |x| format!("{x:e}"))
            }
            Operation::Binary(..) => {
                let count = arguments.pairs * 1_000_000;
                let report =
                    with_progress(name, count, |progress| power::measure(program, count, arguments.threads, progress));
                print_report(name, program, &report, |[x, y]| format!("{x:e}, {y:e}"))
            }
        };
    }
    if !good {
        std::process::exit(1);
    }
}

/// Measures the functions of `f64`; exits with 1 where one does not keep its promise.
fn measure_double(arguments: &Arguments, millions: u64) {
    let all: Vec<_> = UnaryOp::ALL.iter().filter_map(|&op| Some((op, definition(op, DType::F64)?))).collect();
    if let Some(name) = arguments.functions.iter().find(|name| !all.iter().any(|(op, _)| op.name() == *name)) {
        eprintln!("error: the library has no function `{name}` of f64");
        std::process::exit(2);
    }
    println!("| function | steps off | at | not correctly rounded | instructions | constants |");
    println!("|---|---|---|---|---|---|");
    let mut good = true;
    for (op, program) in all {
        let name = op.name();
        if !arguments.functions.is_empty() && !arguments.functions.iter().any(|wanted| wanted == name) {
            continue;
        }
        let count = millions * 1_000_000;
        let report =
            with_progress(name, count, |progress| double::measure(op, program, count, arguments.threads, progress));
        let (instructions, constants) = size(program);
        let share = 100.0 * report.wrong as f64 / report.tried as f64;
        let (steps, at) = (report.steps, report.steps_at);
        println!("| {name} | {steps} | {at:e} | {share:.3} % | {instructions} | {constants} |");
        if report.broken > 0 {
            let at = report.broken_at;
            println!("{name}: {} results are wrong in kind or sign, such as at {at:e}", report.broken);
        }
        good &= report.broken == 0 && report.steps <= double::limit(op);
    }
    if !good {
        std::process::exit(1);
    }
}

/// A library operation and its program.
#[derive(Clone, Copy)]
enum Operation {
    Unary(UnaryOp, &'static ScalarFn),
    Binary(BinaryOp, &'static ScalarFn),
}

impl Operation {
    fn name(&self) -> &'static str {
        match self {
            Operation::Unary(op, _) => op.name(),
            Operation::Binary(op, _) => op.name(),
        }
    }

    fn program(&self) -> &'static ScalarFn {
        match self {
            Operation::Unary(_, program) | Operation::Binary(_, program) => program,
        }
    }
}

/// Prints a line of the table, and tells whether the function keeps its promise.
fn print_report<A: Copy>(name: &str, program: &ScalarFn, report: &Report<A>, show: impl Fn(A) -> String) -> bool {
    let (instructions, constants) = size(program);
    println!(
        "| {name} | {} | {} | {:.3} | {} | {:.3} % | {instructions} | {constants} |",
        report.steps,
        show(report.steps_at),
        report.error,
        show(report.error_at),
        100.0 * report.wrong as f64 / report.tried as f64,
    );
    if report.broken > 0 {
        println!("{name}: {} results are wrong in kind or sign, such as at {}", report.broken, show(report.broken_at));
    }
    report.broken == 0 && report.steps <= 1
}

/// Exits with 1 where a program and an instruction disagree.
fn check_expansions(arguments: &Arguments) {
    let mut agree = true;
    if arguments.exhaustive_sqrt {
        let blocks = (1 << 32) / loom_ir::eval::batch::LANES as u64;
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
        let blocks = millions * 1_000_000 / loom_ir::eval::batch::LANES as u64;
        let quick = expand::quick_div();
        type Pairs = fn(u64, &mut [loom_ir::eval::batch::Block]);
        let programs: [(_, _, Pairs); 2] =
            [("div", expand::div(), expansions::division_pairs), ("quick div", &quick.div, expansions::ordinary_pairs)];
        for (name, function, pairs) in programs {
            let found = with_progress(name, blocks, |progress| {
                expansions::compare(function, blocks, arguments.threads, progress, pairs, |operands, got| {
                    expansions::is(got, f32::from_bits(operands[0]) / f32::from_bits(operands[1]))
                })
            });
            agree &= print_disagreements(name, function, &found);
        }
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
