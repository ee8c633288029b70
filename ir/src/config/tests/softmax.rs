//! The softmax layer and its variants.

use super::{assert_wrong, kind, messages, with_layers};
use crate::config::{LayerKind, Softmax, SoftmaxVariant};

fn softmax(source: &str) -> Softmax {
    match kind(source) {
        LayerKind::Softmax(softmax) => softmax,
        other => panic!("{other:?}"),
    }
}

#[test]
fn softmaxes() {
    let plain = Softmax { variant: SoftmaxVariant::Standard, temperature: 1.0, axis: None };
    assert_eq!(softmax(r#"{"type": "softmax"}"#), plain);
    assert_eq!(softmax(r#"{"type": "softmax", "softmax_variant": "standard", "temperature": 0}"#), plain);
    let warm = softmax(r#"{"type": "softmax", "softmax_variant": "temperature", "temperature": 0.1, "axis": -2}"#);
    assert_eq!((warm.variant, warm.temperature), (SoftmaxVariant::Standard, 0.1));
    assert_eq!(warm.axis.map(|axis| axis.value), Some(-2));
    let axis = |text: &str| softmax(&format!(r#"{{"type": "softmax", "axis": {text}}}"#)).axis.map(|axis| axis.value);
    assert_eq!(axis("-9223372036854775808"), Some(i64::MIN));
    assert_eq!(axis("9223372036854775807"), Some(i64::MAX));
}

#[test]
fn softmax_mistakes() {
    assert_eq!(
        messages(&with_layers(r#"{"type": "softmax", "temperature": -0.5, "axis": 1.0}"#)),
        [
            "`layers.0.temperature` must be more than 0, found -0.5",
            "`layers.0.axis`: expected an integer, found a number with a fraction"
        ]
    );
    for (text, rule) in [("9223372036854775808", "less than 2^63"), ("-9223372036854775809", "at least -2^63")] {
        assert_eq!(
            messages(&with_layers(&format!(r#"{{"type": "softmax", "axis": {text}}}"#))),
            [format!("`layers.0.axis` must be {rule}, found {text}")]
        );
    }
    assert_wrong(
        r#"{"type": "softmax", "softmax_variant": "standrad"}"#,
        "unknown softmax variant `standrad`\n  \"standrad\" <- no such softmax variant\n  \
         help: did you mean `standard`?\n",
    );
    assert_wrong(
        r#"{"type": "softmax", "softmax_variant": "bogus"}"#,
        "unknown softmax variant `bogus`\n  \"bogus\" <- no such softmax variant\n  \
         help: known are `standard`, `temperature`, `grid`, `hierarchical`, `gumbel`, `masked`, `sparsemax`, `entmax`, \
         `adaptive` and `mixture`\n",
    );
    assert_wrong(
        r#"{"type": "softmax", "mask": [true]}"#,
        "layers.0 (`softmax` with `standard`) has no key `mask`\n  \"mask\" <- unknown key\n  \
         help: `mask` belongs to `masked`\n",
    );
}

fn variant(name: &str, keys: &str) -> SoftmaxVariant {
    softmax(&format!(r#"{{"type": "softmax", "softmax_variant": "{name}"{keys}}}"#)).variant
}

#[test]
fn variants() {
    match variant("grid", r#", "softmax_rows": 2, "softmax_cols": 3"#) {
        SoftmaxVariant::Grid { rows, cols } => assert_eq!((rows.value, cols.value), (2, 3)),
        other => panic!("{other:?}"),
    }
    match variant("hierarchical", r#", "hierarchy_levels": [2, 3]"#) {
        SoftmaxVariant::Hierarchical { levels } => assert_eq!(levels.value, [2, 3]),
        other => panic!("{other:?}"),
    }
    match variant("masked", r#", "mask": [true, false]"#) {
        SoftmaxVariant::Masked { mask } => assert_eq!(mask.value, [true, false]),
        other => panic!("{other:?}"),
    }
    match variant("adaptive", r#", "adaptive_clusters": [[0, 1], [2], [3, 4, 5]]"#) {
        SoftmaxVariant::Adaptive { sizes } => assert_eq!(sizes.value, [2, 1, 3]),
        other => panic!("{other:?}"),
    }
    match variant("mixture", r#", "mixture_weights": [0.4, 0]"#) {
        SoftmaxVariant::Mixture { weights } => assert_eq!(weights.value, [0.4, 0.0]),
        other => panic!("{other:?}"),
    }
    assert_eq!(variant("gumbel", ""), SoftmaxVariant::Gumbel { noise: true });
    assert_eq!(variant("gumbel", r#", "gumbel_noise": false"#), SoftmaxVariant::Gumbel { noise: false });
    assert_eq!(variant("sparse", ""), SoftmaxVariant::Sparsemax);
    assert_eq!(variant("sparsemax", ""), SoftmaxVariant::Sparsemax);
    assert_eq!(variant("entmax", ""), SoftmaxVariant::Entmax { alpha: 1.5 });
    assert_eq!(variant("entmax", r#", "entmax_alpha": 2"#), SoftmaxVariant::Entmax { alpha: 2.0 });
}

#[test]
fn variant_mistakes() {
    let order = "`layers.0.adaptive_clusters`: the clusters together list the classes 0, 1, 2 and so on, in order";
    let sum = "`layers.0.mixture_weights`: the weights have a sum that is more than 0 and within the range of a \
               64-bit float";
    for (name, keys, message) in [
        ("grid", r#", "softmax_rows": 2"#, "layers.0 (`softmax`) needs `softmax_cols`"),
        ("grid", r#", "softmax_rows": 0, "softmax_cols": 1"#, "`layers.0.softmax_rows` must be at least 1, found 0"),
        (
            "hierarchical",
            r#", "hierarchy_levels": []"#,
            "`layers.0.hierarchy_levels`: expected at least 1 element, found 0",
        ),
        (
            "hierarchical",
            r#", "hierarchy_levels": [2, 0]"#,
            "`layers.0.hierarchy_levels.1` must be at least 1, found 0",
        ),
        ("masked", "", "layers.0 (`softmax`) needs `mask`"),
        ("masked", r#", "mask": [1]"#, "`layers.0.mask.0`: expected true or false, found a number"),
        ("entmax", r#", "entmax_alpha": 1"#, "`layers.0.entmax_alpha` must be more than 1 and at most 2, found 1"),
        ("entmax", r#", "entmax_alpha": 2.5"#, "`layers.0.entmax_alpha` must be more than 1 and at most 2, found 2.5"),
        ("adaptive", r#", "adaptive_clusters": [[0], [2]]"#, order),
        ("adaptive", r#", "adaptive_clusters": [[1, 0]]"#, order),
        (
            "adaptive",
            r#", "adaptive_clusters": [[0], []]"#,
            "`layers.0.adaptive_clusters.1`: expected at least 1 element, found 0",
        ),
        ("mixture", r#", "mixture_weights": [0, 0]"#, sum),
        ("mixture", r#", "mixture_weights": [1e308, 1e308]"#, sum),
        ("mixture", r#", "mixture_weights": [1, -1]"#, "`layers.0.mixture_weights.1` must be at least 0, found -1"),
        ("sparse", r#", "mask": [true]"#, "layers.0 (`softmax` with `sparsemax`) has no key `mask`"),
    ] {
        let layer = format!(r#"{{"type": "softmax", "softmax_variant": "{name}"{keys}}}"#);
        assert_eq!(messages(&with_layers(&layer)), [message]);
    }
}
