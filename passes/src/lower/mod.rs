//! `lower`: from layers to primitive tensor operations.
//!
//! The formula of each layer stands here once, with its parentheses: they decide the bits (LN1 section 6).
//! `docs/layers.md` says the same in words.

mod activation;
mod attention;
mod combine;
mod elements;
mod kmeans;
mod layers;
mod quantised;
mod recurrent;
mod softmax;
mod sparse;
mod window;

use loom_ir::config::Activation;
use loom_ir::graph::{Builder, Graph, NodeId, TensorType};
use loom_ir::types::DType;

use crate::shapes::{Combination, Distribution, ShapedKind, ShapedNetwork};

/// The name of the network's input tensor.
pub const INPUT: &str = "input";
/// The name of the network's output tensor.
pub const OUTPUT: &str = "output";

/// Lowers every layer of a network.
pub fn lower(network: &ShapedNetwork) -> Graph {
    let mut graph = Graph::new(network.name.clone());
    let input_type = TensorType::new(DType::F32, network.values[0].clone());
    let mut cached = attention::Cached::new(&mut graph, network);
    let mut values: Vec<NodeId> = vec![Builder::new(&mut graph, "").input(INPUT, input_type)];
    if let Some(coding) = network.input_codes {
        values[0] = quantised::quantise(&mut Builder::new(&mut graph, INPUT), values[0], coding);
    }
    for layer in &network.layers {
        let mut b = Builder::new(&mut graph, layer.path.to_string());
        b.round_weights(layer.precision.rounding());
        let x = values[layer.input.0];
        let y = match &layer.kind {
            ShapedKind::Dense { flatten, input_size, output_size, bias, activation } => {
                let x = if *flatten { layers::flatten(&mut b, x) } else { x };
                let factors = layers::Factors::of_input(&layer.quantised);
                let y = layers::dense(&mut b, x, [*output_size, *input_size], *bias, factors);
                let axis = b.graph().shape(y).rank() - 1;
                activation::apply(&mut b, *activation, y, axis)
            }
            ShapedKind::Conv { input, filters, groups, window, bias, activation } => {
                let x = b.reshape(x, input.clone());
                let y = window::convolution(&mut b, x, [*filters, *groups], window, *bias, layer.quantised.as_ref());
                activation::apply(&mut b, *activation, y, 1)
            }
            ShapedKind::Quantise { coding } => quantised::quantise(&mut b, x, *coding),
            ShapedKind::Pool { input, kind, window } => {
                let x = b.reshape(x, input.clone());
                match quantised::arriving(&mut b, x).filter(|_| window::takes_codes(*kind, window)) {
                    Some(mut value) => {
                        value.codes = window::pooling(&mut b, value.codes, *kind, window);
                        value.meaning(&mut b)
                    }
                    None => window::pooling(&mut b, x, *kind, window),
                }
            }
            ShapedKind::GlobalMaxPool => match quantised::arriving(&mut b, x) {
                Some(mut value) => {
                    value.codes = window::global_max(&mut b, value.codes);
                    value.meaning(&mut b)
                }
                None => window::global_max(&mut b, x),
            },
            ShapedKind::GlobalAvgPool => window::global_mean(&mut b, x),
            ShapedKind::Reshape(shape) => b.reshape(x, shape.clone()),
            ShapedKind::Identity => x,
            ShapedKind::Softmax { input, axis, temperature, distribution, output } => {
                let same = b.graph().shape(x) == input;
                let x = if same { x } else { b.reshape(x, input.clone()) };
                let x = match distribution {
                    Distribution::Gumbel => {
                        let path = layer.path.to_string();
                        softmax::with_gumbel_noise(&mut b, x, network.batch_size, network.seed, &path)
                    }
                    _ => x,
                };
                let y = softmax::along(&mut b, x, *axis, *temperature, distribution);
                if b.graph().shape(y) == output { y } else { b.reshape(y, output.clone()) }
            }
            ShapedKind::Slice { axis, start, end } => elements::slice(&mut b, x, *axis, *start, *end),
            ShapedKind::Broadcast { kept, axes, output } => {
                let x = b.reshape(x, kept.clone());
                b.broadcast(x, output, axes)
            }
            ShapedKind::Scale(scale) => elements::scale(&mut b, x, *scale),
            ShapedKind::Normalize { axis, norm, epsilon } => elements::normalize(&mut b, x, *axis, *norm, *epsilon),
            ShapedKind::Embedding { vocab_size, dim } => layers::embedding(&mut b, x, *vocab_size, *dim),
            ShapedKind::BatchNorm { epsilon } => layers::batch_norm(&mut b, x, *epsilon),
            ShapedKind::Swiglu { input_size, intermediate_size, bias } => {
                layers::swiglu(&mut b, x, [*input_size, *intermediate_size], *bias, &layer.quantised)
            }
            ShapedKind::Recurrent(options) => recurrent::recurrent(&mut b, x, options, &layer.quantised),
            ShapedKind::Attention(options) => {
                attention::attention(&mut b, x, options, &layer.quantised, cached.as_mut())
            }
            ShapedKind::Combine { combination, branches } => {
                let branches: Vec<NodeId> = branches.iter().map(|branch| values[branch.0]).collect();
                let gate = match combination {
                    Combination::Filter { gate: Some(gate) } => Some(combine::Gate {
                        logits: values[gate.value.0],
                        distribution: &gate.distribution,
                        temperature: gate.temperature,
                        top_k: gate.top_k,
                    }),
                    _ => None,
                };
                combine::combine(&mut b, combination, &branches, gate)
            }
            ShapedKind::Kmeans { features, clusters, metric, output, temperature } => {
                kmeans::kmeans(&mut b, values[features.0], *clusters, *metric, *output, *temperature)
            }
            ShapedKind::LayerNorm { first_axis, epsilon } => layers::layer_norm(&mut b, x, *first_axis, *epsilon),
            ShapedKind::RmsNorm { first_axis, epsilon } => layers::rms_norm(&mut b, x, *first_axis, *epsilon),
            ShapedKind::Residual { from } => b.add(x, values[from.0]),
            ShapedKind::Activation(Activation::Relu) if let Some(mut value) = quantised::arriving(&mut b, x) => {
                value.relu(&mut b);
                value.meaning(&mut b)
            }
            ShapedKind::Activation(kind) => {
                let axis = b.graph().shape(x).rank() - 1;
                activation::apply(&mut b, *kind, x, axis)
            }
        };
        values.push(match layer.precision.rounding() {
            Some(rounding) if !moves_only(&layer.kind) => b.unary(rounding, y),
            _ => y,
        });
    }
    graph.add_output(OUTPUT, values[network.output.0]);
    if let Some(cached) = cached {
        cached.finish(&mut graph);
    }
    graph
}

/// Whether a layer gives elements of its input as they are: they keep the number format that they have.
fn moves_only(kind: &ShapedKind) -> bool {
    matches!(
        kind,
        ShapedKind::Identity | ShapedKind::Reshape(_) | ShapedKind::Slice { .. } | ShapedKind::Broadcast { .. }
    )
}
