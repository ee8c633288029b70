//! Sessions: any number of samples, exact shapes, and devices compared.

mod common;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::{artifact, input, tensor};
use loom_ir::types::{DType, Shape};
use loom_runtime::compare::verify;
use loom_runtime::digest::digest;
use loom_runtime::executor::flip::Flip;
use loom_runtime::session::{Device, RunError, Session, SessionError, SessionOptions};
use loom_runtime::tensors::Tensor;

fn session() -> Session {
    Session::new(&artifact(), SessionOptions::on(Device::Interp)).unwrap()
}

#[test]
fn any_number_of_samples() {
    let mut session = session();
    assert_eq!(session.batch(), Some(4));
    let all = session.run_tensors(&[input(11)]).unwrap();
    assert_eq!(all[0].name(), "output");
    assert_eq!(all[0].shape().dims(), [11, 2]);
    for count in 1..11 {
        let some = session.run_tensors(&[input(count)]).unwrap();
        assert_eq!(some[0].bits(), &all[0].bits()[..count as usize * 2], "a sample's bits do not depend on the others");
    }
    assert!(all[0].bits().iter().any(|&bits| bits != 0));
    let mut steps = Vec::new();
    session.run_tensors_with(&[input(11)], &mut |done, total| steps.push((done, total))).unwrap();
    assert_eq!(steps, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn floats_in_floats_out() {
    let values = input(5);
    let out = session().run(values.as_f32().unwrap()).unwrap();
    assert_eq!(out, session().run_tensors(&[values]).unwrap()[0].as_f32().unwrap());
    assert!(matches!(session().run(&[1.0; 4]), Err(RunError::NotWhole { found: 4, sample: 3 })));
    assert!(matches!(session().run(&[]), Err(RunError::NoSamples)));
}

#[test]
fn one_batch_in_place() {
    let input = input(4);
    let mut output = vec![0; 8];
    let mut session = session();
    session.run_into(&[input.bits()], &mut [&mut output]).unwrap();
    assert_eq!(output, session.run_tensors(std::slice::from_ref(&input)).unwrap()[0].bits());
    assert!(matches!(
        session.run_into(&[&[0; 11]], &mut [&mut output]),
        Err(RunError::Length { expected: 12, found: 11, .. })
    ));
    assert!(matches!(session.run_into(&[], &mut [&mut output]), Err(RunError::Count { .. })));
    assert!(matches!(session.run_into(&[input.bits()], &mut [&mut output[..7]]), Err(RunError::Length { .. })));
    assert!(matches!(session.run_into(&[input.bits(), input.bits()], &mut [&mut output]), Err(RunError::Count { .. })));
}

#[test]
fn what_computes_on_its_callers_thread_is_done_at_once() {
    let mut session = session();
    session.warm_up().unwrap();
    let expected = session.run_tensors(&[input(9)]).unwrap()[0].bits().to_vec();
    let inputs = [input(9)];
    let mut future = pin!(session.run_async(&inputs));
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(outputs)) = polled else { panic!("{polled:?}") };
    assert_eq!(outputs[0].bits(), expected);
}

#[test]
fn wrong_inputs_are_named() {
    let mut session = session();
    let mut text = |tensors: &[Tensor]| session.run_tensors(tensors).unwrap_err().to_string();
    assert_eq!(
        text(&[tensor("input", [2, 4], &[0.0; 8])]),
        "input `input` has shape [2, 4], the network takes [any number, 3]"
    );
    assert_eq!(
        text(&[tensor("input", [6], &[0.0; 6])]),
        "input `input` has shape [6], the network takes [any number, 3]"
    );
    assert_eq!(
        text(&[tensor("x", [2, 3], &[0.0; 6])]),
        "the network's input `input` f32 [4, 3] is not given, only `x`"
    );
    assert_eq!(text(&[input(1), tensor("x", [2, 3], &[0.0; 6])]), "the network has no input `x`");
    assert_eq!(text(&[tensor("input", [0, 3], &[])]), "there are no samples to run");
    let whole = Tensor::new("input", DType::I32, Shape::from([1, 3]), vec![0; 3]).unwrap();
    assert_eq!(text(&[whole]), "input `input` is i32, the network takes f32");
}

#[test]
fn nans_come_out_as_one() {
    let nan = f32::from_bits(0xFFC1_2345);
    let out = session().run(&[nan, 0.0, 0.0]).unwrap();
    assert!(out.iter().all(|value| value.to_bits() == 0x7FC0_0000 || value.to_bits() == 0));
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let of_nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(digest(&[]), of_nothing);
    // printf '\000\000\200\077' | sha256sum
    let one = "sha256:e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c";
    assert_eq!(digest(&[tensor("x", [1], &[1.0])]), one);
}

fn flipped(kernel: &str, element: usize) -> SessionOptions {
    SessionOptions { flip: Some(Flip { kernel: kernel.to_string(), element }), ..SessionOptions::on(Device::Interp) }
}

#[test]
fn devices_that_agree() {
    let options = [SessionOptions::on(Device::Interp), SessionOptions::on(Device::Interp)];
    let comparison = verify(&artifact(), &options, &[input(6)]).unwrap();
    assert_eq!(comparison.difference, None);
    assert_eq!((comparison.kernels, comparison.slices, comparison.samples, comparison.elements), (2, 2, 6, 32));
    assert_eq!(comparison.digests[0], comparison.digests[1]);
}

#[test]
fn the_first_kernel_that_differs_is_named() {
    for kernel in ["layers.0 dense", "0"] {
        let options = [SessionOptions::on(Device::Interp), flipped(kernel, 5)];
        let difference = verify(&artifact(), &options, &[input(6)]).unwrap().difference.unwrap();
        assert_eq!(difference.kernel.unwrap().name, "layers.0 dense");
        let element = difference.element.unwrap();
        assert_eq!(
            (element.index, element.coordinates.as_slice(), element.count, element.of),
            (5, [2, 1].as_slice(), 1, 8)
        );
        assert_eq!(element.expected ^ element.found, 1);
    }
    let options = [SessionOptions::on(Device::Interp), flipped("layers.1 scale", 0)];
    let comparison = verify(&artifact(), &options, &[input(6)]).unwrap();
    assert_eq!(comparison.difference.unwrap().kernel.unwrap().index, 1);
    assert_ne!(comparison.digests[0].1, comparison.digests[1].1);
    assert!(
        matches!(verify(&artifact(), &[flipped("nothing", 0)], &[input(6)]), Err(error) if error.to_string().contains("nothing"))
    );
    assert!(matches!(Session::new(&artifact(), flipped("1", 8)), Err(SessionError::NoFlip(_))));
}
