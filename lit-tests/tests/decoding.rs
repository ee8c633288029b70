//! Decoding step by step with kept keys and values gives the bits of one run over all positions: on every device, with
//! every option of attention, for any number of positions a run and any room.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::compare;
use loom_runtime::digest::digest;
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions};
use loom_runtime::session::{Device, RunError, Session, SessionOptions};
use loom_runtime::tensors::{Tensor, read_tensor};
use loom_runtime::weights::Weights;

const BATCH: u64 = 2;
const LENGTH: u64 = 8;
const ROWS: u64 = 11;

/// A decoder: the positions of a run and the room of the caches can be chosen, all else follows from the seed.
fn network(seed: u64, positions: u64, room: Option<u64>) -> String {
    let mut random = Random(seed);
    let size = 2 * (1 + random.below(3));
    let mut layers = vec![format!(r#"{{"type": "embedding", "vocab_size": {ROWS}, "embedding_dim": {size}}}"#)];
    for _ in 0..=random.below(2) {
        let (groups, kv_heads) = (1 + random.below(3), 1 + random.below(2));
        let (heads, head_dim) = (groups * kv_heads, 2 * (1 + random.below(2)));
        let [rope, bias, norm] = [3, 2, 2].map(|of| random.below(of) > 0);
        let window = if random.below(3) == 0 {
            format!(r#", "sliding_window": {}"#, 1 + random.below(4))
        } else {
            String::new()
        };
        // Drawn for the largest room, so that it does not depend on the one that is chosen.
        let allowed: Vec<Vec<bool>> = (0..32).map(|_| (0..32).map(|_| random.below(4) > 0).collect()).collect();
        let mask = if random.below(3) == 0 {
            let room = room.unwrap_or(positions) as usize;
            let rows: Vec<&[bool]> = allowed[..room].iter().map(|row| &row[..room]).collect();
            format!(r#", "attention_mask": {rows:?}"#)
        } else {
            String::new()
        };
        let cache = room.map_or(String::new(), |room| format!(r#", "kv_cache": {room}"#));
        if norm {
            layers.push(r#"{"type": "rms_norm"}"#.to_string());
        }
        layers.push(format!(
            r#"{{"type": "multi_head_attention", "num_heads": {heads}, "num_kv_heads": {kv_heads}, "head_dim": {head_dim}, "rope": {rope}, "bias": {bias}{window}{mask}{cache}}}"#
        ));
        layers.push(format!(r#"{{"type": "residual", "from": {}}}"#, 1 + u64::from(norm)));
        layers.push(format!(r#"{{"type": "swiglu", "intermediate_size": {}}}"#, 1 + random.below(5)));
    }
    layers.push(r#"{"type": "dense", "output_size": 5, "activation": "softmax"}"#.to_string());
    let layers = layers.join(",\n");
    format!(r#"{{"batch_size": {BATCH}, "seed": {seed}, "input_shape": [{positions}], "layers": [{layers}]}}"#)
}

fn artifact(source: &str, seed: u64) -> Artifact {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let program = compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let weights = Weights::initialise(&program, seed).unwrap();
    Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new())
}

fn tokens(samples: u64, seed: u64) -> Tensor {
    let mut random = Random(seed);
    let ids: Vec<f32> = (0..samples * LENGTH).map(|_| random.below(ROWS) as f32).collect();
    Tensor::from_f32("input", [samples, LENGTH].into(), &ids).unwrap()
}

fn gpu() -> Arc<GpuDevice> {
    static DEVICE: OnceLock<Arc<GpuDevice>> = OnceLock::new();
    Arc::clone(DEVICE.get_or_init(|| GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }).unwrap()))
}

fn session(artifact: &Artifact, device: Device) -> Session {
    if device != Device::Gpu {
        return Session::new(artifact, SessionOptions { threads: Some(1), ..SessionOptions::on(device) }).unwrap();
    }
    let weights = artifact.weights().clone();
    let executor = GpuExecutor::new(gpu(), Arc::clone(artifact.program()), weights).unwrap();
    Session::with_executor(artifact, Device::Gpu, Box::new(executor))
}

fn run(artifact: &Artifact, device: Device, input: &Tensor) -> Vec<Tensor> {
    session(artifact, device).run_tensors(std::slice::from_ref(input)).unwrap()
}

#[test]
fn step_by_step_is_all_at_once() {
    let cases = std::env::var("LOOM_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    for seed in 0..cases {
        // More sequences than a batch has.
        let input = tokens(3, seed);
        let whole = run(&artifact(&network(seed, LENGTH, None), seed), Device::Interp, &input);
        assert_eq!(whole[0].shape().dims(), [3, LENGTH, 5]);
        for (number, (positions, room)) in
            [(1, LENGTH), (2, 31), (4, LENGTH + 1), (LENGTH, LENGTH)].into_iter().enumerate()
        {
            let source = network(seed, positions, Some(room));
            let stepwise = artifact(&source, seed);
            // Shaders take a software GPU's compiler longer than all else.
            let devices = Device::ALL.into_iter().filter(|&device| device != Device::Gpu || seed % 4 == number as u64);
            for device in devices {
                let found = run(&stepwise, device, &input);
                assert_eq!(found, whole, "{positions} positions a run, room for {room}, on {device}\n{source}");
            }
        }
    }
}

/// A prompt in one run on one device, then position after position on another.
#[test]
fn sessions_take_turns_on_a_state() {
    for seed in 100..104 {
        let input = tokens(BATCH, seed);
        let whole = run(&artifact(&network(seed, LENGTH, None), seed), Device::Interp, &input);
        let prompt = artifact(&network(seed, 4, Some(12)), seed);
        let decode = artifact(&network(seed, 1, Some(12)), seed);
        for (first, then) in [(Device::Cpu, Device::Interp), (Device::Gpu, Device::Cpu), (Device::Interp, Device::Gpu)]
        {
            let mut first = session(&prompt, first);
            let mut then = session(&decode, then);
            let mut state = first.start().unwrap();
            let part = |begin: usize, count: usize| -> Vec<u32> {
                input.bits().chunks(LENGTH as usize).flat_map(|row| row[begin..begin + count].to_vec()).collect()
            };
            let mut output = vec![0; BATCH as usize * 4 * 5];
            first.step(&mut state, &[&part(0, 4)], &mut [&mut output]).unwrap();
            assert_eq!(state.positions(), [4, 4]);
            let expected = |begin: usize, count: usize| -> Vec<u32> {
                let rows = whole[0].bits().chunks(LENGTH as usize * 5);
                rows.flat_map(|row| row[begin * 5..(begin + count) * 5].to_vec()).collect()
            };
            assert_eq!(output, expected(0, 4));
            // By way of tensors, as from a file.
            let mut state = then.resume(&first.state_tensors(&state).unwrap()).unwrap();
            for position in 4..LENGTH as usize {
                let mut output = vec![0; BATCH as usize * 5];
                then.step(&mut state, &[&part(position, 1)], &mut [&mut output]).unwrap();
                assert_eq!(output, expected(position, 1), "position {position}");
            }
        }
    }
}

#[test]
fn a_sequence_begins_anew_while_another_goes_on() {
    let stepwise = artifact(&network(7, 1, Some(LENGTH)), 7);
    let input = tokens(BATCH, 7);
    let (first, second) = input.bits().split_at(LENGTH as usize);
    let mut session = session(&stepwise, Device::Cpu);
    let whole = session.run_tensors(std::slice::from_ref(&input)).unwrap();
    let expected = &whole[0].bits()[LENGTH as usize * 5..];
    let mut state = session.start().unwrap();
    let mut output = vec![0; BATCH as usize * 5];
    for position in 0..3 {
        session.step(&mut state, &[&[first[position], second[position]]], &mut [&mut output]).unwrap();
    }
    state.reset_sequence(0);
    assert_eq!(state.positions(), [0, 3]);
    // The second one goes on where it was; in the first one's place it runs from its beginning.
    for position in 0..5 {
        session.step(&mut state, &[&[second[position], second[position + 3]]], &mut [&mut output]).unwrap();
        assert_eq!(output[..5], expected[position * 5..][..5]);
        assert_eq!(output[5..], expected[(position + 3) * 5..][..5]);
    }
    // It's full, and nothing moves on.
    let before = state.clone();
    let error = session.step(&mut state, &[&[0, 0]], &mut [&mut output]).unwrap_err();
    assert!(matches!(error, RunError::Full { sequence: 1, before: 8, step: 1, capacity: 8 }), "{error}");
    assert_eq!(state, before);
}

#[test]
fn wrong_sequences_and_states_are_refused() {
    let mut session = session(&artifact(&network(3, 2, Some(6)), 3), Device::Interp);
    let of = |samples: u64, positions: u64| {
        Tensor::from_f32("input", [samples, positions].into(), &vec![1.0; (samples * positions) as usize]).unwrap()
    };
    let mut text = |tensor: Tensor| session.run_tensors(&[tensor]).unwrap_err().to_string();
    let rule = "the network takes any number of times 2, the same of every input, and up to 6";
    assert_eq!(text(of(1, 3)), format!("input `input` has 3 positions: {rule}"));
    assert_eq!(text(of(1, 8)), format!("input `input` has 8 positions: {rule}"));
    assert_eq!(text(of(1, 0)), format!("input `input` has 0 positions: {rule}"));
    assert!(session.run_tensors(&[of(1, 6)]).is_ok());
    let missing = session.resume(&[]).unwrap_err();
    assert!(matches!(missing, RunError::MissingInput { .. }), "{missing}");
    let other = Session::new(&artifact(&network(3, 2, Some(7)), 3), SessionOptions::on(Device::Interp)).unwrap();
    let mut state = other.start().unwrap();
    assert!(matches!(session.step(&mut state, &[&[0; 4]], &mut [&mut [0; 20]]), Err(RunError::OtherState)));
    let mut state = session.start().unwrap();
    assert!(matches!(session.step(&mut state, &[], &mut [&mut [0; 20]]), Err(RunError::Count { .. })));
    assert!(matches!(session.step(&mut state, &[&[0; 4]], &mut []), Err(RunError::Count { .. })));
    assert!(matches!(
        session.continue_tensors_with(&mut state, &[of(3, 2)], &mut |_, _| {}),
        Err(RunError::OtherState)
    ));
    let plain = artifact(&network(3, 2, None), 3);
    assert!(matches!(
        Session::new(&plain, SessionOptions::on(Device::Interp)).unwrap().start(),
        Err(RunError::NoStates)
    ));
}

/// The decoder among the examples, one token a run: the digest that is published for all tokens at once.
#[test]
fn the_example_decodes_to_its_digest() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/decoder").join(name);
    let source = std::fs::read_to_string(file("step.json")).unwrap();
    let program = compile(&loom_ir::config::parse(&source).unwrap(), &PipelineOptions::default()).unwrap();
    let weights = Weights::from_file(&file("weights.safetensors"), &program).unwrap();
    let artifact = Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new());
    let input = read_tensor(&file("sums.safetensors"), "input").unwrap();
    let found = digest(&session(&artifact, Device::Cpu).run_tensors(&[input]).unwrap());
    let published = std::fs::read_to_string(file("README.md")).unwrap();
    assert!(published.contains(&found), "{found}");
}

/// `loomc verify` compares every kernel of every step, from the same states.
#[test]
fn devices_are_compared_step_by_step() {
    let artifact = artifact(&network(5, 2, Some(LENGTH)), 5);
    let input = tokens(3, 5);
    let mut sessions = [session(&artifact, Device::Interp), session(&artifact, Device::Cpu)];
    let comparison = compare::compare(&mut sessions, std::slice::from_ref(&input), &mut |_, _| {}).unwrap();
    assert_eq!((comparison.difference, comparison.slices, comparison.samples), (None, 8, 3));
}
