//! From the old layers to new ones.
//!
//! The predecessor's values are flat: each layer reads as many numbers as its keys say, of all samples of the batch one
//! after another. Here a value has a shape, which is tracked along the way ([`Chain`]), and is put under another one
//! where the next layer reads it so.
//!
//! Samples are kept apart as long as no quirk mixes those of a batch. Where one does, the whole network is translated
//! again, to one whose single sample is the whole batch: see [`Batch`].

mod attention;
mod branches;
mod layers;
mod softmax;

use loom_ir::config::{ConfigError, LayerPath};
use loom_ir::diagnostics::Span;
use loom_ir::limits;
use serde_json::Value as Json;

use crate::bundle::Version;
use crate::definition::{Layer, LayerType, Network};
use crate::emit::{Chain, Emitted, Node};
use crate::error::{DialectError, DialectErrors, Note, NoteKind};
use crate::weights::{Own, Taker};
use crate::{OldWeights, Translation};

/// Why a layer could not be translated.
#[derive(Debug)]
enum Stop {
    /// A mistake was reported.
    Reported,
    /// It mixes the samples of a batch.
    Mixes(Mixer),
}

/// A layer that mixes the samples of a batch.
#[derive(Debug, Clone)]
struct Mixer {
    path: LayerPath,
    span: Span,
    why: &'static str,
}

/// How the samples of a batch stand to one another in the new network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// There is one, or the new network sees one at a time.
    Apart {
        /// Whether the predecessor sees several at a time.
        several: bool,
    },
    /// The new network's one sample is all of these.
    Whole(u64),
}

impl Batch {
    /// The leading axes that a value has for the samples.
    fn leading(self) -> Vec<u64> {
        match self {
            Batch::Apart { .. } => Vec::new(),
            Batch::Whole(samples) => vec![samples],
        }
    }

    fn samples(self) -> u64 {
        match self {
            Batch::Apart { .. } => 1,
            Batch::Whole(samples) => samples,
        }
    }
}

/// Where a layer runs: layers of a network know of implicit residuals and of samples, branches don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the network's own list.
    Network,
    /// Alone, in a network of one layer that reads one sample.
    Attached,
    /// In a list of branches.
    Branch,
}

/// What norms, attention and swiglu hand on to each other.
#[derive(Debug)]
struct Skip {
    /// How many layers of the new network had been made.
    layers: usize,
    dims: Vec<u64>,
}

type Done = Result<(), Stop>;

#[derive(Debug)]
struct Translator<'a> {
    taker: Taker<'a>,
    version: Option<Version>,
    batch: Batch,
    /// Where the samples can't be kept apart: what mixes them.
    mixer: Option<Mixer>,
    skip: Option<Skip>,
    names: u64,
    notes: Vec<Note>,
    errors: Vec<DialectError>,
}

pub(crate) fn network(
    network: &Network,
    weights: Option<&OldWeights>,
    version: Option<Version>,
) -> Result<Translation, DialectErrors> {
    let translator = |batch, mixer| Translator {
        taker: Taker::new(weights),
        version,
        batch,
        mixer,
        skip: None,
        names: 0,
        notes: Vec::new(),
        errors: Vec::new(),
    };
    let apart = Batch::Apart { several: network.batch_size > 1 };
    match translator(apart, None).run(network) {
        Err(Failure::Errors(errors)) => Err(errors),
        Err(Failure::Mixes(mixer)) => {
            let whole = translator(Batch::Whole(network.batch_size), Some(mixer)).run(network);
            whole.map_err(|failure| match failure {
                Failure::Errors(errors) => errors,
                // Not to be: what is whole is not mixed.
                Failure::Mixes(Mixer { path, span, why }) => DialectError::Unclear { path, what: why, span }.into(),
            })
        }
        Ok(translation) => Ok(translation),
    }
}

/// Why there is no translation.
enum Failure {
    Errors(DialectErrors),
    Mixes(Mixer),
}

