//! How generated code is called: the contract between this crate, the runtime and object files.
//!
//! Every kernel is one function, [`KernelFn`]:
//!
//! - `buffers` points to a table of addresses: the kernel's buffers in the order of `Kernel::buffers()`, then, if the
//!   kernel has [`PanelsLayout`], the address of its packed panels. Elements are 4 bytes and need only their natural
//!   alignment of 4;
//! - `begin..end` is a range of work items, within `0..items`. Items are independent: a caller may split them over
//!   threads in any way without changing a bit. Each element of the output is written by exactly one item;
//! - the items of a kernel of a loop (`Program::steps`) are in `slices` equal runs, one for each index of the loop in
//!   order; items of one index are independent, and need that all kernels before in the loop are done with that index, and
//!   all of the loop with those before;
//! - `scratch` points to memory of the calling thread, of at least the kernel's `scratch_bytes`, at a multiple of
//!   [`SCRATCH_ALIGNMENT`]. Its contents before and after mean nothing.
//!
//! A kernel's panels are one operand of its contraction, reordered. They are written by the kernel's pack function, of
//! the same type: it reads the same table (only the buffers that its operand loads), its items are panels, and it writes
//! panel `begin` and those after it to `scratch` onwards, `panel_bytes` each.
//!
//! Called code needs the floating-point environment of LN1 section 2 (round to nearest, subnormals kept, no traps). It
//! calls nothing outside its own module, allocates nothing and cannot fail.

/// A kernel or a pack function: buffer table, first item, end of the items, scratch memory.
pub type KernelFn = unsafe extern "C" fn(*const *mut u8, u64, u64, *mut u8);

/// A microkernel: the contracted length, the narrow panel, the wide panel, the tile. See [`Microkernel`].
pub type MicrokernelFn = unsafe extern "C" fn(u64, *const f32, *const f32, *mut f32);

/// Scratch memory begins at a multiple of this.
pub const SCRATCH_ALIGNMENT: usize = 64;

/// The inner loop of contractions: `tile[i][j] = Σ_k narrow[k][i] · wide[k][j]`, in the order of LN1 section 3.
///
/// `narrow` is `[k][mr]` and `wide` `[k][nr]`, both row-major and aligned to 4 bytes; the tile is `[mr][nr]`. The code
/// adds products to +0.0 in chunks of 256, each product and sum rounded, and the chunks' sums in order; a length of 0
/// gives +0.0. The generator has one for every shape that its plans use; others, written with wider vectors, may take
/// their place where they have the same bits.
///
/// Those of bytes have panels `[k / 4][mr][4]` and `[k / 4][nr][4]` of signed 8-bit integers, with 0 beyond the last term, and
/// tiles of `i32`, whatever the types of the code's pointers. Sums wrap.
#[derive(Debug, Clone, Copy)]
pub struct Microkernel {
    /// What it multiplies.
    pub factors: Factors,
    /// Rows of a tile: elements of a narrow panel for each `k`.
    pub mr: u32,
    /// Columns of a tile: elements of a wide panel for each `k`.
    pub nr: u32,
    /// Elements of one of its vectors.
    pub lanes: u32,
    /// The code.
    pub code: MicrokernelFn,
}

/// What the panels of a contraction hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factors {
    /// `f32`
    F32,
    /// Bytes.
    I8,
}

/// Copies rows of a panel: how many, where the first lane of the first one comes from and goes to, and the rest.
pub type RowsFn = unsafe extern "C" fn(u64, *const f32, *mut f32, *const RowsForm);

/// What a [`RowsFn`] copies: lane `l` of row `r` is the element `r · stride + l · step` after `source`, and goes to the element
/// `r · width + l` after `target`.
///
/// Lanes `0..lanes` of each row are written, and no others; those in `first..last` are read, and the rest of them are
/// +0.0. What isn't read need not be there: `source` itself may lie outside of its buffer then.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RowsForm {
    /// Elements from a row to the next, where they come from.
    pub stride: i64,
    /// Elements from a lane to the next, where they come from.
    pub step: i64,
    /// Lanes of a row of the panel.
    pub width: u64,
    /// Lanes that are written.
    pub lanes: u64,
    /// The first lane that is read.
    pub first: u64,
    /// The end of those. If it isn't above the first, none is read.
    pub last: u64,
}

/// When panels are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackTime {
    /// Once, when weights are known: the operand depends on weights and constants alone.
    Load,
    /// In every run, before the kernel.
    Run,
}

/// The packed operand of a contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanelsLayout {
    /// How many panels: the items of the pack function.
    pub panels: u64,
    /// Bytes of one.
    pub panel_bytes: u64,
    /// When they are packed.
    pub when: PackTime,
    /// In how many equal runs they are packed, one for each index of the kernel's loop in order. 1 where they do not
    /// change with its index: all are packed again for each one then, if they are packed in every run.
    pub slices: u64,
    /// Bit n is set where the n-th buffer of the kernel's table is read by the pack function alone.
    pub only_packed: u32,
}

impl PanelsLayout {
    /// Bytes of all panels.
    pub fn bytes(&self) -> u64 {
        self.panels * self.panel_bytes
    }
}

/// What a caller must know of one kernel besides its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLayout {
    /// How many work items there are.
    pub items: u64,
    /// How many indices the kernel's loop has; 1 for a kernel of no loop.
    pub slices: u64,
    /// Bytes of scratch memory for each thread.
    pub scratch_bytes: u64,
    /// The packed operand, if there is one.
    pub panels: Option<PanelsLayout>,
    /// About how many nanoseconds it takes on one thread, with the widest vectors that there is code for, to decide whether
    /// threads are worth theirs. It's a function of the program alone.
    pub cost: u64,
}

impl KernelLayout {
    /// Whether the n-th buffer of the kernel's table is read only where its panels are packed, once: runs do without it.
    pub fn only_packs(&self, buffer: usize) -> bool {
        self.panels.is_some_and(|panels| panels.when == PackTime::Load && panels.only_packed >> buffer & 1 == 1)
    }
}
