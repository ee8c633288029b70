//! The walk over the layers.

use std::collections::BTreeMap;

use loom_ir::config::{
    Activation, CombineMode, Conv1d, Conv2d, Dense, Kmeans, Layer, LayerKind, LayerPath, Network, Norm, Parallel,
    Precision, Residual, ResidualFrom, Spanned,
};
use loom_ir::diagnostics::{Span, nearest};
use loom_ir::numerics::quantise::Coding;
use loom_ir::types::{Shape, ShapeLimit};

use super::error::{ShapeError, ShapeErrors};
use super::softmax::softmax;
use super::window::{self, Declared};
use super::{
    ShapedKind, ShapedLayer, ShapedNetwork, SpatialWindow, ValueId, attention, combine, elements, input, pooling,
    quantised, small,
};

pub(super) fn infer(network: &Network) -> Result<ShapedNetwork, ShapeErrors> {
    let first = network.layers.first();
    let one = |error| ShapeErrors(vec![error]);
    let sample = match (&network.input_shape, first) {
        (Some(shape), _) => shape.value.clone(),
        (None, Some(first)) => input::declared_by(first).map_err(|missing| {
            one(ShapeError::NoInputShape { path: first.path.clone(), missing, span: first.type_span })
        })?,
        (None, None) => Vec::new(),
    };
    let dims = [vec![network.batch_size], sample].concat();
    let input = Shape::checked(dims).map_err(|source| {
        let span = network.input_shape.as_ref().map_or(network.span, |shape| shape.span);
        one(ShapeError::Limit { path: LayerPath::top(0), what: "the input:", source, span })
    })?;
    let mut walk = Walk {
        values: vec![Value { shape: input, feature_map: false, ids: true, maker: None }],
        layers: Vec::new(),
        names: BTreeMap::from([("input".to_string(), ValueId(0))]),
        precision: network.precision,
        most_terms: quantised::most_terms(network),
        errors: Vec::new(),
    };
    let output = walk.list(&network.layers, ValueId(0));
    walk.errors.extend(attention::check_caches(&walk.layers, &walk.values));
    match output {
        Some(output) if walk.errors.is_empty() => Ok(ShapedNetwork {
            name: network.id.clone().unwrap_or_default(),
            batch_size: network.batch_size,
            seed: network.seed,
            input_codes: network.input_codes.map(|given| given.coding()),
            values: walk.values.into_iter().map(|value| value.shape).collect(),
            layers: walk.layers,
            output,
        }),
        _ => Err(ShapeErrors(walk.errors)),
    }
}

#[derive(Debug, Clone)]
pub(super) struct Value {
    pub shape: Shape,
    pub feature_map: bool,
    /// Whether its elements are the network's input, though maybe under another shape.
    pub ids: bool,
    pub maker: Option<(LayerPath, Span)>,
}

struct Walk {
    values: Vec<Value>,
    layers: Vec<ShapedLayer>,
    names: BTreeMap<String, ValueId>,
    /// The number format of the layers at hand that don't say which.
    precision: Precision,
    errors: Vec<ShapeError>,
    /// Of a sum of integers.
    most_terms: u64,
}

/// The layer at hand and what it reads.
pub(super) struct At<'a> {
    pub layer: &'a Layer,
    pub shape: &'a Shape,
    maker: Option<(LayerPath, Span)>,
}

