//! The tables, against each other and against the parser.

use std::collections::BTreeSet;

use super::{messages, with_layers};
use crate::config::schema::{self, Key, Named};
use crate::config::{ACTIVATIONS, LAYER_KEYS, LAYER_TYPES, NETWORK_KEYS};
use crate::config::{kmeans, parallel, softmax};

/// An object with these fixed pairs, and null for every key that they leave open.
fn all_null(fixed: &[(&str, &str)], keys: &[&[Key]]) -> (String, usize) {
    let open = keys.concat().into_iter().map(|key| key.name).filter(|key| fixed.iter().all(|(name, _)| name != key));
    let open = open.map(|key| format!(r#""{key}": null"#)).collect::<Vec<_>>();
    let count = open.len();
    let fixed = fixed.iter().map(|(key, value)| format!(r#""{key}": {value}"#));
    (format!("{{{}}}", fixed.chain(open).collect::<Vec<_>>().join(", ")), count)
}

/// Values that are of the right type for a key, and wrong, each with what is said of it.
fn wrong_values(key: Key) -> &'static [(&'static str, &'static str)] {
    const SIZE: &[(&str, &str)] = &[
        ("0", "must be at least 1, found 0"),
        ("-3", "must be at least 1, found -3"),
        ("18446744073709551616", "must be less than 2^64, found 18446744073709551616"),
        ("2.5", "expected an integer, found a number with a fraction"),
        ("1e2", "expected an integer, found a number with an exponent"),
    ];
    const COUNT: &[(&str, &str)] = &[("-1", "must be at least 0, found -1")];
    const SIGNED: &[(&str, &str)] = &[("9223372036854775808", "must be less than 2^63, found 9223372036854775808")];
    const POSITIVE: &[(&str, &str)] = &[
        ("-0.5", "must be more than 0, found -0.5"),
        ("1e-50", "must be within the range of a 32-bit float, found 1e-50"),
        ("1e39", "must be within the range of a 32-bit float, found 1e39"),
    ];
    const FLOAT: &[(&str, &str)] = &[("1e400", "must be within the range of a 64-bit float, found 1e400")];
    const BOOLEAN: &[(&str, &str)] = &[("1", "expected true or false, found a number")];
    const NAME: &[(&str, &str)] = &[("\"bogus\"", "unknown "), ("\"\"", "unknown ")];
    const LIST: &[(&str, &str)] = &[("[]", "expected at least 1 element, found 0")];
    const SHAPE: &[(&str, &str)] = &[("[]", "1 to 7 integers"), ("[1, 0]", "must be at least 1, found 0")];
    const LAYER: &[(&str, &str)] = &[("[]", "expected an object, found a list"), ("{}", " needs `type`")];
    const LAYERS: &[(&str, &str)] = &[("{}", "expected a list of layers, found an object")];
    match key.name {
        "input_size" | "output_size" | "width" | "height" | "input_height" | "output_height" | "input_width"
        | "output_width" | "input_length" | "input_channels" | "filters" | "kernel_size" | "stride" | "dilation"
        | "groups" | "group_size" | "norm_size" | "num_features" | "embedding_dim" | "intermediate_size"
        | "d_model" | "seq_length" | "num_heads" | "num_kv_heads" | "head_dim" | "sliding_window" | "kv_cache"
        | "hidden_size" | "num_clusters" | "softmax_rows" | "softmax_cols" | "filter_top_k" | "grid_output_rows"
        | "grid_output_cols" | "grid_output_layers" => SIZE,
        "end" => SIZE,
        "padding" | "cluster_dim" | "start" => COUNT,
        "shape" => SHAPE,
        "axis" | "start_axis" | "end_axis" => SIGNED,
        "vocab_size" => &[("0", "must be at least 1, found 0"), ("16777217", "must be at most 2^24, found 16777217")],
        "epsilon" | "temperature" | "filter_temperature" | "kmeans_temperature" | "kmeans_learning_rate" => POSITIVE,
        "input_zero_point" | "inner_zero_point" | "output_zero_point" => &[
            ("128", "must be at most 127, found 128"),
            ("-129", "must be at least -128, found -129"),
            ("0.5", "expected an integer, found a number with a fraction"),
        ],
        "input_scale" | "inner_scale" | "output_scale" => &[
            ("0", "must be more than 0, found 0"),
            ("-0.5", "must be more than 0, found -0.5"),
            ("1e-50", "must be within the range of a 32-bit float, found 1e-50"),
            ("1e39", "must be within the range of a 32-bit float, found 1e39"),
        ],
        "rate" => &[("1", "must be at least 0 and less than 1, found 1")],
        "entmax_alpha" => &[("1", "must be more than 1 and at most 2, found 1")],
        "rope_freq_base" => &[("0.5", "must be at least 1 and at most 10^12, found 0.5")],
        "alpha" | "negative_slope" | "factor" | "offset" => FLOAT,
        "bias" | "output_bias" | "causal" | "rope" | "bidirectional" | "return_sequences" | "count_include_pad"
        | "gumbel_noise" | "output_projection" => BOOLEAN,
        "activation" | "softmax_variant" | "combine_mode" | "kmeans_output_mode" | "distance_metric" | "biases"
        | "initial_state" | "filter_softmax" | "approximate" | "norm" => NAME,
        "attention_mask" | "mask" | "hierarchy_levels" | "adaptive_clusters" | "mixture_weights" => LIST,
        "grid_positions" => &[("{}", "expected a list of positions, found an object")],
        "from" => &[("0", "must be at least 1, found 0"), ("\"\"", " is empty")],
        "attached_layer" | "filter_gate" => LAYER,
        "branches" | "layers" => LAYERS,
        other => panic!("no value for `{other}` is known to be wrong: add one, and the layer's rule to its page"),
    }
}

/// Each wrong value for each key is refused, with the key's path and its rule.
fn assert_all_checked(fixed: &str, keys: &[Key]) {
    for &key in keys {
        for (value, rule) in wrong_values(key) {
            let messages = messages(&with_layers(&format!(r#"{{{fixed}, "{}": {value}}}"#, key.name)));
            // A name is told itself, a layer inside has a path of its own.
            let path = if *rule == "unknown " { value.replace('"', "`") } else { format!("layers.0.{}", key.name) };
            let told = messages.iter().filter(|message| message.contains(&path) && message.contains(rule)).count();
            assert_eq!(told, 1, "`{}`: {value} with {fixed}: {messages:#?}", key.name);
        }
    }
}

#[test]
fn every_option_is_checked() {
    for row in LAYER_TYPES {
        assert_all_checked(&format!(r#""type": "{}""#, row.name), row.keys);
    }
    for row in softmax::VARIANTS {
        assert_all_checked(&format!(r#""type": "softmax", "softmax_variant": "{}""#, row.name), row.keys);
    }
    for row in parallel::MODES {
        let branches = r#""branches": [{"type": "flatten"}]"#;
        // What a scatter needs before its other keys are looked at.
        let more = if row.name == "grid_scatter" { r#", "grid_positions": []"# } else { "" };
        let keys: Vec<Key> =
            row.keys.iter().copied().filter(|key| more.is_empty() || key.name != "grid_positions").collect();
        assert_all_checked(&format!(r#""type": "parallel", {branches}, "combine_mode": "{}"{more}"#, row.name), &keys);
    }
    let scatter = r#""type": "parallel", "branches": [{"type": "flatten"}], "combine_mode": "grid_scatter""#;
    assert_all_checked(scatter, &[schema::GRID_POSITIONS]);
    for row in ACTIVATIONS {
        assert_all_checked(&format!(r#""type": "{}""#, row.name), row.keys);
    }
}

/// Every key in the tables is read: null is wrong for each.
#[track_caller]
fn assert_all_read((object, count): (String, usize), wrap: fn(&str) -> String) {
    let messages = messages(&wrap(&object));
    let wrong = messages.iter().filter(|message| message.ends_with("found null")).count();
    assert_eq!((wrong, messages.len()), (count, count), "{object}\n{messages:#?}");
}

#[test]
fn every_layer_key_is_read() {
    let lists = ["sequential", "parallel"];
    for row in LAYER_TYPES.iter().filter(|row| !lists.contains(&row.name)) {
        let fixed = [("type", format!("\"{}\"", row.name))];
        let fixed = fixed.each_ref().map(|(key, value)| (*key, value.as_str()));
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    for (layer, key) in lists.into_iter().flat_map(|layer| [(layer, "branches"), (layer, "layers")]) {
        let message = format!("`layers.0.{key}`: expected a list of layers, found null");
        assert_eq!(messages(&with_layers(&format!(r#"{{"type": "{layer}", "{key}": null}}"#))), [message]);
    }
}

#[test]
fn every_variant_key_is_read() {
    for row in softmax::VARIANTS {
        let name = format!("\"{}\"", row.name);
        let fixed = [("type", "\"softmax\""), ("softmax_variant", &name)];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    for row in parallel::MODES {
        let name = format!("\"{}\"", row.name);
        let branches = r#"[{"type": "flatten"}]"#;
        let fixed = [("type", "\"parallel\""), ("combine_mode", &name), ("branches", branches)];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    let position = all_null(&[], &[schema::POSITION_KEYS]);
    let scatter = |object: &str| {
        with_layers(&format!(
            r#"{{"type": "parallel", "branches": [], "combine_mode": "grid_scatter", "grid_output_rows": 1,
            "grid_output_cols": 1, "grid_positions": [{object}]}}"#
        ))
    };
    let messages = messages(&scatter(&position.0));
    let nulls = messages.iter().filter(|message| message.ends_with("found null")).count();
    assert_eq!(nulls, position.1, "{messages:#?}");
}

#[test]
fn every_activation_key_is_read() {
    for row in ACTIVATIONS {
        let name = format!("\"{}\"", row.name);
        let fixed = [("type", "\"dense\""), ("activation", &name), ("output_size", "1")];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
}

#[test]
fn every_network_key_is_read() {
    let fixed = [("dialect", "\"loom\"")];
    assert_all_read(all_null(&fixed, &[NETWORK_KEYS]), str::to_owned);
    assert_eq!(messages(r#"{"dialect": null}"#), ["`dialect`: expected a string, found null"]);
}

#[test]
fn names_are_unique() {
    let unique = |names: Vec<&str>| {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    };
    // softmax is both a layer and an activation.
    unique(schema::all_layer_names().filter(|&name| name != "softmax").collect());
    unique(schema::all_activation_names().collect());
    fn spellings<T>(rows: &[Named<T>]) -> Vec<&'static str> {
        rows.iter().flat_map(Named::spellings).collect()
    }
    unique(spellings(softmax::VARIANTS));
    unique(spellings(softmax::GATE_VARIANTS));
    unique(spellings(parallel::MODES));
    unique(spellings(kmeans::OUTPUTS));
    unique(spellings(kmeans::METRICS));
    unique(NETWORK_KEYS.iter().map(|key| key.name).collect());
    for row in LAYER_TYPES {
        unique([LAYER_KEYS, row.keys].concat().iter().map(|key| key.name).collect());
    }
}

#[test]
fn choices_do_not_meet_the_keys_beside_them() {
    for row in LAYER_TYPES.iter().filter(|row| row.keys.contains(&schema::ACTIVATION)) {
        assert!(ACTIVATIONS.iter().flat_map(|activation| activation.keys).all(|key| !row.keys.contains(key)));
    }
}

#[test]
fn the_default_activation_is_in_its_table() {
    assert_eq!(schema::activation_type("relu").map(|row| row.name), Some(schema::RELU.name));
}
