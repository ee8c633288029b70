//! `lower`: from layers to primitive tensor operations.
//!
//! The formula of each layer stands here once, with its parentheses: they decide the bits (LN1 section 6).
//! `docs/layers.md` says the same in words.

mod activation;
mod layers;
mod window;

use loom_ir::graph::{Builder, Graph, NodeId, TensorType};
use loom_ir::types::DType;

use crate::shapes::{ShapedKind, ShapedNetwork};

/// The name of the network's input tensor.
pub const INPUT: &str = "input";
/// The name of the network's output tensor.
pub const OUTPUT: &str = "output";

/// Lowers every layer of a network.
pub fn lower(network: &ShapedNetwork) -> Graph {
    let mut graph = Graph::new(network.name.clone());
    let input_type = TensorType::new(DType::F32, network.values[0].clone());
    let mut values: Vec<NodeId> = vec![Builder::new(&mut graph, "").input(INPUT, input_type)];
    for layer in &network.layers {
        let mut b = Builder::new(&mut graph, layer.path.to_string());
        let x = values[layer.input.0];
        let y = match &layer.kind {
            ShapedKind::Dense { flatten, input_size, output_size, bias, activation } => {
                let x = if *flatten { layers::flatten(&mut b, x) } else { x };
                let y = layers::dense(&mut b, x, *input_size, *output_size, *bias);
                let axis = b.graph().shape(y).rank() - 1;
                activation::apply(&mut b, *activation, y, axis)
            }
            ShapedKind::Conv { input, filters, groups, window, bias, activation } => {
                let x = b.reshape(x, input.clone());
                let y = window::convolution(&mut b, x, *filters, *groups, window, *bias);
                activation::apply(&mut b, *activation, y, 1)
            }
            ShapedKind::Pool { input, kind, window } => {
                let x = b.reshape(x, input.clone());
                window::pooling(&mut b, x, *kind, window)
            }
            ShapedKind::Flatten => layers::flatten(&mut b, x),
            ShapedKind::Softmax { axis, temperature } => layers::softmax(&mut b, x, *axis, *temperature),
            ShapedKind::LayerNorm { first_axis, epsilon } => layers::layer_norm(&mut b, x, *first_axis, *epsilon),
            ShapedKind::RmsNorm { first_axis, epsilon } => layers::rms_norm(&mut b, x, *first_axis, *epsilon),
            ShapedKind::Residual { from } => b.add(x, values[from.0]),
            ShapedKind::Activation(kind) => {
                let axis = b.graph().shape(x).rank() - 1;
                activation::apply(&mut b, *kind, x, axis)
            }
        };
        values.push(y);
    }
    graph.add_output(OUTPUT, values[network.output.0]);
    graph
}