impl At<'_> {
    pub fn mismatch(&self, key: &'static str, given: Spanned<u64>, actual: u64) -> ShapeError {
        ShapeError::SizeMismatch {
            path: self.layer.path.clone(),
            key,
            given: given.value,
            actual,
            shape: self.shape.clone(),
            span: given.span,
            maker: self.maker.clone(),
        }
    }

    pub fn rank(&self, expected: &'static str) -> ShapeError {
        ShapeError::Rank {
            path: self.layer.path.clone(),
            expected,
            shape: self.shape.clone(),
            span: self.layer.type_span,
            maker: self.maker.clone(),
        }
    }

    pub(super) fn limit(&self, what: &'static str, source: ShapeLimit) -> ShapeError {
        ShapeError::Limit { path: self.layer.path.clone(), what, source, span: self.layer.type_span }
    }

    pub fn weight(&self, dims: Vec<u64>) -> Result<(), ShapeError> {
        Shape::checked(dims).map(|_| ()).map_err(|source| self.limit("the weight:", source))
    }

    /// The axis of `shape` that the user counts without the batch, and from the end where it is negative.
    pub fn axis_of(&self, axis: Spanned<i64>, shape: &Shape) -> Result<usize, ShapeError> {
        let rank = shape.rank() as i64 - 1;
        let from_start = if axis.value < 0 { axis.value.saturating_add(rank) } else { axis.value };
        if (0..rank).contains(&from_start) {
            return Ok(from_start as usize + 1);
        }
        let (path, sample) = (self.layer.path.clone(), Shape::new(shape.dims()[1..].to_vec()));
        Err(ShapeError::Axis { path, axis: axis.value, shape: sample, span: axis.span })
    }
}

/// A layer's resolved form and its output.
pub(super) struct Resolved {
    pub type_name: &'static str,
    pub kind: ShapedKind,
    pub output: Vec<u64>,
    pub feature_map: bool,
}

impl Walk {
    /// Walks a list of layers; gives its output, or `None` where a mistake leaves it unknown.
    fn list(&mut self, layers: &[Layer], input: ValueId) -> Option<ValueId> {
        // The value that entered each layer so far.
        let mut entered = Vec::new();
        let mut value = input;
        for layer in layers {
            entered.push(value);
            let around = self.precision;
            self.precision = layer.precision.unwrap_or(around);
            let output = match &layer.kind {
                LayerKind::Sequential(sequential) => self.list(&sequential.layers, value),
                LayerKind::Parallel(parallel) => self.parallel(layer, parallel, value),
                LayerKind::Kmeans(kmeans) => self.kmeans(layer, kmeans, value),
                _ => self.layer(layer, value, &entered),
            };
            self.precision = around;
            value = output?;
            if let Some(given) = layer.quantisation.output {
                value = self.quantise(layer, value, given.coding());
            }
            if let Some(name) = &layer.name {
                self.names.insert(name.value.clone(), value);
            }
        }
        Some(value)
    }

    /// A result that becomes codes. It is the layer's own: its path is that of the layer.
    fn quantise(&mut self, layer: &Layer, input: ValueId, coding: Coding) -> ValueId {
        let value = Value { ids: false, ..self.values[input.0].clone() };
        self.values.push(value);
        let (path, precision, kind) = (layer.path.clone(), Precision::F32, ShapedKind::Quantise { coding });
        self.layers.push(ShapedLayer { path, type_name: "quantise", input, precision, quantised: None, kind });
        ValueId(self.values.len() - 1)
    }

