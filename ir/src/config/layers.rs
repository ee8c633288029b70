//! Layers: the list of them, what all have in common, and one reader for each type.
//!
//! A reader asks for all of its keys before it gives up on any of them, so that one look at the file finds every
//! mistake in it.

use super::activation;
use super::context::{Context, Reported};
use super::error::{At, ConfigError, Owner};
use super::fields::{self, Choice, Fields, Object, Read, wrong_type};
use super::network::{
    BatchNorm, Conv1d, Conv2d, Dense, Dropout, Embedding, Flatten, Layer, LayerKind, LayerPath, Norm, Pair, Residual,
    ResidualFrom, Sequential, Stitch, Swiglu,
};
use super::schema::{self, Key, LayerType};
use super::spanned::{Kind, Spanned, Value};
use super::{parallel, precision, softmax};
use crate::limits;

/// Reads the layers in `list`: the network's own, or those inside the layer at `parent`.
pub(super) fn read_list(
    context: &mut Context,
    parent: Option<&LayerPath>,
    key: Key,
    list: Value<'_>,
) -> Result<Vec<Layer>, Reported> {
    let at = || At { layer: parent.cloned(), key: Some(key.name.to_owned()), index: None };
    let elements = match list.kind() {
        Kind::List => list.elements(limits::MAX_LAYERS.saturating_add(1)),
        _ => Err(wrong_type(at(), list, "a list of layers", list.description())),
    };
    let elements = elements.map_err(|error| context.report(error))?;
    let path = |index| parent.map_or(LayerPath::top(index), |parent| parent.branch(index));
    let layers = elements.first.into_iter().enumerate();
    let layers = layers.map(|(index, value)| read_layer(context, path(index), value)).collect::<Vec<_>>();
    layers.into_iter().collect()
}

fn read_layer(context: &mut Context, path: LayerPath, value: Value<'_>) -> Result<Layer, Reported> {
    context.enter_layer(value.span())?;
    let object = Object::read(context, Some(path.clone()), value)?;
    let name = read_name(context, &object);
    let Some(type_name) = object.optional(context, schema::TYPE, fields::string)? else {
        let owner = Owner::Layer { path, type_name: None, choice: None };
        let missing =
            ConfigError::MissingKey { owner, key: schema::TYPE.name, instead: Vec::new(), span: value.span() };
        return Err(context.report(missing));
    };
    let type_span = type_name.span;
    let owner = Owner::Layer { path: path.clone(), type_name: None, choice: None };
    let mut fields = Fields { context, object: &object, owner, anchor: type_span };
    let precision = precision::read(&mut fields);
    let quantisation = precision::read_quantisation(&mut fields);
    let kind = read_kind(context, &path, &object, type_name);
    let (precision, quantisation) = (precision?, quantisation?);
    Ok(Layer { path, name: name?, precision, quantisation, kind: kind?, span: value.span(), type_span })
}

fn read_name(context: &mut Context, object: &Object<'_>) -> Result<Option<Spanned<String>>, Reported> {
    let Some(name) = object.optional(context, schema::NAME, fields::name)? else { return Ok(None) };
    if name.value == "input" {
        return Err(context.report(ConfigError::ReservedName { span: name.span }));
    }
    match context.claim_name(&name.value, name.span) {
        Ok(()) => Ok(Some(name)),
        Err(first) => Err(context.report(ConfigError::DuplicateName { name: name.value, first, again: name.span })),
    }
}

fn read_kind(
    context: &mut Context,
    path: &LayerPath,
    object: &Object<'_>,
    type_name: Spanned<String>,
) -> Result<LayerKind, Reported> {
    let anchor = type_name.span;
    let owner = |name| Owner::Layer { path: path.clone(), type_name: Some(name), choice: None };
    if let Some(row) = schema::layer_type(&type_name.value) {
        let mut fields = Fields { context, object, owner: owner(row.name), anchor };
        fields.refuse_others(&[schema::LAYER_KEYS, row.keys].concat(), &choice(row, object));
        return (row.read)(&mut fields);
    }
    if let Some(row) = schema::activation_type(&type_name.value) {
        let mut fields = Fields { context, object, owner: owner(row.name), anchor };
        // The type has chosen: of the family's keys, the others' are refused as any unknown key is.
        fields.refuse_others(&[schema::LAYER_KEYS, row.keys].concat(), &Choice::default());
        return (row.read)(&mut fields).map(LayerKind::Activation);
    }
    read_inside(context, path, object);
    Err(context.report(ConfigError::UnknownName {
        what: "layer type",
        name: type_name,
        spellings: schema::all_layer_names().collect(),
        known: schema::layer_names().collect(),
    }))
}

