//! The probe: small kernels on pinned inputs, compared with the interpreter's answers bit for bit.
//!
//! A device that keeps what its tier rests on passes. The probe is there for one that only claims to, and in the tier
//! guarded it is all there is.

mod cases;
pub(super) mod inputs;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;

use loom_ir::eval::scalar;
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFnBuilder};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Verified, verify,
};
use loom_ir::numerics::reduction::{IntegerSpec, Products};
use loom_ir::types::{DType, Shape};

use self::cases::Group;
use self::inputs::VALUES;
use crate::digest::canonical;
use crate::executor::ExecuteError;

/// How a device did on one part of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What was tried.
    pub name: String,
    /// The first wrong answer; `None` if every bit was right.
    pub difference: Option<Difference>,
}

impl Probe {
    /// Whether every bit was right.
    pub fn passed(&self) -> bool {
        self.difference.is_none()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difference {
            Some(difference) => write!(f, "`{}` ({difference})", self.name),
            None => write!(f, "`{}`", self.name),
        }
    }
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The arguments' bits.
    pub inputs: Vec<u32>,
    /// The interpreter's answer.
    pub expected: u32,
    /// The device's.
    pub found: u32,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("of")?;
        for bits in &self.inputs {
            write!(f, " {bits:08x}")?;
        }
        write!(f, " is {:08x}, not {:08x}", self.found, self.expected)
    }
}

/// What is probed: a device, or what a test puts in its place.
pub(super) trait Machine {
    /// Runs a program.
    fn run(&self, program: &Arc<Verified>, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError>;
}

/// The table of probes, as the program that a device runs.
pub(super) struct Table {
    groups: Vec<Group>,
    /// One kernel and one output a group; its inputs are all [`inputs::Input`]s.
    program: Arc<Verified>,
    inputs: Vec<Vec<u32>>,
}

impl Table {
    /// Makes the table.
    pub fn new() -> Result<Table, ExecuteError> {
        let groups = cases::groups();
        let program = verify(program(&groups)).map_err(|error| ExecuteError::Internal(error.to_string()))?;
        let inputs = inputs::Input::ALL.iter().map(|input| input.values()).collect();
        Ok(Table { groups, program: Arc::new(program), inputs })
    }

    /// What a device runs.
    pub fn program(&self) -> &Verified {
        &self.program
    }

    /// What it runs on.
    pub fn inputs(&self) -> impl Iterator<Item = &[u32]> {
        self.inputs.iter().map(Vec::as_slice)
    }

    /// Probes a device. An error is one of running it; a wrong answer is none.
    pub fn run(&self, machine: &dyn Machine) -> Result<Vec<Probe>, ExecuteError> {
        let mut answers: Vec<Vec<u32>> = self.groups.iter().map(|group| vec![0; group.cases.len() * VALUES]).collect();
        let mut outputs: Vec<&mut [u32]> = answers.iter_mut().map(Vec::as_mut_slice).collect();
        machine.run(&self.program, &self.inputs().collect::<Vec<_>>(), &mut outputs)?;
        let compared = self.groups.iter().zip(&answers).flat_map(|(group, answers)| self.compare(group, answers));
        Ok(compared.collect())
    }

    /// Compares the answers of one kernel.
    fn compare<'a>(&'a self, group: &'a Group, answers: &'a [u32]) -> impl Iterator<Item = Probe> + 'a {
        // NaN is one value.
        let value = |bits: u32| if group.output == DType::F32 { canonical(bits) } else { bits };
        let mut scratch = Vec::new();
        group.cases.iter().zip(answers.chunks(VALUES)).map(move |(case, answers)| {
            let mut wrong = answers.iter().enumerate().filter_map(|(index, &found)| {
                let inputs: Vec<u32> = group.inputs.iter().map(|&input| self.inputs[input as usize][index]).collect();
                let expected = scalar::evaluate(&case.function, &inputs, &mut scratch);
                (value(expected) != value(found)).then_some(Difference { inputs, expected, found })
            });
            let difference = wrong.next();
            drop(wrong);
            Probe { name: case.name.clone(), difference }
        })
    }
}

