//! What becomes of old networks: their text, the notes, and what is refused.

use loom_dialect::{NoteKind, OldWeights, Options, Translation, translate};
use loom_ir::diagnostics::Span;
use loom_ir::limits;

/// An old config of these layers.
fn config(keys: &str, layers: &[&str]) -> String {
    let (count, layers) = (layers.len(), layers.join(",\n"));
    format!("{{\"grid_rows\": 1, \"grid_cols\": 1, \"layers_per_cell\": {count}, {keys} \"layers\": [\n{layers}\n]}}")
}

fn translation(keys: &str, layers: &[&str]) -> Translation {
    let source = config(keys, layers);
    let translation = translate(&source, None, &Options::default());
    let translation = translation.unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let parsed = loom_ir::config::parse(&translation.config);
    assert!(parsed.is_ok(), "{parsed:?}\n{}", translation.config);
    translation
}

/// The new layers, without the indentation of their lines.
fn layers(keys: &str, old: &[&str]) -> String {
    let config = translation(keys, old).config;
    let (_, layers) = config.split_once("\"layers\": [\n").unwrap();
    let layers = layers.strip_suffix("\n  ]\n}\n").unwrap();
    layers.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// What is wrong: a message a line, and what it underlines.
fn wrong_with(source: &str, weights: Option<&OldWeights>, model: Option<&str>) -> String {
    let Err(errors) = translate(source, weights, &Options { model }) else { panic!("no error in {source}") };
    let mut shown = String::new();
    for error in errors.diagnostics() {
        shown += &format!("{}\n", error.message);
        for (span, _) in error.primary.iter().chain(&error.secondary) {
            shown += &format!("  {}\n", &source[span.range()]);
        }
    }
    shown
}

fn wrong(keys: &str, layers: &[&str]) -> String {
    wrong_with(&config(keys, layers), None, None)
}

fn dense(from: u64, to: u64) -> String {
    format!(r#"{{"type": "dense", "activation": "tanh", "width": {from}, "height": {to}}}"#)
}

fn parallel(keys: &str, branches: &[&str]) -> String {
    format!(r#"{{"type": "parallel", {keys} "branches": [{}]}}"#, branches.join(", "))
}

/// What a layer that gives its input becomes, where there is no other.
const NOTHING: &str = "{\"type\": \"sequential\", \"branches\": []}\n";

#[test]
fn keys_are_read_as_go_reads_them() {
    // Another case, a key given twice, null, unknown keys: all of it is the same network.
    let plain = layers("", &[r#"{"type": "dense", "input_size": 4, "output_size": 2, "activation": "tanh"}"#]);
    let odd = r#"{"Type": "dense", "input_size": 9, "Input_Size": 4, "output_size": 2, "activation": "tanh",
        "padding": null, "comment": []}"#;
    assert_eq!(layers(r#""dtype": "float16", "note": 1,"#, &[odd]), plain);
    assert_eq!(plain, "{\"type\": \"dense\", \"input_size\": 4, \"output_size\": 2, \"activation\": \"tanh\"}\n");
}

#[test]
fn sizes_have_an_order() {
    let all = r#"{"type": "dense", "activation": "tanh", "width": 2, "input_size": 3, "input_height": 4,
        "height": 5, "output_size": 6, "output_height": 7}"#;
    assert!(layers("", &[all]).contains(r#""input_size": 2, "output_size": 5"#));
    let two = r#"{"type": "dense", "activation": "tanh", "input_size": 3, "input_height": 4, "output_height": 7}"#;
    assert!(layers("", &[two]).contains(r#""input_size": 3, "output_size": 7"#));
    let saved =
        r#"{"type": "dense", "activation": "tanh", "width": 1, "height": 1, "input_height": 4, "output_height": 7}"#;
    let translation = translation("", &[saved]);
    assert!(translation.config.contains(r#""input_size": 1, "output_size": 1"#));
    assert!(translation.notes.iter().any(|note| note.kind == NoteKind::Ambiguity && note.message.contains("width")));
}

#[test]
fn implicit_residuals() {
    let norm = r#"{"type": "rms_norm", "norm_size": 4}"#;
    let attention = r#"{"type": "mha", "d_model": 4, "num_heads": 2, "head_dim": 2}"#;
    // A norm hands on its input, attention what it gives.
    assert_eq!(
        layers(r#""input_shape": [3, 4],"#, &[norm, attention, norm, r#"{"type": "layernorm", "norm_size": 12}"#]),
        "{\"type\": \"rms_norm\", \"norm_size\": 4},\n\
         {\"type\": \"multi_head_attention\", \"num_heads\": 2, \"output_projection\": false},\n\
         {\"type\": \"residual\", \"name\": \"skip.0\", \"from\": \"input\"},\n\
         {\"type\": \"rms_norm\", \"norm_size\": 4},\n\
         {\"type\": \"residual\", \"from\": \"skip.0\"},\n\
         {\"type\": \"flatten\"},\n\
         {\"type\": \"layer_norm\", \"norm_size\": 12}\n"
    );
    // What is not as long is not added, but the norm hands on its output all the same.
    let second = r#"{"type": "layer_norm", "norm_size": 6}"#;
    let text = layers("", &[norm, &dense(4, 6), second, &dense(6, 6), second]);
    assert_eq!(text.matches("residual").count(), 1, "{text}");
    assert!(text.contains("{\"type\": \"layer_norm\", \"name\": \"skip.0\", \"norm_size\": 6}"), "{text}");
    assert!(text.contains("\"from\": \"skip.0\""), "{text}");
}

#[test]
fn attention_tells_the_rows() {
    let norm = r#"{"type": "rms_norm", "norm_size": 4}"#;
    let attention = r#"{"type": "mha", "d_model": 4, "num_heads": 2, "head_dim": 2, "seq_length": 5}"#;
    let translation = translation("", &[norm, attention]);
    assert!(translation.config.contains("\"input_shape\": [5, 4]"), "{}", translation.config);
    assert!(translation.notes.iter().any(|note| note.message.contains("a sample has 5")));
}

#[test]
fn feature_maps_are_read_as_they_lie() {
    let conv = r#"{"type": "conv1d", "activation": "tanh", "input_length": 4, "filters": 3, "kernel_size": 2}"#;
    // Three channels of three positions are three steps of three numbers, without a transposition.
    let rnn = r#"{"type": "rnn", "input_size": 3, "hidden_size": 2, "seq_length": 3}"#;
    let text = layers("", &[conv, rnn]);
    assert!(text.contains("{\"type\": \"reshape\", \"shape\": [3, 3]},\n{\"type\": \"rnn\""), "{text}");
    // A softmax is over all of a sample, not over the channels.
    let text = layers("", &[conv, r#"{"type": "softmax"}"#]);
    assert!(text.contains("{\"type\": \"flatten\"},\n{\"type\": \"softmax\"}"), "{text}");
    // A convolution takes another one's output as it is.
    let second = conv.replace("\"input_length\": 4", "\"input_channels\": 3, \"input_length\": 3");
    assert_eq!(layers("", &[conv, &second]).lines().count(), 2);
}

#[test]
fn branches_that_fail() {
    let softmax = format!(
        r#"{{"type": "sequential", "branches": [{}, {{"type": "softmax", "softmax_variant": "grid"}}]}}"#,
        dense(4, 4)
    );
    for layer in [
        parallel(r#""combine_mode": "multiply","#, &[&dense(4, 4), &dense(4, 4)]),
        parallel(r#""combine_mode": "add","#, &[&dense(4, 4), &dense(4, 3)]),
        parallel("", &[&dense(4, 4), r#"{"type": "residual"}"#]),
        parallel("", &[]),
        parallel(r#""combine_mode": "grid_scatter","#, &[&dense(4, 4)]),
        softmax,
    ] {
        assert_eq!(layers(r#""input_shape": [4],"#, &[&layer]), NOTHING, "{layer}");
        let inside = parallel("", &[&layer]);
        let message =
            "layers.0.branches.0: fails as a branch, and what the layer around it makes of that isn't known\n";
        let found = wrong(r#""input_shape": [4],"#, &[&inside]);
        assert!(found.starts_with(message), "{inside}\n{found}");
    }
    // Of two branches in a cell the later one stays; the grid counts by rows.
    let scatter = parallel(
        r#""combine_mode": "grid_scatter", "grid_output_rows": 1, "grid_output_cols": 2, "grid_output_layers": 1,
        "grid_positions": [{"target_col": 1}, {"target_col": 1}, {"branch_index": 7}],"#,
        &[&dense(4, 1), &dense(4, 2), &dense(4, 3)],
    );
    let text = layers("", &[&scatter]);
    let sizes: Vec<&str> = text.split("\"output_size\": ").skip(1).map(|rest| &rest[..1]).collect();
    assert_eq!(sizes, ["3", "2"], "{text}");
}

#[test]
fn shorter_experts_end_in_zeros() {
    let filter = parallel(r#""combine_mode": "filter","#, &[&dense(4, 1), &dense(4, 3)]);
    let text = layers("", &[&filter]);
    assert!(text.contains("{\"type\": \"broadcast\", \"shape\": [2]}"), "{text}");
}

#[test]
fn batches_that_are_mixed() {
    let concat = parallel("", &[&dense(3, 2), r#"{"type": "softmax"}"#]);
    let text = translation(r#""batch_size": 4,"#, &[&concat]).config;
    assert!(!text.contains("batch_size") && text.contains("\"input_shape\": [4, 3]"), "{text}");
    let conv = r#"{"type": "conv1d", "input_length": 3, "filters": 3, "kernel_size": 3}"#;
    assert_eq!(
        wrong(r#""batch_size": 4,"#, &[conv, &concat]),
        "layers.0: needs the samples of a batch apart, but layers.1 gives what its branches give one after another, \
         each for the whole batch\n  \"conv1d\"\n  \"parallel\"\n"
    );
    // One sample at a time there is nothing to mix.
    translation("", &[conv, &concat]);
    // A sum mixes nothing.
    let add = parallel(r#""combine_mode": "add","#, &[&dense(3, 2), &dense(3, 2)]);
    let text = translation(r#""batch_size": 4,"#, &[&add]).config;
    assert!(text.contains("\"batch_size\": 4") && text.contains("\"input_shape\": [3]"), "{text}");
}

#[test]
fn refused() {
    let dense = r#"{"type": "dense", "input_size": 4, "output_size": 2}"#;
    assert_eq!(
        wrong(
            "\"batch_size\": 1.5,",
            &[r#"{"type": "gru"}"#, r#"{"type": "dense", "width": -1, "activation": 3}"#, "{}"]
        ),
        "`batch_size`: expected an integer, found a number with a fraction\n  1.5\n\
         unknown layer type `gru`\n  \"gru\"\n\
         `layers.1.width` must be at least 0, found -1\n  -1\n\
         `layers.1.activation`: expected a string, found a number\n  3\n\
         layers.2 needs `type`\n  {}\n"
    );
    let no_output = r#"{"type": "dense", "input_size": 4}"#;
    assert_eq!(wrong("", &[no_output]), "layers.0 (`dense`) needs `output_size`\n  \"dense\"\n");
    let no_shape = "the size of the network's input is not known\n  \"residual\"\n";
    assert_eq!(wrong("", &[r#"{"type": "residual"}"#]), no_shape);
    assert_eq!(wrong("", &[dense, dense]), "layers.1: reads 4 numbers of a sample, but 2 reach it\n  \"dense\"\n");
    let lstm = r#"{"type": "lstm", "input_size": 3, "hidden_size": 2}"#;
    assert_eq!(wrong("", &[dense, lstm]), "layers.1: takes 3 numbers a sample, but 2 reach it\n  \"lstm\"\n");
    let rms = r#"{"type": "rmsnorm", "norm_size": 4}"#;
    let no_rows = "layers.1: 2 numbers reach it, which are no whole rows of 4\n  \"rmsnorm\"\n";
    assert_eq!(wrong("", &[dense, rms]), no_rows);
    let conv = r#"{"type": "conv1d", "input_length": 3, "filters": 3, "kernel_size": 6, "padding": 1}"#;
    let too_wide = "layers.0: a kernel of 6 does not fit into 3 positions with padding 1\n  \"conv1d\"\n";
    assert_eq!(wrong("", &[conv]), too_wide);
    let huge = r#"{"type": "dense", "input_size": 4, "output_size": 4294967296}"#;
    assert!(wrong("", &[huge]).starts_with("layers.0: a tensor has fewer than 2^31 elements"));
    let embedding = r#"{"type": "embedding", "vocab_size": 2, "embedding_dim": 2}"#;
    assert!(wrong(r#""input_shape": [1, 1, 1, 1, 1, 1, 2],"#, &[embedding]).contains("at most 8 axes"));
    let mask = format!(r#"{{"type": "softmax", "mask": [{}true]}}"#, "true,".repeat(1 << 20));
    assert!(wrong("", &[&mask]).starts_with("`layers.0.mask`: expected at most 2^20 elements, found 1048577\n"));
    let grid = format!(r#"{{"grid_rows": 2, "grid_cols": 1, "layers_per_cell": 1, "layers": [{dense}]}}"#);
    let message = "`grid_rows` × `grid_cols` × `layers_per_cell` is 2 × 1 × 1 = 2, but the network has 1 layers\n";
    assert!(wrong_with(&grid, None, None).starts_with(message));
    assert!(wrong_with(r#"{"layers": []}"#, None, None).starts_with("the network needs `grid_rows`\n"));
    assert!(wrong_with("[1,", None, None).starts_with("not valid JSON"));
    assert!(wrong_with(&config("", &[dense]), None, Some("m")).starts_with("a model can be chosen of a bundle"));
}

#[test]
fn weights_that_do_not_fit() {
    let norm = r#"{"type": "rms_norm", "norm_size": 1}"#;
    let source = config("", &[&dense(2, 3), &dense(3, 1), norm]);
    let mut weights = OldWeights::new();
    weights.insert("layers.0.weight", vec![0.0; 5]);
    weights.insert("layers.3.weight", vec![0.0]);
    let first = dense(2, 3);
    assert_eq!(
        wrong_with(&source, Some(&weights), None),
        format!(
            "the weights hold tensors of no layer: `layers.3.weight`\n\
             layers.0: its weight `layers.0.weight` has 5 numbers, the layer needs 6\n  {first}\n\
             layers.0: its weights are missing: `layers.0.bias`\n  {first}\n\
             layers.2: its weights are missing: `layers.2.gamma`\n  {norm}\n"
        )
    );
}

#[test]
fn nesting_is_limited() {
    let nested = |kind: &str, depth: usize, activation: &str| {
        let dense = dense(2, 2).replace("tanh", activation);
        (0..depth).fold(dense, |inner, _| format!(r#"{{"type": "{kind}", "branches": [{inner}]}}"#))
    };
    // Of lists inside one another all but the outermost are skipped, so there is nothing deep about them.
    assert_eq!(layers(r#""input_shape": [2],"#, &[&nested("sequential", 29, "tanh")]), NOTHING);
    let depth = limits::MAX_CONFIG_DEPTH;
    translation("", &[&nested("parallel", 29, "tanh")]);
    let message = wrong("", &[&nested("parallel", 31, "tanh")]);
    assert!(message.starts_with(&format!("lists and objects are nested more than {depth} deep\n")), "{message}");
    // A branch that becomes two layers is one list more.
    let message = wrong("", &[&nested("parallel", 30, "relu")]);
    assert!(message.starts_with(&format!("spelled out, the network is nested more than {depth} deep\n")), "{message}");
}

#[test]
fn bundles() {
    let model = |id: &str, cfg: &str, weights: &str| format!(r#"{{"id": "{id}", "cfg": {cfg}, "weights": {weights}}}"#);
    let bundle = |models: &[String]| {
        format!(r#"{{"type": "modelhost/bundle", "version": 1, "models": [{}]}}"#, models.join(", "))
    };
    let saved =
        r#"{"type": "dense", "activation": "tanh", "width": 1, "height": 1, "input_height": 2, "output_height": 1}"#;
    let cfg = config("", &[saved]);
    let stored = |data: &str| format!(r#"{{"fmt": "jsonModelB64", "data": "{data}"}}"#);
    // {"type":"float32","layers":[{"kernel":[0.5,-2],"biases":[1]}]}
    let data = stored("eyJ0eXBlIjoiZmxvYXQzMiIsImxheWVycyI6W3sia2VybmVsIjpbMC41LC0yXSwiYmlhc2VzIjpbMV19XX0=");
    let one = bundle(&[model("a", &cfg, &data)]);
    let translation = translate(&one, None, &Options::default()).unwrap();
    assert!(translation.config.contains(r#""input_size": 2, "output_size": 1"#));
    let weights = translation.weights.unwrap();
    assert_eq!((weights[0].name.as_str(), &weights[0].dims), ("layers.0.weight", &vec![1, 2]));
    let two = bundle(&[model("a", &cfg, &data), model("b", &cfg, &data)]);
    assert!(translate(&two, None, &Options { model: Some("b") }).is_ok());
    assert!(wrong_with(&two, None, None).starts_with("the bundle has several models: `a`, `b`\n"));
    assert!(wrong_with(&two, None, Some("c")).starts_with("the bundle has no model `c`, it has `a`, `b`\n"));
    assert!(wrong_with(&bundle(&[]), None, None).starts_with("the bundle is wrong: it holds no model\n"));
    let refused = |weights: &str| wrong_with(&bundle(&[model("a", &cfg, weights)]), None, None);
    assert!(refused(r#"{"fmt": "zip", "data": ""}"#).starts_with("the bundle is wrong: `fmt` is neither"));
    assert_eq!(
        refused(&stored("?")),
        "the bundle is wrong: the data is no base64: Invalid symbol 63, offset 0.\n  \"?\"\n"
    );
    // [], {"layers":[]} and {"layers":[{"kernel":["x"]}]}
    for (data, reason) in [
        ("W10=", "the network: expected an object, found a list"),
        ("eyJsYXllcnMiOltdfQ==", "`layers` has the weights of 0 layers, the config has 1"),
        ("eyJsYXllcnMiOlt7Imtlcm5lbCI6WyJ4Il19XX0=", "`kernel` of layers.0 can't be read as numbers"),
    ] {
        let message = format!("the bundle is wrong: in the decoded data, {reason}\n  \"{data}\"\n");
        assert_eq!(refused(&stored(data)), message);
    }
}

#[test]
fn mistakes_found_later_point_into_the_old_file() {
    let masked = r#"{"type": "softmax", "softmax_variant": "masked", "mask": [true, false]}"#;
    let relu = r#"{"type": "dense", "width": 2, "height": 3}"#;
    let source = config("", &[masked, relu]);
    let translation = translate(&source, None, &Options::default()).unwrap();
    for (new, old) in [("\"masked\"", masked), ("\"output_size\"", relu), ("1.1", relu), ("input_shape", &source)] {
        let start = translation.config.find(new).unwrap();
        let origin = translation.origin(Span::new(start, start + new.len()));
        assert_eq!(&source[origin.range()], old, "{new}");
    }
}