    fn layer(&mut self, layer: &Layer, input: ValueId, entered: &[ValueId]) -> Option<ValueId> {
        let value = self.values[input.0].clone();
        let at = At { layer, shape: &value.shape, maker: value.maker.clone() };
        let resolved = match &layer.kind {
            LayerKind::Dense(dense) => self.dense(&at, dense, value.feature_map),
            LayerKind::Conv1d(conv) => conv1d(&at, conv),
            LayerKind::Conv2d(conv) => conv2d(&at, conv),
            LayerKind::MaxPool1d(pool) => pooling::max_pool1d(&at, pool),
            LayerKind::AvgPool1d(pool) => pooling::avg_pool1d(&at, pool),
            LayerKind::MaxPool2d(pool) => pooling::max_pool2d(&at, pool),
            LayerKind::AvgPool2d(pool) => pooling::avg_pool2d(&at, pool),
            LayerKind::GlobalMaxPool => small::global_pool(&at, "global_max_pool", ShapedKind::GlobalMaxPool),
            LayerKind::GlobalAvgPool => small::global_pool(&at, "global_avg_pool", ShapedKind::GlobalAvgPool),
            LayerKind::Flatten(flatten) => small::flatten(&at, flatten),
            LayerKind::Reshape(reshape) => elements::reshape(&at, reshape),
            LayerKind::Slice(slice) => elements::slice(&at, slice, value.feature_map),
            LayerKind::Broadcast(broadcast) => elements::broadcast(&at, broadcast),
            LayerKind::Scale(scale) => Ok(elements::scale(&at, *scale, value.feature_map)),
            LayerKind::Normalize(normalize) => elements::normalize(&at, normalize, value.feature_map),
            LayerKind::Embedding(embedding) => small::embedding(&at, embedding, &value),
            LayerKind::BatchNorm(norm) => small::batch_norm(&at, norm, value.feature_map),
            LayerKind::Dropout(_) => Ok(small::dropout(&at, value.feature_map)),
            LayerKind::Swiglu(swiglu) => small::swiglu(&at, swiglu),
            LayerKind::Recurrent(layer) => small::recurrent(&at, layer, value.feature_map),
            LayerKind::Attention(options) => attention::attention(&at, options),
            LayerKind::Stitch(stitch) => {
                let dense = small::as_dense(stitch);
                self.dense(&at, &dense, value.feature_map).map(|dense| Resolved { type_name: "stitch", ..dense })
            }
            LayerKind::Softmax(options) => softmax(&at, options, value.feature_map),
            LayerKind::LayerNorm(norm) => {
                let kind = |first_axis| ShapedKind::LayerNorm { first_axis, epsilon: norm.epsilon };
                normalised(&at, norm, "layer_norm", value.feature_map, kind)
            }
            LayerKind::RmsNorm(norm) => {
                let kind = |first_axis| ShapedKind::RmsNorm { first_axis, epsilon: norm.epsilon };
                normalised(&at, norm, "rms_norm", value.feature_map, kind)
            }
            LayerKind::Residual(residual) => self.residual(&at, residual, entered, value.feature_map),
            LayerKind::Activation(activation) => Ok(elementwise(&at, *activation, value.feature_map)),
            LayerKind::Sequential(_) | LayerKind::Parallel(_) | LayerKind::Kmeans(_) => return Some(input),
        };
        let moved = matches!(layer.kind, LayerKind::Flatten(_) | LayerKind::Reshape(_) | LayerKind::Dropout(_));
        let ids = value.ids && moved;
        self.add(&at, input, resolved, ids)
    }

    /// Adds a layer and its output, or the mistake in it.
    fn add(
        &mut self,
        at: &At<'_>,
        input: ValueId,
        resolved: Result<Resolved, ShapeError>,
        ids: bool,
    ) -> Option<ValueId> {
        let resolved = resolved.map_err(|error| self.errors.push(error)).ok()?;
        // The output is known all the same: the layers after this one can be checked.
        let (precision, quantised) =
            quantised::of(at, &resolved, self.precision, &self.values[input.0].shape, self.most_terms).unwrap_or_else(
                |error| {
                    self.errors.push(error);
                    (Precision::F32, None)
                },
            );
        let shape = Shape::checked(resolved.output);
        let shape = shape.map_err(|source| self.errors.push(at.limit("the output:", source))).ok()?;
        let maker = Some((at.layer.path.clone(), at.layer.type_span));
        self.values.push(Value { shape, feature_map: resolved.feature_map, ids, maker });
        let (path, type_name) = (at.layer.path.clone(), resolved.type_name);
        self.layers.push(ShapedLayer { path, type_name, input, precision, quantised, kind: resolved.kind });
        Some(ValueId(self.values.len() - 1))
    }

    /// A layer inside another one, as a list of its own.
    fn inner(&mut self, layer: &Layer, input: ValueId) -> Option<ValueId> {
        self.list(std::slice::from_ref(layer), input)
    }

