//! Layers whose shape rule takes a few lines.

use loom_ir::config::{BatchNorm, Dense, Embedding, Flatten, Kmeans, KmeansOutput, Recurrent, Spanned, Stitch, Swiglu};
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved, Value};
use super::{SequenceInput, ShapedKind, ShapedRecurrent, ValueId};

pub(super) fn flatten(at: &At<'_>, flatten: &Flatten) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let output = match (flatten.start_axis, flatten.end_axis) {
        // A sample without axes becomes one element.
        (None, None) => vec![dims[0], dims[1..].iter().product()],
        (start, end) => {
            let anchor = at.layer.type_span;
            let first = at.axis_of(start.unwrap_or(Spanned::new(0, anchor)), at.shape)?;
            let last = at.axis_of(end.unwrap_or(Spanned::new(-1, anchor)), at.shape)?;
            if first > last {
                let span = end.or(start).map_or(anchor, |axis| axis.span);
                return Err(ShapeError::AxisOrder { path: at.layer.path.clone(), first, last, span });
            }
            [&dims[..first], &[dims[first..=last].iter().product()], &dims[last + 1..]].concat()
        }
    };
    let kind = ShapedKind::Reshape(Shape::new(output.clone()));
    Ok(Resolved { type_name: "flatten", kind, output, feature_map: false })
}

/// One element a channel.
pub(super) fn global_pool(at: &At<'_>, type_name: &'static str, kind: ShapedKind) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    if dims.len() < 3 {
        return Err(at.rank("[batch, channels, positions…]"));
    }
    Ok(Resolved { type_name, kind, output: dims[..2].to_vec(), feature_map: false })
}

pub(super) fn batch_norm(at: &At<'_>, norm: &BatchNorm, feature_map: bool) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let &[_, channels, ..] = dims else { return Err(at.rank("[batch, channels, positions…]")) };
    if let Some(given) = norm.num_features.filter(|given| given.value != channels) {
        return Err(at.mismatch("num_features", given, channels));
    }
    let kind = ShapedKind::BatchNorm { epsilon: norm.epsilon };
    Ok(Resolved { type_name: "batch_norm", kind, output: dims.to_vec(), feature_map })
}

pub(super) fn dropout(at: &At<'_>, feature_map: bool) -> Resolved {
    let output = at.shape.dims().to_vec();
    Resolved { type_name: "dropout", kind: ShapedKind::Identity, output, feature_map }
}

pub(super) fn swiglu(at: &At<'_>, swiglu: &Swiglu) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let &[_, .., last] = dims else { return Err(at.rank("at least one axis after the batch")) };
    if let Some(given) = swiglu.input_size.filter(|given| given.value != last) {
        return Err(at.mismatch("input_size", given, last));
    }
    let intermediate_size = swiglu.intermediate_size.value;
    at.weight(vec![intermediate_size, last])?;
    let between = [&dims[..dims.len() - 1], &[intermediate_size]].concat();
    Shape::checked(between).map_err(|source| at.limit("the value between:", source))?;
    let kind = ShapedKind::Swiglu { input_size: last, intermediate_size, bias: swiglu.bias };
    Ok(Resolved { type_name: "swiglu", kind, output: dims.to_vec(), feature_map: false })
}

