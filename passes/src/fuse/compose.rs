//! Composition of lambdas, and tidying of what composition leaves.

use std::collections::BTreeMap;

use loom_ir::kernel::scalar::{Inst, ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{Access, Arg, Attend, Body, Kernel, Lambda};

/// `consumer` with some arguments computed by `producer`: those for which `taken` holds. Other arguments of the consumer
/// are renamed by `rename`.
pub fn compose(
    consumer: &Lambda,
    producer: &Lambda,
    taken: impl Fn(Arg) -> bool,
    rename: impl Fn(Arg) -> Arg,
) -> Lambda {
    let mut b = ScalarFnBuilder::new();
    let mut args: Vec<Arg> = Vec::new();
    let mut param = |b: &mut ScalarFnBuilder, arg: Arg, dtype| {
        let known = args.iter().position(|&known| known == arg);
        known.map(|index| Value(index as u32)).unwrap_or_else(|| {
            args.push(arg);
            b.param(dtype)
        })
    };
    // All parameters come before the first instruction.
    let uses_producer = consumer.args.iter().any(|&arg| taken(arg));
    let inner: Vec<Value> = if uses_producer {
        let params = producer.args.iter().zip(&producer.function.params);
        params.map(|(&arg, &dtype)| param(&mut b, arg, dtype)).collect()
    } else {
        Vec::new()
    };
    let outer: Vec<Option<Value>> = consumer
        .args
        .iter()
        .zip(&consumer.function.params)
        .map(|(&arg, &dtype)| (!taken(arg)).then(|| param(&mut b, rename(arg), dtype)))
        .collect();
    let produced = uses_producer.then(|| b.call(&producer.function, &inner));
    let values: Vec<Value> = outer
        .into_iter()
        .map(|value| match value.or(produced) {
            Some(value) => value,
            None => unreachable!("an argument is taken or renamed"),
        })
        .collect();
    let result = b.call(&consumer.function, &values);
    pruned(Lambda { args, function: b.finish(result) })
}

/// The same lambda without arguments that its function does not use.
fn pruned(lambda: Lambda) -> Lambda {
    let Lambda { args, function } = lambda;
    let mut used = vec![false; args.len()];
    for operand in function.insts.iter().flat_map(Inst::operands).chain([function.result]) {
        if let Some(used) = used.get_mut(operand.index()) {
            *used = true;
        }
    }
    if used.iter().all(|&used| used) {
        return Lambda { args, function };
    }
    let mut next = 0;
    let numbers: Vec<u32> = used
        .iter()
        .map(|&used| {
            next += u32::from(used);
            next.saturating_sub(1)
        })
        .collect();
    let gone = args.len() as u32 - next;
    let renumber = |value: Value| match numbers.get(value.index()) {
        Some(&number) => Value(number),
        None => Value(value.0 - gone),
    };
    let keep = |index: usize| used[index];
    Lambda {
        args: args.iter().enumerate().filter(|&(index, _)| keep(index)).map(|(_, &arg)| arg).collect(),
        function: ScalarFn {
            params: function
                .params
                .iter()
                .enumerate()
                .filter(|&(index, _)| keep(index))
                .map(|(_, &dtype)| dtype)
                .collect(),
            insts: function.insts.iter().map(|inst| inst.map_operands(renumber)).collect(),
            result: renumber(function.result),
        },
    }
}

/// Drops loads that no lambda uses and makes equal loads one.
pub fn tidied(mut kernel: Kernel) -> Kernel {
    let mut loads: Vec<Access> = Vec::new();
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    for lambda in kernel.lambdas() {
        for load in lambda.loads() {
            let access = &kernel.loads[load as usize];
            let number = loads.iter().position(|known| known == access).unwrap_or_else(|| {
                loads.push(access.clone());
                loads.len() - 1
            });
            numbers.insert(load, number as u32);
        }
    }
    let renumber = |lambda: &Lambda| {
        // Two loads that became one give two arguments that are one.
        let rename = |arg| match arg {
            Arg::Load(load) => Arg::Load(numbers[&load]),
            other => other,
        };
        compose(lambda, lambda, |_| false, rename)
    };
    map_lambdas(&mut kernel.body, renumber);
    kernel.loads = loads;
    kernel
}

/// Replaces every lambda of a body.
pub fn map_lambdas(body: &mut Body, map: impl Fn(&Lambda) -> Lambda) {
    match body {
        Body::Map(lambda) => *lambda = map(lambda),
        Body::Reduce(reduce) => {
            for stage in &mut reduce.stages {
                stage.input = map(&stage.input);
            }
            reduce.result = map(&reduce.result);
        }
        Body::Contract(contract) => {
            contract.lhs = map(&contract.lhs);
            contract.rhs = map(&contract.rhs);
            contract.epilogue = map(&contract.epilogue);
        }
        Body::Gather(gather) => {
            gather.index = map(&gather.index);
            gather.result = map(&gather.result);
        }
        Body::Attend(attend) => {
            for stage in &mut attend.stages {
                stage.input = map(&stage.input);
            }
            let Attend { query, key, score, weight, value, result, .. } = &mut **attend;
            for lambda in [query, key, score, weight, value, result] {
                *lambda = map(lambda);
            }
        }
    }
}

/// Adds `by` to the number of every load.
pub fn shift_loads(lambda: &Lambda, by: usize) -> Lambda {
    let args = lambda
        .args
        .iter()
        .map(|&arg| match arg {
            Arg::Load(load) => Arg::Load(load + by as u32),
            other => other,
        })
        .collect();
    Lambda { args, function: lambda.function.clone() }
}
