//! `loomc`: the Loom compiler's command line.
//!
//! Its arguments, its `--json` fields and its exit codes are a contract: scripts rely on them. What people read on a
//! terminal may change.

use std::process::ExitCode;

use clap::Parser;

mod cli;
mod codegen;
mod commands;
mod excerpt;
mod failure;
mod flops;
mod format;
mod interrupt;
mod model;
mod pipeline;
mod precision;
mod progress;
mod source;
mod stdout;
mod stored;
mod structure;
mod traffic;

fn main() -> ExitCode {
    model::start_clock();
    interrupt::install();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0. Nothing helps if they can't be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
