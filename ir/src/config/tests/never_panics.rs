//! Whatever the text, there is a network or an error that can be shown.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::config::parse;

/// A network with every type of layer and most keys.
const VALID: &str = r#"{
    "id": "é\u00e9 🧶", "dtype": "f32", "dialect": "loom", "batch_size": 3, "input_shape": [1, 28, 28], "seed": 7,
    "grid_rows": 1, "grid_cols": 17, "layers_per_cell": 1,
    "layers": [
        {"type": "conv2d", "name": "first", "filters": 8, "kernel_size": [3, 3], "padding": 1, "activation": "gelu",
         "approximate": "tanh", "input_channels": 1, "input_height": 28, "input_width": 28},
        {"type": "max_pool2d", "kernel_size": 2},
        {"type": "avg_pool2d", "kernel_size": 2, "count_include_pad": false},
        {"type": "flatten", "start_axis": 1},
        {"type": "max_pool1d", "kernel_size": 2, "padding": 1, "dilation": 3},
        {"type": "avg_pool1d", "kernel_size": 3, "stride": 2, "count_include_pad": false},
        {"type": "dense", "width": 4, "height": 2, "activation": "leaky_relu", "negative_slope": 1e-2},
        {"type": "sequential", "branches": [{"type": "layer_norm", "epsilon": 1e-6}, {"type": "rms_norm"}]},
        {"type": "residual", "from": "first"},
        {"type": "residual", "from": 2},
        {"type": "conv1d", "filters": 2, "kernel_size": 3, "groups": 1, "bias": false},
        {"type": "elu", "alpha": -1.5},
        {"type": "activation", "activation": "silu"},
        {"type": "softmax", "softmax_variant": "temperature", "temperature": 0.5, "axis": -1},
        {"type": "softmax", "softmax_variant": "adaptive", "adaptive_clusters": [[0, 1], [2]]},
        {"type": "parallel", "combine_mode": "grid_scatter", "grid_output_rows": 2, "grid_output_cols": 1,
         "grid_positions": [{"target_row": 1, "target_col": 0}], "branches": [{"type": "swiglu", "output_size": 3}]},
        {"type": "kmeans", "num_clusters": 2, "attached_layer": {"type": "dropout", "rate": 0.25}}
    ]
}"#;

/// Pieces that mean something to the parser.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\n",
    " ",
    "-",
    "0",
    "1e400",
    "99999999999999999999",
    "1.5",
    "null",
    "true",
    "é",
    "🧶",
    "\u{feff}",
    "\u{0}",
    "\"type\":",
    "\"layers\":",
    "\"dense\"",
    "\"lstm\"",
    "\"parallel\"",
    "\"branches\":",
    "\"name\":\"first\",",
    "\"kernel_size\":[1,",
    "[[[[[[[[[[[[[[[[[[[[",
];

#[test]
fn the_valid_network_is_valid() {
    super::network(VALID);
}

/// Shows all there is to show, and checks that every place is one of the text.
fn check(source: &str) {
    let Err(errors) = parse(source) else { return };
    assert!(errors.iter().count() > 0, "neither a network nor an error");
    assert!(!errors.to_string().is_empty());
    for error in errors.diagnostics() {
        assert!(!error.message.is_empty());
        for (span, _) in error.primary.iter().chain(&error.secondary) {
            assert!(
                source.get(span.range()).is_some_and(|piece| !piece.is_empty()),
                "{error} at {span:?} of {source:?}"
            );
        }
    }
}

/// `source` with `piece` in place of the bytes between two places.
fn splice(source: &str, from: Index, length: usize, piece: &str) -> String {
    let start = source.floor_char_boundary(from.index(source.len() + 1));
    let end = source.floor_char_boundary((start + length).min(source.len())).max(start);
    format!("{}{piece}{}", &source[..start], &source[end..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn on_pieces(pieces in prop::collection::vec(select(PIECES), 0..100)) {
        check(&pieces.concat());
    }

    #[test]
    fn on_changed_networks(
        changes in prop::collection::vec((any::<Index>(), 0..12_usize, select(PIECES)), 1..6),
    ) {
        let changed = changes.into_iter().fold(VALID.to_owned(), |source, (from, length, piece)| {
            splice(&source, from, length, piece)
        });
        check(&changed);
    }

    #[test]
    fn on_changed_values(value in select(PIECES), at in any::<Index>()) {
        let values = VALID.match_indices(": ").map(|(start, _)| start + 2).collect::<Vec<_>>();
        let start = values[at.index(values.len())];
        let end = start + VALID[start..].find([',', '}', ']', '\n']).unwrap_or(0);
        check(&format!("{}{value}{}", &VALID[..start], &VALID[end..]));
    }
}

#[test]
fn on_cut_networks() {
    for (end, _) in VALID.char_indices() {
        check(&VALID[..end]);
    }
}

/// Every `net.json` below the folder that `LOOM_CONFIGS` names, if it does.
#[test]
fn on_networks_of_a_folder() {
    let Some(folder) = std::env::var_os("LOOM_CONFIGS") else { return };
    let mut networks = Vec::new();
    find_networks(Path::new(&folder), &mut networks);
    assert!(!networks.is_empty(), "no net.json below {}", folder.display());
    for path in networks {
        let source = std::fs::read_to_string(&path).unwrap();
        check(&source);
        let outcome = parse(&source).map_or_else(|errors| errors.to_string(), |_| "read".to_owned());
        println!("{}: {outcome}", path.display());
    }
}

fn find_networks(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            find_networks(&path, found);
        } else if path.ends_with("net.json") {
            found.push(path);
        }
    }
}
