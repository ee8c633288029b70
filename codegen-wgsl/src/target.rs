//! What code is generated for: limits and a class, from which the shapes of kernels follow.

use crate::tile::{self, Cost, Tile};

/// A kind of device, its limits, and the shapes chosen for it.
///
/// Shapes follow from the class and the limits, never from a timing. They are fields so that tests can force the
/// templates that a device would not choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the device allows.
    pub limits: Limits,
    /// What kind of device it is.
    pub class: Class,
    /// What its compilers do that they should not.
    pub quirks: Quirks,
    /// What floats are computed with.
    pub arithmetic: Arithmetic,
    /// Sizes and templates of the kernels.
    pub shapes: Shapes,
}

/// Limits of a device, by WebGPU's names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `maxComputeWorkgroupsPerDimension`.
    pub workgroups_per_dimension: u32,
    /// The lesser of `maxComputeInvocationsPerWorkgroup` and `maxComputeWorkgroupSizeX`.
    pub invocations_per_workgroup: u32,
    /// `maxComputeWorkgroupStorageSize`, in bytes.
    pub workgroup_storage: u32,
    /// `maxStorageBuffersPerShaderStage`.
    pub storage_buffers: u32,
}

impl Limits {
    /// What every WebGPU device has.
    pub const PORTABLE: Limits = Limits {
        workgroups_per_dimension: 65535,
        invocations_per_workgroup: 256,
        workgroup_storage: 16384,
        storage_buffers: 8,
    };
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A CPU that plays a GPU. Its compiler takes minutes over large unrolled kernels, and workgroup memory is no faster
    /// than any other.
    Software,
    /// A GPU that shares its memory with the CPU.
    Integrated,
    /// A GPU with its own memory.
    Discrete,
}

impl Class {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Software => "software",
            Class::Integrated => "integrated",
            Class::Discrete => "discrete",
        }
    }
}

/// What floats are computed with: the tiers of LN1 section 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Arithmetic {
    /// The device's own operations, for [`strict_spirv`](crate::strict_spirv): exact where the device has the float
    /// controls. Without that form the text promises nothing.
    #[default]
    Native,
    /// The device's own operations in plain WGSL, every sum, difference and product behind a bit operation that keeps
    /// compilers from fusing and regrouping. It rests on a probe alone, and not on one at all where subnormals are
    /// flushed.
    Guarded,
    /// Integer operations in plain WGSL, which are exact everywhere: the text names no float type.
    Soft,
}

impl Arithmetic {
    /// Every arithmetic, the fastest first.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::Native, Arithmetic::Guarded, Arithmetic::Soft];

    /// The name in messages and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Arithmetic::Native => "native",
            Arithmetic::Guarded => "guarded",
            Arithmetic::Soft => "soft",
        }
    }
}

/// What the text must steer around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Whether float constants must look like values that are only known at run time. lavapipe drops additions of a
    /// constant +0.0, products with it and differences of a value with itself, whatever the module says about signed
    /// zeros, infinities and NaN.
    pub hide_constants: bool,
    /// How many loop iterations an invocation may make, all loops together. lavapipe leaves every loop after 65535, and
    /// says nothing.
    pub loop_iterations: u64,
}

impl Quirks {
    /// The quirks of a class of devices.
    pub const fn of(class: Class) -> Quirks {
        match class {
            Class::Software => Quirks { hide_constants: true, loop_iterations: 65_000 },
            Class::Integrated | Class::Discrete => Quirks { hide_constants: false, loop_iterations: u64::MAX },
        }
    }
}

