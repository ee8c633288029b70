//! Where a program's buffers lie on the device.
//!
//! Inputs, outputs, weights and constants have buffers of their own. Temporary buffers share an arena by the program's
//! plan: ranges of one wgpu buffer, or of several where the arena is larger than a buffer may be. Without a plan each
//! has its own.

use std::borrow::Cow;

use loom_codegen_wgsl::{codes_words, stored_bytes, stored_words};
use loom_ir::kernel::{Buffer, BufferId, BufferKind, Forms, Program};

use super::device::{Context, check_limit};
use super::executor::turn_bytes;
use crate::executor::{ExecuteError, WeightBits, weight_bits};

/// Bytes of weights on their way before the device is given time to take them: wgpu keeps a copy until then.
const UPLOAD_STEP: u64 = 256 << 20;

/// A range of a buffer.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    /// Bytes of the elements; 0 for an empty tensor, which is bound to a buffer of one element that nothing reads.
    pub bytes: u64,
}

impl Place {
    /// The whole of a buffer.
    fn whole(buffer: wgpu::Buffer, bytes: u64) -> Place {
        Place { buffer, offset: 0, bytes }
    }

    /// Writes all of it; the device takes the bits before it does what is submitted later.
    pub fn write(&self, context: &Context, bits: &[u32]) -> Result<(), ExecuteError> {
        context.scoped(|| context.queue.write_buffer(&self.buffer, self.offset, bytemuck::cast_slice(bits)))
    }

    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = wgpu::BufferSize::new(self.bytes.max(4));
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size })
    }
}

/// The places of all buffers, by number.
#[derive(Debug)]
pub(super) struct Memory {
    places: Vec<Place>,
}

impl Memory {
    /// Checks every size against the device's limits, then allocates, and uploads constants.
    /// Weights of these forms have buffers of the bits in which they are stored.
    pub fn new(context: &Context, program: &Program, forms: &Forms) -> Result<Memory, ExecuteError> {
        let bytes_of = |index: usize, buffer: &Buffer| match forms.get(&BufferId(index as u32)) {
            Some(form) => stored_bytes(form, buffer.shape.elements()),
            None => buffer.bytes(),
        };
        for (index, buffer) in program.buffers.iter().enumerate() {
            context.check_binding(|| format!("buffer `{}`", buffer.name), bytes_of(index, buffer))?;
        }
        let segments = Segment::plan(program, context.limits.max_buffer_size)?;
        if let Some(memory) = context.memory {
            check_limit(|| "the network".to_string(), total(program, &segments, bytes_of), memory)?;
        }

        let storage = wgpu::BufferUsages::STORAGE;
        let read = storage | wgpu::BufferUsages::COPY_DST;
        // Trials write what later kernels read.
        let written = read | wgpu::BufferUsages::COPY_SRC;
        // Temporary buffers are bound for writing, the others that a kernel reads are not: one kernel may have both without
        // elements, and no buffer may be bound both ways.
        let empty = context.buffer("empty", 0, written, false)?;
        let empty_temporary = context.buffer("empty temporary", 0, written, false)?;
        let arenas: Vec<wgpu::Buffer> = segments
            .iter()
            .map(|segment| context.buffer("arena", segment.end - segment.start, written, false))
            .collect::<Result<_, _>>()?;

        let mut places = Vec::with_capacity(program.buffers.len());
        for (index, buffer) in program.buffers.iter().enumerate() {
            let bytes = bytes_of(index, buffer);
            let offset = program.plan.as_ref().and_then(|plan| plan.offsets[index]);
            let own = |usage| context.buffer(&buffer.name, bytes, usage, false);
            places.push(match (&buffer.kind, offset) {
                (BufferKind::Temp, _) if bytes == 0 => Place::whole(empty_temporary.clone(), 0),
                _ if bytes == 0 => Place::whole(empty.clone(), 0),
                (BufferKind::Temp, Some(offset)) => {
                    let inside = |segment: &Segment| segment.start <= offset && offset < segment.end;
                    let Some(number) = segments.iter().position(inside) else {
                        return Err(ExecuteError::Internal(format!("buffer `{}` has no place", buffer.name)));
                    };
                    Place { buffer: arenas[number].clone(), offset: offset - segments[number].start, bytes }
                }
                (BufferKind::Temp | BufferKind::Output, _) => Place::whole(own(written)?, bytes),
                (BufferKind::Input | BufferKind::Weight | BufferKind::Codes(_) | BufferKind::Constant(_), _) => {
                    Place::whole(own(read)?, bytes)
                }
            });
        }
        let memory = Memory { places };
        let constants = program.buffers.iter().enumerate().filter_map(|(index, buffer)| match &buffer.kind {
            BufferKind::Constant(bits) => Some(Ok((BufferId(index as u32), Cow::Borrowed(bits.as_slice())))),
            _ => None,
        });
        memory.upload(context, program, constants)?;
        Ok(memory)
    }

    /// Uploads the weights.
    pub fn upload_weights(
        &self,
        context: &Context,
        (program, forms): (&Program, &Forms),
        weights: &dyn WeightBits,
    ) -> Result<(), ExecuteError> {
        let weights = program.weights().enumerate().map(|(number, (id, buffer))| match weights.stored(number) {
            Some((view, form)) => Ok((id, Cow::Owned(stored_words(&view, &form, buffer.shape.elements())))),
            None => {
                let bits = weight_bits(weights, number, buffer)?;
                let is_packed = forms.contains_key(&id);
                Ok((id, if is_packed { Cow::Owned(codes_words(bits)) } else { Cow::Borrowed(bits) }))
            }
        });
        self.upload(context, program, weights)
    }

