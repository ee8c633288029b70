//! The fuzz targets for a few seconds: every seed of `fuzz/seeds`, and mutations of them.
//!
//! `LOOM_CASES=N` mutates each seed N times. A failure prints the bytes: write them to a file and pass it to the target, or
//! add it to the seeds.

use std::path::Path;

use loom_testing::oracles::TARGETS;
use loom_testing::values::Random;

/// Bytes cut, repeated, inserted, changed, or taken from another seed.
fn mutated(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        let place = |random: &mut Random, length: usize| random.below(length as u64 + 1) as usize;
        let (start, end) = (place(random, bytes.len()), place(random, bytes.len()));
        let range = start.min(end)..start.max(end).min(start.min(end) + 32);
        match random.below(6) {
            0 => drop(bytes.drain(range)),
            1 => {
                let piece = bytes[range.clone()].to_vec();
                bytes.splice(range.start..range.start, piece);
            }
            2 => {
                let from = place(random, other.len());
                let piece = &other[from..(from + 32).min(other.len())];
                bytes.splice(range.start..range.start, piece.iter().copied());
            }
            3 => {
                // A digit for a digit keeps texts well formed.
                if let Some(digit) = bytes[start.min(end)..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                    *digit = b"0123456789"[random.below(10) as usize];
                }
            }
            4 => bytes.insert(range.start, random.word() as u8),
            _ => {
                if let Some(byte) = bytes.get_mut(range.start) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// Tells which bytes a target panicked on.
struct Told<'a>(&'a str, &'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target `{}` on {:?}", self.0, self.1.escape_ascii().to_string());
        }
    }
}

fn check(target: &str, default: u64) {
    let run = TARGETS.iter().find(|(name, _)| *name == target).map(|(_, run)| run).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    let cases = std::env::var("LOOM_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(default);
    let mut random = Random(7);
    for seed in &seeds {
        let told = Told(target, seed);
        run(seed);
        drop(told);
        for _ in 0..cases {
            let other = &seeds[random.below(seeds.len() as u64) as usize];
            let bytes = mutated(&mut random, seed, other);
            let told = Told(target, &bytes);
            run(&bytes);
            drop(told);
        }
    }
}

#[test]
fn config() {
    check("config", 100);
}

#[test]
fn dialect() {
    check("dialect", 300);
}

#[test]
fn graph() {
    check("graph", 100);
}

#[test]
fn safetensors() {
    check("safetensors", 2000);
}

#[test]
fn index() {
    check("index", 2000);
}

#[test]
fn artifact() {
    check("artifact", 100);
}

#[test]
fn report() {
    check("report", 100);
}

#[test]
fn program() {
    check("program", 30);
}

#[test]
fn differential() {
    check("differential", 10);
}

#[test]
fn every_target_has_a_test_and_a_fuzz_target() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let expected =
        ["config", "dialect", "graph", "safetensors", "index", "artifact", "report", "program", "differential"];
    assert_eq!(names, expected);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    assert!(names.iter().all(|name| folder.join(name).with_extension("rs").is_file()));
}
