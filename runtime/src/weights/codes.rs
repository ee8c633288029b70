//! Weights that are multiplied as integers: their codes and scales, from whatever the file has, or from drawn numbers.

use std::collections::BTreeMap;

use loom_ir::kernel::{Buffer, BufferKind, Program};
use loom_ir::numerics::formats::{Number, Storage};
use loom_ir::numerics::quantise::{CodeFormat, SCALE, SUM, Scheme};
use loom_ir::types::{DType, Shape};

use crate::fp_env::FpEnv;
use crate::storage::{Groups, StoredFile, parameters};
use crate::tensors::Tensor;

/// Why numbers have no codes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CodesError {
    /// One of them isn't finite.
    NotFinite { name: String, index: usize, value: f32 },
    /// Too many for this machine.
    Memory { name: String, shape: Shape },
}

/// A weight of codes in a program, its scales, and the sums of the codes that share one, where the program asks for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coded<'a> {
    pub codes: &'a Buffer,
    pub scales: &'a Buffer,
    sums: Option<&'a Buffer>,
    format: CodeFormat,
    groups: Groups,
}

/// The program's weights of codes, by name. One whose scales are not there, or are no scales of it, is not among them.
pub(super) fn coded(program: &Program) -> BTreeMap<&str, Coded<'_>> {
    let weights: BTreeMap<&str, &Buffer> =
        program.weights().map(|(_, buffer)| (buffer.name.as_str(), buffer)).collect();
    let coded = program.weights().filter_map(|(_, codes)| {
        let BufferKind::Codes(format) = codes.kind else { return None };
        let scales: &Buffer = weights.get(format!("{}{SCALE}", codes.name).as_str())?;
        let groups = Groups::of_scales(&codes.shape, &scales.shape).filter(|_| scales.dtype == DType::F32)?;
        let sums = weights.get(format!("{}{SUM}", codes.name).as_str()).copied();
        let sums = sums.filter(|sums| sums.dtype == DType::I32 && sums.shape == scales.shape);
        Some((codes.name.as_str(), Coded { codes, scales, sums, format, groups }))
    });
    coded.collect()
}

/// The codes and scales that a file's tensors stand for, by name.
///
/// Codes of the network's format without zero points, with scales for its groups or for larger ones, are taken as they are.
/// Anything else is the numbers that it stands for, and these are quantised as `loomc convert` does it.
pub(super) fn of_file(file: &StoredFile<'_>, program: &Program) -> Result<BTreeMap<String, Tensor>, CodesError> {
    let mut made = BTreeMap::new();
    for (name, coded) in coded(program) {
        let Some(stored) = file.get(name).filter(|stored| stored.shape == coded.codes.shape && stored.is_f32()) else {
            continue;
        };
        let scale = |index| stored.symmetric_scale(index);
        let fits = stored.storage == Some(coded.format.storage())
            && stored.scale_shape().is_some_and(|scales| coded.groups.divide(&stored.shape, scales))
            && scale(0).is_some();
        let tensors = if fits {
            coded.tensors(|index| stored.code(index), |group| scale(coded.groups.first_of(group)).unwrap_or(1.0))
        } else {
            coded.quantised(|index| f32::from_bits(Storage::F32.narrow(stored.number(index)) as u32))
        };
        made.extend(tensors?.into_iter().map(|tensor| (tensor.name().to_string(), tensor)));
    }
    Ok(made)
}

impl Coded<'_> {
    /// The codes and scales of numbers, and the codes' sums.
    pub fn quantised(&self, value: impl Fn(usize) -> f32) -> Result<Vec<Tensor>, CodesError> {
        let (storage, scheme) = (self.format.storage(), Scheme::Symmetric);
        let parameters = parameters(&self.codes.shape, &self.groups, (storage, scheme), &value)
            .map_err(|(index, value)| CodesError::NotFinite { name: self.codes.name.clone(), index, value })?;
        let of_group = |group: usize| parameters.get(group).copied();
        FpEnv::run(|| {
            self.tensors(
                |index| {
                    of_group(self.groups.of_element(index)).map_or(0, |p| p.quantise(storage, scheme, value(index)))
                },
                |group| of_group(group).map_or(1.0, |parameters| parameters.scale),
            )
        })
    }

    fn tensors(&self, code: impl Fn(usize) -> u64, scale: impl Fn(usize) -> f32) -> Result<Vec<Tensor>, CodesError> {
        let word = |bits: u64| match self.format.storage().widen(bits) {
            Number::Integer(code) => code as i32 as u32,
            Number::Float(_) => 0,
        };
        let filled = |buffer: &Buffer, bits: &dyn Fn(usize) -> u32| {
            let memory = || CodesError::Memory { name: buffer.name.clone(), shape: buffer.shape.clone() };
            let count = buffer.shape.checked_elements().and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or_else(memory)?;
            let mut words = Vec::new();
            words.try_reserve_exact(count).map_err(|_| memory())?;
            words.extend((0..count).map(bits));
            Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), words).ok_or_else(memory)
        };
        let codes = filled(self.codes, &|index| word(code(index)))?;
        let scales = filled(self.scales, &|group| scale(group).to_bits())?;
        let sums = match self.sums {
            Some(buffer) => {
                let mut sums = vec![0u32; scales.bits().len()];
                for (index, &code) in codes.bits().iter().enumerate() {
                    if let Some(sum) = sums.get_mut(self.groups.of_element(index)) {
                        *sum = sum.wrapping_add(code);
                    }
                }
                Some(filled(buffer, &|group| sums.get(group).copied().unwrap_or_default())?)
            }
            None => None,
        };
        Ok([codes, scales].into_iter().chain(sums).collect())
    }
}
