//! Random network configs: every layer type and option of this release, sizes that are small and odd.

mod composite;
mod elements;
mod sequence;
mod softmax;

use loom_ir::config::LAYER_TYPES;

use crate::values::Random;

/// Options that a generated network is drawn from.
const ACTIVATIONS: [&str; 12] = [
    r#""linear""#,
    r#""relu""#,
    r#""sigmoid""#,
    r#""tanh""#,
    r#""softmax""#,
    r#""gelu""#,
    r#""swish""#,
    r#""mish""#,
    r#""leaky_relu", "negative_slope": 0.1"#,
    r#""elu", "alpha": 0.7"#,
    r#""selu""#,
    r#""softplus""#,
];

/// A config with up to `depth` layers, from a seed. The batch size is given, so that tests can change it alone.
pub fn random_network(seed: u64, depth: u64, batch_size: u64) -> String {
    let mut g = Generator { random: Random(seed), shape: Vec::new(), entered: Vec::new() };
    let rank = 1 + g.random.below(3);
    g.shape = (0..rank).map(|axis| 1 + g.random.below(if axis == 0 && rank > 1 { 4 } else { 11 })).collect();
    let input_shape = format!("{:?}", g.shape);
    let count = 1 + g.random.below(depth);
    let mut layers = Vec::new();
    if rank < 3 && g.random.below(8) == 0 {
        layers.push(g.embedding());
    }
    layers.extend((0..count).map(|_| g.layer(2)));
    let layers = layers.join(",\n    ");
    let dtype = match g.random.below(6) {
        0 => format!("\"dtype\": {}, ", g.dtype()),
        _ => String::new(),
    };
    format!(
        "{{\n  {dtype}\"batch_size\": {batch_size}, \"seed\": {seed}, \"input_shape\": {input_shape},\n  \"layers\": [\n    {layers}\n  ]\n}}\n"
    )
}

struct Generator {
    random: Random,
    /// The shape of a sample so far.
    shape: Vec<u64>,
    /// The shapes that entered the layers of the list at hand.
    entered: Vec<Vec<u64>>,
}

impl Generator {
    fn layer(&mut self, nesting: u64) -> String {
        let entered = self.shape.clone();
        let text = self.any_layer(nesting);
        self.entered.push(entered);
        let mut keys = match self.random.below(8) {
            0 => self.number_format(&text),
            _ => String::new(),
        };
        if self.random.below(12) == 0 {
            keys += &self.coding("output");
        }
        text.replacen('{', &format!("{{{keys}"), 1)
    }

    /// The keys of a number format that the layer can have, and of its integers.
    fn number_format(&mut self, layer: &str) -> String {
        let type_name = layer.split('"').nth(3).unwrap_or_default();
        let has = |name: &str| {
            let row = LAYER_TYPES.iter().find(|row| row.name == type_name);
            row.is_some_and(|row| row.keys.iter().any(|key| key.name == name))
        };
        let integers = has("input_scale") || has("branches");
        let mut keys = loop {
            let dtype = self.dtype();
            if integers || !dtype.starts_with("\"int") {
                break format!("\"dtype\": {dtype}, ");
            }
        };
        if has("group_size") && self.random.below(2) == 0 {
            // A channel of a convolution has up to 9 weights, which share a scale.
            let least = if has("kernel_size") { 9 } else { 1 };
            keys += &format!("\"group_size\": {}, ", least + self.random.below(9));
        }
        for value in ["input", "inner"].into_iter().filter(|value| has(&format!("{value}_scale"))) {
            if self.random.below(3) == 0 {
                keys += &self.coding(value);
            }
        }
        keys
    }

    /// The keys of a value's codes.
    fn coding(&mut self, value: &str) -> String {
        let mut keys = format!("\"{value}_scale\": 0.0{}, ", 1 + self.random.below(99));
        if self.random.below(2) == 0 {
            keys += &format!("\"{value}_zero_point\": {}, ", self.random.below(256) as i64 - 128);
        }
        keys
    }