impl Translator<'_> {
    fn run(mut self, network: &Network) -> Result<Translation, Failure> {
        let (input, mut nodes) = match self.chain(network) {
            Ok(chain) => chain,
            Err(Stop::Reported) => return Err(Failure::Errors(DialectErrors::new(self.errors))),
            Err(Stop::Mixes(mixer)) => return Err(Failure::Mixes(mixer)),
        };
        self.errors.extend(self.taker.extra());
        if !self.errors.is_empty() {
            return Err(Failure::Errors(DialectErrors::new(self.errors)));
        }
        if let Some(Mixer { path, span, why }) = self.mixer.clone() {
            let samples = network.batch_size;
            let message = format!("{path} {why}: the new network's one sample is the whole batch of {samples}");
            self.notes.push(Note { kind: NoteKind::Quirk, message, span });
        }
        if !self.taker.any() {
            let message = "there is no file of weights: they are drawn from the seed, while the predecessor \
                reads those of dense and conv2d layers as zeros and draws others without a seed";
            self.notes.push(Note { kind: NoteKind::Ambiguity, message: message.to_owned(), span: network.span });
        }
        let mut keys: Vec<(&str, Json)> = Vec::new();
        keys.extend(network.id.as_deref().map(|id| ("id", id.into())));
        if self.batch == (Batch::Apart { several: true }) {
            keys.push(("batch_size", network.batch_size.into()));
        }
        keys.push(("input_shape", input.into()));
        keys.extend(network.seed.map(|seed| ("seed", seed.into())));
        if nodes.is_empty() {
            // A network has a layer, and this one computes nothing.
            nodes.push(Node::sequential(Vec::new(), network.span));
        }
        let emitted = Emitted::network(&keys, nodes).map_err(|error| Failure::Errors(error.into()))?;
        self.notes.sort_by_key(|note| (note.span.start, note.kind));
        Ok(Translation {
            config: emitted.text,
            weights: self.taker.any().then_some(emitted.tensors),
            notes: self.notes,
            origins: emitted.origins,
            span: network.span,
        })
    }

    /// The shape of the input, and the layers.
    fn chain(&mut self, network: &Network) -> Result<(Vec<u64>, Vec<Node>), Stop> {
        let sample = match &network.input_shape {
            Some(shape) => shape.clone(),
            None => match network.layers.iter().find_map(|layer| self.declared_by(layer).transpose()) {
                Some(Ok(shape)) => self.with_rows(network, shape),
                Some(Err(())) | None => {
                    let span = network.layers.first().map_or(network.span, |first| first.type_name.span);
                    return Err(self.report(DialectError::NoInputShape { span }));
                }
            },
        };
        let input = [self.batch.leading(), sample].concat();
        let path = LayerPath::top(0);
        let samples = network.batch_size.max(1);
        let all = [&input, &[samples][..]].concat();
        if input.len() >= limits::MAX_RANK || elements(&all).is_none() {
            return Err(self.report(DialectError::TooLarge { path, span: network.span }));
        }
        let mut chain = Chain::new(input.clone(), network.span);
        for layer in &network.layers {
            self.layer(&mut chain, layer, Place::Network)?;
        }
        Ok((input, chain.into_nodes()))
    }

    /// A sample's shape as the first layers tell it, which is one row where these take any number of rows. Attention
    /// after them says how many, though it takes any number as well.
    fn with_rows(&mut self, network: &Network, shape: Vec<u64>) -> Vec<u64> {
        let any_rows = |layer: &&Layer| match layer.type_name.value {
            LayerType::LayerNorm | LayerType::RmsNorm | LayerType::Residual | LayerType::Attention => true,
            LayerType::Swiglu => self.taker.has(layer, "gate_weight"),
            _ => false,
        };
        let attention = network.layers.iter().take_while(any_rows).find(|layer| layer.is(LayerType::Attention));
        let Some(attention) = attention.filter(|layer| shape == [layer.count("d_model")]) else { return shape };
        let rows = attention.count("seq_length").max(1);
        let message = format!("takes any number of rows: a sample has {rows}, as there is no `input_shape`");
        self.ambiguity(attention, message);
        [vec![rows], shape].concat()
    }

    /// The shape of a sample that a layer tells. None where it keeps the shape, whatever that is; an error where nothing
    /// is known of what comes before it.
    fn declared_by(&self, layer: &Layer) -> Result<Option<Vec<u64>>, ()> {
        let told = |sizes: &[u64]| if sizes.contains(&0) { Err(()) } else { Ok(Some(sizes.to_vec())) };
        let count = |key| layer.count(key);
        match layer.type_name.value {
            LayerType::Dense | LayerType::Stitch => told(&[self.dense_sizes(layer).0]),
            LayerType::Swiglu => told(&[self.swiglu_sizes(layer).0]),
            LayerType::Conv1d => {
                told(&[count("input_channels").max(1), layer.first_of(&["input_length", "input_height"]).unwrap_or(0)])
            }
            LayerType::Conv2d => told(&[count("input_channels"), count("input_height"), count("input_width")]),
            LayerType::Attention => told(&[count("seq_length").max(1), count("d_model")]),
            LayerType::Rnn | LayerType::Lstm => told(&[count("seq_length").max(1), count("input_size")]),
            LayerType::LayerNorm | LayerType::RmsNorm => told(&[count("norm_size")]),
            LayerType::Embedding => Err(()),
            LayerType::Residual => Ok(None),
            LayerType::Softmax => match layer.text("softmax_variant") {
                "grid" => told(&[count("softmax_rows").saturating_mul(count("softmax_cols"))]),
                "masked" => Ok(layer.mask.as_ref().map(|mask| vec![mask.len() as u64])),
                _ => Ok(None),
            },
            LayerType::Kmeans => layer.attached.as_ref().map_or(told(&[1]), |attached| self.declared_by(attached)),
            LayerType::Parallel => {
                let told = layer.branches.iter().filter_map(|branch| self.declared_by(branch).ok().flatten()).next();
                told.map(Some).ok_or(())
            }
            // It skips all others.
            LayerType::Sequential => {
                let run = layer.branches.iter().find(|branch| branch.is(LayerType::Dense));
                run.map_or(Ok(None), |branch| self.declared_by(branch))
            }
        }
    }

    /// One layer.
    fn layer(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        match layer.type_name.value {
            LayerType::Dense => self.dense(chain, layer),
            LayerType::Stitch => self.stitch(chain, layer),
            LayerType::Conv1d => self.conv1d(chain, layer),
            LayerType::Conv2d => self.conv2d(chain, layer),
            LayerType::Rnn => self.rnn(chain, layer),
            LayerType::Lstm => self.lstm(chain, layer),
            LayerType::LayerNorm => self.layer_norm(chain, layer, place),
            LayerType::RmsNorm => self.rms_norm(chain, layer, place),
            LayerType::Swiglu => self.swiglu(chain, layer, place),
            LayerType::Attention => self.attention(chain, layer, place),
            LayerType::Embedding => self.embedding(chain, layer),
            LayerType::Residual => self.residual(chain, layer),
            LayerType::Softmax => self.softmax(chain, layer, place),
            LayerType::Parallel => self.parallel(chain, layer, place),
            LayerType::Sequential => self.sequential(chain, layer, place),
            LayerType::Kmeans => self.kmeans(chain, layer),
        }
    }

    fn report(&mut self, error: DialectError) -> Stop {
        self.errors.push(error);
        Stop::Reported
    }

    fn unclear(&mut self, layer: &Layer, what: &'static str) -> Stop {
        self.report(DialectError::Unclear { path: layer.path.clone(), what, span: layer.type_name.span })
    }

    fn too_large(&mut self, layer: &Layer) -> Stop {
        self.report(DialectError::TooLarge { path: layer.path.clone(), span: layer.type_name.span })
    }

    fn quirk(&mut self, layer: &Layer, message: impl Into<String>) {
        let message = format!("{} {}", layer.path, message.into());
        self.notes.push(Note { kind: NoteKind::Quirk, message, span: layer.type_name.span });
    }

    fn ambiguity(&mut self, layer: &Layer, message: impl Into<String>) {
        let message = format!("{} {}", layer.path, message.into());
        self.notes.push(Note { kind: NoteKind::Ambiguity, message, span: layer.type_name.span });
    }

    /// A number that the layer can't do without.
    fn required(&mut self, layer: &Layer, keys: &[&'static str]) -> Result<u64, Stop> {
        if let Some(number) = layer.first_of(keys) {
            return Ok(number);
        }
        let (owner, key) = (layer.owner(), keys.first().copied().unwrap_or_default());
        let (instead, span) = (keys.iter().skip(1).copied().collect(), layer.type_name.span);
        Err(self.report(ConfigError::MissingKey { owner, key, instead, span }.into()))
    }

    /// Takes weights for a layer, and reports what is wrong with them.
    fn take<T>(&mut self, layer: &Layer, take: impl FnOnce(&mut Own<'_, '_>) -> T) -> T {
        let mut own = self.taker.of(layer);
        let taken = take(&mut own);
        let errors = own.finish();
        self.errors.extend(errors);
        taken
    }

    /// Goes on only where the samples need not be kept apart, or can't be mixed.
    fn mixes(&self, layer: &Layer, why: &'static str) -> Done {
        match self.batch {
            Batch::Apart { several: true } => {
                Err(Stop::Mixes(Mixer { path: layer.path.clone(), span: layer.type_name.span, why }))
            }
            _ => Ok(()),
        }
    }

    /// Goes on only where the samples are apart.
    fn apart(&mut self, layer: &Layer) -> Done {
        let (Batch::Whole(_), Some(mixer)) = (self.batch, self.mixer.clone()) else { return Ok(()) };
        Err(self.report(DialectError::NeedsSamples {
            path: layer.path.clone(),
            span: layer.type_name.span,
            mixer: mixer.path,
            why: mixer.why,
            mixer_span: mixer.span,
        }))
    }

    /// Views the chain as a row of `size` numbers a sample. Those that are too many are left out.
    fn rows(&mut self, chain: &mut Chain, layer: &Layer, size: u64) -> Done {
        let needed = size.saturating_mul(self.batch.samples());
        let found = chain.elements();
        if found < needed {
            let (path, span) = (layer.path.clone(), layer.type_name.span);
            let per_sample = found.checked_div(self.batch.samples()).unwrap_or(0);
            return Err(self.report(DialectError::TooShort { path, needed: size, found: per_sample, span }));
        }
        if found > needed {
            self.mixes(layer, "reads the first numbers of the batch alone")?;
            self.quirk(layer, format!("reads the first {needed} of {found} numbers"));
            chain.flat();
            chain.slice(0, needed);
        }
        chain.view(&[self.batch.leading(), vec![size]].concat());
        Ok(())
    }

    /// The shape of a row a sample.
    fn row_shape(&self, size: u64) -> Vec<u64> {
        [self.batch.leading(), vec![size]].concat()
    }

    /// Views the chain as rows of `size`, however many there are.
    fn all_rows(&mut self, chain: &mut Chain, layer: &Layer, size: u64) -> Done {
        let found = chain.elements();
        match (found.checked_rem(size), found.checked_div(size)) {
            // A single row needs no axis of rows, but may have one.
            (Some(0), Some(1)) if chain.dims.len() == 1 => chain.view(&[size]),
            (Some(0), Some(rows)) => chain.view(&[rows, size]),
            _ => {
                let (path, span) = (layer.path.clone(), layer.type_name.span);
                return Err(self.report(DialectError::NotRows { path, size, found, span }));
            }
        }
        Ok(())
    }

    /// As in the predecessor's loop over layers: adds what was handed on, if it is as long.
    fn add_skip(&mut self, chain: &mut Chain, layer: &Layer) {
        let Some(skip) = &self.skip else { return };
        let length = elements(&skip.dims);
        if length != Some(chain.elements()) {
            return;
        }
        let (layers, dims) = (skip.layers, skip.dims.clone());
        let name = chain.name_value(layers, &mut self.names);
        chain.view(&dims);
        chain.push_same(Node::new("residual", layer.span).with("from", name));
        self.quirk(layer, "adds what the norm, attention or swiglu before it handed on (an implicit residual)");
    }

    /// Hands on the value at hand.
    fn hand_on(&mut self, chain: &Chain) {
        self.skip = Some(Skip { layers: chain.len(), dims: chain.dims.clone() });
    }
}

/// The product of extents, where it is within the limits.
fn elements(dims: &[u64]) -> Option<u64> {
    let product = dims.iter().try_fold(1_u64, |product, &size| product.checked_mul(size))?;
    (product < limits::MAX_ELEMENTS).then_some(product)
}
