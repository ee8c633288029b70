//! Text and objects: the same every time, and what must and must not be in them.

use loom_codegen_cpu::{Error, Level, ObjectOptions, Target, emit_asm, emit_clif, emit_object};
use loom_ir::kernel::Affine;
use loom_ir::kernel::scalar::{ScalarFnBuilder, UnaryOp};
use loom_ir::kernel::{
    Access, Arg, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Reduce, ReduceOp, Stage,
    Verified, verify,
};
use loom_ir::numerics::reduction::{Products, SumSpec};
use loom_ir::types::{DType, Shape};

/// A product with a bias, a softmax-like reduction, an activation.
fn program() -> Verified {
    let buffer = |name: &str, kind, shape: &[u64]| Buffer {
        name: name.to_string(),
        dtype: DType::F32,
        shape: Shape::new(shape),
        kind,
    };
    let buffers = vec![
        buffer("x", BufferKind::Input, &[3, 20]),
        buffer("w", BufferKind::Weight, &[10, 20]),
        buffer("h", BufferKind::Temp, &[3, 10]),
        buffer("s", BufferKind::Temp, &[3]),
        buffer("y", BufferKind::Output, &[3]),
    ];
    let access = |id: u32, axes: &[usize], count: usize| {
        let mut access = Access::identity(BufferId(id), buffers[id as usize].shape.clone(), count);
        access.coords = axes.iter().map(|&axis| Affine::axis(axis, count)).collect();
        access
    };
    let load = |number: u32| Lambda::identity(Arg::Load(number), DType::F32);
    let total = Lambda::identity(Arg::Reduced(0), DType::F32);
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let exp = b.unary(UnaryOp::Exp, x);
    let exp = b.finish(exp);
    let contract = Contract {
        batch: 0,
        rows: 1,
        columns: 1,
        lhs: load(0),
        rhs: load(1),
        products: Products::default(),
        epilogue: Lambda { args: vec![Arg::Reduced(0)], function: exp.clone() },
    };
    let stages = vec![Stage { input: load(0), op: ReduceOp::Sum(SumSpec::default()) }];
    let kernels = vec![
        Kernel {
            name: "dense".to_string(),
            axes: vec![3, 10, 20],
            loads: vec![access(0, &[0, 2], 3), access(1, &[1, 2], 3)],
            body: Body::Contract(contract),
            output: access(2, &[0, 1], 3),
            in_loop: None,
        },
        Kernel {
            name: "sum".to_string(),
            axes: vec![3, 10],
            loads: vec![access(2, &[0, 1], 2)],
            body: Body::Reduce(Reduce { reduced: 1, stages, result: total, per_element: false }),
            output: access(3, &[0], 2),
            in_loop: None,
        },
        Kernel {
            name: "exp".to_string(),
            axes: vec![3],
            loads: vec![access(3, &[0], 1)],
            body: Body::Map(Lambda { args: vec![Arg::Load(0)], function: exp }),
            output: access(4, &[0], 1),
            in_loop: None,
        },
    ];
    verify(Program { name: "test".to_string(), buffers, kernels, plan: None }).unwrap()
}

#[test]
fn the_same_bytes_twice() {
    let program = program();
    assert_eq!(emit_clif(&program).unwrap(), emit_clif(&program).unwrap());
    for target in [Target::Host, baseline()] {
        assert_eq!(emit_asm(&program, &target).unwrap(), emit_asm(&program, &target).unwrap());
    }
    for level in Level::ALL {
        let object = || emit_object(&program, &ObjectOptions { level, ..ObjectOptions::portable("test") }).unwrap();
        let (one, another) = (object(), object());
        assert!(one.bytes == another.bytes && one.header == another.header && one.weights == another.weights);
    }
}

/// A triple that this build of Cranelift has: the host's architecture.
fn baseline() -> Target {
    Target::Triple(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
}

#[test]
fn nothing_is_fused_or_called() {
    let program = program();
    let clif = emit_clif(&program).unwrap();
    let asm = emit_asm(&program, &Target::Host).unwrap();
    assert!(clif.contains("fmul") && clif.contains("fadd"));
    for word in ["fma ", "fmin ", "fmax ", "swizzle", "colocated u0:99"] {
        assert!(!clif.contains(word), "{word} in\n{clif}");
    }
    for word in ["vfmadd", "vfnmadd", "vfmsub", "fmla", "fmadd", "LibCall"] {
        assert!(!asm.contains(word), "{word} in\n{asm}");
    }
}

#[test]
fn objects_define_what_the_header_declares() {
    let object = emit_object(&program(), &ObjectOptions::portable("my net")).unwrap();
    let has = |name: &str| object.bytes.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    for name in ["prepare", "run", "prepared_bytes", "workspace_bytes", "weights_bytes"] {
        assert!(has(&format!("my_net_{name}\0")), "{name} is missing");
        assert!(object.header.contains(&format!("my_net_{name}(")), "{name} is not in\n{}", object.header);
    }
    assert!(!has("loom has no"), "a library function is called");
    assert_eq!(object.weights.offsets, [0]);
}

#[test]
fn levels_differ_in_their_code() {
    let object =
        |level| emit_object(&program(), &ObjectOptions { level, ..ObjectOptions::portable("net") }).unwrap().bytes;
    let objects = Level::ALL.map(object);
    assert!(objects[0] != objects[1] && objects[1] != objects[2]);
}

#[test]
fn weights_that_are_not_the_programs_are_refused() {
    let bits = [0u32; 200];
    let embed = |weights: &[&[u32]]| {
        emit_object(&program(), &ObjectOptions { weights: Some(weights.to_vec()), ..ObjectOptions::portable("net") })
    };
    assert!(embed(&[&bits]).is_ok());
    for (weights, words) in [
        (&[] as &[&[u32]], "1 are needed, 0 were given"),
        (&[&bits, &bits], "1 are needed, 2 were given"),
        (&[&bits[..199]], "`w` has 200 elements, 199 were given"),
    ] {
        let error = embed(weights);
        assert!(matches!(&error, Err(Error::Weights(why)) if why == words), "{error:?}");
    }
}

#[test]
fn prefixes_that_differ_in_case_share_no_macro() {
    let macros = |prefix: &str| {
        let header = emit_object(&program(), &ObjectOptions::portable(prefix)).unwrap().header;
        let names =
            header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next().map(String::from));
        names.collect::<Vec<_>>()
    };
    let (lower, upper) = (macros("net"), macros("NET"));
    assert_eq!(lower.len(), 5, "{lower:?}");
    assert!(lower.iter().all(|name| !upper.contains(name)), "{lower:?}, {upper:?}");
}

#[test]
fn other_targets_are_refused_by_name() {
    for triple in ["wasm32-unknown-unknown", "x86_64-unknown-unknown-wasm", "nonsense", "i686-unknown-linux-gnu"] {
        let options = ObjectOptions { triple: triple.to_string(), ..ObjectOptions::portable("net") };
        let error = emit_object(&program(), &options);
        assert!(matches!(&error, Err(Error::Target(why)) if why.contains(triple)), "{triple}: {error:?}");
    }
    let error = emit_asm(&program(), &Target::Triple("nonsense".to_string()));
    assert!(matches!(error, Err(Error::Target(_))), "{error:?}");
    let options = ObjectOptions { prefix: "a-b".to_string(), ..ObjectOptions::portable("net") };
    assert!(matches!(emit_object(&program(), &options), Err(Error::Prefix(_))));
}
