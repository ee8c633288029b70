//! The layers that stand for themselves.

use loom_ir::diagnostics::Span;
use loom_ir::limits;

use super::{Done, Place, Stop, Translator, elements};
use crate::Values;
use crate::bundle::Version;
use crate::definition::{Layer, LayerType};
use crate::emit::{Chain, Node, Weight};
use crate::error::DialectError;

/// What the predecessor multiplies by where it says relu.
const SCALED_RELU: f64 = 1.1;
/// The slope of its leaky relu below 0.
const LEAKY_SLOPE: f64 = 0.1;

/// An activation of the predecessor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    ScaledRelu,
    Sigmoid,
    Tanh,
    Softplus,
    LeakyRelu,
    Identity,
}

impl Activation {
    /// As the key of a layer.
    fn on(self, node: Node) -> Node {
        match self {
            Activation::ScaledRelu => node.with("activation", "relu"),
            Activation::Sigmoid => node.with("activation", "sigmoid"),
            Activation::Tanh => node.with("activation", "tanh"),
            Activation::Softplus => node.with("activation", "softplus"),
            Activation::LeakyRelu => node.with("activation", "leaky_relu").with("negative_slope", LEAKY_SLOPE),
            Activation::Identity => node.with("activation", "linear"),
        }
    }

    /// What comes after the layer that has it.
    fn after(self, chain: &mut Chain, span: Span) {
        if self == Activation::ScaledRelu {
            chain.push_same(Node::scale(SCALED_RELU, None, span));
        }
    }
}

