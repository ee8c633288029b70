//! Recurrences as loops, against the same steps written one after another, on every device.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_codegen_wgsl::generate_turns;
use loom_ir::eval::program::{Memory, run};
use loom_ir::graph::{Graph, NodeId, Op, parse::parse};
use loom_ir::kernel::{Forms, Step, Verified};
use loom_ir::types::Shape;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile, compile_graph};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::CpuExecutor;
use loom_runtime::executor::gpu::{Arithmetic, GpuDevice, GpuExecutor, GpuOptions, Shapes, Target, TurnCost};

const GRAPHS: [(&str, &str); 8] = [
    (
        "sums of prefixes of scalars",
        r#"graph "" {
  %0 = input "x" : f32[9]
  %1 = constant [0x80000000] : f32[]
  %3 = recur %1 %4 steps=9 : f32[9]
  %4 = add %3 %0 : f32[9]
  output "y" %4
}"#,
    ),
    (
        "sums of prefixes from a given start",
        r#"graph "" {
  %0 = input "x" : f32[5, 7]
  %1 = weight "init" : f32[7]
  %3 = recur %1 %4 steps=5 : f32[5, 7]
  %4 = add %3 %0 : f32[5, 7]
  output "before" %3
  output "y" %4
}"#,
    ),
    (
        "two states that need each other, and a delay of two",
        r#"graph "" {
  %0 = input "x" : f32[6, 2, 3]
  %1 = input "init" : f32[2, 3]
  %2 = constant [0x3f800000] : f32[]
  %3 = broadcast %2 shape=[2, 3] axes=[] : f32[2, 3]
  %4 = recur %1 %9 steps=6 : f32[6, 2, 3]
  %5 = recur %3 %8 steps=6 : f32[6, 2, 3]
  %6 = recur %3 %5 steps=6 : f32[6, 2, 3]
  %7 = mul %4 %0 : f32[6, 2, 3]
  %8 = add %7 %6 : f32[6, 2, 3]
  %9 = sub %8 %5 : f32[6, 2, 3]
  %10 = reduce %9 op=sum axes=[0, 2] : f32[2]
  output "y" %9
  output "sum" %10
}"#,
    ),
    (
        "a cell with gates",
        r#"graph "" {
  %0 = input "x" : f32[5, 2, 24]
  %1 = weight "w" : f32[24, 6]
  %2 = constant [0x00000000] : f32[]
  %3 = broadcast %2 shape=[2, 6] axes=[] : f32[2, 6]
  %4 = recur %3 %16 steps=5 : f32[5, 2, 6]
  %5 = broadcast %1 shape=[5, 24, 6] axes=[1, 2] : f32[5, 24, 6]
  %6 = contract %4 %5 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[5, 2, 24]
  %7 = add %0 %6 : f32[5, 2, 24]
  %8 = slice %7 starts=[0, 0, 0] ends=[5, 2, 6] steps=[1, 1, 1] : f32[5, 2, 6]
  %9 = slice %7 starts=[0, 0, 6] ends=[5, 2, 12] steps=[1, 1, 1] : f32[5, 2, 6]
  %10 = sigmoid %8 : f32[5, 2, 6]
  %11 = recur %3 %14 steps=5 : f32[5, 2, 6]
  %12 = mul %10 %11 : f32[5, 2, 6]
  %13 = tanh %9 : f32[5, 2, 6]
  %14 = add %12 %13 : f32[5, 2, 6]
  %15 = tanh %14 : f32[5, 2, 6]
  %16 = mul %15 %10 : f32[5, 2, 6]
  output "y" %16
}"#,
    ),
    (
        "a matrix of its own at every step",
        r#"graph "" {
  %0 = input "x" : f32[5, 2, 6]
  %1 = weight "w" : f32[5, 6, 6]
  %2 = constant [0x3f800000] : f32[]
  %3 = broadcast %2 shape=[2, 6] axes=[] : f32[2, 6]
  %4 = recur %3 %6 steps=5 : f32[5, 2, 6]
  %5 = contract %4 %1 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[5, 2, 6]
  %6 = add %5 %0 : f32[5, 2, 6]
  output "y" %6
}"#,
    ),
    (
        "rows are normalised and turned at every step",
        r#"graph "" {
  %0 = input "x" : f32[4, 3, 40]
  %1 = input "init" : f32[40, 3]
  %2 = recur %1 %9 steps=4 : f32[4, 40, 3]
  %3 = transpose %2 permutation=[0, 2, 1] : f32[4, 3, 40]
  %4 = add %3 %0 : f32[4, 3, 40]
  %5 = reduce %4 op=max axes=[2] : f32[4, 3]
  %6 = broadcast %5 shape=[4, 3, 40] axes=[0, 1] : f32[4, 3, 40]
  %7 = sub %4 %6 : f32[4, 3, 40]
  %8 = exp %7 : f32[4, 3, 40]
  %9 = reshape %8 shape=[4, 40, 3] : f32[4, 40, 3]
  output "y" %9
}"#,
    ),
    (
        "a convolution of the state, and a product of states",
        r#"graph "" {
  %0 = input "x" : f32[3, 2, 8]
  %1 = weight "w" : f32[2, 2, 3]
  %2 = constant [0x00000000] : f32[]
  %3 = broadcast %2 shape=[2, 8] axes=[] : f32[2, 8]
  %4 = recur %3 %9 steps=3 : f32[3, 2, 8]
  %5 = window %4 axes=[2] size=[3] stride=[1] dilation=[1] low=[1] high=[1] fill=0x00000000 : f32[3, 2, 8, 3]
  %6 = broadcast %1 shape=[3, 2, 2, 3] axes=[1, 2, 3] : f32[3, 2, 2, 3]
  %7 = contract %6 %5 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[3, 2] rhs_reduced=[3, 1] : f32[3, 2, 8]
  %8 = contract %4 %4 lhs_batch=[0, 1] rhs_batch=[0, 1] lhs_reduced=[2] rhs_reduced=[2] : f32[3, 2]
  %10 = broadcast %8 shape=[3, 2, 8] axes=[0, 1] : f32[3, 2, 8]
  %11 = add %7 %10 : f32[3, 2, 8]
  %9 = add %11 %0 : f32[3, 2, 8]
  output "y" %9
}"#,
    ),
    (
        "a delay of an input, and one step alone",
        r#"graph "" {
  %0 = input "x" : f32[4, 3]
  %1 = weight "first" : f32[3]
  %2 = recur %1 %0 steps=4 : f32[4, 3]
  %3 = slice %0 starts=[0, 0] ends=[1, 3] steps=[1, 1] : f32[1, 3]
  %4 = recur %1 %5 steps=1 : f32[1, 3]
  %5 = mul %4 %3 : f32[1, 3]
  output "delayed" %2
  output "once" %5
}"#,
    ),
];

