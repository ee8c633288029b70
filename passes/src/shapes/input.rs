//! The shape of the network's input, where its first layer tells it.

use loom_ir::config::{Layer, LayerKind};

/// The shape of one sample according to the first layer; `Err` says what would have to be given.
pub(super) fn declared_by(layer: &Layer) -> Result<Vec<u64>, &'static str> {
    const UNTOLD: &str = "does not tell its input's shape";
    const LINE: &str = "needs input_channels and input_length to tell its input's shape";
    const CONV2D: &str = "needs input_channels, input_height and input_width to tell its input's shape";
    match &layer.kind {
        LayerKind::Dense(dense) => {
            dense.input_size.map(|size| vec![size.value]).ok_or("needs input_size to tell its input's shape")
        }
        LayerKind::Conv1d(conv) => match conv.input_length {
            // One channel is the predecessor's default.
            Some(length) => Ok(vec![conv.input_channels.map_or(1, |channels| channels.value), length.value]),
            None => Err("needs input_length to tell its input's shape"),
        },
        LayerKind::Conv2d(conv) => image(conv.input_channels, conv.input_height, conv.input_width).ok_or(CONV2D),
        LayerKind::MaxPool1d(pool) => line(pool.input_channels, pool.input_length).ok_or(LINE),
        LayerKind::AvgPool1d(pool) => line(pool.input_channels, pool.input_length).ok_or(LINE),
        LayerKind::MaxPool2d(pool) => image(pool.input_channels, pool.input_height, pool.input_width).ok_or(CONV2D),
        LayerKind::AvgPool2d(pool) => image(pool.input_channels, pool.input_height, pool.input_width).ok_or(CONV2D),
        LayerKind::LayerNorm(norm) | LayerKind::RmsNorm(norm) => {
            norm.norm_size.map(|size| vec![size.value]).ok_or("needs norm_size to tell its input's shape")
        }
        LayerKind::Stitch(stitch) => {
            stitch.input_size.map(|size| vec![size.value]).ok_or("needs input_size to tell its input's shape")
        }
        LayerKind::Swiglu(swiglu) => {
            swiglu.input_size.map(|size| vec![size.value]).ok_or("needs input_size to tell its input's shape")
        }
        LayerKind::Recurrent(layer) => match (layer.seq_length, layer.input_size) {
            (Some(steps), Some(size)) => Ok(vec![steps.value, size.value]),
            _ => Err("needs seq_length and input_size to tell its input's shape"),
        },
        LayerKind::Sequential(sequential) => match sequential.layers.first() {
            Some(first) => declared_by(first),
            None => Err(UNTOLD),
        },
        // All branches read the same: the first that tells will do.
        LayerKind::Parallel(parallel) => parallel.branches.iter().find_map(|b| declared_by(b).ok()).ok_or(UNTOLD),
        LayerKind::Attention(attention) => match (attention.seq_length, attention.d_model) {
            (Some(length), Some(size)) => Ok(vec![length.value, size.value]),
            _ => Err("needs seq_length and d_model to tell its input's shape"),
        },
        LayerKind::Kmeans(kmeans) => match (&kmeans.attached, kmeans.cluster_dim) {
            (Some(attached), _) => declared_by(attached),
            (None, Some(size)) => Ok(vec![size.value]),
            (None, None) => Err("needs cluster_dim to tell its input's shape"),
        },
        LayerKind::GlobalMaxPool
        | LayerKind::GlobalAvgPool
        | LayerKind::Flatten(_)
        | LayerKind::Reshape(_)
        | LayerKind::Slice(_)
        | LayerKind::Broadcast(_)
        | LayerKind::Scale(_)
        | LayerKind::Normalize(_)
        | LayerKind::Embedding(_)
        | LayerKind::Softmax(_)
        | LayerKind::BatchNorm(_)
        | LayerKind::Dropout(_)
        | LayerKind::Residual(_)
        | LayerKind::Activation(_) => Err(UNTOLD),
    }
}

type Size = Option<loom_ir::config::Spanned<u64>>;

fn line(channels: Size, length: Size) -> Option<Vec<u64>> {
    Some(vec![channels?.value, length?.value])
}

fn image(channels: Size, height: Size, width: Size) -> Option<Vec<u64>> {
    Some(vec![channels?.value, height?.value, width?.value])
}
