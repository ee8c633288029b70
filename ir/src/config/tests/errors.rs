//! Errors together: all of a file's, in its order, and the unsupported layers as one.

use super::{SUPPORTED, messages, with_layers, wrong};
use crate::config::{ConfigError, parse};

#[test]
fn everything_wrong_is_said_once_and_in_order() {
    let source = r#"{
        "batch_size": 0,
        "layers": [
            {"output_size": 3},
            {"type": "lstm", "hidden_size": 3},
            {"type": "dense", "output_size": -1, "actvation": "relu"},
            {"type": "dense", "output_size": 1, "activation": "rleu"}
        ],
        "sede": 4,
        "grid_rows": 3
    }"#;
    assert_eq!(
        messages(source),
        [
            "`batch_size` must be at least 1, found 0",
            "layers.0 needs `type`",
            "a layer is not supported yet: layers.1 `lstm`",
            "`layers.2.output_size` must be at least 1, found -1",
            "layers.2 (`dense`) has no key `actvation`",
            "unknown activation `rleu`",
            "the network has no key `sede`",
            "`grid_rows` is 3, which doesn't divide the network's 4 layers",
        ]
    );
}

#[test]
fn unsupported_layers_are_one_error() {
    let source = with_layers(
        r#"{"type": "lstm", "input_size": 3, "whatever": 1},
           {"type": "sequential", "branches": [{"type": "flatten"}, {"type": "rnn"}]},
           {"type": "parallel", "combine_mode": "add", "branches": [{"type": "gru"}, {"type": "relu"}]}"#,
    );
    assert_eq!(
        wrong(&source),
        format!(
            "3 layers are not supported yet: layers.0 `lstm`, layers.1.branches.1 `rnn`, layers.2.branches.0 `gru`\n  \
             \"lstm\" <- layers.0\n  \"rnn\" <- layers.1.branches.1\n  \"gru\" <- layers.2.branches.0\n  \
             help: supported: {SUPPORTED}\n"
        )
    );
}

#[test]
fn unsupported_layers_stand_apart_from_unknown_ones() {
    for name in ["rnn", "lstm", "gru"] {
        assert_eq!(
            messages(&with_layers(&format!(r#"{{"type": "{name}", "branches": 3}}"#))),
            [format!("a layer is not supported yet: layers.0 `{name}`")]
        );
    }
    assert_eq!(
        messages(&with_layers(r#"{"type": "nosuch", "branches": [{"type": "rnn"}]}"#)),
        ["unknown layer type `nosuch`", "a layer is not supported yet: layers.0.branches.0 `rnn`"]
    );
}

#[test]
fn many_unsupported_layers() {
    let errors = parse(&with_layers(&vec![r#"{"type": "rnn"}"#; 40].join(", "))).unwrap_err();
    let error = errors.iter().next().unwrap();
    let ConfigError::UnsupportedLayers { layers } = error else { panic!("{error}") };
    assert_eq!(layers.len(), 40);
    assert!(error.to_string().starts_with("40 layers are not supported yet: layers.0 `rnn`, layers.1 `rnn`, "));
    assert!(error.to_string().ends_with("layers.31 `rnn` and 8 more"));
    assert_eq!(error.diagnostic().secondary.len(), 39);
}

#[test]
fn unsupported_layers_are_shown_past_the_limit() {
    let zeros = vec![r#"{"type": "dense", "output_size": 0}"#; 150].join(", ");
    let errors = parse(&with_layers(&format!(r#"{zeros}, {{"type": "rnn"}}"#))).unwrap_err();
    assert!(errors.iter().any(|error| matches!(error, ConfigError::UnsupportedLayers { .. })));
    assert_eq!(errors.left_out(), 50);
}

#[test]
fn the_text_of_all_errors() {
    let errors = parse(r#"{"layers": [{"type": "dense"}], "seed": -1}"#).unwrap_err();
    assert_eq!(errors.to_string(), "layers.0 (`dense`) needs `output_size`\n`seed` must be at least 0, found -1");
    assert_eq!(errors.into_iter().count(), 2);
}
