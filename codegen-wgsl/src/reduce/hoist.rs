//! What is the same for all terms of a row is computed once a row.
//!
//! A stage's term may be made of earlier stages' results: `(x - mean(x))²` of the sum of all x, the norms' elements of a
//! reciprocal root. Where such a part depends on nothing else, it becomes a function of its own, and its value one more
//! result for the rest. The same operations on the same bits: it moves where a value is computed.

use std::collections::BTreeSet;

use loom_ir::kernel::scalar::{Inst, ScalarFn, Value};
use loom_ir::kernel::{Arg, Lambda};
use loom_ir::types::DType;

use crate::error::Error;

/// A lambda in parts.
pub(super) struct Hoisted {
    /// What is computed once a row, of stages' results alone, and its type.
    pub parts: Vec<(Lambda, DType)>,
    /// The rest, to which the parts are the results of stages `first`, `first + 1`, …
    pub rest: Lambda,
}

/// Takes a lambda apart.
pub(super) fn hoist(lambda: &Lambda, first: u32) -> Result<Hoisted, Error> {
    let function = &lambda.function;
    let types = function.types().map_err(|error| Error::Invalid(error.to_string()))?;
    let params = function.params.len();
    let inst = |value: usize| value.checked_sub(params).map(|number| &function.insts[number]);

    // Whether a value is a constant, and whether it depends on nothing but constants and stages' results.
    let constant = |value: usize| matches!(inst(value), Some(Inst::Const(..)));
    let mut of_row: Vec<bool> = Vec::with_capacity(types.len());
    for value in 0..types.len() {
        let all = match inst(value) {
            None => matches!(lambda.args[value], Arg::Reduced(_)),
            Some(inst) => inst.operands().all(|operand| of_row[operand.index()]),
        };
        of_row.push(all);
    }
    // The last of them: what the rest needs. A constant costs nothing where it is.
    let last = |value: &usize| inst(*value).is_some() && of_row[*value] && !constant(*value);
    let used = (params..types.len()).filter(|&value| !of_row[value]).filter_map(inst).flat_map(Inst::operands);
    let parts: BTreeSet<usize> = used.chain([function.result]).map(Value::index).filter(last).collect();

    let slice = |result: usize, leaves: &BTreeSet<usize>| slice(lambda, &types, result, leaves, first);
    let none = BTreeSet::new();
    Ok(Hoisted {
        parts: parts.iter().map(|&part| (slice(part, &none), types[part])).collect(),
        rest: slice(function.result.index(), &parts),
    })
}

/// The lambda of one value of another: the instructions that it needs, where the leaves are results of stages.
fn slice(lambda: &Lambda, types: &[DType], result: usize, leaves: &BTreeSet<usize>, first: u32) -> Lambda {
    let function = &lambda.function;
    let params = function.params.len();
    let mut live = vec![false; types.len()];
    live[result] = true;
    for value in (params..types.len()).rev().filter(|value| !leaves.contains(value)) {
        if live[value] {
            function.insts[value - params].operands().for_each(|operand| live[operand.index()] = true);
        }
    }
    let mut places = vec![Value(0); types.len()];
    let (mut args, mut new) = (Vec::new(), ScalarFn { params: Vec::new(), insts: Vec::new(), result: Value(0) });
    let leaf = |value: &usize| *value < params || leaves.contains(value);
    for value in (0..types.len()).filter(leaf).filter(|&value| live[value]) {
        let number = leaves.iter().position(|leaf| *leaf == value);
        args.push(number.map_or_else(|| lambda.args[value], |number| Arg::Reduced(first + number as u32)));
        places[value] = Value(new.params.len() as u32);
        new.params.push(types[value]);
    }
    for value in (params..types.len()).filter(|value| live[*value] && !leaves.contains(value)) {
        places[value] = Value((new.params.len() + new.insts.len()) as u32);
        let inst = function.insts[value - params].map_operands(|operand| places[operand.index()]);
        new.insts.push(inst);
    }
    new.result = places[result];
    Lambda { args, function: new }
}

#[cfg(test)]
mod tests {
    use loom_ir::eval::scalar::evaluate;
    use loom_ir::kernel::scalar::{ScalarFnBuilder, UnaryOp};

    use super::*;

    #[test]
    fn a_norm_takes_its_root_once() {
        // (x - r0/4) · rsqrt(r1/4), of a load between the results.
        let mut f = ScalarFnBuilder::new();
        let [r0, x, r1] = [DType::F32; 3].map(|dtype| f.param(dtype));
        let quarter = f.f32(0.25);
        let mean = f.mul(r0, quarter);
        let variance = f.mul(r1, quarter);
        let root = f.unary(UnaryOp::Rsqrt, variance);
        let shifted = f.sub(x, mean);
        let result = f.mul(shifted, root);
        let lambda = Lambda { args: vec![Arg::Reduced(0), Arg::Load(5), Arg::Reduced(1)], function: f.finish(result) };
        let Hoisted { parts, rest } = hoist(&lambda, 2).unwrap();
        assert_eq!(
            parts.iter().map(|(part, _)| part.args.clone()).collect::<Vec<_>>(),
            [vec![Arg::Reduced(0)], vec![Arg::Reduced(1)]]
        );
        assert_eq!(rest.args, [Arg::Load(5), Arg::Reduced(2), Arg::Reduced(3)]);
        assert_eq!(rest.function.insts.len(), 2);
        let value = |function: &ScalarFn, args: &[f32]| {
            let bits: Vec<u32> = args.iter().map(|arg| arg.to_bits()).collect();
            f32::from_bits(evaluate(function, &bits, &mut Vec::new()))
        };
        let (mean, root) = (value(&parts[0].0.function, &[3.0]), value(&parts[1].0.function, &[0.7]));
        assert_eq!(value(&rest.function, &[9.5, mean, root]), value(&lambda.function, &[3.0, 9.5, 0.7]));
    }

    #[test]
    fn what_has_no_such_part_stays() {
        for lambda in [Lambda::identity(Arg::Load(0), DType::F32), Lambda::identity(Arg::Reduced(0), DType::F32)] {
            let Hoisted { parts, rest } = hoist(&lambda, 1).unwrap();
            assert!(parts.is_empty());
            assert_eq!(rest, lambda);
        }
        // All of it is the row's.
        let mut f = ScalarFnBuilder::new();
        let sum = f.param(DType::F32);
        let result = f.mul(sum, sum);
        let lambda = Lambda { args: vec![Arg::Reduced(0)], function: f.finish(result) };
        let Hoisted { parts, rest } = hoist(&lambda, 1).unwrap();
        assert_eq!(parts, [(lambda, DType::F32)]);
        assert_eq!(rest, Lambda::identity(Arg::Reduced(1), DType::F32));
    }
}
