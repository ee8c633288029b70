//! The probe against devices with known faults: it finds each, and says what it is.

use std::collections::BTreeSet;

use loom_ir::kernel::scalar::{BinaryOp, Inst, ScalarFn, Value};
use loom_ir::numerics::expand::expand;

use super::inputs::Input;
use super::*;

/// What a device does in place of an instruction; `None`: what is right.
pub(crate) type Fault = fn(&Step<'_>) -> Option<u32>;

/// An instruction and the function that it is of, with all values before it.
pub(crate) struct Step<'a> {
    function: &'a ScalarFn,
    inst: Inst,
    types: &'a [DType],
    values: &'a [u32],
}

impl Step<'_> {
    fn bits(&self, value: Value) -> u32 {
        self.values[value.index()]
    }

    fn float(&self, value: Value) -> f32 {
        f32::from_bits(self.bits(value))
    }

    /// The operation and operands, where they are two floats.
    fn floats(&self) -> Option<(BinaryOp, Value, Value)> {
        match self.inst {
            Inst::Binary(op, a, b) if self.types[a.index()] == DType::F32 => Some((op, a, b)),
            _ => None,
        }
    }

    fn exact(&self) -> u32 {
        let of = |value: Value| self.types[value.index()];
        match self.inst {
            Inst::Const(_, bits) => bits as u32,
            Inst::Unary(op, a) => scalar::unary(op, of(a), self.bits(a)),
            Inst::Binary(op, a, b) => scalar::binary(op, of(a), self.bits(a), self.bits(b)),
            Inst::Compare(op, a, b) => u32::from(scalar::compare(op, of(a), self.bits(a), self.bits(b))),
            Inst::Select(c, a, b) => self.bits(if self.bits(c) != 0 { a } else { b }),
            Inst::Bitcast(_, a) => self.bits(a),
            Inst::Convert(to, a) => scalar::convert(of(a), to, self.bits(a)),
        }
    }
}

/// A device that interprets the probe's programs down to primitive instructions, some of which it gets wrong.
pub(crate) struct Faulty(pub Fault);

impl Machine for Faulty {
    fn run(&self, program: &Arc<Verified>, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        for (kernel, output) in program.kernels.iter().zip(outputs) {
            let lambda = match &kernel.body {
                Body::Map(lambda) => lambda,
                Body::Contract(contract) => {
                    products(contract, kernel, inputs, output, self.0);
                    continue;
                }
                _ => unreachable!("no other kernels are in the probe"),
            };
            for (row, results) in output.chunks_mut(VALUES).enumerate() {
                let function = &expand(&of_row(&lambda.function, row as u32), &|_, _| false);
                let types = &function.types().unwrap();
                let mut values = Vec::new();
                for (index, result) in results.iter_mut().enumerate() {
                    values.clear();
                    values.extend(lambda.args.iter().map(|arg| match arg {
                        Arg::Load(load) => inputs[kernel.loads[*load as usize].buffer.index()][index],
                        _ => row as u32,
                    }));
                    for &inst in &function.insts {
                        let step = Step { function, inst, types, values: &values };
                        let bits = (self.0)(&step).unwrap_or_else(|| step.exact());
                        values.push(bits);
                    }
                    *result = values[function.result.index()];
                }
            }
        }
        Ok(())
    }
}

/// A contraction; its factors are functions too, and what a fault makes of them.
fn products(contract: &Contract, kernel: &Kernel, inputs: &[&[u32]], output: &mut [u32], fault: Fault) {
    let factors = contract.factors();
    for (index, result) in output.iter_mut().enumerate() {
        let factor = |lambda: &Lambda, code: u32| {
            let function = &lambda.function;
            let types = &function.types().unwrap();
            let mut values: Vec<u32> = lambda
                .args
                .iter()
                .map(|arg| match arg {
                    Arg::Load(load) => inputs[kernel.loads[*load as usize].buffer.index()][index],
                    _ => code,
                })
                .collect();
            for &inst in &function.insts {
                let step = Step { function, inst, types, values: &values };
                let bits = fault(&step).unwrap_or_else(|| step.exact());
                values.push(bits);
            }
            values[function.result.index()] as i32
        };
        let product = |code| factor(&factors[0], code).wrapping_mul(factor(&factors[1], code));
        *result = (0..4).fold(0i32, |sum, code| sum.wrapping_add(product(code))) as u32;
    }
}

/// A group's function without what other rows than this one ask for.
fn of_row(function: &ScalarFn, row: u32) -> ScalarFn {
    let mut builder = ScalarFnBuilder::new();
    let mut values: Vec<Value> = function.params.iter().map(|&dtype| builder.param(dtype)).collect();
    for inst in &function.insts {
        let asked = |condition: Value| match function.inst(condition)? {
            &Inst::Compare(CompareOp::Eq, Value(0), number) => match function.inst(number)? {
                Inst::Const(_, number) => Some(*number == u64::from(row)),
                _ => None,
            },
            _ => None,
        };
        let value = match *inst {
            Inst::Select(condition, then, _) if asked(condition) == Some(true) => values[then.index()],
            Inst::Select(condition, _, otherwise) if asked(condition) == Some(false) => values[otherwise.index()],
            _ => builder.inst(inst.map_operands(|operand| values[operand.index()])),
        };
        values.push(value);
    }
    builder.finish(values[function.result.index()])
}

/// Flushes subnormal results of sums, differences and products, as a GPU does whose shaders ask for nothing.
pub(crate) fn flushes(step: &Step<'_>) -> Option<u32> {
    let (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, ..) = step.floats()? else { return None };
    let right = step.exact();
    f32::from_bits(right).is_subnormal().then_some(right & 0x8000_0000)
}

