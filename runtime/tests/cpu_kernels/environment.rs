//! A host that changed the floating-point environment gets the same bits, and its settings back.
#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::sync::Arc;

use loom_ir::kernel::{Access, Body, verify};
use loom_ir::types::Shape;
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};

use crate::support::{Net, of_loads};

/// Flush-to-zero, denormals-are-zero, rounding down; exceptions masked.
const HOSTILE: u32 = 0x1f80 | 1 << 15 | 1 << 6 | 1 << 13;

fn read() -> u32 {
    let mut word = 0u32;
    // SAFETY: stores 4 bytes to the variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word
}

fn write(word: u32) {
    // SAFETY: loads a valid control word; the test puts the old one back.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
}

#[test]
fn hostile_settings_change_nothing() {
    let n = 1000;
    let mut net = Net::new();
    let (x, y) = (net.input(&[n]), net.output(&[n]));
    let loads = vec![net.access(x, &[(0, &[1])])];
    let body = of_loads(1, |b, p| {
        let third = b.f32(1.0 / 3.0);
        let product = b.mul(p[0], third);
        b.sub(product, p[0])
    });
    net.kernel(&[n], loads, Body::Map(body), Access::identity(y, Shape::from([n]), 1));
    let program = Arc::new(verify(net.program).unwrap());
    // Half of them subnormal.
    let input: Vec<u32> = (0..n as u32).map(|i| if i % 2 == 0 { i * 7919 } else { 0x3f80_0000 + i * 7919 }).collect();
    for threads in [1, 2] {
        let options = CpuOptions { threads: Some(threads), worth_threads: 0, ..CpuOptions::default() };
        let mut executor = CpuExecutor::with_options(program.clone(), Arc::new(vec![]), &options).unwrap();
        let (mut expected, mut found) = (vec![0; n as usize], vec![0; n as usize]);
        executor.run(&[&input], &mut [&mut expected]).unwrap();
        let before = read();
        write(HOSTILE);
        executor.run(&[&input], &mut [&mut found]).unwrap();
        let after = read();
        write(before);
        assert!(expected.iter().any(|bits| (1..0x80_0000).contains(&(bits & 0x7fff_ffff))), "no subnormal results");
        assert!(found == expected, "{threads} threads");
        assert_eq!(after & !0x3f, HOSTILE, "all but the exception flags");
    }
}
