//! Programs that no graph makes, but that the verifier lets through or must not.

use loom_ir::eval::program::{self, Memory};
use loom_ir::graph::{Graph, Op, TensorType};
use loom_ir::kernel::scalar::{ScalarFnBuilder, UnaryOp};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Gather, Kernel, Lambda, Program, Reduce, ReduceOp, Stage,
    verify,
};
use loom_ir::limits;
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::{DType, Shape};
use loom_passes::pipeline::{Ir, run_pass};

fn buffer(name: &str, shape: impl Into<Shape>, kind: BufferKind) -> Buffer {
    Buffer { name: name.to_string(), dtype: DType::F32, shape: shape.into(), kind }
}

/// `y[i, j] = sum(x[j, i, ..]) + i`.
fn transposed_sum_and_index() -> Program {
    let sum = Kernel {
        name: "sum".to_string(),
        axes: vec![2, 3, 4],
        loads: vec![Access::identity(BufferId(0), Shape::from([2, 3, 4]), 3)],
        body: Body::Reduce(Reduce {
            reduced: 1,
            stages: vec![Stage {
                input: Lambda::identity(Arg::Load(0), DType::F32),
                op: ReduceOp::Sum(SumSpec::default()),
            }],
            result: Lambda::identity(Arg::Reduced(0), DType::F32),
            per_element: false,
        }),
        output: Access::identity(BufferId(1), Shape::from([2, 3]), 3),
        in_loop: None,
    };
    let mut b = ScalarFnBuilder::new();
    let (total, index) = (b.param(DType::F32), b.param(DType::U32));
    let index = b.convert(DType::F32, index);
    let result = b.add(total, index);
    let mut load = Access::identity(BufferId(1), Shape::from([2, 3]), 2);
    load.coords = vec![Affine::axis(1, 2), Affine::axis(0, 2)];
    let add = Kernel {
        name: "add".to_string(),
        axes: vec![3, 2],
        loads: vec![load],
        body: Body::Map(Lambda { args: vec![Arg::Load(0), Arg::Index(0)], function: b.finish(result) }),
        output: Access::identity(BufferId(2), Shape::from([3, 2]), 2),
        in_loop: None,
    };
    let buffers = vec![
        buffer("x", [2, 3, 4], BufferKind::Input),
        buffer("s", [2, 3], BufferKind::Temp),
        buffer("y", [3, 2], BufferKind::Output),
    ];
    Program { name: "test".to_string(), buffers, kernels: vec![sum, add], plan: None }
}

fn run(program: Program) -> Vec<u32> {
    let program = verify(program).unwrap();
    let mut memory = Memory::new(&program);
    memory.buffers[0] = (0..24).map(|k| (k as f32).to_bits()).collect();
    program::run(&program, &mut memory);
    memory.buffers.pop().unwrap()
}

#[test]
fn fusion_keeps_what_an_index_means() {
    let plain = transposed_sum_and_index();
    let Ok(Ir::Program(fused)) = run_pass("fuse", Ir::Program(plain.clone())) else { panic!("a program") };
    assert_eq!(run(fused), run(plain));
}

#[test]
fn extents_beside_an_axis_of_extent_zero_are_limited() {
    let mut program = transposed_sum_and_index();
    program.kernels.truncate(1);
    program.buffers = vec![buffer("x", [1], BufferKind::Input), buffer("y", [0], BufferKind::Output)];
    let kernel = &mut program.kernels[0];
    let constant = |buffer| Access {
        buffer,
        shape: Shape::from([u64::from(buffer == BufferId(0))]),
        coords: vec![Affine::constant(0, 4)],
        guards: Vec::new(),
        fill: 0,
    };
    (kernel.loads, kernel.output) = (vec![constant(BufferId(0))], constant(BufferId(1)));
    kernel.axes = vec![0, 5, 6, 7];
    assert!(verify(program.clone()).is_ok());
    // The product of the last three is 2^90, though nothing runs.
    program.kernels[0].axes = vec![0, 1 << 30, 1 << 30, 1 << 30];
    assert!(verify(program).is_err());
}

