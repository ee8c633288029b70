//! Every maximum, named. Sizes from untrusted files are checked against these with checked arithmetic before anything
//! is allocated.

/// A tensor has fewer elements than this (LN1 section 2).
pub const MAX_ELEMENTS: u64 = 1 << 31;
/// Axes of a tensor.
pub const MAX_RANK: usize = 8;
/// Axes of a kernel's loop nest: a contraction has batch, row, column and reduced axes.
pub const MAX_KERNEL_AXES: usize = 16;
/// Bytes of a network config.
pub const MAX_CONFIG_BYTES: u64 = 64 << 20;
/// Levels of arrays and objects in a network config, layers within layers included.
pub const MAX_CONFIG_DEPTH: usize = 64;
/// Layers of a network, nested ones included.
pub const MAX_LAYERS: usize = 10_000;
/// Keys of one object in a network config, known or not.
pub const MAX_CONFIG_KEYS: usize = 256;
/// Errors about one network config that are shown; more are counted.
pub const MAX_CONFIG_ERRORS: usize = 100;
/// Nodes of a graph.
pub const MAX_GRAPH_NODES: usize = 1 << 20;
/// Kernels of a program.
pub const MAX_KERNELS: usize = 1 << 16;
/// Buffers of a program.
pub const MAX_BUFFERS: usize = 1 << 17;
/// Instructions of one scalar function.
pub const MAX_SCALAR_OPS: usize = 1 << 12;
/// Loads of one kernel, and arguments of one of its functions. Each is code in every backend.
pub const MAX_KERNEL_LOADS: usize = 1 << 9;
/// Stages of one reduction.
pub const MAX_STAGES: usize = 1 << 6;
/// Distinct buffers that one kernel touches. WebGPU guarantees 8 storage buffers a shader stage.
pub const MAX_KERNEL_BUFFERS: usize = 8;
/// Bytes of the JSON header of a safetensors file (the format's own limit).
pub const MAX_SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;
/// Files that hold the tensors of one index.
pub const MAX_SHARDS: usize = 4096;
