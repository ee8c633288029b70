//! Each layer type and each of its keys.

use super::{SUPPORTED, assert_wrong, kind, layer, messages, network, with_layers};
use crate::config::{
    Activation, BatchNorm, Conv1d, Conv2d, Dense, Dropout, Embedding, Flatten, Layer, LayerKind, MaxPool2d, Norm, Pair,
    Residual, ResidualFrom, Sequential, Spanned, Stitch, Swiglu,
};

fn value<T: Copy>(spanned: Option<Spanned<T>>) -> Option<T> {
    spanned.map(|spanned| spanned.value)
}

fn dense(source: &str) -> Dense {
    match kind(source) {
        LayerKind::Dense(dense) => dense,
        other => panic!("{other:?}"),
    }
}

fn conv1d(source: &str) -> Conv1d {
    match kind(source) {
        LayerKind::Conv1d(conv) => conv,
        other => panic!("{other:?}"),
    }
}

fn conv2d(source: &str) -> Conv2d {
    match kind(source) {
        LayerKind::Conv2d(conv) => conv,
        other => panic!("{other:?}"),
    }
}

fn max_pool2d(source: &str) -> MaxPool2d {
    match kind(source) {
        LayerKind::MaxPool2d(pool) => pool,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_all_layers_have() {
    let object = r#"{"type": "dense", "name": "first", "output_size": 2}"#;
    let source = with_layers(&format!("{object}, {}", r#"{"type": "flatten"}"#));
    let layers = network(&source).layers;
    let text = |span: crate::diagnostics::Span| &source[span.range()];
    let Layer { path, name, precision: None, quantisation: _, kind: _, span, type_span } = &layers[0] else {
        panic!("{layers:?}")
    };
    let name = name.as_ref().unwrap();
    assert_eq!(path.to_string(), "layers.0");
    assert_eq!((name.value.as_str(), text(name.span)), ("first", "\"first\""));
    assert_eq!(text(*span), object);
    assert_eq!(text(*type_span), "\"dense\"");
    assert_eq!((layers[1].path.to_string(), &layers[1].name), ("layers.1".to_owned(), &None));
}

#[test]
fn types() {
    assert_wrong("{}", "layers.0 needs `type`\n  {} <- `type` is missing\n");
    assert_wrong(r#"{"type": 1}"#, "`layers.0.type`: expected a string, found a number\n  1 <- expected a string\n");
    for (written, meant) in [("dnse", "dense"), ("Dense", "dense"), ("conv2D", "conv2d"), ("layernrm", "layernorm")] {
        assert_wrong(
            &format!(r#"{{"type": "{written}", "whatever": 1}}"#),
            &format!(
                "unknown layer type `{written}`\n  \"{written}\" <- no such layer type\n  \
                 help: did you mean `{meant}`?\n"
            ),
        );
    }
    assert_wrong(
        r#"{"type": "transformer"}"#,
        &format!(
            "unknown layer type `transformer`\n  \"transformer\" <- no such layer type\n  help: known are {SUPPORTED}\n"
        ),
    );
}

#[test]
fn names() {
    let two = |first, second| {
        with_layers(&format!(r#"{{"type": "flatten", "name": {first}}}, {{"type": "flatten", "name": {second}}}"#))
    };
    network(&two(r#""a""#, r#""A""#));
    assert_eq!(messages(&two(r#""a""#, r#""\u0061""#)), ["two layers are named `a`"]);
    assert_eq!(
        super::wrong(&two(r#""a""#, r#""\u0061""#)),
        "two layers are named `a`\n  \"\\u0061\" <- given again\n  \"a\" <- first given here\n"
    );
    assert_wrong(
        r#"{"type": "flatten", "name": "input"}"#,
        "a layer can't be named `input`\n  \"input\" <- the name of the network's input\n  help: choose another name\n",
    );
    assert_wrong(
        r#"{"type": "flatten", "name": ""}"#,
        "`layers.0.name` is empty\n  \"\" <- expected at least one character\n",
    );
    assert_wrong(
        r#"{"type": "flatten", "name": null}"#,
        "`layers.0.name`: expected a string, found null\n  null <- expected a string\n",
    );
    // Inside another layer, or in one that can't be read, a name is a name.
    let inside =
        r#"{"type": "sequential", "branches": [{"type": "nosuch", "name": "a"}]}, {"type": "elu", "name": "a"}"#;
    assert_eq!(messages(&with_layers(inside)), ["unknown layer type `nosuch`", "two layers are named `a`"]);
}

#[test]
fn dense_defaults() {
    let dense = dense(r#"{"type": "dense", "output_size": 2}"#);
    assert_eq!(dense.input_size, None);
    assert_eq!(dense.output_size.value, 2);
    assert!(dense.bias);
    assert_eq!(dense.activation, Activation::Relu);
}

#[test]
fn dense_keys() {
    let dense = dense(
        r#"{"type": "dense", "input_size": 4, "output_size": 2, "bias": false, "activation": "elu", "alpha": 0.5}"#,
    );
    assert_eq!(value(dense.input_size), Some(4));
    assert_eq!(dense.output_size.value, 2);
    assert!(!dense.bias);
    assert_eq!(dense.activation, Activation::Elu { alpha: 0.5 });
}

#[test]
fn dense_spellings() {
    for (keys, input_size, output_size) in [
        (r#""width": 3, "height": 2, "input_height": 8, "output_height": 8, "input_size": 9, "output_size": 9"#, 3, 2),
        (r#""input_height": 8, "output_height": 8, "input_size": 9, "output_size": 9"#, 9, 9),
        (r#""input_height": 8, "output_height": 7"#, 8, 7),
        (r#""width": 3, "output_size": 5"#, 3, 5),
        (r#""input_size": 3, "height": 5, "output_height": 6"#, 3, 5),
    ] {
        let dense = dense(&format!(r#"{{"type": "dense", {keys}}}"#));
        assert_eq!((value(dense.input_size), dense.output_size.value), (Some(input_size), output_size), "{keys}");
    }
    // The one that isn't taken has to be right too.
    assert_wrong(
        r#"{"type": "dense", "height": 3, "output_size": 0}"#,
        "`layers.0.output_size` must be at least 1, found 0\n  0 <- must be at least 1\n",
    );
}

#[test]
fn dense_mistakes() {
    assert_wrong(
        r#"{"type": "dense", "input_size": "4", "bias": 1, "activation": 3, "untis": 4}"#,
        "layers.0 (`dense`) needs `output_size`\n  \"dense\" <- `output_size` is missing\n  \
         help: `output_size` can also be spelled `height` or `output_height`\n\
         `layers.0.input_size`: expected an integer, found a string\n  \"4\" <- expected an integer\n\
         `layers.0.bias`: expected true or false, found a number\n  1 <- expected true or false\n\
         `layers.0.activation`: expected a string, found a number\n  3 <- expected a string\n\
         layers.0 (`dense`) has no key `untis`\n  \"untis\" <- unknown key\n  help: known are `type`, `name`, `dtype`, `output_scale`, `output_zero_point`, \
         `input_size`, `output_size`, `width`, `height`, `input_height`, `output_height`, `bias`, `activation`, \
         `group_size`, `input_scale` and `input_zero_point`\n",
    );
    // A wrong size isn't missing as well.
    assert_wrong(
        r#"{"type": "dense", "height": 2.5}"#,
        "`layers.0.height`: expected an integer, found a number with a fraction\n  2.5 <- expected an integer\n",
    );
}

#[test]
fn conv1d_defaults() {
    let conv = conv1d(r#"{"type": "conv1d", "filters": 3, "kernel_size": 5}"#);
    assert_eq!((conv.input_length, conv.input_channels), (None, None));
    assert_eq!((conv.filters.value, conv.kernel_size.value), (3, 5));
    assert_eq!((conv.stride.value, conv.padding.value, conv.dilation.value, conv.groups.value), (1, 0, 1, 1));
    assert!(conv.bias);
    assert_eq!(conv.activation, Activation::Relu);
}

#[test]
fn a_default_points_to_the_type() {
    let source = r#"{"type": "conv1d", "filters": 3, "kernel_size": 5, "padding": 2}"#;
    let layer = layer(source);
    let LayerKind::Conv1d(conv) = layer.kind else { panic!("another layer") };
    assert_eq!(conv.stride.span, layer.type_span);
    assert_eq!(&with_layers(source)[conv.padding.span.range()], "2");
}

#[test]
fn conv1d_keys() {
    let conv = conv1d(
        r#"{"type": "conv1d", "input_length": 12, "input_channels": 4, "filters": 6, "kernel_size": 3, "stride": 2,
            "padding": 1, "dilation": 3, "groups": 2, "bias": false, "activation": "tanh"}"#,
    );
    assert_eq!((value(conv.input_length), value(conv.input_channels)), (Some(12), Some(4)));
    assert_eq!((conv.filters.value, conv.kernel_size.value), (6, 3));
    assert_eq!((conv.stride.value, conv.padding.value, conv.dilation.value, conv.groups.value), (2, 1, 3, 2));
    assert!(!conv.bias);
    assert_eq!(conv.activation, Activation::Tanh);
    let keys = r#""type": "conv1d", "filters": 1, "kernel_size": 1"#;
    assert_eq!(value(conv1d(&format!(r#"{{{keys}, "input_height": 7}}"#)).input_length), Some(7));
    assert_eq!(value(conv1d(&format!(r#"{{{keys}, "input_height": 7, "input_length": 6}}"#)).input_length), Some(6));
}

#[test]
fn conv1d_mistakes() {
    assert_eq!(
        messages(&with_layers(
            r#"{"type": "conv1d", "input_length": 0, "input_channels": 0, "kernel_size": [3], "stride": 0,
                "padding": -1, "dilation": 0, "groups": 0, "input_width": 3}"#
        )),
        [
            "layers.0 (`conv1d`) needs `filters`",
            "`layers.0.input_length` must be at least 1, found 0",
            "`layers.0.input_channels` must be at least 1, found 0",
            "`layers.0.kernel_size`: expected an integer, found a list",
            "`layers.0.stride` must be at least 1, found 0",
            "`layers.0.padding` must be at least 0, found -1",
            "`layers.0.dilation` must be at least 1, found 0",
            "`layers.0.groups` must be at least 1, found 0",
            "layers.0 (`conv1d`) has no key `input_width`",
        ]
    );
}

#[test]
fn conv2d_defaults() {
    let conv = conv2d(r#"{"type": "conv2d", "filters": 3, "kernel_size": 5}"#);
    assert_eq!((conv.input_height, conv.input_width, conv.input_channels), (None, None, None));
    assert_eq!((conv.output_height, conv.output_width), (None, None));
    assert_eq!((conv.filters.value, conv.kernel_size.value), (3, Pair::square(5)));
    assert_eq!((conv.stride.value, conv.padding.value), (Pair::square(1), Pair::square(0)));
    assert_eq!((conv.dilation.value, conv.groups.value), (Pair::square(1), 1));
    assert!(conv.bias);
    assert_eq!(conv.activation, Activation::Relu);
}

#[test]
fn conv2d_keys() {
    let conv = conv2d(
        r#"{"type": "conv2d", "input_height": 8, "input_width": 9, "input_channels": 4, "output_height": 6,
            "output_width": 7, "filters": 6, "kernel_size": [3, 5], "stride": [2, 1], "padding": [0, 2],
            "dilation": [1, 3], "groups": 2, "bias": false, "activation": "linear"}"#,
    );
    assert_eq!(
        (value(conv.input_height), value(conv.input_width), value(conv.input_channels)),
        (Some(8), Some(9), Some(4))
    );
    assert_eq!((value(conv.output_height), value(conv.output_width)), (Some(6), Some(7)));
    assert_eq!(conv.filters.value, 6);
    assert_eq!(conv.kernel_size.value, Pair { height: 3, width: 5 });
    assert_eq!(conv.stride.value, Pair { height: 2, width: 1 });
    assert_eq!(conv.padding.value, Pair { height: 0, width: 2 });
    assert_eq!(conv.dilation.value, Pair { height: 1, width: 3 });
    assert_eq!(conv.groups.value, 2);
    assert!(!conv.bias);
    assert_eq!(conv.activation, Activation::Linear);
}

#[test]
fn pairs() {
    let conv = |padding: &str| format!(r#"{{"type": "conv2d", "filters": 1, "kernel_size": 1, "padding": {padding}}}"#);
    for (text, found) in [("[]", 0), ("[1]", 1), ("[1, 1, 1]", 3)] {
        assert_wrong(
            &conv(text),
            &format!("`layers.0.padding`: expected 2 integers, found {found}\n  {text} <- expected 2 integers\n"),
        );
    }
    assert_wrong(
        &conv(r#""same""#),
        "`layers.0.padding`: expected an integer or a list of two, found a string\n  \
         \"same\" <- expected an integer or a list of two\n",
    );
    assert_wrong(&conv("[1, -2]"), "`layers.0.padding.1` must be at least 0, found -2\n  -2 <- must be at least 0\n");
    assert_wrong(
        &conv("[1, [2]]"),
        "`layers.0.padding.1`: expected an integer, found a list\n  [2] <- expected an integer\n",
    );
    assert_wrong(
        &conv("1.5"),
        "`layers.0.padding`: expected an integer, found a number with a fraction\n  1.5 <- expected an integer\n",
    );
    assert_wrong(
        r#"{"type": "conv2d", "filters": 1, "kernel_size": [3, 0], "stride": 0, "dilation": [0, 1]}"#,
        "`layers.0.kernel_size.1` must be at least 1, found 0\n  0 <- must be at least 1\n\
         `layers.0.stride` must be at least 1, found 0\n  0 <- must be at least 1\n\
         `layers.0.dilation.0` must be at least 1, found 0\n  0 <- must be at least 1\n",
    );
}

#[test]
fn max_pools() {
    for name in ["max_pool2d", "maxpool2d"] {
        let pool = max_pool2d(&format!(r#"{{"type": "{name}", "kernel_size": [2, 3]}}"#));
        assert_eq!((pool.input_height, pool.input_width, pool.input_channels), (None, None, None));
        assert_eq!(pool.kernel_size.value, Pair { height: 2, width: 3 });
        assert_eq!(pool.stride, pool.kernel_size);
        assert_eq!((pool.padding.value, pool.dilation.value), (Pair::square(0), Pair::square(1)));
    }
    let pool = max_pool2d(
        r#"{"type": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "input_height": 8,
            "input_width": 9, "input_channels": 4}"#,
    );
    assert_eq!((pool.stride.value, pool.padding.value), (Pair::square(2), Pair::square(1)));
    assert_eq!(pool.dilation.value, Pair::square(2));
    assert_eq!(
        (value(pool.input_height), value(pool.input_width), value(pool.input_channels)),
        (Some(8), Some(9), Some(4))
    );
    assert_eq!(
        messages(&with_layers(r#"{"type": "max_pool2d", "count_include_pad": true}"#)),
        ["layers.0 (`max_pool2d`) needs `kernel_size`", "layers.0 (`max_pool2d`) has no key `count_include_pad`"]
    );
}

#[test]
fn average_pools() {
    for (keys, count_include_pad, stride) in
        [("", true, 2), (r#", "stride": 1"#, true, 1), (r#", "count_include_pad": false"#, false, 2)]
    {
        for name in ["avg_pool2d", "avgpool2d"] {
            let LayerKind::AvgPool2d(pool) = kind(&format!(r#"{{"type": "{name}", "kernel_size": 2{keys}}}"#)) else {
                panic!("another layer")
            };
            assert_eq!((pool.count_include_pad, pool.stride.value), (count_include_pad, Pair::square(stride)));
            assert_eq!((pool.kernel_size.value, pool.padding.value), (Pair::square(2), Pair::square(0)));
            assert_eq!((pool.input_height, pool.input_width, pool.input_channels), (None, None, None));
        }
    }
    assert_wrong(
        r#"{"type": "avg_pool2d", "kernel_size": 2, "dilation": 2}"#,
        "layers.0 (`avg_pool2d`) has no key `dilation`\n  \"dilation\" <- unknown key\n  help: `dilation` belongs to \
         `conv1d`, `conv2d`, `max_pool1d` and `max_pool2d`\n",
    );
}

#[test]
fn pools_over_a_length() {
    for name in ["max_pool1d", "maxpool1d"] {
        let pool = kind(&format!(r#"{{"type": "{name}", "kernel_size": 3}}"#));
        let LayerKind::MaxPool1d(pool) = pool else { panic!("{pool:?}") };
        assert_eq!((pool.input_length, pool.input_channels, pool.stride), (None, None, pool.kernel_size));
        assert_eq!((pool.kernel_size.value, pool.padding.value, pool.dilation.value), (3, 0, 1));
    }
    let pool = kind(
        r#"{"type": "max_pool1d", "kernel_size": 4, "stride": 3, "padding": 2, "dilation": 5, "input_length": 9,
            "input_channels": 7}"#,
    );
    let LayerKind::MaxPool1d(pool) = pool else { panic!("{pool:?}") };
    assert_eq!((pool.kernel_size.value, pool.stride.value, pool.padding.value, pool.dilation.value), (4, 3, 2, 5));
    assert_eq!((value(pool.input_length), value(pool.input_channels)), (Some(9), Some(7)));
    for (keys, padding, count_include_pad) in
        [("", 0, true), (r#", "padding": 1, "count_include_pad": false"#, 1, false)]
    {
        let pool = kind(&format!(r#"{{"type": "avg_pool1d", "kernel_size": 2{keys}}}"#));
        let LayerKind::AvgPool1d(pool) = pool else { panic!("{pool:?}") };
        assert_eq!((pool.kernel_size.value, pool.stride.value), (2, 2));
        assert_eq!((pool.padding.value, pool.count_include_pad), (padding, count_include_pad));
    }
    assert_eq!(
        messages(&with_layers(r#"{"type": "max_pool1d", "kernel_size": [2, 3], "stride": 0, "input_height": 4}"#)),
        [
            "`layers.0.kernel_size`: expected an integer, found a list",
            "`layers.0.stride` must be at least 1, found 0",
            "layers.0 (`max_pool1d`) has no key `input_height`",
        ]
    );
    assert_eq!(
        messages(&with_layers(r#"{"type": "avg_pool1d", "padding": -1, "dilation": 2, "count_include_pad": 1}"#)),
        [
            "layers.0 (`avg_pool1d`) needs `kernel_size`",
            "`layers.0.padding` must be at least 0, found -1",
            "layers.0 (`avg_pool1d`) has no key `dilation`",
            "`layers.0.count_include_pad`: expected true or false, found a number",
        ]
    );
}

#[test]
fn flatten_has_no_keys() {
    let LayerKind::Flatten(Flatten { start_axis: None, end_axis: None }) = kind(r#"{"type": "flatten"}"#) else {
        panic!("another layer")
    };
    let LayerKind::Flatten(some) = kind(r#"{"type": "flatten", "start_axis": 1, "end_axis": -2}"#) else {
        panic!("another layer")
    };
    assert_eq!((value(some.start_axis), value(some.end_axis)), (Some(1), Some(-2)));
    assert_eq!(messages(&with_layers(r#"{"type": "flatten", "axis": 1}"#)), ["layers.0 (`flatten`) has no key `axis`"]);
}

#[test]
fn norms() {
    for (names, wrap) in [
        (["layer_norm", "layernorm"], LayerKind::LayerNorm as fn(Norm) -> LayerKind),
        (["rms_norm", "rmsnorm"], LayerKind::RmsNorm),
    ] {
        for name in names {
            assert_eq!(kind(&format!(r#"{{"type": "{name}"}}"#)), wrap(Norm { norm_size: None, epsilon: 1e-5 }));
            let zero = format!(r#"{{"type": "{name}", "epsilon": 0.0}}"#);
            assert_eq!(kind(&zero), wrap(Norm { norm_size: None, epsilon: 1e-5 }));
            let given = format!(r#"{{"type": "{name}", "norm_size": 8, "epsilon": 1e-3}}"#);
            let (LayerKind::LayerNorm(norm) | LayerKind::RmsNorm(norm)) = kind(&given) else { panic!("another layer") };
            assert_eq!((value(norm.norm_size), norm.epsilon), (Some(8), 1e-3));
        }
    }
    assert_eq!(
        messages(&with_layers(r#"{"type": "rms_norm", "norm_size": 0, "epsilon": -1e-5, "bias": true}"#)),
        [
            "`layers.0.norm_size` must be at least 1, found 0",
            "`layers.0.epsilon` must be more than 0, found -1e-5",
            "layers.0 (`rms_norm`) has no key `bias`"
        ]
    );
}

#[test]
fn floats() {
    let slope = |text: &str| format!(r#"{{"type": "leaky_relu", "negative_slope": {text}}}"#);
    for (text, expected) in [
        ("1", 1.0),
        // Both are cases that a careless reader gets wrong in the last place.
        ("0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("8.41e-124", 8.41e-124),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", f64::MAX),
        ("0e5", 0.0),
    ] {
        assert_eq!(
            kind(&slope(text)),
            LayerKind::Activation(Activation::LeakyRelu { negative_slope: expected }),
            "{text}"
        );
    }
    for text in ["1e400", "1e-400", "-1e400", "0.0001e-400"] {
        assert_wrong(
            &slope(text),
            &format!(
                "`layers.0.negative_slope` must be within the range of a 64-bit float, found {text}\n  \
                 {text} <- must be within the range of a 64-bit float\n"
            ),
        );
    }
    assert_wrong(
        &slope(r#""1e-5""#),
        "`layers.0.negative_slope`: expected a number, found a string\n  \"1e-5\" <- expected a number\n",
    );
}

#[test]
fn numbers_that_must_not_vanish() {
    let epsilon = |text: &str| format!(r#"{{"type": "layer_norm", "epsilon": {text}}}"#);
    for (text, expected) in [("0e5", 1e-5), ("1e-45", 1e-45), ("3.4028234e38", 3.4028234e38)] {
        let LayerKind::LayerNorm(norm) = kind(&epsilon(text)) else { panic!("another layer") };
        assert_eq!(norm.epsilon, expected, "{text}");
    }
    let within = "must be within the range of a 32-bit float";
    for text in ["1e-46", "3.4028236e38"] {
        assert_eq!(messages(&with_layers(&epsilon(text))), [format!("`layers.0.epsilon` {within}, found {text}")]);
    }
    // Twice its square is what is divided by.
    let width = |text: &str| format!(r#"{{"type": "kmeans", "num_clusters": 2, "kmeans_temperature": {text}}}"#);
    for text in ["2e-23", "1.3e19", "0"] {
        assert!(matches!(kind(&width(text)), LayerKind::Kmeans(_)), "{text}");
    }
    let rule = "must be so that twice its square is within the range of a 32-bit float";
    for text in ["1e-23", "1.4e19"] {
        let message = format!("`layers.0.kmeans_temperature` {rule}, found {text}");
        assert_eq!(messages(&with_layers(&width(text))), [message]);
    }
}

#[test]
fn residuals() {
    let from = |text: &str| match kind(&format!(r#"{{"type": "residual", "from": {text}}}"#)) {
        LayerKind::Residual(Residual { from: Some(from) }) => from.value,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(r#"{"type": "residual"}"#), LayerKind::Residual(Residual { from: None }));
    assert_eq!(from("1"), ResidualFrom::Distance(1));
    assert_eq!(from("30"), ResidualFrom::Distance(30));
    assert_eq!(from(r#""input""#), ResidualFrom::Name("input".to_owned()));
    for (text, message) in [
        ("0", "`layers.0.from` must be at least 1, found 0"),
        ("1.0", "`layers.0.from`: expected an integer, found a number with a fraction"),
        ("true", "`layers.0.from`: expected a layer's name or an integer, found a boolean"),
        (r#""""#, "`layers.0.from` is empty"),
    ] {
        assert_eq!(messages(&with_layers(&format!(r#"{{"type": "residual", "from": {text}}}"#))), [message]);
    }
}

#[test]
fn sequentials() {
    let source = r#"{"type": "flatten"}, {"type": "sequential", "branches": [
        {"type": "relu"},
        {"type": "sequential", "layers": [{"type": "tanh"}, {"type": "sequential", "layers": []}]}
    ]}"#;
    let mut paths = Vec::new();
    fn walk(layers: &[Layer], paths: &mut Vec<String>) {
        for layer in layers {
            paths.push(layer.path.to_string());
            if let LayerKind::Sequential(Sequential { layers }) = &layer.kind {
                walk(layers, paths);
            }
        }
    }
    let layers = network(&with_layers(source)).layers;
    walk(&layers, &mut paths);
    assert_eq!(
        paths,
        [
            "layers.0",
            "layers.1",
            "layers.1.branches.0",
            "layers.1.branches.1",
            "layers.1.branches.1.branches.0",
            "layers.1.branches.1.branches.1",
        ]
    );
}

#[test]
fn sequential_mistakes() {
    assert_wrong(
        r#"{"type": "sequential"}"#,
        "layers.0 (`sequential`) needs `branches`\n  \"sequential\" <- `branches` is missing\n  \
         help: `branches` can also be spelled `layers`\n",
    );
    assert_wrong(
        r#"{"type": "sequential", "branches": [], "layers": [7]}"#,
        "layers.0 (`sequential`) has both `branches` and `layers`, which mean the same\n  [7] <- given again\n  \
         [] <- first given here\n  help: remove one of the two\n",
    );
    assert_wrong(
        r#"{"type": "sequential", "layers": {}}"#,
        "`layers.0.layers`: expected a list of layers, found an object\n  {} <- expected a list of layers\n",
    );
    assert_eq!(
        messages(&with_layers(
            r#"{"type": "sequential", "branches": [{"type": "dense"}, 3, {"type": "flatten", "seed": 1}], "axis": 2}"#
        )),
        [
            "layers.0.branches.0 (`dense`) needs `output_size`",
            "`layers.0.branches.1`: expected an object, found a number",
            "layers.0.branches.2 (`flatten`) has no key `seed`",
            "layers.0 (`sequential`) has no key `axis`",
        ]
    );
}

#[test]
fn small_layers() {
    assert_eq!(kind(r#"{"type": "global_max_pool"}"#), LayerKind::GlobalMaxPool);
    assert_eq!(kind(r#"{"type": "global_avg_pool2d"}"#), LayerKind::GlobalAvgPool);
    assert_eq!(kind(r#"{"type": "dropout"}"#), LayerKind::Dropout(Dropout { rate: 0.5 }));
    assert_eq!(kind(r#"{"type": "dropout", "rate": 0}"#), LayerKind::Dropout(Dropout { rate: 0.0 }));
    let batch_norm = kind(r#"{"type": "batchnorm", "num_features": 3, "epsilon": 0}"#);
    let LayerKind::BatchNorm(BatchNorm { num_features, epsilon }) = batch_norm else { panic!("{batch_norm:?}") };
    assert_eq!((value(num_features), epsilon), (Some(3), 1e-5));
    let embedding = kind(r#"{"type": "embedding", "vocab_size": 16777216, "embedding_dim": 4}"#);
    let LayerKind::Embedding(Embedding { vocab_size, embedding_dim }) = embedding else { panic!("{embedding:?}") };
    assert_eq!((vocab_size.value, embedding_dim.value), (1 << 24, 4));
    for (layer, message) in [
        (r#"{"type": "dropout", "rate": 1}"#, "`layers.0.rate` must be at least 0 and less than 1, found 1"),
        (r#"{"type": "dropout", "rate": -0.1}"#, "`layers.0.rate` must be at least 0 and less than 1, found -0.1"),
        (
            r#"{"type": "embedding", "vocab_size": 16777217, "embedding_dim": 1}"#,
            "`layers.0.vocab_size` must be at most 2^24, found 16777217",
        ),
        (r#"{"type": "embedding", "vocab_size": 3}"#, "layers.0 (`embedding`) needs `embedding_dim`"),
        (r#"{"type": "batch_norm", "num_features": 0}"#, "`layers.0.num_features` must be at least 1, found 0"),
        (r#"{"type": "global_max_pool", "kernel_size": 2}"#, "layers.0 (`global_max_pool`) has no key `kernel_size`"),
    ] {
        assert_eq!(messages(&with_layers(layer)), [message]);
    }
}

#[test]
fn maps_between_sizes() {
    for (keys, input_size, between) in [
        (r#""input_height": 8, "output_height": 16"#, Some(8), 16),
        (r#""input_size": 7, "input_height": 8, "output_size": 15, "output_height": 16"#, Some(7), 15),
        (r#""intermediate_size": 4, "output_size": 15"#, None, 4),
    ] {
        let swiglu = kind(&format!(r#"{{"type": "swiglu", {keys}}}"#));
        let LayerKind::Swiglu(Swiglu { input_size: input, intermediate_size, bias: true }) = swiglu else {
            panic!("{swiglu:?}")
        };
        assert_eq!((value(input), intermediate_size.value), (input_size, between), "{keys}");
    }
    assert_wrong(
        r#"{"type": "swiglu", "input_size": 3}"#,
        "layers.0 (`swiglu`) needs `intermediate_size`\n  \"swiglu\" <- `intermediate_size` is missing\n  \
         help: `intermediate_size` can also be spelled `output_size` or `output_height`\n",
    );
    let stitch = kind(r#"{"type": "stitch", "width": 3, "height": 5, "bias": false}"#);
    let LayerKind::Stitch(Stitch { input_size, output_size, bias: false }) = stitch else { panic!("{stitch:?}") };
    assert_eq!((value(input_size), output_size.value), (Some(3), 5));
    assert_eq!(
        messages(&with_layers(r#"{"type": "stitch", "output_size": 2, "activation": "relu"}"#)),
        ["layers.0 (`stitch`) has no key `activation`"]
    );
}
