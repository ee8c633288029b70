//! How fast code is generated, and how fast it is. Prints figures and checks none, since they depend on the machine:
//!
//! ```sh
//! cargo test --release -p loom-runtime --test cpu_kernels speed -- --ignored --nocapture
//! ```

use std::sync::Arc;
use std::time::Instant;

use loom_ir::kernel::{Body, BufferKind, Lambda, Program, Verified, verify};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};

use crate::support::{Net, Random, Values, of_loads};
use crate::{contracts, networks, reductions};

/// Prints what a program takes: to make ready, and for one run on one thread. `work` is operations of a run.
fn measure(name: &str, program: &Arc<Verified>, work: f64) {
    let mut random = Random(88_172_645_463_325_252);
    let mut fill = |program: &Program, wanted: BufferKind| -> Vec<Vec<u32>> {
        let buffers = program.buffers_where(|kind| *kind == wanted);
        buffers
            .map(|(_, buffer)| {
                (0..buffer.shape.elements()).map(|_| random.bits(buffer.dtype, Values::Ordinary)).collect()
            })
            .collect()
    };
    let (inputs, weights) = (fill(program, BufferKind::Input), Arc::new(fill(program, BufferKind::Weight)));
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
    let code = (0..5).map(|_| {
        let begun = Instant::now();
        loom_codegen_cpu::compile(program, &options.codegen).unwrap();
        begun.elapsed()
    });
    let code = code.min().unwrap_or_default().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let mut executor = CpuExecutor::with_options(program.clone(), weights, &options).unwrap();
    let ready = begun.elapsed();
    let mut outputs: Vec<Vec<u32>> =
        program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    while begun.elapsed().as_millis() < 300 {
        let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let run = Instant::now();
        executor.run(&inputs, &mut slices).unwrap();
        best = best.min(run.elapsed().as_secs_f64());
    }
    let (kernels, ready) = (program.kernels.len(), ready.as_secs_f64() * 1e3);
    println!(
        "{name:34} {kernels:2} kernels: code in {code:5.2} ms, ready in {ready:5.2} ms, run {:8.1} µs, {:5.2} Gop/s",
        best * 1e6,
        work / best / 1e9
    );
}

/// Prints what each kernel takes.
fn by_kernel(program: &Arc<Verified>) {
    let inputs: Vec<Vec<u32>> = program.inputs().map(|(_, b)| vec![0x3f80_0000; b.shape.elements() as usize]).collect();
    let weights: Vec<Vec<u32>> = program.weights().map(|(_, b)| vec![0; b.shape.elements() as usize]).collect();
    let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
    let mut executor = CpuExecutor::with_options(program.clone(), Arc::new(weights), &options).unwrap();
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut best = vec![f64::INFINITY; program.kernels.len()];
    for _ in 0..20 {
        let mut last = Instant::now();
        let mut observe = |kernel: usize, _: &[u32]| {
            best[kernel] = best[kernel].min(last.elapsed().as_secs_f64());
            last = Instant::now();
            std::ops::ControlFlow::Continue(())
        };
        executor.trace(&inputs, &mut observe).unwrap();
    }
    for (kernel, time) in program.kernels.iter().zip(best) {
        println!("  {:30} {:9} {:8.1} µs  {:?}", kernel.name, kernel.body.name(), time * 1e6, kernel.axes);
    }
}

fn verified(net: Net) -> Arc<Verified> {
    Arc::new(verify(net.program).unwrap())
}

#[test]
#[ignore = "prints figures"]
fn speed() {
    measure("digits network", &networks::digits(), 1.0);
    by_kernel(&networks::digits());
    for (m, n, k) in [(1, 4096, 1024), (2, 512, 512), (64, 512, 512), (512, 512, 512), (1024, 1024, 1024)] {
        let mut net = Net::new();
        contracts::dense(&mut net, (m, n, k), true);
        measure(&format!("dense {m}x{n}x{k}"), &verified(net), (2 * m * n * k) as f64);
    }
    let mut net = Net::new();
    contracts::dense(&mut net, (512, 512, 512), false);
    measure("product of activations 512", &verified(net), 2.0 * 512f64.powi(3));
    let base = contracts::Conv {
        samples: 1,
        groups: 1,
        channels: 64,
        filters: 64,
        size: 56,
        window: 3,
        stride: 1,
        pad: 1,
        channels_last: false,
    };
    for (name, conv) in [
        ("conv 64x56x56 3x3", contracts::Conv { ..base }),
        ("conv channels last", contracts::Conv { channels_last: true, ..base }),
        ("conv stride 2", contracts::Conv { stride: 2, ..base }),
        ("conv 1x1", contracts::Conv { window: 1, pad: 0, ..base }),
        ("conv 1 channel, 8 filters, 28x28", contracts::Conv { channels: 1, filters: 8, size: 28, ..base }),
        ("conv depthwise", contracts::Conv { groups: 64, channels: 1, filters: 1, ..base }),
    ] {
        let out = (conv.size + 2 * conv.pad - conv.window) / conv.stride + 1;
        let work = 2 * conv.groups * conv.filters * out * out * conv.channels * conv.window * conv.window;
        let mut net = Net::new();
        contracts::convolution(&mut net, &conv);
        measure(name, &verified(net), work as f64);
    }
    for along in [true, false] {
        let mut net = Net::new();
        reductions::softmax(&mut net, 512, 4096, along);
        measure(&format!("softmax 512x4096, along {along}"), &verified(net), 512.0 * 4096.0);
    }
    for (rows, n) in [(1000, 1000), (10, 100_000)] {
        for along in [true, false] {
            let mut net = Net::new();
            reductions::sums(&mut net, rows, n, along);
            measure(&format!("sums {rows}x{n}, along {along}"), &verified(net), (rows * n) as f64);
        }
    }
    let mut net = Net::new();
    reductions::pooling(&mut net, (64, 112), (2, 2, 0));
    measure("average pooling 64x112x112 2x2", &verified(net), 64.0 * 112.0 * 112.0);
    let mut net = Net::new();
    let n = 1 << 20;
    let (x, y) = (net.input(&[n]), net.output(&[n]));
    let loads = vec![net.access(x, &[(0, &[1])])];
    let output = net.access(y, &[(0, &[1])]);
    let gelu = |b: &mut loom_ir::kernel::scalar::ScalarFnBuilder, p: &[loom_ir::kernel::scalar::Value]| {
        let erf = b.unary(loom_ir::kernel::scalar::UnaryOp::Erf, p[0]);
        b.mul(erf, p[0])
    };
    let body: Lambda = of_loads(1, gelu);
    net.kernel(&[n], loads, Body::Map(body), output);
    measure("x erf(x) of a million", &verified(net), n as f64);
}