/// The graph with every slice of every recurrence as nodes of its own; outputs on cycles become one a slice.
fn unrolled(graph: &Graph) -> Graph {
    let mut plain = Graph::new("");
    let mut whole: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut slices: BTreeMap<(NodeId, u64), NodeId> = BTreeMap::new();
    let cycles = graph.cycles();
    let cycle_of = |id: NodeId| cycles.iter().find(|cycle| cycle.contains(&id));
    let slice = |plain: &mut Graph, id: NodeId, at: u64| {
        let dims = plain.shape(id).dims().to_vec();
        let (mut starts, mut ends) = (vec![0; dims.len()], dims.clone());
        (starts[0], ends[0]) = (at, at + 1);
        plain.add(Op::Slice { starts, ends, steps: vec![1; dims.len()] }, &[id], "").unwrap()
    };
    let mut waiting: Vec<NodeId> = graph.topological();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|&id| {
            if whole.contains_key(&id) || slices.contains_key(&(id, 0)) {
                return false;
            }
            let cycle = cycle_of(id).cloned().unwrap_or_else(|| vec![id]);
            let outside = cycle.iter().flat_map(|&id| graph.operands(id)).filter(|operand| !cycle.contains(operand));
            let known = |id: &NodeId| whole.contains_key(id) || slices.contains_key(&(*id, 0));
            if !outside.clone().all(|operand| known(&operand)) {
                return true;
            }
            // Whole values of finished cycles that are used outside: their slices put together by sums of paddings would
            // change bits, so the graphs use them as outputs and in reductions of all slices alone, which are left out.
            if outside.clone().any(|operand| !whole.contains_key(&operand)) {
                return false;
            }
            let node = graph.node(id);
            if cycle.len() == 1 && !matches!(node.op, Op::Recur(_)) {
                let operands: Vec<NodeId> = graph.operands(id).iter().map(|operand| whole[operand]).collect();
                let new = match node.op.arity() {
                    0 => plain.add_leaf(node.op.clone(), node.ty.clone(), ""),
                    _ => plain.add(node.op.clone(), &operands, "").unwrap(),
                };
                whole.insert(id, new);
                return false;
            }
            let steps = graph.shape(id).dims()[0];
            for t in 0..steps {
                for &id in &cycle {
                    let node = graph.node(id);
                    let operands = graph.operands(id);
                    let at = |plain: &mut Graph, operand: NodeId, t: u64| match slices.get(&(operand, t)) {
                        Some(&slice) => slice,
                        None => slice(plain, whole[&operand], t),
                    };
                    let mut op = node.op.clone();
                    let new = match &mut op {
                        Op::Recur(_) if t == 0 => {
                            let dims = [&[1], &node.ty.shape.dims()[1..]].concat();
                            plain.add(Op::Reshape(Shape::from(dims)), &[whole[&operands[0]]], "").unwrap()
                        }
                        Op::Recur(_) => at(&mut plain, operands[1], t - 1),
                        _ => {
                            let operands: Vec<NodeId> = operands.iter().map(|&o| at(&mut plain, o, t)).collect();
                            let one = |shape: &Shape| Shape::from([&[1], &shape.dims()[1..]].concat());
                            match &mut op {
                                Op::Broadcast { shape, .. } | Op::Reshape(shape) => *shape = one(shape),
                                Op::Slice { ends, .. } => ends[0] = 1,
                                _ => {}
                            }
                            plain.add(op, &operands, "").unwrap()
                        }
                    };
                    slices.insert((id, t), new);
                }
            }
            false
        });
        assert!(waiting.len() < before, "every node is reached");
    }
    for (name, id) in graph.outputs() {
        match whole.get(id) {
            Some(&id) => plain.add_output(name, id),
            None => {
                for t in 0..graph.shape(*id).dims()[0] {
                    if let Some(&slice) = slices.get(&(*id, t)) {
                        plain.add_output(format!("{name}.{t}"), slice);
                    }
                }
            }
        }
    }
    plain
}

