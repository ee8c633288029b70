//! Where everything lies in the memory that callers of an object give.

use std::io::{self, Write};

use loom_ir::kernel::{BufferKind, Program};

use crate::abi::{PackTime, SCRATCH_ALIGNMENT};
use crate::functions::Module;

/// Arrays one after another, each at a multiple of [`SCRATCH_ALIGNMENT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat {
    /// The first byte of each.
    pub offsets: Vec<u64>,
    /// Bytes of all.
    pub bytes: u64,
}

impl Flat {
    /// Arrays of so many bytes.
    pub(crate) fn new(sizes: impl Iterator<Item = u64>) -> Flat {
        let mut flat = Flat { offsets: Vec::new(), bytes: 0 };
        for size in sizes {
            let offset = flat.add(size);
            flat.offsets.push(offset);
        }
        flat
    }

    /// Writes the arrays, little-endian, with zeros between them.
    pub fn write(&self, arrays: &[&[u32]], out: &mut dyn Write) -> io::Result<()> {
        const ZEROS: [u8; SCRATCH_ALIGNMENT] = [0; SCRATCH_ALIGNMENT];
        for array in arrays {
            // A few pages at a time: weights may be larger than what is left of memory.
            for piece in array.chunks(1 << 14) {
                let bytes: Vec<u8> = piece.iter().flat_map(|bits| bits.to_le_bytes()).collect();
                out.write_all(&bytes)?;
            }
            let end = array.len() * 4;
            out.write_all(&ZEROS[..end.next_multiple_of(SCRATCH_ALIGNMENT) - end])?;
        }
        Ok(())
    }

    /// Room for one more; its first byte.
    fn add(&mut self, size: u64) -> u64 {
        let offset = self.bytes;
        self.bytes += size.next_multiple_of(SCRATCH_ALIGNMENT as u64);
        offset
    }
}

/// The two blocks: what `prepare` writes and runs only read, and what a run works in.
pub(super) struct Places {
    /// By kernel: its panels, where they are packed once.
    pub panels: Vec<Option<u64>>,
    /// By buffer: the copy of a weight that kernels read themselves.
    pub copies: Vec<Option<u64>>,
    pub prepared_bytes: u64,
    /// By buffer: a temporary one.
    pub temporaries: Vec<Option<u64>>,
    pub scratch: u64,
    /// Panels that are packed in a run. A kernel's are packed right before it runs, so that all share one place.
    pub run_panels: u64,
    pub workspace_bytes: u64,
}

impl Places {
    pub fn new(program: &Program, module: &Module) -> Places {
        let nothing = || Flat { offsets: Vec::new(), bytes: 0 };
        let layouts = || module.kernels.iter().map(|kernel| &kernel.layout);

        let mut prepared = nothing();
        let once = layouts().map(|layout| layout.panels.filter(|panels| panels.when == PackTime::Load));
        let panels = once.map(|panels| panels.map(|panels| prepared.add(panels.bytes()))).collect();
        let mut read = vec![false; program.buffers.len()];
        for (kernel, layout) in program.kernels.iter().zip(layouts()) {
            for (slot, buffer) in kernel.buffers().into_iter().enumerate() {
                read[buffer.index()] |= !layout.only_packs(slot);
            }
        }
        let buffers = || program.buffers.iter().zip(&read);
        let is_read = |kind: &BufferKind, read: bool| read && kind.is_weight();
        let copies = buffers()
            .map(|(buffer, &read)| is_read(&buffer.kind, read).then(|| prepared.add(buffer.bytes())))
            .collect();

        let mut workspace = nothing();
        let temporaries = match &program.plan {
            Some(plan) => {
                workspace.add(plan.arena_bytes);
                plan.offsets.clone()
            }
            None => {
                let temporary = |kind: &BufferKind| matches!(kind, BufferKind::Temp);
                program.buffers.iter().map(|it| temporary(&it.kind).then(|| workspace.add(it.bytes()))).collect()
            }
        };
        let scratch = workspace.add(layouts().map(|layout| layout.scratch_bytes).max().unwrap_or(0));
        let in_runs = layouts().filter_map(|layout| layout.panels.filter(|panels| panels.when == PackTime::Run));
        let run_panels = workspace.add(in_runs.map(|panels| panels.bytes()).max().unwrap_or(0));
        Places {
            panels,
            copies,
            // At least something, so that callers never allocate nothing.
            prepared_bytes: prepared.bytes.max(SCRATCH_ALIGNMENT as u64),
            temporaries,
            scratch,
            run_panels,
            workspace_bytes: workspace.bytes.max(SCRATCH_ALIGNMENT as u64),
        }
    }
}
