//! Runs a compiled network on a file of inputs and prints the class of each sample.
//!
//! ```sh
//! loomc compile examples/mnist/net.json --weights examples/mnist/weights.safetensors -o digits.loom
//! cargo run --release --example embed -- digits.loom examples/mnist/digits.safetensors
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use loom_runtime::artifact::Artifact;
use loom_runtime::digest::digest;
use loom_runtime::session::{Session, SessionOptions};
use loom_runtime::tensors::read_tensor;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(network), Some(input)) = (paths.next(), paths.next()) else {
        return Err("usage: embed NETWORK.loom INPUT.safetensors".into());
    };
    let artifact = Artifact::load(&network)?;
    let mut session = Session::new(&artifact, SessionOptions::default())?;

    let outputs = session.run_tensors(&[read_tensor(&input, "input")?])?;
    let output = outputs.first().ok_or("the network has no output")?;
    let scores = output.as_f32().ok_or("the output is not f32")?;
    let classes = scores.len() / output.shape().dims()[0] as usize;
    for (sample, scores) in scores.chunks(classes).enumerate() {
        let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
        println!("sample {sample}: class {best} with {:.4}", scores[best]);
    }
    println!("{} on {}", digest(&outputs), session.device());
    Ok(())
}
