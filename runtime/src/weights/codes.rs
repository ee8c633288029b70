//! Weights that are multiplied as integers: their codes and scales, from whatever the file has, or from drawn numbers.

use std::collections::BTreeMap;

use loom_ir::kernel::{Buffer, BufferKind, Program};
use loom_ir::numerics::formats::Number;
use loom_ir::numerics::quantise::{CodeFormat, Parameters, Range, SCALE, SUM, Scheme};
use loom_ir::types::{DType, Shape};

use crate::fp_env::FpEnv;
use crate::storage::{Groups, StoredFile};
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
            let word = |bits: u64| match coded.format.storage().widen(bits) {
                Number::Integer(code) => code as i32 as u32,
                Number::Float(_) => 0,
            };
            let mut codes = coded.room()?;
            codes.extend((0..coded.elements()).map(|index| word(stored.code(index))));
            coded.tensors(codes, |group| scale(coded.groups.first_of(group)).unwrap_or(1.0))
        } else {
            match file.tensor_f32(name) {
                Some(numbers) => coded.quantised(numbers.bits()),
                None => Err(coded.memory()),
            }
        };
        made.extend(tensors?.into_iter().map(|tensor| (tensor.name().to_string(), tensor)));
    }
    Ok(made)
}

impl Coded<'_> {
    /// The codes and scales of numbers, and the codes' sums.
    pub fn quantised(&self, numbers: &[u32]) -> Result<Vec<Tensor>, CodesError> {
        let (channel, group) = (self.groups.channel().max(1), self.groups.group().max(1));
        let mut parameters = Vec::new();
        let mut codes = self.room()?;
        FpEnv::run(|| {
            // Groups lie one after another.
            for group in numbers.chunks(channel).flat_map(|channel| channel.chunks(group)) {
                let mut range = Range::ZERO;
                for (place, &bits) in group.iter().enumerate() {
                    let value = f32::from_bits(bits);
                    range = range.with(value).ok_or_else(|| CodesError::NotFinite {
                        name: self.codes.name.clone(),
                        index: codes.len() + place,
                        value,
                    })?;
                }
                let found = Parameters::of(self.format.storage(), Scheme::Symmetric, range);
                codes.extend(group.iter().map(|&bits| found.code(self.format, f32::from_bits(bits)) as u32));
                parameters.push(found.scale);
            }
            Ok(())
        })?;
        // A group without elements has the scale of one of zeros.
        let scale = |group: usize| parameters.get(group).copied().unwrap_or(1.0);
        self.tensors(codes, scale)
    }

    fn elements(&self) -> usize {
        self.codes.shape.checked_elements().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
    }

    /// Memory for all codes.
    fn room(&self) -> Result<Vec<u32>, CodesError> {
        let mut codes = Vec::new();
        codes.try_reserve_exact(self.elements()).map_err(|_| self.memory())?;
        Ok(codes)
    }

    fn memory(&self) -> CodesError {
        CodesError::Memory { name: self.codes.name.clone(), shape: self.codes.shape.clone() }
    }

    /// The tensors of codes, as `i32`s, and of their groups' scales.
    fn tensors(&self, codes: Vec<u32>, scale: impl Fn(usize) -> f32) -> Result<Vec<Tensor>, CodesError> {
        let filled = |buffer: &Buffer, bits: &dyn Fn(usize) -> u32| {
            let memory = || CodesError::Memory { name: buffer.name.clone(), shape: buffer.shape.clone() };
            let count = buffer.shape.checked_elements().and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or_else(memory)?;
            let mut words = Vec::new();
            words.try_reserve_exact(count).map_err(|_| memory())?;
            words.extend((0..count).map(bits));
            Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), words).ok_or_else(memory)
        };
        let buffer = self.codes;
        let codes =
            Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), codes).ok_or_else(|| self.memory())?;
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
