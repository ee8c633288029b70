//! A worker of `bench/peers/bench.py`, which times it in turns with other runtimes.
//!
//! ```sh
//! cargo build --release -p loom-runtime --example peer_loom
//! target/release/examples/peer_loom FOLDER THREADS
//! ```
//!
//! It reads commands, one a line: `load NAME` makes the network of that folder ready and is answered by `ok`, the largest
//! error from `y.bin` there, if there is one, as a part of its largest number, and what a run took, in nanoseconds; `go N` is
//! answered by what each of N runs took.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use loom_ir::kernel::Verified;
use loom_ir::{config, graph};
use loom_passes::{PipelineOptions, compile, compile_graph};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::weights::Weights;

fn main() -> ExitCode {
    let Err(error) = serve() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn serve() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(threads)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: peer_loom FOLDER THREADS".into());
    };
    let threads: usize = threads.parse()?;
    let mut network = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = match (line.split_once(' '), &mut network) {
            (Some(("load", name)), _) => {
                let mut loaded = Network::load(&folder.join(name), threads)?;
                loaded.run()?;
                let error = loaded.error(&folder.join(name).join("y.bin"))?;
                let least = (0..3).map(|_| loaded.run()).collect::<Result<Vec<u128>, _>>()?.into_iter().min();
                network = Some(loaded);
                format!("ok {error:e} {}", least.unwrap_or(0))
            }
            (Some(("go", runs)), Some(network)) => {
                let runs: usize = runs.parse()?;
                let times = (0..runs).map(|_| network.run()).collect::<Result<Vec<u128>, _>>()?;
                times.iter().map(u128::to_string).collect::<Vec<_>>().join(" ")
            }
            _ => return Err(format!("`{line}`: not `load NAME`, nor `go N` after it").into()),
        };
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

/// A network that is ready, with its tensors.
struct Network {
    session: Session,
    inputs: Vec<Vec<u32>>,
    outputs: Vec<Vec<u32>>,
}

impl Network {
    fn load(folder: &Path, threads: usize) -> Result<Network, Box<dyn Error>> {
        let program = Arc::new(program(folder)?);
        let file = folder.join("weights.safetensors");
        let weights =
            if file.exists() { Weights::from_file(&file, &program)? } else { Weights::initialise(&program, 0)? };
        let artifact = Artifact::new(program, weights, Target::Cpu, Vec::new());
        let options = SessionOptions { threads: Some(threads), ..SessionOptions::on(Device::Cpu) };
        let session = Session::new(&artifact, options)?;
        let inputs = (0..session.program().inputs().count())
            .map(|number| read(&folder.join(format!("x{number}.bin"))))
            .collect::<Result<_, _>>()?;
        let outputs =
            session.program().outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
        Ok(Network { session, inputs, outputs })
    }

    /// What a run took, in nanoseconds.
    fn run(&mut self) -> Result<u128, Box<dyn Error>> {
        let inputs: Vec<&[u32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u32]> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let begun = Instant::now();
        self.session.run_into(&inputs, &mut outputs)?;
        Ok(begun.elapsed().as_nanos())
    }

    /// The largest difference of the output from a file's numbers, as a part of the largest of these; 0 without a file.
    fn error(&self, expected: &Path) -> Result<f32, Box<dyn Error>> {
        if !expected.exists() {
            return Ok(0.0);
        }
        let expected = read(expected)?;
        let output = self.outputs.first().ok_or("there is no output")?;
        if expected.len() != output.len() {
            return Err(format!("{} numbers were expected, not {}", expected.len(), output.len()).into());
        }
        let (mut largest, mut error) = (0f32, 0f32);
        for (&expected, &found) in expected.iter().zip(output) {
            let (expected, found) = (f32::from_bits(expected), f32::from_bits(found));
            largest = largest.max(expected.abs());
            // A NaN must not pass for a small error.
            let difference = (expected - found).abs();
            error = if difference.is_nan() { f32::INFINITY } else { error.max(difference) };
        }
        Ok(error / largest)
    }
}

fn program(folder: &Path) -> Result<Verified, Box<dyn Error>> {
    let options = PipelineOptions::default();
    let graph = folder.join("net.graph");
    if graph.exists() {
        return Ok(compile_graph(graph::parse::parse(&std::fs::read_to_string(graph)?)?, &options)?);
    }
    let network =
        config::parse(&std::fs::read_to_string(folder.join("net.json"))?).map_err(|errors| format!("{errors:?}"))?;
    Ok(compile(&network, &options)?)
}

/// The words of a file.
fn read(path: &Path) -> Result<Vec<u32>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}
