//! What layers the tensors of a weights file look like.
//!
//! Names and shapes of Loom, PyTorch and Hugging Face say what most layers are, but not what has no weights: activations,
//! pooling, how layers follow one another, how many heads attention has. So this is a suggestion to begin from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A layer that some tensors may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// What the tensors' names begin with.
    pub prefix: String,
    /// The layer as a config has it, with what its weights tell.
    pub layer: Value,
    /// What they don't tell.
    pub unknown: Option<&'static str>,
}

/// Tensors by the rest of their names, with their shapes.
type Roles<'a> = BTreeMap<&'a str, &'a [u64]>;

/// The layers of a file, in the order of their names, numbers as numbers.
pub fn suggest(tensors: &[(&str, &[u64])]) -> Vec<Suggestion> {
    let mut groups: BTreeMap<Vec<Part<'_>>, (&str, Roles<'_>)> = BTreeMap::new();
    for &(name, shape) in tensors {
        let (prefix, role) = split(name);
        let (_, roles) = groups.entry(natural(prefix)).or_insert_with(|| (prefix, Roles::new()));
        roles.insert(role, shape);
    }
    let found = groups.into_values().filter_map(|(prefix, roles)| {
        let (layer, unknown) = layer(prefix, &roles)?;
        Some(Suggestion { prefix: prefix.to_string(), layer, unknown })
    });
    found.collect()
}

/// A name in pieces, so that `layers.10` follows `layers.9`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64),
    Word(&'a str),
}

fn natural(name: &str) -> Vec<Part<'_>> {
    name.split('.').map(|word| word.parse().map_or(Part::Word(word), Part::Number)).collect()
}

/// Words that name a part of a layer rather than a layer: the projections of attention and of gated blocks.
const PARTS: [&str; 20] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "out_proj",
    "query",
    "key",
    "value",
    "wq",
    "wk",
    "wv",
    "wo",
    "gate_proj",
    "up_proj",
    "down_proj",
    "w1",
    "w2",
    "w3",
    "q_norm",
    "k_norm",
];

/// The layer's name and the tensor's role in it.
fn split(name: &str) -> (&str, &str) {
    let Some((prefix, _)) = name.rsplit_once('.') else { return ("", name) };
    let part = prefix.rsplit('.').next().unwrap_or(prefix);
    let prefix = if PARTS.contains(&part) { prefix.strip_suffix(part).unwrap_or(prefix) } else { prefix };
    let prefix = prefix.trim_end_matches('.');
    (prefix, name.get(prefix.len()..).unwrap_or(name).trim_start_matches('.'))
}

fn layer(prefix: &str, roles: &Roles<'_>) -> Option<(Value, Option<&'static str>)> {
    attention(roles).or_else(|| swiglu(roles)).or_else(|| recurrent(roles)).or_else(|| simple(prefix, roles))
}

/// The first of these that there is.
fn any<'a>(roles: &Roles<'a>, names: &[&str]) -> Option<&'a [u64]> {
    names.iter().find_map(|name| roles.get(name).copied())
}

fn attention(roles: &Roles<'_>) -> Option<(Value, Option<&'static str>)> {
    let q = any(roles, &["q_weight", "q_proj.weight", "query.weight", "wq.weight"]);
    let k = any(roles, &["k_weight", "k_proj.weight", "key.weight", "wk.weight"]);
    let unknown = Some("the number of heads; whether it is causal, and whether positions are rotated");
    let biased = any(roles, &["q_bias", "q_proj.bias", "query.bias", "wq.bias", "in_proj_bias"]).is_some();
    if let (Some(&[rows, size]), Some(&[kv_rows, _])) = (q, k) {
        let mut layer = json!({"type": "multi_head_attention", "d_model": size, "bias": biased});
        if kv_rows < rows && kv_rows > 0 {
            layer["num_kv_heads"] = format!("num_heads / {}", rows / kv_rows).into();
        }
        return Some((layer, unknown));
    }
    match any(roles, &["in_proj_weight"]) {
        Some(&[rows, size]) if rows == 3 * size => {
            Some((json!({"type": "multi_head_attention", "d_model": size, "bias": biased}), unknown))
        }
        _ => None,
    }
}

