//! Layers that scale, choose, repeat and rearrange elements.

use super::{assert_wrong, kind, messages, with_layers};
use crate::config::{Broadcast, LayerKind, Normalize, NormalizeBy, Reshape, Scale, Slice};

#[test]
fn forms() {
    let LayerKind::Scale(scale) = kind(r#"{"type": "scale"}"#) else { panic!() };
    assert_eq!(scale, Scale { factor: 1.0, offset: None });
    let LayerKind::Scale(scale) = kind(r#"{"type": "scale", "factor": -2, "offset": 0}"#) else { panic!() };
    assert_eq!(scale, Scale { factor: -2.0, offset: Some(0.0) });

    let LayerKind::Normalize(plain) = kind(r#"{"type": "normalize"}"#) else { panic!() };
    assert_eq!(plain, Normalize { norm: NormalizeBy::L2, axis: None, epsilon: 1e-12 });
    let source = r#"{"type": "normalize", "norm": "l1", "axis": -2, "epsilon": 3}"#;
    let LayerKind::Normalize(other) = kind(source) else { panic!() };
    assert_eq!((other.norm, other.axis.unwrap().value, other.epsilon), (NormalizeBy::L1, -2, 3.0));

    let LayerKind::Reshape(Reshape { shape }) = kind(r#"{"type": "reshape", "shape": [2, 3]}"#) else { panic!() };
    assert_eq!(shape.value, [2, 3]);
    let LayerKind::Broadcast(Broadcast { shape }) = kind(r#"{"type": "broadcast", "shape": [4]}"#) else { panic!() };
    assert_eq!(shape.value, [4]);

    let LayerKind::Slice(Slice { axis: None, start, end: None }) = kind(r#"{"type": "slice"}"#) else { panic!() };
    assert_eq!(start.value, 0);
    let source = r#"{"type": "slice", "axis": 1, "start": 2, "end": 5}"#;
    let LayerKind::Slice(Slice { axis: Some(axis), start, end: Some(end) }) = kind(source) else { panic!() };
    assert_eq!((axis.value, start.value, end.value), (1, 2, 5));
}

#[test]
fn wrong_values() {
    for (layer, message) in [
        (r#"{"type": "reshape"}"#, "layers.0 (`reshape`) needs `shape`"),
        (r#"{"type": "reshape", "shape": []}"#, "`layers.0.shape`: expected 1 to 7 integers, found 0"),
        (r#"{"type": "broadcast", "shape": [0]}"#, "`layers.0.shape.0` must be at least 1, found 0"),
        (r#"{"type": "slice", "end": 0}"#, "`layers.0.end` must be at least 1, found 0"),
        (r#"{"type": "slice", "start": -1}"#, "`layers.0.start` must be at least 0, found -1"),
        (r#"{"type": "normalize", "epsilon": 0}"#, "`layers.0.epsilon` must be more than 0, found 0"),
        (
            r#"{"type": "scale", "factor": 1e999}"#,
            "`layers.0.factor` must be within the range of a 64-bit float, found 1e999",
        ),
    ] {
        assert_eq!(messages(&with_layers(layer)), [message]);
    }
    assert_wrong(
        r#"{"type": "normalize", "norm": "l3"}"#,
        "unknown norm `l3`\n  \"l3\" <- no such norm\n  help: did you mean `l1`?\n",
    );
}
