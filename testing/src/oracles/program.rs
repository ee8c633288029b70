//! Programs that nobody compiled: those of random graphs, with numbers and parts changed.
//!
//! Backends generate code without bounds checks because the verifier proved every access. Whatever still verifies after
//! the changes is run in the interpreter, whose memory is checked, and as machine code.

use std::sync::Arc;

use loom_ir::kernel::{Program, verify};
use loom_passes::{PipelineOptions, compile_graph};
use serde_json::Value;

use super::{affordable, run};
use crate::choices::Choices;
use crate::graphs::{Size, random_graph};

const TINY: Size = Size { nodes: 5, elements: 400, work: 3000 };

/// Reads a graph, a few changes and the seed of values from the bytes.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let changed = read(data);
    // What the compiler made is `differential`'s to check.
    if changed.is_other
        && let Ok(program) = verify(changed.program)
        && affordable(&program)
    {
        run::agree(&Arc::new(program), changed.seed);
    }
}

/// What the bytes hold.
struct Changed {
    program: Program,
    /// Whether it is another program than the compiler made.
    is_other: bool,
    seed: u64,
}

fn read(data: &[u8]) -> Changed {
    let mut choices = Choices::from_bytes(data);
    let options = match choices.below(2) {
        0 => PipelineOptions::default(),
        _ => PipelineOptions { skip: ["fuse", "collapse"].map(str::to_string).to_vec(), ..Default::default() },
    };
    let seed = choices.below(1 << 16);
    // Changes come first: a longer graph must not use up their bytes.
    let changes: Vec<(u64, u64)> =
        (0..choices.below(4)).map(|_| (choices.below(1 << 20), choices.below(1 << 16))).collect();
    let graph = random_graph(&mut choices, TINY);
    let compiled = compile_graph(graph, &options).unwrap_or_else(|error| panic!("{error}"));
    let mut json = serde_json::to_value(&*compiled).unwrap_or_else(|error| panic!("{error}"));
    for (place, change) in changes {
        let count = parts(&mut json, u64::MAX, 0);
        parts(&mut json, place % count.max(1), change);
    }
    let original = compiled.into_inner();
    let program = serde_json::from_value(json).unwrap_or_else(|_| original.clone());
    Changed { is_other: program != original, program, seed }
}

/// Goes through all numbers and lists in order and changes that of the given number, where it ends. Gives how many it saw.
fn parts(value: &mut Value, at: u64, change: u64) -> u64 {
    fn walk(value: &mut Value, at: u64, change: u64, count: &mut u64) -> bool {
        let here = *count == at;
        match value {
            Value::Number(_) => {
                *count += 1;
                if here {
                    *value = changed(value, change);
                }
                here
            }
            Value::Array(list) => {
                *count += 1;
                if here && !list.is_empty() {
                    let place = (change / 3) as usize % list.len();
                    match change % 3 {
                        0 => {
                            list.remove(place);
                        }
                        1 => list.insert(place, list[place].clone()),
                        _ => list.swap(place, 0),
                    }
                }
                here || list.iter_mut().any(|value| walk(value, at, change, count))
            }
            Value::Object(fields) => fields.iter_mut().any(|(_, value)| walk(value, at, change, count)),
            Value::Null | Value::Bool(_) | Value::String(_) => false,
        }
    }
    let mut count = 0;
    walk(value, at, change, &mut count);
    count
}

/// Another number: a neighbour, a small one, or one at an edge.
fn changed(value: &Value, change: u64) -> Value {
    let number = value.as_i64().unwrap_or(0);
    let edges = [0, 1, -1, 2, 255, 256, 257, 4096, 1 << 20, i64::from(i32::MAX), 1 << 31, 1 << 40, i64::MAX, i64::MIN];
    match change % 5 {
        0 => Value::from(number.wrapping_add(1)),
        1 => Value::from(number.wrapping_sub(1)),
        2 => Value::from(number.wrapping_neg()),
        3 => Value::from((change / 5 % 32) as i64 - 8),
        _ => Value::from(edges[(change / 5) as usize % edges.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Random;

    #[test]
    fn many_changed_programs_get_past_the_verifier() {
        let mut random = Random(3);
        let (mut verified, mut refused) = (0, 0);
        for _ in 0..1000 {
            let bytes: Vec<u8> = (0..80).map(|_| random.word() as u8).collect();
            let changed = read(&bytes);
            if changed.is_other {
                *(if verify(changed.program).is_ok() { &mut verified } else { &mut refused }) += 1;
            }
        }
        assert!(verified > 50 && refused > 50, "{verified} verified, {refused} refused");
    }
}