fn swiglu(roles: &Roles<'_>) -> Option<(Value, Option<&'static str>)> {
    let &[between, size] = any(roles, &["gate_weight", "gate_proj.weight", "w1.weight"])? else { return None };
    let up = any(roles, &["up_weight", "up_proj.weight", "w3.weight"])?;
    let bias = any(roles, &["gate_bias", "gate_proj.bias", "w1.bias"]).is_some();
    let layer = json!({"type": "swiglu", "input_size": size, "intermediate_size": between, "bias": bias});
    (up == [between, size]).then_some((layer, None))
}

fn recurrent(roles: &Roles<'_>) -> Option<(Value, Option<&'static str>)> {
    let &[rows, input] = any(roles, &["weight_ih", "weight_ih_l0", "forward.weight_ih"])? else { return None };
    let &[_, hidden] = any(roles, &["weight_hh", "weight_hh_l0", "forward.weight_hh"])? else { return None };
    let cell = match rows.checked_div(hidden)? {
        1 => "rnn",
        3 => "gru",
        4 => "lstm",
        _ => return None,
    };
    let mut layer = json!({"type": cell, "input_size": input, "hidden_size": hidden});
    if roles.keys().any(|role| role.contains("reverse")) {
        layer["bidirectional"] = true.into();
    }
    if any(roles, &["bias"]).is_some() {
        layer["biases"] = "single".into();
    }
    let more = any(roles, &["weight_ih_l1"]).is_some();
    Some((layer, more.then_some("PyTorch's further layers l1 …: each is a layer of its own here")))
}

