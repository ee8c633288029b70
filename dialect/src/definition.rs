//! The old config as it is written: the network and its layers, read the way the predecessor's JSON reader reads.
//!
//! Keys match without regard to case, and of one given twice the last counts; unknown keys and `null` mean nothing; a
//! missing number is 0, which mostly stands for a default. All of a layer's keys are read whatever its type is.

use std::collections::BTreeMap;

use loom_ir::config::json::{self, Kind, Member, Read, Value};
use loom_ir::config::{At, ConfigError, LayerPath, Owner, Spanned};
use loom_ir::diagnostics::Span;
use loom_ir::limits;

/// A network.
#[derive(Debug)]
pub(crate) struct Network {
    pub id: Option<String>,
    /// At least 1.
    pub batch_size: u64,
    /// Not the predecessor's: what a program would have fed.
    pub input_shape: Option<Vec<u64>>,
    pub seed: Option<u64>,
    pub layers: Vec<Layer>,
    pub span: Span,
}

/// A layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub path: LayerPath,
    /// What its tensors' names begin with in a file of weights.
    pub prefix: String,
    pub span: Span,
    pub type_name: Spanned<LayerType>,
    pub mask: Option<Vec<bool>>,
    pub hierarchy_levels: Vec<u64>,
    pub branches: Vec<Layer>,
    pub gate: Option<Box<Layer>>,
    pub attached: Option<Box<Layer>>,
    pub positions: Vec<Position>,
    counts: BTreeMap<&'static str, Spanned<u64>>,
    floats: BTreeMap<&'static str, Spanned<f64>>,
    texts: BTreeMap<&'static str, Spanned<String>>,
}

/// The cell of a branch: row, column, layer.
#[derive(Debug)]
pub(crate) struct Position {
    pub cell: [u64; 3],
}

macro_rules! layer_types {
    ($($variant:ident = $($spelling:literal)|+;)*) => {
        /// A type of layer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum LayerType { $($variant,)* }

        impl LayerType {
            fn from_name(name: &str) -> Option<LayerType> {
                match name { $($($spelling)|+ => Some(LayerType::$variant),)* _ => None }
            }

            /// The spelling that is written.
            pub fn name(self) -> &'static str {
                match self { $(LayerType::$variant => [$($spelling),+][0],)* }
            }

            const SPELLINGS: &[&str] = &[$($($spelling,)+)*];
        }
    };
}

layer_types! {
    Dense = "dense";
    Conv1d = "conv1d";
    Conv2d = "conv2d";
    Attention = "multi_head_attention" | "mha";
    Rnn = "rnn";
    Lstm = "lstm";
    Softmax = "softmax";
    LayerNorm = "layer_norm" | "layernorm";
    RmsNorm = "rms_norm" | "rmsnorm";
    Residual = "residual";
    Swiglu = "swiglu";
    Parallel = "parallel";
    Sequential = "sequential";
    Embedding = "embedding";
    Kmeans = "kmeans";
    // No type of the predecessor's JSON: what its function of this name makes.
    Stitch = "stitch";
}

const COUNTS: &[&str] = &[
    "width",
    "height",
    "input_size",
    "output_size",
    "input_height",
    "output_height",
    "input_width",
    "output_width",
    "input_channels",
    "filters",
    "kernel_size",
    "stride",
    "padding",
    "input_length",
    "d_model",
    "num_heads",
    "seq_length",
    "hidden_size",
    "softmax_rows",
    "softmax_cols",
    "norm_size",
    "vocab_size",
    "embedding_dim",
    "grid_output_rows",
    "grid_output_cols",
    "grid_output_layers",
    "num_clusters",
    "cluster_dim",
    // Not the predecessor's: what a program set by code.
    "head_dim",
    "num_kv_heads",
];
const FLOATS: &[&str] = &["rope_freq_base", "temperature", "entmax_alpha", "epsilon", "kmeans_temperature"];
/// May be negative, which stands for the default.
const SIGNED_FLOATS: &[&str] = &["filter_temperature"];
const TEXTS: &[&str] =
    &["activation", "softmax_variant", "combine_mode", "filter_softmax", "kmeans_output_mode", "distance_metric"];