fn options(skip: &[&str]) -> PipelineOptions {
    PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..PipelineOptions::default() }
}

/// The elements of each input and weight, by name.
fn values(program: &Verified, special: bool) -> BTreeMap<String, Vec<u32>> {
    let given = program.buffers_where(|kind| kind.is_input() || kind.is_weight());
    given
        .map(|(_, buffer)| {
            let mut random = Random(buffer.name.len() as u64 + 11);
            let bits = random.floats(buffer.shape.elements() as usize, if special { 5 } else { 0 });
            (buffer.name.clone(), bits)
        })
        .collect()
}

fn interpret(program: &Verified, values: &BTreeMap<String, Vec<u32>>) -> BTreeMap<String, Vec<u32>> {
    let mut memory = Memory::new(program);
    for (bits, buffer) in memory.buffers.iter_mut().zip(&program.buffers) {
        if let Some(values) = values.get(&buffer.name) {
            bits.clone_from(values);
        }
    }
    run(program, &mut memory);
    program.outputs().map(|(id, buffer)| (buffer.name.clone(), memory.buffers[id.index()].clone())).collect()
}

fn execute(executor: &mut dyn Executor, values: &BTreeMap<String, Vec<u32>>) -> BTreeMap<String, Vec<u32>> {
    let program = executor.program().clone();
    let inputs: Vec<&[u32]> = program.inputs().map(|(_, buffer)| values[&buffer.name].as_slice()).collect();
    let mut outputs: Vec<Vec<u32>> =
        program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    // Twice, so that nothing of the first run is left for the second.
    executor.run(&inputs, &mut slices).unwrap();
    executor.run(&inputs, &mut slices).unwrap();
    program.outputs().map(|(_, buffer)| buffer.name.clone()).zip(outputs).collect()
}

