//! Terms of a sum that a row's results are made of: the quotients of a softmax, say, whose numerators are the terms.
//!
//! Such terms are costly, and equal bits however often they are computed. A backend that keeps them where they were computed
//! makes the results of them.

use super::scalar::{Inst, ScalarFn, ScalarFnBuilder, Value};
use crate::eval::cost;

/// Fewer operations are computed again rather than kept.
const WORTH: u64 = 8;

/// The result's function with the terms' value as the argument `kept`, if it has that value and keeping it is worth it. Each
/// function comes with its arguments.
pub fn of_terms<A: Copy + PartialEq>(
    (result_args, result): (&[A], &ScalarFn),
    (terms_args, terms): (&[A], &ScalarFn),
    kept: A,
) -> Option<(Vec<A>, ScalarFn)> {
    let operations = terms.insts.iter().filter(|inst| !matches!(inst, Inst::Const(..) | Inst::Bitcast(..)));
    if operations.map(cost::operations_of).sum::<u64>() < WORTH {
        return None;
    }
    // Where the result's function has each value of the other.
    let mut same: Vec<Value> = Vec::new();
    for arg in terms_args {
        let number = result_args.iter().position(|other| other == arg)?;
        same.push(Value(number as u32));
    }
    for inst in &terms.insts {
        let inst = inst.map_operands(|operand| same[operand.index()]);
        let number = result.insts.iter().position(|other| *other == inst)?;
        same.push(result.value_of(number));
    }
    let term = same[terms.result.index()];

    let params = result.params.len();
    let mut needed = vec![false; params + result.insts.len()];
    needed[result.result.index()] = true;
    for (index, inst) in result.insts.iter().enumerate().rev() {
        let value = result.value_of(index);
        if needed[value.index()] && value != term {
            inst.operands().for_each(|operand| needed[operand.index()] = true);
        }
    }
    if !needed[term.index()] {
        return None;
    }
    let mut builder = ScalarFnBuilder::new();
    let mut args = vec![kept];
    let mut values = vec![Value(0); needed.len()];
    values[term.index()] = builder.param(terms.result_type().ok()?);
    for (number, &arg) in result_args.iter().enumerate().filter(|&(number, _)| needed[number]) {
        args.push(arg);
        values[number] = builder.param(result.params[number]);
    }
    for (index, inst) in result.insts.iter().enumerate() {
        let value = result.value_of(index);
        if needed[value.index()] && value != term {
            values[value.index()] = builder.inst(inst.map_operands(|operand| values[operand.index()]));
        }
    }
    Some((args, builder.finish(values[result.result.index()])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scalar::evaluate;
    use crate::kernel::scalar::UnaryOp;
    use crate::types::DType;

    /// exp(a - b), and its quotient by c, where `double` of two exponentials.
    fn functions() -> (ScalarFn, ScalarFn) {
        let mut b = ScalarFnBuilder::new();
        let [x, max] = [DType::F32; 2].map(|dtype| b.param(dtype));
        let shifted = b.sub(x, max);
        let term = b.unary(UnaryOp::Exp, shifted);
        let term = b.finish(term);
        let mut b = ScalarFnBuilder::new();
        let [sum, max, x] = [DType::F32; 3].map(|dtype| b.param(dtype));
        let shifted = b.sub(x, max);
        let term_again = b.unary(UnaryOp::Exp, shifted);
        let quotient = b.div(term_again, sum);
        (term, b.finish(quotient))
    }

    #[test]
    fn a_quotient_is_made_of_the_term() {
        let (term, quotient) = functions();
        let (args, rest) = of_terms((&['s', 'm', 'x'], &quotient), (&['x', 'm'], &term), 't').unwrap();
        assert_eq!((args, rest.insts.len()), (vec!['t', 's'], 1));
        let call = |function: &ScalarFn, args: &[f32]| {
            let bits: Vec<u32> = args.iter().map(|arg| arg.to_bits()).collect();
            f32::from_bits(evaluate(function, &bits, &mut Vec::new()))
        };
        assert_eq!(call(&rest, &[call(&term, &[1.5, 2.0]), 3.0]), call(&quotient, &[3.0, 2.0, 1.5]));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (term, quotient) = functions();
        assert_eq!(of_terms((&['s', 'm', 'x'], &quotient), (&['m', 'x'], &term), 't'), None, "of other arguments");
        assert_eq!(of_terms((&['s', 'm', 'y'], &quotient), (&['x', 'm'], &term), 't'), None);
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let square = b.mul(x, x);
        let square = b.finish(square);
        assert_eq!(of_terms((&['x'], &square), (&['x'], &square), 't'), None, "too little to keep");
    }
}