/// Elements of a mask or a hierarchy: softmax layers are not larger, and each takes far more memory than bytes.
const MOST_VALUES: usize = 1 << 20;

impl Layer {
    /// A number; 0 where it isn't given.
    pub fn count(&self, key: &'static str) -> u64 {
        self.counts.get(key).map_or(0, |number| number.value)
    }

    /// The first of these numbers that isn't 0.
    pub fn first_of(&self, keys: &[&'static str]) -> Option<u64> {
        keys.iter().map(|key| self.count(key)).find(|&number| number > 0)
    }

    pub fn float(&self, key: &'static str) -> f64 {
        self.floats.get(key).map_or(0.0, |number| number.value)
    }

    /// A number where 0 stands for a default.
    pub fn float_or(&self, key: &'static str, default: f64) -> f64 {
        Some(self.float(key)).filter(|&number| number > 0.0).unwrap_or(default)
    }

    /// A string; empty where it isn't given.
    pub fn text(&self, key: &'static str) -> &str {
        self.texts.get(key).map_or("", |text| text.value.as_str())
    }

    pub fn is(&self, kind: LayerType) -> bool {
        self.type_name.value == kind
    }

    pub fn owner(&self) -> Owner {
        Owner::Layer { path: self.path.clone(), type_name: Some(self.type_name.value.name()), choice: None }
    }
}

/// What the layers of a file are inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// A config by itself.
    Config,
    /// A bundle's, where a kmeans' attached layer stands among its branches.
    Bundle,
}

/// Reads configs and keeps what is wrong in them.
#[derive(Debug)]
pub(crate) struct Reader {
    pub errors: Vec<ConfigError>,
    container: Container,
    layers: usize,
}

/// An error was reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported;

/// An object's members.
pub(crate) struct Object<'a> {
    path: Option<LayerPath>,
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// The value of a key; `null` is none.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let named = |member: &&Member<'_>| member.key.value.eq_ignore_ascii_case(key);
        let value = self.members.iter().rev().find(named).map(|member| member.value);
        value.filter(|value| value.kind() != Kind::Null)
    }

    fn at(&self, key: &str) -> At {
        At { layer: self.path.clone(), key: Some(key.to_owned()), index: None }
    }
}

impl Reader {
    pub fn new(container: Container) -> Reader {
        Reader { errors: Vec::new(), container, layers: 0 }
    }

    fn report(&mut self, error: ConfigError) -> Reported {
        self.errors.push(error);
        Reported
    }