/// Looks into a layer that can't be read itself, for the sake of the mistakes inside.
fn read_inside(context: &mut Context, path: &LayerPath, object: &Object<'_>) {
    if let Some(list) = object.get(schema::BRANCHES).filter(|list| list.kind() == Kind::List) {
        // Their errors are reported; the layers themselves have no parent to be in.
        let _ = read_list(context, Some(path), schema::BRANCHES, list);
    }
}

fn choice(row: &LayerType, object: &Object<'_>) -> Choice {
    if row.name == schema::ACTIVATION_LAYER {
        activation::choice(object, None)
    } else if row.keys.contains(&schema::ACTIVATION) {
        activation::choice(object, Some(activation::default_of(object)))
    } else if row.keys.contains(&schema::SOFTMAX_VARIANT) {
        fields::choice(object, schema::SOFTMAX_VARIANT, softmax::VARIANTS)
    } else if row.keys.contains(&schema::COMBINE_MODE) {
        fields::choice(object, schema::COMBINE_MODE, parallel::MODES)
    } else {
        Choice::default()
    }
}

/// The sizes of a map over the last axis, whichever way they are spelled.
fn map_sizes(fields: &mut Fields<'_, '_>) -> Result<(Option<Spanned<u64>>, Spanned<u64>), Reported> {
    const OUTPUT_KEYS: [Key; 3] = [schema::HEIGHT, schema::OUTPUT_SIZE, schema::OUTPUT_HEIGHT];
    let input_size = fields.first_of(&[schema::WIDTH, schema::INPUT_SIZE, schema::INPUT_HEIGHT], fields::size);
    let output_size = match fields.first_of(&OUTPUT_KEYS, fields::size) {
        Ok(size) => size.ok_or_else(|| fields.missing(schema::OUTPUT_SIZE, &[schema::HEIGHT, schema::OUTPUT_HEIGHT])),
        Err(reported) => Err(reported),
    };
    Ok((input_size?, output_size?))
}

pub(super) fn dense(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let sizes = map_sizes(fields);
    let bias = bias(fields);
    let activation = activation::read_or_default(fields);
    let (input_size, output_size) = sizes?;
    Ok(LayerKind::Dense(Dense { input_size, output_size, bias: bias?, activation: activation? }))
}

pub(super) fn stitch(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let sizes = map_sizes(fields);
    let bias = bias(fields);
    let (input_size, output_size) = sizes?;
    Ok(LayerKind::Stitch(Stitch { input_size, output_size, bias: bias? }))
}

pub(super) fn swiglu(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    // The predecessor calls the size between the output's.
    const BETWEEN: [Key; 3] = [schema::INTERMEDIATE_SIZE, schema::OUTPUT_SIZE, schema::OUTPUT_HEIGHT];
    let input_size = fields.first_of(&[schema::INPUT_SIZE, schema::INPUT_HEIGHT], fields::size);
    let between = match fields.first_of(&BETWEEN, fields::size) {
        Ok(size) => {
            size.ok_or_else(|| fields.missing(schema::INTERMEDIATE_SIZE, &[schema::OUTPUT_SIZE, schema::OUTPUT_HEIGHT]))
        }
        Err(reported) => Err(reported),
    };
    let bias = bias(fields);
    Ok(LayerKind::Swiglu(Swiglu { input_size: input_size?, intermediate_size: between?, bias: bias? }))
}

