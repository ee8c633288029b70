//! Activations: as a key, as a layer, as a layer's type.

use super::{assert_wrong, kind, messages, with_layers};
use crate::config::{ACTIVATIONS, Activation, GeluApproximation, LayerKind};

const GELU: Activation = Activation::Gelu { approximate: GeluApproximation::None };

/// Every spelling, and what it is without further keys.
const ALL: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softmax", Activation::Softmax),
    ("gelu", GELU),
    ("swish", Activation::Swish),
    ("silu", Activation::Swish),
    ("mish", Activation::Mish),
    ("leaky_relu", Activation::LeakyRelu { negative_slope: 0.01 }),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("selu", Activation::Selu),
    ("softplus", Activation::Softplus),
    ("linear", Activation::Linear),
];

#[test]
fn all_are_listed() {
    let spellings = ACTIVATIONS.iter().map(|row| 1 + row.aliases.len()).sum::<usize>();
    assert_eq!(ALL.len(), spellings);
}

#[test]
fn as_a_key() {
    for &(name, activation) in ALL {
        let LayerKind::Dense(dense) = kind(&format!(r#"{{"type": "dense", "height": 1, "activation": "{name}"}}"#))
        else {
            panic!("another layer")
        };
        assert_eq!(dense.activation, activation);
    }
}

#[test]
fn as_a_layer() {
    for &(name, activation) in ALL {
        let layer = format!(r#"{{"type": "activation", "activation": "{name}"}}"#);
        assert_eq!(kind(&layer), LayerKind::Activation(activation));
    }
    assert_wrong(
        r#"{"type": "activation"}"#,
        "layers.0 (`activation`) needs `activation`\n  \"activation\" <- `activation` is missing\n",
    );
    assert_wrong(
        r#"{"type": "activation", "alpha": 2}"#,
        "layers.0 (`activation`) needs `activation`\n  \"activation\" <- `activation` is missing\n",
    );
}

#[test]
fn as_a_type() {
    for &(name, activation) in ALL {
        let kind = kind(&format!(r#"{{"type": "{name}"}}"#));
        match activation {
            Activation::Softmax => assert!(matches!(kind, LayerKind::Softmax(_))),
            _ => assert_eq!(kind, LayerKind::Activation(activation)),
        }
    }
    assert_wrong(
        r#"{"type": "relu", "activation": "gelu"}"#,
        "layers.0 (`relu`) has no key `activation`\n  \"activation\" <- unknown key\n  help: `activation` belongs to \
         `dense`, `conv1d`, `conv2d`, `rnn` and `activation`\n",
    );
}

#[test]
fn keys_beside() {
    let all = [
        (r#""gelu", "approximate": "none""#, GELU),
        (r#""gelu", "approximate": "tanh""#, Activation::Gelu { approximate: GeluApproximation::Tanh }),
        (r#""leaky_relu", "negative_slope": 0.1"#, Activation::LeakyRelu { negative_slope: 0.1 }),
        (r#""leaky_relu", "negative_slope": -2"#, Activation::LeakyRelu { negative_slope: -2.0 }),
        (r#""elu", "alpha": 0.5"#, Activation::Elu { alpha: 0.5 }),
        (r#""elu", "alpha": 0"#, Activation::Elu { alpha: 0.0 }),
    ];
    for (keys, activation) in all {
        assert_eq!(kind(&format!(r#"{{"type": {keys}}}"#)), LayerKind::Activation(activation));
        let layer = format!(r#"{{"type": "activation", "activation": {keys}}}"#);
        assert_eq!(kind(&layer), LayerKind::Activation(activation));
        let conv = format!(r#"{{"type": "conv1d", "filters": 1, "kernel_size": 1, "activation": {keys}}}"#);
        let LayerKind::Conv1d(conv) = kind(&conv) else { panic!("another layer") };
        assert_eq!(conv.activation, activation);
    }
}

#[test]
fn keys_of_another_activation() {
    assert_wrong(
        r#"{"type": "dense", "height": 1, "activation": "relu", "alpha": 1}"#,
        "layers.0 (`dense` with `relu`) has no key `alpha`\n  \"alpha\" <- unknown key\n  \
         help: `alpha` belongs to `elu`\n",
    );
    // relu is the default.
    assert_eq!(
        messages(&with_layers(r#"{"type": "dense", "height": 1, "negative_slope": 1, "approximate": 3}"#)),
        [
            "layers.0 (`dense` with `relu`) has no key `negative_slope`",
            "layers.0 (`dense` with `relu`) has no key `approximate`"
        ]
    );
    assert_eq!(
        messages(&with_layers(r#"{"type": "activation", "activation": "elu", "approximate": "tanh"}"#)),
        ["layers.0 (`activation` with `elu`) has no key `approximate`"]
    );
    assert_wrong(
        r#"{"type": "elu", "aplha": 2}"#,
        "layers.0 (`elu`) has no key `aplha`\n  \"aplha\" <- unknown key\n  help: did you mean `alpha`?\n",
    );
    assert_eq!(messages(&with_layers(r#"{"type": "selu", "alpha": 2}"#)), ["layers.0 (`selu`) has no key `alpha`"]);
}

#[test]
fn unknown_names() {
    // Whether its other keys are right can't be known.
    assert_wrong(
        r#"{"type": "dense", "height": 1, "activation": "leaky-relu", "negative_slope": 0.1}"#,
        "unknown activation `leaky-relu`\n  \"leaky-relu\" <- no such activation\n  help: did you mean `leaky_relu`?\n",
    );
    assert_wrong(
        r#"{"type": "dense", "height": 1, "activation": ""}"#,
        "unknown activation ``\n  \"\" <- no such activation\n  help: known are `relu`, `sigmoid`, `tanh`, `softmax`, \
         `gelu`, `swish`, `mish`, `leaky_relu`, `elu`, `selu`, `softplus` and `linear`\n",
    );
    assert_wrong(
        r#"{"type": "gelu", "approximate": "tnah"}"#,
        "unknown approximation `tnah`\n  \"tnah\" <- no such approximation\n  help: did you mean `tanh`?\n",
    );
}

#[test]
fn wrong_values() {
    for (layer, message) in [
        (r#"{"type": "elu", "alpha": "1"}"#, "`layers.0.alpha`: expected a number, found a string"),
        (r#"{"type": "elu", "alpha": null}"#, "`layers.0.alpha`: expected a number, found null"),
        (r#"{"type": "gelu", "approximate": true}"#, "`layers.0.approximate`: expected a string, found a boolean"),
        (
            r#"{"type": "leaky_relu", "negative_slope": 1e999}"#,
            "`layers.0.negative_slope` must be within the range of a 64-bit float, found 1e999",
        ),
    ] {
        assert_eq!(messages(&with_layers(layer)), [message]);
    }
}
