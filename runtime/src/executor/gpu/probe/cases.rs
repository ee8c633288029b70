//! What the probe tries: functions by name, in groups that are one kernel each.
//!
//! The first group holds what drivers were seen to get wrong when they are not told otherwise (LN1 section 1): products
//! fused into sums, sums rewritten, subnormals flushed. The others hold every operation that a kernel may contain, from
//! the lists that the kernel IR declares, so that a new one is probed from the day it exists.

use loom_ir::kernel::scalar::{
    BinaryOp, CompareOp, Inst, ScalarFn, ScalarFnBuilder, UnaryOp, Value, binary_accepts, unary_type,
};
use loom_ir::numerics::order::CANONICAL_NAN;
use loom_ir::types::DType;

use super::inputs::Input;

/// One probe.
#[derive(Debug)]
pub(crate) struct Case {
    /// What is tried, in a user's words.
    pub name: String,
    /// What is computed of the group's inputs.
    pub function: ScalarFn,
}

/// Probes that share inputs and a kernel.
#[derive(Debug)]
pub(crate) struct Group {
    /// The functions' parameters.
    pub inputs: &'static [Input],
    /// The type of every function's result.
    pub output: DType,
    /// The probes.
    pub cases: Vec<Case>,
    /// Whether the kernel is a contraction, whose sums the one probe computes otherwise.
    pub contracts: bool,
}

impl Group {
    fn new(inputs: &'static [Input], output: DType) -> Group {
        Group { inputs, output, cases: Vec::new(), contracts: false }
    }

    /// Adds a probe by what it computes; a bool result is stored as 0 or 1.
    fn add(&mut self, name: impl Into<String>, body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) {
        let mut builder = ScalarFnBuilder::new();
        let params: Vec<Value> = self.inputs.iter().map(|input| builder.param(input.dtype())).collect();
        let result = body(&mut builder, &params);
        let result = match (builder.type_of(result), self.output) {
            (DType::Bool, DType::U32) => builder.convert(DType::U32, result),
            (DType::I32, DType::U32) => builder.bitcast(DType::U32, result),
            _ => result,
        };
        self.cases.push(Case { name: name.into(), function: builder.finish(result) });
    }
}

/// The whole table. Few groups, because each costs a compiler some 10 ms before it has seen an instruction.
pub(crate) fn groups() -> Vec<Group> {
    vec![
        arithmetic(),
        float_operations(),
        float_relations(),
        conversions_to_float(),
        integer_operations(),
        functions(),
        packed_products(),
    ]
}

/// What compilers rewrite, and what devices flush.
fn arithmetic() -> Group {
    let mut group = Group::new(&[Input::A, Input::B, Input::C], DType::F32);
    // First, since it says most of a device that fails them: others fail with these.
    group.add("subnormal sums are kept", |f, v| {
        let tiny = f.f32(f32::from_bits(0x0080_0000));
        let (a, b) = (f.mul(v[0], tiny), f.mul(v[1], tiny));
        f.sub(a, b)
    });
    group.add("subnormal products are kept", |f, v| {
        let small = f.f32(f32::from_bits(0x2000_0000));
        let (a, b) = (f.mul(v[0], small), f.mul(v[1], small));
        f.mul(a, b)
    });
    group.add("comparisons see subnormals and the sign of zero is kept", |f, v| {
        let tiny = f.f32(f32::from_bits(0x0000_4000));
        let (a, b) = (f.mul(v[0], tiny), f.mul(v[1], tiny));
        let less = f.compare(CompareOp::Lt, a, b);
        let zero = f.f32(-0.0);
        let c = f.mul(v[2], zero);
        let greater = f.select(less, b, a);
        let equal = f.compare(CompareOp::Eq, greater, c);
        f.select(equal, c, greater)
    });
    group.add("a product is rounded before it is added", |f, v| {
        let product = f.mul(v[0], v[1]);
        f.add(product, v[2])
    });
    group.add("the error of a sum is computed as written", |f, v| {
        let sum = f.add(v[0], v[1]);
        let b_part = f.sub(sum, v[0]);
        let a_part = f.sub(sum, b_part);
        let b_error = f.sub(v[1], b_part);
        let a_error = f.sub(v[0], a_part);
        f.add(a_error, b_error)
    });
    group.add("a common factor stays where it is", |f, v| {
        let left = f.mul(v[0], v[1]);
        let right = f.mul(v[0], v[2]);
        f.add(left, right)
    });
    group.add("factors are not multiplied ahead", |f, v| {
        let (third, fifth) = (f.f32(1.0 / 3.0), f.f32(0.2));
        let product = f.mul(v[0], third);
        f.mul(product, fifth)
    });
    group.add("adding and taking away a large number rounds", |f, v| {
        let large = f.f32(12_582_912.0);
        let sum = f.add(v[0], large);
        f.sub(sum, large)
    });
    group.add("a choice by comparison is no maximum: it keeps NaN and the order of zeros", |f, v| {
        // Infinities, NaN (infinity times zero) and zeros of both signs.
        let x = f.mul(v[0], v[1]);
        let zero = f.f32(0.0);
        let less = f.compare(CompareOp::Lt, x, zero);
        let most = f.select(less, zero, x);
        let less = f.compare(CompareOp::Lt, most, v[2]);
        f.select(less, v[2], most)
    });
    group.add("a constant +0.0 is added", |f, v| {
        let zero = f.f32(0.0);
        f.add(zero, v[0])
    });
    group.add("a product with a constant zero is computed", |f, v| {
        let zero = f.f32(0.0);
        f.mul(v[0], zero)
    });
    group.add("the difference of a value and itself is computed", |f, v| f.sub(v[0], v[0]));
    group
}