/// One map a group: all its functions on every value, and of each element the one that its row asks for.
fn program(groups: &[Group]) -> Program {
    let count = VALUES as u64;
    let mut buffers: Vec<Buffer> = inputs::Input::ALL
        .iter()
        .map(|input| Buffer {
            name: format!("{input:?}"),
            dtype: input.dtype(),
            shape: Shape::from([count]),
            kind: BufferKind::Input,
        })
        .collect();
    let mut kernels = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let output = BufferId(buffers.len() as u32);
        let shape = Shape::from([group.cases.len() as u64, count]);
        let name = format!("probe {number}");
        buffers.push(Buffer {
            name: name.clone(),
            dtype: group.output,
            shape: shape.clone(),
            kind: BufferKind::Output,
        });
        let load = |&input: &inputs::Input| Access {
            buffer: BufferId(input as u32),
            shape: Shape::from([count]),
            coords: vec![Affine { offset: 0, coefficients: vec![0, 1] }],
            guards: Vec::new(),
            fill: 0,
        };
        kernels.push(if group.contracts {
            contraction(name, group, output, shape)
        } else {
            Kernel {
                name,
                axes: shape.dims().to_vec(),
                loads: group.inputs.iter().map(load).collect(),
                body: Body::Map(lambda(group)),
                output: Access::identity(output, shape, 2),
                in_loop: None,
            }
        });
    }
    Program { name: "probe".to_string(), buffers, kernels, plan: None }
}

/// For each value the contraction of the four codes in one word with those in another.
fn contraction(name: String, group: &Group, output: BufferId, shape: Shape) -> Kernel {
    let count = VALUES as u64;
    let value = Affine { offset: 0, coefficients: vec![1, 0, 0, 0] };
    let load = |&input: &inputs::Input| Access {
        buffer: BufferId(input as u32),
        shape: Shape::from([count]),
        coords: vec![value.clone()],
        guards: Vec::new(),
        fill: 0,
    };
    let operand = |load: u32| {
        let mut builder = ScalarFnBuilder::new();
        let (word, code) = (builder.param(DType::U32), builder.param(DType::U32));
        let bits = builder.u32(8);
        let shift = builder.binary(BinaryOp::Mul, code, bits);
        let code = builder.binary(BinaryOp::Shr, word, shift);
        let code = builder.bitcast(DType::I32, code);
        Lambda { args: vec![Arg::Load(load), Arg::Index(3)], function: builder.finish(code) }
    };
    let coords = vec![Affine { offset: 0, coefficients: vec![0; 4] }, value.clone()];
    Kernel {
        name,
        axes: vec![count, 1, 1, 4],
        loads: group.inputs.iter().map(load).collect(),
        body: Body::Contract(Contract {
            batch: 1,
            rows: 1,
            columns: 1,
            lhs: operand(0),
            rhs: operand(1),
            products: Products::Integer(IntegerSpec::default()),
            epilogue: Lambda::identity(Arg::Reduced(0), DType::I32),
        }),
        output: Access { buffer: output, shape, coords, guards: Vec::new(), fill: 0 },
        in_loop: None,
    }
}

/// All functions of a group, and the choice among them by the index of the row.
fn lambda(group: &Group) -> Lambda {
    let mut builder = ScalarFnBuilder::new();
    let row = builder.param(DType::U32);
    let params: Vec<_> = group.inputs.iter().map(|input| builder.param(input.dtype())).collect();
    let mut result = builder.inst(Inst::Const(group.output, 0));
    for (number, case) in group.cases.iter().enumerate() {
        let value = builder.call(&case.function, &params);
        let number = builder.u32(number as u32);
        let chosen = builder.compare(CompareOp::Eq, row, number);
        result = builder.select(chosen, value, result);
    }
    let function = builder.finish(result);
    let args = [Arg::Index(0)].into_iter().chain((0..group.inputs.len() as u32).map(Arg::Load)).collect();
    Lambda { args, function }
}
