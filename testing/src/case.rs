//! A graph with the bits of its inputs and weights: what a differential test runs.

use std::collections::BTreeMap;
use std::fmt;

use loom_ir::eval::program::{Memory, run};
use loom_ir::graph::{Graph, Op};
use loom_ir::kernel::{BufferKind, Verified};

use crate::choices::Choices;
use crate::graphs::{Size, random_graph};
use crate::values;

/// Bits by the name of an input, weight or output.
pub type Tensors = BTreeMap<String, Vec<u32>>;

/// A graph and what it runs on.
#[derive(Debug, Clone)]
pub struct Case {
    /// The graph, verified.
    pub graph: Graph,
    /// The elements of every input and weight.
    pub values: Tensors,
}

impl Case {
    /// A random graph on random values.
    pub fn random(choices: &mut Choices<'_>, size: Size) -> Case {
        let graph = random_graph(choices, size);
        let values = leaves(&graph)
            .map(|(name, dtype, elements)| (name, values::tensor(dtype, elements as usize, choices)))
            .collect();
        Case { graph, values }
    }

    /// The case that follows from a seed; every fourth has long rows.
    pub fn from_seed(seed: u64) -> Case {
        let size = if seed % 4 == 3 { Size::LARGE } else { Size::SMALL };
        Case::random(&mut Choices::from_seed(seed), size)
    }

    /// The values of a program's inputs, or of its weights, in the program's order.
    ///
    /// # Panics
    /// If the program is not made from this case's graph.
    pub fn tensors(&self, program: &Verified, keep: fn(&BufferKind) -> bool) -> Vec<Vec<u32>> {
        program.buffers_where(keep).map(|(_, buffer)| self.values[&buffer.name].clone()).collect()
    }

    /// The outputs of a program made from the graph, as the interpreter gives them.
    ///
    /// # Panics
    /// If the program is not made from this case's graph.
    pub fn interpret(&self, program: &Verified) -> Tensors {
        let mut memory = Memory::new(program);
        for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
            memory.buffers[id.index()].clone_from(&self.values[&buffer.name]);
        }
        run(program, &mut memory);
        program.outputs().map(|(id, buffer)| (buffer.name.clone(), memory.buffers[id.index()].clone())).collect()
    }

    /// The case as a golden file for `lit-tests/files`: put it there, run `BLESS=1 cargo test -p loom-lit-tests`, and the
    /// difference is tested from then on.
    pub fn lit(&self, why: &str) -> String {
        format!("{why}\n\n==== graph\n{}==== values\n{}==== output\n", self.graph, Values(&self.values))
    }
}

/// Name, type and number of elements of every input and weight.
fn leaves(graph: &Graph) -> impl Iterator<Item = (String, loom_ir::types::DType, u64)> + '_ {
    graph.topological().into_iter().filter_map(|id| {
        let ty = graph.ty(id);
        match &graph.node(id).op {
            Op::Input(name) | Op::Weight(name) | Op::Codes(name, _) => {
                Some((name.clone(), ty.dtype, ty.shape.elements()))
            }
            _ => None,
        }
    })
}

/// Prints tensors one a line: the name as a JSON string, then the bits of the elements.
pub struct Values<'a>(pub &'a Tensors);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bits) in self.0 {
            let bits: Vec<String> = bits.iter().map(|bits| format!("{bits:08x}")).collect();
            writeln!(f, "{} {}", serde_json::Value::from(name.as_str()), bits.join(" "))?;
        }
        Ok(())
    }
}