fn weights(program: &Verified, values: &BTreeMap<String, Vec<u32>>) -> Arc<Vec<Vec<u32>>> {
    Arc::new(program.weights().map(|(_, buffer)| values[&buffer.name].clone()).collect())
}

#[test]
fn a_loop_is_its_steps_one_after_another() {
    for (name, text) in GRAPHS {
        let graph = parse(text).unwrap();
        let program = compile_graph(graph.clone(), &PipelineOptions::default()).unwrap();
        let loops = |cycle: &Vec<NodeId>| graph.shape(cycle[0]).dims()[0] > 1;
        if graph.cycles().iter().any(loops) {
            assert!(program.steps().any(|step| matches!(step, Step::Loop { .. })), "{name}");
        }
        let plain = unrolled(&graph);
        let plain = compile_graph(plain, &options(&["simplify", "fold", "cse", "fuse", "collapse"])).unwrap();
        let mut compared = 0;
        for special in [false, true] {
            let values = values(&program, special);
            let found = interpret(&program, &values);
            for (output, expected) in interpret(&plain, &values) {
                let (whole, slice) = match output.rsplit_once('.') {
                    Some((whole, slice)) => (whole, slice.parse::<usize>().unwrap()),
                    None => (output.as_str(), 0),
                };
                let found = &found[whole][slice * expected.len()..(slice + 1) * expected.len()];
                assert_eq!(found, expected, "{name}: {output} of\n{}", *program);
                compared += 1;
            }
        }
        assert!(compared > 1, "{name}");
    }
}

#[test]
fn passes_change_no_bit_of_a_loop() {
    for (name, text) in GRAPHS {
        let graph = parse(text).unwrap();
        let whole = compile_graph(graph.clone(), &PipelineOptions::default()).unwrap();
        let values = values(&whole, true);
        let expected = interpret(&whole, &values);
        for skip in [&["fuse"][..], &["collapse"], &["fuse", "collapse"], &["simplify", "fold", "cse", "dce"]] {
            let other = compile_graph(graph.clone(), &options(skip)).unwrap();
            assert_eq!(interpret(&other, &values), expected, "{name} without {skip:?}");
        }
    }
}

#[test]
fn processors_run_loops() {
    for (name, text) in GRAPHS {
        for skip in [&[][..], &["fuse", "collapse"]] {
            let program = Arc::new(compile_graph(parse(text).unwrap(), &options(skip)).unwrap());
            for special in [false, true] {
                let values = values(&program, special);
                let expected = interpret(&program, &values);
                for threads in [1, 3] {
                    let weights = weights(&program, &values);
                    let mut cpu = CpuExecutor::new(Arc::clone(&program), weights, Some(threads)).unwrap();
                    assert_eq!(execute(&mut cpu, &values), expected, "{name}, {threads} threads\n{}", **program);
                }
            }
        }
    }
}

#[test]
fn gpus_run_loops() {
    let device = GpuDevice::open(&GpuOptions::default()).unwrap();
    let programs = GRAPHS.map(|(name, text)| (name, compile_graph(parse(text).unwrap(), &PipelineOptions::default())));
    for (name, program) in programs {
        let program = Arc::new(program.unwrap());
        for target in targets(&device) {
            same_as_interpreted(name, &device, &program, &target);
        }
    }
}