/// Sizes and templates of kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes {
    /// Invocations a workgroup of the kernels whose invocations work alone.
    pub workgroup: u32,
    /// Elements of a map an invocation: so many loads wait for memory at a time.
    pub elements: u32,
    /// Whether divisions first try what does for ordinary numbers. It pays where what no invocation of a group needs is
    /// left out.
    pub quick_division: bool,
    /// Rows of at most this many terms are reduced by one invocation each, longer ones by a workgroup. At most one block
    /// of the sum's order.
    pub serial_terms: u32,
    /// Invocations of the workgroup, at most, to which longer rows of at most one block are given, a power of two; 0 for
    /// none of them.
    pub row: u32,
    /// How many blocks of a long sum a workgroup adds at a time, a power of two up to 32; more where loops would be too
    /// long.
    pub blocks: u32,
    /// How contractions are done: the shape that costs least, by a model that knows the sizes alone.
    pub contract: Vec<ContractShape>,
    /// How many workgroups of a contraction the device is taken to work on at a time.
    pub units: u32,
    /// What loops take whose steps follow one another within a workgroup; `None` where each step of a loop is dispatched.
    pub turns: Option<TurnCost>,
}

/// What a loop takes, in picoseconds like [`Cost`]: step by step, or many steps a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnCost {
    /// For a dispatch, however little it does.
    pub dispatch: u64,
    /// For a kernel of a step within a workgroup, however little it does.
    pub phase: u64,
    /// For an element of a contraction's right operand, which a workgroup brings anew in every step.
    pub operand: u64,
    /// For a product of a workgroup.
    pub product: u64,
    /// For an element of a map, or a term of an output that an invocation computes alone, of so many invocations at once.
    pub element: u64,
    /// How long a dispatch may take: drivers end those that take seconds.
    pub most: u64,
}

/// A template of contractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContractShape {
    /// One invocation an output element.
    Direct {
        /// What it takes, with workgroups enough.
        cost: Cost,
    },
    /// One workgroup a tile of the output, operands through workgroup memory.
    Tiled {
        /// The tile.
        tile: Tile,
        /// What it takes, with workgroups enough.
        cost: Cost,
    },
}

impl TurnCost {
    /// Of a GPU.
    pub const GPU: TurnCost = TurnCost {
        dispatch: 3_000_000,
        phase: 500_000,
        operand: 60,
        product: 15,
        element: 10_000,
        most: 50_000_000_000,
    };
}

impl Target {
    /// The target of a device.
    pub fn new(class: Class, limits: Limits) -> Target {
        let shapes = Shapes::new(class, &limits);
        Target { limits, class, quirks: Quirks::of(class), arithmetic: Arithmetic::default(), shapes }
    }

    /// The same target with another arithmetic, and the shapes that go with it.
    #[must_use]
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Target {
        let mut shapes = Shapes::new(self.class, &self.limits);
        if arithmetic == Arithmetic::Soft {
            // A product and a sum are some hundred instructions for each output of an invocation: four outputs keep the
            // innermost loop within instruction caches and compilers' patience, and memory is never what it waits for.
            shapes.contract.retain(|shape| match shape {
                ContractShape::Direct { .. } => true,
                ContractShape::Tiled { tile, .. } => tile.rows * tile.columns <= 4,
            });
        }
        Target { arithmetic, shapes, ..self }
    }

    /// What every WebGPU device can run.
    pub fn portable() -> Target {
        Target::new(Class::Integrated, Limits::PORTABLE)
    }
}

impl Shapes {
    /// The shapes for a class within limits.
    pub fn new(class: Class, limits: &Limits) -> Shapes {
        let contract = tile::shapes(class, limits);
        let software = class == Class::Software;
        Shapes {
            workgroup: limits.invocations_per_workgroup.min(if class == Class::Discrete { 256 } else { 64 }),
            elements: if class == Class::Discrete { 4 } else { 1 },
            quick_division: !software,
            // Barriers are dear on a CPU, and its few threads are busy with few rows.
            serial_terms: if software { 1024 } else { 64 },
            // Eight terms at a time by each of many invocations fill registers, of which a CPU has few.
            row: if software { 0 } else { 1 << limits.invocations_per_workgroup.clamp(1, 512).ilog2() },
            blocks: if software || limits.invocations_per_workgroup < 256 { 1 } else { 8 },
            contract,
            units: if class == Class::Discrete { 128 } else { 16 },
            turns: if software { None } else { Some(TurnCost::GPU) },
        }
    }
}
