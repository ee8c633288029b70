//! Small programs of every kind of kernel.

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, ScalarFnBuilder, UnaryOp, Value};
use loom_ir::kernel::{
    Access, Affine, Arg, Body, Buffer, BufferId, BufferKind, Contract, Guard, Kernel, Lambda, Program, Reduce,
    ReduceOp, Stage, Verified, verify,
};
use loom_ir::numerics::reduction::{Products, SumSpec};
use loom_ir::types::{DType, Shape};

fn buffer(name: &str, kind: BufferKind, dtype: DType, dims: &[u64]) -> Buffer {
    Buffer { name: name.to_string(), dtype, shape: Shape::new(dims), kind }
}

fn program(buffers: Vec<Buffer>, kernel: Kernel) -> Verified {
    let program = Program { name: "test".to_string(), buffers, kernels: vec![kernel], plan: None };
    verify(program).unwrap_or_else(|error| panic!("{error}"))
}

fn lambda(args: &[(Arg, DType)], body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value) -> Lambda {
    let mut builder = ScalarFnBuilder::new();
    let params: Vec<Value> = args.iter().map(|&(_, dtype)| builder.param(dtype)).collect();
    let result = body(&mut builder, &params);
    Lambda { args: args.iter().map(|&(arg, _)| arg).collect(), function: builder.finish(result) }
}

const X: (Arg, DType) = (Arg::Load(0), DType::F32);

/// A map over a window, with every operation that needs care.
pub fn map() -> Verified {
    let coord = Affine { offset: -1, coefficients: vec![0, 2] };
    let load = Access {
        buffer: BufferId(0),
        shape: Shape::from([3, 8]),
        coords: vec![Affine::axis(0, 2), coord.clone()],
        guards: vec![Guard { expr: coord, extent: 8 }],
        fill: 0x3f80_0000,
    };
    let body = lambda(&[X, (Arg::Index(1), DType::U32)], |f, v| {
        let index = f.convert(DType::F32, v[1]);
        let sum = f.add(v[0], index);
        let negative = f.unary(UnaryOp::Neg, sum);
        let most = f.binary(BinaryOp::Max, negative, v[0]);
        let other = f.compare(CompareOp::Ne, most, sum);
        f.select(other, most, index)
    });
    let output = Access::identity(BufferId(1), Shape::from([3, 5]), 2);
    let kernel = Kernel {
        name: "pad".to_string(),
        axes: vec![3, 5],
        loads: vec![load],
        body: Body::Map(body),
        output,
        in_loop: None,
    };
    let buffers =
        vec![buffer("x", BufferKind::Input, DType::F32, &[3, 8]), buffer("y", BufferKind::Output, DType::F32, &[3, 5])];
    program(buffers, kernel)
}

/// Integers whose values are known, among them all that WGSL refuses to compute when the shader is made.
pub fn constants() -> Verified {
    let body = lambda(&[(Arg::Index(0), DType::U32)], |f, v| {
        let (zero, least, minus) = (f.i32(0), f.i32(i32::MIN), f.i32(-1));
        let index = f.convert(DType::I32, v[0]);
        let most = f.unary(UnaryOp::Not, least);
        // A divisor that only a computation shows to be zero.
        let hidden = f.sub(most, most);
        let ops = [(index, zero), (least, minus), (least, hidden), (index, hidden)];
        let mut sum = f.add(most, most);
        for (a, b) in ops {
            let (quotient, rest) = (f.div(a, b), f.binary(BinaryOp::Rem, a, b));
            let both = f.mul(quotient, rest);
            sum = f.add(sum, both);
        }
        let shifted = f.binary(BinaryOp::Shl, minus, least);
        let negative = f.unary(UnaryOp::Neg, least);
        let first = f.add(sum, shifted);
        f.add(first, negative)
    });
    let kernel = Kernel {
        name: "constants".to_string(),
        axes: vec![5],
        loads: Vec::new(),
        body: Body::Map(body),
        output: Access::identity(BufferId(0), Shape::from([5]), 1),
        in_loop: None,
    };
    program(vec![buffer("y", BufferKind::Output, DType::I32, &[5])], kernel)
}

/// A map of the exact and the library operations.
pub fn library() -> Verified {
    let body = lambda(&[X], |f, v| {
        let mut value = v[0];
        for &op in UnaryOp::ALL {
            if op != UnaryOp::Not && op != UnaryOp::LeadingZeros {
                value = f.unary(op, value);
            }
        }
        let quotient = f.div(value, v[0]);
        let whole = f.convert(DType::I32, quotient);
        let unsigned = f.convert(DType::U32, value);
        let unsigned = f.bitcast(DType::I32, unsigned);
        let sum = f.add(whole, unsigned);
        f.convert(DType::F32, sum)
    });
    let access = |buffer| Access::identity(BufferId(buffer), Shape::from([100]), 1);
    let kernel = Kernel {
        // A name must not end the comment that it stands in.
        name: "all\n} evil\u{2028}".to_string(),
        axes: vec![100],
        loads: vec![access(0)],
        body: Body::Map(body),
        output: access(1),
        in_loop: None,
    };
    let buffers = vec![
        buffer("x\r\n", BufferKind::Input, DType::F32, &[100]),
        buffer("y", BufferKind::Output, DType::F32, &[100]),
    ];
    program(buffers, kernel)
}

