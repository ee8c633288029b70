//! A host that changed its floating-point environment gets the same bits, and finds its settings afterwards.

use std::ops::ControlFlow;
use std::path::Path;

use loom_ir::graph::parse::parse;
use loom_passes::{PipelineOptions, compile_graph};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::digest::digest;
use loom_runtime::session::{RunError, Session, SessionError, SessionOptions};
use loom_runtime::tensors::TensorFile;
use loom_runtime::weights::Weights;

use crate::network::{Runner, artifact, bytes, input};
use crate::settings::{HOSTILE, under};

/// Config, passes, weights: the compiler is called from hosts too.
#[test]
fn a_hostile_host_compiles_the_same_artifact() {
    let expected = bytes(&artifact());
    for settings in HOSTILE {
        let found = under(settings, |host| bytes(&host.call("compile", artifact)));
        assert!(found == expected, "{}", settings.name);
    }
}

#[test]
fn a_hostile_host_draws_the_same_input() {
    let artifact = artifact();
    let expected = input(&artifact);
    for settings in HOSTILE {
        let found = under(settings, |host| host.call("draw", || input(&artifact)));
        assert!(found.bits() == expected.bits(), "{}", settings.name);
    }
}

/// Ready, run and gone, all under the host's settings; and errors on the way.
#[test]
fn a_hostile_host_gets_the_same_digests() {
    let artifact = artifact();
    let input = input(&artifact);
    let inputs = std::slice::from_ref(&input);
    let expected = digest(&Runner::Interp.session(&artifact).run_tensors(inputs).unwrap());
    for settings in HOSTILE {
        for runner in Runner::ALL {
            let found = under(settings, |host| {
                let mut session = host.call("ready", || runner.session(&artifact));
                let outputs = host.call("run", || session.run_tensors(inputs)).unwrap();
                let error = host.call("wrong input", || session.run(&[0.5; 7]));
                assert!(matches!(error, Err(RunError::NotWhole { .. })), "{error:?}");
                let again = host.call("run again", || session.run_tensors(inputs)).unwrap();
                assert!(again[0].bits() == outputs[0].bits(), "{runner:?}, {}", settings.name);
                host.call("drop", || drop(session));
                digest(&outputs)
            });
            assert_eq!(found, expected, "{runner:?}, {}", settings.name);
        }
    }
}

/// What is made in a friendly environment runs in a hostile one, and the other way round.
#[test]
fn settings_may_change_between_calls() {
    let artifact = artifact();
    let input = input(&artifact);
    let inputs = std::slice::from_ref(&input);
    let expected = digest(&Runner::Interp.session(&artifact).run_tensors(inputs).unwrap());
    for runner in Runner::ALL {
        let mut session = runner.session(&artifact);
        for settings in HOSTILE {
            let found = under(settings, |host| host.call("run", || session.run_tensors(inputs)));
            assert_eq!(digest(&found.unwrap()), expected, "{runner:?}, run under {}", settings.name);
            let mut made = under(settings, |host| host.call("ready", || runner.session(&artifact)));
            assert_eq!(
                digest(&made.run_tensors(inputs).unwrap()),
                expected,
                "{runner:?}, made under {}",
                settings.name
            );
        }
    }
}

/// A caller's own code, called back in the middle of a run, computes in the caller's settings.
#[test]
fn callbacks_see_the_hosts_settings() {
    let artifact = artifact();
    let input = input(&artifact);
    let batch = &input.bits()[..2 * 3 * 12 * 10];
    for settings in HOSTILE {
        for runner in Runner::ALL {
            let kernels = under(settings, |host| {
                let mut session = host.call("ready", || runner.session(&artifact));
                let mut progress = |_, _| host.check("a slice");
                host.call("run", || session.run_tensors_with(std::slice::from_ref(&input), &mut progress)).unwrap();
                let mut kernels = 0;
                let mut observe = |_: usize, _: &[u32]| {
                    host.check("a kernel");
                    kernels += 1;
                    ControlFlow::Continue(())
                };
                host.call("trace", || session.trace(&[batch], &mut observe)).unwrap();
                kernels
            });
            assert_eq!(kernels, artifact.program().kernels.len());
        }
    }
}