pub(super) fn conv1d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let input_length = fields.first_of(&[schema::INPUT_LENGTH, schema::INPUT_HEIGHT], fields::size);
    let input_channels = fields.optional(schema::INPUT_CHANNELS, fields::size);
    let filters = fields.required(schema::FILTERS, fields::size);
    let kernel_size = fields.required(schema::KERNEL_SIZE, fields::size);
    let stride = fields.optional_or(schema::STRIDE, 1, fields::size);
    let padding = fields.optional_or(schema::PADDING, 0, fields::count);
    let dilation = fields.optional_or(schema::DILATION, 1, fields::size);
    let groups = fields.optional_or(schema::GROUPS, 1, fields::size);
    let bias = bias(fields);
    let activation = activation::read_or_default(fields);
    Ok(LayerKind::Conv1d(Conv1d {
        input_length: input_length?,
        input_channels: input_channels?,
        filters: filters?,
        kernel_size: kernel_size?,
        stride: stride?,
        padding: padding?,
        dilation: dilation?,
        groups: groups?,
        bias: bias?,
        activation: activation?,
    }))
}

pub(super) fn conv2d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let image = image(fields);
    let output_height = fields.optional(schema::OUTPUT_HEIGHT, fields::size);
    let output_width = fields.optional(schema::OUTPUT_WIDTH, fields::size);
    let filters = fields.required(schema::FILTERS, fields::size);
    let window = window(fields);
    let stride = fields.optional_or(schema::STRIDE, Pair::square(1), fields::size_pair);
    let dilation = dilation(fields);
    let groups = fields.optional_or(schema::GROUPS, 1, fields::size);
    let bias = bias(fields);
    let activation = activation::read_or_default(fields);
    let (image, window) = (image?, window?);
    Ok(LayerKind::Conv2d(Conv2d {
        input_height: image.height,
        input_width: image.width,
        input_channels: image.channels,
        output_height: output_height?,
        output_width: output_width?,
        filters: filters?,
        kernel_size: window.kernel_size,
        stride: stride?,
        padding: window.padding,
        dilation: dilation?,
        groups: groups?,
        bias: bias?,
        activation: activation?,
    }))
}

/// What the layers over images may say about their input.
pub(super) struct Image {
    pub height: Option<Spanned<u64>>,
    pub width: Option<Spanned<u64>>,
    pub channels: Option<Spanned<u64>>,
}

pub(super) fn image(fields: &mut Fields<'_, '_>) -> Result<Image, Reported> {
    let height = fields.optional(schema::INPUT_HEIGHT, fields::size);
    let width = fields.optional(schema::INPUT_WIDTH, fields::size);
    let channels = fields.optional(schema::INPUT_CHANNELS, fields::size);
    Ok(Image { height: height?, width: width?, channels: channels? })
}

/// What the layers over images have in common beside.
pub(super) struct Window {
    pub kernel_size: Spanned<Pair>,
    pub padding: Spanned<Pair>,
}

pub(super) fn window(fields: &mut Fields<'_, '_>) -> Result<Window, Reported> {
    let kernel_size = fields.required(schema::KERNEL_SIZE, fields::size_pair);
    let padding = fields.optional_or(schema::PADDING, Pair::square(0), fields::count_pair);
    Ok(Window { kernel_size: kernel_size?, padding: padding? })
}

pub(super) fn dilation(fields: &mut Fields<'_, '_>) -> Result<Spanned<Pair>, Reported> {
    fields.optional_or(schema::DILATION, Pair::square(1), fields::size_pair)
}

fn bias(fields: &mut Fields<'_, '_>) -> Result<bool, Reported> {
    Ok(fields.optional_or(schema::BIAS, true, fields::boolean)?.value)
}

pub(super) fn global_max_pool(_: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    Ok(LayerKind::GlobalMaxPool)
}

pub(super) fn global_avg_pool(_: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    Ok(LayerKind::GlobalAvgPool)
}

pub(super) fn flatten(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let start_axis = fields.optional(schema::START_AXIS, fields::signed);
    let end_axis = fields.optional(schema::END_AXIS, fields::signed);
    Ok(LayerKind::Flatten(Flatten { start_axis: start_axis?, end_axis: end_axis? }))
}

