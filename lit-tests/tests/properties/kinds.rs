//! One program for each kind of kernel, of any number of samples and terms, and tensors for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom_ir::graph::parse::parse;
use loom_ir::kernel::{Buffer, BufferKind, Verified};
use loom_ir::types::Shape;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile, compile_graph};

/// What a program's kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function of each element.
    Map,
    /// Sums of rows that lie along memory.
    Sum,
    /// Sums of rows that lie across it.
    SumAcross,
    /// Sums over windows.
    Pooling,
    /// Two stages, and a result for each element.
    Softmax,
    /// Sums of functions of sums, and a result for each element.
    Norm,
    /// A product with a weight.
    Dense,
    /// A product of two inputs for each sample.
    Products,
    /// A product with windows, which the same weights meet in groups.
    Convolution,
    /// Products, a softmax of their rows, and products with that, of three inputs for each sample.
    Attention,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Map,
        Kind::Sum,
        Kind::SumAcross,
        Kind::Pooling,
        Kind::Softmax,
        Kind::Norm,
        Kind::Dense,
        Kind::Products,
        Kind::Convolution,
        Kind::Attention,
    ];

    /// The kernel that the program must have, or it doesn't test what it says.
    fn body(self) -> &'static str {
        match self {
            Kind::Map => "map",
            Kind::Sum | Kind::SumAcross | Kind::Pooling | Kind::Softmax | Kind::Norm => "reduce",
            Kind::Dense | Kind::Products | Kind::Convolution => "contract",
            Kind::Attention => "attend",
        }
    }

    pub fn contracts(self) -> bool {
        self.body() == "contract"
    }

    /// Whether the number of terms is that of a sum, and of nothing else.
    pub fn sums(self) -> bool {
        // A mean's divisor is the number of terms; windows of more elements meet other elements.
        // The score of a key that is zero is no less than others.
        !matches!(self, Kind::Map | Kind::Norm | Kind::Pooling | Kind::Attention)
    }

    pub fn program(self, samples: u64, terms: u64) -> Arc<Verified> {
        let options = PipelineOptions::default();
        let config = |layer: &str| {
            let text = format!(r#"{{"batch_size": {samples}, "input_shape": [{terms}], "layers": [{layer}]}}"#);
            let network = loom_ir::config::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            compile(&network, &options).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        let graph = |lines: &str| {
            let text = format!("graph \"property\" {{\n{lines}\n}}\n");
            let graph = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            compile_graph(graph, &options).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        let program = match self {
            Kind::Map => graph(&format!(
                r#"  %0 = input "x" : f32[{samples}, {terms}]
                     %1 = weight "w" : f32[{terms}]
                     %2 = broadcast %1 shape=[{samples}, {terms}] axes=[1] : f32[{samples}, {terms}]
                     %3 = mul %0 %2 : f32[{samples}, {terms}]
                     %4 = tanh %3 : f32[{samples}, {terms}]
                     output "y" %4"#
            )),
            Kind::Sum => graph(&format!(
                r#"  %0 = input "x" : f32[{samples}, 3, {terms}]
                     %1 = reduce %0 op=sum axes=[2] : f32[{samples}, 3]
                     output "y" %1"#
            )),
            Kind::SumAcross => graph(&format!(
                r#"  %0 = input "x" : f32[{samples}, {terms}, 6]
                     %1 = reduce %0 op=sum axes=[1] : f32[{samples}, 6]
                     output "y" %1"#
            )),
            Kind::Pooling => {
                let (length, out) = (terms + 4, terms.div_ceil(2) + 1);
                let (low, high) = (1, 2 * (out - 1) + 5 - length - 1);
                graph(&format!(
                    r#"  %0 = input "x" : f32[{samples}, 2, {length}]
                         %1 = window %0 axes=[2] size=[5] stride=[2] dilation=[1] low=[{low}] high=[{high}] fill=0x00000000 : f32[{samples}, 2, {out}, 5]
                         %2 = reduce %1 op=sum axes=[3] : f32[{samples}, 2, {out}]
                         output "y" %2"#
                ))
            }
            Kind::Softmax => config(r#"{"type": "softmax"}"#),
            Kind::Norm => config(r#"{"type": "layer_norm"}"#),
            Kind::Dense => config(r#"{"type": "dense", "output_size": 21, "activation": "gelu"}"#),
            Kind::Products => graph(&format!(
                r#"  %0 = input "x" : f32[{samples}, 3, {terms}]
                     %1 = input "z" : f32[{samples}, 18, {terms}]
                     %2 = contract %0 %1 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[{samples}, 3, 18]
                     output "y" %2"#
            )),
            // The windows reach beyond the end, so that there are as many places whatever their size.
            Kind::Convolution => graph(&format!(
                r#"  %0 = input "x" : f32[{samples}, 4, 24]
                     %1 = weight "w" : f32[2, 3, 2, {terms}]
                     %2 = window %0 axes=[2] size=[{terms}] stride=[1] dilation=[1] low=[0] high=[{high}] fill=0x00000000 : f32[{samples}, 4, 24, {terms}]
                     %3 = reshape %2 shape=[{samples}, 2, 2, 24, {terms}] : f32[{samples}, 2, 2, 24, {terms}]
                     %4 = broadcast %1 shape=[{samples}, 2, 3, 2, {terms}] axes=[1, 2, 3, 4] : f32[{samples}, 2, 3, 2, {terms}]
                     %5 = contract %4 %3 lhs_batch=[0, 1] rhs_batch=[0, 1] lhs_reduced=[4, 3] rhs_reduced=[4, 2] : f32[{samples}, 2, 3, 24]
                     output "y" %5"#,
                high = terms - 1
            )),
            Kind::Attention => {
                // Scores of few terms and of more than a chunk; columns of an invocation, and of several workgroups.
                let (inner, columns) = if terms < 40 { (9 * terms + 1, 140) } else { (terms % 67, 37) };
                graph(&format!(
                    r#"  %0 = input "q" : f32[{samples}, 9, {inner}]
                         %1 = input "k" : f32[{samples}, {terms}, {inner}]
                         %2 = input "v" : f32[{samples}, {terms}, {columns}]
                         %3 = contract %0 %1 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[{samples}, 9, {terms}]
                         %4 = reduce %3 op=max axes=[2] : f32[{samples}, 9]
                         %5 = broadcast %4 shape=[{samples}, 9, {terms}] axes=[0, 1] : f32[{samples}, 9, {terms}]
                         %6 = sub %3 %5 : f32[{samples}, 9, {terms}]
                         %7 = exp %6 : f32[{samples}, 9, {terms}]
                         %8 = reduce %7 op=sum axes=[2] : f32[{samples}, 9]
                         %9 = contract %7 %2 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[1] : f32[{samples}, 9, {columns}]
                         %10 = broadcast %8 shape=[{samples}, 9, {columns}] axes=[0, 1] : f32[{samples}, 9, {columns}]
                         %11 = div %9 %10 : f32[{samples}, 9, {columns}]
                         output "y" %11"#
                ))
            }
        };
        assert!(program.kernels.iter().any(|kernel| kernel.body.name() == self.body()), "{self:?}\n{}", *program);
        Arc::new(program)
    }

    /// Tensors of the longer program, in which the terms beyond those of the shorter one are zero.
    pub fn extensions(self, tensors: &Tensors, short: &Verified, long: &Verified) -> Vec<Tensors> {
        let all = |fill: &mut dyn FnMut(&Buffer) -> u32| {
            let extend = |buffer: &Buffer| {
                let from = buffers(short).find(|from| from.name == buffer.name).unwrap();
                let mut bits: Vec<u32> = (0..buffer.shape.elements()).map(|_| fill(buffer)).collect();
                for (element, place) in places(&from.shape, &buffer.shape) {
                    bits[place] = tensors.0[&buffer.name][element];
                }
                (buffer.name.clone(), bits)
            };
            let mut extend = extend;
            Tensors(buffers(long).map(&mut extend).collect())
        };
        if self == Kind::Softmax {
            return vec![all(&mut |_| f32::NEG_INFINITY.to_bits())];
        }
        let mut extended = vec![all(&mut |_| 0)];
        // Larger windows meet elements that are there, with weights of zero: those products are zero by one factor already.
        if self.contracts() && self != Kind::Convolution {
            // Zero by one factor alone: some of these products are -0.0, which no sum that began at +0.0 shows.
            let mut random = Random(9);
            for of_weights in [true, false] {
                let is_one = |buffer: &Buffer| (buffer.kind == BufferKind::Weight || buffer.name == "z") == of_weights;
                extended.push(all(&mut |buffer| if is_one(buffer) { 0 } else { random.floats(1, 0)[0] }));
            }
        }
        extended
    }
}

/// What a program reads.
fn buffers(program: &Verified) -> impl Iterator<Item = &Buffer> {
    program.buffers_where(|kind| kind.is_input() || kind.is_weight()).map(|(_, buffer)| buffer)
}

/// Where the elements of a tensor are in one whose extents are as large or larger.
fn places(from: &Shape, to: &Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..from.elements()).map(|element| {
        let (mut rest, mut place, mut stride) = (element, 0, 1);
        for (&extent, &wider) in from.dims().iter().zip(to.dims()).rev() {
            place += rest % extent * stride;
            rest /= extent;
            stride *= wider;
        }
        (element as usize, place as usize)
    })
}

/// The elements of the longer program's output that the shorter one has too, and the others.
pub fn crop(bits: &[u32], long: &Verified, short: &Verified) -> (Vec<u32>, Vec<u32>) {
    let shape = |program: &Verified| program.outputs().map(|(_, buffer)| buffer.shape.clone()).next().unwrap();
    let mut kept = vec![false; bits.len()];
    let mut common = Vec::new();
    for (_, place) in places(&shape(short), &shape(long)) {
        kept[place] = true;
        common.push(bits[place]);
    }
    let rest = bits.iter().zip(kept).filter(|(_, kept)| !kept).map(|(&bits, _)| bits);
    (common, rest.collect())
}

/// Inputs and weights by name.
#[derive(Debug, Clone)]
pub struct Tensors(pub BTreeMap<String, Vec<u32>>);

impl Tensors {
    /// Numbers from a seed; of every `special` one is special, if that's not 0.
    pub fn random(program: &Verified, seed: u64, special: u64) -> Tensors {
        let mut random = Random(seed);
        let tensor = |buffer: &Buffer| (buffer.name.clone(), random.floats(buffer.shape.elements() as usize, special));
        Tensors(buffers(program).map(tensor).collect())
    }

    /// One sample of the inputs, and the weights.
    pub fn sample(&self, sample: u64, program: &Verified) -> Tensors {
        let mut tensors = self.clone();
        for (_, buffer) in program.inputs() {
            let elements = (buffer.shape.elements() / buffer.shape.dims()[0]) as usize;
            let begin = sample as usize * elements;
            let bits = self.0[&buffer.name][begin..begin + elements].to_vec();
            tensors.0.insert(buffer.name.clone(), bits);
        }
        tensors
    }
}
