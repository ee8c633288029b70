//! A network from a file: a config that is compiled, or an artifact that is loaded.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use loom_ir::kernel::states::States;
use loom_passes::shapes::ShapedNetwork;
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::executor::tier::Tier;
use loom_runtime::session::{Device, Session, SessionOptions, Slices};
use loom_runtime::tensors::{Tensor, is_index, read_tensor, shards};
use loom_runtime::weights::draw_inputs;
use serde::Serialize;

use crate::cli::{DeviceArgs, DeviceDetails, DialectArgs, ModelArgs};
use crate::failure::Failure;
use crate::pipeline::Hooks;
use crate::source::Source;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A network's config.
    Config,
    /// A safetensors file: an artifact or weights.
    Container,
}

/// How long the parts of a command took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Reading the config.
    pub parse: Duration,
    /// The compiler's passes.
    pub passes: Duration,
    /// Reading weights, inputs and artifacts, or drawing them.
    pub load: Duration,
    /// Making the code for the device.
    pub codegen: Duration,
    /// Running.
    pub run: Duration,
}

/// [`Times`] in seconds.
#[derive(Debug, Serialize)]
pub struct Seconds {
    parse: f64,
    passes: f64,
    load: f64,
    codegen: f64,
    run: f64,
    /// From the beginning of the process to this report, with all that is in none of the parts.
    total: f64,
}

/// When the process began.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The process begins.
pub fn start_clock() {
    LazyLock::force(&BEGUN);
}

impl From<Times> for Seconds {
    fn from(times: Times) -> Seconds {
        Seconds {
            parse: times.parse.as_secs_f64(),
            passes: times.passes.as_secs_f64(),
            load: times.load.as_secs_f64(),
            codegen: times.codegen.as_secs_f64(),
            run: times.run.as_secs_f64(),
            total: BEGUN.elapsed().as_secs_f64(),
        }
    }
}

/// A network that is ready for a device.
#[derive(Debug)]
pub struct Model {
    /// The program and its weights.
    pub artifact: Artifact,
    /// The layers, where there is a config.
    pub shaped: Option<ShapedNetwork>,
    /// How long it took so far.
    pub times: Times,
}

/// Guesses from the name, then from the content.
pub fn file_kind(path: &Path) -> Result<FileKind, Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        _ if is_index(path) => return Ok(FileKind::Container),
        Some("json") => return Ok(FileKind::Config),
        Some("loom" | "safetensors") => return Ok(FileKind::Container),
        _ => {}
    }
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut head = Vec::new();
    file.by_ref().take(9).read_to_end(&mut head).map_err(|error| unreadable(path, &error))?;
    // A container begins with the length of its header, whose high bytes are 0; no text holds such bytes.
    let container = head.len() == 9 && head[8] == b'{' && head[4..8] == [0; 4];
    Ok(if container { FileKind::Container } else { FileKind::Config })
}

pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::User(format!("{}: can't be read: {error}", path.display()))
}

impl Model {
    /// Compiles a config or loads an artifact.
    pub fn load(args: &ModelArgs) -> Result<Model, Failure> {
        match file_kind(&args.network)? {
            FileKind::Config => Model::compile(&Source::open(&args.network, args.weights.as_deref(), &args.dialect)?),
            FileKind::Container if args.weights.is_some() => Err(Failure::User(format!(
                "{}: a compiled network has its weights inside; --weights goes with a config",
                args.network.display()
            ))),
            FileKind::Container => {
                no_dialect(&args.network, &args.dialect)?;
                let begun = Instant::now();
                let artifact = Artifact::load(&args.network)?;
                let times = Times { load: begun.elapsed(), ..Times::default() };
                Ok(Model { artifact, shaped: None, times })
            }
        }
    }

    /// Compiles a config.
    pub fn compile(source: &Source) -> Result<Model, Failure> {
        let mut times = Times { parse: source.time, ..Times::default() };
        let compiled = source.compile(&Hooks::default())?;
        times.passes = compiled.time;
        let Some(program) = compiled.program else {
            return Err(Failure::Internal("the passes gave no program".to_string()));
        };
        let begun = Instant::now();
        let weights = source.weights(&program)?;
        times.load = begun.elapsed();
        let seed = source.network.seed;
        let artifact = Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new()).with_seed(seed);
        Ok(Model { artifact, shaped: compiled.shaped, times })
    }

    /// The network's input: from a file, or one batch drawn from the seed.
    pub fn input(&mut self, path: Option<&Path>) -> Result<Vec<Tensor>, Failure> {
        let begun = Instant::now();
        let program = self.artifact.program();
        let inputs = match path {
            Some(path) => {
                // What is carried from run to run begins as zeros.
                let states = States::of(program);
                let asked = program.inputs().filter(|(id, _)| states.as_ref().is_none_or(|states| !states.has(*id)));
                asked
                    .map(|(_, buffer)| read_tensor(path, &buffer.name).map_err(Failure::from))
                    .collect::<Result<_, _>>()?
            }
            None => draw_inputs(program, self.artifact.seed())?,
        };
        self.times.load += begun.elapsed();
        Ok(inputs)
    }

    /// Makes the network ready on a device.
    pub fn session(&mut self, device: &DeviceArgs) -> Result<Session, Failure> {
        let begun = Instant::now();
        let session = Session::new(&self.artifact, options(device))?;
        self.times.codegen = begun.elapsed();
        Ok(session)
    }
}

/// Checks an input against the network and cuts it into batches.
pub fn slices(session: &Session, input: &[Tensor], path: Option<&Path>) -> Result<Slices, Failure> {
    session.slices(input).map_err(|error| match path {
        Some(path) => Failure::User(format!("{}: {error}", path.display())),
        None => error.into(),
    })
}

/// A device, and its tier where it has one, in words.
pub fn device_name(device: Device, tier: Option<Tier>) -> String {
    tier.map_or_else(|| device.to_string(), |tier| format!("{device} ({tier})"))
}

/// A result must not replace a file that it is made from.
pub fn keep_sources(output: &Path, sources: &[Option<&Path>]) -> Result<(), Failure> {
    let file = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    let Some(place) = file(output) else { return Ok(()) };
    // What is made from an index is made from the files that it names.
    let sources = sources.iter().flatten().flat_map(|source| {
        let shards = if is_index(source) { shards(source) } else { Vec::new() };
        shards.into_iter().chain([source.to_path_buf()])
    });
    if sources.filter_map(|source| file(&source)).any(|source| source == place) {
        let path = output.display();
        return Err(Failure::User(format!("{path}: the output would replace a file that it is made from")));
    }
    Ok(())
}

/// A compiled network means what it does in no dialect, is one model, and has its number formats.
pub fn no_dialect(path: &Path, args: &DialectArgs) -> Result<(), Failure> {
    if args.dialect.is_none() && args.model.is_none() && args.precision.is_empty() {
        return Ok(());
    }
    Err(Failure::User(format!("{}: --dialect, --model and --precision go with a config", path.display())))
}

/// The options of a session on one device.
pub fn options(device: &DeviceArgs) -> SessionOptions {
    with_details(SessionOptions::on(device.device), &device.details)
}

/// Options with the details of devices.
pub fn with_details(options: SessionOptions, details: &DeviceDetails) -> SessionOptions {
    let adapter = details.adapter.clone();
    SessionOptions { threads: details.threads, adapter, gpu_tier: details.gpu_tier, ..options }
}
