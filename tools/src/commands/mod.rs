//! One module a command.

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::stdout;

mod bench;
mod calibrate;
mod compile;
mod convert;
mod devices;
mod difference;
mod eval;
mod inspect;
mod replay;
mod run;
mod verify;

/// Does what the arguments say.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Compile(args) => compile::compile(&args),
        Command::Run(args) => run::run(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Devices(args) => devices::devices(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Calibrate(args) => calibrate::calibrate(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Convert(args) => convert::convert(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "loomc", &mut script);
            stdout::bytes(&script)
        }
    }
}