    fn parallel(&mut self, layer: &Layer, parallel: &Parallel, input: ValueId) -> Option<ValueId> {
        // Every branch is looked at, whatever is wrong with those before.
        let outputs: Vec<Option<ValueId>> = parallel.branches.iter().map(|branch| self.inner(branch, input)).collect();
        let gate = match &parallel.mode {
            CombineMode::Filter(filter) => filter.gate.as_ref().map(|gate| self.inner(gate, input)),
            _ => None,
        };
        let outputs = outputs.into_iter().collect::<Option<Vec<ValueId>>>()?;
        let gate = match gate {
            Some(gate) => Some(gate?),
            None => None,
        };
        let value = self.values[input.0].clone();
        let at = At { layer, shape: &value.shape, maker: value.maker.clone() };
        let resolved = combine::combined(&at, parallel, &self.values, &outputs, gate);
        self.add(&at, input, resolved, false)
    }

    fn kmeans(&mut self, layer: &Layer, kmeans: &Kmeans, input: ValueId) -> Option<ValueId> {
        let features = match &kmeans.attached {
            Some(attached) => self.inner(attached, input)?,
            None => input,
        };
        let value = self.values[features.0].clone();
        let at = At { layer, shape: &value.shape, maker: value.maker.clone() };
        let resolved = small::kmeans(&at, kmeans, features);
        self.add(&at, input, resolved, false)
    }

    fn dense(&mut self, at: &At<'_>, dense: &Dense, feature_map: bool) -> Result<Resolved, ShapeError> {
        let dims = at.shape.dims();
        let last = dims.last().copied().filter(|_| dims.len() > 1).unwrap_or(1);
        let sample: u64 = dims[1..].iter().product();
        let given = dense.input_size.map(|size| size.value);
        // A lone scalar a sample is one element; a feature map's last axis is a row of positions, not of features.
        let flatten = dims.len() == 1 || feature_map || given.is_some_and(|given| given != last && given == sample);
        let actual = if flatten { sample } else { last };
        if let Some(given) = dense.input_size.filter(|given| given.value != actual) {
            // The output is known all the same: the layers after this one can be checked.
            self.errors.push(at.mismatch("input_size", given, actual));
        }
        let output_size = dense.output_size.value;
        at.weight(vec![output_size, actual])?;
        let mut output = if flatten { vec![dims[0]] } else { dims[..dims.len() - 1].to_vec() };
        output.push(output_size);
        let (bias, activation) = (dense.bias, dense.activation);
        let kind = ShapedKind::Dense { flatten, input_size: actual, output_size, bias, activation };
        Ok(Resolved { type_name: "dense", kind, output, feature_map: false })
    }

    fn residual(
        &mut self,
        at: &At<'_>,
        residual: &Residual,
        entered: &[ValueId],
        feature_map: bool,
    ) -> Result<Resolved, ShapeError> {
        let path = at.layer.path.clone();
        let span = residual.from.as_ref().map_or(at.layer.type_span, |from| from.span);
        let from = match residual.from.as_ref().map(|from| &from.value) {
            Some(ResidualFrom::Name(name)) => *self.names.get(name).ok_or_else(|| ShapeError::ResidualName {
                path: path.clone(),
                name: name.clone(),
                nearest: nearest(name, self.names.keys().map(String::as_str)).map(str::to_string),
                span,
            })?,
            distance => {
                let distance = if let Some(ResidualFrom::Distance(distance)) = distance { *distance } else { 1 };
                // The list's last entry is this layer's own input.
                let available = entered.len() as u64 - 1;
                let index = available.checked_sub(distance).ok_or_else(|| ShapeError::ResidualDistance {
                    path: path.clone(),
                    distance,
                    available,
                    span,
                })?;
                entered[index as usize]
            }
        };
        let shape = &self.values[from.0].shape;
        if shape != at.shape {
            return Err(ShapeError::ResidualShapes { path, from: shape.clone(), shape: at.shape.clone(), span });
        }
        let output = at.shape.dims().to_vec();
        Ok(Resolved { type_name: "residual", kind: ShapedKind::Residual { from }, output, feature_map })
    }
}