fn simple(prefix: &str, roles: &Roles<'_>) -> Option<(Value, Option<&'static str>)> {
    if let Some(&[clusters, size]) = any(roles, &["cluster_centers"]) {
        return Some((json!({"type": "kmeans", "num_clusters": clusters, "cluster_dim": size}), None));
    }
    let weight = any(roles, &["weight", "gamma"])?;
    let bias = any(roles, &["bias", "beta"]).is_some();
    let activation = Some("its activation");
    match *weight {
        [channels] if any(roles, &["running_mean"]).is_some() => {
            Some((json!({"type": "batch_norm", "num_features": channels}), None))
        }
        [size] => {
            let kind = if bias { "layer_norm" } else { "rms_norm" };
            Some((json!({"type": kind, "norm_size": size}), Some("its epsilon")))
        }
        [rows, size] => {
            let name = prefix.rsplit('.').next().unwrap_or(prefix);
            let named = ["emb", "wte", "wpe", "tok", "lookup"].iter().any(|word| name.contains(word));
            if !bias && named {
                return Some((json!({"type": "embedding", "vocab_size": rows, "embedding_dim": size}), None));
            }
            // A table of many short rows without a bias may be either.
            let unknown = if !bias && rows > 4 * size { Some("whether it is an embedding") } else { activation };
            Some((json!({"type": "dense", "input_size": size, "output_size": rows, "bias": bias}), unknown))
        }
        [filters, channels, length] => Some((
            json!({"type": "conv1d", "filters": filters, "input_channels": channels, "kernel_size": length, "bias": bias}),
            Some("its activation, stride, padding and groups"),
        )),
        [filters, channels, height, width] => {
            let kernel = if height == width { json!(height) } else { json!([height, width]) };
            let layer = json!({"type": "conv2d", "filters": filters, "input_channels": channels, "kernel_size": kernel, "bias": bias});
            Some((layer, Some("its activation, stride, padding and groups")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(tensors: &[(&str, &[u64])]) -> Vec<(String, String)> {
        suggest(tensors)
            .into_iter()
            .map(|found| (found.prefix, found.layer["type"].as_str().unwrap_or_default().to_string()))
            .collect()
    }

    fn expect(tensors: &[(&str, &[u64])], expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(prefix, kind)| ((*prefix).to_string(), (*kind).to_string())).collect();
        assert_eq!(kinds(tensors), expected);
    }

    #[test]
    fn names_of_loom_and_pytorch() {
        expect(
            &[
                ("layers.10.weight", &[10, 64]),
                ("layers.10.bias", &[10]),
                ("layers.9.gamma", &[64]),
                ("layers.0.weight", &[8, 1, 5, 5]),
                ("layers.0.bias", &[8]),
                ("layers.1.weight", &[8, 4, 3]),
                ("layers.2.weight_ih", &[12, 5]),
                ("layers.2.weight_hh", &[12, 3]),
                ("layers.3.cluster_centers", &[4, 3]),
                ("rnn.weight_ih_l0", &[9, 5]),
                ("rnn.weight_hh_l0", &[9, 3]),
                ("bn.weight", &[7]),
                ("bn.bias", &[7]),
                ("bn.running_mean", &[7]),
                ("bn.num_batches_tracked", &[]),
                ("attn.in_proj_weight", &[24, 8]),
                ("attn.out_proj.weight", &[8, 8]),
            ],
            &[
                ("attn", "multi_head_attention"),
                ("bn", "batch_norm"),
                ("layers.0", "conv2d"),
                ("layers.1", "conv1d"),
                ("layers.2", "lstm"),
                ("layers.3", "kmeans"),
                ("layers.9", "rms_norm"),
                ("layers.10", "dense"),
                ("rnn", "gru"),
            ],
        );
    }

    #[test]
    fn names_of_hugging_face() {
        let tensors: &[(&str, &[u64])] = &[
            ("model.embed_tokens.weight", &[1000, 64]),
            ("model.layers.0.input_layernorm.weight", &[64]),
            ("model.layers.0.self_attn.q_proj.weight", &[64, 64]),
            ("model.layers.0.self_attn.k_proj.weight", &[16, 64]),
            ("model.layers.0.self_attn.v_proj.weight", &[16, 64]),
            ("model.layers.0.self_attn.o_proj.weight", &[64, 64]),
            ("model.layers.0.mlp.gate_proj.weight", &[128, 64]),
            ("model.layers.0.mlp.up_proj.weight", &[128, 64]),
            ("model.layers.0.mlp.down_proj.weight", &[64, 128]),
            ("lm_head.weight", &[1000, 64]),
        ];
        expect(
            tensors,
            &[
                ("lm_head", "dense"),
                ("model.embed_tokens", "embedding"),
                ("model.layers.0.input_layernorm", "rms_norm"),
                ("model.layers.0.mlp", "swiglu"),
                ("model.layers.0.self_attn", "multi_head_attention"),
            ],
        );
        let attention = &suggest(tensors)[4].layer;
        assert_eq!(attention["num_kv_heads"], "num_heads / 4");
        let bert: &[(&str, &[u64])] = &[
            ("encoder.layer.0.attention.self.query.weight", &[12, 12]),
            ("encoder.layer.0.attention.self.query.bias", &[12]),
            ("encoder.layer.0.attention.self.key.weight", &[12, 12]),
            ("encoder.layer.0.attention.self.value.weight", &[12, 12]),
        ];
        assert_eq!(suggest(bert)[0].layer, json!({"type": "multi_head_attention", "d_model": 12, "bias": true}));
    }

    #[test]
    fn strange_files_give_nothing() {
        expect(&[("", &[]), (".", &[1]), ("a", &[2, 2]), ("x.weight", &[1, 2, 3, 4, 5])], &[]);
        expect(&[("r.weight_ih", &[5, 0]), ("r.weight_hh", &[5, 0])], &[]);
    }
}
