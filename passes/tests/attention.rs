//! Attention is one kernel from a number of rows on, and has the bits of its parts.

use loom_ir::config;
use loom_ir::eval::program::{self, Memory};
use loom_ir::kernel::{Body, BufferKind, Program, Verified};
use loom_passes::{PipelineOptions, compile};
use loom_testing::values::Random;

fn compiled(source: &str, skip: &[&str]) -> Verified {
    let network = config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let options = PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..Default::default() };
    compile(&network, &options).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

/// The bits of all outputs, with inputs and weights that follow from their names.
fn run(program: &Verified, special: u64) -> Vec<(String, Vec<u32>)> {
    let mut memory = Memory::new(program);
    for (id, buffer) in program.buffers_where(|kind| matches!(kind, BufferKind::Input | BufferKind::Weight)) {
        let seed = buffer.name.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let count = buffer.shape.elements() as usize;
        // Positions of a cache are small numbers.
        let is_float = buffer.dtype == loom_ir::types::DType::F32;
        memory.buffers[id.index()] = if is_float { Random(seed).floats(count, special) } else { vec![3; count] };
    }
    program::run(program, &mut memory);
    program.outputs().map(|(id, buffer)| (buffer.name.clone(), memory.buffers[id.index()].clone())).collect()
}

fn attends(program: &Program) -> usize {
    program.kernels.iter().filter(|kernel| matches!(kernel.body, Body::Attend(_))).count()
}

fn layer(length: u64, options: &str) -> String {
    format!(
        r#"{{"batch_size": 2, "input_shape": [{length}, 12],
            "layers": [{{"type": "multi_head_attention", "num_heads": 4, "head_dim": 6{options}}}]}}"#
    )
}

const MASK_OF_9: &str = r#", "attention_mask": [
    [true,false,true,true,true,true,true,true,true], [false,false,false,false,false,false,false,false,false],
    [true,true,true,true,true,true,true,true,true], [true,true,true,true,true,true,true,true,false],
    [true,true,true,true,true,true,true,true,true], [true,true,true,true,true,true,true,true,true],
    [true,true,true,true,true,true,true,true,true], [true,true,true,true,true,true,true,true,true],
    [false,true,true,true,true,true,true,true,true]]"#;

#[test]
fn every_kind_of_attention_is_one_kernel() {
    for (length, options) in [
        (9, ""),
        (9, r#", "causal": false"#),
        (9, r#", "num_kv_heads": 2"#),
        (9, r#", "num_kv_heads": 1, "sliding_window": 3"#),
        (9, MASK_OF_9),
        (5, r#", "num_kv_heads": 2"#),
        (8, r#", "kv_cache": 20"#),
        (270, ""),
    ] {
        let source = layer(length, options);
        let fused = compiled(&source, &[]);
        assert_eq!(attends(&fused), 1, "{source}\n{}", *fused);
        // Nothing is left of its parts.
        let unused = fused
            .buffers_where(|kind| *kind == BufferKind::Temp)
            .find(|(id, _)| !fused.kernels.iter().any(|kernel| kernel.loads.iter().any(|load| load.buffer == *id)));
        assert!(unused.is_none(), "{source}\n{}", *fused);
        for special in [0, 6] {
            let expected = run(&compiled(&source, &["fuse"]), special);
            assert_eq!(run(&fused, special), expected, "{source}\n{}", *fused);
        }
    }
}

#[test]
fn few_rows_are_not() {
    // Two heads of queries share one of keys: four rows, with so few that the scores are no larger than the operands.
    let source = layer(2, r#", "num_kv_heads": 2"#);
    assert_eq!(attends(&compiled(&source, &[])), 0);
}