pub(super) fn embedding(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let vocab_size = fields.required(schema::VOCAB_SIZE, fields::vocabulary);
    let embedding_dim = fields.required(schema::EMBEDDING_DIM, fields::size);
    Ok(LayerKind::Embedding(Embedding { vocab_size: vocab_size?, embedding_dim: embedding_dim? }))
}

pub(super) fn dropout(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    Ok(LayerKind::Dropout(Dropout { rate: fields.optional_or(schema::RATE, 0.5, fields::share)?.value }))
}

pub(super) fn batch_norm(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let num_features = fields.optional(schema::NUM_FEATURES, fields::size);
    let epsilon = or_default(fields, schema::EPSILON, 1e-5);
    Ok(LayerKind::BatchNorm(BatchNorm { num_features: num_features?, epsilon: epsilon? }))
}

/// A number more than 0. As the predecessor wrote a 0 where nothing was chosen, 0 is the default.
pub(super) fn or_default(fields: &mut Fields<'_, '_>, key: Key, default: f64) -> Result<f64, Reported> {
    or_default_by(fields, key, default, fields::positive_or_zero)
}

/// The same, read by `read`.
pub(super) fn or_default_by(
    fields: &mut Fields<'_, '_>,
    key: Key,
    default: f64,
    read: Read<f64>,
) -> Result<f64, Reported> {
    match fields.optional(key, read)? {
        Some(number) if number.value > 0.0 => Ok(number.value),
        _ => Ok(default),
    }
}

pub(super) fn layer_norm(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    norm(fields).map(LayerKind::LayerNorm)
}

pub(super) fn rms_norm(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    norm(fields).map(LayerKind::RmsNorm)
}

fn norm(fields: &mut Fields<'_, '_>) -> Result<Norm, Reported> {
    let norm_size = fields.optional(schema::NORM_SIZE, fields::size);
    let epsilon = or_default(fields, schema::EPSILON, 1e-5);
    Ok(Norm { norm_size: norm_size?, epsilon: epsilon? })
}

pub(super) fn residual(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    const READ: Read<ResidualFrom> = |value, at| match value.kind() {
        Kind::Number => fields::size(value, at).map(ResidualFrom::Distance),
        Kind::String => fields::name(value, at).map(ResidualFrom::Name),
        _ => Err(wrong_type(at(), value, "a layer's name or an integer", value.description())),
    };
    Ok(LayerKind::Residual(Residual { from: fields.optional(schema::FROM, READ)? }))
}

pub(super) fn sequential(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let (key, list) = inner_list(fields)?;
    let parent = fields.object.path.as_ref();
    Ok(LayerKind::Sequential(Sequential { layers: read_list(fields.context, parent, key, list)? }))
}

/// The list of the layers inside, under either of its names.
pub(super) fn inner_list<'a>(fields: &mut Fields<'_, 'a>) -> Result<(Key, Value<'a>), Reported> {
    match (fields.get(schema::BRANCHES), fields.get(schema::LAYERS)) {
        (Some(list), None) => Ok((schema::BRANCHES, list)),
        (None, Some(list)) => Ok((schema::LAYERS, list)),
        (None, None) => Err(fields.missing(schema::BRANCHES, &[schema::LAYERS])),
        (Some(first), Some(second)) => Err(fields.report(ConfigError::ConflictingKeys {
            owner: fields.owner.clone(),
            first_key: schema::BRANCHES.name,
            first: first.span(),
            second_key: schema::LAYERS.name,
            second: second.span(),
        })),
    }
}

/// The layer that stands under `key`, if there is one; `place` is its path, from that of the layer around it.
pub(super) fn inner(
    fields: &mut Fields<'_, '_>,
    key: Key,
    place: fn(&LayerPath) -> LayerPath,
) -> Result<Option<Layer>, Reported> {
    let (Some(value), Some(parent)) = (fields.get(key), &fields.object.path) else { return Ok(None) };
    read_layer(fields.context, place(parent), value).map(Some)
}

pub(super) fn activation(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    activation::read_required(fields).map(LayerKind::Activation)
}