    pub fn object<'a>(&mut self, path: Option<LayerPath>, value: Value<'a>) -> Result<Object<'a>, Reported> {
        let at = || At { layer: path.clone(), key: None, index: None };
        if value.kind() != Kind::Object {
            let (expected, found, span) = ("an object", value.description(), value.span());
            return Err(self.report(ConfigError::WrongType { at: at(), expected, found, span }));
        }
        let members = value.members(limits::MAX_CONFIG_KEYS).map_err(|error| self.report(error))?;
        if members.count > members.first.len() {
            let error = ConfigError::TooManyKeys { at: at(), count: members.count, span: value.span() };
            return Err(self.report(error));
        }
        Ok(Object { path, members: members.first })
    }

    pub fn read<T>(&mut self, object: &Object<'_>, key: &str, read: Read<T>) -> Result<Option<Spanned<T>>, Reported> {
        let Some(value) = object.get(key) else { return Ok(None) };
        match read(value, &|| object.at(key)) {
            Ok(read) => Ok(Some(Spanned::new(read, value.span()))),
            Err(error) => Err(self.report(error)),
        }
    }

    /// The elements of a list; none where the key isn't there.
    pub fn list<'a>(&mut self, object: &Object<'a>, key: &str, most: usize) -> Result<Vec<Value<'a>>, Reported> {
        let Some(value) = object.get(key) else { return Ok(Vec::new()) };
        if value.kind() != Kind::List {
            let (expected, found, span) = ("a list", value.description(), value.span());
            return Err(self.report(ConfigError::WrongType { at: object.at(key), expected, found, span }));
        }
        Ok(value.elements(most).map_err(|error| self.report(error))?.first)
    }

    /// Reads a network.
    pub fn network(&mut self, value: Value<'_>) -> Result<Network, Reported> {
        let object = self.object(None, value)?;
        let id = self.read(&object, "id", json::string);
        let batch_size = self.read(&object, "batch_size", json::count);
        let seed = self.read(&object, "seed", json::count);
        let input_shape = self.read(&object, "input_shape", json::sample_shape);
        let dtype = self.read(&object, "dtype", json::string);
        let layers = self.layers(&object, "layers", LayerPath::top, |index| format!("layers.{index}"));
        let grid = self.grid(&object, value.span());
        dtype?;
        grid?;
        let layers = layers?;
        if layers.is_empty() {
            let span = object.get("layers").map_or(value.span(), Value::span);
            return Err(self.report(ConfigError::NoLayers { span }));
        }
        Ok(Network {
            id: id?.map(|id| id.value),
            batch_size: batch_size?.map_or(1, |size| size.value.max(1)),
            input_shape: input_shape?.map(|shape| shape.value),
            seed: seed?.map(|seed| seed.value),
            layers,
            span: value.span(),
        })
    }

    /// The product of the three sizes is the number of layers, else the predecessor refuses the file.
    fn grid(&mut self, object: &Object<'_>, span: Span) -> Result<(), Reported> {
        let mut sizes = Vec::new();
        let mut missing = None;
        for key in ["grid_rows", "grid_cols", "layers_per_cell"] {
            match self.read(object, key, json::size) {
                Ok(Some(size)) => sizes.push((key, size)),
                Ok(None) => {
                    let (owner, instead) = (Owner::Network, Vec::new());
                    missing = Some(self.report(ConfigError::MissingKey { owner, key, instead, span }));
                }
                Err(reported) => missing = Some(reported),
            }
        }
        if let Some(reported) = missing {
            return Err(reported);
        }
        let Some(list) = object.get("layers") else { return Ok(()) };
        let layers = list.elements(0).map_err(|error| self.report(error))?.count;
        let cells = sizes.iter().try_fold(1_u128, |cells, (_, size)| cells.checked_mul(u128::from(size.value)));
        if cells == Some(layers as u128) {
            return Ok(());
        }
        Err(self.report(ConfigError::GridMismatch { sizes, layers, layers_span: list.span() }))
    }

    fn layers(
        &mut self,
        object: &Object<'_>,
        key: &str,
        path: impl Fn(usize) -> LayerPath,
        prefix: impl Fn(usize) -> String,
    ) -> Result<Vec<Layer>, Reported> {
        let values = self.list(object, key, limits::MAX_LAYERS.saturating_add(1))?;
        let layers = values.into_iter().enumerate();
        let layers: Vec<_> = layers.map(|(index, value)| self.layer(path(index), prefix(index), value)).collect();
        layers.into_iter().collect()
    }

    fn layer(&mut self, path: LayerPath, prefix: String, value: Value<'_>) -> Result<Layer, Reported> {
        self.layers = self.layers.saturating_add(1);
        if self.layers > limits::MAX_LAYERS {
            // One report is enough, and there may be millions.
            return Err(match self.layers.saturating_sub(limits::MAX_LAYERS) {
                1 => self.report(ConfigError::TooManyLayers { span: value.span() }),
                _ => Reported,
            });
        }
        let object = self.object(Some(path.clone()), value)?;
        let type_name = self.type_name(&object, value.span());
        let mut failed = None;
        let mut counts = BTreeMap::new();
        let mut floats = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for &key in COUNTS {
            keep(&mut counts, key, self.read(&object, key, json::count), &mut failed);
        }
        for &key in FLOATS {
            keep(&mut floats, key, self.read(&object, key, json::positive_or_zero), &mut failed);
        }
        for &key in SIGNED_FLOATS {
            keep(&mut floats, key, self.read(&object, key, json::float), &mut failed);
        }
        for &key in TEXTS {
            keep(&mut texts, key, self.read(&object, key, json::string), &mut failed);
        }
        let mask = self.values(&object, "mask", json::boolean);
        let levels = self.values(&object, "hierarchy_levels", json::count);
        let positions = self.positions(&object);
        let gate = self.inner(&object, "filter_gate", path.gate(), format!("{prefix}.filter_gate"));
        // In a bundle, the one branch of a kmeans is what is attached to it.
        let is_kmeans = type_name.as_ref().is_ok_and(|name| name.value == LayerType::Kmeans);
        let attached_branch = is_kmeans && self.container == Container::Bundle;
        let attached = if attached_branch {
            let layers = self.layers(&object, "branches", |_| path.attached(), |_| format!("{prefix}.attached.0"));
            layers.map(|layers| layers.into_iter().next().map(Box::new))
        } else {
            self.inner(&object, "attached_layer", path.attached(), format!("{prefix}.attached.0"))
        };
        let branches = if is_kmeans {
            Ok(Vec::new())
        } else {
            self.layers(&object, "branches", |index| path.branch(index), |index| format!("{prefix}.branches.{index}"))
        };
        let (mask, hierarchy_levels, positions) = (mask?, levels?.unwrap_or_default(), positions?);
        let (branches, gate, attached, type_name) = (branches?, gate?, attached?, type_name?);
        match failed {
            Some(reported) => Err(reported),
            None => Ok(Layer {
                path,
                prefix,
                span: value.span(),
                type_name,
                mask: mask.filter(|mask| !mask.is_empty()),
                hierarchy_levels,
                branches,
                gate,
                attached,
                positions,
                counts,
                floats,
                texts,
            }),
        }
    }

    fn type_name(&mut self, object: &Object<'_>, span: Span) -> Result<Spanned<LayerType>, Reported> {
        let Some(name) = self.read(object, "type", json::string)? else {
            let path = object.path.clone().unwrap_or_else(|| LayerPath::top(0));
            let owner = Owner::Layer { path, type_name: None, choice: None };
            return Err(self.report(ConfigError::MissingKey { owner, key: "type", instead: Vec::new(), span }));
        };
        match LayerType::from_name(&name.value) {
            Some(kind) => Ok(Spanned::new(kind, name.span)),
            None => {
                let spellings = LayerType::SPELLINGS.to_vec();
                let known = spellings.clone();
                Err(self.report(ConfigError::UnknownName { what: "layer type", name, spellings, known }))
            }
        }
    }

    fn inner(
        &mut self,
        object: &Object<'_>,
        key: &str,
        path: LayerPath,
        prefix: String,
    ) -> Result<Option<Box<Layer>>, Reported> {
        match object.get(key) {
            Some(value) => self.layer(path, prefix, value).map(|layer| Some(Box::new(layer))),
            None => Ok(None),
        }
    }

    fn values<T>(&mut self, object: &Object<'_>, key: &str, read: Read<T>) -> Result<Option<Vec<T>>, Reported> {
        if object.get(key).is_none() {
            return Ok(None);
        }
        let mut read_all = Vec::new();
        let values = self.list(object, key, MOST_VALUES.saturating_add(1))?;
        if values.len() > MOST_VALUES {
            let span = object.get(key).map_or(Span::default(), Value::span);
            let (at, found) = (object.at(key), values.len());
            return Err(self.report(ConfigError::WrongLength { at, expected: "at most 2^20 elements", found, span }));
        }
        for (index, value) in values.into_iter().enumerate() {
            match read(value, &|| At { index: Some(index), ..object.at(key) }) {
                Ok(value) => read_all.push(value),
                Err(error) => return Err(self.report(error)),
            }
        }
        Ok(Some(read_all))
    }

    fn positions(&mut self, object: &Object<'_>) -> Result<Vec<Position>, Reported> {
        let mut positions = Vec::new();
        for value in self.list(object, "grid_positions", limits::MAX_LAYERS)? {
            let position = self.object(object.path.clone(), value)?;
            let mut cell = [0; 3];
            for (place, key) in cell.iter_mut().zip(["target_row", "target_col", "target_layer"]) {
                *place = self.read(&position, key, json::count)?.map_or(0, |number| number.value);
            }
            positions.push(Position { cell });
        }
        Ok(positions)
    }
}

fn keep<T>(
    map: &mut BTreeMap<&'static str, Spanned<T>>,
    key: &'static str,
    read: Result<Option<Spanned<T>>, Reported>,
    failed: &mut Option<Reported>,
) {
    match read {
        Ok(Some(value)) => drop(map.insert(key, value)),
        Ok(None) => {}
        Err(reported) => *failed = Some(reported),
    }
}
