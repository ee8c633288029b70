//! The generated text: what it holds, what it must not hold, and that it is always the same.

mod programs;

use loom_codegen_wgsl::{
    Arithmetic, Class, Error, Limits, Target, WgslKernel, generate, listing, strict_spirv, validate,
};

fn targets(arithmetic: Arithmetic) -> Vec<Target> {
    let large = Limits { workgroup_storage: 49152, invocations_per_workgroup: 1024, ..Limits::PORTABLE };
    let targets = [
        Target::portable(),
        Target::new(Class::Software, Limits::PORTABLE),
        Target::new(Class::Discrete, Limits::PORTABLE),
        Target::new(Class::Discrete, large),
    ];
    targets.map(|target| target.with_arithmetic(arithmetic)).into()
}

/// Every kernel of every program for every target.
fn kernels(arithmetic: Arithmetic) -> Vec<WgslKernel> {
    let targets = targets(arithmetic);
    let programs = programs::all();
    let mut kernels = Vec::new();
    for target in &targets {
        for program in &programs {
            match generate(program, target) {
                Ok(list) => kernels.extend(list),
                // Rows of 20 million terms are too long for a software device of 256 invocations.
                Err(Error::Limit { what: "loop iterations", .. }) if target.class == Class::Software => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    kernels
}

#[test]
fn all_text_is_valid_and_strict() {
    for arithmetic in Arithmetic::ALL {
        for kernel in kernels(arithmetic) {
            let refused = |error: Error| -> ! { panic!("{error}\n{}", kernel.source) };
            let validated = validate(&kernel.source).unwrap_or_else(|error| refused(error));
            validated.check(arithmetic).unwrap_or_else(|error| refused(error));
            // Plain WGSL could go that way too.
            strict_spirv(&validated).unwrap_or_else(|error| refused(error));
            assert!(kernel.workgroups.iter().all(|&count| count <= 65535));
            assert!(kernel.workgroup_size <= 1024);
        }
    }
}

#[test]
fn soft_text_names_no_float_type() {
    for kernel in kernels(Arithmetic::Soft) {
        let code = kernel.source.lines().map(|line| line.split("//").next().unwrap_or(""));
        for line in code {
            // As words: a function that rounds to a format has its name in its own.
            let mut words = line.split(|character: char| !character.is_alphanumeric() && character != '_');
            assert!(!words.any(|word| matches!(word, "f32" | "f16")), "{line}");
        }
    }
}

#[test]
fn temporary_buffers_are_declared_as_they_are_bound() {
    let program = programs::chain();
    let read_only = |arithmetic| {
        let target = Target::portable().with_arithmetic(arithmetic);
        let kernels = generate(&program, &target).unwrap_or_else(|error| panic!("{error}"));
        let second = &kernels[1];
        let declared: Vec<bool> = second
            .source
            .lines()
            .filter(|line| line.starts_with("@group"))
            .map(|line| line.contains(", read>"))
            .collect();
        assert_eq!(declared, second.bindings.iter().map(|binding| binding.read_only).collect::<Vec<_>>());
        declared
    };
    assert_eq!(read_only(Arithmetic::Native), [true, true, false]);
    for plain in [Arithmetic::Guarded, Arithmetic::Soft] {
        assert_eq!(read_only(plain), [false, true, false]);
    }
}

#[test]
fn a_listing_is_valid_in_every_arithmetic() {
    for arithmetic in Arithmetic::ALL {
        let target = Target::portable().with_arithmetic(arithmetic);
        let kernels: Vec<WgslKernel> =
            programs::all().iter().flat_map(|program| generate(program, &target).unwrap_or_default()).collect();
        let text = listing(&kernels);
        validate(&text).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn nothing_inexact_is_called() {
    let forbidden = [
        "exp(",
        "exp2(",
        "log(",
        "log2(",
        "tanh(",
        "sin(",
        "cos(",
        "pow(",
        "sqrt(",
        "inverseSqrt(",
        "fma(",
        "dot(",
        "mix(",
        "floor(",
        "ceil(",
        "round(",
        "trunc(",
        "abs(",
        "sign(",
        "fract(",
        "clamp(",
        "length(",
        "atomic",
        "subgroup",
        "f16",
        "nan",
        "inf",
    ];
    for kernel in Arithmetic::ALL.into_iter().flat_map(kernels) {
        // Comments may name anything; the module's own functions are called loom_….
        let code = kernel.source.lines().map(|line| line.split("//").next().unwrap_or(""));
        for line in code {
            let calls = line.replace("loom_", "\u{1}");
            for word in forbidden {
                for (place, _) in calls.match_indices(word) {
                    let before = calls[..place].chars().next_back();
                    let own = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '\u{1}');
                    assert!(own, "`{word}` in `{line}`");
                }
            }
        }
    }
}

#[test]
fn text_is_always_the_same() {
    for target in Arithmetic::ALL.into_iter().flat_map(targets) {
        for program in programs::all() {
            assert_eq!(generate(&program, &target), generate(&program, &target));
        }
    }
}

#[test]
fn names_cannot_leave_their_comments() {
    let kernels = generate(&programs::library(), &Target::portable()).unwrap_or_else(|error| panic!("{error}"));
    let first = kernels[0].source.lines().next();
    assert_eq!(first, Some(r#"// kernel "all\n} evil\u{2028}": map"#));
}

#[test]
fn a_map_reads_like_this() {
    let kernels = generate(&programs::map(), &Target::portable()).unwrap_or_else(|error| panic!("{error}"));
    let expected = r#"// kernel "pad": map

@group(0) @binding(0) var<storage, read> b0: array<f32>; // input "x" f32[3, 8]
@group(0) @binding(1) var<storage, read_write> b1: array<f32>; // output "y" f32[3, 5]

fn element(i0: u32, i1: u32) -> f32 {
    let l0_inside = (2u * i1 - 1u < 8u);
    let l0_fill_bits = 0x3f800000u;
    let l0_fill = bitcast<f32>(l0_fill_bits); // 1.0
    let l0_place = select(0u, 8u * i0 + 2u * i1 - 1u, l0_inside);
    let l0 = select(l0_fill, b0[l0_place], l0_inside);
    let v2 = f32(i1);
    let v3 = l0 + v2;
    let v4 = bitcast<f32>(bitcast<u32>(v3) ^ 0x80000000u);
    let v5 = select(v4, l0, v4 < l0);
    let v6 = !(v5 == v3);
    let v7 = select(v2, v5, v6);
    return v7;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let flat = group.x * 64u + local;
    if (flat >= 15u) {
        return;
    }
    let i1 = flat % 5u;
    let flat_1 = flat / 5u;
    let i0 = flat_1;
    b1[5u * i0 + i1] = element(i0, i1);
}
"#;
    assert_eq!(kernels[0].source, expected);
    assert_eq!((kernels[0].workgroups, kernels[0].workgroup_size), ([1, 1, 1], 64));
}

#[test]
fn large_matrices_are_tiled_where_it_pays() {
    let tiled = |program, target: &Target| {
        let kernels = generate(&program, target).unwrap_or_else(|error| panic!("{error}"));
        kernels[0].source.contains("lhs_tile")
    };
    let discrete = Target::new(Class::Discrete, Limits::PORTABLE);
    assert!(tiled(programs::contract(300, 300, 1000), &discrete));
    assert!(!tiled(programs::contract(300, 300, 3), &discrete));
    assert!(!tiled(programs::contract(300, 300, 1000), &Target::new(Class::Software, Limits::PORTABLE)));
    let small = Limits { workgroup_storage: 1024, ..Limits::PORTABLE };
    assert!(!tiled(programs::contract(300, 300, 1000), &Target::new(Class::Discrete, small)));
}

#[test]
fn surplus_rows_take_a_second_dimension() {
    let kernels = generate(&programs::reduce(70_000, 2000), &Target::portable()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kernels[0].workgroups, [35_000, 2, 1]);
    let one = Limits { workgroups_per_dimension: 200, ..Limits::PORTABLE };
    let error = generate(&programs::reduce(70_000, 2000), &Target::new(Class::Discrete, one));
    assert!(matches!(error, Err(Error::Limit { what: "workgroups", .. })), "{error:?}");
}

#[test]
fn empty_outputs_need_no_dispatch() {
    let kernels = generate(&programs::contract(0, 4, 4), &Target::portable()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kernels[0].workgroups, [0, 1, 1]);
}