/// `y[i, j] = table[k[i], j]` over a table of `rows`.
fn gather(rows: u64) -> Program {
    let of = |name: &str, dtype, shape: &[u64], kind| Buffer {
        name: name.to_string(),
        dtype,
        shape: Shape::new(shape),
        kind,
    };
    let mut table = Access::identity(BufferId(1), Shape::from([rows, 3]), 3);
    table.coords = vec![Affine::axis(2, 3), Affine::axis(1, 3)];
    let kernel = Kernel {
        name: "gather".to_string(),
        axes: vec![4, 3, rows],
        loads: vec![Access::identity(BufferId(0), Shape::from([4]), 3), table],
        body: Body::Gather(Gather {
            index: Lambda::identity(Arg::Load(0), DType::U32),
            result: Lambda::identity(Arg::Load(1), DType::F32),
        }),
        output: Access::identity(BufferId(2), Shape::from([4, 3]), 3),
        in_loop: None,
    };
    let buffers = vec![
        of("k", DType::U32, &[4], BufferKind::Input),
        of("table", DType::F32, &[rows, 3], BufferKind::Weight),
        of("y", DType::F32, &[4, 3], BufferKind::Output),
    ];
    Program { name: "test".to_string(), buffers, kernels: vec![kernel], plan: None }
}

#[test]
fn gathers_give_zero_for_rows_that_are_not_there() {
    for rows in [0, 1, 2] {
        let plain = gather(rows);
        for program in ["collapse", "fuse"].map(|pass| run_pass(pass, Ir::Program(plain.clone()))) {
            let Ok(Ir::Program(program)) = program else { panic!("a program") };
            let program = verify(program).unwrap();
            let mut memory = Memory::new(&program);
            memory.buffers[0] = vec![1, 0, 2, u32::MAX];
            memory.buffers[1] = (1..=rows as u32 * 3).collect();
            program::run(&program, &mut memory);
            let row = |row: u32| if u64::from(row) < rows { [1, 2, 3].map(|k| row * 3 + k) } else { [0; 3] };
            assert_eq!(memory.buffers[2], [row(1), row(0), row(2), row(u32::MAX)].concat(), "{rows} rows");
        }
    }
}

#[test]
fn gathers_are_verified() {
    let broken = |change: fn(&mut Kernel)| {
        let mut program = gather(2);
        change(&mut program.kernels[0]);
        verify(program).unwrap_err().to_string()
    };
    fn body(kernel: &mut Kernel) -> &mut Gather {
        match &mut kernel.body {
            Body::Gather(gather) => gather,
            other => panic!("{}", other.name()),
        }
    }
    // A place that is no u32, one that moves along the axis it is a place of, one that isn't there.
    let error = broken(|kernel| body(kernel).index = Lambda::identity(Arg::Load(1), DType::F32));
    assert!(error.contains("varies with axis 2"), "{error}");
    let error = broken(|kernel| body(kernel).index = Lambda::identity(Arg::Index(2), DType::U32));
    assert!(error.contains("axis 2"), "{error}");
    let error = broken(|kernel| body(kernel).index = Lambda::identity(Arg::Load(2), DType::U32));
    assert!(error.contains("Load(2)"), "{error}");
    let error = broken(|kernel| body(kernel).result = Lambda::identity(Arg::Load(0), DType::U32));
    assert!(error.contains("gives u32 where f32 is needed"), "{error}");
    // A row more than the table has.
    assert!(
        verify({
            let mut program = gather(2);
            program.kernels[0].axes[2] = 3;
            program
        })
        .is_err()
    );
    // No axis to take a place on.
    let mut program = gather(2);
    program.kernels[0].axes.clear();
    assert!(verify(program).is_err());
}

#[test]
fn loads_arguments_and_stages_are_limited() {
    let with = |loads: usize, args: usize, stages: usize| {
        let mut program = transposed_sum_and_index();
        let kernel = &mut program.kernels[0];
        let load = kernel.loads[0].clone();
        kernel.loads = vec![load; loads];
        let Body::Reduce(reduce) = &mut kernel.body else { unreachable!() };
        let mut stage = reduce.stages[0].clone();
        stage.input.args = vec![Arg::Load(0); args];
        stage.input.function.params = vec![DType::F32; args];
        reduce.stages = vec![stage; stages];
        verify(program).map(|_| ()).map_err(|error| error.to_string())
    };
    let (loads, stages) = (limits::MAX_KERNEL_LOADS, limits::MAX_STAGES);
    assert_eq!(with(loads, loads, stages), Ok(()));
    assert!(with(loads + 1, 1, 1).unwrap_err().contains("513 loads in one kernel, the limit is 512"));
    assert!(with(1, loads + 1, 1).unwrap_err().contains("513 arguments of one function, the limit is 512"));
    assert!(with(1, 1, stages + 1).unwrap_err().contains("65 stages of one reduction, the limit is 64"));
}

