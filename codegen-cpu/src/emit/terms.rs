//! Terms of a sum that a row's results are made of: the quotients of a softmax, say, whose numerators are the terms.
//!
//! Such terms are costly, and equal bits however often they are computed. They are written where the results will be, one
//! for each element, and the results are computed from there, in place.

use loom_ir::kernel::scalar::{Inst, ScalarFnBuilder, Value};

use crate::view::{Function, Operand};

/// Fewer operations are computed again rather than written and read.
const WORTH: usize = 8;

/// The result's function with `terms`' value as an operand from a place, if it has it and that's worth it.
pub(crate) fn of_terms(result: &Function, terms: &Function, place: usize) -> Option<Function> {
    let operations = terms.body.insts.iter().filter(|inst| !matches!(inst, Inst::Const(..) | Inst::Bitcast(..)));
    if operations.count() < WORTH {
        return None;
    }
    // Where the result's function has each value of the other.
    let mut same: Vec<Value> = Vec::new();
    for operand in &terms.operands {
        let number = result.operands.iter().position(|other| other == operand)?;
        same.push(Value(number as u32));
    }
    for inst in &terms.body.insts {
        let inst = inst.map_operands(|operand| same[operand.index()]);
        let number = result.body.insts.iter().position(|other| *other == inst)?;
        same.push(result.body.value_of(number));
    }
    let term = same[terms.body.result.index()];

    let params = result.body.params.len();
    let mut needed = vec![false; params + result.body.insts.len()];
    needed[result.body.result.index()] = true;
    for (index, inst) in result.body.insts.iter().enumerate().rev() {
        let value = result.body.value_of(index);
        if needed[value.index()] && value != term {
            inst.operands().for_each(|operand| needed[operand.index()] = true);
        }
    }
    if !needed[term.index()] {
        return None;
    }
    let mut builder = ScalarFnBuilder::new();
    let mut operands = vec![Operand::Place(place)];
    let mut values = vec![Value(0); needed.len()];
    values[term.index()] = builder.param(terms.result);
    for (number, &operand) in result.operands.iter().enumerate().filter(|&(number, _)| needed[number]) {
        operands.push(operand);
        values[number] = builder.param(result.body.params[number]);
    }
    for (index, inst) in result.body.insts.iter().enumerate() {
        let value = result.body.value_of(index);
        if needed[value.index()] && value != term {
            values[value.index()] = builder.inst(inst.map_operands(|operand| values[operand.index()]));
        }
    }
    let body = builder.finish(values[result.body.result.index()]);
    Some(Function { operands, body, result: result.result })
}