/// Rows reduced in two stages, one result an element.
pub fn reduce(rows: u64, terms: u64) -> Verified {
    let bits = lambda(&[X], |f, v| f.bitcast(DType::U32, v[0]));
    let term = lambda(&[X, (Arg::Reduced(0), DType::U32)], |f, v| {
        let most = f.bitcast(DType::F32, v[1]);
        f.sub(v[0], most)
    });
    let result = lambda(&[X, (Arg::Reduced(1), DType::F32)], |f, v| f.mul(v[0], v[1]));
    let body = Body::Reduce(Reduce {
        reduced: 1,
        stages: vec![
            Stage { input: bits, op: ReduceOp::Max },
            Stage { input: term, op: ReduceOp::Sum(SumSpec::default()) },
        ],
        result,
        per_element: true,
    });
    let access = |buffer| Access::identity(BufferId(buffer), Shape::from([rows, terms]), 2);
    let kernel = Kernel {
        name: "rows".to_string(),
        axes: vec![rows, terms],
        loads: vec![access(0)],
        body,
        output: access(1),
        in_loop: None,
    };
    let buffers = vec![
        buffer("x", BufferKind::Input, DType::F32, &[rows, terms]),
        buffer("y", BufferKind::Output, DType::F32, &[rows, terms]),
    ];
    program(buffers, kernel)
}

/// A product of matrices.
pub fn contract(rows: u64, columns: u64, terms: u64) -> Verified {
    let access = |buffer, dims: [u64; 2], axes: [usize; 2]| Access {
        buffer: BufferId(buffer),
        shape: Shape::from(dims),
        coords: axes.iter().map(|&axis| Affine::axis(axis, 3)).collect(),
        guards: Vec::new(),
        fill: 0,
    };
    let body = Body::Contract(Contract {
        batch: 0,
        rows: 1,
        columns: 1,
        lhs: Lambda::identity(Arg::Load(0), DType::F32),
        rhs: Lambda::identity(Arg::Load(1), DType::F32),
        products: Products::default(),
        epilogue: Lambda::identity(Arg::Reduced(0), DType::F32),
    });
    let kernel = Kernel {
        name: "matmul".to_string(),
        axes: vec![rows, columns, terms],
        loads: vec![access(0, [rows, terms], [0, 2]), access(1, [terms, columns], [2, 1])],
        body,
        output: access(2, [rows, columns], [0, 1]),
        in_loop: None,
    };
    let buffers = vec![
        buffer("a", BufferKind::Input, DType::F32, &[rows, terms]),
        buffer("b", BufferKind::Weight, DType::F32, &[terms, columns]),
        buffer("y", BufferKind::Output, DType::F32, &[rows, columns]),
    ];
    program(buffers, kernel)
}

/// `y = x + x * z` by way of a temporary buffer, which the second kernel reads.
pub fn chain() -> Verified {
    let shape = Shape::from([8]);
    let access = |buffer| Access::identity(BufferId(buffer), shape.clone(), 1);
    let two = [X, (Arg::Load(1), DType::F32)];
    let kernel = |name: &str, loads: [u32; 2], body, output| Kernel {
        name: name.to_string(),
        axes: vec![8],
        loads: loads.map(access).to_vec(),
        body: Body::Map(body),
        output: access(output),
        in_loop: None,
    };
    let product = lambda(&two, |f, v| f.mul(v[0], v[1]));
    let sum = lambda(&two, |f, v| f.add(v[0], v[1]));
    let kernels = vec![kernel("product", [0, 1], product, 2), kernel("sum", [2, 0], sum, 3)];
    let kinds =
        [("x", BufferKind::Input), ("z", BufferKind::Input), ("t", BufferKind::Temp), ("y", BufferKind::Output)];
    let buffers = kinds.map(|(name, kind)| buffer(name, kind, DType::F32, &[8])).to_vec();
    let program = Program { name: "test".to_string(), buffers, kernels, plan: None };
    verify(program).unwrap_or_else(|error| panic!("{error}"))
}

/// All of them, in the sizes that reach every template.
pub fn all() -> Vec<Verified> {
    vec![
        map(),
        constants(),
        library(),
        reduce(3, 40),
        reduce(3, 5000),
        reduce(1, 20_000_000),
        reduce(70_000, 2000),
        contract(5, 7, 300),
        contract(300, 300, 1000),
        contract(100, 64, 256),
        contract(300, 300, 0),
        contract(0, 4, 4),
    ]
}
