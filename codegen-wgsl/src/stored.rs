//! Weights that stay as they are stored: what lies in their buffers, and the functions that widen an element.
//!
//! Such a buffer is an array of words: the elements' codes, the first in the low bits of the first word; the scales of all
//! groups; and their zero points, as floats too. An element of any place can be read, so every access is as it would be to a
//! buffer of `f32`s, but for a call. The codes of layers of integers are such weights too, four of 8 bits a word, whose elements
//! are `i32`s.

use loom_ir::kernel::BufferId;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::stored::{Form, View};
use loom_ir::numerics::widen;
use loom_ir::types::DType;

use crate::error::Error;
use crate::scalar::Operations;
use crate::text::Text;

/// Words of the codes, and how many groups of them there are.
fn parts(form: &Form, elements: u64) -> (u64, u64) {
    let groups = form.groups.filter(|_| elements > 0);
    let count = groups.map_or(0, |groups| groups.of_element(elements as usize - 1) as u64 + 1);
    ((elements * u64::from(form.storage.bits())).div_ceil(32), count)
}

/// The bytes of the buffer of a stored weight.
pub fn stored_bytes(form: &Form, elements: u64) -> u64 {
    let (words, groups) = parts(form, elements);
    4 * (words + groups * if form.zero_points { 2 } else { 1 })
}

/// What goes into the buffer of a stored weight.
pub fn stored_words(view: &View<'_>, form: &Form, elements: u64) -> Vec<u32> {
    let (words, groups) = parts(form, elements);
    let mut packed = Vec::with_capacity(stored_bytes(form, elements) as usize / 4);
    let word = |number: usize| {
        let bytes = view.data.get(number * 4..).unwrap_or_default();
        (0..4).map(|byte| u32::from(bytes.get(byte).copied().unwrap_or(0)) << (8 * byte)).sum::<u32>()
    };
    packed.extend((0..words as usize).map(word));
    if let Some(scales) = &view.scales {
        let parameters = || (0..groups as usize).map(|group| scales.parameters(group));
        packed.extend(parameters().map(|parameters| parameters.scale.to_bits()));
        if form.zero_points {
            // A form's zero points are so near that this is exact.
            packed.extend(parameters().map(|parameters| (parameters.zero_point as f32).to_bits()));
        }
    }
    packed
}

/// The form of the codes of a layer of integers, if they are of 8 bits, as they are unless a program's weights were made by hand.
pub fn codes_form(codes: &[u32]) -> Option<Form> {
    let form = Form { storage: Storage::I8, groups: None, zero_points: false };
    codes.iter().all(|&code| code as i8 as i32 == code as i32).then_some(form)
}

/// What goes into the buffer of such codes.
pub fn codes_words(codes: &[u32]) -> Vec<u32> {
    let word = |codes: &[u32]| codes.iter().rev().fold(0, |word, code| word << 8 | (code & 0xff));
    codes.chunks(4).map(word).collect()
}

/// The name of the function that gives an element of a buffer.
pub(crate) fn name(buffer: BufferId) -> String {
    format!("{buffer}_element")
}

/// Writes that function, and `…_vector`, which gives four elements from a place on.
pub(crate) fn define(
    text: &mut Text,
    operations: &mut Operations,
    (buffer, form, elements): (BufferId, &Form, u64),
    dtype: DType,
    vectors: bool,
) -> Result<(), Error> {
    let float = operations.dtype(dtype);
    let (words, groups) = parts(form, elements);
    let name = name(buffer);
    text.open(format!("fn {name}(place: u32) -> {float}"));
    let bits = form.storage.bits();
    let each = 32 / bits;
    let mask = (1u64 << bits) - 1;
    text.line(format!("let code = ({buffer}[place / {each}u] >> (place % {each}u * {bits}u)) & {mask}u;"));
    if dtype == DType::I32 {
        let unused = 32 - bits;
        text.line(format!("return bitcast<i32>(code << {unused}u) >> {unused}u;"));
        text.close();
        text.line("");
        return Ok(());
    }
    let mut args = vec!["code".to_string()];
    if let Some(found) = form.groups {
        let (channel, group, per_channel) = (found.channel().max(1), found.group().max(1), found.per_channel());
        let number = match (found.is_whole(), per_channel) {
            (true, _) => "0u".to_string(),
            (false, 1) => format!("place / {channel}u"),
            _ => format!("place / {channel}u * {per_channel}u + place % {channel}u / {group}u"),
        };
        text.line(format!("let group = {number};"));
        text.line(format!("let factor = {buffer}[{words}u + group];"));
        args.push("factor".to_string());
        if form.zero_points {
            text.line(format!("let point = {buffer}[{}u + group];", words + groups));
            args.push("point".to_string());
        }
    }
    let value = operations.body(text, &widen::program(form), &args)?;
    text.line(format!("return {value};"));
    text.close();
    text.line("");
    if vectors {
        text.open(format!("fn {name}_vector(place: u32) -> vec4<{float}>"));
        let four: Vec<String> = (0..4).map(|offset| format!("{name}(place + {offset}u)")).collect();
        text.line(format!("return vec4<{float}>({});", four.join(", ")));
        text.close();
        text.line("");
    }
    Ok(())
}