/// Many reductions along the same rows: fusion stops where a kernel would have too many stages.
#[test]
fn fusion_stays_below_the_limits() {
    let mut text = String::from("graph \"\" {\n  %0 = input \"x\" : f32[2, 3]\n");
    let mut last = 0;
    for _ in 0..limits::MAX_STAGES + 10 {
        text += &format!("  %{} = reduce %{last} op=sum axes=[1] : f32[2]\n", last + 1);
        text += &format!("  %{} = broadcast %{} shape=[2, 3] axes=[0] : f32[2, 3]\n", last + 2, last + 1);
        text += &format!("  %{} = sub %{last} %{} : f32[2, 3]\n", last + 3, last + 2);
        last += 3;
    }
    text += &format!("  output \"y\" %{last}\n}}\n");
    let graph = loom_ir::graph::parse::parse(&text).unwrap();
    let program = loom_passes::compile_graph(graph, &loom_passes::PipelineOptions::default()).unwrap();
    assert!(program.kernels.iter().all(|kernel| kernel.loads.len() <= limits::MAX_KERNEL_LOADS));
}

/// Found by fuzzing: a file of a few hundred bytes could ask for any arena.
#[test]
fn an_arena_is_no_larger_than_its_buffers() {
    let Ok(Ir::Program(program)) = run_pass("plan", Ir::Program(transposed_sum_and_index())) else {
        panic!("a program")
    };
    let with = |bytes: u64| {
        let mut program = program.clone();
        program.plan.as_mut().unwrap().arena_bytes = bytes;
        verify(program).is_ok()
    };
    // The only temporary buffer has 24 bytes, aligned 256.
    assert!(with(24) && with(256));
    assert!(!with(23) && !with(257) && !with(u64::MAX));
}

/// Found by fuzzing: without columns nothing was proved of the left operand, which is computed all the same.
#[test]
fn operands_of_empty_products_are_in_bounds() {
    let graph = |rows: u64, columns: u64| {
        let text = format!(
            "graph \"\" {{
               %0 = input \"a\" : f32[{rows}, 2]
               %1 = input \"b\" : f32[{columns}, 2]
               %2 = contract %0 %1 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[1] : f32[{rows}, {columns}]
               output \"y\" %2
             }}"
        );
        let graph = loom_ir::graph::parse::parse(&text).unwrap();
        loom_passes::compile_graph(graph, &loom_passes::PipelineOptions::default()).unwrap().into_inner()
    };
    for (rows, columns, operand) in [(3, 0, 0), (0, 3, 1)] {
        let mut program = graph(rows, columns);
        assert!(verify(program.clone()).is_ok());
        program.kernels[0].loads[operand].coords[1] = Affine::constant(2, program.kernels[0].axes.len());
        let error = verify(program).unwrap_err().to_string();
        assert!(error.contains("the coordinate 2 runs from 2 to 2 over an extent of 2"), "{error}");
    }
}

/// The IR's scalars have 64 bits too, but no device computes with them yet: whatever made such a program, it is refused.
#[test]
fn values_of_64_bits_are_refused() {
    let refused = |change: fn(&mut Program)| {
        let mut program = gather(2);
        change(&mut program);
        verify(program).unwrap_err().to_string()
    };
    for dtype in DType::SCALARS.into_iter().filter(|dtype| dtype.is_wide()) {
        let mut program = gather(2);
        program.buffers[1].dtype = dtype;
        let error = verify(program).unwrap_err().to_string();
        assert!(error.contains(&format!("`table`: no device computes in {dtype} yet")), "{error}");
    }
    // Inside a function, between types of 32 bits.
    let error = refused(|program| {
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let wide = b.convert(DType::F64, x);
        let root = b.unary(UnaryOp::Sqrt, wide);
        let narrow = b.convert(DType::F32, root);
        let Body::Gather(gather) = &mut program.kernels[0].body else { unreachable!() };
        gather.result.function = b.finish(narrow);
    });
    assert!(error.contains("a function has values of 64 bits"), "{error}");
    let mut graph = Graph::new("wide");
    let x = graph.add_leaf(Op::Input("x".to_string()), TensorType::new(DType::F32, [2]), "");
    let wide = graph.add(Op::Convert(DType::F64), &[x], "").unwrap();
    graph.add_output("y", wide);
    let error = loom_ir::graph::verify(&graph).unwrap_err().to_string();
    assert!(error.contains("no device computes in f64 yet"), "{error}");
}
