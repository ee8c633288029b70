//! All kernels of a program as one module, for people and other tools.
//!
//! Each kernel is a module of its own, with the entry point `main`. [`listing`] joins them: names at module scope get the
//! kernel's number in front (`k2_main`), and the functions of the scalar library and what they need, which are the same
//! in every kernel, stand once.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::generate::WgslKernel;

/// What the names begin with that every kernel declares alike.
const SHARED: &str = "loom_";

/// The kernels as one WGSL module; kernel number `n` is its entry point `k{n}_main`.
pub fn listing(kernels: &[WgslKernel]) -> String {
    let mut shared: Vec<String> = Vec::new();
    let mut own = String::new();
    for (number, kernel) in kernels.iter().enumerate() {
        let [x, y, z] = kernel.workgroups;
        let _ = writeln!(own, "\n// k{number}_main: dispatch {x} x {y} x {z} workgroups");
        let names: BTreeSet<&str> = kernel.source.lines().filter_map(declared).collect();
        let mut lines = kernel.source.lines();
        while let Some(line) = lines.next() {
            if declared(line).is_some_and(|name| name.starts_with(SHARED)) {
                let mut declaration = format!("{line}\n");
                if line.starts_with("fn ") {
                    for line in lines.by_ref() {
                        let _ = writeln!(declaration, "{line}");
                        if line == "}" {
                            break;
                        }
                    }
                }
                if !shared.contains(&declaration) {
                    shared.push(declaration);
                }
            } else {
                let _ = writeln!(own, "{}", renamed(line, number, &names));
            }
        }
    }
    let mut text = shared.join("\n");
    text += own.trim_start_matches(|c| c == '\n' && text.is_empty());
    text
}

/// The name that a line declares at module scope.
fn declared(line: &str) -> Option<&str> {
    let code = line.split("//").next().unwrap_or(line);
    let rest = match code.strip_prefix("fn ") {
        Some(rest) => rest,
        None if code.starts_with("var<") || code.starts_with("@group") => code.split_once("> ")?.1,
        None => code.strip_prefix("const ")?,
    };
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The line with the kernel's own names numbered.
fn renamed(line: &str, number: usize, names: &BTreeSet<&str>) -> String {
    let code = line.find("//").unwrap_or(line.len());
    let mut result = String::new();
    let mut rest = &line[..code];
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        if names.contains(name) && !name.starts_with(SHARED) {
            let _ = write!(result, "k{number}_");
        }
        result += name;
        let mut chars = after.chars();
        result.extend(chars.next());
        rest = chars.as_str();
    }
    result + &line[code..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(source: &str) -> WgslKernel {
        WgslKernel {
            name: "k".to_string(),
            source: source.to_string(),
            bindings: Vec::new(),
            workgroups: [1, 1, 1],
            workgroup_size: 1,
        }
    }

    #[test]
    fn names_are_numbered_and_library_functions_stand_once() {
        let source = "@group(0) @binding(0) var<storage, read_write> b0: array<f32>; // b0\n\
                      var<private> loom_zero: u32; // 0\n\
                      fn loom_twice(x0: f32) -> f32 {\n    return x0 + x0;\n}\n\
                      fn element(i0: u32) -> f32 {\n    return loom_twice(b0[i0]);\n}\n\
                      @compute @workgroup_size(1)\nfn main() {\n    b0[0] = element(0u);\n}\n";
        let text = listing(&[kernel(source), kernel(source)]);
        assert_eq!(text.matches("fn loom_twice").count(), 1, "{text}");
        assert_eq!(text.matches("loom_zero").count(), 1, "{text}");
        assert!(text.contains("fn k1_element(i0: u32) -> f32 {\n    return loom_twice(k1_b0[i0]);"), "{text}");
        assert!(text.contains("> k0_b0: array<f32>; // b0"), "{text}");
        let module =
            naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
        assert_eq!(module.entry_points.len(), 2);
    }
}
