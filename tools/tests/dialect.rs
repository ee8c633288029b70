//! Networks of Loom 0.0.8 on the command line: `loomc convert`, and `--dialect` of the other commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with an old network of several quirks: `old.json`, `old.safetensors` and `io.safetensors`.
struct Folder(TempDir);

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// What Go Loom 0.0.8 computes.
fn vectors(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lit-tests/vectors/loom-v0.0.8").join(case)
}

impl Folder {
    fn new(case: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (from, to) in
            [("net.json", "old.json"), ("weights.safetensors", "old.safetensors"), ("io.safetensors", "io.safetensors")]
        {
            fs::write(folder.path(to), fs::read(vectors(case).join(from)).unwrap()).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    fn loomc(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loomc"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.0.path()).env("LOOM_CACHE", "off").env_remove("LOOM_CPU");
        let output = command.output().unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What a run of these arguments prints.
    #[track_caller]
    fn digest(&self, args: &[&str]) -> String {
        let outcome = self.loomc(&[&["run"], args, &["--digest"]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert!(outcome.out.starts_with("sha256:"));
        outcome.out
    }
}

const OLD: [&str; 5] = ["old.json", "--weights", "old.safetensors", "--dialect", "loom-0.0.8"];

#[test]
fn converted_once_or_every_time() {
    let folder = Folder::new("net_moe_filter");
    let convert = ["convert", "old.json", "--weights", "old.safetensors"];
    let outcome = folder.loomc(&[&convert[..], &["-o", "net.json", "--weights-out", "w.safetensors"]].concat());
    assert_eq!((outcome.code, outcome.out.as_str()), (0, ""));
    assert_eq!(outcome.err.matches("note: quirk: ").count(), 3, "{}", outcome.err);
    assert!(outcome.err.contains("layers.1.filter_gate is read as one row an expert"));
    assert!(outcome.err.contains("old.json:61:"), "{}", outcome.err);
    // The config alone, where it is printed.
    let outcome = folder.loomc(&convert);
    assert_eq!(outcome.out, fs::read_to_string(folder.path("net.json")).unwrap());
    let converted = folder.digest(&["net.json", "--weights", "w.safetensors", "--input", "io.safetensors"]);
    let old = folder.digest(&[&OLD[..], &["--input", "io.safetensors"]].concat());
    assert_eq!(old, converted);
    // The config may say it itself.
    let mut config = folder.json("old.json");
    config["dialect"] = "loom-0.0.8".into();
    folder.write("says.json", &config);
    assert_eq!(folder.digest(&["says.json", "--weights", "old.safetensors", "--input", "io.safetensors"]), old);
    let refused = folder.loomc(&["run", "says.json", "--dialect", "loom"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("loomc convert"), "{}", refused.err);
}

#[test]
fn every_command_reads_it() {
    let folder = Folder::new("net_moe_filter");
    for command in ["verify", "bench", "compile"] {
        let args: &[&str] = match command {
            "verify" => &["--devices", "interp,cpu"],
            "bench" => &["--runs", "1"],
            _ => &["-o", "old.loom"],
        };
        let outcome = folder.loomc(&[&[command], &OLD[..], args].concat());
        // Nothing about this network is left open.
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{command}");
    }
    let compiled = folder.digest(&["old.loom", "--input", "io.safetensors"]);
    assert_eq!(compiled, folder.digest(&[&OLD[..], &["--input", "io.safetensors"]].concat()));
    let refused = folder.loomc(&["run", "old.loom", "--dialect", "loom-0.0.8"]);
    assert_eq!((refused.code, refused.err.contains("go with a config")), (2, true), "{}", refused.err);
    let inspected = folder.loomc(&["inspect", "old.json", "--dialect", "loom-0.0.8", "--json"]);
    assert_eq!(inspected.code, 0);
    assert!(inspected.out.contains("\"scale\""), "{}", inspected.out);
    assert!(inspected.err.starts_with("warning: ambiguity: there is no file of weights"), "{}", inspected.err);
    let labels = folder.path("labels.safetensors");
    let bytes = 1i32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I32, vec![1], &bytes).unwrap();
    fs::write(labels, safetensors::serialize([("labels", view)], None).unwrap()).unwrap();
    let args = ["--input", "io.safetensors", "--labels", "labels.safetensors"];
    let evaluated = folder.loomc(&[&["eval"], &OLD[..], &args].concat());
    assert_eq!(evaluated.code, 0, "{}", evaluated.err);
}

#[test]
fn bundles_say_what_they_are() {
    let folder = Folder::new("net_mlp_3layers_b4");
    fs::copy(vectors("net_mlp_3layers_b4").join("model.json"), folder.path("bundle.json")).unwrap();
    let old = folder.digest(&[&OLD[..], &["--input", "io.safetensors"]].concat());
    assert_eq!(folder.digest(&["bundle.json", "--input", "io.safetensors"]), old);
    let mut bundle = folder.json("bundle.json");
    let mut second = bundle["models"][0].clone();
    second["id"] = "other".into();
    second["cfg"]["layers"][2]["activation"] = "tanh".into();
    bundle["models"].as_array_mut().unwrap().push(second);
    folder.write("two.json", &bundle);
    let refused = folder.loomc(&["run", "two.json"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`net_mlp_3layers_b4`, `other`") && refused.err.contains("--model ID"));
    let of = |model: &str| folder.digest(&["two.json", "--model", model, "--input", "io.safetensors"]);
    assert_eq!(of("net_mlp_3layers_b4"), old);
    assert_ne!(of("other"), old);
    let refused = folder.loomc(&["run", "old.json", "--model", "other"]);
    assert_eq!((refused.code, refused.err.contains("--model goes with a bundle")), (2, true), "{}", refused.err);
}

#[test]
fn weights_of_other_types() {
    let folder = Folder::new("net_mlp_3layers_b4");
    let bytes = fs::read(folder.path("old.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    // bf16: the upper half of each number.
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = view.data().chunks_exact(4).flat_map(|bytes| [bytes[2], bytes[3]]).collect();
            (name, view.shape().to_vec(), data)
        })
        .collect();
    let views = halves.iter().map(|(name, shape, data)| {
        let dtype = safetensors::Dtype::BF16;
        (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), data).unwrap())
    });
    fs::write(folder.path("half.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let args = ["old.json", "--weights", "half.safetensors", "--dialect", "loom-0.0.8", "--input", "io.safetensors"];
    let rounded = folder.digest(&args);
    assert_ne!(rounded, folder.digest(&[&OLD[..], &["--input", "io.safetensors"]].concat()));
}

#[test]
fn mistakes_are_shown_in_the_old_file() {
    let folder = Folder::new("net_moe_filter");
    let layers = json!([{"type": "dense", "width": 4, "height": 6, "activation": "tanh"}, {"type": "gru"}]);
    let config = |layers: &Value, count: u64| json!({"grid_rows": 1, "grid_cols": 1, "layers_per_cell": count, "layers": layers});
    folder.write("bad.json", &config(&layers, 3));
    let refused = folder.loomc(&["convert", "bad.json"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("unknown layer type `gru`") && refused.err.contains("the network has 2 layers"));
    // What only the compiler finds is told about the old layer, too: n² comparisons of a sparse softmax are too many.
    let layers = json!([{"type": "dense", "width": 1, "height": 60000, "activation": "tanh"},
        {"type": "softmax", "softmax_variant": "entmax", "entmax_alpha": 2}]);
    folder.write("large.json", &config(&layers, 2));
    let refused = folder.loomc(&["run", "large.json", "--dialect", "loom-0.0.8"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("large.json:1:") && refused.err.contains("2^31"), "{}", refused.err);
    // Weights of another network.
    let other = Folder::new("net_mlp_3layers_b4");
    fs::copy(folder.path("old.safetensors"), other.path("moe.safetensors")).unwrap();
    let refused = other.loomc(&["convert", "old.json", "--weights", "moe.safetensors"]);
    assert_eq!(refused.code, 2);
    for part in ["the weights hold tensors of no layer: `layers.1.branches.0", "`layers.0.weight` has 48 numbers"] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
}

#[test]
fn nothing_is_overwritten() {
    let folder = Folder::new("net_moe_filter");
    let before = fs::read(folder.path("old.json")).unwrap();
    let refused = folder.loomc(&["convert", "old.json", "-o", "old.json"]);
    assert_eq!((refused.code, fs::read(folder.path("old.json")).unwrap()), (2, before));
    let refused = folder.loomc(&["convert", "old.json", "-o", "net.json", "--weights-out", "w.safetensors"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("there are no weights to write"));
    let both = ["--weights", "old.safetensors", "-o", "net.json", "--weights-out", "net.json"];
    assert_eq!(folder.loomc(&[&["convert", "old.json"], &both[..]].concat()).code, 2);
    assert!(!folder.path("net.json").exists() && !folder.path("w.safetensors").exists());
}
