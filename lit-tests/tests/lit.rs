//! Runs every golden file below `files/`: see [`loom_lit_tests::lit`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use loom_lit_tests::lit::LitFile;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let trials = paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            Trial::test(name, move || check(&path))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "lit") {
            paths.push(path);
        }
    }
}

fn check(path: &Path) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let expected = LitFile::parse(&text)?;
    let actual = expected.actual()?;
    if actual == expected {
        return Ok(());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, actual.text()).map_err(|error| error.to_string())?;
        return Ok(());
    }
    for ((heading, expected), (_, actual)) in expected.sections.iter().zip(&actual.sections) {
        if let Some(message) = difference(expected, actual) {
            return Err(format!("section `{heading}` differs (BLESS=1 rewrites it)\n{message}").into());
        }
    }
    Err("the files differ".into())
}

/// The first lines that differ.
fn difference(expected: &str, actual: &str) -> Option<String> {
    let (mut left, mut right) = (expected.lines(), actual.lines());
    for line in 1.. {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (expected, actual) if expected == actual => {}
            (expected, actual) => {
                let show = |text: Option<&str>| text.unwrap_or("(end)").to_string();
                return Some(format!("line {line}\n  expected: {}\n  actual:   {}", show(expected), show(actual)));
            }
        }
    }
    None
}