    fn any_layer(&mut self, nesting: u64) -> String {
        loop {
            let made = match self.random.below(25) {
                0 | 1 => Some(self.dense()),
                2 | 3 => self.convolution(),
                4 | 5 => self.pooling(),
                6 => Some(self.flatten()),
                7 | 8 => Some(self.softmax()),
                9 => Some(self.norm()),
                10 => self.residual(),
                11 => Some(r#"{"type": "batch_norm", "epsilon": 0.01}"#.to_string()),
                12 => self.global_pooling(),
                13 => Some(r#"{"type": "dropout", "rate": 0.25}"#.to_string()),
                14 => Some(self.map()),
                15 if nesting > 0 => Some(self.sequential(nesting - 1)),
                16 | 17 if nesting > 0 => Some(self.parallel(nesting - 1)),
                18 if nesting > 0 => Some(self.kmeans(nesting - 1)),
                19 => self.attention(),
                20 | 21 => Some(self.recurrent()),
                22 | 23 => self.elementwise(),
                _ => Some(format!(r#"{{"type": "activation", "activation": {}}}"#, self.activation())),
            };
            if let Some(text) = made {
                return text;
            }
        }
    }

    fn dtype(&mut self) -> &'static str {
        const ALL: [&str; 7] =
            ["\"float32\"", "\"float16\"", "\"bfloat16\"", "\"float8\"", "\"float4\"", "\"int8\"", "\"int4\""];
        ALL[self.random.below(ALL.len() as u64) as usize]
    }

    fn embedding(&mut self) -> String {
        let (rows, size) = (1 + self.random.below(9), 1 + self.random.below(6));
        self.entered.push(self.shape.clone());
        self.shape.push(size);
        format!(r#"{{"type": "embedding", "vocab_size": {rows}, "embedding_dim": {size}}}"#)
    }

    fn activation(&mut self) -> &'static str {
        ACTIVATIONS[self.random.below(ACTIVATIONS.len() as u64) as usize]
    }

    fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    fn dense(&mut self) -> String {
        let size = 1 + self.random.below(19);
        // Rank 3 samples come from images: the dense layer flattens what a convolution gave, so say it outright.
        let flatten = self.shape.len() > 1;
        let prefix = if flatten { r#"{"type": "flatten"}, "# } else { "" };
        self.shape = vec![size];
        let activation = self.activation();
        let bias = self.random.below(4) > 0;
        let dense =
            format!(r#"{{"type": "dense", "output_size": {size}, "bias": {bias}, "activation": {activation}}}"#);
        if flatten { format!(r#"{{"type": "sequential", "branches": [{prefix}{dense}]}}"#) } else { dense }
    }

    fn convolution(&mut self) -> Option<String> {
        let spatial = self.shape.len().checked_sub(1).filter(|&spatial| spatial > 0)?;
        let channels = self.shape[0];
        let groups = if channels.is_multiple_of(2) && self.random.below(3) == 0 { 2 } else { 1 };
        let filters = groups * (1 + self.random.below(4));
        let (kernel, stride) = (1 + self.random.below(3), 1 + self.random.below(2));
        let (padding, dilation) = (self.random.below(3), 1 + self.random.below(2));
        let reach = dilation * (kernel - 1) + 1;
        let mut shape = vec![filters];
        for &extent in &self.shape[1..] {
            shape.push((extent + 2 * padding).checked_sub(reach)? / stride + 1);
        }
        self.shape = shape;
        let (activation, bias) = (self.activation(), self.random.below(4) > 0);
        Some(format!(
            r#"{{"type": "conv{spatial}d", "filters": {filters}, "kernel_size": {kernel}, "stride": {stride}, "padding": {padding}, "dilation": {dilation}, "groups": {groups}, "bias": {bias}, "activation": {activation}}}"#
        ))
    }

    fn pooling(&mut self) -> Option<String> {
        let spatial = self.shape.len().checked_sub(1).filter(|&spatial| spatial > 0)?;
        let kernel = 1 + self.random.below(3);
        let (stride, padding) = (1 + self.random.below(3), self.random.below(kernel / 2 + 1));
        let dilation = 1 + self.random.below(2);
        let (kind, reach, more) = match self.random.below(3) {
            0 => ("max", dilation * (kernel - 1) + 1, format!(r#", "dilation": {dilation}"#)),
            1 => ("avg", kernel, String::new()),
            _ => ("avg", kernel, r#", "count_include_pad": false"#.to_string()),
        };
        let mut shape = vec![self.shape[0]];
        for &extent in &self.shape[1..] {
            shape.push((extent + 2 * padding).checked_sub(reach)? / stride + 1);
        }
        self.shape = shape;
        Some(format!(
            r#"{{"type": "{kind}_pool{spatial}d", "kernel_size": {kernel}, "stride": {stride}, "padding": {padding}{more}}}"#
        ))
    }

    fn global_pooling(&mut self) -> Option<String> {
        if self.shape.len() < 2 {
            return None;
        }
        self.shape.truncate(1);
        Some(format!(r#"{{"type": "global_{}_pool"}}"#, ["max", "avg"][self.random.below(2) as usize]))
    }

    fn flatten(&mut self) -> String {
        if self.shape.len() < 3 || self.random.below(2) == 0 {
            self.shape = vec![self.elements()];
            return r#"{"type": "flatten"}"#.to_string();
        }
        let product = self.shape.drain(1..).product();
        self.shape.push(product);
        r#"{"type": "flatten", "start_axis": 1}"#.to_string()
    }

    /// A map of the last axis that sees no feature map.
    fn map(&mut self) -> String {
        let flatten = if self.shape.len() > 1 { r#"{"type": "flatten"}, "# } else { "" };
        self.shape = vec![self.elements()];
        let (size, bias) = (1 + self.random.below(9), self.random.below(3) > 0);
        let map = if self.random.below(2) == 0 {
            format!(r#"{{"type": "swiglu", "intermediate_size": {size}, "bias": {bias}}}"#)
        } else {
            self.shape = vec![size];
            format!(r#"{{"type": "stitch", "output_size": {size}, "bias": {bias}}}"#)
        };
        format!(r#"{{"type": "sequential", "branches": [{flatten}{map}]}}"#)
    }

    fn norm(&mut self) -> String {
        let kind = ["layer_norm", "rms_norm"][self.random.below(2) as usize];
        format!(r#"{{"type": "{kind}", "epsilon": 0.001}}"#)
    }

    fn residual(&mut self) -> Option<String> {
        let fitting: Vec<usize> = (0..self.entered.len()).filter(|&index| self.entered[index] == self.shape).collect();
        let index = *fitting.get(self.random.below(fitting.len().max(1) as u64) as usize)?;
        Some(format!(r#"{{"type": "residual", "from": {}}}"#, self.entered.len() - index))
    }

    fn sequential(&mut self, nesting: u64) -> String {
        let outer = std::mem::take(&mut self.entered);
        let count = self.random.below(3);
        let layers: Vec<String> = (0..count).map(|_| self.layer(nesting)).collect();
        self.entered = outer;
        format!(r#"{{"type": "sequential", "branches": [{}]}}"#, layers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use loom_ir::config::{ACTIVATIONS, LAYER_TYPES};

    use super::random_network;

    /// What a network says in another way, or not at all, because the shape tells it; and `kv_cache`, which all of a
    /// network's attention layers have or none, and `tests/decoding.rs` is about.
    const NOT_DRAWN: [&str; 19] = [
        "kv_cache",
        "width",
        "height",
        "input_height",
        "output_height",
        "input_width",
        "output_width",
        "input_channels",
        "input_length",
        "d_model",
        "norm_size",
        "num_features",
        "cluster_dim",
        "kmeans_learning_rate",
        "end_axis",
        "layers",
        "name",
        "output_size",
        "input_size",
    ];

    #[test]
    fn every_layer_and_option_occurs() {
        let networks: String = (0..600).map(|seed| random_network(seed, 5, 2)).collect();
        for row in LAYER_TYPES {
            assert!(networks.contains(&format!(r#""type": "{}""#, row.name)), "no {}", row.name);
            for key in row.keys.iter().filter(|key| !NOT_DRAWN.contains(&key.name)) {
                assert!(networks.contains(&format!(r#""{}""#, key.name)), "no {} in a {}", key.name, row.name);
            }
        }
        for row in ACTIVATIONS {
            assert!(networks.contains(&format!(r#""activation": "{}""#, row.name)), "no {}", row.name);
        }
        let words = [
            "squared_euclidean",
            "euclidean",
            "manhattan",
            "cosine",
            "features",
            "probabilities",
            "standard",
            "sparse",
            "entmax",
            "add",
            "multiply",
            "average",
            "concat",
            "grid_scatter",
            "filter",
            "both",
            "single",
            "none",
            "zeros",
            "learned",
        ];
        for word in words {
            assert!(networks.contains(&format!(r#""{word}""#)), "no {word}");
        }
        assert!(networks.contains(r#""attached_layer": {"type": "kmeans""#));
    }
}
