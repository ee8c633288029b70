//! Memory for generated code: allocated once, aligned, freed with the executor.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use loom_codegen_cpu::abi::SCRATCH_ALIGNMENT;

use crate::executor::ExecuteError;

/// A block of bytes at a multiple of [`SCRATCH_ALIGNMENT`], a cache line.
#[derive(Debug)]
pub(super) struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block owns its memory, as a `Vec<u8>` does.
unsafe impl Send for Block {}
// SAFETY: through a shared block only its address can be had; using that is unsafe, and its users' to justify.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed memory; `what` says in an error what it's for.
    pub(super) fn new(bytes: u64, what: &str) -> Result<Block, ExecuteError> {
        let fail = || ExecuteError::Memory { what: what.to_string(), bytes };
        // At least one line, so that there's always something to allocate.
        let size = usize::try_from(bytes).map_err(|_| fail())?.max(SCRATCH_ALIGNMENT);
        let layout = Layout::from_size_align(size, SCRATCH_ALIGNMENT).map_err(|_| fail())?;
        // SAFETY: the size isn't zero.
        let start = unsafe { alloc_zeroed(layout) };
        Ok(Block { start: NonNull::new(start).ok_or_else(fail)?, layout })
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All of it.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as many bytes were allocated, and zeroed; nobody else has the block.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and not freed before.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