/// Fuses a product into the sum that it is an operand of.
fn fuses(step: &Step<'_>) -> Option<u32> {
    let (BinaryOp::Add, product, addend) = step.floats()? else { return None };
    let Some(&Inst::Binary(BinaryOp::Mul, x, y)) = step.function.inst(product) else { return None };
    Some(step.float(x).mul_add(step.float(y), step.float(addend)).to_bits())
}

/// Takes (a + b) - a for b.
fn regroups(step: &Step<'_>) -> Option<u32> {
    let (BinaryOp::Sub, sum, a) = step.floats()? else { return None };
    match step.function.inst(sum) {
        Some(&Inst::Binary(BinaryOp::Add, x, y)) if x == a => Some(step.bits(y)),
        Some(&Inst::Binary(BinaryOp::Add, x, y)) if y == a => Some(step.bits(x)),
        _ => None,
    }
}

/// Takes a choice by comparison for its own maximum, which drops NaN.
fn maximum(step: &Step<'_>) -> Option<u32> {
    let Inst::Select(c, a, b) = step.inst else { return None };
    let Some(&Inst::Compare(CompareOp::Lt, x, y)) = step.function.inst(c) else { return None };
    (x == b && y == a && step.float(b).is_nan()).then(|| step.bits(a))
}

/// Drops the addition of a constant +0.0.
fn drops_zero(step: &Step<'_>) -> Option<u32> {
    let (BinaryOp::Add, a, b) = step.floats()? else { return None };
    (step.function.inst(a) == Some(&Inst::Const(DType::F32, 0))).then(|| step.bits(b))
}

/// Shifts every bit out where the count is 32 or more.
fn shifts_out(step: &Step<'_>) -> Option<u32> {
    let Inst::Binary(BinaryOp::Shl, _, count) = step.inst else { return None };
    (step.bits(count) >= 32).then_some(0)
}

/// Divides integers by zero as most hardware does.
fn divides_by_zero(step: &Step<'_>) -> Option<u32> {
    let Inst::Binary(BinaryOp::Div, _, divisor) = step.inst else { return None };
    (step.bits(divisor) == 0).then_some(u32::MAX)
}

fn failed(fault: Fault) -> BTreeSet<String> {
    let probes = Table::new().unwrap().run(&Faulty(fault)).unwrap();
    probes.into_iter().filter(|probe| !probe.passed()).map(|probe| probe.name).collect()
}

#[test]
fn a_device_without_faults_passes() {
    let probes = Table::new().unwrap().run(&Faulty(|_| None)).unwrap();
    let names: BTreeSet<&str> = probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(names.len(), probes.len(), "names are unique");
    assert!(probes.iter().all(Probe::passed), "{probes:#?}");
    for name in ["f32 exp", "f32 div", "f32 sqrt", "i32 div", "u32 shl", "u32 to f32", "f32 to i32", "bool xor"] {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn every_fault_is_found_by_name() {
    let faults: [(Fault, &[&str]); 7] = [
        (flushes, &["subnormal sums are kept", "subnormal products are kept", "f32 add", "f32 mul", "f32 exp"]),
        (fuses, &["a product is rounded before it is added", "a common factor stays where it is", "f32 erf"]),
        (regroups, &["adding and taking away a large number rounds", "the error of a sum is computed as written"]),
        (maximum, &["f32 max", "a choice by comparison is no maximum: it keeps NaN and the order of zeros"]),
        (drops_zero, &["a constant +0.0 is added"]),
        (shifts_out, &["i32 shl", "u32 shl"]),
        (divides_by_zero, &["i32 div", "u32 div"]),
    ];
    for (fault, names) in faults {
        let failed = failed(fault);
        for &name in names {
            assert!(failed.contains(name), "`{name}` is not among {failed:#?}");
        }
    }
}

#[test]
fn the_first_wrong_answer_is_told() {
    let probes = Table::new().unwrap().run(&Faulty(flushes)).unwrap();
    let sum = probes.iter().find(|probe| probe.name == "f32 add").unwrap();
    let difference = sum.difference.as_ref().unwrap();
    let [a, b] = difference.inputs[..] else { panic!("two operands") };
    assert_eq!(difference.expected, (f32::from_bits(a) + f32::from_bits(b)).to_bits());
    assert_eq!(difference.found, difference.expected & 0x8000_0000);
    let text = format!("`f32 add` (of {a:08x} {b:08x} is {:08x}, not {:08x})", difference.found, difference.expected);
    assert_eq!(sum.to_string(), text);
}

#[test]
fn inputs_hold_what_they_promise() {
    let [x, p, q, m, n] = [Input::X, Input::P, Input::Q, Input::M, Input::N].map(Input::values);
    let values: BTreeSet<u32> = x.iter().copied().collect();
    for bits in [0x7fc0_0000, 0x0080_0000, 0x0000_0001, 0xff80_0000] {
        assert!(values.contains(&bits), "{bits:08x}");
    }
    assert!(inputs::boundaries().is_subset(&values), "there are more than there is room for");
    let exponents: BTreeSet<u32> = x.iter().map(|bits| bits >> 23).collect();
    assert_eq!(exponents.len(), 512);
    let pairs: BTreeSet<(u32, u32)> = p.into_iter().zip(q).collect();
    for pair in [(0x7f80_0000, 0), (0x0000_0001, 0x807f_ffff), (0x8000_0000, 0), (0x7fc0_0000, 0xff7f_ffff)] {
        assert!(pairs.contains(&pair), "{pair:08x?}");
    }
    let pairs: BTreeSet<(u32, u32)> = m.into_iter().zip(n).collect();
    for pair in [(1 << 31, u32::MAX), (1 << 31, 0), (u32::MAX, 32), (0, 0)] {
        assert!(pairs.contains(&pair), "{pair:?}");
    }
}