/// Step by step, and with as many steps a dispatch as there can be, and with few: a loop that has blocks is cut into as
/// many as there are, and into fewer.
fn targets(device: &GpuDevice) -> Vec<Target> {
    let forced = |most, units| {
        let mut target = device.target().clone();
        // Each kernel of a step counts 1, so that `most` is a number of kernels.
        let turns = TurnCost { dispatch: 1 << 40, phase: 1, operand: 0, product: 0, element: 0, most };
        (target.shapes.turns, target.shapes.units) = (Some(turns), units);
        target
    };
    let apart = Target { shapes: Shapes { turns: None, ..device.target().shapes.clone() }, ..device.target().clone() };
    vec![apart, forced(u64::MAX, 128), forced(u64::MAX, 2), forced(9, 128)]
}

fn same_as_interpreted(name: &str, device: &Arc<GpuDevice>, program: &Arc<Verified>, target: &Target) {
    for special in [false, true] {
        let values = values(program, special);
        let weights = weights(program, &values);
        let mut gpu = GpuExecutor::with_target(Arc::clone(device), Arc::clone(program), weights, target).unwrap();
        let turns = target.shapes.turns;
        assert_eq!(execute(&mut gpu, &values), interpret(program, &values), "{name}, {turns:?}\n{}", ***program);
    }
}

/// The kernels that a dispatch of many steps stands for.
fn in_turns(program: &Verified, target: &Target) -> usize {
    generate_turns(program, &Forms::new(), target).unwrap().into_iter().map(|turns| turns.kernels.len()).sum()
}

#[test]
fn gpus_run_many_steps_of_a_cell_in_a_dispatch() {
    let device = GpuDevice::open(&GpuOptions::default()).unwrap();
    let compiled = |cell: &str, batch: u32, hidden: u32| {
        let source = format!(
            r#"{{"batch_size": {batch}, "input_shape": [5, 3], "layers": [
            {{"type": "{cell}", "hidden_size": {hidden}, "bidirectional": true, "initial_state": "learned"}}]}}"#
        );
        let network = loom_ir::config::parse(&source).unwrap();
        Arc::new(compile(&network, &PipelineOptions::default()).unwrap())
    };
    for (cell, batch, hidden) in [
        ("rnn", 1, 7),
        ("lstm", 6, 20),
        // More than one tile, more than one chunk, more than a workgroup has invocations.
        ("lstm", 1, 270),
        ("gru", 3, 128),
        // More rows than a tile has.
        ("gru", 34, 9),
    ] {
        let program = compiled(cell, batch, hidden);
        for target in targets(&device) {
            let looped = program.kernels.iter().filter(|kernel| kernel.in_loop.is_some()).count();
            let expected = if target.shapes.turns.is_some() { looped } else { 0 };
            assert_eq!(in_turns(&program, &target), expected, "{cell} {batch} {hidden}");
            same_as_interpreted(cell, &device, &program, &target);
        }
        if hidden < 32 {
            // In integers, which are slow.
            let mut soft = device.target().clone().with_arithmetic(Arithmetic::Soft);
            soft.shapes.turns = targets(&device)[1].shapes.turns;
            assert!(in_turns(&program, &soft) > 0);
            same_as_interpreted(cell, &device, &program, &soft);
        }
    }
}

/// Longer than what the GPU's executor writes of a loop's indices at a time.
#[test]
fn a_long_loop() {
    let text = r#"graph "" {
  %0 = input "x" : f32[5000]
  %1 = constant [0x3f800000] : f32[]
  %2 = recur %1 %3 steps=5000 : f32[5000]
  %3 = add %2 %0 : f32[5000]
  output "y" %3
}"#;
    let program = Arc::new(compile_graph(parse(text).unwrap(), &PipelineOptions::default()).unwrap());
    let values = values(&program, false);
    let expected = interpret(&program, &values);
    let device = GpuDevice::open(&GpuOptions::default()).unwrap();
    let mut cpu = CpuExecutor::new(Arc::clone(&program), weights(&program, &values), Some(2)).unwrap();
    let mut gpu = GpuExecutor::new(device, Arc::clone(&program), weights(&program, &values)).unwrap();
    assert_eq!(execute(&mut cpu, &values), expected);
    assert_eq!(execute(&mut gpu, &values), expected);
}