#[test]
fn devices_that_are_refused_leave_the_settings() {
    let artifact = artifact();
    for settings in HOSTILE {
        under(settings, |host| {
            let options = SessionOptions {
                adapter: Some("no such adapter".to_string()),
                ..SessionOptions::on(Runner::Gpu.device())
            };
            let error = host.call("no adapter", || Session::new(&artifact, options));
            assert!(matches!(error, Err(SessionError::Device { .. })), "{error:?}");
            host.call("list", loom_runtime::executor::gpu::list_adapters);
        });
    }
}

/// Arithmetic on constants alone, which drivers and code generators do themselves, at the time of compiling.
#[test]
fn constants_that_backends_fold() {
    let graph = "graph \"constants\" {
        %0 = input \"x\" : f32[4, 6]
        %1 = constant [0x3eaaaaab] : f32[]
        %2 = constant [0x3dcccccd] : f32[]
        %3 = constant [0x00400001] : f32[]
        %4 = mul %1 %2 : f32[]
        %5 = sub %4 %1 : f32[]
        %6 = div %5 %2 : f32[]
        %7 = mul %3 %1 : f32[]
        %8 = broadcast %6 shape=[4, 6] axes=[] : f32[4, 6]
        %9 = broadcast %7 shape=[4, 6] axes=[] : f32[4, 6]
        %10 = mul %0 %8 : f32[4, 6]
        %11 = add %10 %9 : f32[4, 6]
        output \"y\" %11
        output \"tiny\" %9
    }";
    let graph = || parse(graph).unwrap_or_else(|error| panic!("{error}"));
    // Folded by the passes; and left to the backends.
    for skip in [vec![], vec!["simplify".to_string(), "fold".to_string()]] {
        let options = PipelineOptions { stop_after: None, skip };
        let make = || {
            let program = compile_graph(graph(), &options).unwrap();
            let weights = Weights::initialise(&program, 0).unwrap();
            Artifact::new(program.into(), weights, Target::Cpu, Vec::new())
        };
        let run = |session: &mut Session| {
            let input: Vec<u32> = (0..24u32).map(|i| if i % 3 == 0 { i } else { 0x3f80_0000 + i * 7919 }).collect();
            let mut outputs = vec![vec![0; 24]; 2];
            let [y, tiny] = outputs.as_mut_slice() else { unreachable!("two outputs") };
            session.run_into(&[&input], &mut [y, tiny]).unwrap();
            outputs
        };
        let expected = run(&mut Runner::Interp.session(&make()));
        assert!(expected[1].iter().all(|&bits| (1..0x80_0000).contains(&bits)), "subnormal");
        for settings in HOSTILE {
            for runner in Runner::ALL {
                let found = under(settings, |host| {
                    let artifact = host.call("compile", make);
                    let mut session = host.call("ready", || runner.session(&artifact));
                    host.call("run", || run(&mut session))
                });
                assert_eq!(found, expected, "{runner:?}, {}, without {:?}", settings.name, options.skip);
            }
        }
    }
}

/// Scales and codes that are made anew of quantised weights, when they are loaded.
#[test]
fn a_hostile_host_loads_the_same_codes() {
    let source = r#"{"dtype": "int8", "input_shape": [3], "layers": [
        {"type": "dense", "output_size": 4, "bias": false}]}"#;
    let network = loom_ir::config::parse(source).unwrap();
    let program = loom_passes::compile(&network, &PipelineOptions::default()).unwrap();
    let header = r#"{"layers.0.weight":{"dtype":"I8","shape":[4,3],"data_offsets":[0,12]},
        "layers.0.weight.scale":{"dtype":"F32","shape":[4],"data_offsets":[12,28]},
        "layers.0.weight.zero_point":{"dtype":"I8","shape":[4],"data_offsets":[28,32]}}"#;
    for scales in [[0.0173f32, 0.251, 0.33, 0.1], [1e-40; 4]] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([1u8, 250, 30, 77, 9, 200, 128, 127, 3, 60, 61, 63]);
        bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.extend([3u8, 255, 7, 0]);
        let load = || {
            let file = TensorFile::from_bytes(Path::new("weights"), bytes.clone()).unwrap();
            Weights::from_tensors(&file, &program).unwrap()
        };
        let expected = load();
        for settings in HOSTILE {
            let found = under(settings, |host| host.call("load", load));
            assert!(found.tensors() == expected.tensors(), "{}", settings.name);
        }
    }
}
