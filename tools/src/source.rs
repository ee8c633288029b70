//! A network's config, in either dialect, and its weights.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loom_dialect::{NoteKind, OldWeights, Options, Translation, Values};
use loom_ir::config::Network;
use loom_ir::graph::Graph;
use loom_ir::kernel::Verified;
use loom_ir::limits;
use loom_ir::types::{DType, Shape};
use loom_passes::calibration::{Watched, watched};
use loom_runtime::tensors::{Tensor, TensorFile};
use loom_runtime::weights::Weights;

use crate::cli::{Dialect, DialectArgs};
use crate::failure::{self, Failure, Severity};
use crate::model::unreadable;
use crate::pipeline::{self, Compiled, Hooks};
use crate::precision;

/// A config that was read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// The network, of this dialect.
    pub network: Network,
    weights: Option<PathBuf>,
    translation: Option<Translation>,
    /// How long reading took.
    pub time: Duration,
}

impl Source {
    /// Reads a config. What one of Loom 0.0.8 leaves open is told on standard error.
    pub fn open(path: &Path, weights: Option<&Path>, args: &DialectArgs) -> Result<Source, Failure> {
        let begun = Instant::now();
        let old = args.dialect == Some(Dialect::Loom008);
        let text = read_text(path, if old { loom_dialect::MAX_BUNDLE_BYTES } else { limits::MAX_CONFIG_BYTES })?;
        let says_so = || loom_dialect::says_so(&text) || loom_dialect::is_bundle(&text);
        let old = old || args.dialect.is_none() && says_so();
        if !old {
            if args.model.is_some() {
                let path = path.display();
                return Err(Failure::User(format!("{path}: --model goes with a bundle of Loom 0.0.8")));
            }
            let mut network = pipeline::parse(path, &text)?;
            precision::apply(&mut network, &args.precision)?;
            let (path, weights, time) = (path.to_path_buf(), weights.map(Path::to_path_buf), begun.elapsed());
            return Ok(Source { path, text, network, weights, translation: None, time });
        }
        let translation = translated(path, &text, weights, args.model.as_deref())?;
        tell(path, &text, &translation, Some(NoteKind::Ambiguity));
        let mut network = loom_ir::config::parse(&translation.config)
            .map_err(|errors| Failure::Internal(format!("a translated config is wrong: {errors}")))?;
        precision::apply(&mut network, &args.precision)?;
        let (path, translation) = (path.to_path_buf(), Some(translation));
        Ok(Source { path, text, network, weights: None, translation, time: begun.elapsed() })
    }

    /// Runs the passes.
    pub fn compile(&self, hooks: &Hooks<'_>) -> Result<Compiled, Failure> {
        pipeline::compile(&self.path, &self.text, &self.network, hooks).map_err(|failure| self.located(failure))
    }

    /// The config's text, if it is of this dialect.
    pub fn plain_text(&self) -> Option<&str> {
        self.translation.is_none().then_some(&*self.text)
    }

    /// The network of floats that tells the sizes of what its layers of integers multiply.
    pub fn watched(&self) -> Result<(Graph, Vec<Watched>), Failure> {
        watched(&self.network).map_err(|errors| pipeline::shape_errors(&self.path, &self.text, &errors))
    }

    /// Mistakes in a translated config as mistakes in the old one.
    fn located(&self, failure: Failure) -> Failure {
        match (failure, &self.translation) {
            (Failure::Config { path, text, diagnostics, left_out }, Some(translation)) => {
                let diagnostics = diagnostics.into_iter().map(|diagnostic| translation.located(diagnostic)).collect();
                Failure::Config { path, text, diagnostics, left_out }
            }
            (failure, _) => failure,
        }
    }

    /// The weights: from a file, or drawn from the seed.
    pub fn weights(&self, program: &Verified) -> Result<Weights, Failure> {
        if let Some(tensors) = self.translation.as_ref().and_then(|translation| translation.weights.as_deref()) {
            let mut tensors = tensors_of(tensors)?;
            // In the program's order.
            tensors.sort_by_key(|tensor| program.weights().position(|(_, buffer)| buffer.name == tensor.name()));
            let weights = Weights::of_program(tensors, program);
            return weights.ok_or_else(|| Failure::Internal("translated weights are not the network's".to_string()));
        }
        Ok(match &self.weights {
            Some(path) => Weights::from_file(path, program)?,
            None => Weights::initialise(program, self.network.seed)?,
        })
    }
}

/// A file's text, of at most so many bytes and one, by which its reader sees that it is too much.
fn read_text(path: &Path, most: u64) -> Result<String, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Failure::User(format!("{}:{line}: not UTF-8 text (byte {at})", path.display()))
    })
}

/// Reads a config or bundle of Loom 0.0.8 for its translation.
pub fn read_old(path: &Path) -> Result<String, Failure> {
    read_text(path, loom_dialect::MAX_BUNDLE_BYTES)
}

/// Translates a config or bundle of Loom 0.0.8.
pub fn translated(
    path: &Path,
    text: &str,
    weights: Option<&Path>,
    model: Option<&str>,
) -> Result<Translation, Failure> {
    let weights = weights.map(old_weights).transpose()?;
    loom_dialect::translate(text, weights.as_ref(), &Options { model }).map_err(|errors| Failure::Config {
        path: path.to_path_buf(),
        text: text.to_string(),
        diagnostics: errors.diagnostics(),
        left_out: errors.left_out(),
    })
}

/// The tensors of a file that the predecessor wrote, in whatever type.
fn old_weights(path: &Path) -> Result<OldWeights, Failure> {
    let file = TensorFile::open(path)?;
    let mut weights = OldWeights::new();
    for (name, info) in file.tensors() {
        let data = file.data(name).unwrap_or_default();
        let Some(values) = loom_dialect::from_safetensors(info.dtype.name(), data) else {
            let (path, dtype) = (path.display(), info.dtype);
            return Err(Failure::User(format!("{path}: `{name}` is {dtype}, which Loom 0.0.8 does not write")));
        };
        weights.insert(name, values);
    }
    Ok(weights)
}

/// Says what a translation rests on: its notes, of one kind or all.
pub fn tell(path: &Path, text: &str, translation: &Translation, kind: Option<NoteKind>) {
    for note in translation.notes.iter().filter(|note| kind.is_none_or(|kind| kind == note.kind)) {
        let severity = match note.kind {
            NoteKind::Quirk => Severity::Note,
            NoteKind::Ambiguity => Severity::Warning,
        };
        failure::tell(path, text, &note.diagnostic(), severity);
    }
}

/// A translation's weights as tensors.
pub fn tensors_of(tensors: &[loom_dialect::Tensor]) -> Result<Vec<Tensor>, Failure> {
    let tensor = |tensor: &loom_dialect::Tensor| {
        let shape = Shape::checked(tensor.dims.clone()).ok()?;
        let bits = match &tensor.values {
            Values::Given(values) => values.iter().map(|value| value.to_bits()).collect(),
            Values::Zeros => vec![0; usize::try_from(shape.elements()).ok()?],
        };
        Tensor::new(&tensor.name, DType::F32, shape, bits)
    };
    let tensors = tensors.iter().map(tensor).collect::<Option<Vec<Tensor>>>();
    tensors.ok_or_else(|| Failure::Internal("a translated weight has no shape".to_string()))
}
