//! The network's own keys.

use super::{messages, network, with_layers, wrong};
use crate::config::Precision;
use crate::diagnostics::Span;

const FLATTEN: &str = r#"{"type": "flatten"}"#;

/// A network of one layer with these keys beside.
fn with_keys(keys: &str) -> String {
    format!(r#"{{"layers": [{FLATTEN}], {keys}}}"#)
}

#[test]
fn defaults() {
    let source = format!(r#" {{"layers": [{FLATTEN}]}}"#);
    let network = network(&source);
    assert_eq!(network.id, None);
    assert_eq!(network.batch_size, 1);
    assert_eq!(network.input_shape, None);
    assert_eq!(network.seed, 0);
    assert_eq!(network.layers.len(), 1);
    assert_eq!(network.span, Span::new(1, source.len()));
}

#[test]
fn every_key() {
    let source = with_keys(
        r#""id": "net", "dtype": "float32", "dialect": "loom", "batch_size": 3, "input_shape": [1, 28, 28], "seed": 7,
           "grid_rows": 1, "grid_cols": 1, "layers_per_cell": 1"#,
    );
    let network = network(&source);
    assert_eq!(network.id.as_deref(), Some("net"));
    assert_eq!(network.batch_size, 3);
    assert_eq!(network.seed, 7);
    let input_shape = network.input_shape.unwrap();
    assert_eq!(input_shape.value, [1, 28, 28]);
    assert_eq!(&source[input_shape.span.range()], "[1, 28, 28]");
}

#[test]
fn the_largest_integers() {
    let source = with_keys(r#""seed": 18446744073709551615, "batch_size": 18446744073709551615"#);
    assert_eq!(network(&source).seed, u64::MAX);
    assert_eq!(network(&source).batch_size, u64::MAX);
    assert_eq!(network(&with_keys(r#""seed": -0"#)).seed, 0);
}

#[test]
fn numbers_out_of_range() {
    assert_eq!(
        wrong(&with_keys(r#""batch_size": 0"#)),
        "`batch_size` must be at least 1, found 0\n  0 <- must be at least 1\n"
    );
    assert_eq!(wrong(&with_keys(r#""seed": -1"#)), "`seed` must be at least 0, found -1\n  -1 <- must be at least 0\n");
    for large in ["18446744073709551616", "99999999999999999999", "170141183460469231731687303715884105728"] {
        assert_eq!(
            wrong(&with_keys(&format!(r#""seed": {large}"#))),
            format!("`seed` must be less than 2^64, found {large}\n  {large} <- must be less than 2^64\n")
        );
    }
    let endless = "9".repeat(1000);
    assert_eq!(
        messages(&with_keys(&format!(r#""seed": {endless}"#))),
        [format!("`seed` must be less than 2^64, found {}…", &endless[..60])]
    );
    assert_eq!(messages(&with_keys(&format!(r#""seed": -{endless}"#))).len(), 1);
}

#[test]
fn integers_of_another_type() {
    for (value, found) in [
        ("2.0", "a number with a fraction"),
        ("-2.5e3", "a number with a fraction"),
        ("2e3", "a number with an exponent"),
        ("1E400", "a number with an exponent"),
        (r#""2""#, "a string"),
        ("true", "a boolean"),
        ("null", "null"),
        ("[2]", "a list"),
        ("{}", "an object"),
    ] {
        assert_eq!(
            wrong(&with_keys(&format!(r#""seed": {value}"#))),
            format!("`seed`: expected an integer, found {found}\n  {value} <- expected an integer\n")
        );
    }
}

#[test]
fn strings_of_another_type() {
    assert_eq!(wrong(&with_keys(r#""id": 3"#)), "`id`: expected a string, found a number\n  3 <- expected a string\n");
    assert_eq!(network(&with_keys(r#""id": """#)).id.as_deref(), Some(""));
    assert_eq!(network(&with_keys(r#""id": "\u00e9\n\"é\"\ud83e\uddf6""#)).id.as_deref(), Some("é\n\"é\"🧶"));
}

#[test]
fn input_shapes() {
    let shape = |text: &str| with_keys(&format!(r#""input_shape": {text}"#));
    assert_eq!(network(&shape("[5]")).input_shape.unwrap().value, [5]);
    assert_eq!(network(&shape("[1, 1, 1, 1, 1, 1, 1]")).input_shape.unwrap().value, [1; 7]);
    for (text, found) in [("[]", 0), ("[1, 1, 1, 1, 1, 1, 1, 1]", 8)] {
        assert_eq!(
            wrong(&shape(text)),
            format!("`input_shape`: expected 1 to 7 integers, found {found}\n  {text} <- expected 1 to 7 integers\n")
        );
    }
    assert_eq!(
        wrong(&shape("784")),
        "`input_shape`: expected a list of integers, found a number\n  784 <- expected a list of integers\n"
    );
    assert_eq!(wrong(&shape("[3, 0]")), "`input_shape.1` must be at least 1, found 0\n  0 <- must be at least 1\n");
    assert_eq!(
        wrong(&shape(r#"["3", 1]"#)),
        "`input_shape.0`: expected an integer, found a string\n  \"3\" <- expected an integer\n"
    );
}

#[test]
fn dtypes() {
    for (name, expected) in [
        ("f32", Precision::F32),
        ("float16", Precision::F16),
        ("half", Precision::F16),
        ("bfloat16", Precision::Bf16),
        ("bf16", Precision::Bf16),
        ("f8", Precision::F8),
        ("float4", Precision::F4),
        ("int8", Precision::Int8),
        ("i4", Precision::Int4),
    ] {
        assert_eq!(network(&with_keys(&format!(r#""dtype": "{name}""#))).precision, expected);
    }
    assert_eq!(network(&with_keys(r#""id": "none""#)).precision, Precision::F32);
    let layer = network(&with_layers(r#"{"type": "flatten", "dtype": "f8"}, {"type": "flatten"}"#)).layers;
    assert_eq!((layer[0].precision, layer[1].precision), (Some(Precision::F8), None));
    assert_eq!(
        messages(&with_layers(r#"{"type": "flatten", "dtype": "int16"}"#)),
        ["the dtype `int16` is not supported yet"]
    );
    assert_eq!(messages(&with_layers(r#"{"type": "flatten", "dtype": "f17"}"#)), ["unknown dtype `f17`"]);
    assert_eq!(
        wrong(&with_keys(r#""dtype": "float64""#)),
        "the dtype `float64` is not supported yet\n  \"float64\" <- not supported yet\n  help: supported: `float32`, `float16`, `bfloat16`, `float8`, `float4`, `int8` and `int4`\n"
    );
}

#[test]
fn dialects() {
    assert_eq!(
        wrong(&with_keys(r#""dialect": "loom-0.0.8", "unknown": 1"#)),
        "the network is in the dialect `loom-0.0.8`\n  \"loom-0.0.8\" <- read by way of a translation\n  \
         help: `loomc convert` writes it as a network of this dialect\n"
    );
    assert_eq!(
        wrong(&with_keys(r#""dialect": "lom""#)),
        "unknown dialect `lom`\n  \"lom\" <- no such dialect\n  help: did you mean `loom`?\n"
    );
}

#[test]
fn unknown_keys() {
    assert_eq!(
        wrong(&with_keys(r#""batchsize": 1"#)),
        "the network has no key `batchsize`\n  \"batchsize\" <- unknown key\n  help: did you mean `batch_size`?\n"
    );
    assert_eq!(
        wrong(&with_keys(r#""Seed": 1"#)),
        "the network has no key `Seed`\n  \"Seed\" <- unknown key\n  help: did you mean `seed`?\n"
    );
    assert_eq!(
        wrong(&with_keys(r#""optimizer": {}"#)),
        "the network has no key `optimizer`\n  \"optimizer\" <- unknown key\n  help: known are `id`, `batch_size`, \
         `input_shape`, `seed`, `layers`, `grid_rows`, `grid_cols`, `layers_per_cell`, `dtype`, `input_scale`, `input_zero_point` and `dialect`\n"
    );
    assert_eq!(
        wrong(&with_keys(r#""bias": true"#)),
        "the network has no key `bias`\n  \"bias\" <- unknown key\n  help: `bias` belongs to `dense`, `conv1d`, \
         `conv2d`, `swiglu`, `stitch` and `multi_head_attention`\n"
    );
}

#[test]
fn layers_are_needed() {
    assert_eq!(wrong("{}"), "the network needs `layers`\n  {} <- `layers` is missing\n");
    assert_eq!(wrong(r#"{"layers": []}"#), "the network has no layers\n  [] <- expected at least one layer\n");
    assert_eq!(
        wrong(r#"{"layers": {}}"#),
        "`layers`: expected a list of layers, found an object\n  {} <- expected a list of layers\n"
    );
    assert_eq!(
        wrong(r#"{"layers": [7, []]}"#),
        "`layers.0`: expected an object, found a number\n  7 <- expected an object\n\
         `layers.1`: expected an object, found a list\n  [] <- expected an object\n"
    );
}

#[test]
fn the_network_is_an_object() {
    for (source, found) in [("[]", "a list"), ("3", "a number"), ("null", "null"), ("\"net\"", "a string")] {
        assert_eq!(
            wrong(source),
            format!("the network: expected an object, found {found}\n  {source} <- expected an object\n")
        );
    }
}

#[test]
fn grids_that_fit() {
    for grid in [
        r#""grid_rows": 2, "grid_cols": 3, "layers_per_cell": 2"#,
        r#""grid_rows": 12, "grid_cols": 1, "layers_per_cell": 1"#,
        r#""grid_rows": 2, "grid_cols": 3"#,
        r#""layers_per_cell": 4"#,
    ] {
        network(&format!(r#"{{{grid}, "layers": [{}]}}"#, [FLATTEN; 12].join(", ")));
    }
}

#[test]
fn grids_that_do_not_fit() {
    let layers = [FLATTEN; 3].join(", ");
    let grid = |keys: &str| format!(r#"{{{keys}, "layers": [{layers}]}}"#);
    let help = "help: the grid changes nothing that is computed: the three keys can be left out\n";
    assert_eq!(
        wrong(&grid(r#""grid_rows": 1, "grid_cols": 2, "layers_per_cell": 3"#)),
        format!(
            "`grid_rows` × `grid_cols` × `layers_per_cell` is 1 × 2 × 3 = 6, but the network has 3 layers\n  \
             1 <- `grid_rows`\n  2 <- `grid_cols`\n  3 <- `layers_per_cell`\n  [{layers}] <- 3 layers\n  {help}"
        )
    );
    assert_eq!(
        wrong(&grid(r#""layers_per_cell": 2"#)),
        format!(
            "`layers_per_cell` is 2, which doesn't divide the network's 3 layers\n  2 <- `layers_per_cell`\n  \
             [{layers}] <- 3 layers\n  {help}"
        )
    );
    assert_eq!(
        messages(&grid(r#""grid_rows": 2, "grid_cols": 2"#)),
        ["`grid_rows` × `grid_cols` is 2 × 2 = 4, which doesn't divide the network's 3 layers"]
    );
    let most = u64::MAX;
    assert_eq!(
        messages(&grid(&format!(r#""grid_rows": {most}, "grid_cols": {most}, "layers_per_cell": {most}"#))),
        [format!(
            "`grid_rows` × `grid_cols` × `layers_per_cell` is {most} × {most} × {most}, \
             but the network has 3 layers"
        )]
    );
    assert_eq!(messages(&grid(r#""grid_rows": 0, "grid_cols": 2"#)), ["`grid_rows` must be at least 1, found 0"]);
    // A layer that can't be read still counts.
    assert_eq!(
        messages(r#"{"grid_rows": 2, "layers": [{"type": "nosuch"}, {}]}"#),
        ["unknown layer type `nosuch`", "layers.1 needs `type`"]
    );
    // Without a list of layers there is nothing to compare with.
    assert_eq!(messages(r#"{"grid_rows": 2}"#), ["the network needs `layers`"]);
}
