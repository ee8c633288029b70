//! Deep networks and graphs compile: no recursion as deep as they are, and no pass so slow that this test never ends (the
//! times are printed, `--nocapture` shows them).

use std::time::Instant;

use loom_ir::config;
use loom_ir::graph::{Builder, Graph, Op, TensorType};
use loom_ir::kernel::scalar::UnaryOp;
use loom_ir::types::{DType, Shape};
use loom_passes::{PipelineOptions, compile, compile_graph};

fn layers(count: usize, layer: &str) -> String {
    format!(r#"{{"input_shape":[8],"layers":[{}]}}"#, vec![layer; count].join(","))
}

#[test]
fn thousands_of_layers_compile() {
    let begin = Instant::now();
    for (count, layer) in [
        (4000, r#"{"type":"dense","output_size":8}"#),
        (1000, r#"{"type":"softmax"}"#),
        (1000, r#"{"type":"layer_norm"}"#),
        (1000, r#"{"type":"gelu"}"#),
        (10_000, r#"{"type":"relu"}"#),
    ] {
        let network = config::parse(&layers(count, layer)).unwrap();
        compile(&network, &PipelineOptions::default()).unwrap();
        eprintln!("{count} of {layer} after {:?}", begin.elapsed());
    }
}

#[test]
fn long_chains_of_a_graph_compile() {
    let begin = Instant::now();
    // Elementwise operations, and views of a constant: as deep as there are operations.
    let mut graph = Graph::new("chain");
    let mut b = Builder::new(&mut graph, "chain");
    let mut x = b.input("input", TensorType::new(DType::F32, [8]));
    for _ in 0..5000 {
        x = b.unary(UnaryOp::Exp, x);
    }
    graph.add_output("output", x);
    compile_graph(graph, &PipelineOptions::default()).unwrap();
    eprintln!("elementwise after {:?}", begin.elapsed());

    let mut graph = Graph::new("views");
    let mut b = Builder::new(&mut graph, "views");
    let mut x = b.splat(2.0, &Shape::from([1, 8]));
    for number in 0..100_000 {
        x = match number % 3 {
            0 => b.op(Op::Transpose(vec![1, 0]), &[x]),
            1 => b.reshape(x, [1, 8]),
            _ => b.broadcast(x, &Shape::from([1, 8]), &[0, 1]),
        };
    }
    let y = b.unary(UnaryOp::Neg, x);
    graph.add_output("output", y);
    compile_graph(graph, &PipelineOptions::default()).unwrap();
    eprintln!("views after {:?}", begin.elapsed());
}
