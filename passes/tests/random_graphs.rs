//! Random graphs give the same bits with all passes and with none but those that make a program.

use loom_passes::{PipelineOptions, compile_graph};
use loom_testing::case::{Case, Tensors};
use loom_testing::shrink::shrink;

const NONE: &[&str] = &["simplify", "fold", "cse", "dce", "fuse", "collapse"];

fn outputs(case: &Case, skip: &[&str]) -> Tensors {
    let options = PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..Default::default() };
    let program = compile_graph(case.graph.clone(), &options);
    case.interpret(&program.unwrap_or_else(|error| panic!("{error}\n{}", case.graph)))
}

/// The passes without which a case gives other bits.
fn difference(case: &Case) -> Option<&'static [&'static str]> {
    let plain = outputs(case, NONE);
    [&[][..], &["simplify", "fold"], &["collapse"]].into_iter().find(|skip| outputs(case, skip) != plain)
}

#[test]
fn passes_keep_every_bit() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let first = number("LOOM_SEED").unwrap_or(0);
    for seed in first..first + number("LOOM_CASES").unwrap_or(1000) {
        let case = Case::from_seed(seed);
        if let Some(skip) = difference(&case) {
            let small = shrink(case, &mut |case| difference(case).is_some(), &|case| Some(outputs(case, NONE)));
            panic!("seed {seed} differs without {skip:?}\n\n{}", small.lit("A difference between passes."));
        }
    }
}
