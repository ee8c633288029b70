//! Shaders for GPUs that are not at hand: what is generated for every class of GPU, for small limits and for large ones, in
//! every arithmetic, is valid. (That it is right is for `properties` and `gpu_kernels` to say.)

use std::path::Path;

use loom_codegen_wgsl::{
    Arithmetic, Class, Limits, Target, codes_form, generate_stored, generate_turns, strict_spirv, validate,
};
use loom_ir::kernel::{Buffer, BufferKind, Forms, Verified};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::stored::Form;
use loom_lit_tests::network::random_network;
use loom_passes::{PipelineOptions, compile};

const LARGE: Limits = Limits {
    workgroups_per_dimension: 65535,
    invocations_per_workgroup: 1024,
    workgroup_storage: 49152,
    storage_buffers: 1_048_576,
};

/// With weights as they are, and with weights in 16 bits and codes in 8.
fn check(what: &str, program: &Verified) {
    let form = |buffer: &Buffer| match buffer.kind {
        BufferKind::Codes(_) => codes_form(&[]).unwrap(),
        _ => Form { storage: Storage::Bf16, groups: None, zero_points: false },
    };
    check_stored(what, program, &Forms::new());
    check_stored(
        &format!("{what}, in fewer bits"),
        program,
        &program.weights().map(|(id, buffer)| (id, form(buffer))).collect(),
    );
}

fn check_stored(what: &str, program: &Verified, forms: &Forms) {
    for class in [Class::Software, Class::Integrated, Class::Discrete] {
        for limits in [Limits::PORTABLE, LARGE] {
            for arithmetic in Arithmetic::ALL {
                let target = Target::new(class, limits).with_arithmetic(arithmetic);
                let place = format!("{what}, {}, {limits:?}, {arithmetic:?}", class.name());
                let kernels =
                    generate_stored(program, forms, &target).unwrap_or_else(|error| panic!("{place}: {error}"));
                let turns = generate_turns(program, forms, &target).unwrap_or_else(|error| panic!("{place}: {error}"));
                for kernel in kernels.into_iter().chain(turns.into_iter().map(|turns| turns.kernel)) {
                    let refused =
                        |error: loom_codegen_wgsl::Error| -> ! { panic!("{place}: {error}\n{}", kernel.source) };
                    let validated = validate(&kernel.source).unwrap_or_else(|error| refused(error));
                    validated.check(arithmetic).unwrap_or_else(|error| refused(error));
                    if arithmetic == Arithmetic::Native {
                        strict_spirv(&validated).unwrap_or_else(|error| refused(error));
                    }
                }
            }
        }
    }
}

fn compiled(source: &str) -> Verified {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

#[test]
fn of_all_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut configs: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("net.json"))
        .filter(|path| path.exists())
        .collect();
    configs.sort();
    assert!(configs.len() >= 8);
    for path in configs {
        check(&path.display().to_string(), &compiled(&std::fs::read_to_string(&path).unwrap()));
    }
}

/// Products inside of loops, in batches large enough for tiles.
#[test]
fn of_recurrent_layers() {
    for cell in ["rnn", "lstm", "gru"] {
        for batch_size in [1, 3, 64] {
            let source = format!(
                r#"{{"batch_size": {batch_size}, "input_shape": [5, 96], "layers": [
                {{"type": "{cell}", "hidden_size": 128, "bidirectional": true, "initial_state": "learned"}}]}}"#
            );
            check(&source, &compiled(&source));
        }
    }
}

#[test]
fn of_random_networks() {
    for seed in 0..12 {
        let source = random_network(seed, 5, 2);
        check(&source, &compiled(&source));
    }
}
