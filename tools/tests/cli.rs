//! The command line as scripts see it: exit codes, what goes to which stream, and the files left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with the config `net.json`, in which loomc runs.
struct Folder(TempDir);

/// Two dense layers on rows of eight; a batch of three.
const NET: &str = r#"{
  "id": "small",
  "seed": 7,
  "batch_size": 3,
  "layers": [
    {"type": "dense", "input_size": 8, "output_size": 6, "activation": "relu"},
    {"type": "dense", "output_size": 4, "activation": "linear"},
    {"type": "softmax"}
  ]
}
"#;

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("net.json", NET);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loomc"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        // Without this variable, Mesa's drivers complain on standard error.
        command.env_remove("LOOM_DEBUG_FLIP_BIT").env_remove("LOOM_CPU").env("XDG_RUNTIME_DIR", self.0.path());
        // Nothing of these tests is to be found in the user's cache, nor the other way round.
        command.env("LOOM_CACHE", "off");
        command
    }

    fn loomc(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.command(args).output().unwrap())
    }
}

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    fn of(output: Output) -> Outcome {
        Outcome {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        assert!(self.err.starts_with("error: "), "{}", self.err);
        self.err
    }
}

/// A safetensors file of `f32` tensors, written by the format's own library.
fn write_tensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).unwrap();
        (name.to_string(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn write_input(path: &Path, samples: usize) {
    let values: Vec<f32> = (0..samples * 8).map(|index| (index as f32 * 0.7).sin()).collect();
    write_tensors(path, &[("input", &[samples, 8], &values)]);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn usage() {
    let folder = Folder::new();
    assert!(folder.loomc(&["--help"]).fine().contains("Exit codes"));
    assert!(folder.loomc(&["--version"]).fine().starts_with("loomc "));
    for command in
        ["compile", "run", "verify", "replay", "devices", "inspect", "bench", "eval", "convert", "completions"]
    {
        assert!(folder.loomc(&[command, "--help"]).fine().contains("Usage: loomc"));
    }
    assert_eq!(folder.loomc(&[]).code, 2);
    folder.loomc(&["frobnicate"]).refused(2);
    folder.loomc(&["run"]).refused(2);
    assert!(folder.loomc(&["run", "net.json", "--device", "tpu"]).refused(2).contains("cpu, gpu, interp"));
    assert!(folder.loomc(&["completions", "bash"]).fine().contains("loomc"));
}

#[test]
fn a_compiled_network_gives_the_bits_of_its_config() {
    let folder = Folder::new();
    let compile = ["compile", "net.json", "--target", "cpu"];
    assert_eq!(folder.loomc(&compile).fine(), "");
    let bytes = fs::read(folder.path("net.loom")).unwrap();
    folder.loomc(&[&compile[..], &["-o", "again.loom"]].concat()).fine();
    assert_eq!(fs::read(folder.path("again.loom")).unwrap(), bytes, "same input, same bytes");
    assert_eq!(folder.names(), ["again.loom", "net.json", "net.loom"], "and nothing else");

    let digest = folder.loomc(&["run", "net.json", "--digest", "--device", "interp"]).fine();
    assert_eq!(digest.len(), "sha256:\n".len() + 64);
    assert_eq!(folder.loomc(&["run", "net.loom", "--digest", "--device", "interp"]).fine(), digest);
    assert_eq!(folder.loomc(&["run", "net.loom", "--digest"]).fine(), digest, "on the default device too");

    let report = json(&folder.loomc(&["run", "net.loom", "--json", "--device", "interp"]).fine());
    assert_eq!(report["schema"], 1);
    assert_eq!(report["digest"], digest.trim());
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([3, 4]));
    for part in ["parse", "passes", "codegen", "load", "run"] {
        assert!(report["seconds"][part].is_f64(), "{part}");
    }
}

#[test]
#[cfg(feature = "cpu")]
fn levels_of_the_processor_change_no_bit() {
    let folder = Folder::new();
    let args = ["run", "net.json", "--digest", "--device", "cpu"];
    let run = |level: &str| Outcome::of(folder.command(&args).env("LOOM_CPU", level).output().unwrap());
    let digest = folder.loomc(&["run", "net.json", "--digest", "--device", "interp"]).fine();
    assert_eq!(run("portable").fine(), digest);
    assert_eq!(run("").fine(), digest);
    let error = run("avx1024").refused(3);
    assert!(
        error.contains("LOOM_CPU=avx1024: there is no level `avx1024`, only `portable`, `avx2` and `avx512`"),
        "{error}"
    );
}

#[test]
fn inputs_of_any_number_of_samples() {
    let folder = Folder::new();
    write_input(&folder.path("in.safetensors"), 7);
    let run = ["run", "net.json", "--input", "in.safetensors", "-o", "out.safetensors"];
    assert!(folder.loomc(&run).fine().contains("output f32 [7, 4]"));
    let bytes = fs::read(folder.path("out.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("output").unwrap().shape(), [7, 4]);
    for row in tensors.tensor("output").unwrap().data().chunks(16) {
        let sum: f32 = row.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
}

/// A network that keeps keys and values: three positions, then one and one, are five at once.
#[test]
fn decoding_goes_on_from_a_state() {
    let folder = Folder::new();
    let net = |positions: usize, cache: &str| {
        format!(
            r#"{{"batch_size": 1, "input_shape": [{positions}, 4], "layers": [
            {{"type": "multi_head_attention", "num_heads": 2{cache}}}]}}"#
        )
    };
    folder.write("whole.json", net(5, ""));
    folder.write("step.json", net(1, r#", "kv_cache": 5"#));
    let values: Vec<f32> = (0..20).map(|index| (index * index % 13) as f32 - 6.0).collect();
    write_tensors(&folder.path("all"), &[("input", &[1, 5, 4], &values)]);
    write_tensors(&folder.path("prompt"), &[("input", &[1, 3, 4], &values[..12])]);
    write_tensors(&folder.path("fourth"), &[("input", &[1, 1, 4], &values[12..16])]);
    write_tensors(&folder.path("fifth"), &[("input", &[1, 1, 4], &values[16..])]);
    let whole = folder.loomc(&["run", "whole.json", "--input", "all", "--digest"]).fine();
    assert_eq!(folder.loomc(&["run", "step.json", "--input", "all", "--digest"]).fine(), whole);

    folder.loomc(&["run", "whole.json", "--input", "all", "-o", "all.out"]).fine();
    folder.loomc(&["run", "step.json", "--input", "prompt", "--save-state", "s"]).fine();
    folder.loomc(&["run", "step.json", "--input", "fourth", "--state", "s", "--save-state", "s"]).fine();
    folder.loomc(&["run", "step.json", "--input", "fifth", "--state", "s", "-o", "fifth.out"]).fine();
    let [all, fifth] = ["all.out", "fifth.out"].map(|name| fs::read(folder.path(name)).unwrap());
    assert!(all.ends_with(&fifth[fifth.len() - 16..]), "the last position's bits");

    folder.loomc(&["run", "step.json", "--input", "fifth", "--state", "s", "--save-state", "s"]).fine();
    let full = folder.loomc(&["run", "step.json", "--input", "fifth", "--state", "s"]).refused(2);
    assert!(full.contains("sequence 0 has 5 positions, and room for 5: 1 more don't fit"), "{}", full);
    let none = folder.loomc(&["run", "net.json", "--save-state", "t"]).refused(2);
    assert!(none.contains("it has no layer with a `kv_cache`"), "{}", none);
    let other = folder.loomc(&["run", "step.json", "--input", "fifth", "--state", "all"]).refused(2);
    assert!(other.contains("all: the network's input `position`"), "{}", other);
    let bench = folder.loomc(&["bench", "step.json", "--runs", "2"]).fine();
    assert!(bench.contains("median"), "{}", bench);
}

#[test]
fn stages() {
    let folder = Folder::new();
    assert!(folder.loomc(&["compile", "net.json", "--stop-after", "lower"]).fine().starts_with("graph \"small\""));
    assert!(folder.loomc(&["compile", "net.json", "--emit", "graph"]).fine().starts_with("graph \"small\""));
    let program = folder.loomc(&["compile", "net.json", "--emit", "program"]).fine();
    assert!(program.starts_with("program \"small\""));
    folder.loomc(&["compile", "net.json", "--emit", "program", "-o", "program.txt"]).fine();
    assert_eq!(fs::read_to_string(folder.path("program.txt")).unwrap(), program);
    for (emit, feature, mark) in [
        ("wgsl", cfg!(feature = "gpu"), "fn k1_main("),
        ("spirv", cfg!(feature = "gpu"), "; kernel"),
        ("clif", cfg!(feature = "cpu"), "; u0:0 kernel"),
        ("asm", cfg!(feature = "cpu"), "; u0:0 kernel"),
    ] {
        let outcome = folder.loomc(&["compile", "net.json", "--emit", emit]);
        if feature {
            assert!(outcome.fine().contains(mark), "{emit}");
        } else {
            assert!(outcome.refused(3).contains("built without the feature"), "{emit}");
        }
    }
    let soft = folder.loomc(&["compile", "net.json", "--emit", "wgsl", "--gpu-tier", "soft"]);
    if cfg!(feature = "gpu") {
        let text = soft.fine();
        assert!(text.contains("fn loom_add(x0: u32, x1: u32) -> u32"), "{text}");
        assert!(text.lines().all(|line| !line.split("//").next().unwrap_or("").contains("f32")), "{text}");
    } else {
        soft.refused(3);
    }
    folder.loomc(&["compile", "net.json", "--emit", "program", "--gpu-tier", "soft"]).refused(2);
    let printed = folder.loomc(&["compile", "net.json", "--emit", "program", "--print-ir-after", "all"]);
    assert_eq!((printed.code, printed.out), (0, program));
    assert!(printed.err.contains("// after infer-shapes") && printed.err.contains("// after plan"));
    assert!(folder.loomc(&["compile", "net.json", "--stop-after", "lowr"]).refused(2).contains("no pass `lowr`"));
    assert!(folder.loomc(&["compile", "net.json", "--print-ir-after", "lowr"]).refused(2).contains("no pass `lowr`"));
    assert!(folder.loomc(&["compile", "net.json", "--dialect", "loom-0.0.8"]).refused(2).contains("grid_rows"));
    assert_eq!(folder.names(), ["net.json", "program.txt"]);
}

#[test]
fn mistakes_in_configs_are_shown_in_their_place() {
    let folder = Folder::new();
    folder.write("bad.json", NET.replace("\"seed\"", "\"sed\"").replace("softmax", "sofmax"));
    let text = folder.loomc(&["run", "bad.json"]).refused(2);
    for expected in
        ["bad.json:3:3", "the network has no key `sed`", "did you mean `seed`?", "bad.json:8:14", "^^^^^^^^"]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    folder.write("bad.json", NET.replace("\"output_size\": 4", "\"input_size\": 9, \"output_size\": 4"));
    let text = folder.loomc(&["compile", "bad.json"]).refused(2);
    assert!(text.contains("layers.1") && text.contains("bad.json:7:37"), "{text}");
    folder.write("bad.json", "{\"layers\": [");
    assert!(folder.loomc(&["inspect", "bad.json"]).refused(2).contains("not valid JSON"));
    folder.write("bad.json", b"{\n\"id\": \"\xff\"}");
    assert!(folder.loomc(&["run", "bad.json"]).refused(2).contains("bad.json:2: not UTF-8"));
    folder.write("bad.json", " \n");
    assert!(folder.loomc(&["run", "bad.json"]).refused(2).contains("bad.json: the file is empty"));
    folder.write("bad.json", format!("{{\"layers\": [{}{{\"type\": \"dens\"}}]}}", " ".repeat(100_000)));
    let text = folder.loomc(&["run", "bad.json"]).refused(2);
    assert!(text.contains("bad.json:1:100022") && text.contains("\"type\": \"dens\""), "{}", text.len());
    assert!(text.len() < 1000, "of a long line only a part is shown");
    folder.write("bad.json", NET.replace("small", "\u{9b}31m"));
    assert!(!folder.loomc(&["inspect", "bad.json"]).fine().contains('\u{9b}'), "terminals are not steered");
    assert!(folder.loomc(&["run", "none.json"]).refused(2).contains("none.json: can't be read"));
}

#[test]
fn wrong_files_are_told() {
    let folder = Folder::new();
    write_input(&folder.path("in.safetensors"), 2);
    write_tensors(&folder.path("wide.safetensors"), &[("input", &[2, 9], &[0.0; 18])]);
    write_tensors(
        &folder.path("w.safetensors"),
        &[("layers.0.weight", &[6, 8], &[0.0; 48]), ("layer.0.bias", &[6], &[0.0; 6])],
    );
    let run = |option: &str, file: &str| folder.loomc(&["run", "net.json", option, file]).refused(2);
    let text = run("--input", "wide.safetensors");
    assert!(text.contains("wide.safetensors: input `input` has shape [2, 9], the network takes [any number, 8]"));
    assert!(run("--input", "w.safetensors").contains("there is no tensor `input`"));
    assert!(run("--input", "net.json").contains("not a safetensors file"));
    assert!(run("--input", ".").contains("not a regular file"));
    let wrong = ["compile", "net.json", "--emit", "program", "--weights", "w.safetensors"];
    assert!(folder.loomc(&wrong).refused(2).contains("is missing"), "weights are checked though no text holds them");
    let text = run("--weights", "w.safetensors");
    for expected in
        ["`layers.0.bias` f32 [6] is missing (is it `layer.0.bias`?)", "`layers.1.weight` f32 [4, 6] is missing"]
    {
        assert!(text.contains(expected), "{text}");
    }
    assert!(folder.loomc(&["run", "in.safetensors"]).refused(2).contains("not a compiled network"));

    folder.loomc(&["compile", "net.json", "--target", "cpu"]).fine();
    assert!(folder.loomc(&["run", "net.loom", "--weights", "w.safetensors"]).refused(2).contains("inside"));
    let bytes = fs::read(folder.path("net.loom")).unwrap();
    folder.write("cut.loom", &bytes[..bytes.len() - 4]);
    assert!(folder.loomc(&["run", "cut.loom"]).refused(2).contains("cut.loom: the tensors take"));
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    folder.write("changed.loom", &changed);
    assert!(folder.loomc(&["run", "changed.loom"]).refused(2).contains("changed.loom: damaged: its digest is"));
    assert!(folder.loomc(&["inspect", "changed.loom"]).refused(2).contains("damaged"));
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let folder = Folder::new();
    let before = folder.names();
    folder.loomc(&["run", "net.json", "-o", "no/such/folder/out.safetensors"]).refused(2);
    folder.loomc(&["run", "net.json", "-o", "."]).refused(2);
    folder.loomc(&["compile", "net.json", "--target", "cpu", "-o", "no/such/folder/net.loom"]).refused(2);
    folder.write("bad.json", "{}");
    folder.loomc(&["compile", "bad.json"]).refused(2);
    fs::remove_file(folder.path("bad.json")).unwrap();
    assert_eq!(folder.names(), before);
    // What a result is made from is not replaced by it.
    folder.write("net.loom", NET);
    write_input(&folder.path("in.safetensors"), 2);
    for args in [
        &["compile", "net.loom"][..],
        &["compile", "net.loom", "--emit", "program", "-o", "./net.loom"],
        &["run", "net.json", "-o", "net.json"],
        &["run", "net.json", "--input", "in.safetensors", "-o", "in.safetensors"],
    ] {
        let text = folder.loomc(args).refused(2);
        assert!(text.contains("would replace a file that it is made from"), "{args:?}: {text}");
    }
    assert_eq!(fs::read_to_string(folder.path("net.loom")).unwrap(), NET);
    #[cfg(target_os = "linux")]
    {
        let text = folder.loomc(&["run", "net.json", "-o", "/dev/full"]).refused(2);
        assert!(text.contains("/dev/full: can't be written"), "{text}");
    }
}

#[test]
fn verify_answers_by_its_exit_code() {
    let folder = Folder::new();
    let verify = ["verify", "net.json", "--devices", "interp,interp"];
    let text = folder.loomc(&verify).fine();
    assert!(text.contains("interp = interp: the same bits"), "{text}");
    if cfg!(feature = "cpu") {
        let text = folder.loomc(&["verify", "net.json", "--devices", "cpu,interp"]).fine();
        assert!(text.contains("cpu = interp: the same bits"), "{text}");
    }
    let flipped = |args: &[&str], value: &str| {
        Outcome::of(folder.command(args).env("LOOM_DEBUG_FLIP_BIT", value).output().unwrap())
    };
    let program = folder.loomc(&["compile", "net.json", "--emit", "program"]).fine();
    let kernel = program.split("kernel \"").nth(2).and_then(|rest| rest.split('"').next()).unwrap().to_string();
    let outcome = flipped(&verify, &format!("interp:{kernel}:5"));
    assert_eq!(outcome.code, 1);
    assert!(outcome.out.contains(&format!("in kernel 1 `{kernel}`")), "{}", outcome.out);
    assert!(
        outcome.out.contains("element 5 = [1, 1]") && outcome.out.contains("1 of 12 elements differ"),
        "{}",
        outcome.out
    );
    let outcome = flipped(&[&verify[..], &["--json"]].concat(), "interp:0:0");
    assert_eq!(outcome.code, 1);
    let report = json(&outcome.out);
    assert_eq!((&report["same"], &report["difference"]["element"]), (&false.into(), &0.into()));
    assert_eq!(report["difference"]["report"], "net.difference.safetensors");
    flipped(&verify, "nonsense").refused(2);
    flipped(&verify, "interp:nothing:0").refused(2);
    assert!(folder.loomc(&["verify", "net.json", "--devices", "interp"]).refused(2).contains("nothing to compare"));
}

#[test]
fn a_difference_is_written_and_replayed() {
    let folder = Folder::new();
    let flipped =
        |args: &[&str]| Outcome::of(folder.command(args).env("LOOM_DEBUG_FLIP_BIT", "interp:1:5").output().unwrap());
    let outcome = flipped(&["verify", "net.json", "--devices", "interp,interp", "--report", "kernel.bits"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("written to kernel.bits: `loomc replay kernel.bits` runs it again"),
        "{}",
        outcome.err
    );
    assert!(outcome.out.contains("made at [1, 1] from"), "{}", outcome.out);
    assert!(!folder.path("net.difference.safetensors").exists());
    let expected = outcome.out.lines().find(|line| line.starts_with("    interp ")).unwrap().to_string();

    let replay = ["replay", "kernel.bits", "--devices", "interp,interp"];
    let text = folder.loomc(&replay).fine();
    assert!(text.contains("the same bits here") && text.contains(expected.trim()), "{text}");
    assert!(text.contains("with one bit wrong on purpose"), "what found it: {text}");
    let report = json(&folder.loomc(&[&replay[..], &["--json"]].concat()).fine());
    assert_eq!((&report["same"], &report["finding"]["element"]), (&true.into(), &5.into()));
    assert!(!report["operands"].as_array().unwrap().is_empty());
    let text = folder.loomc(&["replay", "kernel.bits", "--lit"]).fine();
    assert!(text.contains("==== program\n{") && text.ends_with("==== output\n"), "{text}");

    // The kernel alone is kernel 0.
    let wrong = folder.command(&replay).env("LOOM_DEBUG_FLIP_BIT", "interp:0:7").output().unwrap();
    let outcome = Outcome::of(wrong);
    assert_eq!(outcome.code, 1);
    assert!(outcome.out.contains("1 of 12 elements differ, first 7"), "{}", outcome.out);

    let bytes = fs::read(folder.path("kernel.bits")).unwrap();
    fs::write(folder.path("short.bits"), &bytes[..bytes.len() - 4]).unwrap();
    folder.loomc(&["replay", "short.bits"]).refused(2);
    folder.loomc(&["compile", "net.json"]).fine();
    assert!(folder.loomc(&["replay", "net.loom"]).refused(2).contains("no report of a difference"));
    let outcome = flipped(&["verify", "net.json", "--devices", "interp,interp", "--report", "net.json"]);
    assert_eq!(outcome.code, 2, "the network is not replaced");
}

#[test]
fn devices_that_are_not_there() {
    let folder = Folder::new();
    if cfg!(not(feature = "gpu")) {
        assert!(folder.loomc(&["run", "net.json", "--device", "gpu"]).refused(3).contains("`gpu`"));
    } else {
        let args = ["run", "net.json", "--device", "gpu", "--adapter", "no adapter has this name"];
        folder.loomc(&args).refused(3);
    }
    folder.loomc(&["run", "net.json", "--device", "gpu", "--gpu-tier", "exact"]).refused(2);
    let report = json(&folder.loomc(&["devices", "--gpu-tier", "strict", "--json"]).fine());
    let listed: Vec<&str> =
        report["devices"].as_array().unwrap().iter().map(|device| device["device"].as_str().unwrap()).collect();
    assert!(listed.contains(&"interp") && listed.contains(&"cpu"));
}

/// Every tier of the first adapter: what `loomc devices` says of it is so. Needs a Vulkan adapter (a software one will
/// do).
#[cfg(feature = "gpu")]
#[test]
fn gpu_tiers_can_be_forced() {
    let folder = Folder::new();
    let devices = json(&folder.loomc(&["devices", "--json"]).fine());
    assert_eq!(devices["schema"], 2);
    let device = devices["devices"].as_array().unwrap().iter().find(|device| device["device"] == "gpu").unwrap();
    let tiers = device["tiers"].as_array().unwrap();
    let names: Vec<&str> = tiers.iter().map(|tier| tier["tier"].as_str().unwrap()).collect();
    assert_eq!(names, ["strict", "guarded", "soft"]);
    let mnist = |name: &str| format!("{}/../examples/mnist/{name}", env!("CARGO_MANIFEST_DIR"));
    let (net, weights, input) = (mnist("net.json"), mnist("weights.safetensors"), mnist("digits.safetensors"));
    for (name, tier) in names.into_iter().zip(tiers) {
        let run = || {
            let model = ["run", &net, "--weights", &weights, "--input", &input];
            folder.loomc(&[&model[..], &["--device", "gpu", "--gpu-tier", name, "--json"]].concat())
        };
        let failed: Vec<&str> = tier["probes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|probe| probe["passed"] == false)
            .map(|probe| probe["name"].as_str().unwrap())
            .collect();
        if tier["usable"] == true {
            assert_eq!(failed, [""; 0]);
            let report = json(&run().fine());
            assert_eq!(report["tier"], name);
            assert_eq!(report["digest"], "sha256:0842663628cbb28ab8643a9794ec0d3858666516857e2ea584d56883211b19da");
        } else {
            // A GPU that flushes subnormals in plain WGSL.
            assert_eq!(name, "guarded");
            assert_eq!(failed[0], "subnormal sums are kept");
            assert!(run().refused(3).contains("guarded: fails `subnormal sums are kept`"));
        }
    }
    let soft = ["verify", "net.json", "--devices", "interp,gpu", "--gpu-tier", "soft"];
    assert!(folder.loomc(&soft).fine().contains("interp = gpu (soft): the same bits"));
}

/// What a device has passed is kept in the user's cache, and a cache that is none is no error.
#[cfg(feature = "gpu")]
#[test]
fn certificates_are_kept_in_the_cache() {
    let folder = Folder::new();
    let cached = |cache: &str| {
        let mut command = folder.command(&["run", "net.json", "--device", "gpu", "--digest"]);
        Outcome::of(command.env("LOOM_CACHE", "").env("LOOM_CACHE_DIR", cache).output().unwrap()).fine()
    };
    let first = cached("cache");
    let count = || fs::read_dir(folder.path("cache/certificates")).unwrap().count();
    assert_eq!((first, count()), (cached("cache"), 1));
    // A file where the folder should be.
    assert_eq!(cached("net.json"), cached("cache"));
}

#[test]
fn inspect_tells_what_is_inside() {
    let folder = Folder::new();
    let report = json(&folder.loomc(&["inspect", "net.json", "--json"]).fine());
    assert_eq!(report["kind"], "config");
    assert_eq!(report["parameters"], 8 * 6 + 6 + 6 * 4 + 4);
    assert_eq!(report["layers"][1]["output"], serde_json::json!([3, 4]));
    assert_eq!(report["layers"][1]["parameters"], 28);
    let memory = &report["memory"];
    assert_eq!(memory["weights"], 82 * 4);
    // What the two dense layers give is alive together, and each takes the least that the arena deals in.
    let (arena, input, output) = (2 * 256, 3 * 8 * 4, 3 * 4 * 4);
    assert_eq!((&memory["arena"], &memory["peak"]), (&arena.into(), &(arena + input + output).into()));
    assert_eq!((&memory["largest_live_set"], &memory["ratio"]), (&memory["peak"], &1.0.into()));
    let text = folder.loomc(&["inspect", "net.json"]).fine();
    assert!(
        text.ends_with("peak beside weights and constants: 656 bytes, 1.00 times the largest live set, 656 bytes\n"),
        "{text}"
    );
    folder.loomc(&["compile", "net.json", "--target", "cpu"]).fine();
    let compiled = json(&folder.loomc(&["inspect", "net.loom", "--json"]).fine());
    assert_eq!((&compiled["kind"], &compiled["kernels"]), (&"artifact".into(), &report["kernels"]));
    write_input(&folder.path("in.safetensors"), 2);
    let file = json(&folder.loomc(&["inspect", "in.safetensors", "--json"]).fine());
    assert_eq!((&file["kind"], &file["elements"]), (&"safetensors".into(), &16.into()));
    for name in ["net.json", "net.loom", "in.safetensors"] {
        assert!(!folder.loomc(&["inspect", name]).fine().is_empty());
    }
}

/// Weights in other formats: converted, looked at, run, and what can't be done.
#[test]
fn weights_of_fewer_bits() {
    let folder = Folder::new();
    let values: Vec<f32> = (0..48).map(|index| (index as f32 * 0.7).sin()).collect();
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("layers.0.weight", &[6, 8], &values),
        ("layers.0.bias", &[6], &values[..6]),
        ("layers.1.weight", &[4, 6], &values[..24]),
        ("layers.1.bias", &[4], &values[..4]),
    ];
    write_tensors(&folder.path("w"), &tensors);
    let said = folder.loomc(&["convert", "w", "w8", "--dtype", "int8"]).fine();
    assert!(said.contains("layers.1.weight  f32  ->  i8"), "{said}");
    assert!(said.contains("2 tensors converted, 2 kept"), "{said}");
    let inspected = folder.loomc(&["inspect", "w8"]).fine();
    assert!(inspected.contains("scales [6]") && inspected.contains("dense {"), "{inspected}");
    // Spelled out as f32 it's the same network.
    folder.loomc(&["convert", "w8", "w32", "--dtype", "f32"]).fine();
    let run = |weights: &str| folder.loomc(&["run", "net.json", "--weights", weights, "--digest"]).fine();
    assert_eq!(run("w8"), run("w32"));
    assert_ne!(run("w8"), run("w"));
    folder
        .loomc(&["convert", "w", "mixed", "--layer", "*.0.*=f16", "--layer", "layers.1.weight=f4", "--group-size", "3"])
        .fine();
    let report = json(&folder.loomc(&["inspect", "mixed", "--json"]).fine());
    let types: Vec<&str> =
        report["tensors"].as_array().unwrap().iter().map(|tensor| tensor["dtype"].as_str().unwrap()).collect();
    assert_eq!(types, ["f16", "f16", "f32", "f4"]);
    assert_eq!(report["tensors"][3]["scales"], serde_json::json!([4, 2]));

    folder.loomc(&["convert", "w", "w64", "--dtype", "f64"]).fine();
    let text = folder.loomc(&["run", "net.json", "--weights", "w64"]).refused(2);
    assert!(
        text.contains("`layers.0.bias` is f64, the network needs f32 (`loomc convert --dtype f32` rounds it)"),
        "{text}"
    );
    assert!(
        folder.loomc(&["convert", "w", "x", "--dtype", "int5"]).err.contains("there is no type `int5`, only f64, f32")
    );
    assert!(folder.loomc(&["convert", "w", "x"]).refused(2).contains("nothing to convert"));
    assert!(folder.loomc(&["convert", "w", "w", "--dtype", "i8"]).refused(2).contains("would replace a file"));
    assert!(folder.loomc(&["convert", "w", "x", "--layer", "y*=i8"]).refused(2).contains("no tensor is called `y*`"));
    assert!(!folder.path("x").exists());
}

/// Number formats of layers, by config and by option.
#[test]
fn precision() {
    let folder = Folder::new();
    let run = |args: &[&str]| folder.loomc(&[&["run", "net.json", "--digest"], args].concat()).fine();
    let plain = run(&[]);
    assert_eq!(run(&["--precision", "f32"]), plain);
    let half = run(&["--precision", "bf16"]);
    assert_ne!(half, plain);
    folder.write("half.json", NET.replacen('{', r#"{"dtype": "bfloat16", "#, 1));
    assert_eq!(folder.loomc(&["run", "half.json", "--digest"]).fine(), half);
    assert_eq!(folder.loomc(&["run", "half.json", "--digest", "--precision", "layers.*=f32"]).fine(), plain);
    assert_eq!(run(&["--precision", "layers.*=bf16"]), half);
    let graph = folder.loomc(&["compile", "net.json", "--emit", "graph", "--precision", "layers.1=f8"]).fine();
    assert_eq!(graph.matches("round_f8").count(), 3, "weight, bias, result: {graph}");
    let text = folder.loomc(&["run", "net.json", "--precision", "nothing*=f8"]).refused(2);
    assert!(text.contains("no layer is called `nothing*`"), "{text}");
    let text = folder.loomc(&["run", "net.json", "--precision", "uint8"]).refused(2);
    assert!(text.contains("a network computes in no type `uint8`"), "{text}");
    let integers = run(&["--precision", "int8"]);
    assert_ne!(integers, plain);
    folder.write("int8.json", NET.replacen('{', r#"{"dtype": "int8", "#, 1));
    assert_eq!(folder.loomc(&["run", "int8.json", "--digest"]).fine(), integers);
    folder.loomc(&["compile", "net.json", "--precision", "f16"]).fine();
    assert!(folder.loomc(&["run", "net.loom", "--precision", "f16"]).refused(2).contains("go with a config"));
}

#[test]
fn bench_measures() {
    let folder = Folder::new();
    let report = json(&folder.loomc(&["bench", "net.json", "--device", "interp", "--runs", "5", "--json"]).fine());
    assert_eq!((&report["runs"], &report["samples"]), (&5.into(), &3.into()));
    assert!(report["median_seconds"].as_f64().unwrap() >= report["min_seconds"].as_f64().unwrap());
    assert!(report["kernels"].is_null() && report["checked"].is_null());
    folder.loomc(&["bench", "net.json", "--runs", "0"]).refused(2);
    for peak in ["0", "-1", "inf", "much"] {
        folder.loomc(&["bench", "net.json", &format!("--peak-gbs={peak}")]).refused(2);
    }
    let report = json(&folder.loomc(&["bench", "net.json", "--runs", "1", "--check", "--json"]).fine());
    assert_eq!((&report["checked"]["device"], &report["checked"]["same"]), (&"interp".into(), &true.into()));
    assert_eq!(report["kernels"].is_null(), !cfg!(feature = "cpu"));
}

/// The kernels of a GPU, which has a clock of its own.
#[cfg(all(feature = "cpu", feature = "gpu"))]
#[test]
fn bench_times_kernels() {
    let folder = Folder::new();
    let args = ["bench", "net.json", "--device", "gpu", "--runs", "1", "--check", "--peak-gbs", "10"];
    let report = json(&folder.loomc(&[&args[..], &["--json"]].concat()).fine());
    assert_eq!((&report["checked"]["device"], &report["checked"]["same"]), (&"cpu".into(), &true.into()));
    let kernels = report["kernels"].as_array().unwrap();
    assert!(!kernels.is_empty());
    for kernel in kernels {
        assert!(kernel["bytes"].as_u64().unwrap() > 0, "{kernel}");
        let (rate, share) = (kernel["gbs"].as_f64().unwrap(), kernel["gbs_share"].as_f64().unwrap());
        assert!((share * 10.0 - rate).abs() <= 1e-9 * rate, "{kernel}");
        assert!(kernel["tflops_share"].is_null());
    }
    let text = folder.loomc(&args).fine();
    assert!(text.contains("the same bits as the device cpu") && text.contains("GB/s"), "{text}");

    // Weights in half as many bits are half as many bytes.
    zeros_of(
        &folder.path("w"),
        &[("layers.0.bias", &[6]), ("layers.0.weight", &[6, 8]), ("layers.1.bias", &[4]), ("layers.1.weight", &[4, 6])],
    );
    folder.loomc(&["convert", "w", "w16", "--dtype", "bf16"]).fine();
    let bytes = |weights: &str| -> Vec<u64> {
        let report = json(&folder.loomc(&[&args[..], &["--json", "--weights", weights]].concat()).fine());
        report["kernels"].as_array().unwrap().iter().map(|kernel| kernel["bytes"].as_u64().unwrap()).collect()
    };
    let (whole, half) = (bytes("w"), bytes("w16"));
    assert_eq!(half[0] + 2 * (6 * 8 + 6), whole[0]);
    assert_eq!(half.last(), whole.last(), "a softmax reads no weights");
}

/// `loomc … | head` ends quietly.
#[cfg(unix)]
#[test]
fn readers_may_leave() {
    let folder = Folder::new();
    let mut child = folder
        .command(&["compile", "net.json", "--emit", "program"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    // The same where the IR goes to standard error.
    let mut child = folder
        .command(&["compile", "net.json", "--target", "cpu", "--print-ir-after", "all"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

/// The example of the README: its accuracy, and the digest that every machine gives.
#[test]
fn mnist() {
    let folder = Folder::new();
    let mnist = |name: &str| format!("{}/../examples/mnist/{name}", env!("CARGO_MANIFEST_DIR"));
    let (net, weights) = (mnist("net.json"), mnist("weights.safetensors"));
    let (input, labels) = (mnist("digits.safetensors"), mnist("labels.safetensors"));
    let args = ["eval", &net, "--weights", &weights, "--input", &input, "--labels", &labels];
    let text = folder.loomc(&args).fine();
    assert!(text.contains("496 of 500 right (99.20 %)"), "{text}");
    assert!(text.contains("sha256:0842663628cbb28ab8643a9794ec0d3858666516857e2ea584d56883211b19da"), "{text}");
    assert!(text.contains("taken for") && text.contains("#0: 3"), "{text}");
    let wrong = ["eval", &net, "--weights", &weights, "--input", &input, "--labels", &weights];
    assert!(folder.loomc(&wrong).refused(2).contains("there is no tensor `labels`"));
}

/// A safetensors file of one tensor of zeros, without taking room on the disk.
fn zeros(path: &Path, name: &str, elements: u64) {
    zeros_of(path, &[(name, &[elements])]);
}

/// The same of several tensors.
fn zeros_of(path: &Path, tensors: &[(&str, &[u64])]) {
    let mut bytes = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, shape)| {
            let begin = bytes;
            bytes += 4 * shape.iter().product::<u64>();
            format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{bytes}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let start = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(path, &start).unwrap();
    fs::File::options().append(true).open(path).unwrap().set_len(start.len() as u64 + bytes).unwrap();
}

/// What is made from an index is made from the files that it names.
#[test]
fn an_output_does_not_replace_a_shard() {
    let folder = Folder::new();
    for name in ["a", "b"] {
        zeros(&folder.path(name), name, 2);
    }
    folder.write("m.index.json", r#"{"weight_map": {"a": "a", "b": "b"}}"#);
    for output in ["a", "b", "m.index.json"] {
        let refused = folder.loomc(&["convert", "m.index.json", output, "--dtype", "bf16"]).refused(2);
        assert!(refused.contains("would replace a file that it is made from"), "{refused}");
    }
    folder.loomc(&["convert", "m.index.json", "c", "--dtype", "bf16"]).fine();
}

#[test]
fn wrong_indices_are_told() {
    let folder = Folder::new();
    zeros(&folder.path("a"), "a", 2);
    for (map, expected) in [
        (r#"{"a": "a", "b": "a"}"#, "`b` is not in `a`"),
        (r#"{"a": "b"}"#, "b: can't be read"),
        (r#"{"a": "../a"}"#, "the files of an index lie in its folder"),
        (r#"{"a": "a", "a": "a"}"#, "not an index of safetensors files: `a` stands twice"),
        ("[]", "not an index of safetensors files"),
    ] {
        folder.write("m.index.json", format!(r#"{{"weight_map": {map}}}"#));
        for command in [
            &["run", "net.json", "--weights", "m.index.json"][..],
            &["inspect", "m.index.json"],
            &["convert", "m.index.json", "c", "--dtype", "bf16"],
        ] {
            let error = folder.loomc(command).refused(2);
            assert!(error.contains(expected), "{command:?} of {map}: {error}");
        }
    }
    assert_eq!(folder.names(), ["a", "m.index.json", "net.json"]);
}

#[cfg(unix)]
#[test]
fn a_process_that_is_told_to_end_leaves_nothing_half_written() {
    let folder = Folder::new();
    zeros(&folder.path("large"), "t", 128 << 20);
    for signal in ["-INT", "-TERM", "-HUP"] {
        let interrupted = || {
            let args = ["convert", "large", "small", "--dtype", "i4", "--group-size", "32"];
            let mut running = folder.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while !folder.names().iter().any(|name| name.ends_with(".part")) {
                assert!(running.try_wait().unwrap().is_none(), "{signal}: ended before it wrote");
            }
            assert!(Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap().success());
            running.wait().unwrap().code()
        };
        // On a busy machine the signal may come when all is done.
        let code = (0..10).map(|_| interrupted()).find(|code| *code != Some(0));
        assert_eq!(code, Some(Some(130)), "{signal}");
        let _ = fs::remove_file(folder.path("small"));
        assert_eq!(folder.names(), ["large", "net.json"], "{signal}");
    }
}
