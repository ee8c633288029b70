//! Golden files that run: `values` holds the inputs' bits, `output` the outputs'.

use std::sync::Arc;

use loom_ir::kernel::{BufferKind, Verified};
use loom_testing::case::{Tensors, Values};
use loom_testing::oracles::run::{Given, compiled, interpreted};

/// Reads a `values` section: each line a name as a JSON string and the bits of the elements in hexadecimal.
pub fn values(text: &str) -> Result<Tensors, String> {
    let mut values = Tensors::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut names = serde_json::Deserializer::from_str(line).into_iter::<String>();
        let name = names.next().and_then(Result::ok).ok_or_else(|| format!("`{line}` begins with no name"))?;
        let words = line.get(names.byte_offset()..).unwrap_or("").split_whitespace();
        let bits: Result<Vec<u32>, _> = words.map(|word| u32::from_str_radix(word, 16)).collect();
        let bits = bits.map_err(|error| format!("`{name}`: {error}"))?;
        if values.insert(name.clone(), bits).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(values)
}

/// A program's inputs and weights by name.
pub fn given(program: &Verified, values: &Tensors) -> Result<Given, String> {
    let of = |keep: fn(&BufferKind) -> bool| -> Result<Vec<Vec<u32>>, String> {
        let buffers = program.buffers_where(keep);
        buffers
            .map(|(_, buffer)| {
                let bits = values.get(&buffer.name).ok_or_else(|| format!("no values for `{}`", buffer.name))?;
                let fits = bits.len() as u64 == buffer.shape.elements();
                fits.then(|| bits.clone()).ok_or_else(|| format!("`{}` has {} elements", buffer.name, bits.len()))
            })
            .collect()
    };
    Ok(Given { inputs: of(BufferKind::is_input)?, weights: of(BufferKind::is_weight)? })
}

/// The outputs in the interpreter by name.
pub fn expected(program: &Arc<Verified>, values: &Tensors) -> Result<Tensors, String> {
    let outputs = interpreted(program, &given(program, values)?).map_err(|error| error.to_string())?;
    Ok(named(program, outputs))
}

/// The outputs as text: all programs, which are made from one input by different passes, and the CPU on one thread and two
/// give the same.
pub fn render(programs: &[Arc<Verified>], values: &Tensors) -> Result<String, String> {
    let mut first: Option<Tensors> = None;
    for program in programs {
        let given = given(program, values)?;
        let runs = [
            ("interp", interpreted(program, &given)),
            ("cpu, 1 thread", compiled(program, &given, 1)),
            ("cpu, 2 threads", compiled(program, &given, 2)),
        ];
        for (device, outputs) in runs {
            let found = named(program, outputs.map_err(|error| format!("{device}: {error}"))?);
            let expected = first.get_or_insert_with(|| found.clone());
            if found != *expected {
                let (expected, found) = (Values(expected), Values(&found));
                return Err(format!("{device} differs\nexpected:\n{expected}found:\n{found}{}", ***program));
            }
        }
    }
    Ok(Values(&first.unwrap_or_default()).to_string())
}

fn named(program: &Verified, outputs: Vec<Vec<u32>>) -> Tensors {
    program.outputs().map(|(_, buffer)| buffer.name.clone()).zip(outputs).collect()
}