impl Translator<'_> {
    /// The activation that a layer names; every other name means the first.
    fn activation(&mut self, layer: &Layer) -> Activation {
        match layer.text("activation") {
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "softplus" => Activation::Softplus,
            "leaky_relu" => Activation::LeakyRelu,
            "linear" if self.version.is_some() => {
                let message = "is saved with the activation `linear`, which a program may have set by code; the \
                    predecessor reads it back as 1.1 times a relu";
                self.ambiguity(layer, message);
                Activation::ScaledRelu
            }
            name => {
                let message = match name {
                    "relu" => "has the activation relu, which is max(0, 1.1 · x)".to_owned(),
                    "" => "has no activation, which is max(0, 1.1 · x)".to_owned(),
                    other => format!("has the activation `{}`, which is none: max(0, 1.1 · x)", shortened(other)),
                };
                self.quirk(layer, message);
                Activation::ScaledRelu
            }
        }
    }

    /// Input and output of a dense layer, 0 where they aren't given.
    pub(super) fn dense_sizes(&self, layer: &Layer) -> (u64, u64) {
        let (input, output) = match self.version {
            // Saved layers have a width and a height of 1 beside their sizes.
            Some(_) => (["input_height", "input_size", "width"], ["output_height", "output_size", "height"]),
            None => (["width", "input_size", "input_height"], ["height", "output_size", "output_height"]),
        };
        (layer.first_of(&input).unwrap_or(0), layer.first_of(&output).unwrap_or(0))
    }

    pub(super) fn dense(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let (input, output) = self.dense_sizes(layer);
        self.required_sizes(layer, input, output)?;
        let saved = layer.count("width") == 1 && layer.count("height") == 1;
        if saved && (layer.count("input_height") > 1 || layer.count("output_height") > 1) {
            let message = match self.version {
                Some(_) => "has a width and a height of 1 beside its sizes, which are ignored in a saved model",
                None => {
                    "has a width and a height of 1, which win over its other sizes; in the `cfg` of a saved model they \
                     would mean nothing"
                }
            };
            self.ambiguity(layer, message);
        }
        let activation = self.activation(layer);
        self.linear(chain, layer, [input, output], activation)
    }

    pub(super) fn stitch(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let (input, output) = self.dense_sizes(layer);
        self.required_sizes(layer, input, output)?;
        self.ambiguity(layer, "is no layer type of the predecessor's JSON: it is what its function of that name makes");
        self.linear(chain, layer, [input, output], Activation::Identity)
    }

    fn required_sizes(&mut self, layer: &Layer, input: u64, output: u64) -> Done {
        if input == 0 {
            self.required(layer, &["input_size", "width", "input_height"])?;
        }
        if output == 0 {
            self.required(layer, &["output_size", "height", "output_height"])?;
        }
        Ok(())
    }

    fn linear(&mut self, chain: &mut Chain, layer: &Layer, [input, output]: [u64; 2], activation: Activation) -> Done {
        if elements(&[input, output]).is_none() || elements(&self.row_shape(output)).is_none() {
            return Err(self.too_large(layer));
        }
        self.rows(chain, layer, input)?;
        let weights = self.or_zeros(layer, [&[output, input], &[output]], |own| {
            [own.transposed("weight", "weight", output, input), own.plain("bias", "bias", &[output])]
        });
        let node = Node::new("dense", layer.span).with("input_size", input).with("output_size", output);
        chain.push(activation.on(node).with_weights(weights), self.row_shape(output));
        activation.after(chain, layer.span);
        Ok(())
    }

    /// Weight and bias of these shapes; where the old weights have neither, the predecessor reads zeros.
    fn or_zeros(
        &mut self,
        layer: &Layer,
        dims: [&[u64]; 2],
        take: impl FnOnce(&mut crate::weights::Own<'_, '_>) -> [Option<Weight>; 2],
    ) -> [Option<Weight>; 2] {
        let none = !self.taker.has(layer, "weight") && !self.taker.has(layer, "bias");
        if !self.taker.any() || !none {
            return self.take(layer, take);
        }
        self.quirk(layer, "has no weights, which the predecessor reads as zeros");
        let [weight, bias] = dims.map(<[u64]>::to_vec);
        let zeros = |role, dims| Some(Weight { role, dims, values: Values::Zeros });
        [zeros("weight", weight), zeros("bias", bias)]
    }

    pub(super) fn conv1d(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        self.apart(layer)?;
        let channels = layer.count("input_channels").max(1);
        let filters = self.required(layer, &["filters"])?;
        let kernel = self.required(layer, &["kernel_size"])?;
        let (stride, padding) = (layer.count("stride").max(1), layer.count("padding"));
        let found = chain.elements();
        let length = layer.first_of(&["input_length", "input_height"]);
        let length = length.or_else(|| found.checked_div(channels)).unwrap_or(0);
        self.exactly(chain, layer, &[channels, length])?;
        let positions = self.positions(layer, length, kernel, stride, padding)?;
        let kernel_dims = [filters, channels, kernel];
        self.limited(layer, [kernel_dims.to_vec(), vec![filters, positions]])?;
        let weights = self
            .take(layer, |own| [own.plain("weight", "weight", &kernel_dims), own.plain("bias", "bias", &[filters])]);
        let activation = self.activation(layer);
        let node = Node::new("conv1d", layer.span)
            .with("filters", filters)
            .with("kernel_size", kernel)
            .with_unless(1, "stride", stride)
            .with_unless(0, "padding", padding);
        chain.view_as_map(&[channels, length]);
        chain.push_convolution(activation.on(node).with_weights(weights), vec![filters, positions]);
        activation.after(chain, layer.span);
        Ok(())
    }

    pub(super) fn conv2d(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        self.apart(layer)?;
        let channels = self.required(layer, &["input_channels"])?;
        let height = self.required(layer, &["input_height"])?;
        let width = self.required(layer, &["input_width"])?;
        let filters = self.required(layer, &["filters"])?;
        let kernel = self.required(layer, &["kernel_size"])?;
        let (stride, padding) = (layer.count("stride"), layer.count("padding"));
        self.exactly(chain, layer, &[channels, height, width])?;
        let computed = [
            self.positions(layer, height, kernel, stride.max(1), padding)?,
            self.positions(layer, width, kernel, stride.max(1), padding)?,
        ];
        let given = [layer.count("output_height"), layer.count("output_width")];
        let sizes = if given.contains(&0) { computed } else { given };
        if stride > 0 && sizes != computed {
            return Err(self.unclear(layer, "its output sizes are not those of its kernel, stride and padding"));
        }
        let [rows, columns] = sizes;
        let kernel_dims = [filters, channels, kernel, kernel];
        self.limited(layer, [kernel_dims.to_vec(), vec![filters, rows, columns]])?;
        let weights = self.or_zeros(layer, [&kernel_dims, &[filters]], |own| {
            [own.plain("weight", "weight", &kernel_dims), own.plain("bias", "bias", &[filters])]
        });
        let activation = self.activation(layer);
        let node = Node::new("conv2d", layer.span).with("filters", filters).with("kernel_size", kernel);
        let node = activation.on(node.with_unless(0, "padding", padding)).with_weights(weights);
        chain.view_as_map(&[channels, height, width]);
        if stride > 0 {
            let node = node.with_unless(1, "stride", stride);
            chain.push_convolution(node, vec![filters, rows, columns]);
        } else {
            self.quirk(layer, "has no stride, so that every position of its output is that of the first window");
            // No second window fits.
            let far = height.max(width).saturating_add(padding.saturating_mul(2));
            chain.push_convolution(node.with("stride", far), vec![filters, 1, 1]);
            let shape = vec![filters, rows, columns];
            chain.push(Node::new("broadcast", layer.span).with("shape", shape.clone()), shape);
        }
        activation.after(chain, layer.span);
        Ok(())
    }

    /// Positions of a convolution's output.
    fn positions(&mut self, layer: &Layer, extent: u64, kernel: u64, stride: u64, padding: u64) -> Result<u64, Stop> {
        let room = padding.checked_mul(2).and_then(|both| both.checked_add(extent));
        let room = room.and_then(|all| all.checked_sub(kernel));
        let positions = room.and_then(|room| room.checked_div(stride)).and_then(|steps| steps.checked_add(1));
        positions.ok_or_else(|| {
            let (path, span) = (layer.path.clone(), layer.type_name.span);
            self.report(DialectError::Window { path, kernel, extent, padding, span })
        })
    }

    /// Whether tensors of these shapes are within the limits.
    pub(super) fn limited(&mut self, layer: &Layer, shapes: impl IntoIterator<Item = Vec<u64>>) -> Done {
        let fit = shapes.into_iter().all(|dims| elements(&dims).is_some());
        if fit { Ok(()) } else { Err(self.too_large(layer)) }
    }

    /// Whether a sample has just the elements of these extents.
    fn exactly(&mut self, chain: &Chain, layer: &Layer, dims: &[u64]) -> Done {
        let needed = dims.iter().fold(1, |product: u64, &size| product.saturating_mul(size));
        let found = chain.elements();
        if found == needed && needed > 0 {
            return Ok(());
        }
        let (path, span) = (layer.path.clone(), layer.type_name.span);
        Err(self.report(DialectError::WrongLength { path, needed, found, span }))
    }

    pub(super) fn rnn(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let (input, hidden) = self.sequence(chain, layer, 1)?;
        let weights = self.take(layer, |own| {
            [
                own.plain("weight_ih", "weight_ih", &[hidden, input]),
                own.plain("weight_hh", "weight_hh", &[hidden, hidden]),
                own.plain("bias", "bias_h", &[hidden]),
            ]
        });
        self.cell(chain, layer, "rnn", hidden, weights);
        Ok(())
    }

    pub(super) fn lstm(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let (input, hidden) = self.sequence(chain, layer, 4)?;
        let gates = |role: &str| ["i", "f", "g", "o"].map(|gate| format!("{role}_{gate}"));
        let weights = self.take(layer, |own| {
            [
                own.stacked("weight_ih", &gates("weight_ih"), &[hidden, input]),
                own.stacked("weight_hh", &gates("weight_hh"), &[hidden, hidden]),
                own.stacked("bias", &gates("bias"), &[hidden]),
            ]
        });
        self.cell(chain, layer, "lstm", hidden, weights);
        Ok(())
    }

    /// Views the chain as a sequence; gives the elements of a step and of the state.
    fn sequence(&mut self, chain: &mut Chain, layer: &Layer, gates: u64) -> Result<(u64, u64), Stop> {
        self.apart(layer)?;
        let input = self.required(layer, &["input_size"])?;
        let hidden = self.required(layer, &["hidden_size"])?;
        let steps = layer.count("seq_length").max(1);
        self.exactly(chain, layer, &[steps, input])?;
        self.limited(layer, [vec![gates, hidden, hidden.max(input)], vec![gates, hidden, steps]])?;
        chain.view(&[steps, input]);
        Ok((input, hidden))
    }

    fn cell(
        &mut self,
        chain: &mut Chain,
        layer: &Layer,
        type_name: &'static str,
        hidden: u64,
        weights: [Option<Weight>; 3],
    ) {
        let node = Node::new(type_name, layer.span).with("hidden_size", hidden).with("biases", "single");
        let steps = chain.dims.first().copied().unwrap_or(1);
        chain.push(node.with_weights(weights), vec![steps, hidden]);
    }

    pub(super) fn layer_norm(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let size = self.required(layer, &["norm_size"])?;
        let skipped = place == Place::Network && self.skip.is_some();
        if skipped {
            self.add_skip(chain, layer);
        }
        let needed = size.saturating_mul(self.batch.samples());
        let found = chain.elements();
        if found > needed {
            self.mixes(layer, "normalises as many rows as the batch has samples")?;
        }
        if found < needed {
            let (path, span) = (layer.path.clone(), layer.type_name.span);
            return Err(self.report(DialectError::TooShort { path, needed: size, found, span }));
        }
        let weights =
            self.take(layer, |own| [own.plain("gamma", "gamma", &[size]), own.plain("beta", "beta", &[size])]);
        let epsilon = layer.float_or("epsilon", 1e-5);
        let node = Node::new("layer_norm", layer.span).with("norm_size", size).with_unless(1e-5, "epsilon", epsilon);
        let node = node.with_weights(weights);
        if found == needed {
            chain.view(&self.row_shape(size));
            chain.push_same(node);
        } else {
            let message =
                format!("normalises the first {} of its rows and gives 0 for the others", self.batch.samples());
            self.quirk(layer, message);
            chain.flat();
            let mut first = chain.branch(layer.span);
            first.slice(0, needed);
            first.view(&self.row_shape(size));
            first.push_same(node);
            first.flat();
            let mut rest = chain.branch(layer.span);
            rest.slice(needed, found);
            rest.push_same(Node::scale(0.0, Some(0.0), layer.span));
            let branches = vec![first.into_node(), rest.into_node()];
            chain.push(Node::parallel("concat", branches, layer.span), vec![found]);
        }
        if skipped {
            self.hand_on(chain);
        }
        Ok(())
    }

    pub(super) fn rms_norm(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let size = self.required(layer, &["norm_size"])?;
        self.all_rows(chain, layer, size)?;
        if place == Place::Network {
            self.hand_on(chain);
        }
        let weights = self.take(layer, |own| [own.plain("gamma", "gamma", &[size])]);
        let epsilon = layer.float_or("epsilon", 1e-5);
        let node = Node::new("rms_norm", layer.span).with("norm_size", size).with_unless(1e-5, "epsilon", epsilon);
        chain.push_same(node.with_weights(weights));
        Ok(())
    }

    /// Model width and width between, 0 where they aren't given.
    pub(super) fn swiglu_sizes(&self, layer: &Layer) -> (u64, u64) {
        let size = |keys: [&'static str; 2]| layer.first_of(&keys).unwrap_or(0);
        (size(["input_height", "input_size"]), size(["output_height", "output_size"]))
    }

    pub(super) fn swiglu(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let (width, between) = self.swiglu_sizes(layer);
        self.required_sizes(layer, width, between)?;
        let real = self.taker.has(layer, "gate_weight");
        if !real {
            // The predecessor makes this of it where it reads a config, and of branches everywhere.
            self.quirk(layer, "is a dense layer with a leaky relu, as the predecessor reads it");
            return self.linear(chain, layer, [width, between], Activation::LeakyRelu);
        }
        if self.version.is_none() {
            let message = "has the weights of a real swiglu, so a program must have put it there by code: from a \
                config the predecessor makes a dense layer";
            self.ambiguity(layer, message);
        }
        self.all_rows(chain, layer, width)?;
        self.limited(layer, [vec![width, between], vec![chain.elements().checked_div(width).unwrap_or(0), between]])?;
        let weights = self.take(layer, |own| {
            [
                own.transposed("gate_weight", "gate_weight", between, width),
                own.transposed("up_weight", "up_weight", between, width),
                own.transposed("down_weight", "down_weight", width, between),
                own.plain("gate_bias", "gate_bias", &[between]),
                own.plain("up_bias", "up_bias", &[between]),
                own.plain("down_bias", "down_bias", &[width]),
            ]
        });
        chain.push_same(Node::new("swiglu", layer.span).with("intermediate_size", between).with_weights(weights));
        if place == Place::Network {
            self.add_skip(chain, layer);
            self.hand_on(chain);
        }
        Ok(())
    }

    pub(super) fn embedding(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let rows = self.required(layer, &["vocab_size"])?;
        let size = self.required(layer, &["embedding_dim"])?;
        let dims = [chain.dims.clone(), vec![size]].concat();
        self.limited(layer, [vec![rows, size], dims.clone()])?;
        // With the batch.
        if dims.len() >= limits::MAX_RANK {
            return Err(self.too_large(layer));
        }
        if self.version.is_some() {
            self.ambiguity(
                layer,
                "is saved in a bundle, where the predecessor can write an embedding but not read one",
            );
        }
        let weights = self.take(layer, |own| [own.plain("weight", "weight", &[rows, size])]);
        let node = Node::new("embedding", layer.span).with("vocab_size", rows).with("embedding_dim", size);
        chain.push(node.with_weights(weights), dims);
        Ok(())
    }

    pub(super) fn residual(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        if self.version.is_some() {
            self.ambiguity(layer, "is saved in a bundle, where the predecessor can write a residual but not read one");
        }
        self.quirk(layer, "adds nothing: the predecessor takes the maximum of 0 and 1.1 · x instead");
        chain.push_same(Node::new("relu", layer.span));
        chain.push_same(Node::scale(SCALED_RELU, None, layer.span));
        Ok(())
    }

    /// Whether the layers of a bundle know their heads.
    pub(super) fn heads_known(&self, place: Place) -> bool {
        self.version == Some(Version::One) && place != Place::Branch
    }

    /// Whether a branch of this type makes the predecessor give up on the whole layer.
    pub(super) fn no_branch(layer: &Layer) -> bool {
        layer.is(LayerType::Embedding) || layer.is(LayerType::Residual)
    }
}

/// A name in a message, not too long and without characters that would move a terminal's cursor.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}