/// A sequence of `[batch, steps, elements]`; or a feature map of one axis of positions, which are its steps, with channels
/// as their elements; or as many elements as `seq_length` steps of `input_size` have.
pub(super) fn recurrent(at: &At<'_>, layer: &Recurrent, feature_map: bool) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let given = layer.seq_length.zip(layer.input_size).map(|(steps, size)| (steps.value, size.value));
    let (steps, size, input) = match (dims, given) {
        (&[_, channels, positions], _) if feature_map => (positions, channels, SequenceInput::ChannelsFirst),
        (&[_, steps, size], _) => (steps, size, SequenceInput::Sequence),
        (_, Some((steps, size))) if dims[1..].iter().product::<u64>() == steps.saturating_mul(size) => {
            (steps, size, SequenceInput::Flat)
        }
        _ => return Err(at.rank("[batch, steps, elements], or seq_length and input_size that make up a sample")),
    };
    if let Some(given) = layer.input_size.filter(|given| given.value != size) {
        return Err(at.mismatch("input_size", given, size));
    }
    if let Some(given) = layer.seq_length.filter(|given| given.value != steps) {
        return Err(at.mismatch("seq_length", given, steps));
    }
    if steps == 0 {
        return Err(at.rank("at least one step"));
    }
    let hidden = layer.hidden_size.value;
    let rows = layer.cell.gates().saturating_mul(hidden);
    at.weight(vec![rows, size])?;
    at.weight(vec![rows, hidden])?;
    Shape::checked(vec![steps, dims[0], rows]).map_err(|source| at.limit("the gates:", source))?;
    // The graph has the weight at every step, though nothing that large is ever in memory.
    Shape::checked(vec![steps, rows, hidden]).map_err(|source| at.limit("the hidden weights of all steps:", source))?;
    let width = if layer.bidirectional { hidden.saturating_mul(2) } else { hidden };
    let output = if layer.return_sequences { vec![dims[0], steps, width] } else { vec![dims[0], width] };
    let kind = ShapedKind::Recurrent(ShapedRecurrent {
        cell: layer.cell,
        input,
        steps,
        input_size: size,
        hidden_size: hidden,
        biases: layer.biases,
        bidirectional: layer.bidirectional,
        return_sequences: layer.return_sequences,
        learned_start: layer.learned_start,
    });
    Ok(Resolved { type_name: layer.cell.name(), kind, output, feature_map: false })
}

/// A stitch is a dense layer without an activation.
pub(super) fn as_dense(stitch: &Stitch) -> Dense {
    Dense {
        input_size: stitch.input_size,
        output_size: stitch.output_size,
        bias: stitch.bias,
        activation: loom_ir::config::Activation::Linear,
    }
}

/// Ids are told by the caller, who is told where one is wrong; what a layer computes can't be one.
pub(super) fn embedding(at: &At<'_>, embedding: &Embedding, input: &Value) -> Result<Resolved, ShapeError> {
    if let (false, Some((maker, made))) = (input.ids, &input.maker) {
        let (path, maker, span) = (at.layer.path.clone(), maker.clone(), at.layer.type_span);
        return Err(ShapeError::EmbeddingInput { path, maker, made: *made, span });
    }
    let (vocab_size, dim) = (embedding.vocab_size.value, embedding.embedding_dim.value);
    at.weight(vec![vocab_size, dim])?;
    let output = [at.shape.dims(), &[dim]].concat();
    let kind = ShapedKind::Embedding { vocab_size, dim };
    Ok(Resolved { type_name: "embedding", kind, output, feature_map: false })
}

/// `at` is the layer with its features as input.
pub(super) fn kmeans(at: &At<'_>, kmeans: &Kmeans, features: ValueId) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let &[_, .., last] = dims else { return Err(at.rank("features with at least one axis after the batch")) };
    if let Some(given) = kmeans.cluster_dim.filter(|given| given.value != last) {
        return Err(at.mismatch("cluster_dim", given, last));
    }
    let clusters = kmeans.num_clusters.value;
    at.weight(vec![clusters, last])?;
    let rows = &dims[..dims.len() - 1];
    Shape::checked([rows, &[clusters, last]].concat()).map_err(|source| at.limit("the differences:", source))?;
    let kind = ShapedKind::Kmeans {
        features,
        clusters,
        metric: kmeans.metric,
        output: kmeans.output,
        temperature: kmeans.temperature,
    };
    let size = if kmeans.output == KmeansOutput::Features { last } else { clusters };
    Ok(Resolved { type_name: "kmeans", kind, output: [rows, &[size]].concat(), feature_map: false })
}
