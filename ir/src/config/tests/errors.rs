//! Errors together: all of a file's, in its order.

use super::{messages, with_layers};
use crate::config::parse;

#[test]
fn everything_wrong_is_said_once_and_in_order() {
    let source = r#"{
        "batch_size": 0,
        "layers": [
            {"output_size": 3},
            {"type": "lstm", "input_size": 3},
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
            "layers.1 (`lstm`) needs `hidden_size`",
            "`layers.2.output_size` must be at least 1, found -1",
            "layers.2 (`dense`) has no key `actvation`",
            "unknown activation `rleu`",
            "the network has no key `sede`",
            "`grid_rows` is 3, which doesn't divide the network's 4 layers",
        ]
    );
}

#[test]
fn a_layer_of_an_unknown_type_is_looked_into() {
    assert_eq!(
        messages(&with_layers(r#"{"type": "nosuch", "branches": [{"type": "rnn"}]}"#)),
        ["unknown layer type `nosuch`", "layers.0.branches.0 (`rnn`) needs `hidden_size`"]
    );
}

#[test]
fn the_text_of_all_errors() {
    let errors = parse(r#"{"layers": [{"type": "dense"}], "seed": -1}"#).unwrap_err();
    assert_eq!(errors.to_string(), "layers.0 (`dense`) needs `output_size`\n`seed` must be at least 0, found -1");
    assert_eq!(errors.into_iter().count(), 2);
}