    fn upload<'a>(
        &self,
        context: &Context,
        program: &Program,
        list: impl Iterator<Item = Result<(BufferId, Cow<'a, [u32]>), ExecuteError>>,
    ) -> Result<(), ExecuteError> {
        let mut on_the_way = 0;
        for item in list {
            let (id, bits) = item?;
            let (name, place) = (&program.buffer(id).name, self.place(id));
            if bits.len() as u64 * 4 != place.bytes {
                let found = bits.len();
                return Err(ExecuteError::Internal(format!("buffer `{name}` is given {found} words")));
            }
            place.write(context, &bits)?;
            on_the_way += place.bytes;
            if on_the_way >= UPLOAD_STEP {
                flush(context)?;
                on_the_way = 0;
            }
        }
        flush(context)
    }

    pub fn place(&self, id: BufferId) -> &Place {
        &self.places[id.index()]
    }
}

/// Bytes of all buffers of a program, whose temporary ones are in segments or have no place planned, and of the indices of its
/// loops.
fn total(program: &Program, segments: &[Segment], bytes_of: impl Fn(usize, &Buffer) -> u64) -> u64 {
    let planned = |index: usize| program.plan.as_ref().is_some_and(|plan| plan.offsets[index].is_some());
    let own = program.buffers.iter().enumerate().filter(|&(index, _)| !planned(index));
    let own = own.map(|(index, buffer)| bytes_of(index, buffer)).chain([turn_bytes(program)]);
    own.chain(segments.iter().map(|segment| segment.end - segment.start)).fold(0, u64::saturating_add)
}

/// Waits until the uploads so far are done.
fn flush(context: &Context) -> Result<(), ExecuteError> {
    context.scoped(|| context.queue.submit([]))?;
    context.wait()
}

/// A part of the arena that is one wgpu buffer; no temporary buffer straddles two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: u64,
    end: u64,
}

impl Segment {
    /// Cuts the arena into segments of at most `most` bytes, at places where nothing lies across.
    fn plan(program: &Program, most: u64) -> Result<Vec<Segment>, ExecuteError> {
        let Some(plan) = &program.plan else { return Ok(Vec::new()) };
        let mut ranges: Vec<Segment> = program
            .buffers
            .iter()
            .zip(&plan.offsets)
            .filter_map(|(buffer, offset)| offset.map(|start| Segment { start, end: start + buffer.bytes() }))
            .filter(|range| range.start < range.end)
            .collect();
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let mut clusters: Vec<Segment> = Vec::new();
        for range in ranges {
            match clusters.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => clusters.push(range),
            }
        }
        let mut segments: Vec<Segment> = Vec::new();
        for cluster in clusters {
            check_limit(|| "the arena".to_string(), cluster.end - cluster.start, most)?;
            match segments.last_mut() {
                Some(last) if cluster.end - last.start <= most => last.end = cluster.end,
                _ => segments.push(cluster),
            }
        }
        Ok(segments)
    }
}

#[cfg(test)]
mod tests {
    use loom_ir::kernel::MemoryPlan;
    use loom_ir::types::{DType, Shape};

    use super::*;

    fn program(places: &[(u64, u64)]) -> Program {
        let buffers = places
            .iter()
            .enumerate()
            .map(|(index, &(_, elements))| Buffer {
                name: format!("t{index}"),
                dtype: DType::F32,
                shape: Shape::from([elements]),
                kind: BufferKind::Temp,
            })
            .collect();
        let offsets = places.iter().map(|&(offset, _)| Some(offset)).collect();
        let plan = Some(MemoryPlan { arena_bytes: 4096, offsets });
        Program { name: "plan".to_string(), buffers, kernels: Vec::new(), plan }
    }

    #[test]
    fn an_arena_is_cut_where_nothing_lies_across() {
        // Two that share bytes, one beside them, one further on.
        let mut program = program(&[(0, 128), (256, 128), (768, 64), (2048, 64)]);
        let plan = program.plan.clone();
        let whole = [Segment { start: 0, end: 2304 }];
        assert_eq!(Segment::plan(&program, 4096).ok().as_deref(), Some(&whole[..]));
        let cut = [Segment { start: 0, end: 1024 }, Segment { start: 2048, end: 2304 }];
        assert_eq!(Segment::plan(&program, 1024).ok().as_deref(), Some(&cut[..]));
        let bytes_of = |_: usize, buffer: &Buffer| buffer.bytes();
        let bytes = |most| total(&program, &Segment::plan(&program, most).unwrap_or_default(), bytes_of);
        assert_eq!((bytes(4096), bytes(1024)), (2304, 1024 + 256), "what lies between two segments is nobody's");
        program.plan = None;
        assert_eq!(total(&program, &[], bytes_of), 4 * (128 + 128 + 64 + 64));
        assert_eq!(total(&program, &[], |_, buffer| buffer.bytes() / 4), 128 + 128 + 64 + 64, "as they are stored");
        program.plan = plan;
        let error = Segment::plan(&program, 512);
        assert!(matches!(error, Err(ExecuteError::Limit { need: 768, limit: 512, .. })), "{error:?}");
    }
}