fn conv1d(at: &At<'_>, conv: &Conv1d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![("input_channels", conv.input_channels), ("input_length", conv.input_length)];
    let (size, stride) = (conv.kernel_size.value, conv.stride.value);
    let window = window::of_length(size, stride, conv.padding.value, conv.dilation.value);
    let options = ConvOptions {
        type_name: "conv1d",
        filters: conv.filters.value,
        groups: conv.groups,
        kernel_span: conv.kernel_size.span,
        bias: conv.bias,
        activation: conv.activation,
    };
    convolution(at, &declared, window, options)
}

fn conv2d(at: &At<'_>, conv: &Conv2d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![
        ("input_channels", conv.input_channels),
        ("input_height", conv.input_height),
        ("input_width", conv.input_width),
    ];
    let (size, dilation) = (conv.kernel_size.value, conv.dilation.value);
    let window = window::of_pairs(size, conv.stride.value, conv.padding.value, dilation);
    let options = ConvOptions {
        type_name: "conv2d",
        filters: conv.filters.value,
        groups: conv.groups,
        kernel_span: conv.kernel_size.span,
        bias: conv.bias,
        activation: conv.activation,
    };
    let resolved = convolution(at, &declared, window, options)?;
    let given = [("output_height", conv.output_height), ("output_width", conv.output_width)];
    for ((key, given), &actual) in given.into_iter().zip(&resolved.output[2..]) {
        if let Some(given) = given.filter(|given| given.value != actual) {
            return Err(at.mismatch(key, given, actual));
        }
    }
    Ok(resolved)
}

struct ConvOptions {
    type_name: &'static str,
    filters: u64,
    groups: Spanned<u64>,
    kernel_span: Span,
    bias: bool,
    activation: Activation,
}

fn convolution(
    at: &At<'_>,
    declared: &Declared,
    window: SpatialWindow,
    options: ConvOptions,
) -> Result<Resolved, ShapeError> {
    let input = window::input_shape(at, at.shape, declared)?;
    let channels = input.dims()[1];
    let (filters, groups) = (options.filters, options.groups.value);
    for (what, count) in [("input channels", channels), ("filters", filters)] {
        if count % groups != 0 {
            let (path, span) = (at.layer.path.clone(), options.groups.span);
            return Err(ShapeError::Groups { path, groups, what, count, span });
        }
    }
    at.weight([vec![filters, channels / groups], window.size.clone()].concat())?;
    let mut output = vec![input.dims()[0], filters];
    output.extend(window::positions(at, &input, &window, options.kernel_span)?);
    let (bias, activation) = (options.bias, options.activation);
    let kind = ShapedKind::Conv { input, filters, groups, window, bias, activation };
    Ok(Resolved { type_name: options.type_name, kind, output, feature_map: true })
}

fn normalised(
    at: &At<'_>,
    norm: &Norm,
    type_name: &'static str,
    feature_map: bool,
    kind: impl Fn(usize) -> ShapedKind,
) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    if dims.len() < 2 {
        return Err(at.rank("at least one axis after the batch"));
    }
    let last = dims[dims.len() - 1];
    let first_axis = match norm.norm_size {
        None => dims.len() - 1,
        Some(given) => {
            // As many trailing axes as together have that size.
            let mut product = 1u64;
            let fitting = (1..dims.len()).rev().find(|&axis| {
                product = product.saturating_mul(dims[axis]);
                product == given.value
            });
            fitting.ok_or_else(|| at.mismatch("norm_size", given, last))?
        }
    };
    Ok(Resolved { type_name, kind: kind(first_axis), output: dims.to_vec(), feature_map })
}

fn elementwise(at: &At<'_>, activation: Activation, feature_map: bool) -> Resolved {
    let kind = ShapedKind::Activation(activation);
    Resolved { type_name: "activation", kind, output: at.shape.dims().to_vec(), feature_map }
}
