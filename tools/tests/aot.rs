//! `loomc compile --emit object`, and the example of `docs/aot.md`.

#![cfg(all(feature = "cpu", target_os = "linux"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let begin = format!("```{language}\n");
    let (_, rest) = page.split_once(&begin).unwrap();
    rest.split_once("```").unwrap().0
}

/// The page's own commands and program give the page's digest.
#[test]
fn the_example_of_the_page_runs() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/aot.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        fs::canonicalize(Path::new(ROOT).join("examples")).unwrap(),
        folder.path().join("examples"),
    )
    .unwrap();
    fs::write(folder.path().join("main.c"), block(&page, "c")).unwrap();
    let path = format!(
        "{}:{}",
        Path::new(env!("CARGO_BIN_EXE_loomc")).parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let script = format!("set -e\n{}", block(&page, "sh"));
    let done = Command::new("sh").args(["-c", &script]).env("PATH", path).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8(done.stdout).unwrap();
    assert_eq!(printed.split_whitespace().next(), Some(block(&page, "text").trim()));
    let published = fs::read_to_string(Path::new(ROOT).join("examples/digests.json")).unwrap();
    assert!(published.contains(block(&page, "text").trim()));
}

const NET: &str = r#"{"id": "tiny", "batch_size": 2, "layers": [
    {"type": "dense", "input_size": 3, "output_size": 5, "activation": "tanh"},
    {"type": "layer_norm"}]}"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("net.json"), NET).unwrap();
    folder
}

fn compile(folder: &TempDir, args: &[&str]) -> Output {
    let mut loomc = Command::new(env!("CARGO_BIN_EXE_loomc"));
    loomc.arg("compile").args(args).current_dir(folder.path()).output().unwrap()
}

/// Two objects of one network, one with its weights inside, in one program: their prefixes differ in case alone.
#[test]
fn two_networks_in_one_program() {
    let folder = folder();
    for args in [
        &["net.json", "--target", "cpu", "--emit", "object", "-o", "one.o"][..],
        &["net.json", "--emit", "object", "-o", "two.o", "--prefix", "Tiny", "--embed-weights"],
    ] {
        let done = compile(&folder, args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(folder.path().join("one.weights").exists() && !folder.path().join("two.weights").exists());
    // A file of weights that is not written does not replace the one that the network is made of.
    let digits = |file: &str| Path::new(ROOT).join("examples/digits").join(file);
    fs::copy(digits("weights.safetensors"), folder.path().join("three.weights")).unwrap();
    fs::copy(digits("net.json"), folder.path().join("three.json")).unwrap();
    let args = ["three.json", "--weights", "three.weights", "--emit", "object", "-o", "three.o"];
    assert_eq!(compile(&folder, &args).status.code(), Some(2));
    assert!(compile(&folder, &[&args[..], &["--embed-weights"]].concat()).status.success());
    let main = r#"
        #include "one.h"
        #include "two.h"
        #include <stdio.h>
        #include <string.h>
        static _Alignas(64) char one[tiny_PREPARED_BYTES], two[Tiny_PREPARED_BYTES], work[tiny_WORKSPACE_BYTES];
        static float file[tiny_WEIGHTS_BYTES / 4];
        int main(void) {
            FILE *stream = fopen("one.weights", "rb");
            if (fread(file, 1, sizeof file, stream) != sizeof file) return 2;
            tiny_weights weights;
            tiny_weights_in(&weights, file);
            tiny_prepare(&weights, one);
            Tiny_prepare(two);
            float x[6] = {1, -2, 3, 0.5f, 0, -0.25f}, y[10] = {0}, z[10] = {0};
            tiny_run(one, &(tiny_inputs){x}, &(tiny_outputs){y}, work);
            Tiny_run(two, &(Tiny_inputs){x}, &(Tiny_outputs){z}, work);
            return y[0] == 0 || memcmp(y, z, sizeof y) != 0;
        }
    "#;
    fs::write(folder.path().join("main.c"), main).unwrap();
    let build = ["-std=c11", "-Wall", "-Wextra", "-Werror", "main.c", "one.o", "two.o", "-o", "main"];
    let built = Command::new("cc").args(build).current_dir(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(folder.path().join("main")).current_dir(folder.path()).status().unwrap();
    assert_eq!(ran.code(), Some(0));
}

/// An object is linked anywhere: it names nothing that it doesn't define.
#[test]
fn nothing_is_undefined() {
    let folder = folder();
    for level in ["portable", "avx2", "avx512"] {
        assert!(compile(&folder, &["net.json", "--emit", "object", "--level", level]).status.success());
        let linked = ["-shared", "-nostdlib", "-Wl,--no-undefined", "net.o", "-o", "net.so"];
        let done = Command::new("cc").args(linked).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{level}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn mistakes_are_told() {
    let folder = folder();
    for (args, code, words) in [
        (&["--emit", "object", "--level", "sse9"][..], 2, "there is no level `sse9`"),
        (&["--emit", "object", "--prefix", "a-b"], 2, "`a-b` can't begin the names of C functions"),
        (&["--emit", "object", "--triple", "nonsense"], 3, "nonsense"),
        (&["--emit", "object", "--triple", "wasm32-unknown-unknown"], 3, "wasm32"),
        (&["--emit", "object", "-o", "net.h"], 2, "an object's name"),
        (&["--prefix", "a"], 2, "`--emit object`"),
        (&["--embed-weights", "--emit", "clif"], 2, "`--emit object`"),
    ] {
        let done = compile(&folder, &[&["net.json"], args].concat());
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
        assert!(!folder.path().join("net.o").exists() && !folder.path().join("net.loom").exists(), "{args:?}");
    }
}
