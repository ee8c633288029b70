//! A whole network, from its config.

use std::path::Path;
use std::sync::Arc;

use loom_ir::config;
use loom_ir::kernel::Verified;
use loom_passes::PipelineOptions;

use crate::support::{Values, check_program};

/// The network of the MNIST example.
pub fn digits() -> Arc<Verified> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mnist/net.json");
    let text = std::fs::read_to_string(path).unwrap();
    let network = config::parse(&text).unwrap();
    Arc::new(loom_passes::compile(&network, &PipelineOptions::default()).unwrap())
}

#[test]
fn the_digits_network() {
    let program = digits();
    check_program(&program, Values::Ordinary);
    check_program(&program, Values::Special);
}