/// Every operation of two floats, over the whole range.
fn float_operations() -> Group {
    let mut group = Group::new(&[Input::P, Input::Q], DType::F32);
    group.add("a float is loaded and stored bit by bit", |_, v| v[0]);
    for &op in BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, DType::F32)) {
        group.add(format!("f32 {op}"), |f, v| f.binary(op, v[0], v[1]));
    }
    group
}

/// What floats give that is no float: comparisons, conversions, bits.
fn float_relations() -> Group {
    let mut group = Group::new(&[Input::P, Input::Q], DType::U32);
    for &op in CompareOp::ALL {
        group.add(format!("f32 {op}"), |f, v| f.compare(op, v[0], v[1]));
    }
    for to in [DType::I32, DType::U32, DType::Bool] {
        group.add(format!("f32 to {to}"), |f, v| f.convert(to, v[0]));
    }
    group.add("the bits of a float", |f, v| {
        // Of a NaN no more may be asked than that it is one.
        let bits = f.bitcast(DType::U32, v[0]);
        let (magnitude, infinity, nan) = (f.u32(0x7fff_ffff), f.u32(0x7f80_0000), f.u32(CANONICAL_NAN));
        let size = f.binary(BinaryOp::And, bits, magnitude);
        let is_nan = f.compare(CompareOp::Gt, size, infinity);
        f.select(is_nan, nan, bits)
    });
    group
}

/// What gives floats.
fn conversions_to_float() -> Group {
    let mut group = Group::new(&[Input::M], DType::F32);
    group.add("a float by its bits", |f, v| f.bitcast(DType::F32, v[0]));
    for from in [DType::I32, DType::U32, DType::Bool] {
        group.add(format!("{from} to f32"), |f, v| {
            let value = from_word(f, from, v[0]);
            f.convert(DType::F32, value)
        });
    }
    group
}

/// Every operation on integers and bools.
fn integer_operations() -> Group {
    let mut group = Group::new(&[Input::M, Input::N], DType::U32);
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        for &op in UnaryOp::ALL.iter().filter(|&&op| unary_type(op, dtype).is_some()) {
            group.add(format!("{dtype} {op}"), |f, v| {
                let a = from_word(f, dtype, v[0]);
                f.unary(op, a)
            });
        }
        for &op in BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, dtype)) {
            group.add(format!("{dtype} {op}"), |f, v| {
                let (a, b) = (from_word(f, dtype, v[0]), from_word(f, dtype, v[1]));
                f.binary(op, a, b)
            });
        }
        let ordered = |op: CompareOp| !matches!(op, CompareOp::Eq | CompareOp::Ne);
        for &op in CompareOp::ALL.iter().filter(|&&op| dtype != DType::Bool || !ordered(op)) {
            group.add(format!("{dtype} {op}"), |f, v| {
                let (a, b) = (from_word(f, dtype, v[0]), from_word(f, dtype, v[1]));
                f.compare(op, a, b)
            });
        }
    }
    group
}

/// What a contraction of four codes of 8 bits gives, for which some devices have an instruction of their own.
fn packed_products() -> Group {
    let mut group = Group::new(&[Input::M, Input::N], DType::I32);
    group.contracts = true;
    group.add("the sum of four products of codes", |f, v| {
        let mut sum = f.inst(Inst::Const(DType::I32, 0));
        for code in 0..4 {
            let (high, low) = (f.u32(24 - 8 * code), f.inst(Inst::Const(DType::I32, 24)));
            let [a, b] = [v[0], v[1]].map(|word| {
                let word = f.binary(BinaryOp::Shl, word, high);
                let word = f.bitcast(DType::I32, word);
                f.binary(BinaryOp::Shr, word, low)
            });
            let product = f.binary(BinaryOp::Mul, a, b);
            sum = f.binary(BinaryOp::Add, sum, product);
        }
        sum
    });
    group
}

/// A word as a value of an integer type, or whether its lowest bit is set.
fn from_word(f: &mut ScalarFnBuilder, dtype: DType, word: Value) -> Value {
    match dtype {
        DType::Bool => {
            let one = f.u32(1);
            let bit = f.binary(BinaryOp::And, word, one);
            f.convert(DType::Bool, bit)
        }
        DType::U32 => word,
        _ => f.bitcast(dtype, word),
    }
}

/// Every function of one float.
fn functions() -> Group {
    let mut group = Group::new(&[Input::X], DType::F32);
    for &op in UnaryOp::ALL.iter().filter(|&&op| unary_type(op, DType::F32) == Some(DType::F32)) {
        group.add(format!("f32 {op}"), |f, v| f.unary(op, v[0]));
    }
    group
}
